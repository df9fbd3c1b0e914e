"""UMAP of prepared columns. `benchmarks.rivals` runs it in this folder's environment."""

import warnings

from exchange import run
from umap import UMAP


def fit(method, X, seed, folder):
    # 32 components, and UMAP's defaults; its start needs fewer components than rows.
    return UMAP(n_components=min(32, len(X) - 2), random_state=seed).fit(X)


if __name__ == "__main__":
    warnings.simplefilter("ignore", UserWarning)  # a seed means one thread
    run(fit, UMAP.transform)
