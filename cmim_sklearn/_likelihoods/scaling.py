"""Scaling of numeric columns: monotone maps to standardised units, with inverse and slope.

A new scaling is a function ``observed values (n,) -> ScalingMap`` and one line in `SCALINGS`.
"""

import numpy as np
from scipy.special import ndtri

MIN_KNOTS, MAX_KNOTS = 10, 100
ROWS_PER_KNOT = 30
ATOM_SHARE = 0.05
"""Minimum share of the rows that makes a repeated value an atom."""
SINGLE_PRECISION = 1.2e-7
MIN_GAP = 1e-300
"""Distance below which two numbers count as equal: the slope between them would overflow."""
MAX_SIZE = 1e305
"""Largest absolute number of a column: differences and means of larger ones overflow."""


class ScalingMap:
    """Monotone, piecewise linear map of one numeric column, extrapolated linearly.

    A knot may be an *atom*: a value shared by many rows, such as 0 in a column of amounts that are
    mostly zero. An atom covers an interval of standardised values, as wide as its share of the
    rows. The whole interval maps back to the atom, and the atom maps to ``y``, inside it.

    Parameters
    ----------
    x : array of shape (n_knots,)
        Knots in the raw unit, strictly increasing.
    y : array of shape (n_knots,)
        Knots in standardised units, strictly increasing.
    below, above : array of shape (n_knots,), default=None
        Ends of each knot's interval, ``below <= y <= above``; equal to ``y`` by default and for
        knots that are not atoms.

    Attributes
    ----------
    tails : tuple of float
        Slopes below the first and above the last knot.
    reach : array of shape (n_knots,)
        Distance from each knot within which a value counts as its atom; -1 for other knots.
    is_linear : bool
        Whether the map has two knots that are not atoms. Samples may leave the range of the values.
    """

    def __init__(self, x, y, below=None, above=None):
        self.x = np.asarray(x, dtype=np.float64)
        self.y = np.asarray(y, dtype=np.float64)
        self.below = self.y if below is None else np.asarray(below, dtype=np.float64)
        self.above = self.y if above is None else np.asarray(above, dtype=np.float64)
        # Computed once, since rows may come one at a time.
        self._gap, self._rise = np.diff(self.x), self.below[1:] - self.above[:-1]
        self.tails = tuple((np.diff(self.y) / self._gap)[[0, -1]])
        # float64 in fit may be float32 in use, in which 0.1 is another number. The values next to
        # an atom are knots, too, or whole numbers.
        gaps = np.concatenate([[np.inf], self._gap, [np.inf]])
        near = np.minimum(SINGLE_PRECISION * np.abs(self.x), np.minimum(gaps[:-1], gaps[1:]) / 8)
        self.reach = np.where(self.above > self.below, np.minimum(near, 0.25), -1.0)
        self._has_atoms = bool((self.reach >= 0).any())
        self.is_linear = len(self.x) == 2 and not self._has_atoms
        self._plain = None

    def state(self):
        """Return the constructor's arguments."""
        return {"x": self.x, "y": self.y, "below": self.below, "above": self.above}

    def __getstate__(self):
        return self.state()

    def __setstate__(self, state):
        self.__init__(**state)

    def forward(self, values):
        """Map values of shape (n,) to standardised units; NaN stays NaN."""
        values = np.asarray(values, dtype=np.float64)
        if not self._has_atoms:
            out = np.interp(values, self.x, self.y)
        else:
            left = self._left(values)
            share = np.clip((values - self.x[left]) / self._gap[left], 0, 1)
            out = self.above[left] + share * self._rise[left]
            for knot in (left, left + 1):
                out = np.where(self._is_atom(values, knot), self.y[knot], out)
        first, last = self.tails
        for outside, end, start, slope in (
            (values < self.x[0], self.x[0], self.below[0], first),
            (values > self.x[-1], self.x[-1], self.above[-1], last),
        ):
            if outside.any():
                with np.errstate(over="ignore"):
                    out[outside] = start + (values[outside] - end) * slope
        return out

    def inverse(self, scaled):
        """Map standardised values of shape (n,) back to the raw unit."""
        ends = np.stack([self.below, self.above], axis=1).ravel()
        first, last = self.tails
        out = np.interp(scaled, ends, np.repeat(self.x, 2))
        for outside, end, start, slope in (
            (scaled < ends[0], ends[0], self.x[0], first),
            (scaled > ends[-1], ends[-1], self.x[-1], last),
        ):
            if outside.any():
                with np.errstate(over="ignore"):
                    out[outside] = start + (scaled[outside] - end) / slope
        return out

    def slope(self, values):
        """Derivative of `forward` at values of shape (n,), in standardised per raw units.

        ``log_density(forward(v)) + log(slope(v))`` is a density in the raw unit, except at atoms.
        The slope is 0 between two atoms without a training value between them.
        """
        values = np.asarray(values, dtype=np.float64)
        left = self._left(values)
        out = self._rise[left] / self._gap[left]
        first, last = self.tails
        return np.where(values < self.x[0], first, np.where(values > self.x[-1], last, out))

    def interval(self, values):
        """Standardised interval that maps back to each of values (n,): low and high, each (n,).

        Both are equal, except at atoms.
        """
        values = np.asarray(values, dtype=np.float64)
        low = high = self.forward(values)
        if not self._has_atoms:
            return low, high
        left = self._left(values)
        for knot in (left, left + 1):
            is_atom = self._is_atom(values, knot)
            low = np.where(is_atom, self.below[knot], low)
            high = np.where(is_atom, self.above[knot], high)
        return low, high

    def without_atoms(self):
        """Return a map through the same knots, without atoms."""
        if not self._has_atoms:
            return self
        if self._plain is None:
            self._plain = ScalingMap(self.x, self.y)
        return self._plain

    def _left(self, values):
        """Index of the knot at or below each value, at most the last but one."""
        return np.clip(np.searchsorted(self.x, values, side="right") - 1, 0, len(self.x) - 2)

    def _is_atom(self, values, knot):
        """Whether each value counts as the atom at its knot."""
        return np.abs(values - self.x[knot]) <= self.reach[knot]


def quantile_map(values):
    """Map to normal scores: normal quantiles of the ranks (i - 1/2) / n.

    Ties get their mean rank. There is one knot per 30 rows, at least 10 and at most 100, since a
    density with K knots overfits by about K / (2 n) nats per row. The tails continue with the
    outermost slopes. A value shared by at least 5 % of the rows is an atom, and its neighbours are
    knots; in a column of whole numbers every knot is an atom.

    Parameters
    ----------
    values : array of shape (n,)
        Observed, finite values in the raw unit; n may be 0.

    Returns
    -------
    ScalingMap
        Map under which the training values have mean 0 and variance 1.
    """
    levels, counts = np.unique(values, return_counts=True)
    if len(levels) < 2:
        return standard_map(values)
    n, is_whole = len(values), bool(np.all(levels == np.round(levels)))
    ends = np.cumsum(counts)
    n_knots = int(np.clip(n // ROWS_PER_KNOT, MIN_KNOTS, MAX_KNOTS))
    if len(levels) > n_knots:
        # An atom and the values next to it are knots, so that the map rises between them.
        ranks = (ends - counts / 2) / n
        heavy = np.flatnonzero(counts >= ATOM_SHARE * n)
        forced = np.concatenate([heavy - 1, heavy, heavy + 1]).clip(0, len(levels) - 1)
        wanted = np.linspace(ranks[0], ranks[-1], max(2, n_knots - len(np.unique(forced))))
        spread = np.searchsorted(ranks, wanted).clip(0, len(ranks) - 1)
        kept = np.unique(np.concatenate([spread, forced]))
        levels, counts, ends = levels[kept], counts[kept], ends[kept]
    # Between neighbours closer than rounding the slope would be meaningless or infinite, unless
    # they are whole numbers, which are atoms.
    rounding = 8 * np.spacing(np.maximum(np.abs(levels[1:]), np.abs(levels[:-1])))
    is_distinct = np.diff(levels) > np.maximum(0 if is_whole else rounding, MIN_GAP)
    kept = np.concatenate([[True], is_distinct])
    if kept.sum() < 2:
        return _with_range(standard_map(values))
    levels, counts, ends = levels[kept], counts[kept], ends[kept]
    middle = ndtri((ends - counts / 2) / n)
    is_atom = (counts >= ATOM_SHARE * n) | is_whole
    # The outermost knots have no interval outward: values there are clipped to the range.
    below = np.where(is_atom & (ends > counts), ndtri((ends - counts) / n), middle)
    above = np.where(is_atom & (ends < n), ndtri(ends / n), middle)
    scores = ScalingMap(levels, middle, below, above).forward(values)
    centre, spread = scores.mean(), max(scores.std(), 1e-6)
    parts = ((part - centre) / spread for part in (middle, below, above))
    return _with_range(ScalingMap(levels, *parts))


def _with_range(scaling):
    """Map with a knot in the middle if it is linear, so that samples stay in the column's range."""
    if not scaling.is_linear:
        return scaling
    x, y = scaling.x, scaling.y
    return ScalingMap([x[0], x.mean(), x[1]], [y[0], y.mean(), y[1]])


def standard_map(values):
    """Subtract the mean of the observed values (n,) and divide by their standard deviation."""
    # Values are divided by the largest first, since squares of large values overflow.
    largest = max(np.abs(values), default=0.0) or 1.0
    centre, spread = 0.0, 0.0
    if len(values):
        centre = float(np.mean(values / largest) * largest)
        spread = float(np.std(values / largest) * largest)
    if not spread > max(8 * np.spacing(abs(centre)), MIN_GAP):
        spread = max(1.0, abs(centre))
    return ScalingMap([centre - spread, centre + spread], [-1.0, 1.0])


def identity_map(values):
    """Leave the values unchanged: the standardised unit is the raw one."""
    return ScalingMap([0.0, 1.0], [0.0, 1.0])


SCALINGS = {"quantile": quantile_map, "standard": standard_map, None: identity_map}
"""Functions that fit a map, by the value of the parameter ``numeric_scaling``."""
