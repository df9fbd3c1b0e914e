"""The rivals' side of the exchange: rows in, features and costs out.

Each ``embed.py`` imports this file under the Python of its environment and calls `run` with its
functions. Needs only numpy, and pandas for frames.
"""

import json
import pickle
import sys
import time
from pathlib import Path

import numpy as np

WARM_UP_ROWS = 16


def read_rows(folder, part):
    """Rows of "train" or "test": a frame if there is one, else numbers."""
    path = folder / f"{part}.parquet"
    if path.exists():
        import pandas as pd

        return pd.read_parquet(path)
    return np.load(folder / "raw.npz")[part]


def memory(which):
    """Resident memory of this process in MB: now ("VmRSS"), or its peak ("VmHWM"); Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(which)).split()[1]) / 1024


def run(fit, transform, save=lambda model, path: path.write_bytes(pickle.dumps(model))):
    """Fit to the training rows, transform both parts, and write features and costs.

    ``fit(method, X, seed, folder)`` returns a model; the folder is for its files.
    ``transform(model, X)`` returns features (n, w). ``save(model, path)`` writes the model.
    """
    folder, method, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    train, test = read_rows(folder, "train"), read_rows(folder, "test")
    before, start = memory("VmRSS"), time.perf_counter()
    model = fit(method, train, seed, folder)
    fitted = time.perf_counter()
    features = {"train": transform(model, train)}
    transform(model, test[:WARM_UP_ROWS])  # compilation is not timed
    ready = time.perf_counter()
    features["test"] = transform(model, test)
    done, peak, saved = time.perf_counter(), memory("VmHWM"), folder / "model"
    save(model, saved)
    np.savez(folder / "features.npz", **{k: np.asarray(v, np.float32) for k, v in features.items()})
    costs = {"fit_s": fitted - start, "transform_rows_s": len(test) / (done - ready)}
    costs |= {"peak_mb": max(0.0, peak - before), "bytes": saved.stat().st_size}
    (folder / "costs.json").write_text(json.dumps(costs))
