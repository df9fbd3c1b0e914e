"""Proposals: coordinates, exact Gaussians of linear decoders, independence of other rows."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from cmim_sklearn._likelihoods import LIKELIHOODS
from cmim_sklearn._likelihoods.joint import Joint
from cmim_sklearn._models.generator import Generator
from cmim_sklearn._models.latent_model import LatentModel
from cmim_sklearn._models.latent_prior import LatentPrior, component_log_prob
from cmim_sklearn._models.proposal import Proposal
from cmim_sklearn.latents import POSTERIORS
from tests.helpers import fitted_likelihood, make_latent_model, measured, seeded

D = 3


def prior_of(k, spread=1.0):
    """A mixture of k components."""
    rng = np.random.RandomState(k)
    factors = np.tril(0.1 * rng.randn(k, D, D)) + 0.7 * np.eye(D)
    basis = np.linalg.qr(rng.randn(D, D))[0]
    return LatentPrior(np.full(k, 1 / k), spread * rng.randn(k, D), factors, rng.randn(D), basis)


def cells_of(model):
    """Measured cells of 60 rows for `make_latent_model`."""
    names = {cls: name for name, cls in LIKELIHOODS.items()}
    kinds = [names[type(block)] for block in model.likelihood.blocks]
    return torch.cat([measured(*fitted_likelihood(kind)).flatten(1) for kind in kinds], 1)


@pytest.fixture
def model():
    return make_latent_model(d=D)[0].eval().requires_grad_(False)


@pytest.mark.parametrize("k", [1, 4])
def test_components_are_standard_normal_in_their_coordinates(model, k):
    prior = prior_of(k)
    p = Proposal(Generator(model), prior)
    assert_close(p.inverse @ p.axes, torch.eye(D).expand(k, -1, -1), atol=1e-5, rtol=0)
    u = torch.randn(20, D, generator=seeded())
    t = (p.inverse @ (u - p.means.unsqueeze(1)).transpose(1, 2)).transpose(1, 2)
    found = p.log_peaks[:, None] - 0.5 * t.square().sum(2)
    parts = (torch.as_tensor(x).double() for x in (prior.weights, prior.means, prior.factors))
    assert_close(found, component_log_prob(u.double(), *parts).T, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("k", [1, 4])
def test_rows_without_observed_cells_have_the_prior(model, k):
    prior = prior_of(k)
    p = Proposal(Generator(model), prior)
    found = p.fit(torch.full_like(cells_of(model)[:2], torch.nan))
    assert_close(found.mean, torch.zeros_like(found.mean))
    assert_close(found.factor, p.identity.expand_as(found.factor))
    weights = torch.zeros(2, k).double().scatter_add_(1, found.component, found.log_weight.exp())
    assert_close(weights, torch.as_tensor(prior.weights).expand(2, -1), atol=2e-3, rtol=0)


def test_gaussians_of_a_linear_decoder_are_the_posterior():
    likelihood, columns = fitted_likelihood("gaussian")
    decoder = nn.Linear(D, 2)
    with torch.no_grad():
        decoder.weight.copy_(0.5 * torch.randn(2, D, generator=seeded()))
    model = LatentModel(nn.Identity(), POSTERIORS["fixed"](D), decoder, Joint([likelihood]))
    cells = measured(likelihood, columns)
    cells[:, :, 1:3] = cells[:, :, :1]  # without rounding
    p = Proposal(Generator(model.requires_grad_(False)), prior_of(3, spread=0.1))
    found = p.fit(cells.flatten(1))
    linear, noise = (decoder.weight @ p.basis).double(), likelihood.deviation.double()
    for row in (0, 5, 9):  # all cells of row 5 are missing
        seen = ~torch.isnan(cells[row, :, 0])
        y = (cells[row, seen, 0] - decoder(p.centre)[seen]).double()
        for g in range(int(torch.isfinite(found.log_weight[row]).sum())):
            k, factor = found.component[row, g], found.factor[row, g]
            slope = (linear[seen] / noise[seen, None]) @ p.axes[k].double()
            precision = torch.eye(D).double() + slope.T @ slope
            assert_close(factor @ factor.T, precision, atol=1e-3, rtol=1e-3)
            residual = (y - linear[seen] @ p.means[k].double()) / noise[seen]
            mean = torch.linalg.solve(precision, slope.T @ residual)
            assert_close(found.mean[row, g], mean, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("k", [1, 4])
def test_proposals_do_not_depend_on_other_rows(model, k):
    p, cells = Proposal(Generator(model), prior_of(k)), cells_of(model)
    together = p.fit(cells)
    for row in range(0, 60, 7):
        alone = p.fit(cells[row : row + 1])
        for found, expected in zip(alone, together.take(torch.tensor([row])), strict=True):
            assert_close(found, expected, atol=1e-9, rtol=1e-9)


def test_decoder_outputs_do_not_depend_on_the_number_of_codes(model):
    p = Proposal(Generator(model), prior_of(2))
    u = torch.randn(3000, D, generator=seeded())
    whole = p.decode(u)
    for n in (1, 5, 600, 1500):
        assert_close(p.decode(u[:n]), whole[:n], atol=1e-6, rtol=1e-6)
    assert_close(p.decode(u.view(30, 100, D)), whole.view(30, 100, -1), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("k", [1, 4])
def test_rows_far_from_all_data_have_finite_proposals(model, k):
    cells = cells_of(model)
    found = Proposal(Generator(model), prior_of(k)).fit(
        torch.where(cells != 0, cells.sign() * 1e12, cells)
    )
    for part in (found.mean, found.factor):
        assert torch.isfinite(part).all()
