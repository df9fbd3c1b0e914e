"""Posteriors and what codes are drawn from: densities, floors, closed forms."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from cmim_sklearn.latents import (
    FIXED_LOG_VARIANCE,
    LATENT_PRIORS,
    MIN_LOG_VARIANCE,
    POSTERIORS,
    DiagonalNormal,
    MixtureLatents,
    standard_normal,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_diagonal_normal_agrees_with_torch():
    mean, log_variance = torch.randn(5, 3), torch.randn(5, 3)
    z = torch.randn(5, 3)
    expected = torch.distributions.Normal(mean, torch.exp(0.5 * log_variance)).log_prob(z).sum(1)
    assert_close(DiagonalNormal(mean, log_variance).log_prob(z), expected)


def test_log_prob_broadcasts_one_variance_over_components():
    mean, z = torch.randn(5, 3), torch.randn(5, 3)
    one = DiagonalNormal(mean, torch.full((5, 1), -1.0))
    all_of_them = DiagonalNormal(mean, torch.full((5, 3), -1.0))
    assert_close(one.log_prob(z), all_of_them.log_prob(z))


def test_anchor_is_the_standard_normal():
    z = torch.randn(4, 6)
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
    assert_close(standard_normal(z).log_prob(z), expected)


@pytest.mark.parametrize("name", POSTERIORS)
def test_posterior_has_the_asked_width_and_stays_above_its_floor(name):
    posterior = POSTERIORS[name](3)
    outputs = 50 * torch.randn(8, 3 * posterior.outputs_per_component, generator=generator())
    q = posterior(outputs, torch.rand(8, 1, generator=generator()))
    assert q.rsample(torch.zeros(8, 3)).shape == (8, 3)
    assert posterior.mean(outputs).shape == (8, 3)
    assert q.log_variance.min() >= MIN_LOG_VARIANCE


@pytest.mark.parametrize("name", POSTERIORS)
def test_gradient_reaches_outputs_and_parameters(name):
    posterior = POSTERIORS[name](3)
    outputs = torch.randn(8, 3 * posterior.outputs_per_component, requires_grad=True)
    q = posterior(outputs, torch.rand(8, 1))
    (q.rsample(torch.randn(8, 3)) ** 2).sum().backward()
    assert (outputs.grad != 0).all()
    assert [n for n, p in posterior.named_parameters() if p.grad is None] == []


def test_sampled_variance_covers_its_range_and_moves_the_mean_linearly():
    posterior = POSTERIORS["sampled"](2)
    with torch.no_grad():
        posterior.by_log_variance.copy_(torch.tensor([1.0, -2.0]))
    outputs = torch.zeros(3, 2)
    q = posterior(outputs, torch.tensor([[0.0], [0.5], [1.0]]))
    assert_close(q.log_variance, torch.tensor([[-6.0], [-3.0], [0.0]]))
    assert_close(q.mean, torch.tensor([[-6.0, 12.0], [-3.0, 6.0], [0.0, 0.0]]))
    assert_close(posterior.mean(outputs), q.mean[:1].expand(3, 2))


def test_learned_floor_is_soft():
    posterior = POSTERIORS["learned"](1)
    far_below = torch.tensor([[0.0, -30.0]], requires_grad=True)
    posterior(far_below, None).log_variance.sum().backward()
    assert far_below.grad[0, 1] > 0


def test_fixed_variance_is_the_same_for_all_rows():
    q = POSTERIORS["fixed"](2)(torch.randn(4, 2), torch.rand(4, 1))
    assert q.log_variance.unique().tolist() == [FIXED_LOG_VARIANCE]


@pytest.mark.parametrize(("floor", "expected"), [(math.exp(-6), 0.108), (math.exp(-3), 0.482)])
def test_linear_model_at_the_floor_has_its_known_code_scale(floor, expected):
    """x ~ N(0, 1), mean a x, decoder N(w z, 0.3^2): a = (2 sigma^2 / 0.3^2)^(1/4), by descent."""
    a, w = torch.tensor(0.5, requires_grad=True), torch.tensor(1.0, requires_grad=True)
    optimizer = torch.optim.LBFGS([a, w], lr=0.5, max_iter=500, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        # Expectations over x and the code's noise, in closed form.
        distortion = ((1 - w * a) ** 2 + (w * floor) ** 2) / (2 * 0.3**2)
        value = distortion + 0.25 * (a**2 + floor**2)
        value.backward()
        return value

    optimizer.step(loss)
    assert a.abs().item() == pytest.approx(expected, rel=0.02)
    assert w.abs().item() == pytest.approx(expected / (expected**2 + floor**2), rel=0.05)


def test_a_learned_variance_runs_to_its_floor():
    """Nothing in A-MIM opposes it: in the linear model descent ends at the floor."""
    posterior = POSTERIORS["learned"](1)
    a, w, raw = (torch.tensor(v, requires_grad=True) for v in (0.5, 1.0, 0.0))
    optimizer = torch.optim.Adam([a, w, raw], lr=0.05)
    noise = generator()
    for _ in range(1500):
        x = torch.randn(256, 1, generator=noise)
        q = posterior(torch.cat([a * x, raw.expand(256, 1)], 1), None)
        z = q.rsample(torch.randn(256, 1, generator=noise))
        distortion = 0.5 * ((x - w * z) / 0.3).square().sum(1)
        loss = distortion - 0.5 * (q.log_prob(z) + standard_normal(z).log_prob(z))
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    assert q.log_variance[0].item() == pytest.approx(MIN_LOG_VARIANCE, abs=0.1)


@pytest.mark.parametrize("name", LATENT_PRIORS)
def test_latents_survive_their_state_and_repeat_their_draws(name):
    codes = np.random.RandomState(0).randn(300, 3)
    latents = LATENT_PRIORS[name].fit(codes, 0)
    again = LATENT_PRIORS[name](**latents.state())
    first = latents.sample(50, np.random.default_rng(1))
    assert first.shape == (50, 3)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, again.sample(50, np.random.default_rng(1)))


def test_mixture_has_the_mean_and_covariance_of_the_codes():
    rng = np.random.RandomState(0)
    codes = np.concatenate([rng.randn(1500, 2) * 0.3 + [2, 0], rng.randn(1500, 2) * 0.5 - [2, 1]])
    latents = MixtureLatents.fit(rng.permutation(codes), 0)
    assert len(latents.weights) > 1
    drawn = latents.sample(40_000, np.random.default_rng(0))
    np.testing.assert_allclose(drawn.mean(0), codes.mean(0), atol=0.1)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(codes.T), atol=0.15)


def test_mixture_weights_sum_to_one_and_two_rows_suffice():
    latents = MixtureLatents.fit(np.array([[0.0, 1.0], [1.0, 0.0]]), 0)
    assert latents.weights.sum() == pytest.approx(1)
    assert np.isfinite(latents.sample(5, np.random.default_rng(0))).all()
