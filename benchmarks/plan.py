"""What `benchmarks.run` fits, on which tables, and what is asked of the features.

A new experiment is one entry in `experiments`. An experiment is a set of arms, each with a setting
and the parameters that make it; what two experiments have in common (the default, say) is fitted
once.
"""

import hashlib
import json
from typing import NamedTuple

from benchmarks.arms import FAMILY, OTHERS, WITHOUT_DECODER, make_encoder
from benchmarks.comparisons import GRID, TREES
from benchmarks.rivals import RIVALS
from cmim_sklearn._encoders.base import fit as fitting

ABLATION_TABLES = ("adult", "california_housing", "letter", "satimage", "splice")
"""Tables of the family, the ablations and the curves, where they are there."""
PROTOCOL = 1
"""To be raised when what a score means has changed, so that older ones do not count."""
CHOSEN_ON = (
    "abalone", "bank_marketing", "covertype", "letter", "mnist_test10k", "soybean", "splice"
)  # fmt: skip
"""Every other table by name. The default embedding and its scale were chosen on these."""
CHOSEN_NOTE = (
    "That is said of the embedding and its scale; widths, rate, masking and layer norm were set "
    "before, with one split of all these tables but mnist_test10k in view."
)
ABLATION_ROWS, ALL_ROWS = 5000, 50_000
EMBEDDINGS = ("layers", "informative", "mean")
TARGETS = {
    "abalone": ("sex", "whole_weight"),
    "adult": ("occupation", "hours_per_week"),
    "bank_marketing": ("job", "month"),
    "california_housing": ("ocean_proximity", "housing_median_age"),
    "titanic": ("pclass", "fare"),
}
"""Columns that are targets beside a table's own, and hidden from the encoder then."""
BATCH_SIZES = (16, 64, 256, 1024)
BATCH_UPDATES = 1000
UPDATES = (300, 1000, 3000, 10_000)
LENGTH = ("n_updates", "times")
"""How long to train: so many updates instead of the default, and so many times that."""

ABLATIONS = {
    "temperature": (0.05, 0.1, 0.3, 1.0),
    "n_components": (2, 8, 32, 64, 128),
    "contrastive_weight": (0.0, 1.0, 10.0, 100.0),
    "posterior": ("sampled", "learned", "fixed"),
    "hidden_layer_sizes": ((64, 64), (256, 256), (512, 512), (256, 256, 256)),
    "input_masking": (0.0, 0.1, 0.3, 0.5),
}
"""Values of one parameter of `CMIMEncoder`, all others at their defaults."""


class Piece(NamedTuple):
    """One fit, and all that is asked of it.

    Attributes
    ----------
    table : str
    seed : int
        Of the split, of the encoder and of what draws labels.
    arm : str
        A name in `benchmarks.arms` or `benchmarks.rivals`, or of `TREES`.
    params : dict
        Set on the encoder of an arm of the family; those of `LENGTH` become its `max_iter`.
    max_rows : int
        Rows of the table that are used, training and test together.
    embeddings : tuple of str
        Of arms of the family, as far as they have them; others have one set of features.
    probes, regimes : tuple of str
        Names in `benchmarks.probes`; "all", "few" or "targets".
    labels : tuple of (str, str)
        Experiments and settings that its scores belong to.
    """

    table: str
    seed: int
    arm: str
    params: dict
    max_rows: int
    embeddings: tuple
    probes: tuple
    regimes: tuple
    labels: tuple = ()

    @property
    def key(self):
        """Names the piece and what its scores depend on, an encoder's defaults too."""
        what = self._replace(labels=())._asdict() | {"protocol": PROTOCOL}
        if self.arm in FAMILY:
            params = {k: v for k, v in self.params.items() if k not in LENGTH}
            what["encoder"] = repr(sorted(make_encoder(self.arm, 0, **params).get_params().items()))
            what["auto"] = {k: v for k, v in vars(fitting).items() if k.startswith("AUTO_")}
        if self.regimes == ("targets",):
            what["targets"] = TARGETS[self.table]
        digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]
        return f"{self.table}-{self.seed}-{digest}"


class Experiment(NamedTuple):
    """Arms to compare: (arm, setting) to parameters; and how. See `Piece`.

    ``section`` is the experiment that its scores are reported under.
    """

    section: str
    arms: dict
    tables: tuple
    max_rows: int = ABLATION_ROWS
    embeddings: tuple = ("layers", "mean")
    probes: tuple = ("linear", "knn_cosine")
    regimes: tuple = ("all", "few")


def shown(value):
    """A parameter's value as a setting is named."""
    return " x ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def experiments(tables):
    """All experiments, by name, on the tables there are."""
    of = sorted(tables, key=lambda name: name not in ABLATION_TABLES)[: len(ABLATION_TABLES)]
    everyone = ["cMIM", "raw", *TREES, "untrained", *OTHERS, *RIVALS]
    plan = {
        "rivals": Experiment(
            "rivals",
            {(arm, ""): {} for arm in everyone},
            tables,
            8000,
            ("layers",),
            ("linear",),
        ),
        "family": Experiment(
            "family",
            {(arm, ""): {} for arm in (*GRID, *WITHOUT_DECODER, "untrained")},
            of,
            embeddings=(*EMBEDDINGS, "control"),
            probes=("linear", "knn_cosine", "knn_euclidean", "mlp"),
        ),
        "positive": Experiment(
            "positive", {("cMIM", "self"): {}, ("cMIM, second sample", "second sample"): {}}, of
        ),
    }
    for name, values in ABLATIONS.items():
        arms = {("cMIM", shown(value)): {name: value} for value in values}
        plan[name] = Experiment(name, arms, of)
    plan["batch"] = Experiment(
        "batch",
        {
            (arm, str(size)): {"batch_size": size, "n_updates": BATCH_UPDATES}
            for size in BATCH_SIZES
            for arm in ("cMIM", "MIM", "InfoNCE")
        },
        of,
        regimes=("all",),
    )
    plan["targets"] = Experiment(
        "targets",
        {(arm, ""): {} for arm in ("cMIM", "raw", *TREES, "untrained", "PCA")},
        [name for name in TARGETS if name in tables],
        embeddings=("layers",),
        probes=("linear",),
        regimes=("targets",),
    )
    plan["time"] = Experiment(
        "time",
        {
            **{("cMIM", str(n)): {"n_updates": n} for n in UPDATES},
            **{
                ("cMIM", f"batch {size}, 3000"): {"n_updates": 3000, "batch_size": size}
                for size in (128, 512)
            },
            **{
                ("cMIM", f"rate {rate:g}, 3000"): {"n_updates": 3000, "learning_rate_init": rate}
                for rate in (1e-3, 1e-2)
            },
        },
        of,
        embeddings=("layers",),
        probes=("linear",),
    )
    plan["budget"] = Experiment(
        "time",
        {("cMIM", "default"): {}, ("cMIM", "ten times"): {"times": 10}},
        tables,
        ALL_ROWS,
        ("layers",),
        ("linear",),
        ("all",),
    )
    return plan


def pieces(plan, seeds, names=None):
    """Pieces of the experiments named, or all, in the order to run them: one seed after another."""
    found = {}
    defaults = make_encoder("cMIM", 0).get_params()
    for seed in seeds:
        for name, experiment in plan.items():
            if names and name not in names:
                continue
            for (arm, setting), params in experiment.arms.items():
                # The value that is the default anyway is the default's own piece.
                params = {k: v for k, v in params.items() if k in LENGTH or v != defaults[k]}
                for table in experiment.tables:
                    piece = Piece(table, seed, arm, params, *experiment[3:])
                    key = piece.key
                    label = (experiment.section, setting)
                    if key in found:
                        piece = found[key]
                        label = piece.labels if label in piece.labels else (*piece.labels, label)
                        found[key] = piece._replace(labels=label)
                    else:
                        found[key] = piece._replace(labels=(label,))
    return list(found.values())
