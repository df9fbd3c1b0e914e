"""Few labels: models on raw columns and on features, and which rows to label.

    python -m benchmarks.studies.few_labels --data-dir DIR [--out DIR] [--draws 5]

DIR holds tables NAME.parquet with a column ``target`` of classes. Of at most 4,000 rows, 70 % are
for training, without labels; `CMIMEncoder` with all defaults is fitted to them. Scores on the test
rows are means over draws of the labelled rows:

- models: 5 % of the labels (at least 60, and two of each class), on raw columns and on features. In
  self-training, a model adds its confident predictions of the other training rows to the labels.
- chosen: so many rows are labelled, at random or because they are nearest to the centres of as many
  clusters of raw columns or of latent codes. A linear model learns from the features.

auc is that of one class against the others; a class without labels has probability 0.
"""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import LabelEncoder
from sklearn.semi_supervised import SelfTrainingClassifier

from benchmarks.quality.tables import RawColumns, few_rows, load
from benchmarks.tools import markdown, parser, save
from cmim_sklearn import CMIMEncoder

TABLES = [
    *("adult", "bank_marketing", "german_credit", "magic_telescope"),
    *("satimage", "spambase", "splice", "titanic"),
]
LINEAR, FOREST = LogisticRegression(max_iter=500), ExtraTreesClassifier(random_state=0)
MODELS = {
    "linear": LINEAR,
    "boosting": HistGradientBoostingClassifier(random_state=0),
    "extra trees": FOREST,
    "self-training, linear": SelfTrainingClassifier(LINEAR),
    "self-training, extra trees": SelfTrainingClassifier(FOREST),
}
OF_FEATURES = ["linear", "extra trees"]  # the others take minutes with 1,024 features
COUNTS = [20, 50, 100]


def medoids(Z, count, seed):
    """Rows nearest to the centres of so many clusters."""
    clusters = KMeans(count, n_init=1, random_state=seed).fit(Z)
    distances = clusters.transform(Z)
    distances[np.arange(count) != clusters.labels_[:, None]] = np.inf
    return distances.argmin(0)


def scores(model, Z, y, rows, Z_test, y_test):
    """Accuracy and AUC of a model that knows the labels of these rows."""
    if isinstance(model, SelfTrainingClassifier):
        known = np.full(len(y), -1)  # unlabelled
        known[rows] = y[rows]
        model = clone(model).fit(Z, known)
    else:
        model = clone(model).fit(Z[rows], y[rows])
    p = np.zeros((len(y_test), y.max() + 1))
    p[:, model.classes_] = model.predict_proba(Z_test)
    auc = roc_auc_score(y_test, p[:, 1] if p.shape[1] == 2 else p, multi_class="ovr")
    return {"accuracy": (p.argmax(1) == y_test).mean(), "auc": auc}


def evaluate(path, n_draws, counts, params=None, max_rows=4000):
    """Scores of all models and choices on one table, as a list of dicts."""
    warnings.simplefilter("ignore")
    X, X_test, y, y_test, _ = load(path, 0, max_rows)
    classes = LabelEncoder().fit(y)
    y, y_test = classes.transform(y), classes.transform(y_test)
    encoder = CMIMEncoder(random_state=0).set_params(**(params or {})).fit(X)
    raw = RawColumns(X)
    inputs = {
        "raw": (raw.transform(X), raw.transform(X_test)),
        "features": (encoder.transform(X), encoder.transform(X_test)),
    }
    Z, Z_test = inputs["features"]
    codes = encoder.set_params(embedding="mean").transform(X)
    for draw in range(n_draws):
        about = {"table": path.stem, "draw": draw}
        rows = few_rows(classes.inverse_transform(y), draw)
        for name, (A, A_test) in inputs.items():
            for model in MODELS if name == "raw" else OF_FEATURES:
                found = scores(MODELS[model], A, y, rows, A_test, y_test)
                yield {**about, "columns": name, "model": model, "labels": len(rows), **found}
        for count in counts:
            chosen = {"random": np.random.RandomState(draw).permutation(len(X))[:count]}
            chosen["raw"] = medoids(inputs["raw"][0], count, draw)
            chosen["codes"] = medoids(codes, count, draw)
            for name, rows in chosen.items():
                if len(np.unique(y[rows])) > 1:
                    found = scores(LINEAR, Z, y, rows, Z_test, y_test)
                    yield {**about, "chosen": name, "labels": count, **found}


def main(arguments=None):
    options = parser(__doc__)
    options.add_argument("--data-dir", type=Path, required=True, help="folder of NAME.parquet")
    options.add_argument("--tables", nargs="*", default=TABLES)
    options.add_argument("--draws", type=int, default=5)
    args = options.parse_args(arguments)
    small = {"params": {"max_iter": 2}, "max_rows": 300} if args.quick else {}
    rows, counts = [], COUNTS
    if args.quick:
        args.tables, args.draws, counts = args.tables[:1], 1, COUNTS[:1]
    for name in args.tables:
        path = args.data_dir / f"{name}.parquet"
        rows += evaluate(path, args.draws, counts, **small)
        results = pd.DataFrame(rows)
        save(results, args.out, "few_labels.csv")
        print(f"{name} is done", flush=True)
    for index in (["columns", "model"], ["labels", "chosen"]):
        means = results.groupby([*index, "table"], sort=False)[["accuracy", "auc"]].mean()
        for measure in ("accuracy", "auc"):
            found = means[measure].unstack("table").assign(mean=lambda t: t.mean(1))
            found.index = found.index.map(lambda names: ", ".join(map(str, names)))
            print(f"\n{measure}\n{markdown(found)}")


if __name__ == "__main__":
    main()
