"""Mutual information between rows and their latent codes."""

import copy
import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn.exceptions import NotFittedError

from cmim_sklearn import CMIMEncoder, VAEEncoder
from cmim_sklearn.mutual_information._codes import index_information
from tests.helpers import encoded


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def test_more_noise_leaves_less_information(mixed, fitted):
    encoder = fitted("InfoNCEEncoder")
    results = [encoder.mutual_information(mixed, noise=noise) for noise in (0.3, 0.5, 2.0)]
    values = [result.estimate for result in results]
    assert values == sorted(values, reverse=True)
    assert 0 < values[-1] < values[0] < math.log(200)
    for result in results:
        assert result.cap == math.log(200)
        assert len(result.folds) == 8
        assert result.estimate == np.mean(result.folds)
        assert 0 < result.error < 0.1
    assert encoder.mutual_information(mixed, noise=0.5) == results[1]
    backwards = encoder.mutual_information(mixed[::-1], noise=0.5, n_draws=50)
    assert backwards.estimate == pytest.approx(values[1], abs=5 * results[1].error)


def test_noise_is_relative_to_the_scale_of_the_codes(mixed, fitted):
    """Codes that are twice as large hold the same information at the same noise."""
    encoder = copy.deepcopy(fitted("AEEncoder"))
    before = encoder.mutual_information(mixed, noise=0.7)
    with torch.no_grad():
        layer = encoder.net_.module.encoder.output
        layer.weight.mul_(2)
        layer.bias.mul_(2)
    centre, scale = encoder._scales["mean"]
    encoder._scales["mean"] = 2 * centre, 2 * scale
    after = encoder.mutual_information(mixed, noise=0.7)
    assert after.estimate == pytest.approx(before.estimate, rel=1e-4)


def test_collapsed_codes_hold_no_information():
    """The noise of the posterior counts: noise relative to the scale of the codes is not enough."""
    X = normal(300, 3)
    shared = {"n_components": 4, "max_iter": 100, "hidden_layer_sizes": (16,), "random_state": 0}
    collapsed = VAEEncoder(beta=1000.0, **shared).fit(X)
    for noise in (0, 0.3):
        assert abs(collapsed.mutual_information(X, noise=noise).estimate) < 0.02
    alive = VAEEncoder(beta=0.1, **shared).fit(X)
    assert alive.mutual_information(X, noise=0.3).estimate > 1


def test_noise_is_isotropic_and_added_to_that_of_the_posterior(mixed, fitted):
    """Its variance is a share of the total variance, so idle components change nothing."""
    encoder = fitted()
    model = encoder.net_.module.eval()
    with torch.no_grad():
        mean, log_variance = model.encode(encoded(encoder, mixed))
    mean = mean.cpu().numpy().astype(float)
    variance = np.full_like(mean, log_variance.exp()[0].item() + 0.4**2 * mean.var(0).sum())
    rng = np.random.RandomState(0)
    order = rng.permutation(200)
    draws = [
        index_information(mean[order], variance, rng.standard_normal(mean.shape)) for _ in range(8)
    ]
    found = encoder.mutual_information(mixed, noise=0.4)
    assert found.folds == pytest.approx(draws, rel=1e-3)


def test_a_large_table_is_subsampled(quick, monkeypatch):
    monkeypatch.setattr("cmim_sklearn._encoders.base.encoder.SUMMARY_ROWS", 50)
    X = normal(200, 3)
    encoder = CMIMEncoder(**quick).fit(X)
    assert encoder.mutual_information(X, noise=1.0).cap == math.log(50)


def test_estimates_near_the_cap_warn_and_invalid_arguments_raise(mixed, fitted):
    encoder = fitted("AEEncoder")
    with pytest.warns(UserWarning, match=r"at noise=1e-06 is close to 5.30, .* 200 rows"):
        found = encoder.mutual_information(mixed, noise=1e-6)
    assert found.estimate == pytest.approx(math.log(200), abs=0.05)
    for invalid, message in (
        ({"noise": -1}, "at least 1e-06; got -1"),
        ({"noise": True}, "at least 1e-06; got True"),
        ({"noise": math.inf}, "at least 1e-06; got inf"),
        ({"n_draws": 0}, "n_draws must be an int of at least 1; got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            encoder.mutual_information(mixed, **invalid)
    with pytest.raises(ValueError, match=r"noise must be above 0, .* no variance; got 0"):
        encoder.mutual_information(mixed, noise=0)


def test_information_needs_a_fit_and_leaves_the_encoder_unchanged(mixed, fitted):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        CMIMEncoder().mutual_information(mixed)
    encoder = fitted()
    Z = encoder.transform(mixed)
    encoder.mutual_information(mixed, noise=1.0)
    assert_array_equal(encoder.transform(mixed), Z)
