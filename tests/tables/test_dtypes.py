"""Layouts: dtypes that an untrusted file may name, and the bounds of integers."""

from fractions import Fraction

import numpy as np
import pytest

from cmim_sklearn._tables.dtypes import (
    Layout,
    check_layout,
    float_type,
    integer_bounds,
    number_bounds,
)


@pytest.mark.parametrize(
    ("library", "description"),
    [
        ("numpy", {"dtype": "V1000000000"}),
        ("numpy", {"dtype": "U1000000000"}),
        ("numpy", {"dtype": "(1000000,1000000)f8"}),
        ("numpy", {"dtype": "<M8[s]"}),
        ("pandas", {"dtype": "arrow", "of": {"dtype": "float64"}}),
        ("pandas", {"dtype": "category", "categories": [], "of": {"dtype": "os"}, "ordered": True}),
        ("pandas", {"dtype": "float64", "categories": []}),
        ("polars", {"dtype": "read_csv", "source": "/etc/passwd"}),
        ("polars", {"dtype": "read_csv"}),
        ("polars", {"dtype": "DataFrame"}),
        ("polars", {"dtype": "Enum"}),
        ("pyarrow", {"dtype": "decimal", "precision": 1, "scale": 1}),
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


def test_columns_of_an_array_share_one_dtype():
    one, other = {"dtype": "<f8"}, {"dtype": "<i8"}
    assert Layout("numpy", None, [one]).dtype_of(3) == one
    assert Layout("pandas", ["a", "b"], [one, other]).dtype_of(1) == other


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (Layout("excel", ["a"], [{"dtype": "f8"}]), "unknown dataframe library 'excel'"),
        (Layout("numpy", ["a"], [{"dtype": "<f8"}]), r"column names .*; got \['a'\] for numpy"),
        (Layout("pandas", None, [{"dtype": "f8"}]), "column names .*; got None for pandas"),
        (Layout("pandas", ["a"], []), r"got 0 dtypes for columns \['a'\]"),
        (Layout("pandas", [("a",)], [{"dtype": "float64"}]), r"strings or numbers; got \('a',\)"),
    ],
)
def test_inconsistent_layouts_are_rejected(layout, message):
    with pytest.raises(ValueError, match=message):
        check_layout(layout)
