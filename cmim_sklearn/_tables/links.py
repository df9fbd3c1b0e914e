"""Dates that follow another date of their row, such as a shipment its order.

A date that follows is encoded as the duration since the date before, so that generated pairs keep
their order. The durations have the same probabilities as the dates that they give, on open days and
hours: others are read as the next open step.
"""

from typing import NamedTuple

import numpy as np

from cmim_sklearn._likelihoods.clock import ON_WALL_CLOCK, Clock, ClockSummary
from cmim_sklearn._likelihoods.weekly import N_DAYS, N_HOURS, closed_bins, weekly_shares
from cmim_sklearn._tables.moments import DATE, ZONED, Form, as_moments, form_of
from cmim_sklearn._utils.messages import shown
from cmim_sklearn._utils.zones import from_local, to_local

MIN_SHARE, MIN_ROWS = 0.97, 20
"""Minimum share of the rows in which a date follows another one, and minimum number of rows."""
MAX_TRIED = 1000
"""Number of rows in which pairs of columns are compared before all rows are."""
_LIMIT, _LAST_YEAR = 2**62, np.datetime64("9999", "Y")
_MONDAY = np.datetime64("1970-01-05")


class Link(NamedTuple):
    """A column of dates that follow those of another column.

    A duration is the number of steps of the child between the two dates, of which the parent is
    rounded down to a step. Steps in closed days or hours of the week are not counted: shipments on
    business days are then on business days again.

    Attributes
    ----------
    child, parent : int
        Positions of the columns.
    usual : int
        Median duration between the two. A row that lacks only the date of the parent is read as if
        that was this duration before the child, and the duration was missing.
    low, high : int
        Range of the child, to which decoded dates are clipped, since 1970, in the unit of the
        child as the durations. It is the training range; if that of the parent ends later, as with
        orders that are still open, it ends the longest duration after that.
    zone : str or None
        Time zone on whose wall clock steps are counted; None: between instants.
    first, size : int
        Time of a step, and length of steps, in the unit of the child.
    n_bins : int
        Number of bins of a week: 7 days or 168 hours.
    closed : list of int
        Bins of the week, 0 from Monday on, without children.
    """

    child: int
    parent: int
    usual: int
    low: int
    high: int
    zone: str | None
    first: int
    size: int
    n_bins: int
    closed: list

    def steps(self, dates, *, up=0):
        """Numbers (n,) of open steps from the first one to dates; ``up`` is added before."""
        times = to_local(dates, self.zone).astype(dates.dtype).astype(np.int64)
        with np.errstate(over="ignore"):  # of NaT
            steps = (times - self.first + up) // self.size
        if not self.closed:
            return steps
        per_bin, per_week, monday, opened = self._open(dates.dtype)
        weeks, rest = np.divmod(steps + monday, per_week)
        bins, rest = np.divmod(rest, per_bin)
        is_open = np.isin(bins, opened)
        before = np.searchsorted(opened, bins)
        return (weeks * len(opened) + before) * per_bin + np.where(is_open, rest, 0)

    def _open(self, dtype):
        """Steps of a bin and of a week, number of the first step since a Monday, and open bins."""
        per_week = _week_in(dtype) // self.size
        monday = (self.first - int(_MONDAY.astype(dtype).astype(np.int64))) // self.size
        opened = np.setdiff1d(np.arange(self.n_bins), self.closed)
        return per_week // self.n_bins, per_week, monday, opened

    def divides_week(self, dtype):
        """Whether bins of the week consist of whole steps, or no bin is closed."""
        return not self.closed or _week_in(dtype) % (self.n_bins * self.size) == 0

    def at(self, steps, dtype):
        """Dates (n,) of a dtype at numbers of open steps."""
        if self.closed:
            per_bin, per_week, monday, opened = self._open(dtype)
            weeks, rest = np.divmod(steps, len(opened) * per_bin)
            bins, rest = np.divmod(rest, per_bin)
            steps = weeks * per_week + opened[bins] * per_bin + rest - monday
        times = (steps * self.size + self.first).astype(dtype)
        return from_local(times, self.zone).astype(dtype)

    def floor(self, parent):
        """Dates of the parent, in the unit of the child, rounded down to its steps."""
        plain = self._replace(closed=[])
        return _where(parent, plain.at(plain.steps(parent), parent.dtype))

    def before(self, child, duration):
        """Dates of the parent, in the unit of the child."""
        steps = self.steps(child, up=self.size // 2) - duration.astype(np.int64) // self.size
        return _where(child, _where(duration, self.at(steps, child.dtype)))

    def after(self, parent, duration):
        """Dates of the child, within its range, and never before those of the parent."""
        steps = duration.astype(np.int64) // self.size
        with np.errstate(over="ignore"):
            dates = self.at(self.steps(parent) + np.maximum(steps, 0), parent.dtype)
        ends = np.array([self.low, self.high]).astype(dates.dtype)
        dates = np.maximum(dates.clip(*ends), self.floor(parent))
        return _where(parent, _where(duration, dates))

    def between(self, parent, child):
        """Durations from the dates of the parent to those of the child."""
        steps = self.steps(child, up=self.size // 2) - self.steps(parent)
        durations = (steps * self.size).astype(child.dtype.str.replace("M", "m"))
        return _where(child, _where(parent, durations))


def _week_in(dtype):
    """Length of a week in the unit of a dtype."""
    return int(np.timedelta64(7, "D").astype(f"m8[{np.datetime_data(dtype)[0]}]").astype(np.int64))


def _where(seen, values):
    """Values (n,), missing where others are."""
    return np.where(np.isnat(seen), np.array("NaT", values.dtype), values)


class _Column(NamedTuple):
    """Column of dates, and its wall-clock times."""

    form: Form
    clock: Clock
    dates: np.ndarray
    local: np.ndarray

    def some(self, rows):
        return self._replace(dates=self.dates[rows], local=self.local[rows])


def find_links(frame, kinds, summaries):
    """Links of the columns of dates of a frame, parents before their children.

    The parent of a column is the one with the smallest median duration among those that it follows
    in at least 97 % of the rows, and whose range overlaps its own: without overlap, the order is
    kept anyway. A child on whole months has no parent, since months have no duration.

    Parameters
    ----------
    frame : Frame
    kinds : list of str
    summaries : list, default=None
        A `ClockSummary` per column of dates, over all rows.
    """
    found = {}
    for p, kind in enumerate(kinds):
        form = form_of(frame.layout.dtype_of(p)) if kind == "datetime" else None
        if form is not None and form.holds in (DATE, ZONED):
            dates = as_moments(frame.columns[p], form, frame.name(p), frame.first_row)
            if (~np.isnat(dates)).sum() >= MIN_ROWS:
                summary = summaries[p] if summaries else ClockSummary(form.zone).add(dates)
                local = to_local(dates, form.zone).astype(form.dtype)
                found[p] = _Column(form, summary.clock(), dates, local)
    rows = slice(None, None, max(1, frame.n_rows // MAX_TRIED))
    few = {p: column.some(rows) for p, column in found.items()}
    options = {
        child: {
            parent: usual
            for parent in found
            if parent != child
            and (usual := _usual(few[child], few[parent])) is not None
            and (usual > 0 or parent < child)
        }
        for child in found
    }
    order = sorted(found, key=lambda p: (len(options[p]), p))
    links = []
    for i, child in enumerate(order):  # no circles: a parent has fewer dates before it
        before = [parent for parent in order[:i] if parent in options[child]]
        for parent in sorted(before, key=options[child].get):
            if _usual(found[child], found[parent], MIN_ROWS) is not None:
                links.append(_link(child, parent, found[child], found[parent]))
                break
    return links


def _usual(child, parent, min_rows=1):
    """Median number of steps from the dates of a column to those of another that follow them.

    None if they do not follow, or are not comparable.
    """
    clock, before, unit = child.clock, parent.clock, np.datetime_data(child.form.dtype)[0]
    is_local = clock.step in ON_WALL_CLOCK
    if (
        child.form.holds != parent.form.holds
        or (is_local and child.form.zone != parent.form.zone)
        or clock.step == "month"
        or before.high <= clock.low
        or any(_is_far(end, unit) for end in (clock.low, clock.high, before.low, before.high))
    ):
        return None
    is_seen = ~np.isnat(child.dates)
    both = is_seen & ~np.isnat(parent.dates)
    if both.sum() < max(min_rows, 0.5 * is_seen.sum()):
        return None
    times = [of.local[both] if is_local else of.dates[both] for of in (child, parent)]
    later, earlier = (of.astype(child.form.dtype).astype(np.int64) for of in times)
    half = clock.size // 2
    steps = (later - clock.start + half) // clock.size - (earlier - clock.start) // clock.size
    return float(np.median(steps)) if (steps >= 0).mean() >= MIN_SHARE else None


def _is_far(end, unit):
    """Whether durations from a date may exceed the integers of a unit."""
    seconds = abs(int(end.astype("M8[s]").astype(np.int64)))
    return seconds * max(int(np.timedelta64(1, "s") / np.timedelta64(1, unit)), 1) >= _LIMIT // 2


def _link(child, parent, column, before):
    """Link between two columns of which one follows the other."""
    clock, dtype = column.clock, column.form.dtype
    is_local, first = clock.step in ON_WALL_CLOCK, clock.start
    closed, n_bins = _closed(column)
    if closed and not is_local:
        first = int(column.local[~np.isnat(column.local)][0].astype(np.int64))
    ends = np.array([clock.low, clock.high, before.clock.low, before.clock.high], dtype)
    low, high, _, latest = ends.astype(np.int64).tolist()
    zone = column.form.zone if is_local or closed else None
    link = Link(child, parent, 0, low, high, zone, first, clock.size, n_bins, closed)
    durations = link.between(before.dates.astype(dtype), column.dates)
    durations = np.sort(durations[~np.isnat(durations)].astype(np.int64)).tolist()
    usual, longest = durations[len(durations) // 2], durations[-1]
    if latest > high:
        last = link.at(link.steps(ends[3:]) + longest // clock.size, dtype)
        if last.astype("M8[Y]") < _LAST_YEAR and not _is_far(last[0], np.datetime_data(dtype)[0]):
            high = int(last.astype(np.int64)[0])
    return link._replace(usual=usual, high=high)


def _closed(column):
    """Bins of the week without dates of a column, and number of bins of a week."""
    clock, dates = column.clock, column.dates
    shares = weekly_shares(clock, clock.relative(dates))
    if shares is None:
        return [], N_DAYS
    if clock.step not in ON_WALL_CLOCK:
        local = column.local[~np.isnat(column.local)].astype(np.int64)
        if ((local - local[0]) % clock.size).any():  # clocks are put forward by half a step
            return [], N_DAYS
    return closed_bins(shares).tolist(), len(shares)


def check_links(links, types):
    """Check the links of a saved schema, in the order in which they are decoded."""
    children = []
    for link in links:
        whole = link[:5] + link[6:9]
        is_sound = (
            all(type(part) is int and abs(part) < _LIMIT for part in whole)
            and all(0 <= p < len(types) and types[p] == "datetime" for p in whole[:2])
            and link.child not in (*children, *(other.parent for other in links[: len(children)]))
            and link.child != link.parent
            and link.low <= link.high
            and _is_sound_grid(link)
        )
        if not is_sound:
            raise ValueError(f"dates of the saved schema cannot be linked as {shown(link)}.")
        children.append(link.child)


def _is_sound_grid(link):
    """Whether steps, and days or hours of the week, are as `find_links` has them."""
    closed = link.closed
    return (
        link.size > 0
        and link.n_bins in (N_DAYS, N_HOURS)
        and isinstance(closed, list)
        and all(type(of) is int and 0 <= of < link.n_bins for of in closed)
        and len(set(closed)) == len(closed) < link.n_bins
    )


def apart(frame, links, layout, *, guess=True):
    """Columns of a frame that are linked, by position: dates of parents, and durations.

    Parameters
    ----------
    frame : Frame
    links : list of Link
    layout : Layout
        Layout of the table seen in fit.
    guess : bool, default=True
        Whether to replace missing dates of parents by the usual duration before their children.
    """
    columns = {p: _dates(frame, p, layout) for link in links for p in (link.parent, link.child)}
    for link in reversed(links):
        parent, child = columns[link.parent], columns[link.child]
        usual = np.array([link.usual]).astype(child.dtype.str.replace("M", "m"))
        lacking = np.isnat(parent)
        if guess:
            guessed = link.before(child, usual).astype(parent.dtype)
            columns[link.parent] = np.where(lacking, guessed, parent)
        durations = link.between(parent.astype(child.dtype), child)
        columns[link.child] = durations
    return columns


def _dates(frame, position, layout):
    held = form_of(frame.layout.dtype_of(position))
    form = form_of(layout.dtype_of(position))
    values = frame.columns[position]
    return as_moments(values, form, frame.name(position), frame.first_row, held)


def together(columns, links, layout, given=None):
    """Replace the durations among decoded columns by dates, in place.

    Parameters
    ----------
    columns : list of arrays of shape (n,)
        Decoded columns of the table.
    links : list of Link
    layout : Layout
    given : Frame, default=None
        Observed dates of the same n rows: a missing one of two is then placed by the observed one.
    """
    links = [link for link in links if columns[link.child] is not None]
    known = {}
    if given is not None:
        known = {p: _dates(given, p, layout) for link in links for p in (link.parent, link.child)}
        for link in reversed(links):  # from observed children to their parents
            child, parent = known[link.child], known[link.parent]
            before = link.before(child, columns[link.child]).astype(parent.dtype)
            known[link.parent] = np.where(np.isnat(parent), before, parent)
    for link in links:
        if all(link.parent != other.child for other in links):
            columns[link.parent] = _observed_or(known.get(link.parent), columns[link.parent])
    for link in links:
        unit = form_of(layout.dtype_of(link.child)).dtype
        parent = columns[link.parent].astype(unit)
        dates = link.after(parent, columns[link.child])
        dates = _observed_or(known.get(link.child), dates)
        if given is not None:  # a date that its child placed is not before its parent
            first = link.floor(parent)
            is_early = np.isnat(_dates(given, link.child, layout)) & (dates < first)
            dates = np.where(is_early, first, dates)
        columns[link.child] = dates
    return columns


def _observed_or(observed, decoded):
    return decoded if observed is None else np.where(np.isnat(observed), decoded, observed)
