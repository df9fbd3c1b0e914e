"""Grid of a numeric column: the values that its numbers take, to which samples are rounded."""

import numpy as np

from cmim_sklearn._likelihoods.scaling import ATOM_SHARE
from cmim_sklearn._likelihoods.summary import common_multiple

MIN_EVIDENCE = 1e4
"""Minimum of ``m ** (n - 2)`` for n different values whose differences are multiples of m units of
the last decimal: a few values have such an m by chance."""
MIN_KNOWN = 0.8
"""Minimum probability, by the estimate of Good and Turing, that a new row has a value that several
rows of fit share."""
MAX_KNOWN_BY_CHANCE = 0.5
"""Maximum share of such values among numbers that are only rounded to the step."""
MIN_ROWS_PER_VALUE, MAX_VALUES = 4, 1000
"""Minimum number of rows for each of these values, on average, and their maximum number: neither
samples nor files hold what is particular to a row."""
MAX_DECIMALS = 300


class Grid:
    """Values of a column: they differ by multiples of a step, or are values that rows share.

    Prices that end in .95, weights in steps of 0.005 and ages that are mostly whole are examples.

    Parameters
    ----------
    start, step : float
        All values are ``start + k * step``, for whole numbers k; step 0 means no common step.
    decimals : int or None
        Number of decimals of the values; None for full precision.
    values : array of shape (n_values,)
        Values that several rows share, ascending, if nearly all rows have one of them; else empty.

    Raises
    ------
    ValueError
        If the arguments, which may come from a damaged file, describe no grid.
    """

    def __init__(self, start, step, decimals, values):
        self.start, self.step = float(start), float(step)
        self.decimals = None if decimals is None else int(decimals)
        self.values = np.asarray(values, np.float64)
        has_step = self.decimals is not None and abs(self.decimals) <= MAX_DECIMALS
        is_sound = (
            np.isfinite([self.start, self.step]).all()
            and (self.step > 0 if has_step else self.step == 0)
            and self.values.ndim == 1
            and len(self.values) != 1
            and np.isfinite(self.values).all()
            and (np.diff(self.values) > 0).all()
        )
        if not is_sound:
            raise ValueError(
                f"a grid must have a finite start, a step above 0 and decimals, or step 0 and "
                f"decimals None, and no or several ascending values; got start={start}, "
                f"step={step}, decimals={decimals} and values of shape {self.values.shape}."
            )

    @classmethod
    def fit(cls, values, decimals, multiple=None):
        """Grid of a column; None if it is only that of the decimals.

        Parameters
        ----------
        values : array of shape (n,)
            Observed values, of all rows or a sample of them.
        decimals : int or None
            Number of decimals of all rows.
        multiple : int, default=None
            `ColumnSummary.multiple` of all rows. None: that of `values`.
        """
        levels, counts = np.unique(values, return_counts=True)
        if len(levels) < 2:
            return None
        step, unit = 0.0, 0.0
        if decimals is not None:
            unit = 10.0**-decimals
            multiple = common_multiple(levels - levels[0], decimals, multiple or 0)
            if multiple is None:
                return None
            has_evidence = (len(levels) - 2) * np.log(multiple) >= np.log(MIN_EVIDENCE)
            step = unit * multiple if has_evidence else unit
        shared = levels[counts > 1]
        if not _is_irregular(levels, counts, step):
            shared = shared[:0]
        is_plain = step == unit and not len(shared)
        return None if is_plain else cls(levels[0], step, decimals, shared)

    def state(self):
        """Return the constructor's arguments."""
        return {
            "start": self.start,
            "step": self.step,
            "decimals": self.decimals,
            "values": self.values,
        }

    def on_step(self, numbers):
        """Nearest numbers to numbers (n,) that differ from the start by multiples of the step."""
        multiples = np.round((numbers - self.start) / self.step)
        return np.round(self.start + multiples * self.step, self.decimals)

    def nearest(self, numbers):
        """Nearest values of the grid to numbers (n,); NaN stays NaN.

        Numbers below the smallest and above the largest shared value are rounded to the step.
        """
        if self.step:
            numbers = self.on_step(numbers)
        if not len(self.values):
            return numbers
        right = np.searchsorted(self.values, numbers).clip(1, len(self.values) - 1)
        low, high = self.values[right - 1], self.values[right]
        nearest = np.where(numbers - low < high - numbers, low, high)
        is_inside = (numbers > self.values[0]) & (numbers < self.values[-1])
        return np.where(is_inside, nearest, numbers)


def _is_irregular(levels, counts, step):
    """Whether nearly all rows share their value with others, more than a common step explains.

    Values of many rows, such as 0, are atoms of the scaling map, and not counted here.
    """
    is_shared, is_rare = counts > 1, counts < ATOM_SHARE * counts.sum()
    is_counted = is_shared & is_rare
    n_values, n_rows = is_counted.sum(), counts[is_counted].sum()
    is_common = 2 <= n_values <= min(MAX_VALUES, n_rows / MIN_ROWS_PER_VALUE)
    if not is_common or n_rows < MIN_KNOWN * counts[is_rare].sum():
        return False
    shared, counts = levels[is_shared], counts[is_shared]
    middles = (shared[1:] + shared[:-1]) / 2
    widths = np.diff(np.concatenate([shared[:1], middles, shared[-1:]]))
    by_chance = np.minimum(1, step / widths)[is_rare[is_shared]]
    return np.average(by_chance, weights=counts[is_rare[is_shared]]) <= MAX_KNOWN_BY_CHANCE
