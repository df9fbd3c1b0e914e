"""Numeric scaling: monotone maps of one column to standardised units, with inverse and slope.

A new scaling is one function ``observed values (n,) -> ScalingMap`` and one line in `SCALINGS`.
"""

import numpy as np
from scipy.special import ndtri

MIN_KNOTS, MAX_KNOTS = 10, 100
ROWS_PER_KNOT = 30
ATOM_SHARE = 0.05


class ScalingMap:
    """A monotone, piecewise linear map of one numeric column, linear beyond its last knots.

    Parameters
    ----------
    x : array of shape (n_knots,)
        Knots in the column's own unit, strictly increasing.
    y : array of shape (n_knots,)
        Their images in standardised units, strictly increasing.
    atoms : sequence of int, default=()
        Positions of knots that are single values held by many rows, such as the zero of an amount
        that is mostly zero.
    """

    def __init__(self, x, y, atoms=()):
        self.x = np.asarray(x, dtype=np.float64)
        self.y = np.asarray(y, dtype=np.float64)
        self.atoms = [int(atom) for atom in atoms]

    def forward(self, values):
        """Map values of shape (n,) to standardised units; NaN stays NaN."""
        return _interpolate(values, self.x, self.y)

    def inverse(self, scaled):
        """Map standardised values of shape (n,) back to the column's own unit."""
        return _interpolate(scaled, self.y, self.x)

    def snap(self, scaled):
        """Move standardised values (n,) that lie nearer to an atom than to the next knot onto it.

        Without this a draw from a column that is nine tenths zero would hardly ever be zero.
        """
        scaled = np.array(scaled, dtype=np.float64)
        for atom in self.atoms:
            around = self.y[max(0, atom - 1) : atom + 2]
            low, high = (around[0] + self.y[atom]) / 2, (around[-1] + self.y[atom]) / 2
            scaled[(scaled >= low) & (scaled <= high)] = self.y[atom]
        return scaled

    def slope(self, values):
        """D forward / d value at values of shape (n,), in standardised units per own unit.

        ``log_density(forward(v)) + log(slope(v))`` is a density in the column's own unit.
        """
        slopes = np.diff(self.y) / np.diff(self.x)
        return slopes[np.clip(np.searchsorted(self.x, values) - 1, 0, len(slopes) - 1)]


def _interpolate(values, x, y):
    inside = np.interp(values, x, y)
    first, last = (y[1] - y[0]) / (x[1] - x[0]), (y[-1] - y[-2]) / (x[-1] - x[-2])
    out = np.where(values < x[0], y[0] + (values - x[0]) * first, inside)
    return np.where(values > x[-1], y[-1] + (values - x[-1]) * last, out)


def quantile_map(values):
    """Map to normal scores: the rank (i - 1/2) / n of a value, through the normal quantiles.

    Ties get their mean rank. A knot for every 30 rows, from 10 to 100 of them, since a density
    with K knots overfits by about K / (2 n) nats a row; the tails go on with the last slopes. A
    value that 5 % of the rows hold is a knot, as are its neighbours, and `snap` knows it.

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
    ranks = (np.cumsum(counts) - counts / 2) / len(values)
    n_knots = int(np.clip(len(values) // ROWS_PER_KNOT, MIN_KNOTS, MAX_KNOTS))
    if len(levels) > n_knots:
        # An atom and the values next to it are knots, so that the map rises between them.
        heavy = np.flatnonzero(counts >= ATOM_SHARE * len(values))
        forced = np.concatenate([heavy - 1, heavy, heavy + 1]).clip(0, len(levels) - 1)
        wanted = np.linspace(ranks[0], ranks[-1], max(2, n_knots - len(np.unique(forced))))
        spread = np.searchsorted(ranks, wanted).clip(0, len(ranks) - 1)
        kept = np.unique(np.concatenate([spread, forced]))
        levels, ranks, counts = levels[kept], ranks[kept], counts[kept]
    # Neighbours closer than rounding would have a slope of no meaning, or an infinite one.
    apart = np.diff(levels) > 8 * np.spacing(np.maximum(np.abs(levels[1:]), np.abs(levels[:-1])))
    kept = np.concatenate([[True], apart])
    if kept.sum() < 2:
        return standard_map(values)
    raw = ScalingMap(levels[kept], ndtri(ranks[kept]))
    scores = raw.forward(values)
    atoms = np.flatnonzero(counts[kept] >= ATOM_SHARE * len(values))
    return ScalingMap(raw.x, (raw.y - scores.mean()) / max(scores.std(), 1e-6), atoms)


def standard_map(values):
    """Subtract the mean of the observed values (n,) and divide by their standard deviation."""
    # Of values brought to at most 1, since squares of large ones overflow.
    largest = max(np.abs(values), default=0.0) or 1.0
    centre, spread = 0.0, 0.0
    if len(values):
        centre = float(np.mean(values / largest) * largest)
        spread = float(np.std(values / largest) * largest)
    if not spread > 1e-12 * abs(centre):
        spread = max(1.0, abs(centre))
    return ScalingMap([centre - spread, centre + spread], [-1.0, 1.0])


def identity_map(values):
    """Leave the values as they are: the standardised unit is the column's own."""
    return ScalingMap([0.0, 1.0], [0.0, 1.0])


SCALINGS = {"quantile": quantile_map, "standard": standard_map, None: identity_map}
