"""Are rows that CMIMEncoder makes up like real ones, and how do they compare with rivals'?

    python -m benchmarks.generation --data-dir DIR --out DIR [--rival-python PYTHON]

DIR holds NAME.parquet tables with a column ``target``, which is drawn along with the others. Each
is split 70/30; models are fitted with their defaults to the larger part and draw as many rows.
Rivals (SDV's TVAE, CTGAN and Gaussian copula) and SDMetrics run under PYTHON, an interpreter with
``sdv`` installed. Rows drawn are kept in --out: what is there is not made again.

Measures, each beside what the real training rows get in place of synthetic ones:

- shapes, trends: SDMetrics' column shapes and pair trends against the test part; 1 is perfect.
- told apart: AUC of gradient boosting that tells test rows from synthetic ones, over 3 folds, on
  rows without holes; 0.5 is perfect.
- utility: the score on the test part (AUC, or R2 of a numeric target) of gradient boosting trained
  on synthetic rows, over that of one trained on the training part; 1 is as good as real.
- nearer to train: share of synthetic rows closer to a training row than to a test row, out of as
  many of each; 0.5 is no copying.
"""

import argparse
import json
import os
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
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer

from cmim_sklearn import CMIMEncoder

TABLES = ["adult", "bank_marketing", "california_housing", "german_credit", "magic_telescope"]
RIVALS = ["TVAE", "CTGAN", "GaussianCopula"]
MAX_ROWS = 5000
RIVALS_SCRIPT = Path(__file__).with_name("generation_rivals.py")


def numeric(frame):
    return [c for c in frame if pd.api.types.is_numeric_dtype(frame[c])]


def alike(frames):
    """Frames with the categories of all of them, and floats, so that no dtype tells them apart."""
    whole = pd.concat(frames, ignore_index=True)
    numbers = numeric(frames[0])
    for c in whole:
        values = whole[c].astype(float) if c in numbers else whole[c].astype(object)
        whole[c] = values if c in numbers else pd.Categorical(values.where(values.notna(), None))
    ends = np.cumsum([len(f) for f in frames])
    return [whole.iloc[end - len(f) : end] for f, end in zip(frames, ends, strict=True)]


def told_apart(test, synthetic):
    """AUC of telling test rows from synthetic ones."""
    test = test.dropna()
    n = min(MAX_ROWS, len(test), len(synthetic.dropna()))
    parts = alike([test.sample(n, random_state=0), synthetic.dropna().sample(n, random_state=0)])
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    model = HistGradientBoostingClassifier(categorical_features="from_dtype", random_state=0)
    is_synthetic = np.repeat([0, 1], n)
    return cross_val_score(
        model, pd.concat(parts), is_synthetic, cv=folds, scoring="roc_auc"
    ).mean()


def supervised_score(train, test):
    """Test score of gradient boosting trained on these rows; None if they hold one class only."""
    train, test = alike([train, test])
    X_train, X_test = train.drop(columns="target"), test.drop(columns="target")
    options = {"categorical_features": "from_dtype", "random_state": 0}
    if "target" in numeric(train):
        model = HistGradientBoostingRegressor(**options).fit(X_train, train["target"])
        return r2_score(test["target"], model.predict(X_test))
    y_train, y_test = train["target"].astype(str), test["target"].astype(str)
    if y_train.nunique() < 2:
        return None
    model = HistGradientBoostingClassifier(**options).fit(X_train, y_train)
    scores = model.predict_proba(X_test)[:, list(model.classes_).index(max(y_test.unique()))]
    return roc_auc_score(y_test == max(y_test.unique()), scores)


def nearer_to_train(train, test, synthetic):
    """Share of synthetic rows whose nearest neighbour is a training row; ties count half."""
    train, test, synthetic = alike([train, test, synthetic])
    n = min(MAX_ROWS, len(test))
    numbers = numeric(train)
    others = [c for c in train if c not in numbers]
    encode = make_column_transformer(
        (QuantileTransformer(n_quantiles=100), numbers),
        (make_pipeline(OneHotEncoder(sparse_output=False, handle_unknown="ignore")), others),
    ).fit(train)

    def matrix(frame):
        frame = frame.sample(min(n, len(frame)), random_state=0)
        cells = encode.transform(
            frame.astype(dict.fromkeys(others, object)).fillna(dict.fromkeys(others, "-"))
        )
        return np.nan_to_num(cells, nan=0.5)

    rows = matrix(synthetic)
    distances = [
        NearestNeighbors(n_neighbors=1).fit(matrix(part)).kneighbors(rows)[0][:, 0]
        for part in (train, test)
    ]
    return float(np.mean(np.sign(distances[1] - distances[0])) / 2 + 0.5)


def draw_cmim(train, n_rows, params):
    start = time.perf_counter()
    encoder = CMIMEncoder(random_state=0).set_params(**params).fit(train)
    fitted = time.perf_counter()
    drawn = encoder.sample(n_rows, random_state=0)
    return drawn, {"fit_s": fitted - start, "sample_s": time.perf_counter() - fitted}


def draw_independent(train, n_rows, params):
    """Every column by itself: what ignoring all dependence gives."""
    rng = np.random.RandomState(0)
    return train.apply(lambda c: c.sample(n_rows, replace=True, random_state=rng).to_numpy()), {}


OWN = {"cmim": draw_cmim, "independent": draw_independent}


def run_rival(python, *arguments):
    out = subprocess.run(
        [python, RIVALS_SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    return json.loads(out.stdout.strip().splitlines()[-1])


def evaluate(name, model, args):
    """All measures of one model on one table."""
    folder = args.out / name
    folder.mkdir(parents=True, exist_ok=True)
    frame = pd.read_parquet(args.data_dir / f"{name}.parquet")
    train, test = train_test_split(frame, test_size=0.3, random_state=0)
    train.reset_index(drop=True).to_parquet(folder / "train.parquet")
    test.reset_index(drop=True).to_parquet(folder / "test.parquet")
    drawn_at, info_at = folder / f"{model}.parquet", folder / f"{model}.json"
    if not drawn_at.exists():
        if model in OWN:
            drawn, info = OWN[model](train, len(train), args.params)
            drawn.to_parquet(drawn_at)
        elif model == "real":
            train.to_parquet(drawn_at)
            info = {}
        else:
            info = run_rival(
                args.rival_python,
                "synthesise",
                model,
                folder / "train.parquet",
                drawn_at,
                len(train),
            )
        info_at.write_text(json.dumps(info))
    synthetic, info = pd.read_parquet(drawn_at), json.loads(info_at.read_text())
    row = {"table": name, "model": model, "rows": len(train), **info}
    if args.rival_python:
        row |= run_rival(args.rival_python, "measure", folder / "test.parquet", drawn_at)
    row["told_apart"] = told_apart(test, synthetic)
    score = supervised_score(synthetic, test)
    row["utility"] = np.nan if score is None else score / supervised_score(train, test)
    row["nearer_to_train"] = nearer_to_train(train, test, synthetic)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of NAME.parquet")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for rows and generation.csv"
    )
    parser.add_argument("--rival-python", help="an interpreter that has sdv")
    parser.add_argument("--tables", nargs="*", default=TABLES)
    parser.add_argument("--models", nargs="*", default=["real", *OWN, *RIVALS])
    parser.add_argument("--params", type=json.loads, default={}, help="of CMIMEncoder, as JSON")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for name in args.tables:
        for model in args.models:
            if model in RIVALS and not args.rival_python:
                continue
            rows.append(evaluate(name, model, args))
            values = {k: round(v, 3) for k, v in rows[-1].items() if isinstance(v, float)}
            print(f"{name:<20} {model:<15} {values}", flush=True)
    results = pd.DataFrame(rows)
    results.to_csv(args.out / "generation.csv", index=False)
    print("\n" + results.round(3).to_string(index=False))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    main()
