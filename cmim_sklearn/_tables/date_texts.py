"""Strings that are dates or durations: in conditions, and in columns that nobody parsed."""

import re
import warnings

import numpy as np

from cmim_sklearn._likelihoods.clock import UNITS
from cmim_sklearn._tables.moments import (
    DATE,
    DATETIME,
    LENGTH,
    STORED_UNITS,
    TIME,
    ZONED,
    in_unit,
)
from cmim_sklearn._utils.messages import listed, shown
from cmim_sklearn._utils.stacklevel import user_stacklevel
from cmim_sklearn._utils.zones import from_local

# Conditions. --------------------------------------------------------------------------------------

_ISO_TIME = (
    r"(?P<time>\d\d(?::\d\d(?::\d\d(?:\.\d{1,9})?)?)?)"
    r"\s*(?P<zone>Z|z|[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?)?"
)
_ISO_DATE = re.compile(rf"(?P<day>\d{{4}}-\d\d(?:-\d\d)?)(?:[T ]{_ISO_TIME})?")
_SPAN = re.compile(
    r"(?P<sign>-?)(?:(?P<days>\d+) ?(?:days?|D))?"
    r"(?:(?P<time_sign>,? ?[+-]?)(?P<hours>\d+):(?P<minutes>\d\d)(?::(?P<seconds>\d\d)"
    r"(?:\.(?P<fraction>\d{1,9}))?)?)?"
)
"""Duration as pandas and Python write it: ``3 days 04:05:06.7``, ``-1 day, 23:00:00``."""
_ISO_SPAN = re.compile(
    r"(?P<sign>-?)P(?:(?P<days>-?\d+)D)?(?P<time_sign>)(?:T(?:(?P<hours>\d+)H)?"
    r"(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+)(?:\.(?P<fraction>\d{1,9}))?S)?)?"
)
_EXAMPLES = {
    DATE: "a date, or a string such as '2024-03-01' or '2024-03-01T12:30'",
    ZONED: "a date, or a string such as '2024-03-01T12:30' or '2024-03-01T12:30+01:00'",
    TIME: "a datetime.time, or a string such as '12:30'",
    LENGTH: "a datetime.timedelta, or a string such as '3 days', '3 days 04:30:00' or 'P3DT4H'",
}


CONDITION = "`conditions`: column"
"""Beginning of messages about a condition."""


def parse(values, form, name):
    """Array (n,) of the dtype of a form from strings in ISO form, or None.

    A date without a time zone is in the local time of the column's zone.

    Raises
    ------
    ValueError
        If a string is no date or duration, or the column has no time zone but the string has one.
    """
    out = np.full(len(values), "NaT", form.dtype)
    for i, text in enumerate(values):
        if text is not None:
            time = _date(text.strip(), form) if form.type == DATETIME else _span(text.strip())
            if time is None:
                raise ValueError(
                    f"{CONDITION} {name!r} must hold {form.holds}; got {shown(text)}. "
                    f"Pass {_EXAMPLES[form.holds]}."
                )
            out[i : i + 1] = in_unit(time, form.dtype, name, exact=True, what=CONDITION)
    return out


def _date(local, form):
    """Date or time of day (1,) of a string; None if it is none, or has a zone it must not have."""
    if form.holds == TIME:
        local = f"1970-01-01T{local}" if ":" in local else ""
    found = _ISO_DATE.fullmatch(local)
    if found is None or (found["zone"] and form.holds != ZONED):
        return None
    day, clock, zone = found.groups()
    try:
        time = np.array([np.datetime64(day if clock is None else f"{day}T{clock}")])
    except ValueError:
        return None
    unit = np.datetime_data(time.dtype)[0]
    time = time.astype(f"datetime64[{STORED_UNITS.get(unit, unit)}]")
    if zone is None:
        return from_local(time, form.zone)
    if zone in "Zz":
        return time
    return from_local(time, f"{zone[:3]}:{zone[3:].lstrip(':') or '00'}")


def _span(text):
    """Duration (1,) of a string in the coarsest unit that holds it; None if it is none."""
    found = _SPAN.fullmatch(text) or _ISO_SPAN.fullmatch(text)
    parts = found and [found[part] for part in ("days", "hours", "minutes", "seconds")]
    if not found or not any(parts):
        return None
    days, *of_time = (int(part or 0) for part in parts)
    fraction = (found["fraction"] or "").ljust(9, "0")
    size = sum(a * b for a, b in zip(of_time, (3600, 60, 1), strict=True)) * 10**9 + int(fraction)
    sign = -1 if found["sign"] else 1
    # "-1 days +23:00" and "-1 day, 23:00" are an hour before 0, "-1 days 23:00" is longer.
    time_sign = {"+": 1, ",": 1, "-": -1}.get((found["time_sign"] or "").replace(" ", ""), sign)
    size = sign * days * 86_400 * 10**9 + time_sign * size
    for unit in UNITS:
        in_one = int(np.timedelta64(1, unit).astype("m8[ns]").astype(np.int64))
        if size % in_one == 0 and abs(size // in_one) < 2**63:
            return np.array([size // in_one]).astype(f"m8[{unit}]")
    return None


# Columns of strings. ------------------------------------------------------------------------------

N_READ, MIN_DISTINCT, MAX_WORDS = 1000, 3, 3
"""Number of rows read to recognise dates, least number of different ones, most other words."""
_DIGIT = re.compile(r"\d")
_TIME = (
    r"(?:(?:T| )\d\d?:\d\d(?::\d\d(?:[.,]\d+)?)?(?: ?(?:Z|UTC|[+-]\d\d(?::?\d\d)?|[AaPp][Mm]))?)?"
)
_MONTHS = (
    r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec|January|February|March|April|June|July"
    r"|August|September|October|November|December)"
)
_YEAR, _MONTH, _DAY = r"(?:1[5-9]|2[01])\d\d", r"(?:0?[1-9]|1[0-2])", r"(?:0?[1-9]|[12]\d|3[01])"
_FORMS = [
    re.compile(form + _TIME, re.IGNORECASE)
    for form in (
        rf"{_YEAR}([-/]){_MONTH}\1{_DAY}",
        rf"{_YEAR}\.\d\d\.\d\d",
        rf"{_DAY}([-/]){_MONTH}\1{_YEAR}",
        rf"{_MONTH}([-/]){_DAY}\1{_YEAR}",
        rf"\d\d\.(?:0[1-9]|1[0-2])\.{_YEAR}",
        rf"{_DAY}[- ]{_MONTHS}\.?[- ],?{_YEAR}",
        rf"{_MONTHS}\.? {_DAY},? {_YEAR}",
    )
]
"""Forms of dates. One of them must match all strings: versions and codes match few of them."""


def looks_like_dates(values):
    """Whether the first values (n,) of a column are strings in one form of dates.

    A few words without digits, such as "unknown", may be among them.
    """
    found = {value for value in values[:N_READ] if value is not None}
    if len(found) < MIN_DISTINCT or not all(isinstance(value, str) for value in found):
        return False
    texts = [text.strip() for text in found if _DIGIT.search(text)]
    is_usual = len(texts) >= MIN_DISTINCT and len(found) - len(texts) <= MAX_WORDS
    return is_usual and any(all(form.fullmatch(text) for text in texts) for form in _FORMS)


def date_example(values):
    """First string with a digit of a column (n,)."""
    return next(value for value in values if value is not None and _DIGIT.search(value))


def warn_of_texts(columns, library):
    """Warn of columns of strings that look like dates, a dict of name to an example."""
    if columns:
        how = {
            "polars": "str.to_datetime or str.to_date of polars",
            "pyarrow": "pyarrow.compute.strptime",
        }.get(library, "pandas.to_datetime")
        names = listed(list(columns))
        warnings.warn(
            f"Strings that look like dates are read as categories. Columns: {names}, "
            f"such as {shown(next(iter(columns.values())))}. Parse them, for example with {how}, "
            "or name the columns in categorical_features to keep them as categories.",
            UserWarning,
            stacklevel=user_stacklevel(),
        )
