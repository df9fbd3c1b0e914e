"""Numbers that float64 cannot hold exactly."""

from decimal import Decimal

import numpy as np

from cmim_sklearn._tables.wide import (
    MAX_SCALE,
    decimals_of,
    distinct,
    exact_below,
    is_exact_object,
    is_wide,
)
from tests.helpers import objects


def test_wide_numbers_and_their_decimals():
    assert not is_wide(np.array([2.0**53 - 1, np.nan]))
    assert is_wide(np.array([-(2.0**53), np.nan]))
    assert exact_below(0) == 2.0**53
    assert exact_below(2) == 1e15
    assert decimals_of([Decimal("1.50"), 3, None, Decimal("1E+3")]) == 2
    assert decimals_of([Decimal("1E-500")]) == 500
    assert decimals_of([Decimal("0E-500"), Decimal("0." + "50" * 99)]) == MAX_SCALE + 97
    assert decimals_of([Decimal("0E-500"), Decimal("0.5" + "0" * 500)]) == MAX_SCALE


def test_distinct_values_are_exact():
    assert distinct(objects(2**60, 2**60 + 1, None, 2**60)) == {2**60, 2**60 + 1}
    assert distinct(np.array([2.0, np.nan, 1.0, 2.0])).tolist() == [1, 2]
    found = [is_exact_object(value) for value in (2**53, Decimal("0.5"), 2**53 - 1, 2.0**60, True)]
    assert found == [True, True, False, False, False]
