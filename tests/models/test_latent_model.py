"""The auto-encoder: its Pass, holes, masking, hidden states."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from cmim_sklearn._likelihoods.joint import LIKELIHOODS, Joint
from cmim_sklearn._models.inference import on_rows
from cmim_sklearn._models.latent_model import LatentModel
from cmim_sklearn.latents import POSTERIORS
from cmim_sklearn.networks import MLP, reset_parameters
from tests.likelihoods.test_joint import columns_of


def build(posterior="sampled", sizes=(8, 6), masking=0.0, d=3):
    parts = [kind.fit(columns_of(name), "ab") for name, kind in LIKELIHOODS.items()]
    joint = Joint(parts)
    head = POSTERIORS[posterior](d)
    encoder = MLP(joint.n_inputs, d * head.outputs_per_component, sizes, "silu")
    decoder = MLP(d, joint.n_params, sizes, "silu")
    model = LatentModel(encoder, head, decoder, joint, masking)
    reset_parameters(model, torch.Generator().manual_seed(0))
    columns = zip(LIKELIHOODS, parts, strict=True)
    x = torch.cat([torch.from_numpy(part.encode(columns_of(k))) for k, part in columns], 1)
    return model, x


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_pass_has_a_code_and_a_score_for_each_cell(posterior):
    model, x = build(posterior)
    batch = model(x, model.draw_noise(x, generator()))
    assert batch.z.shape == (60, 3)
    assert batch.log_px.shape == x.shape
    assert batch.posterior.log_prob(batch.z).shape == (60,)
    assert batch.prior.log_prob(batch.z).shape == (60,)


@pytest.mark.parametrize("posterior", POSTERIORS)
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_gradients_are_finite_and_reach_every_parameter(posterior, share):
    model, x = build(posterior, masking=0.2)
    x = x.masked_fill(torch.rand(x.shape, generator=generator(1)) < share, torch.nan)
    batch = model(x, model.draw_noise(x, generator()))
    (batch.posterior.log_prob(batch.z) - batch.log_px.sum(1)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert share > 0 or parameter.grad.any(), name


def test_same_noise_same_pass():
    model, x = build(masking=0.3)
    one = model(x, model.draw_noise(x, generator(5)))
    two = model(x, model.draw_noise(x, generator(5)))
    assert torch.equal(one.z, two.z)
    assert torch.equal(one.log_px, two.log_px)


def test_permuting_rows_permutes_the_pass():
    model, x = build(masking=0.3)
    noise = model.draw_noise(x, generator())
    order = torch.randperm(len(x), generator=generator(1))
    moved = type(noise)(*(part if part is None else part[order] for part in noise))
    one, two = model(x, noise), model(x[order], moved)
    assert_close(two.z, one.z[order])
    assert_close(two.log_px, one.log_px[order], rtol=1e-4, atol=1e-4)


def test_masked_cells_are_hidden_from_the_encoder_and_still_scored():
    model, x = build(masking=0.999999)
    batch = model(x, model.draw_noise(x, generator()))
    plain, _ = build()
    plain.load_state_dict(model.state_dict())
    blind = plain.posterior_mean(torch.full_like(x, torch.nan))
    assert_close(blind, blind[:1].expand_as(blind))
    noise = model.draw_noise(x, generator())
    assert noise.mask.all()
    no_holes = ~torch.isnan(x)
    assert (batch.log_px[no_holes] != 0).float().mean() > 0.95
    mean = batch.posterior.mean - batch.posterior.log_variance * model.posterior.by_log_variance
    assert_close(mean, mean[:1].expand_as(mean))


def test_no_masking_draws_no_mask():
    model, x = build()
    assert model.draw_noise(x, generator()).mask is None


def test_on_rows_takes_parts_and_puts_layers_side_by_side():
    model, _ = build()
    rows = np.random.RandomState(0).randn(9000, 3).astype(np.float32)

    def function(x):
        return {"both": [x, 2 * x[:, :2]], "one": x[:, 0], "square": x[:, :, None] * x[:, None]}

    whole = on_rows(model, function, rows)
    np.testing.assert_array_equal(whole["both"], np.hstack([rows, 2 * rows[:, :2]]))
    np.testing.assert_array_equal(whole["one"], rows[:, 0])
    assert whole["square"].shape == (9000, 3, 3)
    parts = on_rows(model, function, (part for part in np.split(rows, [3, 7000])), 9000)
    for name, values in whole.items():
        np.testing.assert_array_equal(parts[name], values)
