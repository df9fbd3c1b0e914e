"""Dates, times of day and durations as numbers to plot, and the ticks of axes with dates."""

import numpy as np

from cmim_sklearn._tables.moments import DATE, TIME, ZONED
from cmim_sklearn._utils.zones import to_local

_UNITS = {
    "days": (1, "D"), "hours": (1, "h"), "minutes": (1, "m"), "seconds": (1, "s"),
    "milliseconds": (1, "ms"), "microseconds": (1, "us"), "nanoseconds": (1, "ns"),
}  # fmt: skip
_FIRST, _LAST = (np.datetime64(day) for day in ("0001-02-01", "9999-11-30"))
"""Range of dates that matplotlib can write at ticks."""


def as_plotted(columns, form, name):
    """Columns of dates or durations, of several frames, as numbers.

    Parameters
    ----------
    columns : list of array of shape (n,)
        Arrays of ``datetime64`` or ``timedelta64`` of a form.
    form : Form
    name : str
        Name of the column.

    Returns
    -------
    columns : list of array of shape (n,)
        Dates as matplotlib counts them, in days, in local time; others as multiples of a unit. NaN
        where missing.
    name : str
        Name of the column, with the unit of numbers that are no dates.
    is_date : bool
        Whether the numbers are dates.
    """
    columns = [values.astype(form.dtype) for values in columns]
    seen = [values[~np.isnat(values)] for values in columns]
    pooled = np.concatenate(seen)
    if form.holds in (DATE, ZONED):
        days = pooled.astype("M8[D]")  # nanoseconds cannot be compared with the year 1
        if not len(days) or (days.min() >= _FIRST and days.max() <= _LAST):
            from matplotlib.dates import date2num

            return [date2num(to_local(values, form.zone)) for values in columns], name, True
        return [_multiples(values, "days") for values in columns], f"{name} (days from 1970)", False
    if form.holds == TIME:
        unit = "hours"
    else:
        sizes = {unit: np.timedelta64(*size) for unit, size in _UNITS.items()}
        largest = np.abs(pooled).max(initial=np.timedelta64(0, "ns").astype(form.dtype))
        unit = next((unit for unit, size in sizes.items() if largest >= 2 * size), "seconds")
    return [_multiples(values, unit) for values in columns], f"{name} ({unit})", False


def _multiples(values, unit):
    """Multiples (n,) of a unit as float64, NaN where missing."""
    unit = np.timedelta64(*_UNITS[unit])
    spans = values - np.zeros(1, values.dtype)
    whole = spans.astype(f"m8[{np.datetime_data(unit)[0]}]")
    fits = np.datetime_data(spans.dtype)[0] != "D"
    rest = (spans - whole) / unit if fits else 0.0
    return np.where(np.isnat(spans), np.nan, whole.astype(np.int64) + rest)


def date_ticks(axis, which):
    """Write dates at the ticks of the axes named by "x", "y" or "xy"."""
    for one in which:
        ticks = getattr(axis, f"{one}axis")
        locator, formatter = date_format()
        ticks.set_major_locator(locator)
        ticks.set_major_formatter(formatter)
        axis.tick_params(axis=one, labelsize="small")


def date_format():
    """Locator and formatter of few ticks with dates."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    # The fewest ticks for which matplotlib has an interval for every range.
    locator = AutoDateLocator(minticks=2, maxticks=5)
    return locator, ConciseDateFormatter(locator)
