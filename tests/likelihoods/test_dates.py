"""Likelihood of dates and durations: that of the whole numbers they count."""

import pickle

import numpy as np
import pytest
import torch

from cmim_sklearn._likelihoods.clock import Clock
from cmim_sklearn._likelihoods.dates import Dates, Durations
from cmim_sklearn._likelihoods.gaussian import Gaussian
from cmim_sklearn._likelihoods.gaussian_mixture import GaussianMixture
from cmim_sklearn._likelihoods.scaling import standard_map
from cmim_sklearn._likelihoods.weekly import WeeklyMap
from cmim_sklearn._utils.zones import from_local, to_local
from tests.helpers import columns_of, random_params

DAYS = np.datetime64("2020-01-01") + np.random.RandomState(0).randint(0, 60, 200)


@pytest.mark.parametrize("scaling", ["quantile", "standard"])
def test_dates_are_encoded_measured_and_drawn_as_their_counts(scaling):
    counts = (DAYS - DAYS.min()).astype(float)
    dates = Dates.fit([DAYS], ["d"], numeric_scaling=scaling)
    numbers = Gaussian.fit([counts], ["n"], numeric_scaling=scaling)
    np.testing.assert_array_equal(dates.encode([DAYS]), numbers.encode([counts]))
    np.testing.assert_array_equal(dates.measure([DAYS]), numbers.measure([counts]))
    params = random_params(dates, 50)
    drawn = dates.sample(params, torch.Generator().manual_seed(0)).numpy()
    (days,), (whole,) = (of.decode(drawn, drawn=True) for of in (dates, numbers))
    np.testing.assert_array_equal((days - DAYS.min()).astype(float), whole)
    weights = torch.full((25, 2), 0.5)
    (days,), (mean,) = (of.expected(params.view(25, 2, 1), weights) for of in (dates, numbers))
    np.testing.assert_array_equal((days - DAYS.min()).astype(float), np.round(mean))


def test_probabilities_of_all_days_sum_to_one():
    dates = Dates.fit([DAYS], ["d"])
    every = np.arange(DAYS.min(), DAYS.max() + 1)
    cells = torch.from_numpy(dates.measure([every]))
    log_p = dates.log_density(random_params(dates, 3)[:, None], cells)
    np.testing.assert_allclose(log_p.exp().sum((1, 2)).detach(), 1, atol=0.01)


def test_dates_without_a_scaling_are_standardised():
    dates = Dates.fit([DAYS], ["d"], numeric_scaling=None)
    assert abs(dates.encode([DAYS]).mean()) < 1e-5
    assert dates.encode([DAYS]).std() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("kind", [Dates, Durations])
def test_decoded_values_are_in_the_range_seen(kind):
    columns = columns_of(kind.takes)
    likelihood = kind.fit(columns, "ab", numeric_scaling="standard")
    far = np.array([[-1e9, 1e9], [1e9, -1e9], [np.nan, np.nan]], np.float32)
    for drawn in (False, True):
        for before, after in zip(columns, likelihood.decode(far, drawn=drawn), strict=True):
            ends = {np.nanmin(before), np.nanmax(before)}
            assert set(after[:2]) == ends
            assert np.isnat(after[2])


def test_a_constant_date_is_known():
    constant = np.full(9, np.datetime64("2020-02-02T01:02:03", "ms"))
    likelihood = Dates.fit([constant, DAYS[:9]], "ab")
    assert likelihood.constant_of(0) == constant[0]
    assert likelihood.constant_of(1) is None


def test_dates_that_float64_cannot_tell_apart_give_a_warning():
    values = (10**18 + np.array([0, 2**60, 2**60 + 1] * 3)).astype("M8[ns]")
    with pytest.warns(UserWarning, match=r"'d' has dates so far apart.* 1 of them from others"):
        Dates.fit([values], ["d"])


def test_a_state_needs_a_clock_for_each_column():
    state = Dates.fit([DAYS], ["d"]).state()
    with pytest.raises(ValueError, match="each column of dates must have a clock"):
        Dates(**state | {"clocks": []})
    with pytest.raises(ValueError, match="whole counts"):
        Dates(**state | {"decimals": [None]})


@pytest.mark.parametrize("scaling", ["quantile", "standard"])
def test_drawn_days_have_the_weekdays_of_the_data(scaling):
    rng, shares = np.random.RandomState(0), np.array([0.2, 0.18, 0.17, 0.17, 0.16, 0.12, 0.0])
    days = np.datetime64("2022-01-03") + rng.choice(700, 2000, p=np.tile(shares / 100, 100))
    dates = Dates.fit([days], ["d"], numeric_scaling=scaling)
    assert dates.cycles.parts == [["year", "week"]]
    dates.deviation.fill_(0.2)
    every = np.arange(days.min(), days.max() + 1)
    cells = torch.from_numpy(dates.measure([every]))
    params = torch.linspace(-1, 1, 41)[:, None, None]
    p = dates.log_density(params, cells).exp().detach().numpy()[..., 0]
    np.testing.assert_allclose(p.sum(1), 1, atol=0.01)
    found = np.bincount((every - days.min()).astype(int) % 7, p.mean(0))
    expected = np.bincount((days - days.min()).astype(int) % 7, minlength=7) / 2000
    np.testing.assert_allclose(found, expected, atol=0.015)
    drawn = dates.sample(torch.zeros(20_000, 1), torch.Generator().manual_seed(0)).detach().numpy()
    share = np.bincount((dates.decode(drawn)[0] - days.min()).astype(int), minlength=len(every))
    np.testing.assert_allclose(share / 20_000, p[20], atol=0.01)
    (same,) = Dates(**dates.state()).decode(dates.encode([days]))
    np.testing.assert_array_equal(same, days)


ZONES = [None, "UTC", "Europe/Paris", "Australia/Lord_Howe"]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("step", ["1h", "30m", "1s"])
def test_drawn_times_have_the_weekdays_and_hours_of_the_data(step, zone):
    rng = np.random.RandomState(0)
    hours = np.datetime64("2022-01-03T09", "h") + 24 * rng.choice(150, 2000) + rng.choice(8, 2000)
    hours = hours[np.is_busday(hours.astype("M8[D]"))]
    number, unit = int(step[:-1]), step[-1]
    inside = np.timedelta64(1, "h") // np.timedelta64(number, unit)
    times = hours.astype("M8[s]")
    times += number * rng.choice(inside, len(hours)).astype(f"m8[{unit}]")
    times = from_local(times, zone)
    dates = Dates.fit([times], ["d"], zones=[zone])
    assert dates.cycles.parts[0][:2] == ["week", "day"]
    dates.deviation.fill_(0.3)
    drawn = dates.sample(torch.zeros(5000, 1), torch.Generator().manual_seed(0)).detach().numpy()
    local = to_local(dates.decode(drawn, drawn=True)[0], zone)
    assert np.is_busday(local.astype("M8[D]")).mean() > 0.99
    hour = (local - local.astype("M8[D]")) // np.timedelta64(1, "h")
    assert ((hour >= 9) & (hour < 17)).mean() > 0.98
    means, one = torch.linspace(-1.5, 1.5, 400)[:, None, None], torch.ones(400, 1)
    mixture = torch.cat([means, torch.zeros(400, 1, 9)], -1)
    (of_mixture,) = GaussianMixture(dates).expected(mixture, one)
    (mean,) = dates.expected(means, one)
    for local in (to_local(mean, zone), to_local(of_mixture, zone)):
        hour = (local - local.astype("M8[D]")) // np.timedelta64(1, "h")
        assert (np.is_busday(local.astype("M8[D]")) & (hour >= 9) & (hour < 17)).all()
    plain = Gaussian.expected(dates, means, one)[0]
    moved = np.abs(dates.clocks[0].relative(mean) - plain).max() * dates.clocks[0].size
    assert moved < 33 * 3600  # half a weekend, and an hour by which clocks change
    again = pickle.loads(pickle.dumps(Dates(**dates.state())))
    (same,) = again.decode(again.encode([times]))
    assert np.abs(same - times).max() < np.timedelta64(5, "s")  # of single precision
    if step == "1s":
        return
    every = dates.clocks[0].absolute(np.arange(dates.clocks[0].last + 1.0))
    cells = torch.from_numpy(dates.measure([every]))
    p = dates.log_density(torch.tensor([-1.0, 0.5])[:, None, None], cells).exp().detach()
    np.testing.assert_allclose(p.sum((1, 2)), 1, atol=0.01)


@pytest.mark.parametrize("zone", ZONES)
def test_a_weekly_map_is_inverted_and_has_its_slope(zone):
    unit = np.datetime64("2022-01-01T00:30", "m")
    clock = Clock("datetime64[s]", int(unit.astype("M8[s]").astype(int)), 40_000, "minute", zone)
    shares = np.random.RandomState(0).uniform(0.1, 2, 168)
    m = WeeklyMap(standard_map(np.arange(40_000.0)), (shares / shares.sum()).tolist(), clock)
    counts = np.arange(-500, 41_000) + 0.25
    np.testing.assert_allclose(m.inverse(m.forward(counts)), counts, atol=1e-6)
    np.testing.assert_allclose(
        (m.forward(counts + 0.1) - m.forward(counts - 0.1)) / 0.2, m.slope(counts), rtol=1e-6
    )
    local = clock.local(clock.absolute(np.arange(40_001.0)))
    bins = (local.astype("M8[h]") - np.datetime64("1970-01-05", "h")).astype(int) % 168
    lengths = np.diff(m.stretch(np.arange(40_002) - 0.5))
    np.testing.assert_allclose(lengths, 168 * shares[bins] / shares.sum(), rtol=1e-6)


def test_weekdays_have_shares_only_if_they_differ():
    state = Dates.fit([DAYS], ["d"]).state()
    assert state["shares"] == [None]
    with pytest.raises(ValueError, match=r"weekly shares must be 7 floats .*; got"):
        Dates(**state | {"shares": [[0.5, 0.5]]})
    hours = DAYS.astype("datetime64[s]") + np.arange(200) * 3601
    state = Dates.fit([hours], ["d"]).state()
    assert state["shares"] == [None]
    with pytest.raises(ValueError, match=r"weekly shares must be 168 floats .*; got"):
        Dates(**state | {"shares": [[0.1] * 7]})
    state = Dates.fit([DAYS[:3].astype("datetime64[us]")], ["d"]).state()
    with pytest.raises(ValueError, match="over two weeks; got"):
        Dates(**state | {"shares": [[0.1] * 7], "clocks": [state["clocks"][0] | {"last": 9}]})


def test_hours_depend_on_the_day_only_if_the_data_show_it():
    rng = np.random.RandomState(0)
    day = np.datetime64("2022-01-03", "s") + 86400 * rng.choice(200, 3000)
    late = np.arange(3000) % 2 * 8
    apart = day + 3600 * (rng.choice(8, 3000) + late)
    for times, is_product in ((apart, True), (_late_on_fridays(day, rng), False)):
        (shares,) = Dates.fit([times], ["d"]).shares
        shares = np.reshape(shares, (7, 24))
        product = np.outer(shares.sum(1), shares.sum(0))
        assert np.allclose(shares, product) == is_product


def _late_on_fridays(days, rng):
    is_friday = (days.astype("M8[D]") - np.datetime64("1970-01-05")).astype(int) % 7 == 4
    return days + 3600 * (rng.choice(8, len(days)) + 12 * is_friday)
