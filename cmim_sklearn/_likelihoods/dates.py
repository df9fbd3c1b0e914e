"""Likelihood of dates, times and durations: that of whole numbers, of the counts of a clock.

The clock of a column (`Clock`) is the only place that knows its origin, step, unit and time zone.
The raw columns of `Likelihood` are ``datetime64`` or ``timedelta64`` here.
"""

import warnings

import numpy as np
import torch

from cmim_sklearn._likelihoods.clock import Clock, ClockSummary
from cmim_sklearn._likelihoods.cycles import Cycles, choose_parts
from cmim_sklearn._likelihoods.gaussian import Gaussian
from cmim_sklearn._likelihoods.scaling import SCALINGS
from cmim_sklearn._likelihoods.weekly import WeeklyMap, weekly_shares
from cmim_sklearn._utils.stacklevel import user_stacklevel


class Dates(Gaussian):
    """Dates and times of day: a Gaussian of the whole steps since the first date.

    Parameters
    ----------
    clocks : list of C dicts
        Arguments of each column's `Clock`.
    parts : list of C lists of str
        Cyclic parts of each column that the encoder receives, see `Cycles`.
    shares : list of C (list of float or None)
        Shares of the days or hours of the week of each column, see `WeeklyMap`; None for equal
        shares.
    maps, low, high, decimals, n_seen
        As in `Gaussian`, of the counts.
    """

    takes = "datetime"
    is_cyclic = True

    def __init__(self, clocks, parts, shares, maps, low, high, decimals, n_seen):
        super().__init__(maps, low, high, decimals, n_seen)
        self.clocks = [Clock(**parts) for parts in clocks]
        is_sound = len(self.clocks) == self.n_columns and all(d == 0 for d in self.decimals)
        if not is_sound:
            raise ValueError("each column of dates must have a clock and whole counts.")
        for c, (clock, of) in enumerate(zip(self.clocks, shares, strict=True)):
            self.maps[c] = self.maps[c] if of is None else WeeklyMap(self.maps[c], of, clock)
        self.shares = list(shares)
        self.cycles = Cycles(self.clocks, self.maps, parts)
        self.n_inputs += self.cycles.n_inputs

    @classmethod
    def fit(
        cls, columns, names, *, summaries=None, zones=None, numeric_scaling="quantile", **options
    ):
        """Fit clocks and scaling maps.

        Dates are not numbers in a unit: with ``numeric_scaling=None`` they are standardised.
        ``zones`` are the names of the columns' time zones, or None for a column without one.
        """
        if summaries is None:
            zones = zones or [None] * len(columns)
            pairs = zip(columns, zones, strict=True)
            summaries = [ClockSummary(zone).add(column) for column, zone in pairs]
        clocks, maps, shares, high = [], [], [], []
        scaling = SCALINGS[numeric_scaling or "standard"]
        for column, name, summary in zip(columns, names, summaries, strict=True):
            clock = summary.clock()
            if clock.is_wide:
                clock = clock.keeping(column)
                _warn_of_merged(column, name, clock)
            counts = clock.relative(column)
            clocks.append(clock)
            seen = counts[~np.isnan(counts)]
            of_week = weekly_shares(clock, counts) if cls.is_cyclic else None
            shares.append(of_week)
            if of_week is None:
                maps.append(scaling(seen))
            else:
                stretch = WeeklyMap(scaling(seen), of_week, clock).stretch
                maps.append(WeeklyMap(scaling(stretch(seen)), of_week, clock))
            high.append(float(clock.last) if summary.n_seen else np.nan)
        low = np.where(np.isnan(high), np.nan, 0.0)
        fitted = [m.state() for m in maps]
        states = [clock.state() for clock in clocks]
        parts = choose_parts(clocks, maps, columns) if cls.is_cyclic else [[] for _ in clocks]
        n_seen = [summary.n_seen for summary in summaries]
        return cls(states, parts, shares, fitted, low, high, [0] * len(maps), n_seen)

    def state(self):
        counts = super().state()
        del counts["grids"]  # the clocks have the steps
        return {
            "clocks": [clock.state() for clock in self.clocks],
            "parts": self.cycles.parts,
            "shares": self.shares,
        } | counts

    def structure(self):
        return (*super().structure(), self.cycles.structure)

    def inputs(self, x, observed):
        """Standardised counts, then sine and cosine of the cyclic parts; zeros where unobserved."""
        values = super().inputs(x, observed)
        cycles = torch.where(self.cycles.of_cells(observed), self.cycles(values), 0.0)
        return torch.cat([values, cycles], 1)

    def _counts(self, columns):
        pairs = zip(self.clocks, columns, strict=True)
        return [clock.relative(column) for clock, column in pairs]

    def encode(self, columns):
        return super().encode(self._counts(columns))

    def measure(self, columns):
        """Measure the counts as whole numbers: `log_density` is the log probability of a step."""
        return super().measure(self._counts(columns))

    def decode(self, encoded, *, drawn=False):
        """Decode to dates on whole steps, within the training range."""
        counts = super().decode(encoded, drawn=drawn)
        return [clock.absolute(of) for clock, of in zip(self.clocks, counts, strict=True)]

    def expected(self, params, weights, columns=None, needed=None):
        """Mean of each cell, rounded to a whole step, on a day and hour that the data have."""
        columns = range(self.n_columns) if columns is None else columns
        counts = super().expected(params, weights, columns, needed)
        return [self._on_steps(c, of) for c, of in zip(columns, counts, strict=True)]

    def expected_of_normals(self, c, means, deviations, weights):
        """Mean of mixtures of normals; see `expected`."""
        return self._on_steps(c, super().expected_of_normals(c, means, deviations, weights))

    def _on_steps(self, c, counts):
        """Dates of a column at mean counts (n,)."""
        m = self.maps[c]
        counts = m.in_open(counts) if isinstance(m, WeeklyMap) else counts
        return self.clocks[c].absolute(counts)

    def constant_of(self, column):
        return None if super().constant_of(column) is None else self.clocks[column].low


class Durations(Dates):
    """Durations: as `Dates`, without months and time zones."""

    takes = "duration"
    is_cyclic = False


def _warn_of_merged(column, name, clock):
    """Warn if float64 cannot tell all dates of a column apart."""
    n_merged = clock.merged(column)
    if n_merged:
        warnings.warn(
            f"Column {name!r} has dates so far apart, in steps of {clock.steps_text()}, that "
            f"double precision cannot tell {n_merged} of them from others. Round the column to a "
            "coarser unit, or replace dates that stand for a missing value with NaT or None.",
            UserWarning,
            stacklevel=user_stacklevel(),
        )
