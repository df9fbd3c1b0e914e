"""Numbers that float64 cannot hold exactly: integers beyond 2**53, Decimals of 16 digits or more.

Columns of a `Frame` keep them as Python objects. A numeric column of a `Table` counts from its
smallest number, so that neighbours stay distinct in float64.
"""

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np

from cmim_sklearn._utils.messages import shown

EXACT = 2.0**53
"""Number up to which float64 holds all integers."""
MAX_SCALE = 100
"""Largest number of decimals of a column of Decimals."""
TINY = 400
"""Number of zeros after the point of a Decimal that is 0 in float64."""


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


class Origin:
    """Smallest number of a column, from which the others are counted.

    Parameters
    ----------
    low, high : int
        Smallest and largest number of the column, in units of 10**-scale.
    scale : int
        Number of decimals; 0 for a column of integers.
    """

    def __init__(self, low, high, scale=0):
        is_sound = all(type(part) is int for part in (low, high, scale)) and low <= high
        if not is_sound or not 0 <= scale <= MAX_SCALE:
            raise ValueError(
                f"an origin must have ints low <= high and a scale from 0 to {MAX_SCALE}; got "
                f"{shown([low, high, scale])}."
            )
        self.low, self.high, self.scale = low, high, scale
        self.span = (high - low) / 10**scale

    @classmethod
    def fit(cls, values, scale=0):
        """Origin for observed numbers; None if float64 holds them, or if they mix with fractions.

        Parameters
        ----------
        values : collection of int, float or Decimal
        scale : int
            Number of decimals of the Decimals among them.
        """
        if not values or any(isinstance(v, float) and not v.is_integer() for v in values):
            return None
        low, high = (_units(value, scale) for value in (min(values), max(values)))
        is_exact = max(abs(low), abs(high)) < EXACT
        return None if is_exact else cls(round(low), round(high), scale)

    def state(self):
        """Return the constructor's arguments."""
        return {"low": self.low, "high": self.high, "scale": self.scale}

    def relative(self, values):
        """Distances (n,) from the smallest number, float64 with NaN, of a column of a `Frame`."""
        ten, seen = 10**self.scale, [None if v != v else v for v in values.tolist()]
        return np.array(
            [
                math.nan if value is None else float((_units(value, self.scale) - self.low) / ten)
                for value in seen
            ],
            np.float64,
        )

    def absolute(self, distances):
        """Numbers at distances (n,): objects, ints or Decimals, with None for NaN."""
        out = np.empty(len(distances), dtype=object)
        out[:] = [None if d != d else self._at(d) for d in distances.tolist()]
        return out

    def _at(self, distance):
        # The span may be a rounded number.
        is_last = distance == self.span
        units = self.high if is_last else self.low + round(Fraction(distance) * 10**self.scale)
        return Decimal(f"{units}E-{self.scale}") if self.scale else units

    def summary(self, summary):
        """`ColumnSummary` of the distances, from that of the numbers."""
        found = np.array(list(summary.distinct), dtype=object)
        return summary.moved(self.span, set(self.relative(found).tolist()), self.scale)


def _units(value, scale):
    """Exact value in units of 10**-scale: an int or a Fraction."""
    if isinstance(value, int):
        return value * 10**scale
    is_tiny = isinstance(value, Decimal) and value.adjusted() < -TINY
    return 0 if is_tiny else Fraction(value) * 10**scale
