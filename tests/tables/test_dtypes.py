"""Layouts: dtypes of columns, and the bounds of their numbers."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from cmim_sklearn._tables.dtypes import (
    Layout,
    float_type,
    integer_bounds,
    number_bounds,
    pandas_dtype,
)
from cmim_sklearn._tables.read import read
from cmim_sklearn._tables.write import write


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


def test_columns_of_an_array_share_one_dtype():
    one, other = {"dtype": "<f8"}, {"dtype": "<i8"}
    assert Layout("numpy", None, [one]).dtype_of(3) == one
    assert Layout("pandas", ["a", "b"], [one, other]).dtype_of(1) == other


@pytest.mark.parametrize(
    ("description", "largest"),
    [
        ({"dtype": "Float16"}, 65504),
        ({"dtype": "<f4"}, float(np.finfo("f4").max)),
        ({"dtype": "arrow", "of": {"dtype": "halffloat"}}, 65504),
        ({"dtype": "Decimal", "precision": 4, "scale": 2}, 99.99),
        ({"dtype": "decimal256", "precision": 2, "scale": -3}, 99e3),
        ({"dtype": "decimal128", "precision": 38, "scale": 0}, 1e38),
        ({"dtype": "Sparse[int8, 0]"}, 127),
    ],
)
def test_numbers_of_small_dtypes_have_bounds(description, largest):
    assert number_bounds(description)[1] == pytest.approx(largest, rel=1e-15)
    assert number_bounds({"dtype": "float64"}) is None
    assert number_bounds({"dtype": "string"}) is None


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
    low, high = number_bounds(frame.layout.dtype_of(0))
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
