"""Do processes that train together, each with negatives of its own, learn what one does?

    python -m benchmarks.data_parallel --data-dir DIR [--tables letter satimage] [--seeds 0 1 2]
        [--layouts 1x512 2x256 4x128] [--arms cMIM cMIM-100 InfoNCE] [--max-iter 60] [--out DIR]

A layout is processes x rows of a batch in each: the same steps over the same batches, but in a
process a row is told from those beside it alone. cMIM's contrastive term is a mean over them, by
which it depends on their number only in the order of its reciprocal; InfoNCE's is a sum. Scores are
those of a linear model with all labels, on the features and on the codes, over a 70/30 split of at
most 8,000 rows; the spread is that of the seeds.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import pandas as pd
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import distributed

import cmim_sklearn
from benchmarks.linear_probe import linear_model, load

ARMS = {
    "cMIM": ("CMIMEncoder", {}),
    "cMIM-100": ("CMIMEncoder", {"contrastive_weight": 100}),
    "InfoNCE": ("InfoNCEEncoder", {}),
}
"""By its default weight the contrastive term is all but idle on tables; at 100 it is not."""

SPLIT, PROBE_ITERATIONS = 0, 100


def sizes(layout):
    """Processes, and rows of a batch in each."""
    return tuple(map(int, layout.split("x")))


def probe(encoder, rows, embedding):
    """Score of a linear model on an embedding."""
    X_train, X_test, y_train, y_test, regression = rows
    options = {} if regression else {"max_iter": PROBE_ITERATIONS}
    if "embedding" in encoder.get_params():
        encoder.set_params(embedding=embedding)
    features = encoder.transform(X_train), encoder.transform(X_test)
    model = linear_model(regression, **options).fit(features[0], y_train)
    return model.score(features[1], y_test)


def train_and_score(options):
    """What each process does: all fits of one layout, of which the first writes down the scores."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    distributed.init_process_group()
    n_processes, local = sizes(options.layouts[0])
    for table in options.tables:
        rows = load(options.data_dir / f"{table}.parquet", SPLIT)
        for arm in options.arms:
            for seed in options.seeds:
                name, params = ARMS[arm]
                encoder = getattr(cmim_sklearn, name)(
                    batch_size=n_processes * local,
                    max_iter=options.max_iter,
                    random_state=seed,
                    net_params={"data_parallel": True},
                ).set_params(**params)
                start = time.perf_counter()
                encoder.fit(rows[0])
                seconds = time.perf_counter() - start
                if distributed.get_rank():
                    continue
                last = encoder.net_.history[-1]
                found = {
                    "table": table,
                    "arm": arm,
                    "layout": options.layouts[0],
                    "seed": seed,
                    "features": probe(encoder, rows, "layers"),
                    "codes": probe(encoder, rows, "mean"),
                    "contrast": last.get("train_contrast", last["train_loss"]),
                    "fit_s": seconds,
                }
                with (options.out / "data_parallel.jsonl").open("a") as file:
                    file.write(json.dumps(found) + "\n")
    distributed.destroy_process_group()


def launch(layout, options):
    """Start the processes of a layout, one thread each, and wait for them."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(sizes(layout)[0]), "-m", "benchmarks.data_parallel"]
    command += ["--data-dir", str(options.data_dir), "--out", str(options.out)]
    command += ["--layouts", layout, "--max-iter", str(options.max_iter)]
    for name in ("tables", "arms", "seeds"):
        command += [f"--{name}", *map(str, getattr(options, name))]
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def report(found):
    """Mean and deviation of each score, by table, arm and layout."""
    groups = found.groupby(["table", "arm", "layout"], sort=False)
    table = pd.DataFrame(
        {
            name: [f"{group[name].mean():.4f} ± {group[name].std():.4f}" for _, group in groups]
            for name in ("features", "codes", "contrast")
        },
        index=groups.groups.keys(),
    )
    return table.assign(fit_s=groups["fit_s"].mean().round(1).to_numpy())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--tables", nargs="+", default=["letter", "satimage"])
    parser.add_argument("--layouts", nargs="+", default=["1x512", "2x256", "4x128"])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--max-iter", type=int, default=60)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if "RANK" in os.environ:
        return train_and_score(options)
    with tempfile.TemporaryDirectory() as folder:
        options.out = options.out or Path(folder)
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "data_parallel.jsonl").unlink(missing_ok=True)
        for layout in options.layouts:
            launch(layout, options)
        found = pd.read_json(options.out / "data_parallel.jsonl", lines=True)
    print(report(found).to_string())


if __name__ == "__main__":
    main()
