"""Mutual information between rows and their latent codes, from known posteriors.

With q(z | x) known no critic is needed: the information is the mean of log q(z_i | x_i) minus the
log of the mean of q(z_i | x_j) over all rows j. It is a lower bound on the information about rows
of the whole population (M. Hoffman and M. Johnson, "ELBO surgery", 2016).

Axes: n rows, d latent components.
"""

import math
import warnings

import numpy as np
from scipy.special import logsumexp

from cmim_sklearn._utils.isolation import one_blas_thread
from cmim_sklearn._utils.stacklevel import user_stacklevel
from cmim_sklearn.mutual_information._base import is_near_cap
from cmim_sklearn.mutual_information._result import MutualInformation

INDEX_ROWS = 512


def code_information(codes_mean, codes_variance, spread, noise, n_draws, rng):
    """Estimate the information, in nats, that noisy codes contain about their rows.

    Parameters
    ----------
    codes_mean, codes_variance : array of shape (n, d)
        Mean and variance of q(z | x) for each row.
    spread : array of shape (d,)
        Standard deviation of each component in the training table. Only the sum of squares counts.
    noise : float
        Standard deviation of Gaussian noise that is added to every component, as a share of the
        root of the total variance, ``sqrt(sum(spread**2))``.
    n_draws : int
        Number of samples of each code.
    rng : numpy.random.RandomState
        Generator of the samples.

    Returns
    -------
    MutualInformation
        ``folds`` are the estimates of the single samples, ``error`` is the standard error of their
        mean, ``cap`` is log n.

    Raises
    ------
    ValueError
        If a code has no variance at all.

    Warns
    -----
    UserWarning
        If the estimate is within a tenth, or 0.3 nats, of its cap.
    """
    variance = codes_variance + noise**2 * float(np.sum(spread**2))
    if not variance.all():
        raise ValueError(
            "noise must be above 0, because the posterior of these codes has no variance; got "
            f"{noise!r}."
        )
    n = len(codes_mean)
    with one_blas_thread():
        draws = tuple(
            index_information(codes_mean, variance, rng.standard_normal(codes_mean.shape))
            for _ in range(n_draws)
        )
    estimate, cap = float(np.mean(draws)), math.log(n)
    if is_near_cap(estimate, cap):
        warnings.warn(
            f"The estimate of {estimate:.2f} nats at noise={noise:g} is close to {cap:.2f}, the "
            f"largest value that {n} rows can show, so it is limited by the number of rows. "
            "Increase noise or pass more rows.",
            UserWarning,
            stacklevel=user_stacklevel(),
        )
    error = float(np.std(draws, ddof=1) / math.sqrt(n_draws)) if n_draws > 1 else math.nan
    return MutualInformation(estimate, error, draws, cap)


def index_information(mean, variance, noise):
    """Estimate the information between the index of a Gaussian and a sample of it, in nats.

    Parameters
    ----------
    mean, variance : array of shape (n, d)
        Mean and variance of n Gaussians with independent components. Variances are positive.
    noise : array of shape (n, d)
        Standard normal: one sample for each Gaussian.

    Returns
    -------
    float
        At most log n, up to sampling noise.
    """
    mean = mean - mean.mean(0)  # squares are expanded below, which loses digits far from 0
    n, precision = len(mean), 1 / variance
    z = mean + np.sqrt(variance) * noise
    constant = (mean**2 * precision - np.log(precision)).sum(1)
    values = np.empty(n)
    for start in range(0, n, INDEX_ROWS):
        rows = np.arange(start, min(start + INDEX_ROWS, n))
        log_density = -0.5 * (
            z[rows] ** 2 @ precision.T - 2 * z[rows] @ (mean * precision).T + constant
        )
        matching = log_density[np.arange(len(rows)), rows]
        values[rows] = matching - logsumexp(log_density, axis=1) + math.log(n)
    return float(values.mean())
