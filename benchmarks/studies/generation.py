"""Synthetic rows of `CMIMEncoder` and of SDV's models, compared with real rows.

    python -m benchmarks.studies.generation --data-dir DIR --out DIR --rival-python PYTHON

DIR holds tables NAME.parquet with a column ``target``, which is generated like the others. Models
with their defaults are fitted to 70 % of the rows and generate as many. TVAE, CTGAN, the Gaussian
copula and SDMetrics run under PYTHON, which needs ``sdv``; without it they are left out. Generated
rows are stored in --out and not generated again. Measures, also of the real training rows:

- shapes, trends: SDMetrics' column shapes and pair trends against the test part; 1 is perfect.
- detection: AUC of gradient boosting that separates test rows from generated ones (3 folds, rows
  without missing values); 0.5 is perfect.
- utility: test score (AUC, or R2) of gradient boosting trained on generated rows, over that of one
  trained on real rows.
- nearer_to_train: share of generated rows closer to a training row than to a test row, out of as
  many of each; 0.5 means no copying.
"""

import json
import subprocess
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_score, train_test_split
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer

from benchmarks.tools import STUDY_TABLES, numeric_columns, parser, save
from cmim_sklearn import CMIMEncoder

MODELS = ["real", "cmim", "independent", "TVAE", "CTGAN", "GaussianCopula"]
MAX_ROWS = 5000
SCRIPT = Path(__file__).with_name("synthesise.py")
TREES = {"categorical_features": "from_dtype", "random_state": 0}


def same_dtypes(frames):
    """Frames as floats and shared categories, so that no dtype separates them."""
    whole = pd.concat(frames, keys=range(len(frames)))
    numbers = numeric_columns(frames[0])
    for c in whole:
        values = whole[c].astype(float) if c in numbers else whole[c].astype(object)
        whole[c] = values if c in numbers else pd.Categorical(values.where(values.notna(), None))
    return [whole.loc[k] for k in range(len(frames))]


def detection(test, generated):
    """AUC of separating test rows from generated ones."""
    test, generated = test.dropna(), generated.dropna()
    n = min(MAX_ROWS, len(test), len(generated))
    parts = same_dtypes([part.sample(n, random_state=0) for part in (test, generated)])
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    model = HistGradientBoostingClassifier(**TREES)
    X, is_generated = pd.concat(parts), np.repeat([0, 1], n)
    return cross_val_score(model, X, is_generated, cv=folds, scoring="roc_auc").mean()


def supervised_score(train, test):
    """Test score of gradient boosting trained on these rows; NaN if they have only one class."""
    train, test = same_dtypes([train, test])
    X_train, X_test = train.drop(columns="target"), test.drop(columns="target")
    if "target" in numeric_columns(train):
        model = HistGradientBoostingRegressor(**TREES).fit(X_train, train["target"])
        return r2_score(test["target"], model.predict(X_test))
    y_train, y_test = train["target"].astype(str), test["target"].astype(str)
    if y_train.nunique() < 2:
        return np.nan
    model = HistGradientBoostingClassifier(**TREES).fit(X_train, y_train)
    scores = model.predict_proba(X_test)[:, list(model.classes_).index(max(y_test.unique()))]
    return roc_auc_score(y_test == max(y_test.unique()), scores)


def nearer_to_train(train, test, generated):
    """Share of generated rows whose nearest neighbour is a training row; ties count half."""
    train, test, generated = same_dtypes([train, test, generated])
    n = min(MAX_ROWS, len(test))
    numbers = numeric_columns(train)
    others = [c for c in train if c not in numbers]
    encode = make_column_transformer(
        (QuantileTransformer(n_quantiles=100), numbers),
        (OneHotEncoder(sparse_output=False, handle_unknown="ignore"), others),
    ).fit(train)

    def matrix(frame):
        frame = frame.sample(min(n, len(frame)), random_state=0)
        words = frame.astype(dict.fromkeys(others, object)).fillna(dict.fromkeys(others, "-"))
        return np.nan_to_num(encode.transform(words), nan=0.5)

    def distance(part):
        return NearestNeighbors(n_neighbors=1).fit(matrix(part)).kneighbors(matrix(generated))[0]

    return float(np.mean(np.sign(distance(test) - distance(train))) / 2 + 0.5)


def generate(model, train, params):
    """Rows of a model in this environment, and seconds."""
    if model == "real":
        return train, {}
    if model == "independent":  # columns permuted separately: no dependence
        rng = np.random.RandomState(0)
        return train.apply(lambda column: rng.permutation(column.to_numpy())), {}
    start = time.perf_counter()
    encoder = CMIMEncoder(random_state=0).set_params(**params).fit(train)
    fitted = time.perf_counter()
    rows = encoder.sample(len(train), random_state=0)
    return rows, {"fit_s": fitted - start, "sample_s": time.perf_counter() - fitted}


def in_environment(python, *arguments):
    """Result of synthesise.py under another Python."""
    command = [python, str(SCRIPT), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def evaluate(frame, name, model, out, python, params):
    """All measures of one model on one table."""
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    train, test = train_test_split(frame, test_size=0.3, random_state=0)
    train.reset_index(drop=True).to_parquet(folder / "train.parquet")
    test.reset_index(drop=True).to_parquet(folder / "test.parquet")
    rows_at, info_at = folder / f"{model}.parquet", folder / f"{model}.json"
    if not info_at.exists():
        if model in ("real", "independent", "cmim"):
            rows, info = generate(model, train, params)
            rows.to_parquet(rows_at)
        else:
            paths = folder / "train.parquet", rows_at
            info = in_environment(python, "synthesise", model, *paths, len(train))
        info_at.write_text(json.dumps(info))
    generated = pd.read_parquet(rows_at)
    row = {"table": name, "model": model, "rows": len(train), **json.loads(info_at.read_text())}
    if python:
        row |= in_environment(python, "measure", folder / "test.parquet", rows_at)
    row["detection"] = detection(test, generated)
    row["utility"] = supervised_score(generated, test) / supervised_score(train, test)
    row["nearer_to_train"] = nearer_to_train(train, test, generated)
    return row


def main(arguments=None):
    options = parser(__doc__, required=True)
    options.add_argument("--data-dir", type=Path, required=True, help="folder of NAME.parquet")
    options.add_argument("--rival-python", help="an interpreter with sdv")
    options.add_argument("--tables", nargs="*", default=STUDY_TABLES)
    args = options.parse_args(arguments)
    warnings.simplefilter("ignore")
    rows, out, tables, n_rows, params = [], args.out, args.tables, None, {}
    if args.quick:
        out, tables, n_rows, params = out / "quick", tables[:1], 300, {"max_iter": 2}
    for name in tables:
        frame = pd.read_parquet(args.data_dir / f"{name}.parquet")[:n_rows]
        for model in MODELS if args.rival_python else MODELS[:3]:
            rows.append(evaluate(frame, name, model, out, args.rival_python, params))
            print(rows[-1], flush=True)
    results = pd.DataFrame(rows)
    print("\n" + results.round(3).to_string(index=False))
    save(results, out, "generation.csv")


if __name__ == "__main__":
    main()
