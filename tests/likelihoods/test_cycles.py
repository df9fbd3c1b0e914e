"""Cyclic parts of dates as encoder inputs."""

import numpy as np
import pandas as pd
import pytest
import torch

from cmim_sklearn._likelihoods.dates import Dates, Durations
from cmim_sklearn._utils.zones import from_local

RNG = np.random.RandomState(0)
DAYS = np.datetime64("2019-01-01") + RNG.randint(0, 1500, 400)
HOURS = np.datetime64("2019-01-01", "us") + 3600 * 10**6 * RNG.randint(0, 30_000, 400)
MINUTES = np.datetime64("2021-05-03T00:30", "s") + 60 * RNG.randint(0, 50_000, 400)
MONTHS = (np.datetime64("2010-01") + RNG.randint(0, 40, 400)).astype("datetime64[s]")
TIMES = np.datetime64("1970-01-01", "ns") + 60 * 10**9 * RNG.randint(0, 1440, 400)
OPEN = np.datetime64("2021-01-04T09", "s") + 86_400 * RNG.randint(0, 500, 400)
OPEN = from_local(OPEN[np.is_busday(OPEN.astype("M8[D]"))], "Europe/Paris")
OPEN = np.resize(OPEN + 3600 * RNG.randint(0, 8, len(OPEN)), 400)
TABLES = {
    "opening hours": (OPEN, "Europe/Paris", ["year", "week", "day"]),
    "days": (DAYS, None, ["year", "week"]),
    "hours": (HOURS, "Europe/Paris", ["year", "week", "day"]),
    "minutes": (MINUTES, "+05:30", ["week", "day", "hour"]),
    "months": (MONTHS, None, ["year"]),
    "times of day": (TIMES, None, ["day", "hour"]),
    "weeks": (DAYS.astype("datetime64[W]").astype("datetime64[D]"), None, ["year"]),
}


def expected_parts(dates, zone, step):
    """Parts of the wall-clock times in turns, by pandas."""
    local = pd.DatetimeIndex(dates.astype("datetime64[ns]"))
    if zone:
        local = local.tz_localize("UTC").tz_convert(zone).tz_localize(None)
    hours = local.hour + local.minute / 60
    days = (local - pd.Timestamp("1970-01-01")) / pd.Timedelta(days=1)
    year = (local.month - 1) / 12 if step == "month" else days / 365.2425
    week = (local.day_of_week + 4) % 7 + hours / 24  # 1970 began on a Thursday
    return {"year": year, "week": week / 7, "day": hours / 24, "hour": local.minute / 60}


@pytest.mark.parametrize("scaling", ["quantile", "standard"])
@pytest.mark.parametrize("name", TABLES)
def test_inputs_are_sine_and_cosine_of_the_parts_that_vary(name, scaling):
    dates, zone, parts = TABLES[name]
    likelihood = Dates.fit([dates, dates[::-1]], "ab", zones=[zone] * 2, numeric_scaling=scaling)
    assert likelihood.cycles.parts == [parts, parts]
    x = torch.from_numpy(likelihood.encode([dates, dates[::-1]]))
    found = likelihood.inputs(x, likelihood.observed(x)).numpy()
    assert found.shape == (400, likelihood.n_inputs) == (400, 2 + 4 * len(parts))
    np.testing.assert_array_equal(found[:, :2], x.numpy())
    exact = expected_parts(dates, zone, likelihood.clocks[0].step)
    angles = 2 * np.pi * np.array([exact[part] for part in parts]).T
    first = found[:, 2:].reshape(400, 2, 2, len(parts))
    for inputs, function in zip(first.swapaxes(0, 1), (np.sin, np.cos), strict=True):
        np.testing.assert_allclose(inputs[:, 0], function(angles), atol=2e-3)
        np.testing.assert_allclose(inputs[:, 1], function(angles[::-1]), atol=2e-3)


def test_inputs_of_missing_dates_are_zero():
    likelihood = Dates.fit([DAYS, HOURS], "ab")
    x = torch.from_numpy(likelihood.encode([DAYS[:3], HOURS[:3]]))
    x[1, 0] = torch.nan
    inputs = likelihood.inputs(x, likelihood.observed(x))
    assert likelihood.cycles.parts == [["year", "week"], ["year", "week", "day"]]
    of_first = [0, 2, 3, 7, 8]
    assert (inputs[1, of_first] == 0).all()
    assert (np.delete(inputs.numpy(), of_first, 1) != 0).all()
    assert (inputs[[0, 2]] != 0).all()


def test_parts_that_do_not_vary_are_no_inputs():
    one_day = np.datetime64("2020-01-06T08", "h") + RNG.randint(0, 6, 50)
    birthdays = (np.datetime64("1980-03", "Y") + RNG.randint(0, 40, 50)).astype("datetime64[D]")
    for dates in (one_day.astype("datetime64[s]"), birthdays, birthdays[:1]):
        assert Dates.fit([dates], "a").n_inputs == 1
    assert Durations.fit([HOURS - HOURS[0]], "a").n_inputs == 1


def test_minutes_that_single_precision_cannot_tell_are_no_inputs():
    dates = np.tile(HOURS, 10)
    dates[0] = np.datetime64("9999-12-31")
    assert Dates.fit([dates], "a").cycles.parts == [["year", "week", "day"]]
    far = np.datetime64("0001-01-01", "us") + 60 * 10**6 * np.arange(0, 4 * 10**9, 9_999_991)
    assert Dates.fit([far], "a", numeric_scaling="standard").cycles.parts == [["year", "week"]]


@pytest.mark.parametrize("parts", [["hour"], ["week", "week"], ["age"]])
def test_parts_must_suit_the_clock(parts):
    state = Dates.fit([DAYS], "a").state()
    assert Dates(**state).state()["parts"] == [["year", "week"]]
    with pytest.raises(ValueError, match=r"cyclic parts of a clock must be among .*'week'.*; got"):
        Dates(**state | {"parts": [parts]})
