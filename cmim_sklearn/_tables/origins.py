"""Origins of numeric columns that float64 cannot hold exactly.

Such a column counts from its smallest number, so that neighbours stay distinct in float64.
"""

import math
import warnings
from collections import Counter
from decimal import Decimal
from fractions import Fraction

import numpy as np

from cmim_sklearn._likelihoods import LIKELIHOODS
from cmim_sklearn._tables.dtypes import scale_of
from cmim_sklearn._tables.read import CATEGORY, as_numbers, as_objects
from cmim_sklearn._tables.wide import MAX_SCALE, exact_below, is_exact_object, is_wide
from cmim_sklearn._utils.arrays import nearest_kept
from cmim_sklearn._utils.messages import number_text, shown
from cmim_sklearn._utils.stacklevel import user_stacklevel

MAX_KEPT = 1000
"""Maximum number of values of a column that are kept exactly."""


class Origin:
    """Smallest number of a column, from which the others are counted.

    Distances beyond 2**53 units are rounded, for example those of IDs from a sentinel such as -1.
    The most frequent numbers of such a column are kept, so that they can be generated exactly.

    Parameters
    ----------
    low, high : int
        Smallest and largest number of the column, in units of 10**-scale.
    scale : int
        Number of decimals; 0 for a column of integers.
    kept : list of int
        Numbers of the column that `absolute` returns exactly, in units of 10**-scale, ascending;
        empty if float64 holds all distances.
    """

    def __init__(self, low, high, scale=0, kept=()):
        is_sound = all(type(part) is int for part in (low, high, scale)) and low <= high
        if not is_sound or not 0 <= scale <= MAX_SCALE:
            raise ValueError(
                f"an origin must have ints low <= high and a scale from 0 to {MAX_SCALE}; got "
                f"{shown([low, high, scale])}."
            )
        self.low, self.high, self.scale = low, high, scale
        self.span = self._distance(high)
        if not all(type(units) is int and low <= units <= high for units in kept):
            raise ValueError(f"an origin must keep ints from low to high; got {shown(kept)}.")
        self.kept = list(kept)
        self._distances = np.array([self._distance(units) for units in kept], np.float64)
        if (np.diff(self._distances) <= 0).any():
            raise ValueError(f"kept numbers must differ and ascend; got {shown(kept)}.")

    @classmethod
    def fit(cls, values, scale=0):
        """Origin for observed numbers; None if float64 holds them, or if they mix with fractions.

        Parameters
        ----------
        values : Counter or collection of int, float or Decimal
            Numbers, with their frequencies in a Counter.
        scale : int
            Number of decimals of the Decimals among them.
        """
        if not values or any(isinstance(v, float) and not v.is_integer() for v in values):
            return None
        low, high = (round(_units(value, scale)) for value in (min(values), max(values)))
        if max(abs(low), abs(high)) < exact_below(scale):
            return None
        origin = cls(low, high, scale)
        if not origin.changed(values):
            return origin
        counts, kept = Counter(values), {}
        last = max(values)
        for value in sorted(counts, key=lambda v: (-counts[v], v != last))[:MAX_KEPT]:
            units = round(_units(value, scale))
            kept.setdefault(origin._distance(units), units)
        return cls(low, high, scale, sorted(kept.values()))

    def state(self):
        """Return the constructor's arguments."""
        state = {"low": self.low, "high": self.high, "scale": self.scale}
        return state | {"kept": self.kept} if self.kept else state

    def relative(self, values):
        """Distances (n,) from the smallest number, float64 with NaN, of a column of a `Frame`."""
        seen = [None if v != v else v for v in values.tolist()]
        return np.array(
            [math.nan if v is None else self._distance(_units(v, self.scale)) for v in seen],
            np.float64,
        )

    def _distance(self, units):
        ten, difference = 10**self.scale, units - self.low
        return float(difference / ten) if isinstance(difference, Fraction) else difference / ten

    def absolute(self, distances):
        """Numbers at distances (n,): objects, ints or Decimals, with None for NaN."""
        out = np.empty(len(distances), dtype=object)
        units = map(self._at, distances.tolist(), self._nearest(distances))
        out[:] = [
            Decimal(f"{u}E-{self.scale}") if self.scale and u is not None else u for u in units
        ]
        return out

    def _at(self, distance, kept):
        if distance != distance:
            return None
        if kept is not None:
            return kept
        if distance == self.span:  # which may be a rounded number
            return self.high
        return self.low + round(_units(distance, self.scale))

    def _nearest(self, distances):
        """Kept number at each of distances (n,) up to rounding; None where there is none."""
        if not self.kept:
            return [None] * len(distances)
        place, is_kept = nearest_kept(distances, self._distances)
        return [self.kept[p] if of else None for p, of in zip(place, is_kept, strict=True)]

    def changed(self, values):
        """Numbers of a collection that their distances change."""
        back = self.absolute(self.relative(_objects(values))).tolist()
        return [value for value, other in zip(values, back, strict=True) if value != other]

    def summary(self, summary):
        """`ColumnSummary` of the distances, from that of the numbers."""
        distinct = self.relative(_objects(summary.distinct)).tolist()
        return summary.moved(self.span, set(distinct), self.scale)


def _objects(values):
    return np.array([*values, None], dtype=object)[:-1]


def _units(value, scale):
    """Exact value in units of 10**-scale: an int or a Fraction."""
    if isinstance(value, int):
        return value * 10**scale
    if isinstance(value, float) and scale:  # 0.1 is the Decimal that it is written as
        value = Decimal(repr(value))
    return Fraction(value) * 10**scale


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
        has_ends = summaries is not None and summaries[p].n_seen
        ends = {summaries[p].low, summaries[p].high} if has_ends else set()
        if values.dtype != object and not any(map(is_exact_object, ends)):
            continue
        as_numbers(values, frame.name(p), frame.first_row)  # raises if one is too large
        found = Counter(as_objects(values).tolist())
        found.update(ends - found.keys())
        found.pop(None, None)
        scale = scale_of(frame.layout.dtype_of(p)) or 0
        origin = Origin.fit(found, scale)
        if origin is not None:
            origins[p] = origin
        if not LIKELIHOODS[kind].has_levels:
            _warn_of_changed(frame.name(p), found, origin, scale)
    return origins


def _warn_of_float_codes(name):
    """Warn of codes that pandas has read as floats, for example because one was missing."""
    warnings.warn(
        f"Column {name!r} holds levels beyond 2**53 as floats, in which neighbouring integers are "
        "equal. Read the column as integers (in pandas with dtype 'Int64') or as strings.",
        UserWarning,
        stacklevel=user_stacklevel(),
    )


def _warn_of_changed(name, found, origin, scale):
    """Warn if float64 changes some numbers of a column, even as distances from their origin."""
    if origin is None:
        changed = [v for v in found if _units(float(v), scale) != _units(v, scale)]
    else:
        changed = origin.changed(found)
        if scale:  # a fraction that occurs once, alone at its distance, is rounded like a float
            shared = Counter(origin.relative(_objects(found)).tolist())
            distances = origin.relative(_objects(changed)).tolist()
            pairs = zip(changed, distances, strict=True)
            changed = [v for v, distance in pairs if found[v] > 1 or shared[distance] > 1]
    if changed:
        warnings.warn(
            f"Column {name!r} has {len(found)} distinct numbers, so far apart that double "
            f"precision cannot hold {len(changed)} of them (such as {number_text(changed[0])}). "
            "Replace numbers that stand for a missing value, such as -1, with NaN or None. If the "
            "numbers are codes, name the column in categorical_features.",
            UserWarning,
            stacklevel=user_stacklevel(),
        )
