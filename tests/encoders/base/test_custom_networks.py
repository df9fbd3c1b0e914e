"""Custom networks, passed as `encoder` and `decoder`."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import nn

from cmim_sklearn import CMIMEncoder
from tests.helpers import weights


class ConvEncoder(nn.Module):
    def __init__(self, n_out):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Unflatten(1, (2, 8, 8)),
            nn.Conv2d(2, 8, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(8 * 4 * 4, n_out),
        )

    def forward(self, x):
        return self.layers(x)


class ConvDecoder(nn.Module):
    def __init__(self, n_in):
        super().__init__()
        self.body = nn.Sequential(
            nn.Sequential(nn.Linear(n_in, 8 * 4 * 4), nn.SiLU(), nn.Unflatten(1, (8, 4, 4))),
            nn.Sequential(nn.ConvTranspose2d(8, 8, 4, stride=2, padding=1), nn.SiLU()),
        )
        self.output = nn.Sequential(nn.Conv2d(8, 1, 3, padding=1), nn.Flatten())

    def forward(self, z):
        return self.output(self.body(z))


def conv_encoder(n_in, n_out, hidden_layer_sizes, activation):
    assert n_in == 2 * 64
    return ConvEncoder(n_out)


def conv_decoder(n_in, n_out, hidden_layer_sizes, activation):
    assert n_out == 64
    return ConvDecoder(n_in)


def test_convolutional_networks():
    X, y = load_digits(return_X_y=True)
    X_train, y_train, X_test, y_test = X[:400], y[:400], X[400:700], y[400:700]
    before = torch.get_rng_state()
    encoder = CMIMEncoder(
        8, encoder=conv_encoder, decoder=conv_decoder, numeric_scaling="standard", max_iter=8,
        learning_rate_init=1e-2, likelihoods=dict.fromkeys(range(64), "gaussian"),
        embedding="informative", random_state=0, batch_size=64,
    )  # fmt: skip
    Z = encoder.fit_transform(X_train)
    assert torch.equal(before, torch.get_rng_state())
    assert Z.shape == (400, 8 * 8 * 8)
    assert encoder.set_params(embedding="hidden").transform(X[:5]).shape == (5, 128 + 512)
    encoder.set_params(embedding="informative")
    back = encoder.inverse_transform(Z)
    assert ((back - X_train) ** 2).sum() < 0.6 * ((X_train - X_train.mean(0)) ** 2).sum()
    again = clone(encoder).fit(X_train)
    assert weights(encoder) == weights(again)
    loaded = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(loaded.transform(X[:5]), encoder.transform(X[:5]))
    model = LogisticRegression(max_iter=1000).fit(Z, y_train)
    assert model.score(encoder.transform(X_test), y_test) > 0.6


def test_a_decoder_without_body_and_output_raises(mixed, quick):
    def bare(n_in, n_out, hidden_layer_sizes, activation):
        return nn.Linear(n_in, n_out)

    with pytest.raises(ValueError, match="got Linear without body and output, from"):
        CMIMEncoder(**quick, decoder=bare).fit(mixed)


@pytest.mark.parametrize("role", ["encoder", "decoder"])
@pytest.mark.parametrize(
    ("network", "error", "message"),
    [
        (nn.Linear(2, 2), TypeError, "must be a callable .*; got a network, Linear"),
        (lambda *a: None, TypeError, "must return a torch.nn.Module; got NoneType"),
        (lambda n_in, n_out, *a: nn.Linear(n_in, n_out + 1), ValueError, r"maps \(n, \d+\) to"),
        (lambda n_in, n_out, *a: nn.GRU(n_in, n_out), ValueError, r"got tuple for n = 2, from"),
    ],
    ids=["instance", "none", "width", "tuple"],
)
def test_invalid_networks_raise(mixed, quick, role, network, error, message):
    with pytest.raises(error, match=f"{role}.* {message}"):
        CMIMEncoder(**quick, **{role: network}).fit(mixed)


class SinglePrecision(torch.nn.Module):
    """Decoder that computes in single precision."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(n_in, 8), torch.nn.Tanh())
        self.output = torch.nn.Linear(8, n_out)

    def forward(self, z):
        return self.output(self.body(z.float()))


def test_a_decoder_may_compute_in_single_precision(mixed, quick):
    encoder = CMIMEncoder(**quick, decoder=lambda n_in, n_out, *args: SinglePrecision(n_in, n_out))
    assert np.isfinite(encoder.fit(mixed).score_samples(mixed[:20])).all()
