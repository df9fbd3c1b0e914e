"""Information that latent codes contain, from known posteriors."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from cmim_sklearn.mutual_information._codes import code_information, index_information


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
def test_information_of_a_gaussian_code_with_noise(spread):
    """d Gaussian channels: I = d/2 log(1 + spread^2)."""
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


def test_limits_of_the_information():
    n = 700
    distant, one = 1000.0 * np.arange(n)[:, None], np.ones((n, 1))
    assert index_information(distant, one, normal(n, 1)) == pytest.approx(math.log(n))
    far = 1e8 + normal(n, 3)
    found = index_information(far, np.full((n, 3), 1e-4), normal(n, 3, seed=1))
    assert found == pytest.approx(math.log(n), abs=0.01)
    same = np.ones((n, 3))
    assert index_information(same, same, normal(n, 3)) == pytest.approx(0, abs=1e-9)


def test_information_does_not_depend_on_the_order_of_rows():
    n = 700
    parts = normal(n, 3), np.exp(normal(n, 3, seed=1)), normal(n, 3, seed=2)
    order = np.random.RandomState(0).permutation(n)
    shuffled = index_information(*(part[order] for part in parts))
    assert shuffled == pytest.approx(index_information(*parts))


def test_noise_is_a_share_of_the_total_deviation_and_adds_to_the_posterior():
    mean, variance, spread = normal(50, 2), np.full((50, 2), 0.5), np.array([3.0, 4.0])
    found = code_information(mean, variance, spread, 0.2, 3, np.random.RandomState(0))
    rng = np.random.RandomState(0)
    total = np.full((50, 2), 0.5 + 0.2**2 * 5**2)
    expected = [index_information(mean, total, rng.standard_normal((50, 2))) for _ in range(3)]
    assert found.folds == pytest.approx(expected)
    assert found.estimate == pytest.approx(np.mean(expected))
    assert found.error == pytest.approx(np.std(expected, ddof=1) / math.sqrt(3))
    assert found.cap == math.log(50)
    single = code_information(mean, variance, spread, 0.2, 1, np.random.RandomState(0))
    assert math.isnan(single.error)


def test_codes_without_variance_need_noise():
    mean, zero = normal(50, 2), np.zeros((50, 2))
    with pytest.raises(ValueError, match=r"noise must be above 0, .* no variance; got 0\."):
        code_information(mean, zero, np.ones(2), 0, 1, np.random.RandomState(0))


def test_information_near_its_cap_warns():
    mean, zero = normal(50, 2), np.zeros((50, 2))
    message = r"3\.91 nats at noise=1e-06 is close to 3\.91, the largest value that 50 rows"
    with pytest.warns(UserWarning, match=message) as record:
        code_information(mean, zero, np.ones(2), 1e-6, 1, np.random.RandomState(0))
    assert record[0].filename == __file__
