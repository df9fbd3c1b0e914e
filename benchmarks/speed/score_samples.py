"""Time and Monte-Carlo error of `score_samples`, and time of `impute` in a wide table.

    OMP_NUM_THREADS=1 python -m benchmarks.speed.score_samples --data-dir DIR [--quick]
        [--rows 3000] [--repeats 5]

Each encoder is fitted with its defaults to 3,000 rows and scores 500 other rows. The wide table has
784 columns of numbers, and one row with one missing cell. The first call after a fit, which
prepares the others, is not among the repeats. Prints, in milliseconds for a row of `score_samples`
or a call of `impute`: processor time of the first call, median processor time, median time by the
clock. Then the median standard error of a score and the mean score, in nats.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.speed.stopwatch import timed
from benchmarks.tools import markdown
from cmim_sklearn import CMIMEncoder

TABLES = ["adult", "bank_marketing", "california_housing", "letter", "magic_telescope"]
N_SCORED, N_COLUMNS = 500, 784


def milliseconds(function, repeats, rows):
    """First processor time, then medians of processor time and of the clock, in ms for a row."""
    first, *later = [timed(function) for _ in range(repeats + 1)]
    cpu, wall = np.median(later, axis=0)
    return {
        name: seconds * 1000 / rows
        for name, seconds in {"cpu, first": first.cpu, "cpu": cpu, "wall": wall}.items()
    }


def scores(X, n_fitted, n_scored, max_iter, repeats):
    """Times of scores, with their errors and mean."""
    X = X.sample(frac=1, random_state=0)[: n_fitted + n_scored]
    encoder = CMIMEncoder(max_iter=max_iter, random_state=0).fit(X[:n_fitted])
    rows = X[n_fitted:]
    times = milliseconds(lambda: encoder.score_samples(rows), repeats, n_scored)
    nats, error = encoder.score_samples(rows, return_error=True)
    return times | {"error": np.median(error), "mean score": nats.mean()}


def imputation(n_columns, max_iter, repeats):
    """Times of imputing one cell."""
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(1000, n_columns))).add_prefix("x")
    encoder = CMIMEncoder(max_iter=max_iter, random_state=0).fit(X)
    row = X[:1].copy()
    row.iloc[0, 0] = np.nan
    return milliseconds(lambda: encoder.impute(row), repeats, 1)


def main(argv=None):
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of NAME.parquet")
    parser.add_argument("--tables", nargs="*", default=TABLES)
    parser.add_argument("--rows", type=int, default=3000, help="number of rows of each fit")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="toy sizes, to test that it runs")
    args = parser.parse_args(argv)
    sizes, n_columns, max_iter, repeats = (args.rows, N_SCORED), N_COLUMNS, "auto", args.repeats
    if args.quick:
        sizes, n_columns, max_iter, repeats = (100, 20), 20, 2, 1
    found = {}
    for name in args.tables:
        X = pd.read_parquet(args.data_dir / f"{name}.parquet").drop(columns="target")
        found[name] = scores(X, *sizes, max_iter, repeats)
    found[f"impute, {n_columns} columns"] = imputation(n_columns, max_iter, repeats)
    print(markdown(pd.DataFrame(found).T.rename_axis("table")))


if __name__ == "__main__":
    main()
