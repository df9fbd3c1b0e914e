"""Posteriors and what codes are drawn from: densities, floors, closed forms."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from cmim_sklearn._models.latent_prior import (
    LATENT_PRIORS,
    Latents,
    component_log_prob,
    mixture_latents,
    mixture_log_prob,
    normal_latents,
)
from cmim_sklearn.latents import (
    FIXED_LOG_VARIANCE,
    MIN_LOG_VARIANCE,
    POSTERIORS,
    DiagonalNormal,
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
    assert q.log_variance.min() >= MIN_LOG_VARIANCE


@pytest.mark.parametrize("name", POSTERIORS)
def test_inference_is_the_narrowest_posterior_of_training(name):
    posterior = POSTERIORS[name](3)
    for parameter in posterior.parameters():
        torch.nn.init.normal_(parameter, generator=generator())
    outputs = torch.randn(8, 3 * posterior.outputs_per_component, generator=generator())
    narrowest, wide = posterior(outputs, torch.zeros(8, 1)), posterior(outputs, torch.ones(8, 1))
    at_inference = posterior.inference(outputs)
    assert_close(at_inference.mean, narrowest.mean)
    assert_close(at_inference.log_variance, narrowest.log_variance)
    assert (at_inference.log_variance <= wide.log_variance).all()


@pytest.mark.parametrize("name", POSTERIORS)
def test_noise_that_is_not_given_comes_from_the_global_generator(name):
    posterior = POSTERIORS[name](3)
    outputs = torch.randn(4000, 3 * posterior.outputs_per_component, generator=generator())
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        q = posterior(outputs)
        z = q.rsample()
        torch.manual_seed(0)
        again = posterior(outputs)
        assert_close(again.rsample(), z)
        at_inference = posterior.inference(outputs)
    if name == "sampled":
        assert q.log_variance.min() < MIN_LOG_VARIANCE + 0.1
        assert q.log_variance.max() > -0.1
    else:
        assert_close(q.log_variance, at_inference.log_variance)
    standard = (z - q.mean) * torch.exp(-0.5 * q.log_variance)
    assert abs(float(standard.mean())) < 0.05
    assert abs(float(standard.std()) - 1) < 0.05


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
    assert_close(posterior.inference(outputs).mean, q.mean[:1].expand(3, 2))


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
    latents = LATENT_PRIORS[name](codes, np.full(3, 0.01), 0)
    first = latents.sample(50, np.random.default_rng(1))
    assert first.shape == (50, 3)
    assert first.dtype == np.float32
    again = Latents(**latents.state())
    np.testing.assert_array_equal(first, again.sample(50, np.random.default_rng(1)))


def test_latents_take_whole_factors_and_triangles():
    rng = np.random.RandomState(0)
    factors = np.tril(rng.randn(2, 3, 3)).astype(np.float32)
    rest = {"weights": [0.5, 0.5], "means": rng.randn(2, 3), "centre": np.zeros(3)}
    whole = Latents(factors=factors, basis=np.eye(3), **rest)
    np.testing.assert_array_equal(whole.factors, factors)
    triangles = whole.state()["factors"]
    np.testing.assert_array_equal(triangles[1], factors[1][[0, 1, 1, 2, 2, 2], [0, 0, 1, 0, 1, 2]])
    np.testing.assert_array_equal(Latents(**whole.state()).factors, factors)
    # What a file says is held against what is there before a square of it is made.
    with pytest.raises(ValueError, match=r"shape \(2, 5\), for means of shape \(2, 3\)"):
        Latents(factors=triangles[:, :5], basis=np.eye(3), **rest)


@pytest.mark.parametrize(
    ("scale", "dtype"), [(1.0, np.float16), (1e-5, np.float32), (1e6, np.float32)]
)
def test_factors_have_half_precision_where_that_holds_them(scale, dtype):
    codes = scale * two_humps()
    latents = mixture_latents(codes, scale**2 * np.array([0.2, 0.05]), 0)
    assert latents.state()["factors"].dtype == dtype
    assert len(latents.weights) > 1
    drawn = latents.sample(40_000, np.random.default_rng(0)) / scale
    expected = np.cov(two_humps().T) + np.diag([0.2, 0.05])
    np.testing.assert_allclose(np.cov(drawn.T), expected, atol=0.15)


def test_normal_latents_are_standard_normal_whatever_the_codes():
    drawn = normal_latents(7 + np.ones((10, 3)), np.ones(3), 0).sample(
        50_000, np.random.default_rng(0)
    )
    np.testing.assert_allclose(drawn.mean(0), 0, atol=0.02)
    np.testing.assert_allclose(np.cov(drawn.T), np.eye(3), atol=0.03)


def two_humps(n=1500):
    rng = np.random.RandomState(0)
    codes = np.concatenate([rng.randn(n, 2) * 0.3 + [2, 0], rng.randn(n, 2) * 0.5 - [2, 1]])
    return rng.permutation(codes)


def test_mixture_has_the_mean_and_covariance_of_the_codes_and_their_noise():
    codes, noise = two_humps(), np.array([0.2, 0.05])
    latents = mixture_latents(codes, noise, 0)
    assert len(latents.weights) > 1
    drawn = latents.sample(40_000, np.random.default_rng(0))
    np.testing.assert_allclose(drawn.mean(0), codes.mean(0), atol=0.1)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(codes.T) + np.diag(noise), atol=0.15)


def test_draws_of_a_mixture_lie_where_the_codes_do_not_across_from_them():
    """Skewed codes: a draw mirrored at the centre would have the same mean and covariance."""
    means = np.random.RandomState(0).exponential(size=(3000, 2)).astype(np.float32)
    latents = LATENT_PRIORS["mixture"](means, np.full(2, 0.01), 0)
    drawn = latents.sample(20_000, np.random.default_rng(0))
    assert (drawn > means.mean(0) + 2.5).mean() > 10 * (drawn < means.mean(0) - 2.5).mean()


def test_mixture_beats_one_normal_on_held_out_codes():
    codes = torch.from_numpy(two_humps()).float()
    latents = mixture_latents(codes[:2000].numpy(), np.full(2, 1e-4), 0)
    u = (codes[2000:] - torch.from_numpy(latents.centre)) @ torch.from_numpy(latents.basis)
    parts = (latents.weights, latents.means, latents.factors)
    parts = (torch.as_tensor(part, dtype=torch.float32) for part in parts)
    normal = torch.distributions.MultivariateNormal(codes.mean(0), torch.cov(codes.T))
    gain = mixture_log_prob(u, *parts).mean() - normal.log_prob(codes[2000:]).mean()
    assert gain > 0.5


def test_directions_narrower_than_the_noise_are_left_out():
    rng = np.random.RandomState(0)
    codes = rng.randn(500, 2) @ rng.randn(2, 5) + 1e-3 * rng.randn(500, 5)
    latents = mixture_latents(codes, np.full(5, 0.01), 0)
    assert latents.basis.shape == (5, 2)
    np.testing.assert_allclose(latents.basis.T @ latents.basis, np.eye(2), atol=1e-6)
    drawn = latents.sample(100, np.random.default_rng(0))
    assert np.linalg.svd(drawn - codes.mean(0), compute_uv=False)[2] < 0.5


def test_component_log_prob_agrees_with_torch():
    rng = generator()
    u, means = torch.randn(6, 3, generator=rng), torch.randn(2, 3, generator=rng)
    factors = torch.tril(torch.randn(2, 3, 3, generator=rng)) + 3 * torch.eye(3)
    weights = torch.tensor([0.3, 0.7])
    normals = torch.distributions.MultivariateNormal(means, scale_tril=factors)
    expected = normals.log_prob(u[:, None]) + weights.log()
    assert_close(component_log_prob(u, weights, means, factors), expected)
    assert_close(mixture_log_prob(u, weights, means, factors), expected.logsumexp(1))


@pytest.mark.parametrize("codes", [[[0.0, 1.0], [1.0, 0.0]], np.ones((40, 2)), [[0.0], [0.0]]])
def test_mixture_of_few_or_equal_codes(codes):
    latents = mixture_latents(np.array(codes), np.full(np.shape(codes)[1], 0.01), 0)
    assert latents.weights.sum() == pytest.approx(1)
    drawn = latents.sample(2000, np.random.default_rng(0))
    np.testing.assert_allclose(drawn.mean(0), np.mean(codes, 0), atol=0.5)
