"""Labels in training: permuted labels, numbers of labels, and the generative side.

    python -m benchmarks.studies.labels --data-dir DIR [--out DIR] [--counts 200 300 450]

DIR holds tables NAME.parquet with a column ``target``. Encoders are fitted without labels, with
labels, and with labels in random order, in 1,500 updates. A linear model on their features learns
the true labels. Of 300 test rows, the study computes the mean log-likelihood, the error of a fifth
of the cells when they are imputed (numbers in standard deviations; levels that are wrong), and the
AUC of boosted trees that separate them from generated rows. With ``--counts``, only so many rows
have labels, and labels are used at any number.
"""

import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import log_loss
from sklearn.model_selection import cross_val_score

from benchmarks.quality.tables import load
from benchmarks.studies.imputation import remove
from benchmarks.tools import numeric_columns, parser, save
from cmim_sklearn import CMIMEncoder
from cmim_sklearn._training import labels as rule

TABLES = ["adult", "letter", "splice"]
ARMS = {"without": 0.0, "with": 30.0, "permuted": 30.0}


def known_labels(y, count, seed):
    """Labels of so many rows, evenly from all classes or quantiles; NaN or None for the others."""
    known = np.full(len(y), np.nan, y.dtype if y.dtype.kind == "f" else object)
    order = np.random.RandomState(seed).permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]
    some = order[np.linspace(0, len(y) - 1, min(count, len(y))).round().astype(int)]
    known[some] = y[some]
    return known


def evaluate(path, arm, seed, count=None, n_updates=1500, max_rows=8000, n_rows=300):
    """Scores of one encoder, as a dict."""
    warnings.simplefilter("ignore")
    X, X_test, y, y_test, regression = load(path, seed, max_rows)
    given = y if count is None else known_labels(y, count, seed)
    rng, known = np.random.RandomState(seed), pd.notna(given)
    if arm == "permuted":
        given = given.copy()
        given[known] = rng.permutation(given[known])
    encoder = CMIMEncoder(
        label_weight=ARMS[arm],
        target_type="regression" if regression else "classification",
        max_iter=max(1, round(n_updates / -(-len(X) // 256))),
        random_state=seed,
    )
    start = time.perf_counter()
    encoder.fit(X, given)
    row = {"table": path.stem, "arm": arm, "seed": seed, "labels": int(known.sum())}
    row |= {"fit_s": time.perf_counter() - start, "epochs": getattr(encoder, "label_n_iter_", 0)}
    Z, Z_test = encoder.transform(X), encoder.transform(X_test)
    model = RidgeCV(np.logspace(-2, 4, 13)) if regression else LogisticRegression(max_iter=500)
    model.fit(Z[known], y[known])
    row["score"] = model.score(Z_test, y_test)
    if not regression:
        row["log_loss"] = log_loss(y_test, model.predict_proba(Z_test), labels=model.classes_)
    return row if count is not None else row | generative(encoder, X, X_test[:n_rows], rng)


def generative(encoder, X, X_test, rng):
    """Log-likelihood, imputation errors and detection of generated rows."""
    X_test = X_test.astype(dict.fromkeys(numeric_columns(X_test), float))
    masked, hidden = remove(X_test, 0.2, rng)
    imputed, squares, wrong = encoder.impute(masked), {}, {}
    for k, c in enumerate(X_test):
        truth, guess = X_test[c][hidden[:, k]], imputed[c][hidden[:, k]]
        if c in numeric_columns(X_test):
            squares[c] = (((guess - truth) / X[c].std()) ** 2).mean()
        else:
            wrong[c] = (guess.astype(str) != truth.astype(str)).mean()
    made = encoder.sample(len(X_test), random_state=0)
    both = pd.concat([X_test, made.astype(X_test.dtypes)], ignore_index=True)
    levels = both.select_dtypes(exclude="number")
    both[levels.columns] = levels.apply(lambda column: pd.factorize(column)[0])
    is_made = np.repeat([0, 1], len(X_test))
    trees = HistGradientBoostingClassifier(random_state=0)
    return {
        "log_likelihood": encoder.score_samples(X_test).mean(),
        "rmse": pd.Series(squares, dtype=float).mean() ** 0.5,
        "wrong": pd.Series(wrong, dtype=float).mean(),
        "detection": cross_val_score(trees, both, is_made, scoring="roc_auc").mean(),
    }


def main(arguments=None):
    options = parser(__doc__)
    options.add_argument("--data-dir", type=Path, required=True, help="folder of NAME.parquet")
    options.add_argument("--tables", nargs="*", default=TABLES)
    options.add_argument("--seeds", nargs="*", type=int, default=[0])
    options.add_argument("--counts", nargs="*", type=int, help="numbers of labelled rows")
    args = options.parse_args(arguments)
    short = {"n_updates": 2, "max_rows": 400, "n_rows": 40} if args.quick else {}
    if args.counts:
        rule.MIN_LABELLED = 0
    rows = []
    for seed in args.seeds:
        for name in args.tables:
            for count in args.counts or [None]:
                for arm in ("without", "with") if args.counts else ARMS:
                    path = args.data_dir / f"{name}.parquet"
                    rows.append(evaluate(path, arm, seed, count, **short))
                    print(pd.Series(rows[-1]).to_dict(), flush=True)
    results = pd.DataFrame(rows)
    save(results, args.out, "labels.csv")
    index = ["table", "labels"] if args.counts else ["table"]
    scores = results.drop(columns="seed").pivot_table(index=index, columns="arm").dropna(axis=1)
    print(f"\n{scores.round(3).to_string()}")


if __name__ == "__main__":
    main()
