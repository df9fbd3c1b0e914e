"""Imputation of missing cells, compared with MissForest and chained boosting.

    python -m benchmarks.studies.imputation --data-dir DIR [--out DIR] [--shares 0.3] [--jobs 2]

DIR holds tables NAME.parquet; their column ``target`` is left out. Of at most 4,000 rows, 70 % are
for training. A share of the observed cells is removed at random, by two protocols: from the
training and the test part ("both"), or from the test part alone ("test"). Each imputer is fitted to
the training part and imputes the test part. The imputers:

- MissForest: forests of 50 trees predict each column from all others, in four rounds.
- chained boosting: the same with histogram gradient boosting, which is MICE with trees. Levels have
  30 rounds of boosting, because each round has a tree for each level.
- linear: scikit-learn's IterativeImputer, on standardised numbers and one-hot levels.
- marginal: mean and most frequent level.

The scores:

- rmse: root mean squared error of numbers, in units of their standard deviation.
- accuracy: share of levels that are correct.
- crps: continuous ranked probability score of 20 draws, in the same unit; less is better. Draws of
  boosting add a residual of held-out rows, or follow the probabilities of levels.
- cpu_s: CPU seconds to fit and impute, without draws.
"""

import time
import warnings
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.ensemble import HistGradientBoostingClassifier as BoostingClassifier
from sklearn.ensemble import HistGradientBoostingRegressor as BoostingRegressor
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer
from sklearn.model_selection import cross_val_predict, train_test_split

from benchmarks.tools import STUDY_TABLES, markdown, numeric_columns, parser, save
from cmim_sklearn import CMIMEncoder

N_DRAWS = 20
WITH_DRAWS = ("cMIM", "chained boosting")


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


class Chained:
    """Imputation of each column from all others, in rounds that start from means and modes.

    ``make(is_level, others)`` returns the model of a column, where ``others`` marks the columns of
    levels among those that it reads. New rows are imputed by the models of each round in turn.
    """

    def __init__(self, make, n_rounds=4, has_draws=False):
        self.make, self.n_rounds, self.has_draws = make, n_rounds, has_draws

    def fit(self, X):
        numbers = numeric_columns(X)
        self.levels = {c: sorted(X[c].dropna().unique()) for c in X if c not in numbers}
        self.is_level = np.array([c in self.levels for c in X])
        values = self.matrix(X)
        modes = pd.DataFrame(values).mode().iloc[0]
        self.start = np.where(self.is_level, modes, np.nanmean(values, 0))
        missing, self.rounds, self.residuals = np.isnan(values), [], {}
        filled = np.where(missing, self.start, values)
        for _ in range(self.n_rounds if missing.any() else min(1, self.n_rounds)):
            self.rounds.append([])
            for k, hidden in enumerate(missing.T):
                others, target = np.delete(filled, k, 1), values[~hidden, k]
                model = self.make(self.is_level[k], np.delete(self.is_level, k))
                self.rounds[-1].append(model.fit(others[~hidden], target))
                if hidden.any():
                    filled[hidden, k] = model.predict(others[hidden])
        if not missing.any():  # each round would learn the same models
            self.rounds *= self.n_rounds
        if self.has_draws:
            for k in np.flatnonzero(~self.is_level):
                seen, others = ~missing[:, k], np.delete(filled, k, 1)
                guess = cross_val_predict(self.rounds[-1][k], others[seen], values[seen, k], cv=3)
                self.residuals[k] = values[seen, k] - guess
        return self

    def matrix(self, X):
        codes = {c: pd.Index(names).get_indexer(X[c]) for c, names in self.levels.items()}
        return X.assign(**codes).where(X.notna()).to_numpy(float)

    def impute(self, X, n_draws=None, random_state=0):
        rng = np.random.RandomState(random_state)
        values = np.tile(self.matrix(X), (n_draws or 1, 1))
        missing = np.isnan(values)
        filled = np.where(missing, self.start, values)
        for models in self.rounds:
            for k, hidden in enumerate(missing.T):
                if hidden.any():
                    others = np.delete(filled, k, 1)[hidden]
                    if n_draws:
                        filled[hidden, k] = self.draw(k, models[k], others, rng)
                    else:
                        filled[hidden, k] = models[k].predict(others)
        tables = [self.table(part, X) for part in np.split(filled, n_draws or 1)]
        return tables if n_draws else tables[0]

    def draw(self, k, model, others, rng):
        if not self.is_level[k]:
            return model.predict(others) + rng.choice(self.residuals[k], len(others))
        below = model.predict_proba(others).cumsum(1)[:, :-1]
        return model.classes_[(below < rng.rand(len(others), 1)).sum(1)]

    def table(self, filled, X):
        table = pd.DataFrame(filled, X.index, X.columns)
        words = {
            c: np.array(names, object)[table[c].astype(int)] for c, names in self.levels.items()
        }
        return table.assign(**words)


def forest(is_level, others):
    return (RandomForestClassifier if is_level else RandomForestRegressor)(50, random_state=0)


def boosting(is_level, others):
    kind, n_trees = (BoostingClassifier, 30) if is_level else (BoostingRegressor, 100)
    return kind(max_iter=n_trees, categorical_features=others, random_state=0)


def imputers(params):
    return {
        "cMIM": CMIMEncoder(random_state=0).set_params(**params),
        "MissForest": Chained(forest),
        "chained boosting": Chained(boosting, has_draws=True),
        "linear": OnMatrix(IterativeImputer(random_state=0)),
        "marginal": Chained(None, n_rounds=0),
    }


def remove(X, share, rng):
    """Table without a share of its observed cells, and which ones were removed."""
    hidden = (rng.rand(*X.shape) < share) & X.notna().to_numpy()
    return X.mask(hidden), hidden


def evaluate(path, share, protocol, params=None, max_rows=4000):
    """Scores of the imputers on one table, as a list of dicts."""
    warnings.simplefilter("ignore")
    X = pd.read_parquet(path).drop(columns="target")
    X = X.astype(dict.fromkeys(numeric_columns(X), float))
    if len(X) > max_rows:
        X = X.sample(max_rows, random_state=0)
    train, test = train_test_split(X, test_size=0.3, random_state=0)
    masked, hidden = remove(test, share, np.random.RandomState(0))
    if protocol == "both":
        train, _ = remove(train, share, np.random.RandomState(1))
    rows = []
    for name, imputer in imputers(params or {}).items():
        start = time.process_time()
        imputed = imputer.fit(train).impute(masked)
        row = {"table": path.stem, "protocol": protocol, "share": share, "imputer": name}
        row |= {**scores(test, imputed, hidden, X), "cpu_s": time.process_time() - start}
        if name in WITH_DRAWS:
            draws = imputer.impute(masked, n_draws=N_DRAWS, random_state=0)
            row["crps"] = crps(test, draws, hidden, X)
        rows.append(row)
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


def crps(test, draws, hidden, X):
    """Mean distance of draws to the truth, less half of that to each other; mean over numbers."""
    found, n = [], len(draws)
    for k, c in enumerate(X):
        if c in numeric_columns(X):
            cells = np.sort([draw[c].to_numpy()[hidden[:, k]] for draw in draws], 0)
            error = np.abs(cells - test[c].to_numpy()[hidden[:, k]]).mean(0)
            spread = (2 * np.arange(n) - n + 1) @ cells / (n * (n - 1))
            found.append((error - spread).mean() / X[c].std())
    return np.mean(found)


def main(arguments=None):
    options = parser(__doc__)
    options.add_argument("--data-dir", type=Path, required=True, help="folder of NAME.parquet")
    options.add_argument("--tables", nargs="*", default=STUDY_TABLES)
    options.add_argument("--shares", nargs="*", type=float, default=[0.3])
    options.add_argument("--jobs", type=int, default=1)
    args = options.parse_args(arguments)
    paths = [args.data_dir / f"{name}.parquet" for name in args.tables]
    tasks = list(product(paths, args.shares, ("both", "test")))
    small = {"params": {"max_iter": 2}, "max_rows": 200} if args.quick else {}
    rows = []
    for some in Parallel(args.jobs, return_as="generator")(
        delayed(evaluate)(*task, **small) for task in (tasks[:2] if args.quick else tasks)
    ):
        rows += some
        print(pd.DataFrame(some).round(3).to_string(index=False, header=False), flush=True)
        save(pd.DataFrame(rows), args.out, "imputation.csv")
    results = pd.DataFrame(rows)
    means = results.groupby(["protocol", "share", "imputer"], sort=False).mean(numeric_only=True)
    found = pd.concat([results, means.reset_index().assign(table="mean")])
    print("\n" + markdown(found.set_index("table")))


if __name__ == "__main__":
    main()
