"""Origins of numeric columns that float64 cannot hold exactly.

Such a column counts from its smallest number, so that neighbours stay distinct in float64.
"""

import math
import warnings
from decimal import Decimal
from fractions import Fraction

import numpy as np

from cmim_sklearn._likelihoods import LIKELIHOODS
from cmim_sklearn._tables.dtypes import scale_of
from cmim_sklearn._tables.read import CATEGORY, as_objects
from cmim_sklearn._tables.wide import EXACT, MAX_SCALE, distinct, is_exact_object, is_wide
from cmim_sklearn._utils.messages import shown
from cmim_sklearn._utils.stacklevel import user_stacklevel

TINY = 400
"""Number of zeros after the point of a Decimal that is 0 in float64."""


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


def find_origins(frame, kinds, summaries):
    """Origins, by position, of the numeric columns that float64 cannot hold exactly."""
    origins = {}
    for p, (values, kind) in enumerate(zip(frame.columns, kinds, strict=True)):
        if LIKELIHOODS[kind].takes == CATEGORY:
            if values.dtype != object and is_wide(values):
                _warn_of_float_codes(frame.name(p))
            continue
        if LIKELIHOODS[kind].is_count:  # which are limited, and cannot be relative
            continue
        ends = set() if summaries is None else {summaries[p].low, summaries[p].high}
        if values.dtype != object and not any(map(is_exact_object, ends)):
            continue
        found = distinct(as_objects(values)) | ends
        origin = Origin.fit(found, scale_of(frame.layout.dtype_of(p)) or 0)
        if origin is not None:
            origins[p] = origin
        if not LIKELIHOODS[kind].has_levels:
            _warn_of_merged(frame.name(p), found, origin)
    return origins


def _warn_of_float_codes(name):
    """Warn of codes that pandas has read as floats, for example because one was missing."""
    warnings.warn(
        f"Column {name!r} holds levels beyond 2**53 as floats, in which neighbouring integers are "
        "equal. Read the column as integers (in pandas with dtype 'Int64') or as strings.",
        UserWarning,
        stacklevel=user_stacklevel(),
    )


def _warn_of_merged(name, found, origin):
    """Warn if float64 cannot tell some numbers of a column apart, even from their origin."""
    exact = np.array(list(found), dtype=object)
    as_floats = exact.astype(np.float64) if origin is None else origin.relative(exact)
    n_merged = len(found) - len(np.unique(as_floats))
    if n_merged:
        warnings.warn(
            f"Column {name!r} has {len(found)} distinct numbers, so far apart that {n_merged} of "
            "them are equal to others in double precision. If they are codes, name the column in "
            "categorical_features.",
            UserWarning,
            stacklevel=user_stacklevel(),
        )
