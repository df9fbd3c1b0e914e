"""Scaling maps of dates of which some days and hours of the week are more frequent than others."""

import numpy as np
from scipy.special import chdtri

from cmim_sklearn._utils.messages import shown

N_DAYS, N_HOURS = 7, 168
"""Number of bins of a week: days for whole days, hours for finer steps."""
MAX_BINS = 200_000
"""Most days, or hours, between the first and last date of a column: 22 years of hours."""
CHANCE = 0.001
"""Probability of the test by which equally frequent bins get different shares."""
MIN_PER_HOUR = 5
"""Least mean number of dates in an hour of the week from which hours depend on the day."""
CLOSED = 0.05
"""Share of a bin, relative to equal ones, below which it counts as closed."""
_MONDAY = np.datetime64("1970-01-05")


class Week:
    """Bins of the week in which the dates of a clock lie, on the wall clock of its zone.

    Step k of the clock reaches from k - 1/2 to k + 1/2. The bins are days for a clock of whole
    days, and hours for finer steps that divide an hour.

    Parameters
    ----------
    clock : Clock

    Attributes
    ----------
    n_bins : int
        Number of bins of a week; 0 if the clock has longer steps, spans less than two weeks or too
        many bins, or has more counts than float64 can hold.
    """

    def __init__(self, clock):
        unit, self._last = np.datetime_data(clock.dtype)[0], clock.last
        day = np.timedelta64(1, "D").astype(f"m8[{unit}]").astype(np.int64).item()
        is_daily = clock.size == day and clock.step == "day"
        size = day if is_daily else day // 24  # 0 in units of a day
        self._per_bin, rest = divmod(size, clock.size)
        self._per_week = 7 * day // clock.size
        is_sound = clock.dtype.kind == "M" and size and not rest and not clock.is_wide
        is_sound &= clock.last >= 2 * self._per_week
        if not is_sound or clock.last > MAX_BINS * self._per_bin:
            self.n_bins = 0
            return
        self.n_bins = N_DAYS if is_daily else N_HOURS
        # The offset of the zone is constant from one start to the next.
        starts = np.unique(np.append(0.0, np.ceil(clock.changes()).clip(0, clock.last)))
        local = (clock.local(clock.absolute(starts)) - _MONDAY).astype(f"m8[{unit}]")
        self._starts = starts
        self._firsts = (local.astype(np.int64) // clock.size % self._per_week).astype(float)

    def places(self, counts):
        """Segments (n,) of constant offset, and positions (n,) in steps since a Monday."""
        times = np.asarray(counts, np.float64) + 0.5
        segment = np.searchsorted(self._starts, times, side="right").clip(1) - 1
        return segment, times - self._starts[segment] + self._firsts[segment]

    def counts(self, segments, positions):
        """Counts (n,) of the result of `places`."""
        return positions - self._firsts[segments] + self._starts[segments] - 0.5

    def bins(self, positions):
        """Bins (n,), 0 from Monday on, of positions (n,); 0 for NaN."""
        bins = np.floor(np.nan_to_num(positions) % self._per_week / self._per_bin)
        return bins.astype(np.int64).clip(max=self.n_bins - 1)

    def moved(self, counts, closed):
        """Counts (n,), of which those in closed bins are moved to the nearest step in an open one.

        ``closed`` are bins, of which at least one is missing.
        """
        segments, positions = self.places(np.round(counts))
        bins = np.arange(self.n_bins)
        opened = np.setdiff1d(bins, closed)
        around = np.concatenate([opened - self.n_bins, opened, opened + self.n_bins])
        at = np.searchsorted(around, bins)
        here = self.bins(positions)
        start = self._per_bin * (np.floor(positions / self._per_bin) - here)
        later = start + self._per_bin * around[at][here] + 0.5
        earlier = start + self._per_bin * (around[at - 1][here] + 1) - 0.5
        nearest = np.where(positions - earlier <= later - positions, earlier, later)
        return self.counts(segments, np.where(np.isin(here, closed), nearest, positions))

    def ends(self):
        """Counts, ascending, of the ends of all bins in the range of the clock."""
        edges = []
        stops = np.append(self._starts[1:], self._last + 1)
        for start, stop, first in zip(self._starts, stops, self._firsts, strict=True):
            edges += [[start], np.arange(start + -first % self._per_bin, stop, self._per_bin)]
        return np.unique(np.concatenate([*edges, stops[-1:]])) - 0.5

    def edges(self, shares):
        """Positions of the ends of the bins of one week, and those that give bins their shares."""
        ends = np.cumsum([0.0, *shares])
        return self._per_bin * np.arange(self.n_bins + 1.0), self._per_week * ends / ends[-1]

    def starts(self, source, target):
        """Stretched starts of the segments, (J,), and what they add to stretched positions, (J,).

        Positions are stretched from the edges of bins in ``source`` to those in ``target``.
        """
        before = _along(self._firsts, source, target)
        stops = _along(self._firsts[:-1] + np.diff(self._starts), source, target)
        starts = np.append(0.0, np.cumsum(stops - before[:-1]))
        return starts, starts - before


def _along(positions, source, target):
    """Positions (n,) on a piecewise linear map of the edges of one week, repeated each week."""
    weeks = source[-1] * np.floor(positions / source[-1])
    return weeks + np.interp(positions - weeks, source, target)


def weekly_shares(clock, counts):
    """Shares of the bins of a `Week`, among the dates at counts (n,), from Monday on.

    Hours are the product of a share of the day and one of the hour of the day, unless hours depend
    on the day. None if no shares differ from equal ones.
    """
    week = Week(clock)
    if not week.n_bins:
        return None
    bins = week.bins(week.places(counts[~np.isnan(counts)])[1])
    seen = np.bincount(bins, minlength=week.n_bins).reshape(N_DAYS, -1).astype(float)
    n, n_hours = seen.sum(), seen.shape[1]
    by_day = _shares(seen.sum(1))
    by_hour = _shares(seen.sum(0))
    shares = np.outer(by_day, by_hour)
    if n >= MIN_PER_HOUR * N_HOURS and _differ(seen, shares, (N_DAYS - 1) * (n_hours - 1)):
        shares = (seen + seen.size * shares) / (n + seen.size)  # one more date in each, on average
    return None if np.ptp(shares) == 0 else shares.ravel().tolist()


def closed_bins(shares):
    """Bins of the week with hardly any dates, given their shares."""
    return np.flatnonzero(len(shares) * np.array(shares) < CLOSED)


def _shares(seen):
    """Shares (K,) of bins with numbers of dates; equal ones if these differ by chance only."""
    equal = np.full(len(seen), 1 / len(seen))
    if len(seen) == 1 or not _differ(seen, equal, len(seen) - 1):
        return equal
    return (seen + 0.5) / (seen + 0.5).sum()  # no bin is impossible


def _differ(seen, shares, n_free):
    """Whether a likelihood-ratio test finds numbers of dates to differ from shares."""
    expected = np.maximum(seen.sum() * shares, 1e-300)
    g = 2 * (seen * np.log(np.where(seen > 0, seen, expected) / expected)).sum()
    return g > chdtri(n_free, CHANCE)


class WeeklyMap:
    """Scaling map of counts in which the bins of the week have lengths given by shares.

    Bins are stretched so that weeks keep their length, and then mapped by a `ScalingMap`. The
    probability of a step is that of its stretched interval, so those of all steps sum to one.

    Parameters
    ----------
    scaling : ScalingMap
        Map of stretched counts.
    shares : list of float
        Share of each bin of the `Week` of the clock, as `weekly_shares` returns them.
    clock : Clock
    """

    def __init__(self, scaling, shares, clock):
        self._week = Week(clock)
        n_bins = self._week.n_bins
        if not n_bins:
            raise ValueError(
                "weekly shares need steps of a day, or steps that divide an hour, over two weeks; "
                f"got steps of {clock.size} {np.datetime_data(clock.dtype)[0]} and a last count of "
                f"{clock.last}."
            )
        is_sound = isinstance(shares, list) and len(shares) == n_bins
        if not is_sound or not all(type(s) is float and 0 < s < 1 for s in shares):
            raise ValueError(
                f"weekly shares must be {n_bins} floats between 0 and 1; got {shown(shares)}."
            )
        self.scaling, self.shares, self._clock = scaling, shares, clock
        self._even, self._uneven = self._week.edges(shares)
        self._starts, self._added = self._week.starts(self._even, self._uneven)
        self._lengths = n_bins * np.array(shares) / sum(shares)
        self.below, self.above = scaling.below, scaling.above
        self.is_linear = scaling.is_linear

    def state(self):
        """State of the `ScalingMap`."""
        return self.scaling.state()

    def stretch(self, counts):
        """Stretched counts (n,)."""
        segments, positions = self._week.places(counts)
        return self._added[segments] + _along(positions, self._even, self._uneven)

    def forward(self, values):
        return self.scaling.forward(self.stretch(values))

    def inverse(self, scaled):
        times = self.scaling.inverse(scaled)
        segments = np.searchsorted(self._starts, times, side="right").clip(1) - 1
        positions = _along(times - self._added[segments], self._uneven, self._even)
        return self._week.counts(segments, positions)

    def slope(self, values):
        bins = self._week.bins(self._week.places(values)[1])
        return self.scaling.slope(self.stretch(values)) * self._lengths[bins]

    def interval(self, values):
        return self.scaling.interval(self.stretch(values))

    def without_atoms(self):
        plain = self.scaling.without_atoms()
        return self if plain is self.scaling else WeeklyMap(plain, self.shares, self._clock)

    def in_open(self, counts):
        """Counts (n,), moved from closed bins to the nearest step in an open one."""
        for _ in range(2):  # again, since clocks may change at the weekend
            counts = self._week.moved(counts, closed_bins(self.shares))
        return counts

    def breaks(self):
        """Encoded ends of the bins of the week, between which the map has no new bends."""
        return self.forward(self._week.ends())
