"""Helpers that several test modules share."""

import numpy as np
import torch

from cmim_sklearn._likelihoods import LIKELIHOODS

MISSING = {"number": np.nan, "category": None}


def objects(*values):
    """Object array of shape (n,)."""
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def columns_of(kind, n=60, seed=0):
    """Two raw columns (n,) that suit a kind, with a missing value in row 5."""
    rng = np.random.RandomState(seed)
    columns = {
        "gaussian": lambda: [rng.randn(n), rng.randint(-5, 5, n).astype(float)],
        "bernoulli": lambda: [rng.choice([3.0, 7.5], n), rng.choice([0.0, 1.0], n)],
        "categorical": lambda: [
            rng.choice(objects("a", "b", "c"), n),
            rng.choice(objects(1, "x", True, "y", 2.5), n),
        ],
        "poisson": lambda: [rng.poisson(3, n).astype(float), rng.poisson(100, n).astype(float)],
    }[kind]()
    for column in columns:
        column[5] = MISSING[LIKELIHOODS[kind].takes]
    return columns


def fitted_likelihood(kind, **options):
    """Likelihood fitted to `columns_of` its kind, and these columns."""
    columns = columns_of(kind)
    likelihood = LIKELIHOODS[kind].fit(columns, ["one", "two"], **options)
    if kind == "gaussian":
        with torch.no_grad():
            likelihood.deviation.copy_(torch.tensor([0.5, 0.2]))
    return likelihood, columns


def random_params(likelihood, n, seed=0):
    """Decoder outputs (n, P) for a likelihood."""
    return torch.randn(n, likelihood.n_params, generator=torch.Generator().manual_seed(seed))


def measured(likelihood, columns):
    """Raw columns measured for `log_density`, as a tensor."""
    return torch.from_numpy(likelihood.measure(columns))
