"""Dates that follow another date of their row, such as a shipment its order.

A date that follows is encoded as the duration since the date before, so that generated pairs keep
their order. The durations have the same probabilities as the dates that they give.
"""

from typing import NamedTuple

import numpy as np

from cmim_sklearn._likelihoods.clock import ON_WALL_CLOCK, UNITS, ClockSummary
from cmim_sklearn._tables.moments import DATE, ZONED, as_moments, form_of
from cmim_sklearn._utils.messages import shown
from cmim_sklearn._utils.zones import from_local, to_local

MIN_SHARE, MIN_ROWS = 0.97, 20
"""Minimum share of the rows in which a date follows another one, and minimum number of rows."""
_LIMIT, _LAST_YEAR = 2**62, np.datetime64("9999", "Y")


class Link(NamedTuple):
    """A column of dates that follow those of another column.

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
        Time zone on whose wall clock the duration is counted; None: between instants.
    """

    child: int
    parent: int
    usual: int
    low: int
    high: int
    zone: str | None

    def before(self, child, duration):
        """Dates of the parent, in the unit of the child."""
        return from_local(to_local(child, self.zone) - duration, self.zone)

    def after(self, parent, duration):
        """Dates of the child, within its range, and never before those of the parent."""
        with np.errstate(over="ignore"):
            dates = from_local(to_local(parent, self.zone) + duration, self.zone)
        ends = np.array([self.low, self.high]).astype(dates.dtype)
        return np.maximum(dates.clip(*ends), parent)

    def between(self, parent, child):
        """Durations from the dates of the parent to those of the child."""
        return to_local(child, self.zone) - to_local(parent, self.zone)


def find_links(frame, kinds, summaries):
    """Links of the columns of dates of a frame, parents before their children.

    The parent of a column is the one with the smallest median duration among those that it follows
    in at least 97 % of the rows, and whose range overlaps its own: without overlap, the order is
    kept anyway. Both must have the same step, such as whole days, other than months, which have no
    duration; and the unit of the child must be at least as fine as that of the parent.

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
                found[p] = form, dates, summary.clock()
    options = {
        child: [
            link
            for parent in found
            if parent != child
            and (link := _link(child, parent, *found[child], *found[parent])) is not None
            and (link.usual > 0 or parent < child)
        ]
        for child in found
    }
    order = sorted(found, key=lambda p: (len(options[p]), p))
    links = []
    for i, child in enumerate(order):  # no circles: a parent has fewer dates before it
        before = [link for link in options[child] if link.parent in order[:i]]
        if before:
            links.append(min(before, key=lambda link: link.usual))
    return links


def _link(child, parent, form, dates, clock, form_before, before, clock_before):
    """Link between two columns; None if there is none."""
    units = [np.datetime_data(of.dtype)[0] for of in (form_before, form)]
    is_local = clock.step in ON_WALL_CLOCK
    if (
        form.holds != form_before.holds
        or (is_local and form.zone != form_before.zone)
        or clock.step == "month"
        or clock.step != clock_before.step
        or UNITS.index(units[0]) > UNITS.index(units[1])
        or clock_before.high <= clock.low
    ):
        return None
    both = ~np.isnat(dates) & ~np.isnat(before)
    is_after = dates[both] >= before[both]
    if both.sum() < max(MIN_ROWS, 0.5 * (~np.isnat(dates)).sum()) or is_after.mean() < MIN_SHARE:
        return None
    ends = np.array([clock.low, clock.high, clock_before.low, clock_before.high], form.dtype)
    low, high, *others = ends.astype(np.int64).tolist()
    if max(map(abs, [low, high, *others])) >= _LIMIT // 2:
        return None
    link = Link(child, parent, 0, low, high, form.zone if is_local else None)
    durations = link.between(before[both].astype(form.dtype), dates[both])
    durations = np.sort(durations.astype(np.int64)).tolist()
    latest = np.array([others[1] + durations[-1]]).astype(form.dtype)
    if others[1] > high and latest.astype("M8[Y]") < _LAST_YEAR and abs(latest.view("i8")) < _LIMIT:
        high = int(latest.view("i8")[0])
    return link._replace(usual=durations[len(durations) // 2], high=high)


def check_links(links, types):
    """Check the links of a saved schema, in the order in which they are decoded."""
    children = []
    for link in links:
        whole = link.child, link.parent, link.usual, link.low, link.high
        is_sound = (
            all(type(part) is int and abs(part) < _LIMIT for part in whole)
            and all(0 <= p < len(types) and types[p] == "datetime" for p in whole[:2])
            and link.child not in (*children, *(other.parent for other in links[: len(children)]))
            and link.child != link.parent
            and link.low <= link.high
        )
        if not is_sound:
            raise ValueError(f"dates of the saved schema cannot be linked as {shown(link)}.")
        children.append(link.child)


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
            is_early = np.isnat(_dates(given, link.child, layout)) & (dates < parent)
            dates = np.where(is_early, parent, dates)
        columns[link.child] = dates
    return columns


def _observed_or(observed, decoded):
    return decoded if observed is None else np.where(np.isnat(observed), decoded, observed)
