"""Dates, times and durations as whole numbers: counts of steps, such as a day, from a start.

Dates are numpy arrays of dtype ``datetime64`` in UTC, times of day those of 1970-01-01, and
durations have dtype ``timedelta64``; units are days, s, ms, us or ns. All arithmetic is that of
integers, since float64 holds only 2**53 of anything, which is 104 days of nanoseconds.
"""

import math
from collections import Counter

import numpy as np

from cmim_sklearn._utils.arrays import nearest_kept
from cmim_sklearn._utils.messages import shown
from cmim_sklearn._utils.zones import changes, from_local, to_local, zone_of

UNITS = ("D", "s", "ms", "us", "ns")
"""Units of the arrays, coarse to fine."""
SIZES = {
    "month": (1, "M"), "week": (7, "D"), "day": (1, "D"), "hour": (1, "h"), "minute": (1, "m"),
    "second": (1, "s"), "millisecond": (1, "ms"), "microsecond": (1, "us"), "nanosecond": (1, "ns"),
}  # fmt: skip
"""Steps, coarse to fine, as arguments of `numpy.timedelta64`."""
ON_WALL_CLOCK = ("month", "week", "day")
"""Steps that are counted in local time: across a change to daylight saving, a day has 23 hours."""
N_DISTINCT = {"month": 3, "week": 5}
"""Number of different dates from which a step is learnt: few are on whole weeks by chance."""
N_MULTIPLES = 20, 8
"""Number of different dates from which a multiple of a step, and of months, is learnt."""
MAX_KEPT = 1000
"""Maximum number of values of a column that are kept exactly."""
_EXACT = 2**53
_DAYS_OF_ALL_MONTHS = np.timedelta64(28, "D")


def steps_of(dtype):
    """Names of the steps that a dtype can count, coarse to fine."""
    kind, unit = dtype.kind, np.datetime_data(dtype)[0]
    names = list(SIZES)[0 if kind == "M" else 1 :]
    return [name for name in names if name == "month" or _size(name, unit)]


def _duration(step):
    """Duration of a step, that of a month on average."""
    return np.timedelta64(30, "D") if step == "month" else np.timedelta64(*SIZES[step])


def _size(step, unit):
    """Number of units in a step; 0 if the unit is longer."""
    count, of = SIZES[step]
    return int(np.timedelta64(count, of).astype(f"timedelta64[{unit}]").astype(np.int64))


def steps_text(size, unit):
    """Text of a length in units, such as "15 minutes"."""
    name = next(
        name for name in list(SIZES)[1:] if _size(name, unit) and not size % _size(name, unit)
    )
    return _number_of(size // _size(name, unit), name)


def _number_of(count, name):
    return f"{count} {name}{'s' * (count > 1)}"


class Clock:
    """Count of steps from a start, of the dates or durations of one column.

    Months, weeks and days are counted on the wall clock of the column's time zone, so that whole
    days stay whole days there; shorter steps are counted between instants.

    Parameters
    ----------
    dtype : str
        Such as ``"datetime64[us]"`` or ``"timedelta64[s]"``.
    start : int
        Wall-clock time, or instant, of count 0, in units since 1970 or since a duration of 0.
    last : int
        Count of the latest date.
    step : str
        A key of `SIZES`.
    zone : str, default=None
        Name of the time zone, see `zone_of`; None without one.
    kept : list of int
        Instants, ascending, that `absolute` returns exactly although their counts are beyond 2**53.
    every : int, default=1
        Number of steps in a count: 15 in steps of a minute for quarters of an hour.

    Attributes
    ----------
    low, high : numpy.datetime64 or numpy.timedelta64
        Earliest and latest instant.
    size : int
        Length of a count in units, or in months.
    is_wide : bool
        Whether float64 may not hold all counts.
    """

    def __init__(self, dtype, start, last, step, zone=None, kept=(), every=1):
        self.dtype = _known_dtype(dtype)
        unit = np.datetime_data(self.dtype)[0]
        is_sound = all(type(of) is int for of in (start, last, every)) and abs(start) < 2**63
        if not is_sound or last < 0 or every < 1 or step not in steps_of(self.dtype):
            raise ValueError(
                "a clock must have an int start, last >= 0 and every >= 1, and a step of its "
                f"dtype; got {shown([start, last, every, step])}."
            )
        self.start, self.last, self.step, self.zone, self.every = start, last, step, zone, every
        if zone is not None:
            zone_of(zone)  # raises if it is unknown
        self._on_wall_clock = step in ON_WALL_CLOCK
        self._start = np.array([start]).astype(self.dtype)
        self.size = every * (1 if step == "month" else _size(step, unit))
        margin = _size("day", unit) if zone else 0
        if abs(self._end()) + margin >= 2**63:
            raise ValueError(f"a clock must end within 64 bits of its unit; got {shown(last)}.")
        self.is_wide, self.kept = last >= _EXACT, list(kept)
        are_ints = all(type(instant) is int and abs(instant) < 2**63 for instant in self.kept)
        if not are_ints or (self.kept and (self._on_wall_clock or not self.is_wide)):
            raise ValueError(f"a clock may keep ints, if it is wide; got {shown(kept)}.")
        self._kept = np.array(self.kept, np.int64)
        self._kept_counts = self.relative(self._kept.astype(self.dtype))
        if (np.diff(self._kept_counts) <= 0).any():
            raise ValueError(f"kept dates must differ and ascend; got {shown(kept)}.")
        self.low, self.high = self.absolute(np.array([0.0, float(last)]))

    def state(self):
        """Return the constructor's arguments."""
        names = ("start", "last", "step", "zone", "kept", "every")
        return {"dtype": str(self.dtype)} | {name: getattr(self, name) for name in names}

    def _end(self):
        """Time of the last count, as a Python integer, which cannot overflow."""
        if self.step != "month":
            return self.start + self.last * self.size
        months = self.last * self.size
        if months > 12 * 600_000:  # numpy has years of 64 bits, but days of other months wrap
            return 2**63
        (first,), (offset,) = _split(self._start)
        days = int((first + months).astype("datetime64[D]").astype(np.int64))
        return days * _size("day", np.datetime_data(self.dtype)[0]) + int(offset.astype(np.int64))

    def steps_text(self):
        """Text of the length of a count, such as "15 minutes"."""
        return _number_of(self.every, self.step)

    def keeping(self, values):
        """Clock that also keeps the most frequent of values (n,) exactly."""
        counts = Counter(values[~np.isnat(values)].astype(np.int64).tolist())
        common = [instant for instant, _ in counts.most_common(MAX_KEPT)]
        at = self.relative(np.array(common, np.int64).astype(self.dtype)).tolist()
        kept = {}
        for count, instant in zip(at, common, strict=True):
            kept.setdefault(count, instant)
        return Clock(**self.state() | {"kept": sorted(kept.values())})

    def merged(self, values):
        """Number of different values (n,) that share their count with another."""
        found = np.unique(values[~np.isnat(values)])
        return len(found) - len(np.unique(self.relative(found)))

    def local(self, values):
        """Wall-clock times (n,) of dates (n,); durations are returned as they are."""
        return to_local(values, self.zone)

    def changes(self):
        """Counts (m,) at which the offset of the zone changes; none if steps follow the wall clock.

        Only the years 1900 to 2100 have changes, see `changes`.
        """
        if self.zone is None or self._on_wall_clock:
            return np.empty(0)
        return self.relative(changes(self.zone, self.low, self.high))

    def relative(self, values):
        """Counts (n,) of values (n,) of any unit, float64 with NaN: fractions between two steps."""
        out = np.full(len(values), np.nan)
        is_seen = ~np.isnat(values)
        seen = values[is_seen]
        whole = seen.astype(self.dtype)
        times = self.local(whole) if self._on_wall_clock else whole
        if self.step == "month":
            months, offset = _split(times)
            first, of_start = _split(self._start)
            lengths = (months + 1).astype("datetime64[D]") - months.astype("datetime64[D]")
            of_month = (months - first).astype(np.float64) + (offset - of_start) / lengths
            out[is_seen] = of_month / self.size
        else:
            out[is_seen] = _counts(times.astype(np.int64), self.start, self.size)
        # Of values in a finer unit.
        out[is_seen] += (seen - whole) / _duration(self.step) / self.every
        if self._on_wall_clock and self.zone:
            self._snap(out, values)
        return out

    def _snap(self, counts, values):
        """Make counts of values whole on days without a midnight, which start later."""
        rows = np.flatnonzero(counts % 1 > 0)
        whole = np.floor(counts[rows])
        is_start = self.absolute(whole) == values[rows]
        counts[rows[is_start]] = whole[is_start]

    def absolute(self, counts):
        """Dates or durations (n,) at counts (n,), rounded to whole steps, and to the range."""
        is_missing = np.isnan(counts)
        inside = np.round(np.where(is_missing, 0.0, counts)).clip(0, float(self.last))
        # Only the last of wide counts may be rounded upward.
        is_last = inside >= float(self.last)
        whole = np.where(is_last, np.uint64(self.last), np.where(is_last, 0, inside).astype("u8"))
        whole = whole.view(np.int64)
        if self.step == "month":
            first, offset = _split(self._start)
            times = (first + whole * self.size).astype(self.dtype) + offset
        else:
            with np.errstate(over="ignore"):  # distances of 64 bits wrap around
                times = (self.start + whole * self.size).astype(self.dtype)
        out = from_local(times, self.zone) if self._on_wall_clock else times
        out = out.astype(self.dtype)
        if self.kept:
            place, is_kept = nearest_kept(counts, self._kept_counts)
            out[is_kept] = self._kept[place[is_kept]].astype(self.dtype)
        out[is_missing] = np.array("NaT", self.dtype)
        return out


class ClockSummary:
    """Summary of a column of dates or durations, gathered one part at a time, as `ColumnSummary`.

    Parameters
    ----------
    zone : str, default=None
        Name of the time zone of the column.

    Attributes
    ----------
    n_seen : int
        Number of observed values.
    low, high : numpy.datetime64 or numpy.timedelta64
        Earliest and latest value; NaT without values.
    counts : Counter
        Empty, since dates are no levels.
    """

    has_levels = False

    def __init__(self, zone=None):
        self.zone = zone
        self.n_seen, self.counts = 0, Counter()
        self.low = self.high = np.datetime64("NaT")
        self._dtype, self._steps, self._first = None, [], None
        self._few = set()  # different values, as long as there are few
        self._common = {}  # greatest common divisors of distances, by the unit of these

    def add(self, values, first_row=0):
        """Add values (m,) of the column; returns self."""
        if self._dtype is None:
            self._dtype, self._steps = values.dtype, steps_of(values.dtype)
        seen = values[~np.isnat(values)]
        if len(seen):
            ends = seen.min(), seen.max()
            if not self.n_seen:
                self._first = seen[:1]
                self.low, self.high = ends
            self.low, self.high = min(self.low, ends[0]), max(self.high, ends[1])
            self.n_seen += len(seen)
            self._note_few(seen)
            local = to_local(seen, self.zone)
            self._steps = [step for step in self._steps if self._is_step(step, seen, local)]
            self._divide(seen, local)
        return self

    def _divide(self, seen, local):
        """Update the common divisors of distances from the first value."""
        first = to_local(self._first, self.zone)
        pairs = {"instants": (seen, self._first)}
        if "day" in self._steps:
            pairs["local"] = self._on_grid("day", local), first
        if "month" in self._steps:
            pairs["months"] = [times.astype("datetime64[M]") for times in (local, first)]
        for name, (times, start) in pairs.items():
            distances = _distances(*(part.astype(np.int64) for part in (times, start)))[1]
            common = np.gcd.reduce(np.append(distances, np.uint64(self._common.get(name, 0))))
            self._common[name] = int(common)

    def _multiple(self, step, unit):
        """Number of steps in the distances between all values; 1 if there are few values."""
        if len(self._few) < N_MULTIPLES[step == "month"]:
            return 1
        if step == "month":
            return math.gcd(self._common["months"], 12)
        return self._common["local" if step in ON_WALL_CLOCK else "instants"] // _size(step, unit)

    def _note_few(self, seen):
        while len(seen) and len(self._few) < N_MULTIPLES[0]:
            self._few.add(int(seen[0].astype(np.int64)))
            seen = seen[seen != seen[0]]

    def _is_step(self, step, instants, local):
        """Whether all instants are whole steps from the first one."""
        if step not in ON_WALL_CLOCK:
            size = _size(step, np.datetime_data(self._dtype)[0])
            phases = (part.astype(np.int64) % size for part in (instants, self._first))
            return bool(np.equal(*phases).all())
        times = self._on_grid(step, local)
        return times is not None and bool((self._instants(times) == instants).all())

    def _instants(self, times):
        return from_local(times, self.zone).astype(self._dtype)

    def _on_grid(self, step, local):
        """Wall-clock times (n,) rounded down to whole steps from the first; None if impossible."""
        first = to_local(self._first, self.zone)
        if step == "month":
            offset = _split(first)[1]
            in_all = offset < _DAYS_OF_ALL_MONTHS
            return _split(local)[0].astype(local.dtype) + offset if in_all.all() else None
        size = _size(step, np.datetime_data(local.dtype)[0])
        phase = first.astype(np.int64) % size
        times = local.astype(np.int64)
        return (times - (times - phase) % size).astype(local.dtype)

    def clock(self):
        """Clock with the longest step that all values share, and enough different ones show."""
        if not self.n_seen:
            dtype = np.dtype("datetime64[s]") if self._dtype is None else self._dtype
            return Clock(str(dtype), 0, 0, steps_of(dtype)[-1], self.zone)
        n_few, (unit, _) = len(self._few), np.datetime_data(self._dtype)
        step = next(step for step in self._steps if n_few >= N_DISTINCT.get(step, 1))
        ends = np.array([self.low, self.high], self._dtype)
        if step in ON_WALL_CLOCK:
            ends = self._on_grid(step, to_local(ends, self.zone))
        if step == "month":
            low, high = _split(ends)[0].astype(np.int64).tolist()
        else:
            low, high = ends.astype(np.int64).tolist()
        every = self._multiple(step, unit)
        last = (high - low) // (every * (1 if step == "month" else _size(step, unit)))
        start = int(ends[0].astype(np.int64))
        return Clock(str(self._dtype), start, last, step, self.zone, every=every)


def _known_dtype(name):
    """Dtype of a name in an untrusted file."""
    known = {f"{kind}64[{unit}]" for kind in ("datetime", "timedelta") for unit in UNITS}
    if name not in known:
        raise ValueError(f"a clock must have a dtype of dates or durations; got {shown(name)}.")
    return np.dtype(name)


def _split(times):
    """Months (n,) of times, and the durations (n,) since their start."""
    months = times.astype("datetime64[M]")
    return months, times - months.astype(times.dtype)


def _counts(times, start, size):
    """Distances (n,) of integers from a start, in multiples of a size, as float64."""
    is_after, distances = _distances(times, start)
    whole, rest = np.divmod(distances, np.uint64(size))
    counts = whole.astype(np.float64) + rest.astype(np.float64) / size
    return np.where(is_after, counts, -counts)


def _distances(times, start):
    """Whether integers (n,) are at or after a start, and their distances from it, as uint64."""
    is_after = times >= start
    with np.errstate(over="ignore"):  # distances of 64 bits wrap around
        return is_after, np.where(is_after, times - start, start - times).view(np.uint64)
