"""Detection of anomalous rows, compared with other detectors, by kind of anomaly.

    python -m benchmarks.studies.anomalies --data-dir DIR [--out DIR] [--jobs 2]

DIR holds tables NAME.parquet; their column ``target`` is left out. Of at most 4,000 rows, 70 % are
for training. Anomalies are of three kinds:

- shuffled: every cell comes from another row.
- swapped: one cell comes from another row, and has another value.
- extreme: one number lies 3 to 10 interquartile ranges beyond the 0.1 % or the 99.9 % quantile.

Detectors are fitted to the training part, in which 2 % of the rows are anomalous of each kind. The
AUC compares unchanged rows with anomalous ones: rows of the test part, unchanged and made anomalous
in each way, and the rows of the training part. Detectors:

- score_samples, score_dependence: of `CMIMEncoder` with its defaults; score_columns: the lowest
  score of a row, only for the first rows of the test part, as it takes long.
- halves: score_samples and score_dependence of training rows, by an encoder of the other half.
- knn: mean distance to 5 rows, on numbers by quantile and one-hot levels; knn_raw: on numbers in
  standard deviations.
- lof: local outlier factor of 20 neighbours, on quantiles; isolation: an isolation forest.
- depad: a random forest predicts each column from the others; mean of the deviations, as in DepAD
  (arXiv 2011.06716). Training rows are predicted by trees that were not fitted to them.
- breiman: a random forest that separates the rows from rows with shuffled columns; training rows
  as for depad. It is fitted to one of the three kinds of anomaly.
"""

import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.ensemble import IsolationForest, RandomForestClassifier, RandomForestRegressor
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold, train_test_split
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer, StandardScaler

from benchmarks.tools import STUDY_TABLES, numeric_columns, parser, save
from cmim_sklearn import CMIMEncoder

KINDS = ["shuffled", "swapped", "extreme"]
SHARE = 0.02
"""Share of the training rows that are made anomalous, in each way."""
RANGES = 3, 10
"""Least and largest distance of an extreme value from its quantile, in interquartile ranges."""


def anomalous(rows, source, kind, rng):
    """Rows made anomalous, with cells of the rows of `source`."""
    out, columns = rows.copy(), numeric_columns(rows) if kind == "extreme" else list(rows)
    if kind == "shuffled":
        for c in columns:
            out[c] = source[c].take(rng.randint(len(source), size=len(out))).set_axis(out.index)
        return out
    for row in out.index:
        c = columns[rng.randint(len(columns))]
        if kind == "extreme":
            out.loc[row, c] = extreme(source[c], rng)
        else:
            others = source[c][(source[c] != out.loc[row, c]) & source[c].notna()]
            out.loc[row, c] = others.iloc[rng.randint(len(others))]
    return out


def extreme(values, rng):
    """Number far below or above the values of a column; whole if they are."""
    spread = values.quantile(0.75) - values.quantile(0.25) or values.std()
    low, high = values.quantile([0.001, 0.999])
    away = spread * rng.uniform(*RANGES)
    value = low - away if rng.rand() < 0.5 else high + away
    return np.round(value) if (values.dropna() % 1 == 0).all() else value


class Matrix:
    """Frames as matrices: scaled numbers, one-hot levels, and the columns that each part is."""

    def __init__(self, frame, scaler):
        self.numbers = numeric_columns(frame)
        self.others = [c for c in frame if c not in self.numbers]
        hot = OneHotEncoder(sparse_output=False, handle_unknown="ignore")
        self.encode = make_column_transformer((scaler, self.numbers), (hot, self.others))
        self.middle = frame[self.numbers].median()
        self.encode.fit(self._complete(frame))
        self.source = list(self.numbers)
        if self.others:
            levels = self.encode.named_transformers_["onehotencoder"].categories_
            self.source += np.repeat(self.others, [len(of) for of in levels]).tolist()

    def _complete(self, frame):
        words = frame[self.others].astype(object).fillna("-").astype(str)
        return pd.concat([frame[self.numbers].fillna(self.middle), words], axis=1)

    def __call__(self, frame):
        return self.encode.transform(self._complete(frame))


def knn(scaler):
    """Scores of a training table and of other rows: the mean distance to 5 training rows."""

    def score(train, test):
        matrix = Matrix(train, scaler)
        near = NearestNeighbors(n_neighbors=5).fit(matrix(train))
        own, other = near.kneighbors()[0], near.kneighbors(matrix(test))[0]
        return own.mean(1), other.mean(1)

    return score


def lof(train, test):
    matrix = Matrix(train, QuantileTransformer(n_quantiles=100))
    model = LocalOutlierFactor(n_neighbors=20, novelty=True).fit(matrix(train))
    return -model.negative_outlier_factor_, -model.score_samples(matrix(test))


def isolation(train, test):
    matrix = Matrix(train, StandardScaler())
    model = IsolationForest(random_state=0).fit(matrix(train))
    return -model.score_samples(matrix(train)), -model.score_samples(matrix(test))


def depad(train, test):
    """Mean over columns of the deviation from the prediction by the other columns."""
    matrix, sums = Matrix(train, StandardScaler()), [0, 0]
    inputs = [matrix(train), matrix(test)]
    for c in train:
        use = [source != c for source in matrix.source]
        known = train[c].notna().to_numpy()
        options = {"n_estimators": 50, "min_samples_leaf": 5, "max_features": 1 / 3}
        options |= {"oob_score": True, "random_state": 0}
        if c in matrix.numbers:
            model = RandomForestRegressor(**options).fit(inputs[0][known][:, use], train[c][known])
            of_train = np.zeros(len(train))
            of_train[known] = np.abs(model.oob_prediction_ - train[c][known])
            of_test = np.abs(model.predict(inputs[1][:, use]) - test[c]).fillna(0)
        else:
            words = train[c].astype(str)
            model = RandomForestClassifier(**options).fit(inputs[0][known][:, use], words[known])
            p = np.ones((len(train), len(model.classes_)))
            p[known] = model.oob_decision_function_
            of_train = improbability(p, words, model.classes_) * known
            p = model.predict_proba(inputs[1][:, use])
            of_test = improbability(p, test[c].astype(str), model.classes_) * test[c].notna()
        usual = max(of_train[known].mean(), 1e-12)
        sums = [sums[0] + of_train / usual, sums[1] + np.asarray(of_test) / usual]
    return sums


def improbability(p, words, classes):
    """Minus log of the smoothed probability of each word."""
    is_own = words.to_numpy()[:, None] == np.asarray(classes)
    return -np.log((p * is_own).sum(1) * 0.99 + 0.01 / len(classes))


def breiman(train, test):
    rng = np.random.RandomState(0)
    shuffled = train.apply(lambda column: rng.permutation(column.to_numpy()))
    shuffled = shuffled.astype(train.dtypes.to_dict())
    matrix = Matrix(train, StandardScaler())
    both = np.concatenate([matrix(train), matrix(shuffled)])
    is_shuffled = np.repeat([0, 1], len(train))
    model = RandomForestClassifier(200, min_samples_leaf=2, oob_score=True, random_state=0)
    model.fit(both, is_shuffled)
    return (
        model.oob_decision_function_[: len(train), 1],
        model.predict_proba(matrix(test))[:, 1],
    )


RIVALS = {
    "knn": knn(QuantileTransformer(n_quantiles=100)),
    "knn_raw": knn(StandardScaler()),
    "lof": lof,
    "isolation": isolation,
    "depad": depad,
    "breiman": breiman,
}


def scores(train, test, few, params):
    """Yield detectors, their scores of the training and the test rows, and CPU seconds.

    Higher is more anomalous. Rows without a score have NaN.
    """
    names, start = ("score_samples", "score_dependence"), time.process_time()
    encoder = CMIMEncoder(random_state=0).set_params(**params).fit(train)
    fitted = time.process_time() - start
    for name in names:
        start = time.process_time()
        found = [-getattr(encoder, name)(part) for part in (train, test)]
        yield name, *found, fitted + time.process_time() - start
    start, of_train = time.process_time(), np.full(len(train), np.nan)
    lowest = np.full(len(test), np.nan)
    lowest[few] = -encoder.score_columns(test[few]).min(axis=1)
    yield "score_columns", of_train, lowest, fitted + time.process_time() - start
    for name, rival in RIVALS.items():
        start = time.process_time()
        yield name, *rival(train, test), time.process_time() - start
    start, halves = time.process_time(), np.full((2, len(train)), np.nan)
    for others, rows in KFold(2, shuffle=True, random_state=0).split(train):
        encoder = clone(encoder).fit(train.iloc[others])
        halves[:, rows] = [-getattr(encoder, name)(train.iloc[rows]) for name in names]
    seconds, of_test = time.process_time() - start, np.full(len(test), np.nan)
    for name, found in zip(names, halves, strict=True):
        yield f"{name}, halves", found, of_test, seconds


def evaluate(path, params=None, max_rows=4000, n_test=600, n_few=100):
    """AUC of the detectors on one table, as a list of dicts."""
    warnings.simplefilter("ignore")
    X = pd.read_parquet(path).drop(columns="target")
    X = X.astype(dict.fromkeys(numeric_columns(X), float))
    X = X.sample(min(max_rows, len(X)), random_state=0).reset_index(drop=True)
    train, test = (
        part.reset_index(drop=True) for part in train_test_split(X, test_size=0.3, random_state=0)
    )
    rng, test = np.random.RandomState(0), test[:n_test]
    n_rows, n_each = len(test), max(1, round(SHARE * len(train)))
    truth, clean = np.full(len(train), "", dtype=object), train
    order = rng.permutation(len(train))
    parts = [test]
    for k, kind in enumerate(KINDS):
        some = np.sort(order[k * n_each : (k + 1) * n_each])
        train = pd.concat([train.drop(some), anomalous(clean.loc[some], clean, kind, rng)])
        train, truth[some] = train.sort_index(), kind
        parts.append(anomalous(test, clean, kind, rng))
    of_test = np.repeat(["", *KINDS], n_rows)
    test = pd.concat(parts, ignore_index=True)
    few, rows = np.arange(len(test)) % n_rows < n_few, []
    for name, own, other, seconds in scores(train, test, few, params or {}):
        for where, labels, values in [("train", truth, own), ("test", of_test, other)]:
            row = {"table": path.stem, "rows": where, "detector": name, "cpu_s": seconds}
            values = np.asarray(values)
            for kind in KINDS:
                used = np.isin(labels, ["", kind]) & ~np.isnan(values)
                if used.any():
                    row[kind] = roc_auc_score(labels[used] == kind, values[used])
            rows.append(row)
    return rows


def main(arguments=None):
    options = parser(__doc__)
    options.add_argument("--data-dir", type=Path, required=True, help="folder of NAME.parquet")
    options.add_argument("--tables", nargs="*", default=STUDY_TABLES)
    options.add_argument("--jobs", type=int, default=1)
    args = options.parse_args(arguments)
    tables, sizes = args.tables, {}
    if args.quick:
        tables = tables[:1]
        sizes = {"params": {"max_iter": 2}, "max_rows": 200, "n_test": 40, "n_few": 2}
    paths = [args.data_dir / f"{name}.parquet" for name in tables]
    calls, rows = [delayed(evaluate)(path, **sizes) for path in paths], []
    for some in Parallel(args.jobs, return_as="generator")(calls):
        rows += some
        print(pd.DataFrame(some).round(3).to_string(index=False, header=False), flush=True)
    results = pd.DataFrame(rows)
    means = results.groupby(["rows", "detector"], sort=False)[[*KINDS, "cpu_s"]].mean()
    print("\nmeans over tables\n" + means.round(3).to_string())
    save(results, args.out, "anomalies.csv")


if __name__ == "__main__":
    main()
