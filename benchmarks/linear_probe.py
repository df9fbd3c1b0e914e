"""Does a linear model do better on CMIMEncoder's features than on the raw columns, and how close
does it come to boosted trees?

    python benchmarks/linear_probe.py --data-dir DIR [--out DIR] [--jobs 2] [--few-labels]
                                      [--encoder VAEEncoder]

DIR holds NAME.parquet tables with a column ``target``. Per table and split: at most 8,000 rows,
70/30, the same linear model on (a) raw columns, imputed, one-hot, quantile-scaled, standardised and
(b) the features of ``CMIMEncoder(random_state=split)``, fitted without labels on the training rows
of the DataFrame as it is, unscaled; and (c) the better, on the test part, of gradient boosting and
extremely randomised trees. Accuracy, or R2 for a number as target. The *way* is
(cMIM - raw) / (trees - raw), clipped to [-1, 1.5], over tables where trees lead by 0.02 or more.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer, StandardScaler

import cmim_sklearn

TEXT_TABLES = {"esol", "lipophilicity"}
MAX_ROWS = 8000


def load(path, split, max_rows=MAX_ROWS):
    """Training and test rows and targets of a table, and whether it is a regression."""
    frame = pd.read_parquet(path)
    target = frame.pop("target")
    regression = pd.api.types.is_numeric_dtype(target) and target.nunique() > 20
    if regression:
        # Prices and counts: positive, and skewed.
        values = np.log1p(target.to_numpy(float)) if target.min() >= 0 else target.to_numpy(float)
    else:
        labels = target.astype(str)
        kept = (labels.map(labels.value_counts()) >= 10).to_numpy()
        frame, values = frame[kept], labels[kept].to_numpy()
    if len(frame) > max_rows:
        frame, _, values, _ = train_test_split(
            frame,
            values,
            train_size=max_rows,
            stratify=None if regression else values,
            random_state=split,
        )
    parts = train_test_split(
        frame,
        values,
        test_size=0.3,
        stratify=None if regression else values,
        random_state=split,
    )
    return *parts, regression


class RawColumns:
    """Raw columns as a linear model likes them best: imputed, one-hot, to normal scores, scaled.

    Parameters
    ----------
    X : DataFrame
        Training rows.
    """

    def __init__(self, X):
        numeric = [c for c in X if pd.api.types.is_numeric_dtype(X[c])]
        self.categorical = [c for c in X if c not in numeric]
        prepare = make_column_transformer(
            (
                make_pipeline(
                    SimpleImputer(strategy="median", add_indicator=True),
                    QuantileTransformer(
                        output_distribution="normal", n_quantiles=min(1000, len(X))
                    ),
                ),
                numeric,
            ),
            (
                make_pipeline(
                    SimpleImputer(strategy="constant", fill_value="missing"),
                    OneHotEncoder(handle_unknown="ignore", sparse_output=False),
                ),
                self.categorical,
            ),
        )
        self.pipeline = make_pipeline(prepare, StandardScaler()).fit(self._as_objects(X))

    def transform(self, X):
        """Numbers (n, w) of a frame with the same columns."""
        return self.pipeline.transform(self._as_objects(X))

    def _as_objects(self, X):
        objects = {c: X[c].astype(object).where(X[c].notna(), "missing") for c in self.categorical}
        return X.assign(**objects)


def raw_matrices(X_train, X_test):
    """Training and test rows through `RawColumns`."""
    raw = RawColumns(X_train)
    return raw.transform(X_train), raw.transform(X_test)


def linear_model(regression, max_iter=500):
    if regression:
        return RidgeCV(np.logspace(-2, 4, 13))
    return LogisticRegression(max_iter=max_iter)


def trees_score(X_train, y_train, X_test, y_test, regression, split):
    if regression:
        models = [HistGradientBoostingRegressor(random_state=split)]
    else:
        models = [
            HistGradientBoostingClassifier(random_state=split),
            ExtraTreesClassifier(300, random_state=split),
        ]
    return max(model.fit(X_train, y_train).score(X_test, y_test) for model in models)


def few_rows(y, seed, share=0.05, least=60):
    """A share of the rows and no fewer than `least`, at least two of every class."""
    rng = np.random.RandomState(seed)
    wanted = min(len(y), max(least, round(share * len(y))))
    order = rng.permutation(len(y))
    if y.dtype.kind != "f":
        firsts = [np.flatnonzero(y[order] == c)[:2] for c in np.unique(y)]
        first = np.concatenate(firsts)
        order = np.concatenate([order[first], np.delete(order, first)])
        wanted = max(wanted, len(first))
    return order[:wanted]


def probe(path, split, params, few_labels, encoder="CMIMEncoder"):
    """All scores of one table and split, as a dict."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    warnings.filterwarnings("ignore", "Values not seen in fit")
    X_train, X_test, y_train, y_test, regression = load(path, split)
    start = time.perf_counter()
    encoder = getattr(cmim_sklearn, encoder)(random_state=split).set_params(**params).fit(X_train)
    fitted = time.perf_counter()
    features = encoder.transform(X_train), encoder.transform(X_test)
    done = time.perf_counter()
    raw = raw_matrices(X_train, X_test)
    rows = few_rows(y_train, split) if few_labels else np.arange(len(y_train))

    def score(matrices, **options):
        model = linear_model(regression, **options).fit(matrices[0][rows], y_train[rows])
        return model.score(matrices[1], y_test)

    trees = trees_score(raw[0][rows], y_train[rows], raw[1], y_test, regression, split)
    return {
        "table": path.stem,
        "split": split,
        "raw": score(raw),
        "cmim": score(features),
        "cmim_100_iterations": score(features) if regression else score(features, max_iter=100),
        "trees": trees,
        "fit_s": fitted - start,
        "transform_s": done - fitted,
        "width": features[0].shape[1],
    }


def summarise(results):
    """Means over splits, and the three figures that the protocol names."""
    means = results.groupby("table", sort=False).mean(numeric_only=True).drop(columns="split")
    lead = means["trees"] - means["raw"]
    means["way"] = ((means["cmim"] - means["raw"]) / lead).clip(-1, 1.5).where(lead >= 0.02)
    return means, {
        "tables": len(means),
        "wins over raw": int((means["cmim"] > means["raw"]).sum()),
        "wins over both": int((means["cmim"] > means[["raw", "trees"]].max(axis=1)).sum()),
        "way": float(means["way"].mean()),
        "lost at 100 iterations, worst table": float(
            (means["cmim"] - means["cmim_100_iterations"]).max()
        ),
        "mean gain over raw": float((means["cmim"] - means["raw"]).mean()),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of NAME.parquet")
    parser.add_argument("--out", type=Path, help="folder for linear_probe.csv")
    parser.add_argument("--tables", nargs="*", help="names; all but the text tables by default")
    parser.add_argument("--splits", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--encoder", default="CMIMEncoder", help="or another of the family")
    parser.add_argument("--params", type=json.loads, default={}, help="of the encoder, as JSON")
    parser.add_argument("--few-labels", action="store_true", help="5 %% of the labels, 60 at least")
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    names = args.tables or sorted(
        path.stem for path in args.data_dir.glob("*.parquet") if path.stem not in TEXT_TABLES
    )
    tasks = [(args.data_dir / f"{name}.parquet", s) for name in names for s in args.splits]
    rows = []
    stream = Parallel(n_jobs=args.jobs, return_as="generator")(
        delayed(probe)(*task, args.params, args.few_labels, args.encoder) for task in tasks
    )
    for row in stream:
        rows.append(row)
        scores = "  ".join(f"{k} {row[k]:.4f}" for k in ("raw", "cmim", "trees"))
        print(
            f"{row['table']:<20} split {row['split']}  {scores}  {row['fit_s']:.0f} s", flush=True
        )
    results = pd.DataFrame(rows)
    means, summary = summarise(results)
    print("\n" + means.round(4).to_string())
    for name, value in summary.items():
        print(f"{name}: {value:.4f}" if isinstance(value, float) else f"{name}: {value}")
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        results.to_csv(args.out / "linear_probe.csv", index=False)


if __name__ == "__main__":
    main()
