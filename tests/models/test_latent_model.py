"""Latent model: its Pass, missing cells, masking, randomness."""

import pytest
import torch
from torch.testing import assert_close

from cmim_sklearn.latents import POSTERIORS
from tests.helpers import make_latent_model, seeded

WITH_DENSITY = [name for name in POSTERIORS if name != "point"]


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_pass_has_one_code_per_row_and_one_density_per_cell(posterior):
    model, x = make_latent_model(posterior)
    batch = model(x, model.draw_noise(x, seeded()))
    assert batch.z.shape == (60, 3)
    assert batch.log_px.shape == x.shape
    assert batch.posterior.log_prob(batch.z).shape == (60,)
    assert batch.prior.log_prob(batch.z).shape == (60,)


@pytest.mark.parametrize("posterior", WITH_DENSITY)
@pytest.mark.parametrize("missing_share", [0.0, 0.5, 1.0])
def test_gradients_are_finite_and_reach_every_parameter(posterior, missing_share):
    model, x = make_latent_model(posterior, masking=0.2)
    x = x.masked_fill(torch.rand(x.shape, generator=seeded(1)) < missing_share, torch.nan)
    batch = model(x, model.draw_noise(x, seeded()))
    (batch.posterior.log_prob(batch.z) - batch.log_px.sum(1)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert missing_share > 0 or parameter.grad.any(), name


def test_same_noise_gives_the_same_pass():
    model, x = make_latent_model(masking=0.3)
    one = model(x, model.draw_noise(x, seeded(5)))
    two = model(x, model.draw_noise(x, seeded(5)))
    assert torch.equal(one.z, two.z)
    assert torch.equal(one.log_px, two.log_px)


def test_permuting_rows_permutes_the_pass():
    model, x = make_latent_model(masking=0.3)
    noise = model.draw_noise(x, seeded())
    order = torch.randperm(len(x), generator=seeded(1))
    moved = type(noise)(*(part if part is None else part[order] for part in noise))
    one, two = model(x, noise), model(x[order], moved)
    assert_close(two.z, one.z[order])
    assert_close(two.log_px, one.log_px[order], rtol=1e-4, atol=1e-4)


def test_masked_cells_are_hidden_from_the_encoder_and_still_scored():
    model, x = make_latent_model(masking=0.999999)
    batch = model(x, model.draw_noise(x, seeded()))
    plain, _ = make_latent_model()
    plain.load_state_dict(model.state_dict())
    blind = plain.posterior_mean(torch.full_like(x, torch.nan))
    assert_close(blind, blind[:1].expand_as(blind))
    noise = model.draw_noise(x, seeded())
    assert noise.mask.all()
    is_observed = ~torch.isnan(x)
    assert (batch.log_px[is_observed] != 0).float().mean() > 0.95
    assert (batch.log_px[~is_observed] == 0).all()
    mean = batch.posterior.mean - batch.posterior.log_variance * model.posterior.by_log_variance
    assert_close(mean, mean[:1].expand_as(mean))


def test_no_masking_draws_no_mask():
    model, x = make_latent_model()
    assert model.draw_noise(x, seeded()).mask is None


def test_posterior_mean_is_the_mean_of_the_posterior_at_inference():
    model, x = make_latent_model()
    torch.nn.init.ones_(model.posterior.by_log_variance)
    outputs = model.encoder(model.likelihood.inputs(x))
    assert_close(model.posterior_mean(x), model.posterior.inference(outputs).mean)
    assert model.encode(x).log_variance.unique().tolist() == [-6]
    assert model.device == x.device
