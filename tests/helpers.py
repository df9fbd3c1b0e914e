"""Tables, small encoders and comparisons that several test modules share."""

import hashlib
import json
import warnings
import zipfile

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import torch
from safetensors.numpy import load as read_arrays
from safetensors.numpy import save as write_arrays

import cmim_sklearn
from cmim_sklearn._models.two_view import View, Views
from cmim_sklearn._utils import archive
from cmim_sklearn.latents import DiagonalNormal

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


def weights(encoder):
    """Weights of a fitted encoder as bytes, so that == compares every bit."""
    state = encoder.net_.module.state_dict()
    return {name: (tuple(w.shape), w.cpu().numpy().tobytes()) for name, w in state.items()}


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


def frame_of(rows):
    """Benchmark scores as a tidy frame; columns that rows leave out have defaults."""
    default = {"experiment": "x", "table": "t", "seed": 0, "arm": "cMIM", "setting": ""}
    default |= {"embedding": "layers", "probe": "linear", "regime": "all", "n_labels": 100}
    default |= {"n_features": 64, "fit_s": 1.0, "transform_rows_s": 1e4, "peak_mb": 50.0}
    default |= {"bytes": 1000, "n_rows": 1000, "threads": 1}
    return pd.DataFrame([{**default, **row} for row in rows])


def score_matrix(matrix, arms):
    """Scores of one seed in the form of `wide`, from a matrix of tables and arms."""
    index = pd.MultiIndex.from_product([range(len(matrix)), [0]], names=["table", "seed"])
    return pd.DataFrame(np.array(matrix, float), index, pd.Index(arms, name="arm"))
