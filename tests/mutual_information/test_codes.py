"""Information that noisy codes hold about the index of their row."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from cmim_sklearn.mutual_information._codes import index_information


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
def test_information_of_gaussian_codes_with_noise(spread):
    """d channels of Gaussian rows: I = d/2 log(1 + S^2)."""
    d, n = 2, 2000
    truth = d / 2 * math.log(1 + spread**2)
    for unit in (1.0, 0.01):
        mean, variance = unit * spread * normal(n, d), np.full((n, d), unit**2)
        found = index_information(mean, variance, normal(n, d, seed=1))
        assert found == pytest.approx(truth, abs=0.05)


def test_information_is_the_mean_log_ratio_to_the_mixture():
    mean, variance, noise = normal(40, 3), np.exp(normal(40, 3, seed=1)), normal(40, 3, seed=2)
    z = mean + np.sqrt(variance) * noise
    density = np.exp(norm.logpdf(z[:, None], mean, np.sqrt(variance)).sum(2))
    expected = np.log(np.diag(density) / density.mean(1)).mean()
    assert index_information(mean, variance, noise) == pytest.approx(expected)


def test_information_of_separate_and_of_equal_codes():
    n = 700
    apart, one = 1000.0 * np.arange(n)[:, None], np.ones((n, 1))
    assert index_information(apart, one, normal(n, 1)) == pytest.approx(math.log(n))
    far = 1e8 + normal(n, 3)
    found = index_information(far, np.full((n, 3), 1e-4), normal(n, 3, seed=1))
    assert found == pytest.approx(math.log(n), abs=0.01)
    same = np.ones((n, 3))
    assert index_information(same, same, normal(n, 3)) == pytest.approx(0, abs=1e-9)
    parts = normal(n, 3), np.exp(normal(n, 3, seed=1)), normal(n, 3, seed=2)
    order = np.random.RandomState(0).permutation(n)
    assert index_information(*(part[order] for part in parts)) == pytest.approx(
        index_information(*parts)
    )
