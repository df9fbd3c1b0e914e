"""Numbers that float64 cannot hold exactly: integers beyond 2**53, long Decimals."""

from decimal import Decimal

import numpy as np

EXACT = 2.0**53
"""Number up to which float64 holds all integers."""
MAX_SCALE = 100
"""Largest number of decimals of a column of Decimals."""


def exact_below(scale):
    """Number of units of 10**-scale below which all numbers of a column differ in float64."""
    return 1e15 if scale else EXACT


def is_wide(values):
    """Whether float64 may not be exact for one of whole numbers (n,)."""
    return bool((np.abs(values) >= EXACT).any())


def is_exact_object(value):
    """Whether a value of a column is a number that must not become a float."""
    return isinstance(value, Decimal) or (isinstance(value, int) and abs(value) >= EXACT)


def decimals_of(values):
    """Largest number of decimals of the Decimals among values; without zeros after `MAX_SCALE`."""
    return max([0, *(_decimals(v) for v in values if isinstance(v, Decimal) and v.is_finite())])


def _decimals(value):
    digits, exponent = value.as_tuple()[1:]
    if exponent < -MAX_SCALE:
        n_zeros = len(digits) - len(bytes(digits).rstrip(b"\0"))
        exponent = min(exponent + n_zeros, -MAX_SCALE) if value else -MAX_SCALE
    return -exponent


def distinct(values):
    """Distinct observed values of a column of a `Frame`, as a set or an array."""
    if values.dtype == object:
        return set(values.tolist()) - {None}
    return np.unique(values[~np.isnan(values)])
