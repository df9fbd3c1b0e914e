"""Sizes of numbers in a table."""

from decimal import Decimal

import numpy as np
import pytest

from cmim_sklearn._tables.read import as_numbers
from cmim_sklearn._tables.sizes import check_exact, finite
from tests.helpers import objects


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (10**400, r"1\.00e\+400"),
        (-(10**4100), r"-1\.00e\+4100"),
        (Decimal("1E+400"), r"1e\+400"),
        (Decimal("-Infinity"), "-Infinity"),
        (np.inf, "inf"),
        (2e305, r"2e\+305"),
    ],
)
def test_numbers_that_are_too_large_are_shown(value, text):
    match = rf"Column 'x' must hold numbers from -1e\+305 to 1e\+305, or NaN; got {text} in row 8\."
    with pytest.raises(ValueError, match=match):
        as_numbers(objects(None, 3, value), "x", 6)


def test_numbers_up_to_the_limit_are_kept():
    values = np.array([1e305, np.nan, -1e305])
    assert finite(values, "x", 0) is values


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (10**4000, r"from -1e\+305 to 1e\+305.* got 1\.00e\+4000 in row 6"),
        (Decimal("1E+999999"), r"from -1e\+305 to 1e\+305.* got 1e\+999999 in row 6"),
        (Decimal("Infinity"), r"from -1e\+305 to 1e\+305.* got Infinity in row 6"),
        (Decimal("1E-101"), "Decimals of at most 100 decimals; got 1e-101 in row 6"),
        (Decimal("-3.25E-99"), "Decimals of at most 100 decimals; got -3.25e-99 in row 6"),
    ],
)
def test_numbers_that_cannot_be_levels_raise(value, text):
    with pytest.raises(ValueError, match=f"Column 'x' must hold .*{text}"):
        check_exact(objects(None, value), np.array([np.nan, _as_float(value)]), "x", 5)


def test_large_numbers_and_100_decimals_can_be_levels():
    values = [10**3999, Decimal("1E+3999"), Decimal("1E-100"), Decimal("0E-400"), None]
    check_exact(objects(*values), np.array([np.inf, np.inf, 1e-100, 0, np.nan]), "x", 0)


def _as_float(value):
    try:
        return float(value)
    except OverflowError:
        return np.inf
