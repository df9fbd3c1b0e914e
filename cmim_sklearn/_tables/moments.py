"""Dates, times and durations of tables: as arrays of ``datetime64`` and ``timedelta64``, and back.

A column of a `Frame` has one of these dtypes, in UTC where the column has a time zone, and times of
day are those of 1970-01-01. `form_of` reads from the description of a dtype which one.
"""

import datetime
import re
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np

from cmim_sklearn._likelihoods.clock import UNITS
from cmim_sklearn._utils.messages import number_text, shown
from cmim_sklearn._utils.zones import from_local, to_local, zone_name, zone_of

DATETIME, DURATION = "datetime", "duration"
MOMENTS = (DATETIME, DURATION)
"""Types of columns that hold dates, times of day or durations."""
NAT = np.iinfo(np.int64).min
"""Integer of a missing date."""
DAY = 86_400
TIMES = (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64)
"""Types of Python objects that are dates, times or durations."""
DATE, ZONED, TIME = "dates without a time zone", "dates with a time zone", "times of day"
LENGTH = "durations"

_EPOCH, _YEARS = datetime.datetime(1970, 1, 1), np.array(["0001", "9999"], "M8[Y]")
_MICROSECOND = datetime.timedelta(microseconds=1)
STORED_UNITS = {"Y": "D", "M": "D", "W": "D", "h": "s", "m": "s"}
"""Units of the arrays for other units of numpy, which are whole numbers of them."""
_NUMPY = re.compile(r"[<>|=]?(?P<kind>[Mm])8\[(?P<count>\d*)(?P<unit>\w+)\]")
_PANDAS = re.compile(r"(?P<kind>datetime|timedelta)64\[(?P<unit>s|ms|us|ns)\]")
_ARROW = re.compile(r"(?P<kind>timestamp|time32|time64|duration|date64)\[(?P<unit>s|ms|us|ns)\]")
_OBJECTS = {
    "Timestamp": DATE, "datetime64": DATE, "datetime": DATE, "date": DATE, "time": TIME,
    "Timedelta": LENGTH, "timedelta64": LENGTH, "timedelta": LENGTH,
}  # fmt: skip
"""Names of the types of Python objects in descriptions; a type holds all values of later ones."""
_UNITS_TEXT = "units from days to nanoseconds, or dates in years, months or weeks"


class Form(NamedTuple):
    """Form of a column of dates, times or durations.

    Attributes
    ----------
    type : {"datetime", "duration"}
    dtype : numpy.dtype
        Dtype of the column of a `Frame`.
    zone : str or None
        Name of the time zone, see `zone_of`.
    holds : str
        Meaning of the values, for messages: forms with different ones cannot be mixed.
    """

    type: str
    dtype: np.dtype
    zone: str | None
    holds: str


def form_of(description):
    """`Form` of the description of a dtype; None for other dtypes."""
    of = description["of"] if description["dtype"] == "arrow" else description
    name, zone = of["dtype"], of.get("zone")
    if of.get("of") in list(_OBJECTS):
        return _form(_OBJECTS[of["of"]], of["unit"], zone)
    if name in _FIXED:
        return _form(*_FIXED[name])
    if name in ("Datetime", "Duration"):  # of polars
        return _form(DATE if name == "Datetime" else LENGTH, of["unit"], zone)
    found = _NUMPY.fullmatch(name) or _PANDAS.fullmatch(name) or _ARROW.fullmatch(name)
    if found is None:
        return None
    unit = STORED_UNITS.get(found["unit"], found["unit"])
    holds = _HOLDS.get(found["kind"], DATE)
    is_calendar = holds == LENGTH and found["unit"] in ("Y", "M")
    return None if unit not in UNITS or is_calendar else _form(holds, unit, zone)


_FIXED = {"Date": (DATE, "D"), "date32[day]": (DATE, "D"), "Time": (TIME, "ns")}
_HOLDS = {"m": LENGTH, "timedelta": LENGTH, "duration": LENGTH, "time32": TIME, "time64": TIME}


def _form(holds, unit, zone=None):
    kind = DURATION if holds == LENGTH else DATETIME
    dtype = np.dtype(f"{'timedelta' if holds == LENGTH else 'datetime'}64[{unit}]")
    return Form(kind, dtype, zone, ZONED if zone and holds == DATE else holds)


def plain_description(library, form):
    """Description of a dtype of a library for a form, where the table has none for it."""
    unit = np.datetime_data(form.dtype)[0]
    unit = "s" if unit == "D" else unit
    is_length, pair = form.type == DURATION, {"zone": form.zone}
    if library == "polars":
        if form.holds == TIME:
            return {"dtype": "Time"}
        of = {"unit": "ms" if unit == "s" else unit}
        return {"dtype": "Duration"} | of if is_length else {"dtype": "Datetime"} | of | pair
    if library == "pyarrow":
        if form.holds == TIME:
            return {"dtype": f"time{64 if unit in ('us', 'ns') else 32}[{unit}]"}
        if is_length:
            return {"dtype": f"duration[{unit}]"}
        return {"dtype": f"timestamp[{unit}]"} | pair
    if form.holds == TIME:
        return {"dtype": "object", "of": "time", "unit": "us", "zone": None}
    if is_length:
        return {"dtype": f"timedelta64[{unit}]"}
    return {"dtype": f"datetime64[{unit}]"} | pair


# Reading. -----------------------------------------------------------------------------------------


def read_series(column, library, form):
    """Array (n,) of the dtype of a form, of a column of a library."""
    if library == "pandas" and not hasattr(column.dtype, "pyarrow_dtype"):
        column = column.dt.tz_convert(None) if form.zone else column
        return column.to_numpy().astype(form.dtype)
    if library == "polars":
        integers = column.to_physical().cast(int).fill_null(NAT).to_numpy()
    else:
        import pyarrow as pa

        if library == "pandas":
            column = pa.chunked_array(pa.array(column.array))
        is_short = str(column.type).startswith(("date32", "time32"))
        column = column.cast(pa.int32()) if is_short else column
        integers = column.cast(pa.int64()).fill_null(NAT).to_numpy()
    return integers.astype(np.int64, copy=False).view(form.dtype)


def read_array(values):
    """Columns of an array of ``datetime64`` or ``timedelta64``, and their type."""
    form = form_of({"dtype": values.dtype.str})
    if form is None:
        raise TypeError(
            f"X must hold dates or durations in {_UNITS_TEXT}; got the dtype {values.dtype}. "
            "Convert it to one of these units."
        )
    return [in_unit(column, form.dtype, c) for c, column in enumerate(values.T)], form.type


def read_moments(values, name):
    """Read Python objects that are all dates, all times of day or all durations, or None.

    Returns
    -------
    column : array of shape (n,)
    type : {"datetime", "duration"}
    options : dict
        Type, unit and time zone of the objects, to add to the description of an object dtype.

    Raises
    ------
    TypeError
        If other values are among them, or dates with and without a time zone.
    ValueError
        If a unit that holds all values has no integers large enough.
    """
    kinds = {type(value) for value in values if value is not None}
    names = {kind: _object_name(kind) for kind in kinds}
    meanings = {_OBJECTS.get(found, kind.__name__) for kind, found in names.items()}
    if len(meanings) > 1:
        raise TypeError(
            f"Column {name!r} must hold values of one kind; got "
            f"{' and '.join(sorted(kind.__name__ for kind in kinds))} values. Convert them to one "
            "type, for example with pandas.to_datetime."
        )
    zones = {_zone_of_object(value, name) for value in values if value is not None}
    zones.discard(_NO_VALUE)
    if None in zones and len(zones) > 1:
        raise TypeError(
            f"Column {name!r} must hold dates with a time zone or dates without one; got both. "
            "Convert them, for example with pandas.to_datetime(..., utc=True)."
        )
    zone = zones.pop() if len(zones) == 1 else ("UTC" if zones else None)
    pairs = [_NOTHING if value is None else _as_integer(value, name) for value in values]
    units = {unit for unit, integer in pairs if integer != NAT} or {unit for unit, _ in pairs}
    unit = max(units & set(UNITS), key=UNITS.index)
    ratios = {of: _ratio(of, unit) for of in UNITS}
    exact = [v if v == NAT else v * ratios[of] for of, v in pairs]
    beyond = next((i for i, v in enumerate(exact) if v != NAT and abs(v) >= 2**63), None)
    if beyond is not None:
        raise ValueError(
            f"Column {name!r} must hold dates that its unit {unit!r} can hold; got "
            f"{shown(values[beyond])} in row {beyond}. Convert the column to a coarser unit, or "
            "replace the value with None."
        )
    of = min(names.values(), key=list(_OBJECTS).index)
    form = _form(_OBJECTS[of], unit, zone)
    out = np.array(exact, np.int64).view(form.dtype)
    if zone and of == "datetime":
        check_years(to_local(out, zone), values, name, zone)
    return out, form.type, {"of": of, "unit": unit, "zone": zone}


_NO_VALUE, _NOTHING = object(), ("D", NAT)


def check_years(local, values, name, zone, what="Column"):
    """Check that Python can write wall-clock times (n,) in the zone of a column of values (n,)."""
    years = local.astype("M8[Y]")
    outside = np.flatnonzero((years < _YEARS[0]) | (years > _YEARS[1]))
    if len(outside):
        of_zone = f" of its time zone, {zone!r}" if zone else ""
        raise ValueError(
            f"{what} {name!r} must hold dates in the years 1 to 9999{of_zone}; got "
            f"{shown(values[outside[0]])} in row {outside[0]}. Replace the value with None, or "
            "convert all to one time zone."
        )


def _object_name(kind):
    if hasattr(kind, "asm8"):  # of pandas
        return "Timedelta" if issubclass(kind, datetime.timedelta) else "Timestamp"
    for base in (*TIMES[3:], datetime.datetime, *TIMES[:3]):
        if issubclass(kind, base):
            return base.__name__
    return kind.__name__


def _zone_of_object(value, name):
    zone = getattr(value, "tzinfo", None)
    if isinstance(value, np.datetime64 | np.timedelta64) and np.isnat(value):
        return _NO_VALUE
    if zone is None:
        return None
    if isinstance(value, datetime.time):
        raise TypeError(
            f"Column {name!r} must hold times of day without a time zone; got {shown(value)}. "
            "Convert them with .replace(tzinfo=None), or add their dates."
        )
    try:
        return zone_name(zone)
    except ValueError as error:
        raise TypeError(f"Column {name!r}: {error}") from error


def _as_integer(value, name):
    """Unit and integer of an object."""
    value = getattr(value, "asm8", value)
    if isinstance(value, np.datetime64 | np.timedelta64):
        form = form_of({"dtype": value.dtype.str})
        if form is None and not np.isnat(value):
            raise TypeError(
                f"Column {name!r} must hold dates or durations in {_UNITS_TEXT}; got "
                f"{shown(value)}. Convert them to one of these units."
            )
        dtype = form.dtype if form else value.dtype
        return np.datetime_data(dtype)[0], int(value.astype(dtype).astype(np.int64))
    if isinstance(value, datetime.datetime):
        epoch = _EPOCH if value.tzinfo is None else _EPOCH.replace(tzinfo=datetime.timezone.utc)
        return "us", (value - epoch) // _MICROSECOND
    if isinstance(value, datetime.date):
        return "D", value.toordinal() - _EPOCH.toordinal()
    if isinstance(value, datetime.time):
        value = datetime.datetime.combine(_EPOCH, value) - _EPOCH
    return "us", value // _MICROSECOND


def _ratio(coarse, fine):
    """Number of units in a coarser one; 0 if it is finer."""
    return int(np.timedelta64(1, coarse).astype(f"timedelta64[{fine}]").astype(np.int64))


def in_unit(values, dtype, name, *, exact=False, what="Column"):
    """Values (n,) in the unit of a dtype if that is finer; in the same unit otherwise.

    With ``exact`` also in a coarser unit, which must hold all values. Messages begin with ``what``.

    Raises
    ------
    ValueError
        If a value is beyond the range of the unit or, with ``exact``, between two of them.
    """
    source, target = (np.datetime_data(of)[0] for of in (values.dtype, dtype))
    if values.dtype == dtype:
        return values
    if not exact and source in UNITS and UNITS.index(source) > UNITS.index(target):
        return values
    out = values.astype(dtype)
    is_lost = (out.astype(values.dtype) != values) & ~np.isnat(values)
    if is_lost.any():
        raise ValueError(
            f"{what} {name!r} must hold values that its unit in fit, {target!r}, can hold; got "
            f"{values[is_lost][0]}. Replace the value with a missing one, or fit with "
            "another unit."
        )
    return out


def as_moments(values, form, name, first_row=0, held=None, what="Column"):
    """Values of a column of a `Frame` for a form; any column without a value is missing.

    ``held`` is the form of the values in their table, if that is known. Messages begin with
    ``what``.

    Raises
    ------
    ValueError
        If the column holds numbers or levels, or values of another form.
    """
    is_other = values.dtype.kind != form.dtype.kind
    if is_other or (held is not None and held.holds != form.holds):
        missing = np.isnan(values) if values.dtype.kind in "fMm" else np.equal(values, None)
        if not missing.all():
            value = values[~missing][0]
            text = str(value) if values.dtype.kind in "Mm" else number_text(value)
            found = f" ({held.holds})" if held is not None else ""
            raise ValueError(
                f"{what} {name!r} must hold {form.holds}, as in fit; got {text}{found} in row "
                f"{first_row + int(np.argmin(missing))}. Convert the column, or fit again."
            )
        return np.full(len(values), "NaT", form.dtype)
    return in_unit(values, form.dtype, name, what=what)


# Writing. -----------------------------------------------------------------------------------------


def as_integers(values, form):
    """Integers (n,) in the unit of a form, and the mask (n,) of missing ones, which are 0."""
    values = values.astype(form.dtype)
    missing = np.isnat(values)
    return np.where(missing, 0, values.astype(np.int64)), missing


def as_numpy_moments(values, dtype):
    """Values (n,) rounded to the nearest of a dtype of numpy, such as years."""
    before = values.astype(dtype)
    if np.can_cast(values.dtype, dtype):  # to the same unit, or a finer one
        return before
    after = before + 1
    is_nearer = after.astype(values.dtype) - values < values - before.astype(values.dtype)
    return np.where(is_nearer, after, before)


def as_python(values, description):
    """List of Python objects of the type that a description names, with None where missing."""
    form, of = form_of(description), description["of"]
    values = values.astype(form.dtype)
    missing = np.isnat(values)
    if of in ("Timestamp", "Timedelta"):
        import pandas as pd

        index = pd.DatetimeIndex(values) if of == "Timestamp" else pd.TimedeltaIndex(values)
        if form.zone:
            index = index.tz_localize("UTC").tz_convert(_pandas_zone(form.zone))
        out = list(index)
    elif of in ("datetime64", "timedelta64"):
        out = list(values)
    elif of == "date":
        out = values.astype("datetime64[D]").tolist()
    else:
        # Python has the years 1 to 9999: those of local time, not of UTC.
        local = to_local(values.astype(f"{form.dtype.kind}8[us]"), form.zone)
        out = local.tolist()
        if of == "time":
            out = [v if v is None else v.time() for v in out]
        if form.zone:
            zone, folds = zone_of(form.zone), from_local(local, form.zone) != values
            out = [
                v if v is None else v.replace(tzinfo=zone, fold=fold)
                for v, fold in zip(out, folds.tolist(), strict=True)
            ]
    return [None if m else v for v, m in zip(out, missing, strict=True)]


def pandas_series(values, form):
    """Series of a dtype of pandas that is not one of Arrow."""
    import pandas as pd

    series = pd.Series(values.astype(form.dtype))
    if form.zone is None:
        return series
    return series.dt.tz_localize("UTC").dt.tz_convert(_pandas_zone(form.zone))


def _pandas_zone(name):
    """Time zone for pandas: named ones as strings, of which its versions make different objects."""
    zone = zone_of(name)
    return name if isinstance(zone, ZoneInfo) else zone


def polars_series(name, values, form):
    """Series of integers or instants that can be cast to a dtype of polars."""
    import polars as pl

    integers, missing = as_integers(values, form)
    return pl.Series(name, integers).set(pl.Series(missing), None)


def arrow_array(values, form, dtype):
    """Array of a type of pyarrow."""
    import pyarrow as pa

    integers, missing = as_integers(values, form)
    is_short = str(dtype).startswith(("date32", "time32"))
    return pa.array(integers.astype(np.int32 if is_short else np.int64), mask=missing).view(dtype)
