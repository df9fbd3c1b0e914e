"""Cyclic parts of dates, such as the day of the week, as inputs of the encoder.

A part is the position of a date in a cycle, as a share of a turn: on the wall clock of the column's
time zone, since 1970. A year is 365.2425 days here, so a day of the year is right within a day.
"""

import numpy as np
import torch
from torch import nn

from cmim_sklearn._likelihoods.clock import ON_WALL_CLOCK, SIZES
from cmim_sklearn._likelihoods.weekly import WeeklyMap
from cmim_sklearn._utils.messages import shown

PERIODS = {"year": 31_556_952, "week": 604_800, "day": 86_400, "hour": 3_600}
"""Lengths of the cycles in seconds: month and day of the year, weekday, hour, minute."""
_FINER = {"year": "month", "week": "day", "day": "hour", "hour": "minute"}
"""Longest step at which a part varies."""
MIN_SHARE = 0.5
"""Least share of a cycle that the dates cover. Within a smaller share, a part is a smooth function
of the instant."""
MAX_ERROR = 0.02
"""Largest error of a part, in turns, from the single precision of encoded dates."""


def candidates(clock):
    """Names of the parts that the step and the range of a clock allow."""
    steps = list(SIZES)[list(SIZES).index(clock.step) :: -1]
    seconds = clock.last * _seconds(clock)
    return [
        part
        for part, period in PERIODS.items()
        if _FINER[part] in steps and seconds >= MIN_SHARE * period
    ]


def _seconds(clock):
    """Length of a count in seconds, of months on average."""
    if clock.step == "month":
        return clock.size * PERIODS["year"] / 12
    return np.timedelta64(clock.size, np.datetime_data(clock.dtype)[0]) / np.timedelta64(1, "s")


def turns(times, part, step):
    """Positions (n,) of wall-clock times (n,) in a cycle, in turns; from 0 up to 1."""
    if step == "month":
        return times.astype("datetime64[M]").astype(np.int64) % 12 / 12
    seconds = times.astype("datetime64[s]")  # rounded toward the past
    rest = (times - seconds) / np.timedelta64(1, "s")
    return (seconds.astype(np.int64) % PERIODS[part] + rest) / PERIODS[part]


class Cycles(nn.Module):
    """Sine and cosine of the cyclic parts of C columns of dates, from their encoded values.

    A scaling map and a time zone make the wall-clock time a piecewise linear function of the
    encoded value y. In the segment from y_j on, a part is turn_j + rate_j (y - y_j).

    Parameters
    ----------
    clocks : list of C Clock
    maps : list of C ScalingMap
    parts : list of C lists of str
        Names of each column's parts, keys of `PERIODS`.

    Attributes
    ----------
    n_inputs : int
        Number of encoder inputs W, two per part.
    structure : tuple
        Shapes that differ between tables.
    """

    def __init__(self, clocks, maps, parts):
        super().__init__()
        for clock, of in zip(clocks, parts, strict=True):
            if not set(of) <= set(candidates(clock)) or len(set(of)) < len(of):
                raise ValueError(
                    f"cyclic parts of a clock must be among {candidates(clock)}; got {shown(of)}."
                )
        self.parts = [list(of) for of in parts]
        self._column = [c for c, of in enumerate(parts) for _ in of]
        self.n_inputs = 2 * len(self._column)
        segments = [_segments(*pair) for pair in zip(clocks, maps, strict=True)]
        longest = max(len(of[0]) for of in segments)
        tables = []
        for c, of in enumerate(segments):
            for part in parts[c]:
                lines = np.array([of[0], *_line(clocks[c], part, of)])
                tables.append(np.pad(lines, ((0, 0), (0, longest - len(of[0]))), mode="edge"))
        tables = np.array(tables).reshape(len(tables), 3, longest if tables else 0)
        for name, table in zip(("_start", "_turn", "_rate"), tables.swapaxes(0, 1), strict=True):
            table = torch.as_tensor(table.copy(), dtype=torch.float32)
            self.register_buffer(name, table, persistent=False)
        self.structure = (*self._column, *self._start.shape)

    def forward(self, x):
        """Sines, then cosines, (n, W), of encoded dates x (n, C) without NaN."""
        y = x[:, self._column].T.contiguous()
        place = (torch.searchsorted(self._start, y, right=True) - 1).clamp(min=0)
        start, turn, rate = (t.gather(1, place) for t in (self._start, self._turn, self._rate))
        angle = (2 * torch.pi * (turn + rate * (y - start))).T
        return torch.cat([angle.sin(), angle.cos()], 1)

    def of_cells(self, cells):
        """Repeat what belongs to cells (n, C) for their inputs, (n, W)."""
        return cells[:, self._column * 2]


def choose_parts(clocks, maps, columns):
    """Parts of each column that vary in its dates, and that encoded dates can tell.

    Parameters
    ----------
    clocks : list of C Clock
    maps : list of C ScalingMap
    columns : list of C arrays of shape (n,)
        Dates of the training rows.
    """
    chosen = []
    for clock, m, column in zip(clocks, maps, columns, strict=True):
        dates, parts = column[~np.isnat(column)], candidates(clock)
        if len(dates) and parts:
            encoded = torch.as_tensor(m.forward(clock.relative(dates)), dtype=torch.float32)
            found = Cycles([clock], [m], [parts])(encoded[:, None]).numpy()
            times = clock.local(dates)
            exact = 2 * np.pi * np.array([turns(times, part, clock.step) for part in parts]).T
            exact = np.concatenate([np.sin(exact), np.cos(exact)], 1)
            error = np.abs(found - exact).reshape(-1, 2, len(parts)).max(1)
            varies = np.ptp(exact, axis=0).reshape(2, -1).max(0) > MAX_ERROR
            is_told = np.quantile(error, 0.95, axis=0) < 2 * np.pi * MAX_ERROR
            parts = [part for part, keep in zip(parts, varies & is_told, strict=True) if keep]
        chosen.append(parts)
    return chosen


def _segments(clock, m):
    """Encoded starts (J,) of the segments of a column, ascending, their ends, and counts at both.

    The first and last segment reach one unit beyond the map, and are continued as lines.
    """
    ends = [m.below, m.above, m.forward(clock.changes())]
    if isinstance(m, WeeklyMap):
        ends.append(m.breaks())
    ends = np.concatenate(ends)
    ends = np.unique(ends.astype(np.float32)).astype(np.float64)
    ends = np.concatenate([[ends[0] - 1], ends, [ends[-1] + 1]])
    start, width = ends[:-1], np.diff(ends)
    # Inside a segment, since neighbouring atoms share an end.
    low, high = (m.inverse(start + share * width) for share in (0.25, 0.75))
    return start, ends[1:], low - (high - low) / 2, high + (high - low) / 2


def _line(clock, part, segments):
    """Turn at the start of each segment, and turns per encoded unit, (J,) each."""
    start, end, low, high = segments
    per_step = _seconds(clock) / PERIODS[part]
    first = clock.local(clock.absolute(np.zeros(1)))
    turn = turns(first, part, clock.step) + low * per_step
    if clock.step not in ON_WALL_CLOCK:
        shift = _offset(clock, (low + high) / 2) - _offset(clock, np.zeros(1))
        turn += shift / PERIODS[part]
    return turn % 1, (high - low) * per_step / (end - start)


def _offset(clock, counts):
    """Seconds (n,) by which the wall clock is ahead of UTC at counts (n,)."""
    instants = clock.absolute(counts)
    return (clock.local(instants) - instants) / np.timedelta64(1, "s")
