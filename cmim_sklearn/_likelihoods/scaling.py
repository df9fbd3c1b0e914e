"""Numeric scaling: monotone maps of one column to standardised units, with inverse and slope.

A new scaling is one function ``observed values (n,) -> ScalingMap`` and one line in `SCALINGS`.
"""

import numpy as np
from scipy.special import ndtri

MIN_KNOTS, MAX_KNOTS = 10, 100
ROWS_PER_KNOT = 30
ATOM_SHARE = 0.05
SINGLE_PRECISION = 1.2e-7
MIN_GAP = 1e-300
"""Numbers closer than that are one: the slope between them would overflow."""


class ScalingMap:
    """A monotone, piecewise linear map of one numeric column, linear beyond its last knots.

    A knot may be an *atom*: a value that many rows hold, such as the zero of an amount that is
    mostly zero. It then stands for an interval of standardised values, as wide as its share of the
    rows: all of them map back to it, and it maps to ``y``, inside.

    Parameters
    ----------
    x : array of shape (n_knots,)
        Knots in the column's own unit, strictly increasing.
    y : array of shape (n_knots,)
        Their images in standardised units, strictly increasing.
    below, above : array of shape (n_knots,), default=None
        Ends of each knot's interval, ``below <= y <= above``; equal to ``y`` by default, and
        wherever the knot is no atom.

    Attributes
    ----------
    tails : tuple of float
        Slopes below the first knot and above the last.
    reach : array of shape (n_knots,)
        How far from each knot a value still is its atom; -1 if it is none.
    """

    def __init__(self, x, y, below=None, above=None):
        self.x = np.asarray(x, dtype=np.float64)
        self.y = np.asarray(y, dtype=np.float64)
        self.below = self.y if below is None else np.asarray(below, dtype=np.float64)
        self.above = self.y if above is None else np.asarray(above, dtype=np.float64)
        # Worked out once: rows may come one at a time.
        self._gap, self._rise = np.diff(self.x), self.below[1:] - self.above[:-1]
        self.tails = tuple((np.diff(self.y) / self._gap)[[0, -1]])
        # What was fitted as float64 may come as float32: 0.1 is then another number. The values
        # next to an atom are knots too, or whole numbers.
        gaps = np.concatenate([[np.inf], self._gap, [np.inf]])
        near = np.minimum(SINGLE_PRECISION * np.abs(self.x), np.minimum(gaps[:-1], gaps[1:]) / 8)
        self.reach = np.where(self.above > self.below, np.minimum(near, 0.25), -1.0)
        self._has_atoms = bool((self.reach >= 0).any())

    def state(self):
        """Return the constructor's arguments."""
        return {"x": self.x, "y": self.y, "below": self.below, "above": self.above}

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
        """Map standardised values of shape (n,) back to the column's own unit."""
        ends = np.stack([self.below, self.above], axis=1).ravel()
        first, last = self.tails
        out = np.interp(scaled, ends, np.repeat(self.x, 2))
        out = np.where(scaled < ends[0], self.x[0] + (scaled - ends[0]) / first, out)
        return np.where(scaled > ends[-1], self.x[-1] + (scaled - ends[-1]) / last, out)

    def slope(self, values):
        """D forward / d value at values of shape (n,), in standardised units per own unit.

        ``log_density(forward(v)) + log(slope(v))`` is a density in the column's own unit wherever v
        is no atom. It is 0 between two atoms that no training value lay between.
        """
        values = np.asarray(values, dtype=np.float64)
        left = self._left(values)
        out = self._rise[left] / self._gap[left]
        first, last = self.tails
        return np.where(values < self.x[0], first, np.where(values > self.x[-1], last, out))

    def interval(self, values):
        """The standardised values that map back to each of values (n,): low and high, each (n,).

        They are equal, save at atoms.
        """
        values = np.asarray(values, dtype=np.float64)
        low = high = self.forward(values)
        left = self._left(values)
        for knot in (left, left + 1):
            is_atom = self._is_atom(values, knot)
            low = np.where(is_atom, self.below[knot], low)
            high = np.where(is_atom, self.above[knot], high)
        return low, high

    def without_atoms(self):
        """The map through the same knots, none of which is an atom."""
        return ScalingMap(self.x, self.y)

    def _left(self, values):
        """Position of the knot at or below each value, the last but one at most."""
        return np.clip(np.searchsorted(self.x, values, side="right") - 1, 0, len(self.x) - 2)

    def _is_atom(self, values, knot):
        """Whether each value is the atom at its knot."""
        return np.abs(values - self.x[knot]) <= self.reach[knot]


def quantile_map(values):
    """Map to normal scores: the rank (i - 1/2) / n of a value, through the normal quantiles.

    Ties get their mean rank. A knot for every 30 rows, from 10 to 100 of them, since a density
    with K knots overfits by about K / (2 n) nats a row; the tails go on with the last slopes. A
    value that 5 % of the rows hold is a knot and an atom, and its neighbours are knots; in a column
    of whole numbers every knot is an atom.

    Parameters
    ----------
    values : array of shape (n,)
        Observed, finite values in the column's own unit; n may be 0.

    Returns
    -------
    ScalingMap
        The training values come out with mean 0 and variance 1.
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
    # Neighbours closer than rounding would have a slope of no meaning, or an infinite one.
    rounding = 8 * np.spacing(np.maximum(np.abs(levels[1:]), np.abs(levels[:-1])))
    apart = np.diff(levels) > np.maximum(rounding, MIN_GAP)
    kept = np.concatenate([[True], apart])
    if kept.sum() < 2:
        return standard_map(values)
    levels, counts, ends = levels[kept], counts[kept], ends[kept]
    middle = ndtri((ends - counts / 2) / n)
    is_atom = (counts >= ATOM_SHARE * n) | is_whole
    # The outermost knots have no end on their outer side: what lies beyond is cut to the range.
    below = np.where(is_atom & (ends > counts), ndtri((ends - counts) / n), middle)
    above = np.where(is_atom & (ends < n), ndtri(ends / n), middle)
    scores = ScalingMap(levels, middle, below, above).forward(values)
    centre, spread = scores.mean(), max(scores.std(), 1e-6)
    return ScalingMap(levels, *((part - centre) / spread for part in (middle, below, above)))


def standard_map(values):
    """Subtract the mean of the observed values (n,) and divide by their standard deviation."""
    # Of values brought to at most 1, since squares of large ones overflow.
    largest = max(np.abs(values), default=0.0) or 1.0
    centre, spread = 0.0, 0.0
    if len(values):
        centre = float(np.mean(values / largest) * largest)
        spread = float(np.std(values / largest) * largest)
    if not spread > max(1e-12 * abs(centre), MIN_GAP):
        spread = max(1.0, abs(centre))
    return ScalingMap([centre - spread, centre + spread], [-1.0, 1.0])


def identity_map(values):
    """Leave the values as they are: the standardised unit is the column's own."""
    return ScalingMap([0.0, 1.0], [0.0, 1.0])


SCALINGS = {"quantile": quantile_map, "standard": standard_map, None: identity_map}
