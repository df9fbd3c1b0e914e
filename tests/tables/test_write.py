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
from tests.helpers import objects


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
    "large Int64": pd.Series([2**63 - 1, None, -(2**63)], dtype="Int64"),
    "large uint64": pd.Series([2**64 - 1, 5, 2**64 - 2], dtype="uint64"),
    "large Sparse": pd.Series([2**63 - 1, 5, 2**63 - 2], dtype="Sparse[int64]"),
    "large objects": pd.Series([2**80 + 1, None, 5], dtype=object),
    "large arrow": pd.Series([2**64 - 1, None, 5], dtype="uint64[pyarrow]"),
    "category of large ints": pd.Series(pd.Categorical([2**60, 2**60 + 1, None])),
    "Decimals": pd.Series([Decimal("1.50"), None, Decimal("2.25")], dtype=object),
    "whole floats": pd.Series([3.0, None, 2.0], dtype=object),
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
    "Float64": pl.Series([1e300, None, -1e19], dtype=pl.Float64),
    "Boolean": pl.Series([True, None, False]),
    "String": pl.Series(["a", None, "b"]),
    "Categorical": pl.Series(["a", None, "b"], dtype=pl.Categorical),
    "Enum": pl.Series(["a", None, "b"], dtype=pl.Enum(["b", "a", "c"])),
    "UInt64": pl.Series([2**64 - 1, None, 5], dtype=pl.UInt64),
    "Int128": pl.Series([2**100 + 1, None, -5], dtype=pl.Int128),
    "Decimal": pl.Series([Decimal("1.50"), None, Decimal("2.25")], dtype=pl.Decimal(10, 2)),
    "long Decimal": pl.Series([Decimal(2**70), None, Decimal(5)], dtype=pl.Decimal(38, 0)),
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
    "uint64": pa.array([2**64 - 1, None, 5], pa.uint64()),
    "long decimal": pa.array([Decimal("12345678901234567890.25"), None], pa.decimal128(38, 2)),
    "dictionary of large ints": pa.array([2**60, 2**60 + 1, None]).dictionary_encode(),
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
    assert back.tolist() == frame["x"].tolist()
    as_polars = pl.DataFrame({"x": pl.Series([ends.min, 0, ends.max])})
    assert round_trip(as_polars).schema == as_polars.schema


MAX32 = float(np.finfo(np.float32).max)
NARROW = {
    "float32": (pd.DataFrame({"x": np.float32([0, MAX32])}), MAX32),
    "float16": (pd.DataFrame({"x": np.float16([0, 65504])}), 65504),
    "Float32": (pd.DataFrame({"x": pd.array([0, MAX32], "Float32")}), MAX32),
    "arrow": (pd.DataFrame({"x": pd.array([0, 1], "float[pyarrow]")}), MAX32),
    "half": (pa.table({"x": pa.array(np.float16([0, 1]))}), 65504),
    "polars": (pl.DataFrame({"x": pl.Series([0, 1], dtype=pl.Float32)}), MAX32),
    "array": (np.float32([[0], [MAX32]]), MAX32),
    "int8": (pd.DataFrame({"x": np.int8([0, 1])}), 127),
    "uint8": (np.uint8([[0], [1]]), 255),
    "sparse": (pd.DataFrame({"x": pd.arrays.SparseArray(np.uint8([0, 1]))}), 255),
    "decimal": (pa.table({"x": pa.array([0, 1]).cast(pa.decimal128(21, 1))}), 1e20),
    "Decimal": (pl.DataFrame({"x": pl.Series([0, 1]).cast(pl.Decimal(9, 2))}), 9999999.99),
}


@pytest.mark.parametrize("name", NARROW)
def test_numbers_beyond_a_dtype_become_its_largest(name):
    X, largest = NARROW[name]
    frame, columns = read(X), [np.array([1e305, -1e305])]
    values = read(write(frame.layout, columns, frame.types)).columns[0]
    assert float(values[0]) == pytest.approx(largest, rel=1e-15)
    assert values[1] in (-values[0], -128, 0)
    if name in ("int8", "uint8", "sparse"):
        return
    missing = X.copy() if isinstance(X, np.ndarray) else X
    if isinstance(X, np.ndarray):
        missing[0] = np.nan
    elif isinstance(X, pd.DataFrame):
        missing = X.mask(X == 0)
    elif isinstance(X, pl.DataFrame):
        missing = X.select(pl.when(pl.col("x") > 0).then(pl.col("x")))
    else:
        missing = pa.table({"x": pa.array([None, X["x"][1].as_py()], X["x"].type)})
    out = fill(missing, read(missing), frame.layout, frame.types, np.array([0]), [columns[0][:1]])
    assert read(out).layout == frame.layout
    assert read(out).columns[0].tolist() == [values[0], frame.columns[0][1]]


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


@pytest.mark.parametrize(
    ("fitted", "given", "found"),
    [
        ([Decimal("1.50"), None], [Decimal("1"), None], Decimal("2.57")),
        ([Decimal("1.50"), None], [None, None], Decimal("2.57")),
        ([Decimal("1.50"), None], [0.5, None], 2.571),
        ([1, None], [Decimal("1.5"), None], Decimal("2.6")),
        ([0.5, None], [None, None], 2.571),
        ([0.5, None], [1, None], 2.571),
    ],
)
def test_fill_keeps_the_type_of_numbers_of_objects(fitted, given, found):
    for make in (lambda v: pd.DataFrame({"a": v}, dtype=object), lambda v: np.array([v], object).T):
        layout, X = read(make(fitted)).layout, make(given)
        mask = np.array([value is None for value in given])
        columns = [np.full(mask.sum(), 2.571)]
        out = fill(X, read(X), layout, ["number"], np.flatnonzero(mask), columns)
        (value,) = np.asarray(out, dtype=object)[1]
        assert (type(value), str(value)) == (type(found), str(found))


def test_categories_of_large_integers_are_found_by_their_value():
    dtype = pd.CategoricalDtype([2**60, 2**60 + 1, 2**60 + 2])
    layout = read(pd.DataFrame({"a": pd.Series([2**60 + 1, 2**60], dtype=dtype)})).layout
    back = write(layout, [np.array([2**60 + 1, None, 2.0**60], object)], ["category"])
    assert back["a"].cat.codes.tolist() == [1, -1, 0]
    assert back["a"].dtype == dtype


@pytest.mark.parametrize(
    ("library", "of"),
    [
        ("pyarrow", {"dtype": "decimal128", "precision": 5, "scale": 2}),
        ("polars", {"dtype": "Decimal", "precision": 5, "scale": 2}),
        ("pandas", {"dtype": "arrow", "of": {"dtype": "decimal128", "precision": 5, "scale": 2}}),
    ],
)
def test_decimals_are_clipped_to_their_dtype(library, of):
    """Linear scalings generate numbers outside the range of the training values."""
    column = objects(Decimal("1000.50"), None, Decimal("-7.25"), -(10**30))
    table = write(Layout(library, ["x"], [of]), [column], ["number"])
    found = table["x"].to_pylist() if library == "pyarrow" else table["x"].to_list()
    found = [None if value is pd.NA else value for value in found]
    assert found == [Decimal("999.99"), None, Decimal("-7.25"), Decimal("-999.99")]
