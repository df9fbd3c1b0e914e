"""Encoder files: round trips, contents, format versions and devices."""

import copy
import json
import pickle
import re
import zipfile

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from numpy.testing import assert_array_equal
from safetensors.numpy import load as read_arrays
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from cmim_sklearn import CMIMEncoder
from cmim_sklearn._encoders.base.fit import COLUMN_PARAMETERS
from cmim_sklearn._encoders.base.persistence import upgrade
from cmim_sklearn._utils import archive
from tests.encoders.base.make_encoder_file import file_of, make_table, outputs
from tests.helpers import (
    ENCODERS,
    assert_same,
    make_mixed,
    small_encoder,
    state_of,
    warns_of_empty_columns,
)


def html(encoder):
    """HTML of a notebook, without the serial numbers of its elements."""
    return re.sub(r"-id-\d+", "", encoder._repr_html_())


@pytest.mark.parametrize("name", ENCODERS)
def test_a_loaded_encoder_equals_the_saved_one(name, mixed, tmp_path):
    encoder = small_encoder(name, early_stopping=True).set_output(transform="pandas").fit(mixed)
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
            found, expected = (getattr(e, method)(given) for e in (again, encoder))
            pd.testing.assert_frame_equal(found, expected, check_exact=True)
        found, expected = (e.sample(9, random_state=0) for e in (again, encoder))
        pd.testing.assert_frame_equal(found, expected, check_exact=True)
        assert_array_equal(again.score_samples(mixed[:20]), encoder.score_samples(mixed[:20]))
    # Use does not change the state, and a second file has the same bytes.
    assert_same(state_of(again), state_of(encoder))
    again.save(tmp_path / "again.cmim")
    assert (tmp_path / "again.cmim").read_bytes() == (tmp_path / "model.cmim").read_bytes()


@pytest.mark.parametrize("name", ENCODERS)
def test_a_loaded_encoder_continues_training_like_the_saved_one(name, mixed, fitted, tmp_path):
    encoder = copy.deepcopy(fitted(name)).set_params(warm_start=True)
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
            "zeros": pd.arrays.SparseArray([0.0, 1.5, 0.0, 2.0, 0.0, 3.0] * 10, fill_value=0.0),
            "big_endian": pd.Series(np.array(INTEGERS, ">i4")),
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
def test_tables_with_every_dtype(kind, tmp_path):
    table = TABLES[kind]()
    with warns_of_empty_columns(table):
        encoder = small_encoder().fit(table)
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
def test_parameters_keep_their_types(kind, mixed, tmp_path):
    encoder = small_encoder(**PARAMETERS[kind]).fit(mixed)
    encoder.save(tmp_path / "model.cmim")
    again = CMIMEncoder.load(tmp_path / "model.cmim")
    assert_same(again.get_params(), encoder.get_params())
    assert_array_equal(again.transform(mixed), encoder.transform(mixed))


def test_parameters_set_after_fit_and_before_save(mixed, fitted, tmp_path):
    encoder = copy.deepcopy(fitted())
    Z = encoder.transform(mixed)
    encoder.set_params(n_components=9, hidden_layer_sizes=(3, 3), posterior="learned", tol=-1)
    encoder.save(tmp_path / "model.cmim")
    again = CMIMEncoder.load(tmp_path / "model.cmim")
    assert_array_equal(again.transform(mixed), Z)
    assert again.get_params() == encoder.get_params()


def test_a_loaded_encoder_works_in_a_pipeline(saved):
    encoder, path, table = saved
    y = (table["age"] > 40).to_numpy()
    pipes = [make_pipeline(e, LogisticRegression()) for e in (CMIMEncoder.load(path), encoder)]
    for pipe in pipes:
        pipe[-1].fit(pipe[0].transform(table), y)
    assert_array_equal(*(pipe.predict_proba(table) for pipe in pipes))


def test_equal_encoders_give_equal_files_and_paths_may_be_strings(saved, tmp_path):
    encoder, path, _ = saved
    encoder.save(str(tmp_path / "again"))
    assert (tmp_path / "again").read_bytes() == path.read_bytes()
    assert CMIMEncoder.load(str(tmp_path / "again")).n_iter_ == 2


def test_files_can_be_read_with_zipfile_and_safetensors(saved):
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
def test_files_of_every_format_version_load(version):
    path = file_of(version, "cmim")
    assert path.stat().st_size < 50_000
    with zipfile.ZipFile(path) as file:
        assert json.loads(file.read(archive.MANIFEST))["version"] == version
    expected = json.loads(file_of(version, "json").read_text())
    encoder, table = CMIMEncoder.load(path, device="cpu"), make_table()[:8]
    found = outputs(encoder, table)
    assert found.keys() == expected.keys()
    assert found["loss_curve_"] == expected["loss_curve_"]
    # Other processors round differently.
    np.testing.assert_allclose(found["transform"], expected["transform"], rtol=1e-3, atol=1e-3)
    # Other releases estimate scores with other codes.
    scores, errors = encoder.score_samples(table, return_error=True)
    assert (np.abs(scores - expected["score_samples"]) < 4 * errors).all()
    for name in ("reconstruct", "sample"):
        one, other = (
            pd.DataFrame(e[name]["data"], columns=e[name]["columns"]) for e in (found, expected)
        )
        pd.testing.assert_frame_equal(one, other, rtol=1e-3, atol=0.011, check_dtype=False)


@pytest.mark.parametrize(
    "columns",
    ["from_dtype", None, ["age"], (1, 3), np.array([1, 3]), [False, True] + 6 * [False]],
    ids=["from_dtype", "none", "name", "tuple", "array", "mask"],
)
def test_encoders_of_early_format_versions_can_be_trained_further(mixed, columns):
    """Versions 1 and 2 had the parameters of the schema as one string."""
    encoder = small_encoder("CMIMEncoder", warm_start=True, categorical_features=columns)
    encoder.fit(mixed)
    before = encoder._built
    early = {name: value for name, value in before.items() if name not in COLUMN_PARAMETERS}
    early["columns"] = repr([columns, "quantile", 256, None])
    upgrade(encoder.get_params(deep=False), early)
    assert early == before
    encoder._built = early
    encoder.fit(mixed)
    encoder.partial_fit(mixed)


@pytest.mark.parametrize(
    ("few", "many", "parameters"),
    [
        (8000, 12_000, {"n_components": 2, "hidden_layer_sizes": (64,)}),
        pytest.param(20_000, 50_000, {}, marks=pytest.mark.slow),
    ],
)
def test_files_hold_nothing_for_each_row(tmp_path, few, many, parameters):
    table, sizes = make_mixed(many), []
    for n in (few, many):
        path = tmp_path / f"{n}.cmim"
        CMIMEncoder(max_iter=1, random_state=0, **parameters).fit(table[:n]).save(path)
        sizes.append(path.stat().st_size)
        with zipfile.ZipFile(path) as file:
            arrays = read_arrays(file.read(archive.ARRAYS))
        assert not [a.shape for a in arrays.values() if n in a.shape]
    assert abs(sizes[1] - sizes[0]) < many - few  # less than a byte for each row more


def test_training_rows_are_not_written(tmp_path):
    table = make_mixed(500)
    table["income"] = np.random.RandomState(1).randn(500) * 1e3  # all different
    encoder = small_encoder(max_iter=1).fit(table)
    encoder.save(tmp_path / "model.cmim")
    data = (tmp_path / "model.cmim").read_bytes()
    inner = np.sort(table["income"].to_numpy())[1:-1]
    kept = sum(np.float64(v).tobytes() in data or repr(float(v)).encode() in data for v in inner)
    assert kept <= 16  # the quantile map has 16 knots for 500 rows


def test_devices_are_checked_at_use(saved, tmp_path):
    encoder, _, table = saved
    encoder = copy.deepcopy(encoder).set_params(device="cuda:77")
    encoder.save(tmp_path / "model.cmim")
    again = CMIMEncoder.load(tmp_path / "model.cmim", device="cpu")
    assert again.device == "cpu"
    assert_array_equal(again.transform(table), encoder.set_params(device="cpu").transform(table))
    assert CMIMEncoder.load(tmp_path / "model.cmim").device == "auto"
    elsewhere = CMIMEncoder.load(tmp_path / "model.cmim", device="cuda:77")
    with pytest.raises(ValueError, match="'cuda:77' does not exist on this machine"):
        elsewhere.transform(table)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_file_from_a_gpu_loads_on_a_cpu(mixed, tmp_path):
    encoder = small_encoder(device="cuda").fit(mixed)
    encoder.save(tmp_path / "model.cmim")
    again = CMIMEncoder.load(tmp_path / "model.cmim", device="cpu")
    np.testing.assert_allclose(again.transform(mixed), encoder.transform(mixed), atol=1e-4)
    on_gpu = CMIMEncoder.load(tmp_path / "model.cmim", device="cuda")
    assert_array_equal(on_gpu.transform(mixed), encoder.transform(mixed))
