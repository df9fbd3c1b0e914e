"""Clocks: dates as counts of whole steps, exactly, in every unit and time zone."""

import datetime

import numpy as np
import pytest

from cmim_sklearn._likelihoods.clock import Clock, ClockSummary
from cmim_sklearn._utils.zones import from_local, to_local

DAYS = np.arange("2014-01-01", "2019-01-01", dtype="M8[D]")
MONTHS = np.arange("2014-01", "2019-01", dtype="M8[M]").astype("M8[D]")
RNG = np.random.RandomState(0)
ZONES = [None, "UTC", "+05:30", "Europe/Paris", "America/Sao_Paulo", "Australia/Lord_Howe"]


def clock_of(values, zone=None):
    return ClockSummary(zone).add(values).clock()


def assert_exact(clock, values):
    back = clock.absolute(clock.relative(values))
    assert back.dtype == values.dtype
    np.testing.assert_array_equal(back, values)


@pytest.mark.parametrize("unit", ["s", "ns"])
@pytest.mark.parametrize("zone", ZONES)
def test_whole_days_and_months_of_a_zone_are_counted(zone, unit):
    for days, step in ((DAYS, "day"), (DAYS[::7], "week"), (MONTHS, "month")):
        values = from_local(days.astype(f"M8[{unit}]"), zone)
        values = np.append(values, np.datetime64("NaT"))
        clock = clock_of(values, zone)
        assert (clock.step, clock.last) == (step, len(days) - 1)
        assert clock.relative(values)[:-1].tolist() == list(range(len(days)))
        assert_exact(clock, values)
        assert (clock.low, clock.high) == (values[0], values[-2])
        again = Clock(**clock.state())
        np.testing.assert_array_equal(again.relative(values), clock.relative(values))


@pytest.mark.parametrize(
    ("size", "unit", "step"),
    [
        (1, "h", "hour"), (15, "m", "minute"), (1, "s", "second"), (1, "ms", "millisecond"),
        (1, "us", "microsecond"), (1, "ns", "nanosecond"), (24, "h", "day"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["M", "m"])
def test_the_longest_common_step_is_found(size, unit, step, kind):
    values = 40 * 10**15 + np.arange(1, 40).cumsum() * np.timedelta64(size, unit).astype(
        "m8[ns]"
    ).astype(int)
    values = values.astype(f"{kind}8[ns]")
    clock = clock_of(values)
    assert clock.step == step
    assert_exact(clock, values)


@pytest.mark.parametrize(
    ("values", "step", "every"),
    [
        (np.datetime64("2024-01-01T00:05", "s") + 900 * RNG.randint(0, 999, 300), "minute", 15),
        (MONTHS[2::3], "month", 3),
        (np.arange("1950", "2020", dtype="M8[Y]").astype("M8[D]"), "month", 12),
        (DAYS[::14], "week", 2),
        ((10 * RNG.randint(0, 99, 300)).astype("m8[s]"), "second", 10),
        (DAYS[:80:5], "day", 1),  # too few to tell
    ],
)
def test_multiples_of_steps_are_found(values, step, every):
    clock = clock_of(values)
    assert (clock.step, clock.every) == (step, every)
    counts = clock.relative(values)
    np.testing.assert_array_equal(counts, np.round(counts))
    assert (np.diff(np.unique(counts)).min() == 1) == (every > 1)
    assert_exact(clock, values)
    (between,) = clock.relative(values[:1].astype(f"{values.dtype.kind}8[ms]") + 5000)
    assert 0 < between - counts[0] < 1
    zone = "Europe/Paris"
    if values.dtype.kind == "M":
        times = from_local(values.astype("M8[s]"), zone)
        assert clock_of(times, zone).state() | {"dtype": 0, "zone": 0, "start": 0} == {
            **clock.state(), "dtype": 0, "zone": 0, "start": 0,
        }  # fmt: skip
        assert_exact(clock_of(times, zone), times)


def test_a_summary_of_parts_is_that_of_the_whole():
    values = from_local(DAYS.astype("M8[ms]"), "Europe/Paris")
    whole = ClockSummary("Europe/Paris").add(values)
    parts = ClockSummary("Europe/Paris")
    for start in range(0, len(values), 99):
        parts.add(values[start : start + 99])
    assert parts.clock().state() == whole.clock().state()
    assert parts.n_seen == len(values)
    parts.add(values[:1] + np.timedelta64(1, "s"))
    assert parts.clock().step == "second"
    empty = ClockSummary().add(np.full(3, "NaT", "M8[us]"))
    assert empty.n_seen == 0
    assert np.isnat(empty.clock().absolute(np.array([np.nan]))).all()


def test_the_first_and_last_nanosecond_of_64_bits_return():
    ends = np.array([-(2**63) + 1, 0, 2**63 - 1], np.int64).astype("M8[ns]")
    clock = clock_of(ends)
    assert clock.last == 2**64 - 2
    assert_exact(clock.keeping(ends), ends)
    assert clock.absolute(np.array([-5.0, 1e300])).tolist() == ends[[0, 2]].tolist()


def test_nanoseconds_beyond_2_53_are_kept_and_merged_ones_counted():
    values = 10**18 + np.array([0, 2**60, 2**60 + 1, 2**60 + 1, 2**61])
    values = values.astype("M8[ns]")
    clock = clock_of(values)
    assert clock.is_wide
    assert clock.merged(values) == 1  # 2**60 and its neighbour
    assert_exact(clock.keeping(values), values[[0, 2, 4]])  # the more frequent one
    assert clock.merged(values[[0, 1, 4]]) == 0


@pytest.mark.parametrize(("values", "n", "step"), [(DAYS[::7], 5, "week"), (MONTHS, 3, "month")])
@pytest.mark.parametrize("n_parts", [1, 2, 7])
def test_weeks_and_months_need_several_different_dates(values, n, step, n_parts):
    for n_values, expected in ((n, step), (n - 1, "day")):
        summary = ClockSummary()
        for part in np.array_split(np.tile(values[:n_values], 4), n_parts):
            summary.add(part)
        assert summary.clock().step == expected
    assert ClockSummary().add(np.repeat(values[:1], 9)).clock().step == "day"  # constant


def test_values_between_steps_and_of_other_units_have_fractions():
    clock = clock_of(DAYS[:30])
    values = np.array(["2014-01-02T12:00", "2013-12-31T18:00", "NaT"], "M8[ns]")
    np.testing.assert_allclose(clock.relative(values), [1.5, -0.25, np.nan])
    clock = clock_of(MONTHS)
    found = clock.relative(np.array(["2014-02-15", "2013-12-01"], "M8[D]"))
    np.testing.assert_allclose(found, [1.5, -1])


def test_a_day_of_23_hours_is_one_day():
    days = np.array(["2021-03-28", "2021-03-29", "2021-03-31"], "M8[s]")
    values = from_local(days, "Europe/Paris")
    assert np.diff(values)[0] == np.timedelta64(23, "h")
    clock = clock_of(values, "Europe/Paris")
    assert clock.relative(values).tolist() == [0, 1, 3]
    (between,) = to_local(clock.absolute(np.array([2.0])), "Europe/Paris").tolist()
    assert between == datetime.datetime(2021, 3, 30)


STATE = {"dtype": "datetime64[s]", "start": 0, "last": 9, "step": "day", "zone": None, "kept": []}
WIDE = {"step": "second", "last": 2**54}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "datetime64[Y]"}, r"got 'datetime64\[Y\]'"),
        ({"dtype": "float64"}, "dtype of dates"),
        ({"dtype": "timedelta64[s]", "step": "month"}, r"got \[0, 9, 1, 'month'\]"),
        ({"every": 0}, r"got \[0, 9, 0, 'day'\]"),
        ({"step": "os"}, "'os'"),
        ({"step": "nanosecond"}, "'nanosecond'"),
        ({"last": -1}, "-1"),
        ({"last": 2.5}, "2.5"),
        ({"last": 2**63}, "within 64 bits"),
        ({"last": 2**63, "step": "month"}, "within 64 bits"),
        ({"start": 2**63}, str(2**63)),
        ({"zone": "Nowhere"}, "unknown time zone 'Nowhere'"),
        ({"kept": [0]}, r"keep ints, if it is wide; got \[0\]"),
        (WIDE | {"kept": [0.5]}, r"keep ints, .*; got \[0.5\]"),
        (WIDE | {"kept": [9, 0]}, "must differ and ascend"),
    ],
)
def test_unsound_states_raise(change, message):
    with pytest.raises(ValueError, match=message):
        Clock(**STATE | change)
