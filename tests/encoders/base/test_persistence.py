"""Encoders in files: what comes back, what is refused, and that no file runs anything."""

import copy
import hashlib
import io
import json
import os
import pickle
import random
import re
import stat
import subprocess
import sys
import time
import traceback
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from numpy.testing import assert_array_equal
from safetensors.numpy import load as read_arrays
from safetensors.numpy import save as write_arrays
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import nn

import cmim_sklearn
from cmim_sklearn import CMIMEncoder, Corruption, InfoNCEEncoder, VAEEncoder
from cmim_sklearn._utils import archive
from cmim_sklearn._utils.archive import EncoderFileError, from_json, to_json
from cmim_sklearn.networks import MLP
from tests.conftest import make_mixed
from tests.encoders.base.make_encoder_file import file_of, make_table, outputs

ENCODERS = [name for name in cmim_sklearn.__all__ if name.endswith("Encoder")]
SMALL = {"max_iter": 2, "hidden_layer_sizes": (6,), "n_components": 3, "random_state": 0}
PROJECTOR = {"projector_layer_sizes": (5, 4)}


def small(name, **parameters):
    cls = getattr(cmim_sklearn, name)
    own = PROJECTOR if "projector_layer_sizes" in cls._get_param_names() else {}
    return cls(**SMALL | own | parameters)


def assert_same(one, other, place="state"):
    """Equal to the bit, types and dtypes included."""
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


def state_of(encoder):
    """The state in one order: that of parameters in a file is by name."""
    return dict(sorted(encoder.__getstate__().items()))


def html(encoder):
    """What a notebook shows, without the numbers that tell one picture from the next."""
    return re.sub(r"-id-\d+", "", encoder._repr_html_())


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A fitted encoder, its file, and the table."""
    table = make_mixed()
    encoder = CMIMEncoder(**SMALL, likelihoods={"visits": "poisson"}).fit(table)
    path = tmp_path_factory.mktemp("saved") / "model.cmim"
    encoder.save(path)
    return encoder, path, table


def forge(path, target, edit=None, *, members=None):
    """Write a file as someone would who knows the format.

    ``edit`` changes the manifest and the arrays, of which hash and description follow unless it
    returns True; ``members`` changes the list of (name, bytes) pairs.
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
        warnings.simplefilter("ignore")  # of a name that is there twice
        for name, content in pairs:
            file.writestr(name, content)
    return target


# -- round trips -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENCODERS)
def test_what_is_loaded_is_what_was_saved(name, mixed, tmp_path):
    encoder = small(name, early_stopping=True).set_output(transform="pandas").fit(mixed)
    encoder.note_ = {"by": ("us", None, float("nan")), 3: np.float32(0.1)}
    encoder.save(tmp_path / "model.cmim")
    again = type(encoder).load(tmp_path / "model.cmim")
    assert type(again) is type(encoder)
    assert_same(state_of(again), state_of(encoder))
    assert html(again) == html(encoder)
    assert_array_equal(again.get_feature_names_out(), encoder.get_feature_names_out())
    Z = encoder.transform(mixed)
    pd.testing.assert_frame_equal(again.transform(mixed), Z, check_exact=True)
    assert again.loss_curve_ == encoder.loss_curve_
    assert again.net_.history[:, "valid_loss"] == encoder.net_.history[:, "valid_loss"]
    if hasattr(encoder, "sample"):
        for method, given in [
            ("inverse_transform", Z),
            ("reconstruct", mixed),
            ("impute", mixed[:20]),
        ]:
            made, expected = (getattr(e, method)(given) for e in (again, encoder))
            pd.testing.assert_frame_equal(made, expected, check_exact=True)
        made, expected = (e.sample(9, random_state=0) for e in (again, encoder))
        pd.testing.assert_frame_equal(made, expected, check_exact=True)
        assert_array_equal(again.score_samples(mixed[:20]), encoder.score_samples(mixed[:20]))
    # After use, too, and through a second file.
    assert_same(state_of(again), state_of(encoder))
    again.save(tmp_path / "again.cmim")
    assert (tmp_path / "again.cmim").read_bytes() == (tmp_path / "model.cmim").read_bytes()


@pytest.mark.parametrize("name", ENCODERS)
def test_a_loaded_encoder_goes_on_as_the_saved_one_would(name, mixed, tmp_path):
    encoder = small(name, warm_start=True).fit(mixed)
    encoder.save(tmp_path / "model.cmim")
    again = type(encoder).load(tmp_path / "model.cmim")
    copied = pickle.loads(pickle.dumps(again))
    fresh = clone(again)
    assert fresh.get_params() == encoder.get_params()
    assert not hasattr(fresh, "net_")
    for one in (encoder, again, copied):
        one.fit(mixed)
    assert again.n_iter_ == encoder.n_iter_ == 4
    for one in (again, copied):
        assert_array_equal(one.transform(mixed), encoder.transform(mixed))


CATEGORIES = ["b", "a", None, "b", "c", "a"] * 10
NUMBERS = [0.25, 1.5, None, 3.0, -2.0, 7.5] * 10
INTEGERS = [1, 2, 3, 4, 5, 60] * 10


def pandas_table():
    return pd.DataFrame(
        {
            "f16": pd.Series(NUMBERS, dtype="float16"),
            "i8": pd.Series(INTEGERS, dtype="int8"),
            "Int64": pd.Series(NUMBERS).round().astype("Int64"),
            "Float32": pd.Series(NUMBERS, dtype="Float32"),
            "boolean": pd.Series([True, None, False] * 20, dtype="boolean"),
            "bool": [True, False] * 30,
            "object": pd.Series(CATEGORIES, dtype=object),
            "levels": pd.Series([True, 1.5, "x", 2, None, "x"] * 10, dtype=object),
            "string": pd.Series(CATEGORIES, dtype="string[python]"),
            "arrow": pd.Series(NUMBERS, dtype="double[pyarrow]"),
            "words": pd.Series(CATEGORIES, dtype=pd.ArrowDtype(pa.large_string())),
            "category": pd.Categorical([3, 1, None] * 20, categories=[3, 1, 2], ordered=True),
            "halves": pd.Categorical([0.5, 1.5, None] * 20),
            "sparse": pd.arrays.SparseArray([0.0, 0.0, 1.0, 2.0, 0.0, 3.0] * 10),
        }
    )


def polars_table():
    return pl.DataFrame(
        {
            "f32": pl.Series(NUMBERS, dtype=pl.Float32),
            "u8": pl.Series(INTEGERS, dtype=pl.UInt8),
            "bool": [True, None, False] * 20,
            "string": CATEGORIES,
            "categorical": pl.Series(CATEGORIES, dtype=pl.Categorical),
            "enum": pl.Series(CATEGORIES, dtype=pl.Enum(["a", "c", "b", "d"])),
            "decimal": pl.Series(INTEGERS).cast(pl.Decimal(12, 3)),
            "nothing": pl.Series([None] * 60, dtype=pl.Null),
        }
    )


def pyarrow_table():
    return pa.table(
        {
            "half": pa.array(np.array(INTEGERS, np.float16)),
            "float": pa.array(NUMBERS, pa.float32()),
            "double": pa.array(NUMBERS),
            "u16": pa.array(INTEGERS, pa.uint16()),
            "bool": pa.array([True, None, False] * 20),
            "string": pa.array(CATEGORIES),
            "large": pa.array(CATEGORIES, pa.large_string()),
            "dictionary": pa.array(CATEGORIES).dictionary_encode(),
            "decimal": pa.array(INTEGERS).cast(pa.decimal128(30, 2)),
            "null": pa.nulls(60),
        }
    )


TABLES = {
    "pandas": pandas_table,
    "polars": polars_table,
    "pyarrow": pyarrow_table,
    "numbered": lambda: pd.DataFrame({7: NUMBERS, 3: CATEGORIES}),
    "objects": lambda: np.array([INTEGERS, CATEGORIES, NUMBERS], dtype=object).T,
    "strings": lambda: np.array([["x", "yy"], ["zzz", "x"], ["x", "yy"]] * 20),
    "float32": lambda: np.array([NUMBERS, INTEGERS], dtype=np.float32).T,
    "big_endian": lambda: np.array([NUMBERS, INTEGERS], dtype=">f8").T,
    "booleans": lambda: np.array([[True, False], [False, False]] * 30),
    "list": lambda: [list(row) for row in zip(INTEGERS, CATEGORIES, strict=True)],
}
if hasattr(np.dtypes, "StringDType"):
    TABLES["StringDType"] = lambda: np.array([["x"], ["yy"]] * 30, np.dtypes.StringDType())


@pytest.mark.parametrize("kind", TABLES)
def test_tables_of_every_dtype(kind, tmp_path):
    table = TABLES[kind]()
    encoder = CMIMEncoder(**SMALL).fit(table)
    encoder.save(tmp_path / "model.cmim")
    again = CMIMEncoder.load(tmp_path / "model.cmim")
    assert_same(state_of(again), state_of(encoder))
    one, other = (e.sample(7, random_state=0) for e in (encoder, again))
    assert type(one) is type(other)
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        assert_array_equal(one, other)
    else:
        assert one.equals(other)
        assert one.schema == other.schema


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, 0, -1, 10**30, 1.5, -0.0, 1e-320, float("nan"), float("inf"),
        float("-inf"), "", "é\ud800", "$array", [], (), {}, [1, (2, [3.0, (None,)])],
        {"a": {"b": (1,)}}, {1: "int", "1": "str", 1.5: None, False: 0, None: 1}, {"$tuple": [1]},
        {("a", 1): "b"}, np.float64(0.1), np.float64("nan"), np.float16(0.1), np.int8(-3),
        np.uint64(2**64 - 1), np.bool_(True), np.str_("abc"), np.zeros((0, 3), np.float32),
        np.array(3, np.int16), np.array([True, False]), np.arange(6).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.array(["a", "bcd"]),
        np.array([["", "x"]]), np.array(["a", 1, 1.5, True, None, np.nan, (1,)], dtype=object),
        np.empty((2, 0), dtype=object), [np.array([0.1]), {"x": np.array([0.2])}],
    ],
    ids=repr,
)  # fmt: skip
def test_values_come_back_with_their_types(value):
    arrays = {}
    content = {"it": to_json(value, "it", arrays)}
    manifest, arrays = archive.unpack(archive.pack(content, arrays))
    assert_same(from_json(manifest["it"], arrays), value)
    assert arrays == {}


def test_arrays_whose_places_read_alike_do_not_collide():
    value, arrays = {"a.b": np.array([1]), "a": {"b": np.array([2])}}, {}
    written = to_json(value, "x", arrays)
    assert len(arrays) == 2
    assert_same(from_json(written, arrays), value)


PARAMETERS = {
    "numpy_scalars": {"n_components": np.int64(3), "learning_rate_init": np.float32(1e-3)},
    "array": {"hidden_layer_sizes": np.array([6, 5])},
    "names": {"categorical_features": np.array(["flag", "age"])},
    "objects": {"categorical_features": np.array(["flag", "age"], dtype=object)},
    "positions": {"categorical_features": [5, np.int32(1)]},
    "no_layers": {"hidden_layer_sizes": ()},
    "one_layer": {"hidden_layer_sizes": 6},
    "keys": {"likelihoods": {"visits": "poisson", 1: "gaussian"}},
    "net_params": {"net_params": {"optimizer__betas": (0.9, 0.99), "gradient_clip": None}},
}
PARAMETERS["net_params"]["net_params"].pop("gradient_clip")


@pytest.mark.parametrize("kind", PARAMETERS)
def test_parameters_come_back_with_their_types(kind, mixed, tmp_path):
    encoder = CMIMEncoder(**SMALL | PARAMETERS[kind]).fit(mixed)
    encoder.save(tmp_path / "model.cmim")
    again = CMIMEncoder.load(tmp_path / "model.cmim")
    assert_same(again.get_params(), encoder.get_params())
    assert_array_equal(again.transform(mixed), encoder.transform(mixed))


def test_parameters_set_after_fit_and_before_save(mixed, tmp_path):
    encoder = CMIMEncoder(**SMALL).fit(mixed)
    Z = encoder.transform(mixed)
    encoder.set_params(n_components=9, hidden_layer_sizes=(3, 3), posterior="learned", tol=-1)
    encoder.save(tmp_path / "model.cmim")
    again = CMIMEncoder.load(tmp_path / "model.cmim")
    assert_array_equal(again.transform(mixed), Z)
    assert again.get_params() == encoder.get_params()


def test_a_loaded_encoder_stands_in_a_pipeline(saved):
    encoder, path, table = saved
    y = (table["age"] > 40).to_numpy()
    pipes = [make_pipeline(e, LogisticRegression()) for e in (CMIMEncoder.load(path), encoder)]
    for pipe in pipes:
        pipe[-1].fit(pipe[0].transform(table), y)
    assert_array_equal(*(pipe.predict_proba(table) for pipe in pipes))


def test_equal_encoders_make_equal_files_and_paths_may_be_strings(saved, tmp_path):
    encoder, path, _ = saved
    encoder.save(str(tmp_path / "again"))
    assert (tmp_path / "again").read_bytes() == path.read_bytes()
    assert CMIMEncoder.load(str(tmp_path / "again")).n_iter_ == 2


def test_the_file_is_read_by_common_tools(saved):
    with zipfile.ZipFile(saved[1]) as file:
        assert file.testzip() is None
        assert file.namelist() == [archive.MANIFEST, archive.ARRAYS]
        manifest = json.loads(file.read(archive.MANIFEST))
        arrays = read_arrays(file.read(archive.ARRAYS))
    assert manifest["class"] == "CMIMEncoder"
    assert set(manifest["versions"]) == {"cmim_sklearn", "torch", "numpy", "sklearn"}
    assert manifest["arrays"].keys() == arrays.keys()
    weights = saved[0].__getstate__()["_net"]["weights"]
    for name, weight in weights.items():
        assert_array_equal(arrays[f"_net.weights.{name}"], weight)


@pytest.mark.parametrize("version", range(1, archive.VERSION + 1))
def test_the_file_of_each_format_version(version):
    path = file_of(version, "cmim")
    assert path.stat().st_size < 50_000
    with zipfile.ZipFile(path) as file:
        assert json.loads(file.read(archive.MANIFEST))["version"] == version
    expected = json.loads(file_of(version, "json").read_text())
    found = outputs(CMIMEncoder.load(path, device="cpu"), make_table()[:8])
    assert found.keys() == expected.keys()
    assert found["loss_curve_"] == expected["loss_curve_"]
    # Another processor rounds otherwise; that much, and no more.
    for name in ("transform", "score_samples"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-3, atol=1e-3)
    for name in ("reconstruct", "sample"):
        one, other = (
            pd.DataFrame(e[name]["data"], columns=e[name]["columns"]) for e in (found, expected)
        )
        pd.testing.assert_frame_equal(one, other, rtol=1e-3, atol=0.011, check_dtype=False)


# -- what is in a file -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("few", "many", "parameters"),
    [
        (500, 5000, {}),  # whose mixtures have 30 and 100 components
        (3100, 12400, {"n_components": 8}),
        pytest.param(500, 50_000, {}, marks=pytest.mark.slow),
    ],
)
def test_files_of_few_and_many_rows_are_alike_and_hold_none_of_them(
    tmp_path, few, many, parameters
):
    table, sizes = make_mixed(many), []
    for n in (few, many):
        path = tmp_path / f"{n}.cmim"
        CMIMEncoder(max_iter=1, random_state=0, **parameters).fit(table[:n]).save(path)
        sizes.append(path.stat().st_size)
        with zipfile.ZipFile(path) as file:
            arrays = read_arrays(file.read(archive.ARRAYS))
        assert not [a.shape for a in arrays.values() if n in a.shape]
    assert 0.95 < sizes[1] / sizes[0] < 1.05


def test_nothing_of_a_training_row_is_written(tmp_path):
    table = make_mixed(500)
    table["income"] = np.random.RandomState(1).randn(500) * 1e3  # no two alike
    encoder = CMIMEncoder(**SMALL | {"max_iter": 1}).fit(table)
    encoder.save(tmp_path / "model.cmim")
    data = (tmp_path / "model.cmim").read_bytes()
    inner = np.sort(table["income"].to_numpy())[1:-1]
    kept = sum(np.float64(v).tobytes() in data or repr(float(v)).encode() in data for v in inner)
    assert kept <= 16  # the knots of the quantile map, 16 for 500 rows


# -- what is not saved -----------------------------------------------------------------------------


def own_network(n_in, n_out, hidden_layer_sizes, activation):
    return nn.Sequential(nn.Linear(n_in, 5), nn.Tanh(), nn.Linear(5, n_out))


class OwnDecoder(nn.Module):
    """With weights of several dtypes and shapes, and blind to the widths it is given."""

    def __init__(self, n_in, n_out, hidden_layer_sizes, activation):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n_in, 4), nn.BatchNorm1d(4), nn.ReLU())
        self.output = nn.Linear(4, n_out)

    def forward(self, x):
        return self.output(self.body(x))


def test_own_networks_are_asked_for_by_name(mixed, tmp_path):
    path = tmp_path / "model.cmim"
    encoder = CMIMEncoder(**SMALL, encoder=own_network, decoder=OwnDecoder).fit(mixed)
    encoder.save(path)
    with pytest.raises(
        EncoderFileError,
        match=r"model\.cmim cannot be loaded: its encoder was made by a callable, "
        r"'tests\.encoders\.base\.test_persistence\.own_network'.*load\(path, encoder=\.\.\.\)\. Got None",
    ):
        CMIMEncoder.load(path)
    with pytest.raises(EncoderFileError, match=r"its decoder was made by .*OwnDecoder.*Got 'mlp'"):
        CMIMEncoder.load(path, encoder=own_network, decoder="mlp")
    again = CMIMEncoder.load(path, encoder=own_network, decoder=OwnDecoder)
    assert again.encoder is own_network
    assert again.decoder is OwnDecoder
    assert_same(state_of(again), state_of(encoder))
    assert_array_equal(again.transform(mixed), encoder.transform(mixed))
    again.set_params(warm_start=True).fit(mixed)
    encoder.set_params(encoder="mlp").save(path)
    later = CMIMEncoder.load(path, encoder=own_network, decoder=OwnDecoder)
    assert (later.encoder, later.decoder) == ("mlp", OwnDecoder)
    assert_array_equal(later.transform(mixed), encoder.transform(mixed))
    with pytest.raises(EncoderFileError, match=r"weight 'decoder\.\S+ is None in the file"):
        CMIMEncoder.load(path, encoder=own_network, decoder=MLP)


def test_a_network_that_is_not_asked_for_is_refused(saved, mixed, tmp_path):
    with pytest.raises(EncoderFileError, match=r"encoder= was given, a function.* is 'mlp'"):
        CMIMEncoder.load(saved[1], encoder=own_network)
    small("InfoNCEEncoder").fit(mixed).save(tmp_path / "model.cmim")
    with pytest.raises(EncoderFileError, match=r"decoder= was given, a function.* is None"):
        InfoNCEEncoder.load(tmp_path / "model.cmim", decoder=own_network)


def test_a_network_set_after_fit_is_left_out(saved, tmp_path):
    encoder = copy.deepcopy(saved[0]).set_params(encoder=own_network)
    with pytest.warns(UserWarning, match=r"leaves out .*: encoder=tests.*own_network\. Set it"):
        encoder.save(tmp_path / "model.cmim")
    assert CMIMEncoder.load(tmp_path / "model.cmim").encoder == "mlp"


def test_views(mixed, tmp_path):
    path = tmp_path / "model.cmim"
    encoder = small("InfoNCEEncoder", view=Corruption(0.2, both=True)).fit(mixed)
    encoder.save(path)
    assert InfoNCEEncoder.load(path).view == Corruption(0.2, both=True)

    def own_view(x, generator):
        return x, x

    encoder = small("InfoNCEEncoder", view=own_view).fit(mixed)
    with pytest.warns(UserWarning, match=r"InfoNCEEncoder\.save leaves out .*view=tests.*own_view"):
        encoder.save(path)
    again = InfoNCEEncoder.load(path)
    assert again.view is None
    assert_array_equal(again.transform(mixed), encoder.transform(mixed))


def test_what_only_training_needs_is_left_out_with_a_warning(mixed, tmp_path):
    path = tmp_path / "model.cmim"
    parameters = {
        "net_params": {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.5},
        "random_state": np.random.RandomState(0),
    }
    encoder = CMIMEncoder(**SMALL | parameters).fit(mixed)
    with pytest.warns(UserWarning, match="leaves out .*: net_params, random_state, a RandomState"):
        encoder.save(path)
    again = CMIMEncoder.load(path)
    assert again.net_params is None
    assert again.random_state is None
    assert_array_equal(again.transform(mixed), encoder.transform(mixed))
    assert encoder.net_params == parameters["net_params"]  # the saved one is as it was


def test_callbacks_of_scikit_learn_are_left_out_with_a_warning(saved, tmp_path):
    encoder = copy.deepcopy(saved[0])
    encoder._skl_callbacks = [object()]
    with pytest.warns(UserWarning, match="leaves out .*: callbacks of set_callbacks"):
        encoder.save(tmp_path / "model.cmim")
    assert not hasattr(CMIMEncoder.load(tmp_path / "model.cmim"), "_skl_callbacks")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("note_", {"a": [object()]}, r"note_\.a\.0 must be .*, of type object"),
        ("note_", np.array([1j]), r"note_ must be an array of .*; got complex128"),
        (
            "note_",
            np.array(["2020-01-01"], "M8[D]"),
            r"note_ must be an array .*; got datetime64",
        ),
        (
            "note_",
            np.zeros(5 * 10**6, "U1"),
            r"note_ must have at most 16777216.*; got 20000000",
        ),
        ("likelihoods", {"age": {1, 2}}, r"likelihoods\.age must be .*, of type set"),
        (
            "categorical_features",
            pd.Index(["age"]),
            r"categorical_features must .*, of type Index",
        ),
    ],
)
def test_what_no_file_can_hold_is_refused_and_nothing_is_written(
    saved, tmp_path, name, value, told
):
    encoder = copy.deepcopy(saved[0])
    setattr(encoder, name, value)
    with pytest.raises(TypeError, match=told):
        encoder.save(tmp_path / "model.cmim")
    assert list(tmp_path.iterdir()) == []


def test_what_would_not_load_is_not_written(saved, tmp_path):
    encoder = copy.deepcopy(saved[0])
    encoder.transform_ = 1
    vars(encoder)["score"] = 0.5
    with pytest.raises(EncoderFileError, match="'score' is not the name of something learnt"):
        encoder.save(tmp_path / "model.cmim")
    assert list(tmp_path.iterdir()) == []


class Derived(CMIMEncoder):
    pass


def test_only_the_librarys_own_classes_have_files(saved, mixed, tmp_path):
    with pytest.raises(NotFittedError):
        CMIMEncoder().save(tmp_path / "model.cmim")
    with pytest.raises(TypeError, match=r"save is for AEEncoder, .*Derived is none of them"):
        Derived(**SMALL).fit(mixed).save(tmp_path / "model.cmim")
    for cls in (Derived, CMIMEncoder.__base__, CMIMEncoder.__base__.__base__):
        with pytest.raises(TypeError, match=rf"load is for .*{cls.__name__} is none of them"):
            cls.load(saved[1])
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_class(saved, mixed, tmp_path):
    VAEEncoder(**SMALL).fit(mixed).save(tmp_path / "vae.cmim")
    with pytest.raises(
        EncoderFileError,
        match=r"vae\.cmim cannot be loaded: it holds a VAEEncoder, not a CMIMEncoder\. "
        r"Try VAEEncoder\.load",
    ):
        CMIMEncoder.load(tmp_path / "vae.cmim")

    def as_vae(manifest, arrays):
        manifest["class"] = "VAEEncoder"

    with pytest.raises(EncoderFileError, match="VAEEncoder has no parameter 'contrastive_weight'"):
        VAEEncoder.load(forge(saved[1], tmp_path / "forged", as_vae))


# -- devices ---------------------------------------------------------------------------------------


def test_devices_are_looked_for_at_use(saved, tmp_path):
    encoder, _, table = saved
    encoder = copy.deepcopy(encoder).set_params(device="cuda:77")
    encoder.save(tmp_path / "model.cmim")
    again = CMIMEncoder.load(tmp_path / "model.cmim", device="cpu")
    assert again.device == "cpu"
    assert_array_equal(again.transform(table), saved[0].transform(table))
    assert CMIMEncoder.load(tmp_path / "model.cmim").device == "auto"
    elsewhere = CMIMEncoder.load(tmp_path / "model.cmim", device="cuda:77")
    with pytest.raises(ValueError, match="'cuda:77' does not exist on this machine"):
        elsewhere.transform(table)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_file_made_on_a_gpu_opens_on_a_cpu(mixed, tmp_path):
    encoder = CMIMEncoder(**SMALL, device="cuda").fit(mixed)
    encoder.save(tmp_path / "model.cmim")
    again = CMIMEncoder.load(tmp_path / "model.cmim", device="cpu")
    np.testing.assert_allclose(again.transform(mixed), encoder.transform(mixed), atol=1e-4)
    there = CMIMEncoder.load(tmp_path / "model.cmim", device="cuda")
    assert_array_equal(there.transform(mixed), encoder.transform(mixed))


# -- writing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_save_leaves_all_as_it_was(saved, tmp_path, monkeypatch, step):
    path = tmp_path / "model.cmim"
    path.write_bytes(b"before")

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space left"):
        saved[0].save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["model.cmim"]
    assert path.read_bytes() == b"before"


def test_a_save_that_is_interrupted_leaves_nothing(saved, tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        saved[0].save(tmp_path / "model.cmim")
    assert list(tmp_path.iterdir()) == []


def test_names_may_be_as_long_as_files_may_have_them(saved, tmp_path):
    path = tmp_path / ("n" * 255)
    saved[0].save(path)
    assert CMIMEncoder.load(path).n_iter_ == 2


def test_what_a_killed_save_left_is_cleared_by_a_later_one(saved, tmp_path, monkeypatch):
    path, left = tmp_path / "model.cmim", []
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", lambda part, path: left.append(Path(part).read_bytes()))
        saved[0].save(path)
        (part,) = tmp_path.iterdir()
    other = tmp_path / archive._part_name(tmp_path / "other", "0123abcd")
    other.write_bytes(b"of another file")
    os.utime(other, (0, 0))
    saved[0].save(path)
    assert part.exists()  # its writer may be at it
    os.utime(part, (0, 0))
    saved[0].save(path)
    assert set(tmp_path.iterdir()) == {path, other}
    assert left == [path.read_bytes()]


def test_folders_that_cannot_be_written(saved, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.model\.cmim'$"):
        saved[0].save(tmp_path / "nowhere" / "model.cmim")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        saved[0].save(tmp_path / "folder")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
def test_a_folder_that_may_not_be_written(saved, tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            saved[0].save(tmp_path / "model.cmim")
    finally:
        tmp_path.chmod(0o700)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="about POSIX files")
def test_files_have_usual_rights_or_keep_theirs_and_links_stay_links(saved, tmp_path):
    link, path = tmp_path / "link", tmp_path / "model.cmim"
    path.write_bytes(b"")
    usual = stat.S_IMODE(path.stat().st_mode)
    link.symlink_to(path)
    saved[0].save(link)
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == usual
    path.chmod(0o600)
    saved[0].save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert CMIMEncoder.load(path).n_iter_ == 2


# -- what is refused -------------------------------------------------------------------------------


def test_what_is_no_file_of_an_encoder(saved, tmp_path):
    with pytest.raises(FileNotFoundError):
        CMIMEncoder.load(tmp_path / "nothing")
    for content in (b"", b"PK", pickle.dumps({}), b"\0" * 100):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(EncoderFileError, match=r"other cannot be loaded: it is truncated, or"):
            CMIMEncoder.load(tmp_path / "other")
    with zipfile.ZipFile(tmp_path / "zip", "w") as file:
        file.writestr("model.json", "{}")
    with pytest.raises(EncoderFileError, match=r"zip cannot be loaded: it has no manifest\.json"):
        CMIMEncoder.load(tmp_path / "zip")


def members_refused():
    def add(name):
        return lambda pairs: [*pairs, (name, b"x")]

    def rest(pairs):
        return pairs[:1]

    yield "twice", add(archive.MANIFEST), r"'manifest\.json' occurs more than once"
    yield "extra", add("notes.txt"), r"; got 'arrays\.safetensors', 'manifest\.json', 'notes"
    yield "absolute", add("/etc/passwd"), r"member '/etc/passwd' has a path that leads outside"
    yield "parent", add("../../evil"), r"member '\.\./\.\./evil' has a path that leads outside"
    yield "inner", add("a/../../evil"), r"member 'a/\.\./\.\./evil' has a path"
    yield "drive", add("C:evil"), r"member 'C:evil' has a path"
    yield "missing", rest, r"must be manifest\.json and arrays\.safetensors; got 'mani"
    yield "many", lambda pairs: [*pairs, *((f"m{i}", b"") for i in range(99))], "table of contents"


@pytest.mark.parametrize(("name", "change", "told"), members_refused())
def test_members(saved, tmp_path, name, change, told):
    path = forge(saved[1], tmp_path / "forged", members=change)
    with pytest.raises(EncoderFileError, match=told):
        CMIMEncoder.load(path)


def test_members_that_are_compressed_or_too_large(saved, tmp_path, monkeypatch):
    with zipfile.ZipFile(saved[1]) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(tmp_path / "bomb", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(archive.MANIFEST, b" " * 10**7 + parts[archive.MANIFEST])
        file.writestr(archive.ARRAYS, parts[archive.ARRAYS])
    with pytest.raises(EncoderFileError, match=r"'manifest\.json' must not be compressed"):
        CMIMEncoder.load(tmp_path / "bomb")
    size = len(parts[archive.MANIFEST])
    monkeypatch.setattr(archive, "MAX_MANIFEST_BYTES", size - 1)
    with pytest.raises(EncoderFileError, match=f"must have at most {size - 1} bytes; got {size}"):
        CMIMEncoder.load(saved[1])
    monkeypatch.setattr(archive, "MAX_FILE_BYTES", 1000)
    with pytest.raises(EncoderFileError, match="it must have at most 1000 bytes"):
        CMIMEncoder.load(saved[1])
    with pytest.raises(
        EncoderFileError,
        match=f"The manifest must have .* {size - 1} bytes; got {size}.*arrays",
    ):
        saved[0].save(tmp_path / "large")
    monkeypatch.setattr(archive, "MAX_MANIFEST_BYTES", size)
    with pytest.raises(EncoderFileError, match=r"The file must have .* 1000 bytes; got .*network"):
        saved[0].save(tmp_path / "large")
    assert not (tmp_path / "large").exists()


def patched(data, name, offset, content):
    """A zip's bytes with a field of a member's entry in the table of contents changed."""
    start = data.rindex(b"PK\1\2", 0, data.rindex(name.encode()))
    return data[: start + offset] + content + data[start + offset + len(content) :]


def test_sizes_that_a_zip_only_claims(saved, tmp_path):
    data, path = saved[1].read_bytes(), tmp_path / "forged"
    huge = (2**31 - 2).to_bytes(4, "little")
    path.write_bytes(patched(data, archive.ARRAYS, 20, huge + huge))
    with pytest.raises(EncoderFileError, match=rf"members declare \d+ bytes; .*{len(data)}"):
        CMIMEncoder.load(path)
    path.write_bytes(patched(data, archive.ARRAYS, 24, huge))
    with pytest.raises(EncoderFileError, match=r"'arrays\.safetensors' must not be compressed"):
        CMIMEncoder.load(path)
    path.write_bytes(patched(data, archive.ARRAYS, 10, b"\10\0"))  # deflated
    with pytest.raises(EncoderFileError, match=r"'arrays\.safetensors' must not be compressed"):
        CMIMEncoder.load(path)
    path.write_bytes(patched(data, archive.ARRAYS, 8, b"\1\0"))  # encrypted
    with pytest.raises(EncoderFileError, match="encrypted"):
        CMIMEncoder.load(path)


def test_a_format_of_the_future(saved, tmp_path):
    def from_the_future(manifest, arrays):
        manifest["version"] = 3
        manifest["versions"]["cmim_sklearn"] = "3.4.5"

    path = forge(saved[1], tmp_path / "forged", from_the_future, members=lambda p: [*p, ("o", b"")])
    with pytest.raises(
        EncoderFileError,
        match=rf"forged cannot be loaded: it has format version 3, but cmim_sklearn "
        rf"{cmim_sklearn.__version__} reads versions 1 to 2\. Install the release that wrote it "
        r"\('3\.4\.5'\), or a later one",
    ):
        CMIMEncoder.load(path)


def set_at(manifest, place, value):
    *way, last = place.split("/")
    for step in way:
        manifest = manifest[int(step) if isinstance(manifest, list) else step]
    manifest[int(last) if isinstance(manifest, list) else last] = value


WEIGHT = "_net.weights.encoder.body.0.0.weight"


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        ("format", "something", "have the format 'cmim_sklearn encoder'; got 'something'"),
        ("version", 0, "format version 0"),
        ("version", 1.0, r"format version 1\.0"),
        ("version", True, "format version True"),
        ("version", "1", "format version '1'"),
        ("class", "os.system", r"holds a os\.system, not a CMIMEncoder"),
        ("class", ["CMIMEncoder"], r"holds a \['CMIMEncoder'\]"),
        ("sha256", {}, r"arrays\.safetensors must have the sha256"),
        ("parameters/__class__", 1, "no parameter '__class__'"),
        ("parameters/unheard_of", 1, r"no parameter 'unheard_of' in cmim_sklearn \d"),
        ("fitted/transform", 1, "'transform' is not the name"),
        ("fitted/__dict__", {}, "'__dict__' is not the name"),
        ("fitted/net_", {}, "'net_' is not the name"),
        ("fitted/alpha", 1, "'alpha' is not the name"),
        ("fitted/n_features_in_", 7, "table of 7 columns"),
        ("fitted/n_features_in_", 10**30, r"table of 1000\d+"),
        ("fitted/_built/hidden_layer_sizes", [10**9], r"takes \d{11,} weights or more, and the"),
        ("fitted/_built/hidden_layer_sizes", [1] * 10**5, r"takes \d{6} weights or more"),
        ("fitted/_built/hidden_layer_sizes", [-6], r"has widths \[3, -6"),
        ("fitted/_built/hidden_layer_sizes", [6.0], r"has widths \[3, 6\.0"),
        ("fitted/_built/hidden_layer_sizes", [True], r"has widths \[3, True"),
        ("fitted/_built/hidden_layer_sizes", [5], r"weight '\S+ is \(\(6,.* and \(\(5,"),
        ("fitted/_built/n_components", 10**9, r"takes \d{10,} weights or more"),
        ("fitted/_built/n_components", 2, r"weight '\S+ is"),
        ("fitted/_built/activation", "os.system", r"KeyError: 'os\.system'"),
        ("fitted/_built/encoder", "os.system", r"KeyError: 'os\.system'"),
        ("fitted/_built/encoder", {"callable": "os.system"}, r"made by a callable, 'os\.system'"),
        ("fitted/_built/posterior", "learned", r"weight '\S+ is"),
        ("fitted/_built/other", 1, "architecture is"),
        ("fitted/table_/layout/library", "os", "unknown dataframe library 'os'"),
        ("fitted/table_/layout/library", "polars", r"unknown dtype .*'float64'} of polars"),
        ("fitted/table_/layout/dtypes/0/dtype", "V999999999", "unknown dtype .*'V999999999'}"),
        ("fitted/table_/layout/names/0", ["a"], r"names must be .*; got \['a'\]"),
        ("fitted/table_/blocks/0/kind", "os", "KeyError: 'os'"),
        ("fitted/table_/blocks/0/positions", [0, 1, 1], "do not make a table"),
        ("fitted/table_/blocks/0/fitted/evil", 1, "TypeError: .*evil"),
        ("fitted/table_/blocks/2/fitted/n_classes", [10**12, 3], r"takes \d{13,} weights or more"),
        ("fitted/table_/types/0", "file", "do not make a table"),
        ("fitted/table_/blocks/1/fitted/values/0", [], "unpack"),
        ("fitted/table_/blocks/2/fitted/levels/0", [], "IndexError"),
        ("fitted/feature_names_in_/$objects/values/0", "evil", "do not make a table"),
        ("fitted/_scales/mean", {"$tuple": []}, r"'_scales\.mean\.0' belongs to nothing"),
        ("fitted/_scales/more", {"$tuple": []}, "scales of its features"),
        ("fitted/_net/history", [1], "history is not"),
        ("fitted/note_", {"$import": "os"}, r"unknown tag '\$import'"),
        ("fitted/note_", {"$array": WEIGHT}, "KeyError"),
        ("fitted/note_", {"$float": "1e5"}, "KeyError: '1e5'"),
        ("fitted/note_", {"$tuple": [], "b": 1}, "too many values"),
        ("fitted/note_", {"$objects": {"shape": [10**12], "values": []}}, "cannot reshape"),
        ("fitted/note_", {"$text": {"width": 10**8, "shape": [1], "values": ["a"]}}, "width 10000"),
        ("fitted/note_", {"$text": {"width": 0, "shape": [1], "values": ["a"]}}, "width 0\\."),
        ("fitted/note_", {"$text": {"width": 10**8, "shape": [], "values": ""}}, "list of strings"),
        ("fitted/note_", {"$text": {"width": 10**8, "shape": [0], "values": []}}, "width 10000"),
        ("fitted/note_", {"$text": {"width": 10**6, "shape": [9], "values": [["a"] * 9]}}, "list"),
        ("fitted/note_", {"$text": {"width": 10**7, "shape": [1], "values": ["a"]}}, "16777216"),
    ],
)  # fmt: skip
def test_manifests(saved, tmp_path, place, value, told):
    def edit(manifest, arrays):
        set_at(manifest, place, value)
        return place == "sha256"

    path = forge(saved[1], tmp_path / "forged", edit)
    start = time.monotonic()
    with pytest.raises(EncoderFileError, match=told) as caught:
        CMIMEncoder.load(path)
    assert str(caught.value).startswith(f"{path} cannot be loaded: ")
    assert len(str(caught.value)) < 2000
    assert time.monotonic() - start < 30


@pytest.mark.parametrize(
    "place",
    [
        "class", "version", "versions/cmim_sklearn", "format", "parameters/unheard_of",
        "fitted/table_/layout/library", "fitted/table_/layout/names/0",
        "fitted/table_/layout/dtypes/0/dtype", "fitted/table_/blocks/0/kind",
        "fitted/_built/activation", "fitted/_built/encoder", "fitted/n_features_in_",
        "fitted/_built/columns/a", "fitted/note_/$array", "fitted/note_/$import",
    ],
)  # fmt: skip
@pytest.mark.parametrize("value", ["x" * 10**6, ["x" * 100] * 10**4, {"x" * 10**6: "y" * 10**6}])
def test_messages_are_short_whatever_they_quote(saved, tmp_path, place, value):
    def edit(manifest, arrays):
        manifest["fitted"]["note_"] = {}
        if place == "fitted/_built/columns/a":
            manifest["fitted"]["_built"]["columns" * 10**5] = value
        else:
            set_at(manifest, place, value)
        if place == "versions/cmim_sklearn":
            manifest["version"] = 3

    with pytest.raises(EncoderFileError) as caught:
        CMIMEncoder.load(forge(saved[1], tmp_path / "forged", edit))
    assert len("".join(traceback.format_exception(caught.value))) < 30_000
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("name", ENCODERS)
def test_no_width_in_a_file_is_taken_on_trust(name, mixed, tmp_path):
    """For every encoder, whatever its networks: found in its own architecture."""
    encoder = small(name).fit(mixed)
    encoder.save(tmp_path / "model.cmim")
    places = []
    for key, value in encoder._built.items():
        if isinstance(value, list):
            places += [f"fitted/_built/{key}/{i}" for i in range(len(value))]
            places.append(f"fitted/_built/{key}")
        elif isinstance(value, int) and key != "n_groups":  # cut to the number of columns
            places.append(f"fitted/_built/{key}")
    for key in encoder.get_params():
        if key.endswith("layer_sizes") and key not in encoder._built:
            places.append(f"parameters/{key}")
    assert len(places) >= 3
    for place in places:
        is_list = place.endswith("layer_sizes")
        value = [1] * 10**6 if is_list and "_built" in place else 10**9

        def edit(manifest, arrays, place=place, value=value):
            set_at(manifest, place, value)

        path = forge(tmp_path / "model.cmim", tmp_path / "forged", edit)
        start = time.monotonic()
        with pytest.raises(EncoderFileError, match=r"weights (or more|than are allowed)"):
            type(encoder).load(path)
        assert time.monotonic() - start < 30


def test_widths_for_own_networks_are_bounded_too(mixed, tmp_path):
    def unreachable(*arguments):
        raise AssertionError(arguments)

    encoder = CMIMEncoder(**SMALL, encoder=own_network).fit(mixed)
    encoder.save(tmp_path / "model.cmim")

    def edit(manifest, arrays):
        manifest["fitted"]["_built"]["hidden_layer_sizes"] = [10**9]

    with pytest.raises(EncoderFileError, match="weights or more"):
        CMIMEncoder.load(forge(tmp_path / "model.cmim", tmp_path / "f", edit), encoder=unreachable)


def arrays_refused():
    def other_shape(manifest, arrays):
        arrays[WEIGHT] = arrays[WEIGHT].T.copy()

    def other_dtype(manifest, arrays):
        arrays[WEIGHT] = arrays[WEIGHT].astype(np.float64)

    def extra(manifest, arrays):
        arrays["evil"] = np.zeros(3)

    def missing(manifest, arrays):
        del arrays[WEIGHT]

    def another_weight(manifest, arrays):
        manifest["fitted"]["_net"]["weights"]["evil"] = {"$array": "evil"}
        arrays["evil"] = np.zeros(3)

    def no_weight(manifest, arrays):
        bias = WEIGHT.removesuffix("weight") + "bias"
        del arrays[bias]
        del manifest["fitted"]["_net"]["weights"][bias.removeprefix("_net.weights.")]

    def latents(manifest, arrays):
        arrays["_latents.basis"] = arrays["_latents.basis"][:2].copy()

    def factors(manifest, arrays):
        arrays["_latents.factors"] = arrays["_latents.factors"][:, :-1].copy()

    def no_component(manifest, arrays):
        for name, shape in {"weights": (0,), "means": (0, 4000), "factors": (0, 8_002_000)}.items():
            before = arrays[f"_latents.{name}"]
            arrays[f"_latents.{name}"] = np.empty(shape, before.dtype)

    def scales(manifest, arrays):
        arrays["_scales.mean.1"] = np.ones((10, 10, 3), np.float32)

    def lie(name, **changes):
        def edit(manifest, arrays):
            manifest["arrays"][name].update(changes)
            return True

        return edit

    yield "other_shape", other_shape, rf"weight '{WEIGHT[13:20]}.*\(19, 6\).* and \(\(6, 19\)"
    yield "other_dtype", other_dtype, r"float64\) in the file and .*float32\) in the network"
    yield "extra", extra, "array 'evil' belongs to nothing"
    yield "missing", missing, "KeyError"
    yield "another_weight", another_weight, "weight 'evil' is .* and None in the network"
    yield "no_weight", no_weight, "is None in the file"
    yield "latents", latents, r"latents' basis have shape \(2, \d\), not \(3, \d\)"
    yield "factors", factors, r"factors have shape \(\d+, 5\), for means of shape \(\d+, 3\)"
    yield "no_component", no_component, r"factors have shape \(0, 8002000\), for means of shape"
    yield "scales", scales, r"scales of its features have shapes .*\(10, 10, 3\)|scales of its feat"
    yield "larger", lie(WEIGHT, shape=[10**9, 10**9]), r"declare \d{19} bytes; the file has \d+"
    yield "negative", lie(WEIGHT, shape=[-6, -19]), "invalid dtype or shape"
    yield "floats", lie(WEIGHT, shape=[6.0, 19.0]), "invalid dtype or shape"
    yield "dtype", lie(WEIGHT, dtype="object"), "invalid dtype or shape"
    yield "smaller", lie(WEIGHT, shape=[6, 18]), r"must be .*18\].*; got \{.*\[6, 19\]"
    yield "as_int", lie(WEIGHT, dtype="int32"), "must be .*'int32'.*; got .*'float32'"


@pytest.mark.parametrize(("name", "edit", "told"), arrays_refused())
def test_arrays(saved, tmp_path, name, edit, told):
    with pytest.raises(EncoderFileError, match=told):
        CMIMEncoder.load(forge(saved[1], tmp_path / "forged", edit))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[" * 10**6, "RecursionError"),
        (b'{"a": 1, "a": 2}', "a name more than once"),
        (b'{"a": NaN}', "NaN, which is not JSON"),
        (b'{"a": -Infinity}', "-Infinity, which"),
        (b"\xff\xfe", "utf-8"),
        (b"[]", "must have the format"),
        (b'{"format": "cmim_sklearn encoder", "version": ' + b"9" * 10**5 + b"}", "digits"),
        (b'{"format": "cmim_sklearn encoder", "version": 1}', "KeyError"),
    ],
)
def test_manifests_that_are_no_json_of_ours(saved, tmp_path, content, told):
    path = forge(saved[1], tmp_path / "f", members=lambda p: [(p[0][0], content), p[1]])
    with pytest.raises(EncoderFileError, match=told):
        CMIMEncoder.load(path)


# -- damage ----------------------------------------------------------------------------------------


def loads_as(path, expected, table):
    """Whether a file loads; what it then gives must be right, and an error the documented one."""
    try:
        encoder = CMIMEncoder.load(path)
    except EncoderFileError:
        return False
    assert_array_equal(encoder.transform(table), expected)
    return True


def test_flipped_bytes_are_told_or_change_nothing(saved, tmp_path):
    encoder, path, table = saved
    data, expected = path.read_bytes(), encoder.transform(table)
    rng = random.Random(0)
    # All of the zip's own records, and a sample of what they hold.
    places = {*range(60), *range(len(data) - 200, len(data)), *rng.sample(range(len(data)), 300)}
    loaded = 0
    for place in sorted(places):
        flipped = bytearray(data)
        flipped[place] ^= 1 << rng.randrange(8)
        (tmp_path / "damaged").write_bytes(flipped)
        loaded += loads_as(tmp_path / "damaged", expected, table)
    assert loaded < 0.2 * len(places)  # dates, rights and versions in the zip's records


def test_truncated_files(saved, tmp_path):
    _, path, table = saved
    data = path.read_bytes()
    for n in {*range(0, len(data), 97), *range(len(data) - 150, len(data))}:
        (tmp_path / "damaged").write_bytes(data[:n])
        assert not loads_as(tmp_path / "damaged", None, table)
    (tmp_path / "damaged").write_bytes(data + b"\0")
    assert not loads_as(tmp_path / "damaged", None, table)


def test_members_of_two_files_do_not_mix(saved, mixed, tmp_path):
    CMIMEncoder(**SMALL | {"random_state": 1}).fit(mixed).save(tmp_path / "other")
    with zipfile.ZipFile(tmp_path / "other") as file:
        arrays = file.read(archive.ARRAYS)
    path = forge(saved[1], tmp_path / "f", members=lambda p: [p[0], (p[1][0], arrays)])
    with pytest.raises(EncoderFileError, match=r"arrays\.safetensors must have the sha256"):
        CMIMEncoder.load(path)

    def exchanged(pairs):
        return [(pairs[0][0], pairs[1][1]), (pairs[1][0], pairs[0][1])]

    with pytest.raises(EncoderFileError):
        CMIMEncoder.load(forge(saved[1], tmp_path / "f", members=exchanged))


def leaves(value, place=()):
    """Where a JSON value holds something that is no list or dict."""
    if isinstance(value, dict | list) and value:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in pairs:
            yield from leaves(inner, (*place, key))
    yield place


STRANGE = [None, True, -1, 0, 2**63, 10**400, 0.5, "", "os.system", [], [[]], {}, {"$array": "x"}]


def test_any_value_of_a_manifest_may_be_any_other(saved, tmp_path):
    """Structurally valid files with one strange value: refused, or as good as they say."""
    with zipfile.ZipFile(saved[1]) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    places = sorted(leaves(json.loads(parts[archive.MANIFEST])), key=str)
    rng = random.Random(0)
    path, loaded = tmp_path / "forged", 0
    for place in rng.sample([p for p in places if p], 250):
        manifest = json.loads(parts[archive.MANIFEST])
        inner = manifest
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = rng.choice(STRANGE)
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as file:
            file.writestr(archive.MANIFEST, json.dumps(manifest))
            file.writestr(archive.ARRAYS, parts[archive.ARRAYS])
        path.write_bytes(out.getvalue())
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                CMIMEncoder.load(path)
            loaded += 1
        except EncoderFileError:
            pass
    assert loaded < 150


# -- nothing is run --------------------------------------------------------------------------------


WATCHED = """
import json, os, sys, zipfile
sys.path.insert(0, sys.argv[1])
import numpy, sklearn, torch, skorch, safetensors.numpy
from cmim_sklearn import CMIMEncoder
good, hostile = sys.argv[2:4]
before = set(sys.modules)
CMIMEncoder.load(good)
new = {name.split(".")[0] for name in set(sys.modules) - before}
assert new <= set(sys.stdlib_module_names) | {"torch", "sympy", "mpmath"}, new
seen = []
FORBIDDEN = ("import", "exec", "compile", "pickle.", "marshal.", "os.", "subprocess.", "socket.",
             "ctypes.", "shutil.", "code.")
def hook(event, arguments):
    if event.startswith(FORBIDDEN):
        seen.append((event, repr(arguments)[:200]))
sys.addaudithook(hook)
CMIMEncoder.load(good)
for name in os.environ["HOSTILE"].split():
    try:
        CMIMEncoder.load(name)
    except ValueError as error:
        assert "cannot be loaded" in str(error)
assert not seen, seen
assert "evil_module" not in sys.modules
print("watched")
"""


def test_loading_imports_and_runs_nothing(saved, tmp_path):
    evil = tmp_path / "evil_module.py"
    evil.write_text("open(__file__ + '.ran', 'w')\nclass CMIMEncoder: pass\nrun = CMIMEncoder\n")
    hostile = []
    for i, place in enumerate(
        [
            "class",
            "parameters/encoder",
            "parameters/view",
            "parameters/net_params",
            "fitted/_built/encoder",
            "fitted/_built/activation",
            "fitted/table_/layout/library",
            "fitted/table_/layout/dtypes/0/dtype",
            "fitted/table_/blocks/0/kind",
            "fitted/_sklearn_version",
        ]
    ):
        for j, value in enumerate(
            ["evil_module.run", {"callable": "evil_module.run"}, {"Corruption": ["evil_module"]}]
        ):

            def edit(manifest, arrays, place=place, value=value):
                set_at(manifest, place, value)

            hostile.append(str(forge(saved[1], tmp_path / f"hostile_{i}_{j}", edit)))
    hostile.append(str(tmp_path / "pickle"))
    Path(hostile[-1]).write_bytes(b"cevil_module\nrun\n(tR.")
    result = subprocess.run(
        [sys.executable, "-c", WATCHED, str(tmp_path), str(saved[1]), ""],
        env={**os.environ, "HOSTILE": " ".join(hostile)},
        capture_output=True,
        text=True,
    )
    assert result.stdout.strip().endswith("watched"), result.stderr
    assert not evil.with_name("evil_module.py.ran").exists()
