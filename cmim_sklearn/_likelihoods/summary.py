"""Column summaries over all rows, gathered one part at a time."""

import copy
from collections import Counter

import numpy as np

MOST_DECIMALS = 6
LARGEST_MULTIPLE = 2**52
FEW = 1000
"""Number of values after which most columns turn out to have no step beyond their decimals."""


class ColumnSummary:
    """Summary of a column that needs all of its values: range, decimals, levels.

    Parameters
    ----------
    has_levels : bool, default=False
        Whether values, numbers or not, are counted as levels of a category.

    Attributes
    ----------
    n_seen : int
        Number of observed values.
    low, high : float, int or Decimal
        Smallest and largest number; NaN without numbers.
    distinct : set of float, int or Decimal
        Distinct numbers, at most three of them.
    not_a_count : tuple of (int, float) or None
        Row and value of the first number that is negative or not whole.
    counts : Counter
        Frequency of each level, if there are levels.
    """

    def __init__(self, has_levels=False):
        self.has_levels = has_levels
        self.n_seen, self._total = 0, 0.0
        # Both precisions, since 0.1 is another number in float32.
        self._is_single, self._decimals = True, {np.float32: 0, np.float64: 0}
        self.low = self.high = np.nan
        self.distinct, self.not_a_count, self.counts = set(), None, Counter()
        self._first, self._multiple, self._places = None, 0, 0

    @property
    def mean(self):
        """Mean of the numbers; NaN without numbers."""
        return np.nan if self.has_levels or not self.n_seen else self._total / self.n_seen

    @property
    def decimals(self):
        """Number of decimals that write all numbers exactly; None if more than 6 are needed."""
        decimals = self._decimals[np.float32 if self._is_single else np.float64]
        is_exact = not self.has_levels and self.n_seen and decimals <= MOST_DECIMALS
        return decimals if is_exact else None

    @property
    def multiple(self):
        """Largest whole number m of which all differences between numbers are multiples.

        It counts units of the last decimal; 0 if there is no difference, None if it is unknown.
        """
        return None if self.decimals is None else self._multiple

    def as_level(self):
        """Summary of the column as a category, for a column with one distinct number."""
        summary = ColumnSummary(has_levels=True)
        summary.n_seen, summary.counts[self.low] = self.n_seen, self.n_seen
        return summary

    def add(self, values, first_row=0):
        """Add values (m,) of the column: floats with NaN, or objects with None.

        Objects without levels are numbers that float64 may not hold exactly.

        Returns
        -------
        self : ColumnSummary
        """
        if self.has_levels:
            is_object = values.dtype == object
            counts = Counter(values.tolist() if is_object else values[~np.isnan(values)].tolist())
            counts.pop(None, None)
            self.counts.update(counts)
            self.n_seen += sum(counts.values())
            return self
        exact, values = values, values.astype(np.float64, copy=False)
        is_seen = ~np.isnan(values)
        exact, observed = exact[is_seen], values[is_seen]
        if len(observed):
            # As Python numbers, which compare exactly.
            low, high = np.array([exact.min(), exact.max()], exact.dtype).tolist()
            self.low = min(self.low, low) if self.n_seen else low
            self.high = max(self.high, high) if self.n_seen else high
            self.n_seen += len(observed)
            with np.errstate(over="ignore", invalid="ignore"):
                self._total += observed.sum()
            others = exact if len(self.distinct) < 3 else ()
            while len(others) and len(self.distinct) < 3:  # at most three passes, without sorting
                others = others[~np.isin(others, np.array(list(self.distinct), exact.dtype))]
                self.distinct.update(others[:1].tolist())
            self._add_decimals(observed)
            self._add_multiple(observed)
            if self.not_a_count is None:
                is_bad = (values < 0) | (values != np.round(values)) & is_seen
                bad = np.flatnonzero(is_bad)
                if len(bad):
                    self.not_a_count = first_row + int(bad[0]), float(values[bad[0]])
        return self

    def _add_decimals(self, observed):
        with np.errstate(over="ignore"):
            self._is_single &= bool(np.all(observed.astype(np.float32) == observed))
        for kind, most in self._decimals.items():
            if most <= MOST_DECIMALS and (self._is_single or kind is np.float64):
                self._decimals[kind] = max(most, _decimals_of(observed, kind))

    def _add_multiple(self, observed):
        decimals = self.decimals
        if decimals is None or self._multiple is None:
            return
        if self._first is None:
            self._first, self._places = observed[0], decimals
        if decimals < self._places:  # single precision was given up
            self._multiple = None
            return
        self._multiple *= 10 ** (decimals - self._places)
        self._places = decimals
        for part in (observed[:FEW], observed[FEW:]):
            if self._multiple == 1 or not len(part):
                return
            self._multiple = common_multiple(part - self._first, decimals, self._multiple)
            if self._multiple is None:
                return

    def moved(self, span, distinct, decimals):
        """Summary of the same numbers, counted from the smallest, with a number of decimals."""
        summary = copy.copy(self)
        summary.low, summary.high, summary.distinct = 0.0, span, distinct
        summary._is_single, summary._decimals = False, {np.float64: decimals}
        summary._multiple = None
        return summary


def summarise(columns, has_levels=False):
    """Summaries of complete columns."""
    return [ColumnSummary(has_levels).add(column) for column in columns]


def common_multiple(differences, decimals, other=0):
    """Greatest common divisor of differences (n,), in units of a decimal, and another number.

    None if double precision does not hold them.
    """
    with np.errstate(over="ignore"):
        multiples = np.abs(np.round(differences * 10.0**decimals))
    if multiples.max() > LARGEST_MULTIPLE:
        return None
    return int(np.gcd.reduce(multiples.astype(np.int64), initial=other))


def _decimals_of(values, kind):
    """Number of decimals, at most 7, that write all values (n,) exactly as floats of a type."""
    if np.all(values == np.round(values)):
        return 0
    with np.errstate(over="ignore"):  # large numbers have no decimals
        for decimals in range(1, MOST_DECIMALS + 1):
            if np.all(np.round(values, decimals).astype(kind) == values.astype(kind)):
                return decimals
    return MOST_DECIMALS + 1
