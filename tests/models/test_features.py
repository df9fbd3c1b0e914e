"""Features: layers of each embedding, their scale, decoding."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn
from torch.testing import assert_close

from cmim_sklearn._likelihoods.gaussian import Gaussian
from cmim_sklearn._likelihoods.joint import Joint
from cmim_sklearn._models.features import (
    TOTAL_VARIANCE,
    decode,
    feature_scale,
    hidden_states,
    layers,
)
from cmim_sklearn._models.latent_model import LatentModel
from cmim_sklearn.latents import POSTERIORS
from cmim_sklearn.networks import MLP
from tests.helpers import make_latent_model


@pytest.mark.parametrize("sizes", [(), (8,), (8, 6)])
def test_hidden_states_end_where_the_output_layer_begins(sizes):
    model, x = make_latent_model(sizes=sizes)
    z = model.posterior_mean(x)
    states = hidden_states(model.decoder, z)
    assert [state.shape[1] for state in states] == (list(sizes) or [3])
    found = layers(model, x)
    assert_close(found["informative"], states[-1:])
    assert_close(found["hidden"], states)
    assert_close(found["mean"], [z])
    encoder_states = hidden_states(model.encoder, model.likelihood.inputs(x)) if sizes else []
    assert_close(found["layers"], encoder_states + states)
    for name, parts in found.items():
        assert_close(decode(model, torch.cat(parts, 1), name), model.decoder(z))
        assert_close(layers(model, x, [name])[name], parts)


def test_custom_encoder_adds_no_layer_and_is_called_as_a_whole():
    class Residual(nn.Module):  # its forward is not output(body(x))
        def __init__(self, inner):
            super().__init__()
            self.body, self.output = inner.body, inner.output

        def forward(self, x):
            return self.output(self.body(x)) + x.sum(1, keepdim=True)

    model, x = make_latent_model(sizes=(8,))
    model.encoder = Residual(model.encoder)
    z = model.posterior_mean(x)
    found = layers(model, x)
    assert_close(found["layers"], hidden_states(model.decoder, z))
    assert_close(found["mean"], [z])


def test_layers_share_the_total_variance_and_keep_their_correlations():
    rng = np.random.RandomState(0)
    parts = [5 + rng.randn(200, 4) * [0.1, 1, 2, 3], 1e-3 * rng.randn(200, 10)]
    centre, scale = feature_scale(parts)
    scaled = (np.concatenate(parts, 1) - centre) / scale
    assert_allclose(scaled.mean(0), 0, atol=1e-9)
    assert_allclose([scaled[:, :4].var(0).sum(), scaled[:, 4:].var(0).sum()], TOTAL_VARIANCE / 2)
    assert_allclose(np.corrcoef(scaled.T), np.corrcoef(np.concatenate(parts, 1).T))
    assert_allclose(scaled.std(0)[:4] / scaled.std(0)[0], parts[0].std(0) / parts[0].std(0)[0])


def test_constant_layer_is_not_scaled_up():
    _, scale = feature_scale([np.ones((50, 3)) + 1e-8 * np.random.RandomState(0).randn(50, 3)])
    assert_allclose(scale, np.sqrt(3 / TOTAL_VARIANCE))


class Whole(nn.Module):
    """Module that wraps another one and hides its layers."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, z):
        return self.inner(z)


class ImageDecoder(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.body = wrap(nn.Sequential(nn.Linear(2, 12), nn.Unflatten(1, (3, 2, 2))))
        self.output = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))

    def forward(self, z):
        return self.output(self.body(z))


@pytest.mark.parametrize(("wrap", "n_states"), [(Whole, 1), (lambda body: body, 2)])
def test_hidden_states_of_more_axes_are_flattened(wrap, n_states):
    decoder = ImageDecoder(wrap)
    joint = Joint([Gaussian.fit([np.array([1.0, 2.0, 4.0])], "a")])
    model = LatentModel(MLP(2, 2, (), "silu"), POSTERIORS["fixed"](2), decoder, joint)
    x = torch.randn(5, 1)
    assert len(layers(model, x)["hidden"]) == n_states
    (features,) = layers(model, x)["informative"]
    assert features.shape == (5, 12)
    assert_close(decode(model, features, "informative"), decoder(model.posterior_mean(x)))
