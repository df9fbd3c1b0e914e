"""The rivals' side of the exchange: rows in, features and measurements out.

Not for `import benchmarks.rivals.exchange`: each ``embed.py`` finds this file on its path, under
the python of its own environment, and hands its three functions to `run`. Needs numpy alone.
"""

import argparse
import json
import pickle
import resource
import sys
import time
from pathlib import Path

import numpy as np

WARM_UP_ROWS = 16


def read_rows(folder, part):
    """The rows of ``"train"`` or ``"test"``: a matrix, or a frame where the driver wrote one."""
    if (folder / f"{part}.parquet").exists():
        import pandas as pd

        return pd.read_parquet(folder / f"{part}.parquet")
    return np.load(folder / "raw.npz")[part]


def status_mb(field):
    """A line of Linux's account of this process, in MB; elsewhere, the peak so far."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines[field].split()[0]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def dump(model, path):
    """Save a model as a pickle, which every library here has."""
    with open(path, "wb") as file:
        pickle.dump(model, file)


def run(fit, transform, save=dump):
    """Fit to the training rows, transform both parts, and write features and measurements.

    Parameters
    ----------
    fit : callable
        ``fit(method, X, seed, folder)`` returns the fitted model; `folder` takes files that the
        library insists on.
    transform : callable
        ``transform(model, X)`` returns the features, (n, w).
    save : callable, default=dump
        ``save(model, path)`` writes the model.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("method")
    parser.add_argument("seed", type=int)
    args = parser.parse_args()
    train, test = read_rows(args.folder, "train"), read_rows(args.folder, "test")

    before = status_mb("VmRSS")
    start = time.perf_counter()
    model = fit(args.method, train, args.seed, args.folder)
    fitted = time.perf_counter()
    train_features = transform(model, train)
    # What is compiled or set up on first use is not timed; UMAP knows its training rows by heart.
    transform(model, test[:WARM_UP_ROWS])
    ready = time.perf_counter()
    test_features = transform(model, test)
    done = time.perf_counter()
    peak = status_mb("VmHWM")

    saved = args.folder / "model"
    save(model, saved)
    np.savez(
        args.folder / "features.npz",
        train=np.asarray(train_features, np.float32),
        test=np.asarray(test_features, np.float32),
    )
    measured = {
        "fit_s": fitted - start,
        "transform_rows_s": len(test) / (done - ready),
        "peak_mb": max(0.0, peak - before),
        "bytes": saved.stat().st_size,
    }
    (args.folder / "measured.json").write_text(json.dumps(measured))
