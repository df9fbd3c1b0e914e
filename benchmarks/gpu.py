"""Speed, memory and agreement of training and use on a GPU; at most four minutes.

    python -m benchmarks.gpu --data-dir DIR [--device cuda] [--quick]

DIR holds letter.parquet and adult.parquet; their column ``target`` is the label. `fit_together` and
a search over 8 weights in 5 folds get 20,000 rows of adult; one fit of scikit-learn's search is
timed beside them, times 40. Last, the tests that need a GPU run. ``--device cpu --quick`` checks in
a few minutes that all this runs; then no step is a graph.
"""

import argparse
import subprocess
import sys
import time
import warnings
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import torch
from sklearn import model_selection
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import cmim_sklearn
from benchmarks.tools import markdown, significant
from cmim_sklearn import CMIMEncoder

TABLES, BATCHES = ["letter", "adult"], [256, 4096]
WEIGHTS, FOLDS = [0.0, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0], 5


def timed(function):
    """Seconds of a call, and its result."""
    start, result = time.perf_counter(), function()
    return time.perf_counter() - start, result


def step_ms(X, n_steps, **parameters):
    """Milliseconds of a training step, without the first epoch, in which graphs are captured."""
    n_batches = -(-len(X) // parameters.get("batch_size", 256))
    epochs = 1 + max(1, -(-n_steps // n_batches))
    encoder = CMIMEncoder(random_state=0, max_iter=epochs, **parameters).fit(X)
    seconds = [row["dur"] for row in encoder.net_.history[1:]]
    return 1e3 * sum(seconds) / (len(seconds) * n_batches)


def weights(encoder):
    """All weights in one array."""
    return torch.cat([w.detach().flatten().cpu() for w in encoder.net_.module.parameters()])


def relative(one, other):
    """Distance of the weights of two encoders, relative to the length of the second's."""
    return float((weights(one) - weights(other)).norm() / weights(other).norm())


def measure(X, device, quick):
    """Quantities of one table, by name."""
    plain, found = {"device": device, "net_params": {"cuda_graph": False}}, {}
    for n in BATCHES:
        for kind, own, n_steps in (("eager", plain, 200), ("graph", {"device": device}, 1000)):
            n_steps //= 100 if quick else 1
            found[f"step, {kind}, {n} rows [ms]"] = step_ms(X, n_steps, batch_size=n, **own)
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    options = {"random_state": 0, "device": device, "max_iter": 2 if quick else "auto"}
    encoder, again = CMIMEncoder(**options), CMIMEncoder(**options)
    found["default fit [s]"], _ = timed(lambda: encoder.fit(X))
    found["training in it [s]"] = sum(row["dur"] for row in encoder.net_.history)
    found["peak memory of the fit on the GPU [MB]"] = torch.cuda.max_memory_allocated() / 2**20
    found["a second fit is identical"] = torch.equal(weights(again.fit(X)), weights(encoder))
    short, options = X[:1280], {"random_state": 0, "max_iter": 10}  # 50 steps
    one, other = (CMIMEncoder(**options, **own).fit(short) for own in ({"device": device}, plain))
    found["graph against eager, 50 steps"] = relative(one, other)
    n = min(len(X), 100 if quick else 2000)
    calls = {
        "transform": lambda: encoder.transform(X)[:, 0],
        "sample": lambda: encoder.sample(n, random_state=0),
        "score_samples": lambda: encoder.score_samples(X[:n]),
    }
    for name, call in calls.items():
        found[f"{name} [rows / s]"] = len(call()) / timed(call)[0]
    return found


def together(X, device, quick):
    """Seconds of `fit_together` for 8 and 40 encoders, and its agreement with a fit alone."""
    found = {}
    for n in (2, 4) if quick else (8, 40):
        options = {"device": device, "random_state": 0, "max_iter": 1 if quick else "auto"}
        encoders = [CMIMEncoder(contrastive_weight=WEIGHTS[i % 8], **options) for i in range(n)]
        run = partial(cmim_sklearn.fit_together, encoders, X, batched=True)
        found[f"fit_together of {n} [s]"] = timed(run)[0]
    own = {"device": device, "random_state": 0, "max_iter": 1, "contrastive_weight": 1.0}
    alone = CMIMEncoder(**own).fit(X)
    fitted = cmim_sklearn.fit_together([CMIMEncoder(**own) for _ in range(2)], X, batched=True)
    found["together against alone, one epoch"] = relative(fitted[0], alone)
    return found


def search(X, y, device, quick):
    """Seconds of a search over weights, here and as scikit-learn's."""
    options = {"embedding": "informative", "max_iter": 1 if quick else "auto"}
    encoder = CMIMEncoder(random_state=0, device=device, **options)
    pipeline = make_pipeline(encoder, LogisticRegression())
    name, options = "cmimencoder__contrastive_weight", {"refit": False, "n_jobs": 1 if quick else 8}
    ours = import_module("cmim_sklearn.model_selection").GridSearchCV
    grid, folds = (WEIGHTS[:2], 2) if quick else (WEIGHTS, FOLDS)
    ours = ours(pipeline, {name: grid}, cv=folds, **options)
    one = model_selection.ShuffleSplit(1, test_size=1 / FOLDS)
    theirs = model_selection.GridSearchCV(pipeline, {name: WEIGHTS[2:3]}, cv=one, refit=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return {
            f"search, {len(grid)} weights x {folds} folds [s]": timed(lambda: ours.fit(X, y))[0],
            "scikit-learn's, one of 40 fits, times 40 [s]": 40 * timed(lambda: theirs.fit(X, y))[0],
        }


def main(argv=None):
    """Measure and print the tables, then run the tests that need a GPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args(argv)
    print("CPU" if args.device == "cpu" else torch.cuda.get_device_name(), torch.__version__)
    found, how = {}, (args.device, args.quick)
    for name in TABLES:
        frame = pd.read_parquet(args.data_dir / f"{name}.parquet")[: 400 if args.quick else None]
        found[name] = measure(frame.drop(columns="target"), *how)
    found = pd.DataFrame(found).map(lambda v: v if isinstance(v, bool) else significant(v, 3))
    print(markdown(found.rename_axis("quantity")), flush=True)
    X, y = frame.drop(columns="target")[:20_000], frame["target"][:20_000]
    found = together(X, *how) if hasattr(cmim_sklearn, "fit_together") else {}
    if find_spec("cmim_sklearn.model_selection"):
        found |= search(X, y, *how)
    for quantity, value in found.items():
        print(f"{quantity}: {significant(value, 3)}", flush=True)
    tests = ["tests/training", "--collect-only"] if args.quick else ["tests"]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", *tests]
    return subprocess.run(command, cwd=Path(__file__).parents[1], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
