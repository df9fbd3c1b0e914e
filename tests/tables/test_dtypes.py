"""What describes dtypes: what a file of unknown origin may hold, and the bounds of integers."""

import numpy as np
import pytest

from cmim_sklearn._tables.dtypes import Layout, check_layout, integer_bounds


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
def test_dtypes_that_no_table_has(library, description):
    names = None if library == "numpy" else ["a"]
    with pytest.raises(ValueError, match="is no dtype of"):
        check_layout(Layout(library, names, [description]))


@pytest.mark.parametrize(
    "description",
    [{"dtype": "<u2"}, {"dtype": "UInt16"}, {"dtype": "arrow", "of": {"dtype": "uint16"}}],
)
def test_integers_of_any_library_have_bounds(description):
    assert integer_bounds(description) == (0, np.iinfo(np.uint16).max)
    assert integer_bounds({"dtype": "Float64"}) is None


def test_columns_of_an_array_share_one_dtype():
    one, other = {"dtype": "<f8"}, {"dtype": "<i8"}
    assert Layout("numpy", None, [one]).dtype_of(3) == one
    assert Layout("pandas", ["a", "b"], [one, other]).dtype_of(1) == other
