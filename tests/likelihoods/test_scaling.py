"""Scaling maps: inverse, slope, atoms, unbiased densities."""

import pickle

import numpy as np
import pytest
from scipy import stats

from cmim_sklearn._likelihoods.scaling import MAX_KNOTS, SCALINGS, quantile_map

SHAPES = {
    "normal": stats.norm(3, 2),
    "lognormal": stats.lognorm(1.0),
    "student": stats.t(3),
    "two humps": None,
}


def draw(shape, n, seed):
    rng = np.random.RandomState(seed)
    if SHAPES[shape] is not None:
        return SHAPES[shape].rvs(n, random_state=rng)
    return np.where(rng.rand(n) < 0.5, rng.randn(n) - 3, 0.5 * rng.randn(n) + 3)


def log_density(shape, x):
    if SHAPES[shape] is not None:
        return SHAPES[shape].logpdf(x)
    return np.log(0.5 * stats.norm(-3, 1).pdf(x) + 0.5 * stats.norm(3, 0.5).pdf(x))


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_scaling_map_inverts_inside_and_outside_the_range(scaling, shape):
    values = draw(shape, 500, 0)
    scale = SCALINGS[scaling](values)
    wide = np.concatenate([values, [values.min() - 10, values.max() + 10]])
    np.testing.assert_allclose(scale.inverse(scale.forward(wide)), wide, rtol=1e-9, atol=1e-9)
    assert (np.diff(scale.forward(np.sort(wide))) >= 0).all()


@pytest.mark.parametrize("scaling", SCALINGS)
def test_slope_is_the_derivative_and_integrates_to_the_map(scaling):
    values = draw("two humps", 500, 0)
    scale = SCALINGS[scaling](values)
    grid = np.linspace(values.min() - 2, values.max() + 2, 200_001)
    integral = np.sum(scale.slope(grid[:-1] + np.diff(grid) / 2) * np.diff(grid))
    rise = scale.forward(grid[-1:]) - scale.forward(grid[:1])
    assert integral == pytest.approx(rise[0], rel=1e-4)


@pytest.mark.parametrize("n", [2000, 5000, 10_000])
@pytest.mark.parametrize("shape", SHAPES)
def test_quantile_map_gives_an_unbiased_density_on_held_out_rows(shape, n):
    """Mean held-out log density through the map has a bias below 0.03 nats over several fits.

    The loss by overfitting, knots / (2 n) nats, is allowed in addition.
    """
    gaps = []
    for seed in range(20):
        scale = quantile_map(draw(shape, n, seed))
        held_out = draw(shape, 4000, 1000 + seed)
        y = scale.forward(held_out)
        log_p = stats.norm.logpdf(y) + np.log(scale.slope(held_out))
        gaps.append(np.mean(log_p - log_density(shape, held_out)))
    overfit = len(scale.x) / (2 * n)
    assert -0.03 - overfit < np.mean(gaps) < 0.01


def test_quantile_map_gives_normal_scores():
    values = np.random.RandomState(0).permutation(np.arange(1000.0)) ** 3
    scale = quantile_map(values)
    ranks = (np.cbrt(scale.x).round() + 0.5) / 1000
    slope, _ = np.polyfit(stats.norm.ppf(ranks), scale.y, 1)
    np.testing.assert_allclose(np.diff(scale.y), slope * np.diff(stats.norm.ppf(ranks)), rtol=1e-6)
    assert scale.forward(values).mean() == pytest.approx(0, abs=1e-9)
    assert scale.forward(values).std() == pytest.approx(1)
    assert len(scale.x) <= MAX_KNOTS


def test_quantile_map_gives_ties_their_mean_rank():
    values = np.array([0.0] * 90 + [1.0] * 10)
    scale = quantile_map(values)
    scores = stats.norm.ppf([0.45, 0.95])
    gap = np.diff(scale.forward(np.array([0.0, 1.0])))[0]
    spread = np.sqrt(0.9 * 0.1)
    assert gap * spread == pytest.approx(1)  # variance one
    assert np.diff(scores)[0] > 0
    assert scale.forward(values).mean() == pytest.approx(0, abs=1e-9)


def mostly_zero(n=1000, seed=0):
    rng = np.random.RandomState(seed)
    return np.where(rng.rand(n) < 0.8, 0.0, np.exp(rng.randn(n)))


def test_an_atom_covers_its_share_of_the_normal_scores():
    values = mostly_zero()
    scale = quantile_map(values)
    low, high = scale.interval([0.0])
    assert low[0] <= scale.forward([0.0])[0] < high[0]
    # Normal scores spread evenly over ranks: 80 % of them map back to 0, as 80 % of the rows do.
    ranks = (np.arange(1000) + 0.5) / 1000
    raw = stats.norm.ppf(ranks)
    centre, spread = raw_to_standardised(scale, values)
    drawn = scale.inverse((raw - centre) / spread)
    assert (drawn <= 0).mean() == pytest.approx((values == 0).mean(), abs=0.005)
    np.testing.assert_array_equal(scale.inverse(np.linspace(low[0], high[0], 9)), 0.0)


def raw_to_standardised(scale, values):
    """Centre and spread by which the map standardised normal scores, from two of its knots."""
    top = np.array([values.max(), np.sort(values)[-40]])
    ranks = np.array([np.mean(values < v) + np.mean(values == v) / 2 for v in top])
    spread = np.diff(stats.norm.ppf(ranks))[0] / np.diff(scale.forward(top))[0]
    return stats.norm.ppf(ranks[0]) - spread * scale.forward(top)[0], spread


def test_intervals_of_whole_numbers_tile_the_line():
    values = np.random.RandomState(0).poisson(4, 500).astype(float)
    scale = quantile_map(values)
    levels = np.unique(values)
    low, high = scale.interval(levels)
    np.testing.assert_allclose(low[1:], high[:-1], atol=1e-12)
    np.testing.assert_array_equal(scale.inverse(scale.forward(levels)), levels)
    assert (scale.slope(levels[:-1] + 0.5) == 0).all()


def test_probabilities_of_atoms_and_the_density_between_sum_to_one():
    values = mostly_zero()
    scale = quantile_map(values)
    grid = np.linspace(1e-6, 200, 400_001)
    density = np.sum(stats.norm.pdf(scale.forward(grid)) * scale.slope(grid)) * (grid[1] - grid[0])
    at_zero = stats.norm.cdf(scale.interval([0.0])[1])[0]
    assert density + at_zero == pytest.approx(1, abs=2e-3)


def test_atoms_are_recognised_in_single_precision():
    values = np.where(np.random.RandomState(0).rand(400) < 0.5, 0.1, 0.7).astype(float)
    values[:50] = np.random.RandomState(1).rand(50)
    scale = quantile_map(values)
    single = np.float64(np.float32([0.1, 0.7]))
    np.testing.assert_array_equal(scale.forward(single), scale.forward([0.1, 0.7]))
    large = quantile_map(16_777_000.0 + np.arange(50))
    steps = large.forward(16_777_000.0 + np.arange(50))
    assert (np.diff(steps) > 0).all()


@pytest.mark.parametrize("offset", [1.7e9, 2_459_000.0])
def test_large_real_numbers_keep_their_digits(offset):
    values = offset + np.random.RandomState(0).rand(3000)
    values[:300] = values[0]
    scale = quantile_map(values)
    np.testing.assert_allclose(scale.inverse(scale.forward(values)), values, rtol=1e-14)
    assert len(np.unique(scale.forward(values))) > 2500


def test_without_atoms_removes_all_intervals():
    plain = quantile_map(mostly_zero()).without_atoms()
    low, high = plain.interval(np.linspace(-1, 5, 50))
    np.testing.assert_array_equal(low, high)
    assert (plain.slope(np.linspace(0, 5, 50)) > 0).all()


def test_a_pickled_map_holds_its_knots_only():
    values = np.random.default_rng(0).normal(size=3000).round(1)
    scaling = quantile_map(values)
    size = len(pickle.dumps(scaling))
    scaling.without_atoms()  # which is kept
    assert len(pickle.dumps(scaling)) == size
    again = pickle.loads(pickle.dumps(scaling))
    np.testing.assert_array_equal(again.forward(values), scaling.forward(values))
    np.testing.assert_array_equal(again.interval(values), scaling.interval(values))
