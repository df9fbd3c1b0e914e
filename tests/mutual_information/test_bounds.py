"""Bounds: formulas on score matrices, values and gradients with the optimal critic."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch.testing import assert_close

from benchmarks.studies.mutual_information import correlated
from cmim_sklearn.mutual_information._bounds import (
    MovingAverage,
    donsker_varadhan,
    infonce_bound,
    jensen_shannon,
    mine,
    nwj,
    smile,
)
from tests.helpers import score_matrix


def off_diagonal(F):
    """The entries off the diagonal."""
    return [F[i, j].item() for i in range(len(F)) for j in range(len(F)) if i != j]


def log_ratio(n, rho, seed=0):
    """The best critic, log p(x, z) / (p(x) p(z)), on n pairs of correlated Gaussians."""
    x, z, truth = correlated(n, 1, rho, seed=seed)
    x, z = torch.from_numpy(x), torch.from_numpy(z).T
    squares = rho**2 * (x**2 + z**2) - 2 * rho * x * z
    return -0.5 * math.log(1 - rho**2) - squares / (2 * (1 - rho**2)), truth


def test_values_follow_their_formulas():
    F = score_matrix()
    joint, product = np.diag(F.numpy()), np.array(off_diagonal(F))
    assert len(product) == 30
    dv = joint.mean() - math.log(np.exp(product).mean())
    assert_allclose(donsker_varadhan(F).item(), dv)
    assert_allclose(mine(F, torch.tensor(0.7)).item(), dv)
    assert_allclose(nwj(F).item(), joint.mean() - np.exp(product - 1).mean())
    rows = np.exp(F.numpy()).sum(1)
    assert_allclose(infonce_bound(F).item(), math.log(6) + (joint - np.log(rows)).mean())
    clipped = np.exp(product.clip(-1.5, 1.5)).mean()
    assert_allclose(smile(F, 1.5).item(), joint.mean() - math.log(clipped))
    logistic = np.log1p(np.exp(-joint)).mean() + np.log1p(np.exp(product)).mean()
    assert_allclose(jensen_shannon(F).item(), -logistic)


@pytest.mark.parametrize("constant", [-3.0, 0.0, 1.0, 4.5])
def test_constant_critic_shows_no_information(constant):
    F = torch.full((5, 5), constant, dtype=torch.float64)
    for value in (donsker_varadhan(F), infonce_bound(F), smile(F, 5.0)):
        assert value.item() == pytest.approx(0, abs=1e-12)
    assert nwj(F).item() == pytest.approx(constant - math.exp(constant - 1))
    assert nwj(torch.ones_like(F)).item() == 0


@pytest.mark.parametrize("rho", [0.2, 0.5, 0.9])
def test_optimal_critic_gives_the_information_of_a_gaussian(rho):
    F, truth = log_ratio(1000, rho)
    # The information of a pair, F_ii, has a deviation of rho: that is most of the noise.
    tolerance = 4 * rho / math.sqrt(1000)
    assert truth == pytest.approx(-0.5 * math.log(1 - rho**2))
    for value in (donsker_varadhan(F), nwj(F + 1), infonce_bound(F), smile(F, 20.0)):
        assert value.item() == pytest.approx(truth, abs=tolerance)
    assert donsker_varadhan(F + 7).item() == pytest.approx(donsker_varadhan(F).item())
    shifted = F + 7 * torch.arange(1000)[:, None]  # a constant for each x
    assert infonce_bound(shifted).item() == pytest.approx(infonce_bound(F).item())


def test_objectives_are_largest_for_the_optimal_critic():
    F, _ = log_ratio(1000, 0.8)
    for objective in (donsker_varadhan, lambda F: nwj(F + 1), infonce_bound, jensen_shannon):
        for other in (0.8 * F, 1.2 * F, torch.zeros_like(F)):
            assert objective(other) < objective(F)


@pytest.mark.parametrize("scale", [0.1, 10.0, 1000.0])
def test_infonce_is_never_above_log_b(scale):
    for seed in range(20):
        assert infonce_bound(score_matrix(seed=seed, scale=scale)) <= math.log(6)
    assert infonce_bound(1000 * torch.eye(6)).item() == pytest.approx(math.log(6))


@pytest.mark.parametrize("clip", [1.0, 5.0])
def test_smile_is_limited_by_its_clip(clip):
    F = score_matrix(scale=4.0)
    assert smile(F, math.inf) == donsker_varadhan(F)
    joint = F.diagonal().mean()
    assert joint - clip <= smile(F, clip) <= joint + clip


def gradient(function, F):
    F = F.clone().requires_grad_()
    function(F).backward()
    return F.grad


def test_mine_has_the_gradient_of_donsker_varadhan_at_the_batch_mean():
    F = score_matrix()
    own = torch.tensor(math.log(np.exp(off_diagonal(F)).mean()))
    expected = gradient(donsker_varadhan, F)
    assert_close(gradient(lambda F: mine(F, own), F), expected)


def test_mine_divides_its_gradient_by_the_average():
    F = score_matrix()
    own = math.log(np.exp(off_diagonal(F)).mean())
    got = gradient(lambda F: mine(F, torch.tensor(own + math.log(2))), F)
    expected = gradient(donsker_varadhan, F)
    itself = torch.eye(6, dtype=torch.bool)
    assert_close(got[itself], expected[itself])
    assert_close(got[~itself], expected[~itself] / 2)


def test_moving_average_of_mine():
    first, second = score_matrix(seed=1), score_matrix(seed=2)
    objective = MovingAverage(0.9)
    objective(first)
    means = [np.exp(off_diagonal(F)).mean() for F in (first, second)]
    assert objective.log_average.item() == pytest.approx(math.log(means[0]))
    assert objective(second).item() == pytest.approx(donsker_varadhan(second).item())
    expected = 0.9 * means[0] + 0.1 * means[1]
    assert objective.log_average.item() == pytest.approx(math.log(expected))
    objective = MovingAverage(0.9)
    objective(torch.full((4, 4), -100.0))
    assert objective.log_average.item() == pytest.approx(math.log(1e-4))


@pytest.mark.parametrize(
    "function", [donsker_varadhan, nwj, infonce_bound, jensen_shannon, lambda F: smile(F, 5.0)]
)
def test_large_scores_do_not_overflow(function):
    F = 500 * torch.eye(4)
    assert torch.isfinite(function(F))
    assert torch.isfinite(gradient(function, F)).all()
