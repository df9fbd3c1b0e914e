"""Latent prior: state, samples, size of the mixture, densities."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from cmim_sklearn._models import latent_prior
from cmim_sklearn._models.latent_prior import (
    LATENT_PRIORS,
    LatentPrior,
    _fit_mixture,
    component_log_prob,
    mixture_prior,
    normal_prior,
)
from tests.helpers import assert_same


@pytest.mark.parametrize("name", LATENT_PRIORS)
def test_prior_rebuilt_from_its_state_gives_the_same_samples(name):
    codes = np.random.RandomState(0).randn(300, 3)
    prior = LATENT_PRIORS[name](codes, np.full(3, 0.01), 0)
    first = prior.sample(50, np.random.default_rng(1))
    assert first.shape == (50, 3)
    assert first.dtype == np.float32
    again = LatentPrior(**prior.state())
    np.testing.assert_array_equal(first, again.sample(50, np.random.default_rng(1)))


def test_mixture_of_equal_codes_without_noise_is_narrow():
    """As of an auto-encoder of a constant table."""
    prior = mixture_prior(np.full((50, 3), 2.0), np.zeros(3), 0)
    drawn = prior.sample(100, np.random.default_rng(0))
    np.testing.assert_allclose(drawn, 2, atol=1e-3)
    assert (np.diagonal(prior.factors, axis1=1, axis2=2) > 0).all()


def test_the_prior_of_one_row_is_the_anchor():
    prior = mixture_prior(np.ones((1, 3)), np.full(3, 0.01), 0)
    assert_same(prior.state(), normal_prior(np.ones((1, 3)), None, 0).state())


def test_prior_takes_square_factors_and_triangles():
    rng = np.random.RandomState(0)
    factors = np.tril(rng.randn(2, 3, 3)).astype(np.float32)
    rest = {"weights": [0.5, 0.5], "means": rng.randn(2, 3), "centre": np.zeros(3)}
    whole = LatentPrior(factors=factors, basis=np.eye(3), **rest)
    np.testing.assert_array_equal(whole.factors, factors)
    triangles = whole.state()["factors"]
    np.testing.assert_array_equal(triangles[1], factors[1][[0, 1, 1, 2, 2, 2], [0, 0, 1, 0, 1, 2]])
    np.testing.assert_array_equal(LatentPrior(**whole.state()).factors, factors)
    # A file's shapes are checked before r x r numbers are allocated.
    with pytest.raises(ValueError, match=r"for means of shape \(2, 3\) .*; got \(2, 5\)"):
        LatentPrior(factors=triangles[:, :5], basis=np.eye(3), **rest)


@pytest.mark.parametrize(
    ("scale", "dtype"), [(1.0, np.float16), (1e-5, np.float32), (1e6, np.float32)]
)
def test_factors_have_half_precision_where_it_is_accurate(scale, dtype):
    codes = scale * two_clusters()
    prior = mixture_prior(codes, scale**2 * np.array([0.2, 0.05]), 0)
    assert prior.state()["factors"].dtype == dtype
    assert len(prior.weights) > 1
    drawn = prior.sample(40_000, np.random.default_rng(0)) / scale
    expected = np.cov(two_clusters().T) + np.diag([0.2, 0.05])
    np.testing.assert_allclose(np.cov(drawn.T), expected, atol=0.15)


def test_normal_prior_ignores_the_codes():
    drawn = normal_prior(7 + np.ones((10, 3)), np.ones(3), 0).sample(
        50_000, np.random.default_rng(0)
    )
    np.testing.assert_allclose(drawn.mean(0), 0, atol=0.02)
    np.testing.assert_allclose(np.cov(drawn.T), np.eye(3), atol=0.03)


def two_clusters(n=1500):
    rng = np.random.RandomState(0)
    codes = np.concatenate([rng.randn(n, 2) * 0.3 + [2, 0], rng.randn(n, 2) * 0.5 - [2, 1]])
    return rng.permutation(codes)


def test_mixture_has_the_mean_and_covariance_of_noisy_codes():
    codes, noise = two_clusters(), np.array([0.2, 0.05])
    prior = mixture_prior(codes, noise, 0)
    assert len(prior.weights) > 1
    drawn = prior.sample(40_000, np.random.default_rng(0))
    np.testing.assert_allclose(drawn.mean(0), codes.mean(0), atol=0.1)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(codes.T) + np.diag(noise), atol=0.15)


def test_samples_of_a_mixture_are_skewed_as_the_codes_are():
    """Mirrored samples would have the same mean and covariance, so skewness is what counts."""
    means = np.random.RandomState(0).exponential(size=(3000, 2)).astype(np.float32)
    prior = LATENT_PRIORS["mixture"](means, np.full(2, 0.01), 0)
    drawn = prior.sample(20_000, np.random.default_rng(0))
    assert (drawn > means.mean(0) + 2.5).mean() > 10 * (drawn < means.mean(0) - 2.5).mean()


def test_mixture_beats_one_normal_on_held_out_codes():
    codes = torch.from_numpy(two_clusters()).float()
    prior = mixture_prior(codes[:2000].numpy(), np.full(2, 1e-4), 0)
    u = (codes[2000:] - torch.from_numpy(prior.centre)) @ torch.from_numpy(prior.basis)
    parts = (prior.weights, prior.means, prior.factors)
    parts = (torch.as_tensor(part, dtype=torch.float32) for part in parts)
    normal = torch.distributions.MultivariateNormal(codes.mean(0), torch.cov(codes.T))
    gain = component_log_prob(u, *parts).logsumexp(1).mean() - normal.log_prob(codes[2000:]).mean()
    assert gain > 0.5


def test_directions_narrower_than_the_noise_are_left_out():
    rng = np.random.RandomState(0)
    codes = rng.randn(500, 2) @ rng.randn(2, 5) + 1e-3 * rng.randn(500, 5)
    prior = mixture_prior(codes, np.full(5, 0.01), 0)
    assert prior.basis.shape == (5, 2)
    np.testing.assert_allclose(prior.basis.T @ prior.basis, np.eye(2), atol=1e-6)
    drawn = prior.sample(100, np.random.default_rng(0))
    assert np.linalg.svd(drawn - codes.mean(0), compute_uv=False)[2] < 0.5


def test_component_log_prob_agrees_with_torch():
    rng = torch.Generator().manual_seed(0)
    u, means = torch.randn(6, 3, generator=rng), torch.randn(2, 3, generator=rng)
    factors = torch.tril(torch.randn(2, 3, 3, generator=rng)) + 3 * torch.eye(3)
    weights = torch.tensor([0.3, 0.7])
    normals = torch.distributions.MultivariateNormal(means, scale_tril=factors)
    expected = normals.log_prob(u[:, None]) + weights.log()
    assert_close(component_log_prob(u, weights, means, factors), expected)


@pytest.mark.parametrize("codes", [[[0.0, 1.0], [1.0, 0.0]], np.ones((40, 2)), [[0.0], [0.0]]])
def test_mixture_of_few_or_equal_codes(codes):
    prior = mixture_prior(np.array(codes), np.full(np.shape(codes)[1], 0.01), 0)
    assert prior.weights.sum() == pytest.approx(1)
    drawn = prior.sample(2000, np.random.default_rng(0))
    np.testing.assert_allclose(drawn.mean(0), np.mean(codes, 0), atol=0.5)


@pytest.mark.parametrize(
    ("n", "r", "k"), [(2, 3, 1), (40, 3, 2), (619, 3, 30), (900, 30, 30), (9000, 3, 400)]
)
def test_a_component_has_twenty_codes_and_as_many_as_directions(n, r, k):
    rng = np.random.RandomState(0)
    codes = rng.choice([-0.4, 0.4], (n, 1)) * np.linspace(0.5, 1, r) + 0.1 * rng.randn(n, r)
    assert len(mixture_prior(codes, np.full(r, 1e-3), 0).weights) == k


def test_parts_of_many_codes_have_the_densities_of_the_whole(monkeypatch):
    codes = two_clusters()
    priors = [mixture_prior(codes, np.full(2, 1e-3), 0)]
    monkeypatch.setattr(latent_prior, "MANY", 10)
    monkeypatch.setattr(latent_prior, "EM_STEPS_OF_MANY", latent_prior.EM_STEPS)
    priors.append(mixture_prior(codes, np.full(2, 1e-3), 0))
    assert len(priors[0].weights) > 1
    for name in ("weights", "means", "factors"):
        np.testing.assert_allclose(*(getattr(p, name) for p in priors), rtol=0.01, atol=1e-3)


def test_codes_of_one_gaussian_get_one_component():
    codes = np.random.RandomState(0).randn(300, 3)
    assert len(mixture_prior(codes, np.full(3, 1e-3), 0).weights) == 1


@pytest.mark.parametrize(("noise", "k"), [(1e-3, 20), (1.0, 1)])
def test_clusters_within_the_noise_get_one_component(noise, k):
    rng = np.random.RandomState(0)
    codes = rng.choice([-1.2, 1.2], (400, 3)) + 0.3 * rng.randn(400, 3)
    assert len(mixture_prior(codes, np.full(3, noise), 0).weights) == k


def test_components_of_few_codes_do_not_collapse():
    """Ten codes per component in eight directions have a singular covariance without shrinkage."""
    codes = torch.from_numpy(np.random.RandomState(0).randn(100, 8).astype(np.float32))
    _, _, factors = _fit_mixture(codes, 1e-6 * torch.eye(8), 10, 0)
    assert torch.linalg.svdvals(factors).min() > 0.2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_a_mixture_is_that_of_the_cpu():
    rng = np.random.default_rng(0)
    codes = (rng.normal(size=(2000, 6)) + 4 * rng.integers(3, size=(2000, 1))).astype(np.float32)
    priors = [mixture_prior(codes, np.full(6, 0.01), 0, device) for device in ("cpu", "cuda")]
    for name in ("weights", "means", "centre"):
        parts = [getattr(prior, name) for prior in priors]
        np.testing.assert_allclose(*parts, rtol=0.01, atol=0.01)
