"""Time zones: names, and wall-clock times of instants.

Instants are numpy arrays of dtype ``datetime64`` in UTC.
"""

import datetime
import re
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from cmim_sklearn._utils.messages import shown

_OFFSET = re.compile(r"([+-])(\d\d):(\d\d)(?::(\d\d))?")
_FIRST, _LAST = (np.datetime64(day, "s") for day in ("0001-01-02", "9999-12-30"))
"""Range of times that have an offset; others have that of its ends."""
_SEARCHED, _WEEK = np.array(["1900", "2100"], "datetime64[s]"), np.timedelta64(7, "D")


def zone_of(name):
    """The ``tzinfo`` with a name such as ``"Europe/Paris"``, ``"UTC"`` or ``"+02:00"``.

    Raises
    ------
    ValueError
        If no zone has this name.
    """
    if name == "UTC":
        return datetime.timezone.utc
    offset = _OFFSET.fullmatch(name)
    try:
        if offset is None:
            return ZoneInfo(name)
        hours, minutes, seconds = (int(part or 0) for part in offset.groups()[1:])
        size = datetime.timedelta(hours=hours, minutes=minutes, seconds=seconds)
        return datetime.timezone(-size if offset[1] == "-" else size)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            f"unknown time zone {shown(name)}. Use a name such as 'Europe/Paris' or an offset such "
            "as '+02:00'; on Windows, names need the package tzdata."
        ) from error


def zone_name(zone):
    """Name of a ``tzinfo``, from which `zone_of` creates an equal one; None for None.

    Raises
    ------
    ValueError
        If the zone has neither a name nor a fixed offset.
    """
    if zone is None or zone == datetime.timezone.utc:
        return zone and "UTC"
    name = getattr(zone, "key", None) or getattr(zone, "zone", None)
    if name:
        return name
    # `timezone` and pytz have an offset without a date; others, such as dateutil, have none.
    offset = zone.utcoffset(None)
    if offset is None:
        raise ValueError(
            f"time zone {shown(zone)} has no name. Convert the column to a zone of zoneinfo, for "
            'example with .dt.tz_convert("Europe/Paris").'
        )
    sign, seconds = ("-" if offset.days < 0 else "+"), round(abs(offset.total_seconds()))
    text = f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}"
    return f"{text}:{seconds % 60:02}" if seconds % 60 else text


def to_local(instants, name):
    """Wall-clock times (n,) of instants (n,) in a zone, both ``datetime64``; as is without one."""
    if name in (None, "UTC"):
        return instants
    zone = zone_of(name)
    days = instants.astype("datetime64[D]")
    firsts, place = np.unique(days, return_inverse=True)
    before, after = (_offsets(firsts + shift, zone) for shift in (0, 1))
    out = _plus(instants, before[place])
    # Days in which the offset changes.
    mixed = np.flatnonzero((before != after)[place] & ~np.isnat(instants))
    if len(mixed):
        out[mixed] = _plus(instants[mixed], _offsets(instants[mixed], zone))
    return out


def from_local(times, name):
    """Instants (n,) of wall-clock times (n,) in a zone.

    The first of two ambiguous instants. A time that does not exist, because clocks were put
    forward, is the instant of the change for the start of the gap, and later ones follow it.
    """
    if name in (None, "UTC"):
        return times
    zone = zone_of(name)
    found, place = np.unique(times, return_inverse=True)
    offsets = _offsets(found, zone, is_local=True)
    return _plus(times, -offsets[place])


@lru_cache
def changes(name, low, high):
    """Instants (m,) from low to high at which the offset of a zone changes, to the second.

    Only the years 1900 to 2100 are searched; two changes within a week may be missed.
    """
    low, high = (time.astype("datetime64[s]").clip(*_SEARCHED) for time in (low, high))
    weeks = np.append(np.arange(low, high, _WEEK), high)
    offsets = to_local(weeks, name) - weeks
    at = np.flatnonzero(np.diff(offsets))
    before, after, offset = weeks[at], weeks[at + 1], offsets[at]
    while len(at) and (after - before > np.timedelta64(1, "s")).any():
        middle = before + (after - before) // 2
        is_before = to_local(middle, name) - middle == offset
        before, after = np.where(is_before, middle, before), np.where(is_before, after, middle)
    return after


def _plus(times, seconds):
    """Times plus whole seconds, in the unit of the times, or in seconds if that is a day."""
    unit = np.datetime_data(times.dtype)[0]
    return times.astype("datetime64[s]") + seconds if unit == "D" else times + seconds


def _offsets(times, zone, *, is_local=False):
    """Offsets (n,) from UTC in seconds at instants, or at wall-clock times, (n,)."""
    inside = np.clip(times.astype("datetime64[s]"), _FIRST, _LAST)
    out = np.zeros(len(times), "timedelta64[s]")
    for i, time in enumerate(inside.tolist()):
        if time is not None:
            in_utc = time.replace(tzinfo=datetime.timezone.utc)
            local = time.replace(tzinfo=zone) if is_local else in_utc.astimezone(zone)
            out[i] = local.utcoffset()
    return out
