"""Posteriors q(z | x): densities, lower bounds of the variance, closed forms."""

import math

import pytest
import torch
from torch.testing import assert_close

from cmim_sklearn import CMIMEncoder, MIMEncoder
from cmim_sklearn.latents import (
    FIXED_LOG_VARIANCE,
    MIN_LOG_VARIANCE,
    POSTERIORS,
    DiagonalNormal,
    standard_normal,
)
from tests.helpers import randn, seeded

WITH_VARIANCE = [name for name in POSTERIORS if name != "point"]


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


@pytest.mark.parametrize("name", WITH_VARIANCE)
def test_posterior_has_its_width_and_a_lower_bound_of_its_variance(name):
    posterior = POSTERIORS[name](3)
    outputs = 50 * torch.randn(8, 3 * posterior.outputs_per_component, generator=seeded())
    q = posterior(outputs, torch.rand(8, 1, generator=seeded()))
    assert q.rsample(torch.zeros(8, 3)).shape == (8, 3)
    assert q.log_variance.min() >= MIN_LOG_VARIANCE


@pytest.mark.parametrize("name", POSTERIORS)
def test_inference_is_the_narrowest_posterior_of_training(name):
    posterior = POSTERIORS[name](3)
    for parameter in posterior.parameters():
        torch.nn.init.normal_(parameter, generator=seeded())
    outputs = torch.randn(8, 3 * posterior.outputs_per_component, generator=seeded())
    narrowest, wide = posterior(outputs, torch.zeros(8, 1)), posterior(outputs, torch.ones(8, 1))
    at_inference = posterior.inference(outputs)
    assert_close(at_inference.mean, narrowest.mean)
    assert_close(at_inference.log_variance, narrowest.log_variance)
    assert (at_inference.log_variance <= wide.log_variance).all()


@pytest.mark.parametrize("name", WITH_VARIANCE)
def test_missing_noise_comes_from_the_global_generator(name):
    posterior = POSTERIORS[name](3)
    outputs = torch.randn(4000, 3 * posterior.outputs_per_component, generator=seeded())
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


def test_learned_variance_has_a_gradient_below_its_bound():
    posterior = POSTERIORS["learned"](1)
    far_below = torch.tensor([[0.0, -30.0]], requires_grad=True)
    posterior(far_below, None).log_variance.sum().backward()
    assert far_below.grad[0, 1] > 0


def test_fixed_variance_is_the_same_for_all_rows():
    q = POSTERIORS["fixed"](2)(torch.randn(4, 2), torch.rand(4, 1))
    assert q.log_variance.unique().tolist() == [FIXED_LOG_VARIANCE]


def test_point_posterior_adds_no_noise():
    outputs = torch.randn(5, 3, generator=seeded())
    posterior = POSTERIORS["point"](3)
    assert torch.equal(posterior(outputs).rsample(torch.ones(5, 3)), outputs)
    assert torch.equal(posterior.inference(outputs).mean, outputs)


@pytest.mark.parametrize("kind", [CMIMEncoder, MIMEncoder])
def test_encoders_do_not_accept_the_point_posterior(kind):
    with pytest.raises(ValueError, match=r"'posterior' parameter .* Got 'point' instead"):
        kind(posterior="point").fit([[0.0], [1.0], [2.0]])


@pytest.mark.parametrize(("sigma", "expected"), [(math.exp(-6), 0.108), (math.exp(-3), 0.482)])
def test_linear_model_at_the_smallest_variance_has_its_known_code_scale(sigma, expected):
    """x ~ N(0, 1), mean a x, decoder N(w z, 0.3^2): a = (2 sigma^2 / 0.3^2)^(1/4), by descent."""
    a, w = torch.tensor(0.5, requires_grad=True), torch.tensor(1.0, requires_grad=True)
    optimizer = torch.optim.LBFGS([a, w], lr=0.5, max_iter=500, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        # Expectations over x and the code's noise, in closed form.
        distortion = ((1 - w * a) ** 2 + (w * sigma) ** 2) / (2 * 0.3**2)
        value = distortion + 0.25 * (a**2 + sigma**2)
        value.backward()
        return value

    optimizer.step(loss)
    assert a.abs().item() == pytest.approx(expected, rel=0.02)
    assert w.abs().item() == pytest.approx(expected / (expected**2 + sigma**2), rel=0.05)


def test_learned_variance_falls_to_its_lower_bound():
    """In a linear model trained with A-MIM."""
    posterior = POSTERIORS["learned"](1)
    a, w, raw = (torch.tensor(v, requires_grad=True) for v in (0.5, 1.0, 0.0))
    optimizer = torch.optim.Adam([a, w, raw], lr=0.1)
    noise = seeded()
    for _ in range(600):
        x = torch.randn(256, 1, generator=noise)
        q = posterior(torch.cat([a * x, raw.expand(256, 1)], 1), None)
        z = q.rsample(torch.randn(256, 1, generator=noise))
        distortion = 0.5 * ((x - w * z) / 0.3).square().sum(1)
        loss = distortion - 0.5 * (q.log_prob(z) + standard_normal(z).log_prob(z))
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    assert q.log_variance[0].item() == pytest.approx(MIN_LOG_VARIANCE, abs=0.1)


@pytest.mark.parametrize("name", POSTERIORS)
def test_the_posterior_of_generation_has_the_log_variance_if_training_had_it(name):
    posterior = POSTERIORS[name](3)
    if name == "sampled":
        with torch.no_grad():
            posterior.by_log_variance.fill_(0.5)
    outputs = randn(4, 3 * posterior.outputs_per_component)
    found, narrow = posterior.generation(outputs, -2.5), posterior.inference(outputs)
    is_sampled = name == "sampled"
    expected = torch.full_like(outputs[:, :1], -2.5) if is_sampled else narrow.log_variance
    assert_close(found.log_variance, expected)
    assert_close(found.mean, narrow.mean + (3.5 * 0.5 if is_sampled else 0.0))
