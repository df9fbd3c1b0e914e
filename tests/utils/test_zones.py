"""Time zones: names, and wall-clock times of instants."""

import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from cmim_sklearn._utils.zones import changes, from_local, to_local, zone_name, zone_of

ZONES = [
    "UTC",
    "Europe/Paris",
    "America/Sao_Paulo",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
    "-03:30",
]


@pytest.mark.parametrize("name", [*ZONES, "+01:02:03"])
def test_a_zone_keeps_its_name(name):
    assert zone_name(zone_of(name)) == name


def test_zones_of_other_libraries_have_names():
    assert zone_name(None) is None
    assert zone_name(datetime.timezone.utc) == "UTC"
    assert zone_name(ZoneInfo("Asia/Kolkata")) == "Asia/Kolkata"
    assert zone_name(pd.DatetimeTZDtype("ns", "Europe/Paris").tz) == "Europe/Paris"
    assert zone_name(pd.Timestamp("2020-01-01T00:00+05:30").tz) == "+05:30"


@pytest.mark.parametrize("name", ["Nowhere/Else", "", "../passwd", "+25:00", "a" * 300])
def test_unknown_names_raise(name):
    with pytest.raises(ValueError, match="unknown time zone '"):
        zone_of(name)


def test_a_zone_without_a_name_raises():
    class Nameless(datetime.tzinfo):
        def utcoffset(self, when):
            return None if when is None else datetime.timedelta(hours=1)

    with pytest.raises(ValueError, match=r"has no name\. Convert"):
        zone_name(Nameless())


@pytest.mark.parametrize("name", ZONES)
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_wall_clock_times_are_those_of_pandas(name, unit):
    rng = np.random.default_rng(0)
    instants = rng.integers(0, 2 * 10**9, 300).astype("M8[s]").astype(f"M8[{unit}]")
    instants[:50] = np.datetime64("2021-03-28T00:30", unit) + np.arange(50) * np.timedelta64(6, "m")
    instants[7] = "NaT"
    expected = pd.Series(instants).dt.tz_localize("UTC").dt.tz_convert(zone_of(name))
    found = to_local(instants, name)
    assert found.dtype == instants.dtype
    np.testing.assert_array_equal(found, expected.dt.tz_localize(None).to_numpy())
    # All instants but the second ones of ambiguous times return.
    back = from_local(found, name)
    is_ambiguous = np.isnat(instants) | (back == instants)
    np.testing.assert_array_equal(to_local(back, name), found)
    assert is_ambiguous.mean() > 0.95


def test_a_midnight_that_does_not_exist_is_the_change_of_the_clock():
    midnight = np.array(["2018-11-04"], "M8[us]")  # 00:00 became 01:00
    instant = from_local(midnight, "America/Sao_Paulo")
    assert instant.tolist() == [datetime.datetime(2018, 11, 4, 3)]
    assert to_local(instant, "America/Sao_Paulo").tolist() == [datetime.datetime(2018, 11, 4, 1)]


def test_extreme_dates_have_the_offset_of_the_first_and_last():
    ends = np.array([-(2**55), 2**55], np.int64).astype("M8[s]")
    assert np.abs(to_local(ends, "Europe/Paris") - ends).max() < np.timedelta64(1, "D")


def test_changes_of_a_zone_are_found_to_the_second():
    ends = np.array(["2021-01-01", "2022-06-01"], "datetime64[us]")
    assert changes("Europe/Paris", *ends).astype(str).tolist() == [
        "2021-03-28T01:00:00",
        "2021-10-31T01:00:00",
        "2022-03-27T01:00:00",
    ]
    assert len(changes("Asia/Tokyo", *ends)) == len(changes("+02:00", *ends)) == 0
    far = np.array(["0001-01-01", "9999-12-31"], "datetime64[s]")
    assert changes("America/Sao_Paulo", *far)[0] == np.datetime64("1914-01-01T03:06:28")
