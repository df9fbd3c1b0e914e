"""Scaling maps: inverses, slopes that integrate, densities without bias."""

import numpy as np
import pytest
from scipy import stats

from cmim_sklearn.scaling import MAX_KNOTS, SCALINGS, quantile_map

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
    """Mean held-out log density through the map, against the truth, within 0.03 nats of bias.

    Over several fits, so that it is the bias that is measured; on top of it comes what any density
    of so many free knots loses to its own noise, knots / (2 n).
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


def test_quantile_map_takes_ties_at_their_mean_rank():
    values = np.array([0.0] * 90 + [1.0] * 10)
    scale = quantile_map(values)
    scores = stats.norm.ppf([0.45, 0.95])
    gap = np.diff(scale.forward(np.array([0.0, 1.0])))[0]
    spread = np.sqrt(0.9 * 0.1)
    assert gap * spread == pytest.approx(1)  # variance one
    assert np.diff(scores)[0] > 0
    assert scale.forward(values).mean() == pytest.approx(0, abs=1e-9)
