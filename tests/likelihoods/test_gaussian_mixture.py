"""Mixture of Gaussians: special cases of one Gaussian, gradients, moments of samples."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from cmim_sklearn._likelihoods.gaussian_mixture import GaussianMixture, _LogMass
from tests.helpers import fitted_likelihood, measured, randn, random_params, seeded

KINDS = ["gaussian", "datetime", "duration"]


@pytest.fixture(params=KINDS)
def block(request):
    likelihood, columns = fitted_likelihood(request.param)
    return GaussianMixture(likelihood), measured(likelihood, columns)


def of_equal_gaussians(mixture, means):
    """Params for which all Gaussians of a column are N(mean, deviation)."""
    params = means.new_zeros(len(means), 10, 2)
    params[:, 0] = means
    at_zero = mixture.gaussians(params.flatten(1))
    deviation = mixture.block.deviation
    params[:, 4:7] = (means.unsqueeze(1) - at_zero[1]) / deviation
    floor = np.log(0.01)
    inverse = torch.log(torch.expm1(deviation.log() - floor)) + floor
    width = torch.log(torch.expm1(at_zero[2].log() - floor)) + floor
    params[:, 7:] = inverse - width
    return params.flatten(1)


def test_equal_gaussians_are_one(block):
    mixture, cells = block
    means = randn(len(cells), 2)
    params = of_equal_gaussians(mixture, means)
    expected = mixture.block.log_density(means, cells)
    assert_close(mixture.log_density(params, cells), expected, atol=1e-4, rtol=1e-4)
    local = mixture.local(params)
    assert_close(local, torch.cat([means, 2 * mixture.block.deviation.log().expand(60, 2)], 1))
    jacobian = randn(len(cells), 2, 3)
    assert_close(
        mixture.fisher_factor(jacobian, local, cells),
        mixture.block.fisher_factor(jacobian, means, cells),
    )
    assert_close(
        mixture.surrogate_gradient(local, cells), mixture.block.surrogate_gradient(means, cells)
    )


@pytest.mark.parametrize("far", [1.0, 8.0])
def test_densities_by_sums_are_those_by_logarithms(block, far):
    """The latter have a gradient, and are accurate far away."""
    mixture, cells = block
    params = far * random_params(mixture, 4 * len(cells)).view(4, len(cells), -1)
    for own in (params, params[:, :1], params[0], params[0, :1]):
        found = mixture.log_density(own, cells)
        expected = mixture.log_density(own.clone().requires_grad_(), cells).detach()
        assert_close(found, expected, atol=1e-4, rtol=1e-5)


def test_params_of_zero_have_the_trained_deviation():
    mixture = GaussianMixture(fitted_likelihood("gaussian")[0])
    mean, log_variance = mixture.local(torch.zeros(1, mixture.n_params)).chunk(2, -1)
    assert_close(mean, torch.zeros(1, 2))
    deviation = mixture.block.deviation
    assert_close((0.5 * log_variance).exp()[0], deviation, atol=0, rtol=0.05)  # the floor is soft


def test_samples_have_mean_and_variance_of_local():
    mixture = GaussianMixture(fitted_likelihood("gaussian")[0])
    params = random_params(mixture, 1)
    drawn = mixture.sample(params.expand(40_000, -1), seeded())
    mean, log_variance = mixture.local(params)[0].chunk(2)
    assert_close(drawn.mean(0), mean, atol=0.02, rtol=0)
    assert_close(drawn.std(0), (0.5 * log_variance).exp(), atol=0.02, rtol=0)


def test_density_of_numbers_integrates_to_one():
    likelihood, _ = fitted_likelihood("gaussian", numeric_scaling="standard")
    mixture = GaussianMixture(likelihood)
    grid = np.linspace(-40, 40, 40_001)
    cells = measured(likelihood, [grid, np.full(len(grid), np.nan)])
    total = mixture.log_density(random_params(mixture, 1), cells)[:, 0].exp().sum() * 0.002
    assert float(total) == pytest.approx(1, abs=2e-3)


def test_probabilities_of_whole_numbers_sum_to_one():
    likelihood, _ = fitted_likelihood("gaussian")
    mixture = GaussianMixture(likelihood)
    numbers = np.arange(-300.0, 301.0)
    cells = measured(likelihood, [np.full(len(numbers), np.nan), numbers])
    total = mixture.log_density(random_params(mixture, 1), cells)[:, 1].exp().sum()
    assert float(total) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("width", [0.0, 0.1, 3.0, np.inf])
@pytest.mark.parametrize("away", [-300.0, -20.0, -1.0, 0.0, 4.0, 30.0, 1000.0])
def test_gradient_of_log_mass_is_that_of_its_differences(away, width):
    mean = torch.tensor([[0.3]], dtype=torch.float64, requires_grad=True)
    deviation = torch.tensor([[0.7]], dtype=torch.float64, requires_grad=True)
    low = torch.tensor([[away]], dtype=torch.float64)
    interval = low, low + width, torch.tensor([[np.log(width or 2.0)]])

    def value(m, d):
        return _LogMass.apply(m, d, *interval)

    found = torch.autograd.grad(value(mean, deviation), [mean, deviation])
    step = 1e-5
    with torch.no_grad():
        by_mean = (value(mean + step, deviation) - value(mean - step, deviation)) / (2 * step)
        by_scale = (value(mean, deviation + step) - value(mean, deviation - step)) / (2 * step)
    assert_close(torch.cat(found), torch.cat([by_mean, by_scale]), rtol=2e-3, atol=1e-4)


def test_gradient_is_finite_far_away():
    mean = torch.tensor([[0.0, 0.0, 1e4]], requires_grad=True)
    deviation = torch.full((1, 3), 0.01, requires_grad=True)
    low = torch.tensor([[-torch.inf, 1e3, -torch.inf]])
    high = torch.tensor([[-1e4, 1e3 + 1, torch.inf]])
    loss = _LogMass.apply(mean, deviation, low, high, (high - low).log()).sum()
    for part in torch.autograd.grad(loss, [mean, deviation]):
        assert torch.isfinite(part).all()


def test_whole_numbers_outside_the_range_have_no_gradient():
    likelihood, _ = fitted_likelihood("gaussian")
    mixture = GaussianMixture(likelihood)
    cells = measured(likelihood, [np.full(2, np.nan), np.array([-40.0, 7e6])])
    params = random_params(mixture, 2).requires_grad_()
    log_density = mixture.log_density(params, cells)
    assert torch.isfinite(log_density).all()
    (gradient,) = torch.autograd.grad(log_density.sum(), [params])
    assert (gradient == 0).all()  # their density is that of a constant Gaussian


def test_expected_values_are_means_of_samples(block):
    mixture, _ = block
    params = 0.3 * random_params(mixture, 1)
    weights = torch.tensor([[0.25, 0.75]])
    both = torch.stack([params, params + 0.1], 1)
    expected = mixture.expected(both, weights)
    some = torch.cat([both[0, :1].expand(10_000, -1), both[0, 1:].expand(30_000, -1)])
    drawn = mixture.block.decode(mixture.sample(some, seeded()).numpy(), drawn=True)
    for mean, values in zip(expected, drawn, strict=True):
        numbers, own = values.astype(float), mean.astype(float)
        assert abs(own[0] - numbers.mean()) < 0.1 * numbers.std() + 0.51 * (own.dtype != mean.dtype)


def test_needed_cells_do_not_depend_on_others(block):
    mixture, _ = block
    params, weights = random_params(mixture, 24).view(8, 3, -1), torch.full((8, 3), 1 / 3)
    whole, needed = mixture.expected(params, weights), np.zeros((8, 2), bool)
    for rows in ([], [5], [2, 3, 7]):
        needed[rows, 1] = True
        first, second = mixture.expected(params, weights, needed=needed)
        assert len(first) == len(second) == 8
        assert second[rows].tolist() == whole[1][rows].tolist()
    (alone,) = mixture.expected(params, weights, [1], needed)
    assert alone.tolist() == second.tolist()


def test_moved_draws_have_the_mean_of_the_trained_outputs(block):
    mixture, _ = block
    params, trained = random_params(mixture, 12).view(3, 4, -1), randn(3, 2, seed=1)
    weights = torch.rand(3, 4, generator=seeded()).softmax(1)
    for trust in (0.0, 0.4, 1.0):
        moved = mixture.moved(params, weights, trained, torch.full((3,), trust))
        means, before = (
            (mixture.local(part)[..., :2] * weights.unsqueeze(2)).sum(1) for part in (moved, params)
        )
        assert_close(means, trust * trained + (1 - trust) * before)
        assert_close(mixture.gaussians(moved)[0], mixture.gaussians(params)[0])
