"""Speed and memory of training, transform and import, as ratios to a baseline where possible.

    python -m benchmarks.speed.run --out DIR [--only NAME ...] [--repeats 7] [--quick]

Contestants run in turn in one process, and a ratio is the median over turns, so that other work
slows both sides. Ratios are of processor time; a target in seconds is meant for an idle machine.
Results go to ``speed.csv`` and ``context.json``; `benchmarks.speed.report` writes SPEED.md from
them. To add a measurement, write a function from sizes to `Value`s and a line in `MEASUREMENTS`.
"""

import json
import os
import platform
import subprocess
import sys
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from benchmarks.speed.bare import bare_loop, bare_pass, bare_products
from benchmarks.speed.report import write_report
from benchmarks.speed.stopwatch import interleave, quotients
from benchmarks.tools import memory, parser, save
from cmim_sklearn import CMIMEncoder
from cmim_sklearn._models.inference import CHUNK_ROWS
from cmim_sklearn._tables.read import read
from cmim_sklearn._training.batches import EncodedTable

ROOT = Path(__file__).parents[2]
COLUMNS, FEW_COLUMNS, FIT_ROWS = 30, 10, 2000
CELLS = ["measurement", "setting", "value", "unit", "target", "met", "low", "high", "note"]
SIZES = {
    # name: full size, size with --quick
    "training_rows": (20_000, 600),
    "epochs": (3, 1),
    "transform_rows": (1_000_000, 5_000),
    "memory_rows": (10_000_000, 20_000),
    "calls": (1000, 20),
    "repeats": (7, 1),
}


class Value(NamedTuple):
    """Repeated measurements of one quantity, and the largest median that is aimed at."""

    setting: str
    values: list
    unit: str
    at_most: float | None = None
    note: str = ""


def numbers(n_rows, n_columns):
    return np.random.RandomState(0).standard_normal((n_rows, n_columns))


def fitted(X, **params):
    """Encoder of a given shape; its weights do not matter."""
    return CMIMEncoder(max_iter=1, random_state=0, device="cpu", **params).fit(X)


def encoded(encoder, X):
    """Table that an encoder would learn from X, and its encoded rows."""
    frame = read(X)
    table = encoder._learn_new_table(frame)
    return table, table.encode(frame)


def new_model(encoder, table):
    return encoder._build_model(table.likelihood, encoder._architecture(), 0)


def training(sizes):
    """Epochs of a fit, against plain PyTorch, and against the matrix products alone."""
    for network, layers in {"2 x 256": (256, 256), "1 x 128": (128,)}.items():
        yield from epochs(sizes, network, CMIMEncoder(hidden_layer_sizes=layers, random_state=0))


def epochs(sizes, network, encoder):
    """Epochs of one network."""
    table, x = encoded(encoder, numbers(sizes.training_rows, COLUMNS))
    rows, n, products = torch.from_numpy(x), sizes.epochs, "its matrix products alone"
    model = partial(new_model, encoder, table)
    contestants = {
        "ours": lambda: encoder._net_of(model(), n, 0).partial_fit(EncodedTable(x)),
        "bare loop": lambda: bare_loop(model(), rows, encoder, n),
        products: lambda: bare_products(model(), len(x), encoder.batch_size, n),
    }
    costs = interleave(contestants, sizes.repeats)
    note = f"{len(x):,} x {COLUMNS} numbers, {n} epochs"
    for other, at_most in {"bare loop": 1.05, products: None}.items():
        ratios = quotients(costs["ours"], costs[other])
        yield Value(f"CPU time, {network}, ours / {other}", ratios, "ratio", at_most, note)
    rates = [len(x) * n / cost.wall for cost in costs["ours"]]
    yield Value(f"rows trained on, {network}", rates, "rows/s", None, note)


def transform(sizes):
    """Many rows against the bare forward pass, and the memory that a long table takes."""
    X = numbers(sizes.transform_rows, COLUMNS)
    encoder = fitted(X[:FIT_ROWS])
    inputs, shape = encoder_inputs(encoder, X), (len(X), encoder._n_features_out)
    model, used = encoder.net_.module, np.zeros(shape, np.float32)
    contestants = {
        "ours": lambda: encoder.transform(X),
        "bare": lambda: bare_pass(model, inputs, np.empty(shape, np.float32)),
        "used": lambda: bare_pass(model, inputs, used),
    }
    costs = interleave(contestants, sizes.repeats)
    note = f"{len(X):,} x {COLUMNS} float64 to {shape[1]:,} features"
    setting = "ours / bare forward pass, with encoding"
    yield Value(setting, quotients(costs["ours"], costs["bare"]), "ratio", 1.7, note)
    # Writing to fresh memory costs time, which a caller of transform cannot avoid.
    ratios = quotients(costs["ours"], costs["used"])
    yield Value(f"{setting}, into memory used before", ratios, "ratio", None, note)
    yield Value("ours", [len(X) / cost.wall for cost in costs["ours"]], "rows/s", None, note)
    code = f"from benchmarks.speed import run; print(run.extra_memory({sizes.memory_rows}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=-1, text=True, check=True)
    note = f"{sizes.memory_rows:,} x {FEW_COLUMNS} float64 to the mean of a code of 2"
    megabytes = float(done.stdout.splitlines()[-1])
    yield Value("memory beyond input and output", [megabytes], "MB", 100, note)


def encoder_inputs(encoder, X):
    """Inputs of the encoder's first layer, (n, W)."""
    frame = encoder._read(X, reset=False, min_rows=1)
    return encoder.table_.likelihood.inputs(torch.from_numpy(encoder.table_.encode(frame)))


def extra_memory(n_rows):
    """MB that `transform` takes at its peak, beyond its input and output; for a new process."""
    shape = {"n_components": 2, "embedding": "mean", "hidden_layer_sizes": (64,)}
    encoder = fitted(numbers(FIT_ROWS, FEW_COLUMNS), **shape)
    X = np.empty((n_rows, FEW_COLUMNS))
    for start in range(0, n_rows, CHUNK_ROWS):
        X[start : start + CHUNK_ROWS] = numbers(len(X[start : start + CHUNK_ROWS]), FEW_COLUMNS)
    encoder.transform(X[:10])  # libraries that the first call loads do not count
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    before = memory("VmRSS")
    out = encoder.transform(X)
    return memory("VmHWM") - before - out.nbytes / 2**20


def latency(sizes):
    """One row at a time, once warm."""
    X, ends = numbers(FIT_ROWS, COLUMNS), []
    encoder = fitted(X)
    for _ in range(sizes.calls + 1):
        encoder.transform(X[:1])
        ends.append(time.perf_counter())
    wall, note = 1000 * np.diff(ends[sizes.calls // 10 :]), f"{sizes.calls:,} calls"
    yield Value(f"one row of {COLUMNS} numbers, median", wall, "ms", 1, note)
    slow = [np.percentile(wall, 95)]
    yield Value(f"one row of {COLUMNS} numbers, 95th percentile", slow, "ms", None, note)


def imports(sizes):
    """Import in new interpreters, against the libraries that the package needs."""
    # With bytecode of the package, as after an installation.
    compiled = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}

    def call(modules):
        command = [sys.executable, "-c", f"import {modules}"]
        return partial(subprocess.run, command, cwd=ROOT, env=compiled, check=True)

    names = {"ours": "cmim_sklearn", "bare": "torch, sklearn, skorch"}
    costs = interleave({name: call(modules) for name, modules in names.items()}, sizes.repeats)
    ratios = quotients(costs["ours"], costs["bare"])
    yield Value("CPU time, ours / torch, sklearn and skorch", ratios, "ratio", 1.1)
    yield Value("CPU time", [cost.cpu for cost in costs["ours"]], "s")


MEASUREMENTS = {"training": training, "transform": transform, "latency": latency, "import": imports}


def row(measurement, value):
    """Line of speed.csv."""
    middle, low, high = (float(f(value.values)) for f in (np.median, np.min, np.max))
    target, met = "", ""
    if value.at_most is not None:
        target, met = f"at most {value.at_most:g}", middle <= value.at_most
    cells = (measurement, value.setting, middle, value.unit, target, met, low, high, value.note)
    return dict(zip(CELLS, cells, strict=True))


def main(arguments=None):
    options = parser(__doc__, required=True)
    options.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=list(MEASUREMENTS))
    options.add_argument("--repeats", type=int, help="turns; default: 7, or 1 with --quick")
    args = options.parse_args(arguments)
    sizes = SimpleNamespace(**{name: size[args.quick] for name, size in SIZES.items()})
    sizes.repeats = args.repeats or sizes.repeats
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    load, rows = os.getloadavg()[0], []
    for name in args.only:
        for value in MEASUREMENTS[name](sizes):
            rows.append(row(name, value))
            print(*list(rows[-1].values())[:6], flush=True)
        save(pd.DataFrame(rows), args.out, "speed.csv")  # an interrupted run leaves its results
    about = {
        "sizes": "toy" if args.quick else "full",
        "repeats": sizes.repeats,
        "threads": 1,
        "processor": f"{platform.machine()}, {os.cpu_count()} cores",
        "load at the start": round(load, 1),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "skorch", "scikit-learn", "numpy", "pandas")},
    }
    (args.out / "context.json").write_text(json.dumps(about, indent=2))
    write_report(args.out)


if __name__ == "__main__":
    main()
