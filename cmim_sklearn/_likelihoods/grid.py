"""Grid of a numeric column: the values that its numbers take, to which samples are rounded."""

import numpy as np

from cmim_sklearn._likelihoods.scaling import ATOM_SHARE

MIN_KNOWN = 0.8
"""Minimum probability, by the estimate of Good and Turing, that a new row has a value that several
rows of fit share."""
MAX_KNOWN_BY_CHANCE = 0.5
"""Maximum share of such values among numbers that are only rounded to the step."""
LARGEST_MULTIPLE = 2**52


class Grid:
    """Values of a column: multiples of a step, or values that several rows share.

    Prices that end in .95, weights in steps of 0.005 and ages that are mostly whole are examples.

    Parameters
    ----------
    start, step : float
        All values are ``start + k * step``, for whole numbers k; step 0 means no common step.
    decimals : int or None
        Number of decimals of the values; None for full precision.
    values : array of shape (n_values,)
        Values that several rows share, ascending, if nearly all rows have one of them; else empty.
    """

    def __init__(self, start, step, decimals, values):
        self.start, self.step = float(start), float(step)
        self.decimals = None if decimals is None else int(decimals)
        self.values = np.asarray(values, np.float64)

    @classmethod
    def fit(cls, values, decimals):
        """Grid of observed values (n,) with some decimals; None if it is only that of decimals."""
        levels, counts = np.unique(values, return_counts=True)
        if len(levels) < 2:
            return None
        step, unit = 0.0, 0.0
        if decimals is not None:
            unit = 10.0**-decimals
            with np.errstate(over="ignore"):
                multiples = np.round((levels - levels[0]) / unit)
            if multiples[-1] > LARGEST_MULTIPLE:
                return None
            step = unit * float(np.gcd.reduce(multiples.astype(np.int64)))
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
        """Nearest multiples of the step, from the start, to numbers (n,)."""
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
    if is_counted.sum() < 2 or counts[is_counted].sum() < MIN_KNOWN * counts[is_rare].sum():
        return False
    shared, counts = levels[is_shared], counts[is_shared]
    middles = (shared[1:] + shared[:-1]) / 2
    widths = np.diff(np.concatenate([shared[:1], middles, shared[-1:]]))
    by_chance = np.minimum(1, step / widths)[is_rare[is_shared]]
    return np.average(by_chance, weights=counts[is_rare[is_shared]]) <= MAX_KNOWN_BY_CHANCE
