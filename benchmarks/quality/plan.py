"""Experiments of the quality benchmark: arms, tables and probes.

To add one, add an entry in `experiments`. A fit that two experiments share is run once.
"""

import hashlib
import json
from itertools import product
from typing import NamedTuple

from benchmarks.quality.arms import FAMILY, OTHERS, WITHOUT_DECODER, make_encoder
from benchmarks.quality.compare import GRID, PROBES, TREES
from benchmarks.rivals import RIVALS
from cmim_sklearn._encoders.base import fit as fitting

ABLATION_TABLES = ("adult", "california_housing", "letter", "satimage", "splice")
PROTOCOL = 1
"""Raise it when the meaning of a score changes, so that stored scores do not count."""
CHOSEN_ON = (
    "abalone", "bank_marketing", "covertype", "letter", "mnist_test10k", "soybean", "splice"
)  # fmt: skip
"""Every other table by name. The default embedding and its scale were chosen on these."""
ABLATION_ROWS, ALL_ROWS = 5000, 50_000
TARGETS = {
    "abalone": ("sex", "whole_weight"),
    "adult": ("occupation", "hours_per_week"),
    "bank_marketing": ("job", "month"),
    "california_housing": ("ocean_proximity", "housing_median_age"),
    "titanic": ("pclass", "fare"),
}
"""Columns that serve as further targets and are then hidden from the encoder."""
PROBABILITIES = ("log_loss", "calibration")
"""Scores of the probabilities of a linear model or of trees; smaller is better."""
OF_LABELS = ("label_weight", "target_type")
"""Parameters that a key lacks, since they were added later. Piece.params has the former."""
LENGTH = ("n_updates", "times", "updates")
"""Length of a fit: an exact number of updates, a factor, and `limits` of ``max_iter="auto"``."""
LENGTHS = (500, 1000, 1500, 2000, 3000)
EARLIER = {"updates": 3000}
"""Length of the fits in experiments that were run when it was the default."""
ABLATIONS = {
    "temperature": (0.05, 0.1, 0.3, 1.0),
    "n_components": (2, 8, 32, 64, 128),
    "contrastive_weight": (0.0, 1.0, 10.0, 100.0),
    "posterior": ("sampled", "learned", "fixed"),
    "hidden_layer_sizes": ((64, 64), (256, 256), (512, 512), (256, 256, 256)),
    "input_masking": (0.0, 0.1, 0.3, 0.5),
}
"""Values of one parameter of `CMIMEncoder`, with all others at their defaults."""


class Piece(NamedTuple):
    """One fit and the scores asked of it.

    ``params`` are set on an encoder of the family; those of `LENGTH` become its ``max_iter``. With
    a ``label_weight``, the encoder gets the labels of the only regime. ``probes`` may include
    `PROBABILITIES`. ``regimes`` are "all", "few" or "targets". ``labels`` are experiments and
    settings.
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
        """Name that depends on all that the scores depend on, including an encoder's defaults."""
        named = {k: v for k, v in self.params.items() if k != "updates"}
        what = self._replace(labels=(), params=named)._asdict() | {"protocol": PROTOCOL}
        if self.arm in FAMILY:
            params = {k: v for k, v in self.params.items() if k not in LENGTH}
            encoder = make_encoder(self.arm, 0, **params)
            settings = encoder.get_params().items()
            what["encoder"] = repr(sorted(item for item in settings if item[0] not in OF_LABELS))
            if encoder.max_iter == "auto" and "n_updates" not in self.params:
                what["auto"] = limits(self.params.get("updates"))
        if self.regimes == ("targets",):
            what["targets"] = TARGETS[self.table]
        digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]
        return f"{self.table}-{self.seed}-{digest}"


class Experiment(NamedTuple):
    """Arms to compare, as a dict of (arm, setting) to parameters, and a section of the report."""

    section: str
    arms: dict
    tables: tuple
    max_rows: int = ABLATION_ROWS
    embeddings: tuple = ("layers", "mean")
    probes: tuple = ("linear", "knn_cosine")
    regimes: tuple = ("all", "few")


def limits(updates=None):
    """Constants of ``max_iter="auto"`` by name, with another number of updates."""
    constants = {k: v for k, v in vars(fitting).items() if k.startswith("AUTO_")}
    return constants | {"AUTO_UPDATES": updates or fitting.AUTO_UPDATES}


def shown(value):
    """Name of a parameter's value."""
    return " x ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def experiments(tables):
    """All experiments, by name, on the given tables."""
    few = sorted(tables, key=lambda name: name not in ABLATION_TABLES)[: len(ABLATION_TABLES)]
    one = {"embeddings": ("layers",), "probes": ("linear",)}

    def plain(*arms, **params):
        return {(arm, ""): params if arm in FAMILY and arm != "untrained" else {} for arm in arms}

    arms = plain("cMIM", "raw", *TREES, "untrained", *OTHERS, *RIVALS)
    plan = {"rivals": Experiment("rivals", arms, tables, 8000, **one)}
    arms = plain(*GRID, *WITHOUT_DECODER, "untrained", **EARLIER)
    many = ("layers", "informative", "mean", "control"), tuple(PROBES)
    plan["family"] = Experiment("family", arms, few, ABLATION_ROWS, *many)
    for name, values in ABLATIONS.items():
        arms = {("cMIM", shown(v)): {name: v, **EARLIER} for v in values}
        plan[name] = Experiment(name, arms, few)
    arms = {
        (arm, str(size)): {"batch_size": size, "n_updates": 1000}
        for size in (16, 64, 256, 1024)
        for arm in ("cMIM", "MIM", "InfoNCE")
    }
    plan["batch"] = Experiment("batch", arms, few, regimes=("all",))
    of = [name for name in TARGETS if name in tables]
    arms = plain("cMIM", "raw", *TREES, "untrained", "PCA", **EARLIER)
    plan["targets"] = Experiment("targets", arms, of, regimes=("targets",), **one)
    arms = {("cMIM", "3,000"): EARLIER, ("cMIM", "ten times"): {"times": 10, **EARLIER}}
    plan["time"] = Experiment("time", arms, tables, ALL_ROWS, regimes=("all",), **one)
    arms = {("cMIM", f"{n:,}"): {"updates": n} for n in LENGTHS}
    plan["length"] = Experiment("length", arms, tables, 8000, **one)
    without, labelled = {("cMIM", "0"): {}}, {("cMIM", "30"): {"label_weight": 30.0}}
    arms = plain("raw", *TREES) | without
    plan["labels_rivals"] = Experiment("labels", arms, tables, 8000, **one)  # fits of "rivals"
    one["probes"] += PROBABILITIES
    arms = labelled | without | plain("HistGradientBoosting")
    plan["labels"] = Experiment("labels", arms, tables, 8000, regimes=("all",), **one)
    return plan


def pieces(plan, seeds, names=None):
    """Pieces of the named experiments, or of all, seed by seed."""
    found = {}
    defaults = make_encoder("cMIM", 0).get_params() | {"updates": fitting.AUTO_UPDATES}
    for seed in seeds:
        for name, experiment in plan.items():
            if names and name not in names:
                continue
            for (arm, setting), params in experiment.arms.items():
                # A parameter at its default gives the piece of the default.
                params = {k: v for k, v in params.items() if v != defaults.get(k)}
                fits = [experiment.regimes]
                if "label_weight" in params:  # features depend on the labels
                    fits = [(regime,) for regime in experiment.regimes]
                for table, regimes in product(experiment.tables, fits):
                    piece = Piece(table, seed, arm, params, *experiment[3:6], regimes)
                    piece = found.get(piece.key, piece)
                    labels = dict.fromkeys([*piece.labels, (experiment.section, setting)])
                    found[piece.key] = piece._replace(labels=tuple(labels))
    return list(found.values())
