"""Gaussian columns: scale, decimals, atoms, noise."""

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch.testing import assert_close

from cmim_sklearn._likelihoods import gaussian
from cmim_sklearn._likelihoods.gaussian import MIN_SCALE, Gaussian, log_normal_mass
from cmim_sklearn._likelihoods.scaling import MAX_SIZE, SCALINGS
from cmim_sklearn._likelihoods.summary import summarise
from tests.helpers import fitted_likelihood, measured, randn, random_params


def test_log_prob_is_the_normal_density():
    likelihood, _ = fitted_likelihood("gaussian")
    x, params = torch.randn(10, 2), torch.randn(10, 2)
    scale = likelihood.log_scale().exp()
    expected = torch.distributions.Normal(params, scale).log_prob(x)
    assert_close(likelihood.log_prob(params, x, torch.ones_like(x, dtype=bool)), expected)


def test_the_scale_has_a_soft_lower_bound():
    likelihood, _ = fitted_likelihood("gaussian")
    with torch.no_grad():
        likelihood.raw_scale.fill_(-2.0)
    assert_close(likelihood.log_scale().exp(), torch.full((2,), MIN_SCALE), atol=1e-4, rtol=0)
    likelihood.log_scale().sum().backward()
    assert (likelihood.raw_scale.grad > 0).all()


def test_whole_columns_decode_to_whole_numbers_inside_the_range():
    likelihood = Gaussian.fit([np.array([1.0, 2, 5, 9, 9]), np.array([0.5, 1, 2, 3, 4])], "ab")
    decoded = likelihood.decode(np.linspace(-9, 9, 50, dtype=np.float32)[:, None].repeat(2, 1))
    assert (decoded[0] == np.round(decoded[0])).all()
    assert (decoded[0].min(), decoded[0].max()) == (1, 9)
    assert (decoded[1].min(), decoded[1].max()) == (0.5, 4)
    assert (decoded[1] != np.round(decoded[1])).any()


def test_values_near_an_atom_decode_to_it():
    rng = np.random.RandomState(0)
    amounts = np.where(rng.rand(1000) < 0.8, 0.0, np.exp(rng.randn(1000)))
    likelihood = Gaussian.fit([amounts], ["amount"])
    zero = likelihood.encode([np.zeros(1)])
    noisy = (zero + 0.1 * rng.randn(500, 1)).astype(np.float32)
    assert (likelihood.decode(noisy)[0] == 0).all()
    np.testing.assert_allclose(
        likelihood.decode(likelihood.encode([amounts]))[0], amounts, rtol=1e-4
    )


def test_samples_are_multiples_of_the_step_and_point_estimates_are_not():
    rng = np.random.RandomState(0)
    columns = [np.round(0.005 * rng.randint(0, 300, 500), 3), 100.0 * rng.randint(0, 300, 500)]
    likelihood = Gaussian.fit(columns, "ab")
    encoded = rng.randn(500, 2).astype(np.float32)
    for step, drawn, point in zip(
        [0.005, 100.0],
        likelihood.decode(encoded, drawn=True),
        likelihood.decode(encoded),
        strict=True,
    ):
        np.testing.assert_allclose(np.round(drawn / step) * step, drawn, atol=1e-9)
        assert np.abs(drawn - point).max() <= step / 2 + 1e-9
        assert (np.abs(np.round(point / step) * step - point) > 1e-4).any()


@pytest.mark.parametrize(("step", "decimals"), [(2.0, 0), (4.0, 0), (0.02, 2), (0.5, 1)])
def test_each_multiple_of_the_step_has_its_share_of_the_samples(step, decimals):
    amounts = np.round(step * np.arange(400), decimals)
    likelihood = Gaussian.fit([amounts], ["amount"], numeric_scaling="standard")
    even = np.linspace(*likelihood.encode([amounts[[1, -2]]])[:, 0], 50_001)
    [drawn] = likelihood.decode(even[:, None].astype(np.float32), drawn=True)
    _, counts = np.unique(np.round(drawn / step)[100:-100], return_counts=True)
    assert len(counts) > 390
    np.testing.assert_allclose(counts[1:-1], 50_000 / 397, rtol=0.05)


def test_grid_of_a_sample_has_the_step_of_all_rows():
    sample = 10.0 * np.random.RandomState(0).randint(0, 50, 300)
    for all_rows, step in ((sample, 10), (np.append(sample, 133.0), 1)):
        summaries = summarise([all_rows])
        [grid] = Gaussian.fit([sample], ["amount"], summaries=summaries).grids
        assert grid.step == step


@pytest.mark.parametrize("scaling", SCALINGS)
def test_multiples_of_a_step_have_all_the_probability(scaling):
    rng = np.random.RandomState(0)
    amounts = 100.0 * rng.randint(-20, 200, 500)
    likelihood = Gaussian.fit([amounts], ["amount"], numeric_scaling=scaling)
    every = np.arange(-10_000.0, 30_000.0)
    p = likelihood.log_density(torch.zeros(1, 1), measured(likelihood, [every])).exp()[:, 0]
    is_multiple = torch.from_numpy(every % 100 == 0)
    assert p.sum() == pytest.approx(1, abs=1e-3)
    assert p[~is_multiple].sum() <= likelihood.leak[0] * 1.001
    assert (p[~is_multiple & torch.from_numpy(np.abs(every) < 5)] > 0).all()


@pytest.mark.parametrize("values", [[], [4.0], [4.0] * 9, [1e30] * 3, [1e30, 1e30 + 1e15]])
@pytest.mark.parametrize("scaling", SCALINGS)
def test_degenerate_columns_encode_and_decode(values, scaling):
    column = np.array([*values, np.nan])
    likelihood = Gaussian.fit([column], ["c"], numeric_scaling=scaling)
    with np.errstate(over="ignore"):
        encoded = likelihood.encode([column])
    assert np.isnan(encoded[-1, 0])
    if values:
        np.testing.assert_allclose(likelihood.decode(encoded)[0][:-1], values, rtol=1e-5)


STEPS = np.arange(60)
MAGNITUDES = {
    "subnormal": 5e-324 * (STEPS % 9),
    "1e-300": 1e-300 * np.linspace(-3, 3, 60) ** 3,
    "1e300": 1e300 * np.linspace(-3, 3, 60) ** 3,
    "ends": np.where(STEPS % 2, 1e305, -1e305) * (1 - 0.1 * (STEPS % 5)),
    "all of float64": np.where(STEPS % 2, 1, -1) * 10.0 ** np.linspace(-300, 300, 60),
    "outlier above": np.where(STEPS == 7, 1e305, np.linspace(0, 1, 60)),
    "outlier below": np.where(STEPS == 7, -1e305, 1e-300 * STEPS),
    "last ulps": 0.1 + np.spacing(0.1) * (STEPS % 3),
    "1e15 and a little": 1e15 + 0.125 * (STEPS % 5),
    "near 2**53": 2.0**53 - 1 - STEPS % 7,
    "above 2**53": 2.0**60 + 512 * (STEPS % 30),
    "two of them": np.where(STEPS % 30, 0.1, 0.1 + 1e-9),
    "decimals": np.where(STEPS == 7, 1e304, 0.25 * (STEPS % 9)),
}


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("name", MAGNITUDES)
def test_numbers_of_any_magnitude_stay_finite_and_in_the_range(name, scaling):
    values = MAGNITUDES[name]
    likelihood = Gaussian.fit([values], ["c"], numeric_scaling=scaling)
    encoded = likelihood.encode([values])
    assert np.isfinite(encoded).all()
    params = torch.from_numpy(np.concatenate([encoded, 20 * encoded, -20 * encoded]))
    noisy = params + 0.3 * torch.randn(params.shape, generator=torch.Generator().manual_seed(0))
    shares = torch.full((len(params), 3), 1 / 3)
    generated = [
        likelihood.decode(noisy.numpy(), drawn=True)[0],
        likelihood.expected(noisy[:, None].expand(-1, 3, -1), shares)[0],
    ]
    decoded = likelihood.decode(noisy.numpy())[0]
    log_p = likelihood.log_density(params[:60], measured(likelihood, [values]))
    assert torch.isfinite(log_p).all()
    for found in (decoded, *generated):
        assert np.isfinite(found).all()
        assert np.abs(found).max() <= MAX_SIZE
    is_whole = likelihood.decimals == [0]
    for found in (decoded, *generated) if scaling == "quantile" or is_whole else (decoded,):
        assert values.min() <= found.min() <= found.max() <= values.max()


@pytest.mark.parametrize(
    ("values", "scaling"),
    [
        (2.0**53 - 1 - STEPS % 7, "quantile"),
        (2.0**60 + 256 * (STEPS % 5), "quantile"),
        (1e15 + STEPS % 5, "quantile"),
        (1e15 + STEPS % 5, "standard"),
        (1e15 + STEPS, "quantile"),
        (1e15 + STEPS, "standard"),
    ],
)
def test_large_whole_numbers_are_told_from_their_neighbours(values, scaling):
    likelihood = Gaussian.fit([values], ["c"], numeric_scaling=scaling)
    np.testing.assert_array_equal(likelihood.decode(likelihood.encode([values]))[0], values)
    levels = np.unique(values)
    params = torch.from_numpy(likelihood.encode([values[:1]])).expand(len(levels), 1)
    p = likelihood.log_density(params, measured(likelihood, [levels])).exp()
    assert p.sum().item() == pytest.approx(1, abs=0.05)
    assert p.argmax() == levels.searchsorted(values[0])


@pytest.mark.parametrize(
    ("values", "decimals"),
    [
        ([1.0, 2, 30], 0),
        ([1.5, 2, 30.25], 2),
        (np.float32([0.1, 0.7, 12.3]).astype(float), 1),
        (np.random.RandomState(0).randn(9), None),
        ([], None),
    ],
)
def test_decimals_are_those_of_the_values(values, decimals):
    likelihood = Gaussian.fit([np.array([*values, np.nan])], ["c"])
    assert likelihood.decimals == [decimals]
    if decimals:
        drawn = likelihood.decode(np.random.RandomState(0).randn(50, 1), drawn=True)[0]
        np.testing.assert_allclose(drawn, np.round(drawn, decimals), rtol=1e-7)


def test_large_whole_numbers_keep_their_probabilities():
    """Probabilities of bins that are narrower than float32 resolves."""
    rng = np.random.RandomState(0)
    values = np.round(2e6 + 5e5 * rng.randn(2000))
    likelihood = Gaussian.fit([values], ["c"])
    grid = np.arange(2_000_000.0, 2_200_000.0)
    p = likelihood.log_density(torch.zeros(len(grid), 1), measured(likelihood, [grid])).exp()
    drawn = likelihood.sample(torch.zeros(100_000, 1), torch.Generator().manual_seed(0))
    drawn = likelihood.decode(drawn.numpy(), drawn=True)[0]
    share = ((drawn >= grid[0]) & (drawn <= grid[-1])).mean()
    assert p.sum().item() == pytest.approx(share, abs=0.01)


def test_refitted_noise_has_a_lower_bound_and_shrinks_to_the_trained_scale():
    likelihood, columns = fitted_likelihood("gaussian")
    cells = measured(likelihood, columns)
    with torch.no_grad():
        apart = cells[:, :, 0].nan_to_num() + 0.3 * torch.randn(
            60, 2, generator=torch.Generator().manual_seed(0)
        )
        still = torch.zeros_like(apart)
        learnt = likelihood.log_scale().exp()
        likelihood.refit_noise(apart, still, cells, 1.0)
        assert_close(likelihood.deviation, learnt)
        for _ in range(50):
            likelihood.refit_noise(apart, still, cells, 0.0)
        assert likelihood.deviation[0].item() == pytest.approx(0.3, abs=0.06)
        for _ in range(50):
            likelihood.refit_noise(apart, still + 0.5, cells, 0.0)
        assert likelihood.deviation[0].item() == pytest.approx((0.09 + 0.5) ** 0.5, abs=0.06)
        for _ in range(50):
            likelihood.refit_noise(cells[:, :, 0].nan_to_num(), still, cells, 0.0)
        assert_close(likelihood.deviation, torch.full((2,), MIN_SCALE), atol=1e-6, rtol=0)


def test_refitted_noise_excludes_the_noise_of_rounding():
    likelihood = Gaussian.fit([np.arange(10.0)], ["c"])
    generator = torch.Generator().manual_seed(0)
    rounding, deviation = 1 / 12, 0.3  # variance of rounding to an interval of width 1
    params = (deviation**2 + rounding) ** 0.5 * torch.randn(4000, 1, generator=generator)
    cells = torch.zeros(4000, 1, likelihood.cell_width)
    cells[:, :, 1], cells[:, :, 2] = -0.5, 0.5
    with torch.no_grad():
        for _ in range(50):
            likelihood.refit_noise(params, torch.zeros_like(params), cells, 0.0)
    assert likelihood.deviation.item() == pytest.approx(deviation, abs=0.02)


def test_interval_probabilities_are_exact_in_both_tails():
    low = np.array([-300.0, -30, -9, -1, -0.02, 0, 0.5, 3, 8, 40, 300])
    width = np.array([0.008, 0.3, 5.0])[:, None]  # narrow, usual and wide
    parts = (torch.as_tensor(x).expand(3, 11).float() for x in (low, low + width, np.log(width)))
    found = log_normal_mass(torch.zeros(1, 11), torch.tensor(0.5).expand(11), *parts)
    a, b = low / 0.5, (low + width) / 0.5
    a, b = np.where(a + b > 0, -b, a), np.where(a + b > 0, -a, b)
    log_b = norm.logcdf(b)
    expected = log_b + np.log1p(-np.exp(norm.logcdf(a) - log_b))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_probabilities_do_not_depend_on_what_is_left_out(monkeypatch):
    mean = 5 * randn(40, 6)
    deviation = randn(40, 6, seed=1).exp()
    low = 30 * randn(40, 6, seed=2)
    width = (4 * randn(40, 6, seed=3)).exp()
    parts = mean, deviation, low, low + width, width.log()
    expected = log_normal_mass(*parts)
    monkeypatch.setattr(gaussian, "leaves_out", lambda x: False)
    assert_close(log_normal_mass(*parts), expected)


@pytest.mark.parametrize("low", [1e3, 1e6, -1e6, 3e8, 1e12])
def test_intervals_far_from_the_mean_have_a_probability(low):
    """In single precision both ends may be one number."""
    width, deviation = 0.0625, 1.0
    parts = (torch.tensor([[x]]).float() for x in (low, low + width, np.log(width)))
    low, high, log_width = parts
    found = log_normal_mass(torch.zeros(1, 1), torch.full((1,), deviation), low, high, log_width)
    nearest = min(abs(float(low)), abs(float(high)))
    assert float(found) == pytest.approx(-0.5 * nearest**2, rel=1e-3)


def test_missing_and_impossible_cells_do_not_change_other_columns():
    likelihood, columns = fitted_likelihood("gaussian")
    cells, params = measured(likelihood, columns), random_params(likelihood, 60)
    changed = cells.clone()
    changed[::2, 1] = torch.nan
    changed[1::4, 1, 3] = -torch.inf
    found, expected = (likelihood.log_density(params, x) for x in (changed, cells))
    assert torch.equal(found[:, 0], expected[:, 0])
    assert (found[::2, 1] == 0).all()
    assert torch.isfinite(found).all()
