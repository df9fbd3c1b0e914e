"""Estimates of mutual information where the true value is known.

    python -m benchmarks.studies.mutual_information [--out DIR] [--rows 5000] [--methods mine ksg]

X and Z are correlated Gaussians of d columns each, so I = -d/2 log(1 - rho^2). With "cubic" each
column is mapped by x^3 + x and Z is rotated at random, which changes no information. Each of five
folds is scored by critics trained on the others.
"""

import time
import warnings
from itertools import product

import numpy as np
import pandas as pd

from benchmarks.tools import parser, save
from cmim_sklearn.mutual_information import mutual_information
from cmim_sklearn.mutual_information._estimators import ESTIMATORS

DIMENSIONS, CORRELATIONS, MAPS = (2, 20), (0.2, 0.5, 0.9), ("none", "cubic")


def correlated(n_rows, d, rho, map_name="none", seed=0):
    """X and Z, each (n, d), and the true information in nats."""
    rng = np.random.RandomState(seed)
    X, noise = rng.randn(n_rows, d), rng.randn(n_rows, d)
    Z = rho * X + np.sqrt(1 - rho**2) * noise
    if map_name == "cubic":
        rotation, _ = np.linalg.qr(rng.randn(d, d))
        X, Z = X**3 + X, (Z**3 + Z) @ rotation
    return X, Z, -d / 2 * np.log(1 - rho**2)


def main(arguments=None):
    options = parser(__doc__)
    options.add_argument("--rows", type=int, default=5000)
    options.add_argument("--methods", nargs="+", default=list(ESTIMATORS), choices=list(ESTIMATORS))
    args = options.parse_args(arguments)
    n_rows, cases = args.rows, list(product(DIMENSIONS, CORRELATIONS, MAPS, args.methods))
    if args.quick:
        n_rows, cases = 300, [(2, 0.9, "cubic", "ksg")]
    results = []
    for d, rho, map_name, method in cases:
        X, Z, truth = correlated(n_rows, d, rho, map_name)
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*the largest value that the rows")
            found = mutual_information(X, Z, method, cv=5, random_state=0)
        values = (method, d, rho, map_name, truth, found.estimate, found.error, found.cap)
        results.append((*values, time.perf_counter() - start))
        print(f"{method}, d={d}, rho={rho}, {map_name}: truth {truth:.3f}, {found!r}", flush=True)
    columns = ["method", "d", "rho", "map", "truth", "estimate", "error", "cap", "seconds"]
    table = pd.DataFrame(results, columns=columns).round(3)
    print(table.to_string(index=False))
    save(table, args.out, "mutual_information.csv")


if __name__ == "__main__":
    main()
