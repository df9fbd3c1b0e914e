"""VAE: rate and MMD against closed forms, and the subspace that it learns."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from torch.testing import assert_close

from cmim_sklearn import VAEEncoder
from cmim_sklearn._encoders.autoencoder import distortion
from cmim_sklearn._encoders.vae import mmd, rate, vae
from cmim_sklearn._models.latent_model import Pass
from cmim_sklearn.latents import DiagonalNormal, standard_normal
from cmim_sklearn.objectives import mim
from tests.helpers import make_pass, seeded


def test_rate_is_the_mean_log_ratio_of_posterior_and_prior():
    mean = torch.tensor([[1.0, -2.0], [0.0, 0.0]])
    posterior = DiagonalNormal(mean, torch.tensor([[-1.0, 0.5], [0.0, 0.0]]))
    z = posterior.rsample(torch.randn(200_000, 2, 2, generator=seeded()))
    sampled = (posterior.log_prob(z) - standard_normal(z).log_prob(z)).mean(0)
    found = rate(Pass(mean, posterior, standard_normal(mean), torch.zeros(2, 1)))
    assert_close(found, sampled, atol=0.02, rtol=0)
    assert found[1] == 0


def test_losses_of_mim_and_vae_add_up_to_the_prior():
    """(A-MIM + log p(x|z)) + (VAE + log p(x|z)) / 2 = -log P(z), with the sampled rate."""
    batch = make_pass()
    sampled_rate = batch.posterior.log_prob(batch.z) - batch.prior.log_prob(batch.z)
    assert_close(mim(batch)["latent"] + 0.5 * sampled_rate, -batch.prior.log_prob(batch.z))
    terms = vae(batch, beta=3.0)
    assert_close(terms["rate"], 3 * rate(batch))
    assert_close(terms["distortion"], distortion(batch)["distortion"])
    assert set(terms) == {"distortion", "rate"}


def test_mmd_matches_an_estimate_from_prior_samples():
    d = 3
    z = 0.5 + 0.7 * torch.randn(300, d, generator=seeded(), dtype=torch.float64)
    prior = torch.randn(20_000, d, generator=seeded(1), dtype=torch.float64)

    def kernel(a, b):
        return torch.exp(-torch.cdist(a, b).square() / (2 * d))

    n, m = len(z), 3000
    among = (kernel(z, z).sum() - n) / (n * (n - 1))
    in_prior = (kernel(prior[:m], prior[:m]).sum() - m) / (m * (m - 1))
    expected = among - 2 * kernel(z, prior).mean() + in_prior
    assert float(mmd(z).mean()) == pytest.approx(float(expected), abs=0.005)
    assert float(mmd(z).mean()) > 0.05
    same = torch.stack([mmd(part).mean() for part in prior.split(100)])
    assert abs(float(same.mean())) < 4 * float(same.std()) / math.sqrt(len(same))
    order = torch.randperm(n, generator=seeded())
    assert_close(mmd(z[order]), mmd(z)[order])
    assert mmd(z[:1]).tolist() == [0.0]


def test_history_has_each_term_of_the_loss(mixed, quick):
    history = VAEEncoder(**quick, mmd_weight=1.0).fit(mixed).net_.history
    assert {"train_distortion", "train_rate", "train_mmd"} <= set(history[-1])


def test_a_linear_vae_finds_the_principal_subspace():
    """Probabilistic PCA is the linear-Gaussian VAE: equal noise in columns of equal variance."""
    rng = np.random.RandomState(0)
    angles = np.linspace(0, np.pi, 6, endpoint=False)
    loadings = np.stack([np.cos(angles), np.sin(angles)])  # (2, 6), columns of equal length
    X = rng.randn(4000, 2) @ (loadings * [[2.0], [1.0]]) + 0.3 * rng.randn(4000, 6)
    X = (X - X.mean(0)) / X.std(0)
    encoder = VAEEncoder(
        2, hidden_layer_sizes=(), numeric_scaling=None, input_masking=0, max_iter=60,
        learning_rate_init=1e-2, random_state=0,
    ).fit(X)  # fmt: skip
    weights = encoder.net_.module.decoder.output.weight.detach().cpu().numpy()
    principal = np.linalg.eigh(np.cov(X.T))[1][:, -2:]
    assert np.rad2deg(subspace_angles(weights, principal)).max() < 5


def test_there_is_no_posterior_parameter():
    assert "posterior" not in VAEEncoder().get_params()


@pytest.mark.parametrize("n_rows", [5, 2, 1])
def test_mmd_leaves_out_rows_that_do_not_count(n_rows):
    z = torch.randn(7, 3, generator=seeded(), dtype=torch.float64)
    rows = torch.arange(7) < n_rows
    assert_close(mmd(z, rows)[:n_rows], mmd(z[:n_rows]))
    z = z.requires_grad_()
    (gradient,) = torch.autograd.grad(mmd(z, rows)[:n_rows].sum(), z)
    assert gradient.isfinite().all()
    assert not gradient[n_rows:].any()
