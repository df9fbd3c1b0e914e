"""Writing of tables: dtypes of each library, imputed missing values."""

import json
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from cmim_sklearn._tables.dtypes import Layout
from cmim_sklearn._tables.read import read
from cmim_sklearn._tables.write import fill, write


def round_trip(X, index=None):
    frame = read(X)
    # Through JSON, as in a saved encoder.
    layout = Layout(**json.loads(json.dumps(frame.layout.state())))
    return write(layout, frame.columns, frame.types, index)


PANDAS = {
    "int64": pd.Series([3, 1, 2]),
    "uint8": pd.Series([3, 1, 2], dtype="uint8"),
    "float32": pd.Series([0.5, np.nan, 2], dtype="float32"),
    "bool": pd.Series([True, False, True]),
    "Int64": pd.Series([3, None, 2], dtype="Int64"),
    "Float64": pd.Series([0.5, None, 2], dtype="Float64"),
    "boolean": pd.Series([True, None, False], dtype="boolean"),
    "string": pd.Series(["a", None, "b"], dtype="string"),
    "str": pd.Series(["a", None, "b"], dtype="str"),
    "object strings": pd.Series(["a", None, "b"], dtype=object),
    "object numbers": pd.Series([1, None, 2.5], dtype=object),
    "object booleans": pd.Series([True, None, False], dtype=object),
    "category": pd.Series(pd.Categorical(["b", None, "a"], categories=["b", "a", "unused"])),
    "ordered": pd.Series(pd.Categorical(["lo", "hi", None], ["lo", "hi"], ordered=True)),
    "category of ints": pd.Series(pd.Categorical([3, 1, None], [1, 2, 3])),
    "category of booleans": pd.Series(pd.Categorical([True, False, None])),
    "arrow int": pd.Series([3, None, 2], dtype="int64[pyarrow]"),
    "arrow string": pd.Series(["a", None, "b"], dtype=pd.ArrowDtype(pa.string())),
    "arrow bool": pd.Series([True, None, False], dtype="bool[pyarrow]"),
}


@pytest.mark.parametrize("name", PANDAS)
def test_pandas_round_trip(name):
    frame = pd.DataFrame({"x": PANDAS[name]}, index=[10, 30, 20])
    frame["x"] = PANDAS[name].array
    back = round_trip(frame, index=frame.index)
    if name == "str":  # its missing value differs between pandas versions
        assert back["x"].isna().tolist() == frame["x"].isna().tolist()
    pd.testing.assert_frame_equal(back, frame)


POLARS = {
    "Int32": pl.Series([3, None, 2], dtype=pl.Int32),
    "Float32": pl.Series([0.5, None, 2], dtype=pl.Float32),
    "Boolean": pl.Series([True, None, False]),
    "String": pl.Series(["a", None, "b"]),
    "Categorical": pl.Series(["a", None, "b"], dtype=pl.Categorical),
    "Enum": pl.Series(["a", None, "b"], dtype=pl.Enum(["b", "a", "c"])),
    "Decimal": pl.Series([Decimal("1.50"), None, Decimal("2.25")], dtype=pl.Decimal(10, 2)),
    "Null": pl.Series([None, None, None]),
}


@pytest.mark.parametrize("name", POLARS)
def test_polars_round_trip(name):
    from polars.testing import assert_frame_equal

    frame = pl.DataFrame({"x": POLARS[name]})
    assert_frame_equal(round_trip(frame), frame)


PYARROW = {
    "int16": pa.array([3, None, 2], pa.int16()),
    "float32": pa.array([0.5, None, 2], pa.float32()),
    "bool": pa.array([True, None, False]),
    "string": pa.array(["a", None, "b"]),
    "large_string": pa.array(["a", None, "b"], pa.large_string()),
    "dictionary": pa.array(["a", None, "b"]).dictionary_encode(),
    "decimal": pa.array([Decimal("1.50"), None, Decimal("2.25")], pa.decimal128(10, 2)),
    "decimal256": pa.array([Decimal("1.50"), None, Decimal("2.25")], pa.decimal256(50, 2)),
    "null": pa.nulls(3),
    "ordered": pa.array(["a", None, "b"]).dictionary_encode().cast(
        pa.dictionary(pa.int32(), pa.string(), ordered=True)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PYARROW)
def test_pyarrow_round_trip(name):
    table = pa.table({"x": PYARROW[name]})
    back = round_trip(table)
    assert back.schema == table.schema
    assert back.to_pylist() == table.to_pylist()


@pytest.mark.parametrize(
    "X",
    [
        np.array([[1.5, 2.0], [3.0, 4.0]], dtype=np.float32),
        np.array([[1, 2], [3, 4]]),
        np.array([[True, False], [False, False]]),
        np.array([["a", "b"], ["c", "a"]]),
        np.array([["a", 1], [None, 2.5]], dtype=object),
    ],
    ids=lambda X: X.dtype.str,
)
def test_arrays_round_trip(X):
    back = round_trip(X)
    assert back.dtype == X.dtype
    np.testing.assert_array_equal(back, X)


def test_a_list_of_numbers_is_an_array_of_numbers():
    for X, dtype in (([[1, 2], [3, 4]], np.int64), ([[1, 2.5], [np.nan, 4]], np.float64)):
        back = round_trip(X)
        assert back.dtype == dtype
        np.testing.assert_array_equal(back, X)


@pytest.mark.parametrize("dtype", ["int64", "uint64", "int8", "Int64", "UInt64", "int64[pyarrow]"])
def test_integers_stay_within_their_dtype(dtype):
    ends = np.iinfo(dtype.split("[")[0].lower())
    frame = pd.DataFrame({"x": pd.Series([ends.min, 0, ends.max], dtype=dtype)})
    back = round_trip(frame)["x"]
    assert back.dtype == frame["x"].dtype
    # Computations use float64, which has 53 bits of precision.
    assert back.astype(float).tolist() == pytest.approx(frame["x"].astype(float), rel=1e-15)
    assert [int(back.iloc[0]) < 0, int(back.iloc[2]) > 0] == [ends.min < 0, True]
    as_polars = pl.DataFrame({"x": pl.Series([ends.min, 0, ends.max])})
    assert round_trip(as_polars).schema == as_polars.schema


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="needs numpy 2")
def test_variable_width_strings_of_numpy_round_trip():
    X = np.array([["a", "bb"], ["ccc", "a"]], dtype=np.dtypes.StringDType())
    back = round_trip(X)
    assert back.dtype == X.dtype
    assert back.tolist() == X.tolist()


@pytest.mark.parametrize(
    "X",
    [
        np.array([[1.0, np.nan], [np.nan, 4.0], [5.0, 6.0]]),
        np.array([[1.0, np.nan], [np.nan, 4.0], [5.0, 6.0]], dtype=np.float32),
        [[1.0, None], [None, 4.0], [5.0, 6.0]],
    ],
)
def test_fill_changes_only_missing_values(X):
    frame = read(X)
    rows, columns = np.array([0, 1]), [np.array([7.0, 8.0]), np.array([9.0, 10.0])]
    before = np.array(X, dtype=object)
    out = fill(X, frame, frame.layout, frame.types, rows, columns)
    np.testing.assert_array_equal(out.astype(float), [[1, 9], [8, 4], [5, 6]])
    assert (np.array(X, dtype=object)[2] == before[2]).all()


def test_fill_rounds_for_integer_dtypes_and_adds_categories():
    X = pd.DataFrame(
        {
            "n": pd.array([1, None], dtype="Int16"),
            "c": pd.Categorical(["a", None], categories=["a"]),
            "f": [np.nan, 2.5],
        },
        index=[4, 2],
    )
    frame = read(X)
    columns = [np.array([0.0, 3.7]), np.array([None, "z"], object), np.array([3.7, 0.0])]
    out = fill(X, frame, frame.layout, frame.types, np.array([0, 1]), columns)
    assert out["n"].tolist() == [1, 4]
    assert out["c"].tolist() == ["a", "z"]
    assert out["f"].tolist() == [3.7, 2.5]
    assert out.index.tolist() == [4, 2]
    assert out["n"].dtype == "Int16"


@pytest.mark.parametrize(
    "X",
    [
        pd.DataFrame({"t": ["x", None]}),
        pd.DataFrame({"t": pd.array([True, None], dtype="boolean")}),
        pd.DataFrame({"t": pd.Categorical(["x", None])}),
        pl.DataFrame({"t": ["x", None]}),
        pl.DataFrame({"t": pl.Series([None, None])}),
        pa.table({"t": ["x", None]}),
        pa.table({"t": pa.array(["x", None]).dictionary_encode()}),
        np.array([["x"], [None]], dtype=object),
    ],
    ids=lambda X: type(X).__module__.split(".")[0],
)
def test_fill_does_not_change_columns_without_any_value_in_fit(X):
    fitted = read(pd.DataFrame({"t": [np.nan]}))
    out = fill(X, read(X), fitted.layout, fitted.types, np.array([1]), fitted.columns)
    assert read(out).layout == read(X).layout
    np.testing.assert_array_equal(read(out).columns[0], read(X).columns[0])


@pytest.mark.parametrize(
    "fitted",
    [
        pd.DataFrame({"c": pd.Categorical(["a", "b"])}),
        pl.DataFrame({"c": pl.Series(["a", "b"], dtype=pl.Categorical)}),
        pl.DataFrame({"c": pl.Series(["a", "b"], dtype=pl.Enum(["b", "a"]))}),
        pa.table({"c": pa.array(["a", "b"]).dictionary_encode()}),
    ],
    ids=["pandas", "polars", "polars Enum", "pyarrow"],
)
def test_fill_writes_levels_into_a_column_of_nan(fitted):
    frame = read(fitted)
    make = pa.table if isinstance(fitted, pa.Table) else type(fitted)
    missing = make({"c": np.array([np.nan, np.nan])})
    out = fill(missing, read(missing), frame.layout, frame.types, np.arange(2), frame.columns)
    assert read(out).layout == frame.layout
    assert read(out).columns[0].tolist() == ["a", "b"]
