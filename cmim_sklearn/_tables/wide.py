"""Numbers that float64 cannot hold exactly: integers beyond 2**53, long Decimals."""

from decimal import Decimal

import numpy as np

EXACT = 2.0**53
"""Number up to which float64 holds all integers."""
MAX_SCALE = 100
"""Largest number of decimals of a column of Decimals."""


def is_wide(values, scale=0):
    """Whether float64 may not be exact for one of values (n,) that have `scale` decimals."""
    return bool((np.abs(values) >= EXACT / 10.0**scale).any())


def is_exact_object(value):
    """Whether a value of a column is a number that must not become a float."""
    return isinstance(value, Decimal) or (isinstance(value, int) and abs(value) >= EXACT)


def decimals_of(values):
    """Largest number of decimals, at most `MAX_SCALE`, of the Decimals among values."""
    places = [-v.as_tuple().exponent for v in values if isinstance(v, Decimal) and v.is_finite()]
    return min(max([0, *places]), MAX_SCALE)


def distinct(values):
    """Distinct observed values of a column of a `Frame`, as a set or an array."""
    if values.dtype == object:
        return set(values.tolist()) - {None}
    return np.unique(values[~np.isnan(values)])
