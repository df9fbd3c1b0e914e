"""Imputation of missing cells, compared with scikit-learn's imputers.

    python -m benchmarks.studies.imputation --data-dir DIR [--out DIR] [--jobs 2]

DIR holds tables NAME.parquet; their column ``target`` is left out. Of at most 8,000 rows, 70 % are
for training. A share of the observed cells of *both* parts is removed at random. Each imputer is
fitted to the training part and imputes the test part. Scores are the root mean squared error of
numeric columns in units of their standard deviation, and the accuracy of categorical ones.
IterativeImputer and KNNImputer have their defaults, on standardised numbers and one-hot levels.
"""

import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.model_selection import train_test_split

from benchmarks.tools import STUDY_TABLES, numeric_columns, parser, save
from cmim_sklearn import CMIMEncoder


class OnMatrix:
    """An imputer of matrices, applied to frames: numbers standardised, levels one-hot."""

    def __init__(self, imputer):
        self.imputer = imputer

    def fit(self, X):
        self.numbers = numeric_columns(X)
        self.levels = {c: sorted(X[c].dropna().unique()) for c in X if c not in self.numbers}
        self.mean, self.spread = X[self.numbers].mean(), X[self.numbers].std().replace(0, 1)
        self.imputer.fit(self.matrix(X))
        return self

    def matrix(self, X):
        parts = [(X[self.numbers] - self.mean) / self.spread]
        for c, levels in self.levels.items():
            cells = X[c].astype(object)
            hot = pd.DataFrame({level: cells == level for level in levels}, X.index, dtype=float)
            parts.append(hot.mask(cells.isna()))
        return pd.concat(parts, axis=1).to_numpy(float)

    def impute(self, X):
        values, out, start = self.imputer.transform(self.matrix(X)), X.copy(), len(self.numbers)
        for k, c in enumerate(self.numbers):
            out[c] = X[c].where(X[c].notna(), values[:, k] * self.spread[c] + self.mean[c])
        for c, levels in self.levels.items():
            best = np.array(levels, object)[values[:, start : start + len(levels)].argmax(1)]
            out[c] = X[c].astype(object).where(X[c].notna(), best)
            start += len(levels)
        return out


def imputers(params):
    return {
        "cmim": CMIMEncoder(random_state=0).set_params(**params),
        "iterative": OnMatrix(IterativeImputer(random_state=0)),
        "knn": OnMatrix(KNNImputer()),
        "marginal": OnMatrix(SimpleImputer()),
    }


def remove(X, share, rng):
    """Table without a share of its observed cells, and which ones were removed."""
    hidden = (rng.rand(*X.shape) < share) & X.notna().to_numpy()
    return X.mask(hidden), hidden


def evaluate(path, share, params=None, max_rows=8000):
    """Scores of the imputers on one table, as a list of dicts."""
    warnings.simplefilter("ignore")
    X = pd.read_parquet(path).drop(columns="target")
    X = X.astype(dict.fromkeys(numeric_columns(X), float))
    if len(X) > max_rows:
        X = X.sample(max_rows, random_state=0)
    train, test = train_test_split(X, test_size=0.3, random_state=0)
    rng = np.random.RandomState(0)
    train, _ = remove(train, share, rng)
    masked, hidden = remove(test, share, rng)
    rows = []
    for name, imputer in imputers(params or {}).items():
        start = time.perf_counter()
        imputer.fit(train)
        fitted = time.perf_counter()
        imputed = imputer.impute(masked)
        done = time.perf_counter()
        found = scores(test, imputed, hidden, X)
        seconds = {"fit_s": fitted - start, "impute_s": done - fitted}
        rows.append({"table": path.stem, "share": share, "imputer": name, **found, **seconds})
    return rows


def scores(test, imputed, hidden, X):
    """Scores of imputed cells; X gives the standard deviations."""
    squares, hits = {}, {}
    for k, c in enumerate(X):
        truth, guess = test[c][hidden[:, k]], imputed[c][hidden[:, k]]
        if c in numeric_columns(X):
            squares[c] = (((guess - truth) / X[c].std()) ** 2).mean()
        else:
            hits[c] = (guess.astype(str) == truth.astype(str)).mean()
    return {"rmse": pd.Series(squares).mean() ** 0.5, "accuracy": pd.Series(hits).mean()}


def main(arguments=None):
    options = parser(__doc__)
    options.add_argument("--data-dir", type=Path, required=True, help="folder of NAME.parquet")
    options.add_argument("--tables", nargs="*", default=STUDY_TABLES)
    options.add_argument("--jobs", type=int, default=1)
    args = options.parse_args(arguments)
    paths = [args.data_dir / f"{name}.parquet" for name in args.tables]
    tasks = [(path, share) for path in paths for share in (0.1, 0.3, 0.5)]
    small = {"params": {"max_iter": 2}, "max_rows": 200} if args.quick else {}
    calls = [delayed(evaluate)(*task, **small) for task in (tasks[:1] if args.quick else tasks)]
    rows = []
    for some in Parallel(args.jobs, return_as="generator")(calls):
        rows += some
        print(pd.DataFrame(some).round(3).to_string(index=False, header=False), flush=True)
    results = pd.DataFrame(rows)
    scores = results.pivot_table(["rmse", "accuracy"], ["table", "share"], "imputer")
    print(scores.round(3).to_string())
    save(results, args.out, "imputation.csv")


if __name__ == "__main__":
    main()
