"""UMAP of the prepared columns. Run by `benchmarks.rivals` in this folder's own environment."""

import warnings

from exchange import run
from umap import UMAP

N_COMPONENTS = 32  # the largest embedding that is usual as features; all else is UMAP's default


def fit(method, X, seed, folder):
    # The spectral start needs fewer components than rows.
    return UMAP(n_components=min(N_COMPONENTS, len(X) - 2), random_state=seed).fit(X)


def transform(model, X):
    return model.transform(X)


if __name__ == "__main__":
    # That a seed means one thread, and that small data are not worth an approximate search.
    warnings.simplefilter("ignore", UserWarning)
    run(fit, transform)
