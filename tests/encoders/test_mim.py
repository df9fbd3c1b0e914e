"""MIM, and symmetric MIM, which also trains on rows that the model generates."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from torch import nn
from torch.testing import assert_close

from cmim_sklearn import MIMEncoder
from cmim_sklearn._models.latent_model import LatentModel, concatenate
from cmim_sklearn.latents import DiagonalNormal, Posterior
from cmim_sklearn.objectives import mim
from tests.helpers import seeded, small_encoder


def test_mim_is_cmim_without_contrast(mixed, fitted):
    one = fitted("MIMEncoder")
    other = small_encoder(contrastive_weight=0).fit(mixed)
    assert_array_equal(one.transform(mixed), other.transform(mixed))
    assert one.loss_curve_ == other.loss_curve_


class SharedPosterior(Posterior):
    """N(mean, sigma) with one log sigma for all rows, of at least -6."""

    def __init__(self):
        super().__init__(1)
        self.log_scale = nn.Parameter(torch.tensor(-0.5))

    def forward(self, outputs, uniform=None):
        log_variance = 2 * self.log_scale.clamp(min=-6)
        return DiagonalNormal(outputs, log_variance.expand(len(outputs), 1))

    inference = forward


class KnownNoise(nn.Module):
    """Likelihood of one column: p(x | z) = N(params, 0.3)."""

    def inputs(self, x):
        return x

    def log_prob(self, params, x):
        return torch.distributions.Normal(params, 0.3).log_prob(x)

    def rsample(self, params, generator):
        return params + 0.3 * torch.randn(params.shape, generator=generator)


def trained_log_scale(dreams):
    """Log sigma of the posterior after training on one Gaussian column."""
    torch.manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        encoder, decoder = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.constant_(encoder.weight, 0.5)
    nn.init.constant_(decoder.weight, 1.0)
    model = LatentModel(encoder, SharedPosterior(), decoder, KnownNoise(), symmetric=dreams)
    optimizer = torch.optim.Adam(model.parameters(), 3e-2)
    generator = seeded()
    for _ in range(700):
        x = torch.randn(256, 1, generator=generator)
        loss = sum(mim(model(x, model.draw_noise(x, generator))).values()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.posterior.log_scale.item()


def test_sigma_shrinks_to_its_minimum_under_mim_but_not_under_symmetric_mim():
    assert trained_log_scale(dreams=False) <= -5.99
    assert -5.5 < trained_log_scale(dreams=True) < -3


def test_generated_rows_join_the_batch_and_carry_gradients(quick):
    X = np.random.RandomState(0).randn(60, 3)
    encoder = MIMEncoder(**quick, symmetric=True, posterior="learned", early_stopping=True).fit(X)
    model = encoder.net_.module.train()
    assert model.symmetric
    x = torch.randn(50, 3, generator=seeded()).to(model.device)

    def noise():
        return model.draw_noise(x, torch.Generator(x.device).manual_seed(0))

    batch = model(x, noise())
    assert len(batch.z) == len(batch.log_px) == 100
    alone = model(x, noise()._replace(generation=None))
    assert_close(batch.z[:50], alone.z)
    model.zero_grad()
    (-batch.posterior.log_prob(batch.z)[50:]).sum().backward()
    assert model.decoder.output.weight.grad.abs().sum() > 0  # through the generated rows
    model.eval()
    assert noise().generation is None  # held-out loss is of data only
    twice = concatenate(alone, alone)
    assert_close(mim(twice)["latent"], mim(alone)["latent"].repeat(2))


def test_losses_are_means_over_data_and_generated_rows(quick, monkeypatch):
    """Generated rows double the number of rows."""

    def one(batch):
        return {"latent": torch.ones_like(batch.z[:, 0]) + 0 * batch.log_px.sum()}

    monkeypatch.setattr("cmim_sklearn._encoders.mim.mim", one)
    X = np.random.RandomState(0).randn(60, 3)
    mim = MIMEncoder(**quick, symmetric=True, posterior="learned", early_stopping=True).fit(X)
    assert mim.loss_curve_ == pytest.approx([1.0] * 3)
    assert mim.validation_scores_ == pytest.approx([-1.0] * 3)


def test_there_is_no_contrastive_weight():
    assert "contrastive_weight" not in MIMEncoder().get_params()


def test_symmetric_mim_raises_for_columns_or_posteriors_without_gradients(mixed, quick):
    mim = MIMEncoder(**quick, symmetric=True, posterior="learned")
    message = r"got 'member' \(bernoulli\), 'flag' \(bernoulli\), 'city' \(categorical\), 'word'"
    with pytest.raises(ValueError, match=message):
        mim.fit(mixed)
    with pytest.raises(ValueError, match=r"needs posterior='learned'.*; got posterior='sampled'"):
        MIMEncoder(**quick, symmetric=True).fit(mixed[["age", "score"]])
    warm = MIMEncoder(**quick, posterior="learned", warm_start=True).fit(mixed)
    with pytest.raises(ValueError, match="got 'member'"):
        warm.set_params(symmetric=True).fit(mixed)
    numbers = mixed[["age", "score"]]
    warm = MIMEncoder(**quick, posterior="learned", warm_start=True).fit(numbers)
    assert warm.set_params(symmetric=True).fit(numbers).net_.module.symmetric
