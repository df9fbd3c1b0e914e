"""Likelihood of dates and durations: that of the whole numbers they count."""

import numpy as np
import pytest
import torch

from cmim_sklearn._likelihoods.dates import Dates, Durations
from cmim_sklearn._likelihoods.gaussian import Gaussian
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


def test_weekdays_have_shares_only_if_they_differ():
    state = Dates.fit([DAYS], ["d"]).state()
    assert state["shares"] == [None]
    with pytest.raises(ValueError, match=r"weekly shares must be 7 floats .*; got"):
        Dates(**state | {"shares": [[0.5, 0.5]]})
    hours = Dates.fit([DAYS.astype("datetime64[s]") + np.arange(200) * 3600], ["d"]).state()
    with pytest.raises(ValueError, match="in steps of a day; got 'hour'"):
        Dates(**hours | {"shares": [[0.1] * 7]})
