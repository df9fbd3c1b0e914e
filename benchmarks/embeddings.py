"""Which embedding should `CMIMEncoder` return by default, at which scale, for few labels and many?

    python -m benchmarks.embeddings --data-dir DIR --out DIR [--jobs 2] [--splits 0 1 2]

Per table and split: one ``CMIMEncoder(random_state=split)`` fitted without labels to all training
rows, and a linear model on each of its embeddings, with 2 %, 10 % and all of the labels; the same
model on raw columns beside it (prepared from all training rows, without their labels). Features are
scaled in four ways: as they come, all by one constant, each by itself, and each layer by a
constant, the last to several total variances. Few labels are drawn ``LABEL_DRAWS`` times and
averaged. Tables, splits, raw columns and linear models are those of `benchmarks.linear_probe`. Rows
of an earlier run in the same folder are kept, and what is missing is added.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.exceptions import ConvergenceWarning

from benchmarks.linear_probe import TEXT_TABLES, few_rows, linear_model, load, raw_matrices
from cmim_sklearn import CMIMEncoder
from cmim_sklearn._models.features import EMBEDDINGS, TOTAL_VARIANCE

SHARES = (0.02, 0.1, 1.0)
LEAST_LABELS = 20
LABEL_DRAWS = 5
SCALES = ("layer 5", "layer 20", "layer 80", "each 20", "constant 20", "as they come")
DEFAULT_SCALE = f"layer {TOTAL_VARIANCE:g}"


def at_scale(train, test, own_scale, scale):
    """Features as an encoder returns them, (n, w), brought to another of the `SCALES`."""
    if scale.startswith("layer "):
        factor = np.sqrt(float(scale.removeprefix("layer ")) / TOTAL_VARIANCE)
    elif scale.startswith("each "):
        spread = train.std(0).clip(min=0.01 * train.std())
        factor = np.sqrt(float(scale.removeprefix("each ")) / train.shape[1]) / spread
    else:
        factor = own_scale
    if scale.startswith("constant "):
        total = (train * factor).var(0).sum()
        factor = factor * np.sqrt(float(scale.removeprefix("constant ")) / total)
    return (train * factor).astype(np.float32), (test * factor).astype(np.float32)


def probe(path, split):
    """Scores of one table and split, as a list of dicts."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    warnings.filterwarnings("ignore", "Values not seen in fit")
    X_train, X_test, y_train, y_test, regression = load(path, split)
    start = time.perf_counter()
    encoder = CMIMEncoder(random_state=split).fit(X_train)
    seconds = time.perf_counter() - start
    matrices = {("raw", ""): raw_matrices(X_train, X_test)}
    for embedding in EMBEDDINGS:
        encoder.set_params(embedding=embedding)
        features = encoder.transform(X_train), encoder.transform(X_test)
        _, own_scale = encoder._scales[embedding]
        for scale in SCALES:
            matrices[embedding, scale] = at_scale(*features, own_scale, scale)
    results = []
    for share in SHARES:
        draws = range(LABEL_DRAWS if share < 1 else 1)
        rows = [few_rows(y_train, 10 * split + draw, share, LEAST_LABELS) for draw in draws]
        for (features, scale), (train, test) in matrices.items():
            scores = [
                linear_model(regression).fit(train[some], y_train[some]).score(test, y_test)
                for some in rows
            ]
            results.append(
                {
                    "table": path.stem,
                    "split": split,
                    "share": share,
                    "labels": len(rows[0]),
                    "features": features,
                    "scale": scale,
                    "score": np.mean(scores),
                    "fit_s": seconds,
                }
            )
    return results


def default_scale(results):
    """The rows of raw columns, and of embeddings at the scale that an encoder gives them."""
    return results[results["scale"].isin(["", DEFAULT_SCALE])]


def compare(results, chosen):
    """Mean scores of each table, and the chosen embedding's lead over each other with its error.

    Means are over the label regimes; the error is the standard error of the paired difference over
    splits.
    """
    by_split = default_scale(results).pivot_table(
        index=["table", "split"], columns="features", values="score", aggfunc="mean"
    )
    means = by_split.groupby("table").mean()[["raw", *EMBEDDINGS]]
    for other in EMBEDDINGS:
        if other != chosen:
            lead = (by_split[chosen] - by_split[other]).groupby("table")
            means[f"lead over {other}"] = lead.mean()
            means[f"error over {other}"] = lead.std() / np.sqrt(lead.size())
    return means


def not_beaten(means, errors):
    """Number of tables whose lead is above minus so many standard errors against every other."""
    leads = [column for column in means if column.startswith("lead over ")]
    held = [means[name] >= -errors * means[name.replace("lead", "error")] for name in leads]
    return int(np.logical_and.reduce(held).sum())


def report(results):
    """Print every table that the choice of embedding and scale rests on."""
    columns = ["raw", *EMBEDDINGS]
    for share in SHARES:
        part = default_scale(results)
        part = part[part["share"] == share]
        table = part.pivot_table(index="table", columns="features", values="score")[columns]
        print(f"\n{share:.0%} of the labels\n{table.round(3).to_string()}")
        print(f"mean  {table.mean().round(4).to_dict()}")
    print("\nMean over tables by label share, embedding and scale")
    print(
        results.pivot_table(index=["features", "scale"], columns="share", values="score")
        .assign(mean=lambda t: t.mean(axis=1))
        .round(4)
        .to_string()
    )
    default = CMIMEncoder().embedding
    for chosen in (default, *(name for name in EMBEDDINGS if name != default)):
        means = compare(results, chosen)
        print(
            f"\n{chosen}: at or above all others on {not_beaten(means, 0)} of {len(means)} "
            f"tables, or within one standard error on {not_beaten(means, 1)}, two on "
            f"{not_beaten(means, 2)}"
        )
        if chosen == default:
            print(means.round(4).to_string())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of NAME.parquet")
    parser.add_argument("--out", type=Path, required=True, help="folder for embeddings.csv")
    parser.add_argument("--tables", nargs="*", help="names; all but the text tables by default")
    parser.add_argument("--splits", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    names = args.tables or sorted(
        path.stem for path in args.data_dir.glob("*.parquet") if path.stem not in TEXT_TABLES
    )
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "embeddings.csv"
    results = (
        pd.read_csv(file, keep_default_na=False)
        if file.exists()
        else pd.DataFrame(columns=["table", "split"])
    )
    done = set(zip(results["table"], results["split"], strict=True))
    tasks = [(s, name) for s in args.splits for name in names if (name, s) not in done]
    stream = Parallel(n_jobs=args.jobs, return_as="generator")(
        delayed(probe)(args.data_dir / f"{name}.parquet", split) for split, name in tasks
    )
    for (split, name), rows in zip(tasks, stream, strict=True):
        results = pd.concat([results, pd.DataFrame(rows)]) if len(results) else pd.DataFrame(rows)
        results.to_csv(file, index=False)
        print(f"{name}, split {split}: {rows[0]['fit_s']:.0f} s to fit", flush=True)
    report(results)


if __name__ == "__main__":
    main()
