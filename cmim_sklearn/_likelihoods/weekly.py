"""Scaling maps of days of which some weekdays are more frequent than others."""

import numpy as np

from cmim_sklearn._utils.messages import shown

MIN_G = 22.46
"""Least likelihood-ratio statistic, against equal shares, of weekdays that are not equally
frequent: the 0.999 quantile of chi-squared with 6 degrees of freedom."""

MAX_DAYS = 100_000
"""Most days between the first and last date of a column."""


def has_weekdays(clock):
    """Whether a clock counts days, over some weeks."""
    return clock.step == "day" and 14 <= clock.last <= MAX_DAYS


def weekly_shares(clock, counts):
    """Shares (7,) of the days of the week among counts (n,), from that of count 0 on.

    None if they do not differ from equal shares, or if the steps are not days.
    """
    if not has_weekdays(clock):
        return None
    seen = np.bincount(counts[~np.isnan(counts)].astype(np.int64) % 7, minlength=7)
    n = seen.sum()
    g = 2 * (seen * np.log(np.maximum(seen, 1) * 7 / max(n, 1))).sum()
    # With half a day each, no weekday is impossible.
    return ((seen + 0.5) / (n + 3.5)).tolist() if g > MIN_G else None


class WeeklyMap:
    """Scaling map of counts of days whose length is the share of their weekday.

    A day k reaches from k - 1/2 to k + 1/2. It is stretched to 7 times the share of its weekday,
    so weeks keep their length, and is then mapped by a `ScalingMap`. The probability of a day is
    that of its stretched interval: the probabilities of all days still sum to one.

    Parameters
    ----------
    scaling : ScalingMap
        Map of stretched counts.
    shares : list of 7 float
        As `weekly_shares` returns them.
    """

    def __init__(self, scaling, shares):
        is_sound = isinstance(shares, list) and len(shares) == 7
        if not is_sound or not all(type(s) is float and 0 < s < 1 for s in shares):
            raise ValueError(
                f"weekly shares must be 7 floats between 0 and 1; got {shown(shares)}."
            )
        self.scaling, self.shares = scaling, shares
        ends = np.cumsum([0.0, *shares])
        self._ends = 7 * ends / ends[-1]
        self.below, self.above = scaling.below, scaling.above
        self.is_linear = scaling.is_linear

    def state(self):
        """State of the `ScalingMap`."""
        return self.scaling.state()

    def stretch(self, counts):
        """Stretched counts (n,)."""
        times = np.asarray(counts, np.float64) + 0.5
        weeks = 7 * np.floor(times / 7)
        return weeks + np.interp(times - weeks, np.arange(8), self._ends)

    def forward(self, values):
        return self.scaling.forward(self.stretch(values))

    def inverse(self, scaled):
        times = self.scaling.inverse(scaled)
        weeks = 7 * np.floor(times / 7)
        return weeks + np.interp(times - weeks, self._ends, np.arange(8)) - 0.5

    def slope(self, values):
        times = np.asarray(values, np.float64) + 0.5
        day = np.nan_to_num(np.floor(times) % 7).astype(np.int64)
        return self.scaling.slope(self.stretch(values)) * np.diff(self._ends)[day]

    def interval(self, values):
        return self.scaling.interval(self.stretch(values))

    def without_atoms(self):
        plain = self.scaling.without_atoms()
        return self if plain is self.scaling else WeeklyMap(plain, self.shares)

    def breaks(self, last):
        """Encoded ends of the days from 0 to last, between which the map has no new bends."""
        return self.forward(np.arange(last + 2) - 0.5)
