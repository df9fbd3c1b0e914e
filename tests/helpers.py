"""Tables, small encoders and comparisons that several test modules share."""

import hashlib
import json
import warnings
import zipfile
from contextlib import nullcontext

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from safetensors.numpy import load as read_arrays
from safetensors.numpy import save as write_arrays

import cmim_sklearn
from cmim_sklearn._likelihoods import LIKELIHOODS
from cmim_sklearn._likelihoods.gaussian import Gaussian
from cmim_sklearn._likelihoods.joint import Joint
from cmim_sklearn._models.latent_model import LatentModel, Pass
from cmim_sklearn._models.two_view import View, Views
from cmim_sklearn._tables.read import is_missing, read
from cmim_sklearn._utils import archive
from cmim_sklearn.latents import POSTERIORS, DiagonalNormal, standard_normal
from cmim_sklearn.mutual_information._estimators import ESTIMATORS
from cmim_sklearn.networks import MLP, reset_parameters

ENCODERS = [name for name in cmim_sklearn.__all__ if name.endswith("Encoder")]
GENERATIVE = [name for name in ENCODERS if hasattr(getattr(cmim_sklearn, name), "sample")]
TWO_VIEW = [name for name in ENCODERS if name not in GENERATIVE]
LIBRARIES = {
    "pandas": lambda frame: frame,
    "polars": pl.from_pandas,
    "pyarrow": lambda frame: pa.Table.from_pandas(frame, preserve_index=False),
}
"""Table libraries, and how to convert a pandas frame."""
SMALL = {
    "max_iter": 2, "hidden_layer_sizes": (16,), "n_components": 4, "random_state": 0,
    "projector_layer_sizes": (5, 4), "critic_hidden_layer_sizes": (7,),
}  # fmt: skip


def make_mixed(n_rows=200, seed=0):
    """Table with every kind of column, missing values in most, and dependent columns."""
    rng = np.random.RandomState(seed)
    hidden = rng.randn(n_rows)
    frame = pd.DataFrame(
        {
            "income": np.exp(10 + hidden).round(2),
            "age": (40 + 10 * hidden + 5 * rng.randn(n_rows)).round().astype("int64"),
            "score": (hidden + 0.1 * rng.randn(n_rows)).astype("float32"),
            "visits": rng.poisson(np.exp(hidden / 2)).astype("int64"),
            "member": hidden > 0,
            "flag": np.where(rng.rand(n_rows) < 0.3, 7, 3),
            "city": pd.Categorical(
                np.array(["Rome", "Oslo", "Lima"])[np.digitize(hidden, [-0.5, 0.5])],
                categories=["Oslo", "Rome", "Lima", "Bonn"],
            ),
            "word": np.array(["x", "yy", "zzz", "ww"])[rng.randint(4, size=n_rows)],
        }
    )
    frame["word"] = frame["word"].astype(object)
    for column in ("income", "score", "city", "word"):
        frame.loc[rng.rand(n_rows) < 0.1, column] = None
    return frame


def small_encoder(name="CMIMEncoder", **parameters):
    """Encoder with small networks and two epochs, by the name of its class."""
    cls = getattr(cmim_sklearn, name)
    known = cls._get_param_names()
    return cls(**{key: value for key, value in SMALL.items() if key in known} | parameters)


def warns_of_empty_columns(table):
    """Context in which fit must warn if the table has columns without any value."""
    if not any(is_missing(values).all() for values in read(table).columns):
        return nullcontext()
    return pytest.warns(UserWarning, match="Columns without any value in fit: ")


def weights(encoder):
    """Weights of a fitted encoder as bytes, so that == compares every bit."""
    state = encoder.net_.module.state_dict()
    return {name: (tuple(w.shape), w.cpu().numpy().tobytes()) for name, w in state.items()}


def encoded(encoder, table):
    """Encoded rows (n, C) of a table, on the device of a fitted encoder's network."""
    return torch.from_numpy(encoder.table_.encode(read(table))).to(encoder.net_.module.device)


def state_of(encoder):
    """State sorted by name, since a file sorts the parameters."""
    return dict(sorted(encoder.__getstate__().items()))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed))


def two_views(first, second):
    """Views with the given codes, which are their own projections; log-variance -1."""

    def view(z):
        return View(z, DiagonalNormal(z, torch.full((len(z), 1), -1.0)), z)

    return Views(view(first), view(second))


def assert_like(table, original):
    """Compare the library, names, order and dtypes of two tables."""
    assert type(table) is type(original)
    if isinstance(original, pd.DataFrame):
        pd.testing.assert_series_equal(table.dtypes, original.dtypes)
    elif isinstance(original, np.ndarray):
        assert table.dtype == original.dtype
    else:
        assert table.schema == original.schema


def to_pandas(table):
    return table if isinstance(table, pd.DataFrame) else table.to_pandas()


def assert_same(one, other, place="state"):
    """Compare nested values to the bit, including types and dtypes."""
    assert type(one) is type(other), place
    if isinstance(one, dict):
        assert list(one) == list(other), place
        assert [type(key) for key in one] == [type(key) for key in other], place
        for key in one:
            assert_same(one[key], other[key], f"{place}[{key!r}]")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), place
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{place}[{i}]")
    elif isinstance(one, np.ndarray | np.generic):
        assert (one.dtype, one.shape) == (other.dtype, other.shape), place
        if one.dtype == object:
            assert_same(one.tolist(), other.tolist(), place)
        else:
            assert one.tobytes() == other.tobytes(), place
    elif isinstance(one, float):
        assert np.float64(one).tobytes() == np.float64(other).tobytes(), place
    else:
        assert one == other, place


def forge(path, target, edit=None, *, members=None):
    """Write a changed encoder file whose hashes and sizes match the changes.

    ``edit`` changes the manifest and the arrays; if it returns True, description and hash of the
    arrays stay as they were. ``members`` changes the list of (name, bytes) pairs.
    """
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    manifest, arrays = json.loads(parts[archive.MANIFEST]), read_arrays(parts[archive.ARRAYS])
    if edit is not None and not edit(manifest, arrays):
        parts[archive.ARRAYS] = write_arrays(arrays)
        manifest["arrays"] = {
            name: {"dtype": a.dtype.name, "shape": list(a.shape)} for name, a in arrays.items()
        }
        manifest["sha256"][archive.ARRAYS] = hashlib.sha256(parts[archive.ARRAYS]).hexdigest()
    parts[archive.MANIFEST] = json.dumps(manifest).encode()
    pairs = list(parts.items())
    if members is not None:
        pairs = members(pairs)
    with warnings.catch_warnings(), zipfile.ZipFile(target, "w") as file:
        warnings.simplefilter("ignore")  # zipfile warns of a name that occurs twice
        for name, content in pairs:
            file.writestr(name, content)
    return target


MISSING = {"number": np.nan, "category": None, "datetime": "NaT", "duration": "NaT"}


def objects(*values):
    """Object array of shape (n,)."""
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def columns_of(kind, n=60, seed=0):
    """Two raw columns (n,) that suit a kind, with a missing value in row 5."""
    rng = np.random.RandomState(seed)
    columns = {
        "gaussian": lambda: [rng.randn(n), rng.randint(-5, 5, n).astype(float)],
        "bernoulli": lambda: [rng.choice([3.0, 7.5], n), rng.choice([0.0, 1.0], n)],
        "categorical": lambda: [
            rng.choice(objects("a", "b", "c"), n),
            rng.choice(objects(1, "x", False, "y", 2.5), n),
        ],
        "poisson": lambda: [rng.poisson(3, n).astype(float), rng.poisson(100, n).astype(float)],
        "datetime": lambda: [
            np.datetime64("2024-02-20") + rng.randint(0, 12, n),
            np.datetime64("2020-01-01", "us") + 3600 * 10**6 * rng.randint(0, 30, n),
        ],
        "duration": lambda: [
            rng.poisson(3, n).astype("timedelta64[s]"),
            (10**12 * rng.randint(-9, 9, n)).astype("timedelta64[ns]"),
        ],
    }[kind]()
    for column in columns:
        column[5] = MISSING[LIKELIHOODS[kind].takes]
    return columns


def fitted_likelihood(kind, **options):
    """Likelihood fitted to `columns_of` its kind, and these columns."""
    columns = columns_of(kind)
    likelihood = LIKELIHOODS[kind].fit(columns, ["one", "two"], **options)
    if isinstance(likelihood, Gaussian):
        with torch.no_grad():
            likelihood.deviation.copy_(torch.tensor([0.5, 0.2]))
    return likelihood, columns


def random_params(likelihood, n, seed=0):
    """Decoder outputs (n, P) for a likelihood."""
    return torch.randn(n, likelihood.n_params, generator=torch.Generator().manual_seed(seed))


def measured(likelihood, columns):
    """Raw columns measured for `log_density`, as a tensor."""
    return torch.from_numpy(likelihood.measure(columns))


NEURAL_ESTIMATORS = {name: kind for name, kind in ESTIMATORS.items() if name != "ksg"}


SHORT_TRAINING = {"max_iter": 5, "hidden_layer_sizes": (8,), "random_state": 0, "device": "cpu"}


def make_latent_model(posterior="sampled", sizes=(8, 6), masking=0.0, d=3):
    """A `LatentModel` with two columns of every kind, and 60 encoded rows for it."""
    parts = [kind.fit(columns_of(name), "ab") for name, kind in LIKELIHOODS.items()]
    joint = Joint(parts)
    head = POSTERIORS[posterior](d)
    encoder = MLP(joint.n_inputs, d * head.outputs_per_component, sizes, "silu")
    decoder = MLP(d, joint.n_params, sizes, "silu")
    model = LatentModel(encoder, head, decoder, joint, masking)
    reset_parameters(model, seeded())
    columns = zip(LIKELIHOODS, parts, strict=True)
    x = torch.cat([torch.from_numpy(part.encode(columns_of(k))) for k, part in columns], 1)
    return model, x


def make_pass(n=6, d=3, n_columns=4, seed=0):
    """A `Pass` of random codes and densities."""
    generator = seeded(seed)
    mean = torch.randn(n, d, generator=generator)
    posterior = DiagonalNormal(mean, torch.full((n, 1), -1.0))
    z = posterior.rsample(torch.randn(n, d, generator=generator))
    log_px = -torch.rand(n, n_columns, generator=generator)
    return Pass(z, posterior, standard_normal(z), log_px)


def score_matrix(b=6, seed=0, scale=2.0):
    """A random score matrix of a critic, (b, b)."""
    return scale * torch.randn(b, b, generator=seeded(seed), dtype=torch.float64)


def frame_of(rows):
    """Benchmark scores as a tidy frame; columns that rows leave out have defaults."""
    default = {"experiment": "x", "table": "t", "seed": 0, "arm": "cMIM", "setting": ""}
    default |= {"embedding": "layers", "probe": "linear", "regime": "all", "n_labels": 100}
    default |= {"n_features": 64, "fit_s": 1.0, "transform_rows_s": 1e4, "peak_mb": 50.0}
    default |= {"bytes": 1000, "n_rows": 1000, "threads": 1}
    return pd.DataFrame([{**default, **row} for row in rows])


def arm_scores(matrix, arms):
    """Scores of one seed in the form of `wide`, from a matrix of tables and arms."""
    index = pd.MultiIndex.from_product([range(len(matrix)), [0]], names=["table", "seed"])
    return pd.DataFrame(np.array(matrix, float), index, pd.Index(arms, name="arm"))
