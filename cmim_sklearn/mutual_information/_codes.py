"""Mutual information of codes with known posteriors, by the index of the row."""

import math

import numpy as np
from scipy.special import logsumexp

INDEX_ROWS = 512


def index_information(mean, variance, noise):
    """Information that draws from n Gaussians hold of which one they are from, in nats.

    Parameters
    ----------
    mean, variance : array of shape (n, d)
        Of the components, independent in each Gaussian; all variances above 0.
    noise : array of shape (n, d)
        Standard normal: one draw for each Gaussian.

    Returns
    -------
    float
        At most log n, but for the noise of the draw.
    """
    mean = mean - mean.mean(0)  # squares below are taken apart: far from 0 they would cancel
    n, precision = len(mean), 1 / variance
    z = mean + np.sqrt(variance) * noise
    constant = (mean**2 * precision - np.log(precision)).sum(1)
    values = np.empty(n)
    for start in range(0, n, INDEX_ROWS):
        rows = np.arange(start, min(start + INDEX_ROWS, n))
        log_density = -0.5 * (
            z[rows] ** 2 @ precision.T - 2 * z[rows] @ (mean * precision).T + constant
        )
        own = log_density[np.arange(len(rows)), rows]
        values[rows] = own - logsumexp(log_density, axis=1) + math.log(n)
    return float(values.mean())
