"""Layouts: dtypes that an untrusted file may name, and the bounds of integers."""

from fractions import Fraction

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from cmim_sklearn._tables.dtypes import (
    RANGE,
    TUPLES,
    Layout,
    describe_header,
    float_type,
    integer_bounds,
    is_same_name,
    number_bounds,
    pandas_columns,
    pandas_dtype,
)
from cmim_sklearn._tables.read import read
from cmim_sklearn._tables.saved import check_layout
from cmim_sklearn._tables.write import write
from cmim_sklearn._utils.archive import from_json, to_json


@pytest.mark.parametrize(
    ("library", "description"),
    [
        ("numpy", {"dtype": "V1000000000"}),
        ("numpy", {"dtype": "U1000000000"}),
        ("numpy", {"dtype": "(1000000,1000000)f8"}),
        ("numpy", {"dtype": "<M8[ps]"}),
        ("pandas", {"dtype": "arrow", "of": {"dtype": "float64"}}),
        ("pandas", {"dtype": "category", "categories": [], "of": {"dtype": "os"}, "ordered": True}),
        ("pandas", {"dtype": "float64", "categories": []}),
        ("polars", {"dtype": "read_csv", "source": "/etc/passwd"}),
        ("polars", {"dtype": "read_csv"}),
        ("polars", {"dtype": "DataFrame"}),
        ("polars", {"dtype": "Enum"}),
        ("pyarrow", {"dtype": "decimal", "precision": 1, "scale": 1}),
        ("pandas", {"dtype": "object", "scale": 10**9}),
        ("pandas", {"dtype": "object", "scale": "1"}),
        ("pandas", {"dtype": "int64", "scale": 1}),
        ("numpy", {"dtype": "|O", "of": "read"}),
        ("pyarrow", {"dtype": "dictionary", "index": "int8", "of": "read", "ordered": False}),
    ],
)
def test_unknown_dtypes_are_rejected(library, description):
    names = None if library == "numpy" else ["a"]
    with pytest.raises(ValueError, match=r"unknown dtype {.*} of \w+ in the saved schema"):
        check_layout(Layout(library, names, [description]))


@pytest.mark.parametrize(
    "description",
    [{"dtype": "<u2"}, {"dtype": "UInt16"}, {"dtype": "arrow", "of": {"dtype": "uint16"}}],
)
def test_integer_dtypes_of_every_library_have_bounds(description):
    assert integer_bounds(description) == (0, np.iinfo(np.uint16).max)
    assert integer_bounds({"dtype": "Float64"}) is None


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (np.float16, ["<f2", "halffloat"]),
        (np.float32, [">f4", "float32", "Float32", "float", "Sparse[float32, nan]"]),
        (np.float64, ["<f8", "float64", "Float64", "double"]),
        (None, ["<i4", "Int32", "object", "O", "bool", "category", "String", "decimal128"]),
    ],
)
def test_float_dtypes_of_every_library_have_a_numpy_type(kind, names):
    for name in names:
        assert float_type({"dtype": name}) is kind
        assert float_type({"dtype": "arrow", "of": {"dtype": name}}) is kind


@pytest.mark.parametrize(
    ("description", "largest"),
    [
        ({"dtype": "int8"}, 127),
        ({"dtype": "Sparse[uint8, 0]"}, 255),
        ({"dtype": "<f2"}, 65504),
        ({"dtype": "float"}, float(np.finfo(np.float32).max)),
        ({"dtype": "Decimal", "precision": 5, "scale": 2}, Fraction(99999, 100)),
        ({"dtype": "decimal128", "precision": 2, "scale": -3}, 99000),
        ({"dtype": "arrow", "of": {"dtype": "decimal128", "precision": 3, "scale": 3}}, 0.999),
    ],
)
def test_dtypes_of_numbers_have_bounds(description, largest):
    low, high = number_bounds(description)
    assert high == pytest.approx(largest, rel=1e-15)
    assert low in (-high, -high - 1, 0)
    for name in ("float64", "double", "object", "string"):
        assert number_bounds({"dtype": name}) is None
    # A file may state any precision.
    assert number_bounds({"dtype": "Decimal", "precision": 10**12, "scale": 0})[1] < 10**76


def test_columns_of_an_array_may_share_one_dtype():
    one, other = {"dtype": "<f8"}, {"dtype": "<i8"}
    assert Layout("numpy", None, [one]).dtype_of(3) == one
    layout = Layout("numpy", None, [{"dtype": "|O", "scale": 2}, {"dtype": "|O", "of": "float"}])
    check_layout(layout)
    assert layout.dtype_of(1)["of"] == "float"
    assert Layout("pandas", ["a", "b"], [one, other]).dtype_of(1) == other


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (Layout("excel", ["a"], [{"dtype": "f8"}]), "unknown dataframe library 'excel'"),
        (Layout("numpy", ["a"], [{"dtype": "<f8"}]), r"column names .*; got \['a'\] for numpy"),
        (Layout("pandas", None, [{"dtype": "f8"}]), "column names .*; got None for pandas"),
        (Layout("pandas", ["a"], []), r"got 0 dtypes for columns \['a'\]"),
        (Layout("pandas", [b"a"], [{"dtype": "float64"}]), r"numbers or tuples of them; got b'a'"),
    ],
)
def test_inconsistent_layouts_are_rejected(layout, message):
    with pytest.raises(ValueError, match=message):
        check_layout(layout)


@pytest.mark.parametrize(
    ("header", "names", "message"),
    [
        (
            {"of": {"dtype": "os"}, "names": [None]},
            ["a"],
            "unknown dtype {'dtype': 'os'} of pandas",
        ),
        ({"of": RANGE, "names": [None]}, ["a"], r"index of columns .* does not suit \['a'\]"),
        ({"of": RANGE, "names": []}, [1], r"index of columns .* does not suit \[1\]"),
        ({"of": TUPLES, "names": [["b"]]}, [("a",)], r"index of columns .* does not suit"),
        ({"of": TUPLES, "names": ["b"]}, [("a", 1)], r"index of columns .* does not suit"),
    ],
)
def test_inconsistent_headers_are_rejected(header, names, message):
    with pytest.raises(ValueError, match=message):
        check_layout(Layout("pandas", names, [{"dtype": "float64"}], header))


HEADERS = {
    "ints": pd.Index([3, 1], name="n"),
    "int32": pd.Index([3, 1], dtype="int32"),
    "numpy ints": pd.Index([np.int64(3), np.int64(1)], dtype=object),
    "floats": pd.Index([0.5, np.nan]),
    "booleans": pd.Index([True, None], dtype=object),
    "large ints": pd.Index([2**63 + 1, 5]),
    "range": pd.RangeIndex(5, 1, -2, name="r"),
    "one": pd.RangeIndex(7, 8),
    "words": pd.Index(["", "a"], name=("x", 1)),
    "objects": pd.Index(["a", "b"], dtype=object),
    "strings": pd.Index(["a", "b"], dtype="string"),
    "categories": pd.CategoricalIndex(["b", "a"], ["a", "c", "b"], ordered=True, name="c"),
    "tuples": pd.Index([("a", 1), ("b", 2)], tupleize_cols=False),
    "levels": pd.MultiIndex.from_tuples([("a", 1), ("a", 2)], names=["x", None]),
}


@pytest.mark.parametrize("columns", HEADERS.values(), ids=HEADERS)
def test_names_of_pandas_columns_come_back_as_they_were(columns):
    arrays = {}
    dtypes = [{"dtype": "float64"}] * len(columns)
    layout = Layout("pandas", list(columns), dtypes, describe_header(columns))
    again = Layout(**from_json(to_json(layout.state(), "layout", arrays), arrays))
    check_layout(again)
    pd.testing.assert_index_equal(pandas_columns(again), columns, exact=True)
    assert [type(name) for name in pandas_columns(again)] == [type(name) for name in columns]
    assert all(map(is_same_name, again.names, columns))


def test_names_without_a_header_are_a_list():
    assert pandas_columns(Layout("pandas", ["a", "b"], [{"dtype": "float64"}] * 2)) == ["a", "b"]


def library_of(X):
    return type(X).__module__.split(".")[0]


@pytest.mark.parametrize(
    "X",
    [
        pl.DataFrame({"a": [1.5]}, schema={"a": pl.Decimal(3, 1)}),
        pl.DataFrame({"a": [1.5]}, schema={"a": pl.Float32}),
        pa.table({"a": pa.array([1.5], pa.float64()).cast(pa.decimal128(3, 1))}),
        pa.table({"a": pa.array([1.5], pa.float32())}),
        pd.DataFrame({"a": np.array([1.5], np.float16)}),
        pd.DataFrame({"a": pd.array([1.5], dtype="Float32")}),
        np.array([[1.5]], np.float16),
    ],
    ids=library_of,
)
def test_numbers_beyond_the_dtype_become_its_bounds(X):
    frame = read(X)
    back = read(write(frame.layout, [np.array([-1e300, 2.5, 1e300])], frame.types))
    low, high = map(float, number_bounds(frame.layout.dtype_of(0)))
    np.testing.assert_allclose(back.columns[0], [low, 2.5, high], rtol=1e-15)


@pytest.mark.parametrize("dtype", ["int8", "Int8", "Sparse[int8, 0]", "int8[pyarrow]"])
def test_numbers_of_an_integer_dtype_are_rounded(dtype):
    frame = read(pd.DataFrame({"a": pd.array([1, 0], dtype=dtype)}))
    back = write(frame.layout, [np.array([0.4, 1.6])], frame.types)
    assert back["a"].tolist() == [0, 2]
    assert back["a"].dtype == dtype


@pytest.mark.parametrize(
    "dtype",
    [
        pd.SparseDtype("float64", 0.0),
        pd.SparseDtype("float32", -1.5e-7),
        pd.SparseDtype("int16", 3),
        pd.SparseDtype("bool", True),
        np.dtype(">i4"),
        np.dtype(">f8"),
    ],
    ids=str,
)
def test_sparse_and_big_endian_columns_of_pandas(dtype):
    X = pd.DataFrame({"a": pd.Series([1.0, 0.0, 1.0]).astype(dtype)})
    layout = read(X).layout
    assert pandas_dtype(layout.dtype_of(0)) == dtype
    pd.testing.assert_frame_equal(write(layout, read(X).columns, read(X).types), X)


def test_names_with_nan_are_equal_at_any_depth():
    nan, other = float("nan"), float("nan")
    assert is_same_name(("a", (nan, 1)), ("a", (other, 1)))
    assert not is_same_name(("a", nan), ("b", other))
    assert not is_same_name(("a", nan), ("a", nan, 1))
    assert not is_same_name(("a",), "a")
