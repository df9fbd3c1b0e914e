"""Does CMIMEncoder fill holes as well as the imputers people use?

    python -m benchmarks.imputation --data-dir DIR [--out DIR] [--params JSON]

DIR holds NAME.parquet tables with a column ``target``, which is left out. At most 8,000 rows, split
70/30; 10, 30 and 50 % of the observed cells of *both* parts are removed at random. Every imputer is
fitted to the training part with its holes and fills those of the test part. Scored are the cells
removed there:

- rmse: root mean squared error of the numeric columns, each in units of its standard deviation;
- accuracy: of the categorical ones.

Rivals are scikit-learn's IterativeImputer and KNNImputer with their defaults, on standardised
numbers and one-hot levels (filled with the highest one), and each column's mean or mode.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer
from sklearn.model_selection import train_test_split

from cmim_sklearn import CMIMEncoder

TABLES = ["adult", "bank_marketing", "california_housing", "german_credit", "magic_telescope"]
SHARES = [0.1, 0.3, 0.5]
MAX_ROWS = 8000


def numeric(frame):
    return [c for c in frame if pd.api.types.is_numeric_dtype(frame[c])]


class OnMatrix:
    """An imputer of matrices, for frames: numbers standardised, levels one-hot."""

    def __init__(self, imputer):
        self.imputer = imputer

    def fit(self, X):
        self.numbers = numeric(X)
        self.levels = {c: sorted(X[c].dropna().unique()) for c in X if c not in self.numbers}
        self.mean, self.spread = X[self.numbers].mean(), X[self.numbers].std().replace(0, 1)
        self.imputer.fit(self.matrix(X))
        return self

    def matrix(self, X):
        parts = [((X[self.numbers] - self.mean) / self.spread).to_numpy(float)]
        for c, levels in self.levels.items():
            hot = (X[c].astype(object).to_numpy()[:, None] == np.array(levels, object)).astype(
                float
            )
            hot[X[c].isna()] = np.nan
            parts.append(hot)
        return np.concatenate(parts, axis=1)

    def impute(self, X):
        filled, out, start = self.imputer.transform(self.matrix(X)), X.copy(), len(self.numbers)
        for k, c in enumerate(self.numbers):
            out[c] = (
                X[c].astype(float).where(X[c].notna(), filled[:, k] * self.spread[c] + self.mean[c])
            )
        for c, levels in self.levels.items():
            best = np.array(levels, object)[filled[:, start : start + len(levels)].argmax(1)]
            out[c] = X[c].astype(object).where(X[c].notna(), best)
            start += len(levels)
        return out


class Marginal:
    """Each column's mean or most frequent level."""

    def fit(self, X):
        self.values = {c: X[c].mean() if c in numeric(X) else X[c].mode()[0] for c in X}
        return self

    def impute(self, X):
        numbers = numeric(X)
        return X.assign(
            **{
                c: X[c].astype(float if c in numbers else object).where(X[c].notna(), value)
                for c, value in self.values.items()
            }
        )


def imputers(params):
    return {
        "cmim": CMIMEncoder(random_state=0).set_params(**params),
        "iterative": OnMatrix(IterativeImputer(random_state=0)),
        "knn": OnMatrix(KNNImputer()),
        "marginal": Marginal(),
    }


def remove(X, share, rng):
    """Hide a share of the observed cells; also say which."""
    hidden = (rng.rand(*X.shape) < share) & X.notna().to_numpy()
    return X.mask(hidden), hidden


def evaluate(path, share, params, models):
    warnings.simplefilter("ignore")
    X = pd.read_parquet(path).drop(columns="target")
    X = X.astype(dict.fromkeys(numeric(X), float))
    if len(X) > MAX_ROWS:
        X = X.sample(MAX_ROWS, random_state=0)
    train, test = train_test_split(X, test_size=0.3, random_state=0)
    rng = np.random.RandomState(0)
    train, _ = remove(train, share, rng)
    holed, hidden = remove(test, share, rng)
    rows = []
    for name, imputer in imputers(params).items():
        if name not in models:
            continue
        start = time.perf_counter()
        imputer.fit(train)
        fitted = time.perf_counter()
        filled = imputer.impute(holed)
        done = time.perf_counter()
        errors, hits = [], []
        for c, column in enumerate(X):
            truth, guess = test[column][hidden[:, c]], filled[column][hidden[:, c]]
            if column in numeric(X):
                errors.append(((guess - truth) / X[column].std()) ** 2)
            else:
                hits.append((guess.astype(str) == truth.astype(str)).to_numpy())
        rows.append(
            {
                "table": path.stem,
                "share": share,
                "imputer": name,
                "rmse": np.sqrt(np.mean([e.mean() for e in errors])) if errors else np.nan,
                "accuracy": np.mean([h.mean() for h in hits]) if hits else np.nan,
                "fit_s": fitted - start,
                "impute_s": done - fitted,
            }
        )
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of NAME.parquet")
    parser.add_argument("--out", type=Path, help="folder for imputation.csv")
    parser.add_argument("--tables", nargs="*", default=TABLES)
    parser.add_argument("--shares", nargs="*", type=float, default=SHARES)
    parser.add_argument("--models", nargs="*", default=["cmim", "iterative", "knn", "marginal"])
    parser.add_argument("--params", type=json.loads, default={}, help="of CMIMEncoder, as JSON")
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    tasks = [
        (args.data_dir / f"{name}.parquet", share) for name in args.tables for share in args.shares
    ]
    rows = []
    stream = Parallel(n_jobs=args.jobs, return_as="generator")(
        delayed(evaluate)(*task, args.params, args.models) for task in tasks
    )
    for some in stream:
        rows += some
        for row in some:
            print(
                {k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}, flush=True
            )
    results = pd.DataFrame(rows)
    for measure in ("rmse", "accuracy"):
        print(f"\n{measure}")
        print(results.pivot(index=["table", "share"], columns="imputer", values=measure).round(3))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        results.to_csv(args.out / "imputation.csv", index=False)


if __name__ == "__main__":
    main()
