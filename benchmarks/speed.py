"""How fast is it? Ratios, measured side by side, and which of their targets hold.

    python -m benchmarks.speed --out DIR [--data-dir DIR] [--env-dir DIR] [--only NAME ...]
                               [--repeats 7] [--threads 1] [--quick] [--long]

Contestants run in turn, on the CPU, in one process where possible, and a ratio is the median over
turns: a busy machine slows both sides. Ratios are of processor time, unless said otherwise; where
a target is in seconds, it is meant by the clock, for a machine with nothing else to do. A
measurement is one function, which yields `Value` by `Value`, and one line in `MEASUREMENTS` with
its targets. What was measured goes to ``speed.csv``, one row each, and to ``SPEED.md``; both hold
the last run alone. --data-dir has ``adult.parquet``. --env-dir has the environments of
`benchmarks.rivals` (pythae's is built where it is not there) and may have one with SDV in it, in
``sdv``. What needs one that is not given is said to be skipped.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from threadpoolctl import threadpool_limits

from benchmarks import rivals
from benchmarks.arms import memory
from benchmarks.bare import (
    bare_loop,
    bare_pass,
    bare_products,
    last_json,
    pythae_epochs,
    stock_net,
)
from benchmarks.generation import run_rival
from benchmarks.speed_report import Row, context, judged, line, report
from benchmarks.stopwatch import Cost, allocated, exponent, interleave, quotients, timed
from cmim_sklearn import CMIMEncoder
from cmim_sklearn._models.inference import CHUNK_ROWS
from cmim_sklearn._tables.read import read, read_in_parts
from cmim_sklearn._training.batches import EncodedTable

ROOT = Path(__file__).parent.parent
COLUMNS, FEW_COLUMNS, FIT_ROWS = 30, 10, 2000
UPDATES = 4
"""Of which a training update is the mean, where its growth is measured."""
CLOCKS = {"cpu": "CPU time", "wall": "wall time"}
NETWORKS = {"2 x 256": (256, 256), "1 x 128": (128,)}
"""The default's hidden layers, and those of a network in which all but its layers weighs more."""
PRODUCTS = "its matrix products alone"
WEIGHTS, FOLDS, JOBS = (0, 1, 10), 2, 2
FORMS = ("pandas categories", "pandas strings", "polars", "pyarrow")
NEEDS_ADULT = "needs adult.parquet in --data-dir"
CLEAR_PEAK = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Plan:
    """How much is measured, and on what."""

    repeats: int = 7
    threads: int = 1
    quick: bool = False
    data_dir: Path | None = None
    env_dir: Path | None = None
    training_rows: int = 20_000
    epochs: int = 3
    transform_rows: int = 1_000_000
    memory_rows: int = 10_000_000
    calls: int = 1000
    frame_rows: tuple = (1_000, 10_000, 100_000, 1_000_000)
    row_sizes: tuple = (1_000, 10_000, 100_000, 1_000_000)
    column_sizes: tuple = (10, 30, 100, 300, 1_000, 2_000)
    level_sizes: tuple = (2, 10, 50, 200, 1_000, 5_000)
    batch_sizes: tuple = (32, 128, 512, 2_048, 8_192)
    search_rows: int = 4_000
    search_epochs: int = 40


QUICK = {
    "quick": True,
    "repeats": 1,
    "training_rows": 600,
    "epochs": 1,
    "transform_rows": 5_000,
    "memory_rows": 20_000,
    "calls": 20,
    "frame_rows": (100, 1_000),
    "row_sizes": (100, 1_000),
    "column_sizes": (2, 20),
    "level_sizes": (2, 20),
    "batch_sizes": (8, 32),
    "search_rows": 100,
    "search_epochs": 1,
}
LONG = {"row_sizes": (*Plan.row_sizes, 10_000_000)}


class Value(NamedTuple):
    """What was measured: the median of a few, the least and the greatest of them, and of what."""

    setting: str
    value: float
    unit: str
    low: float
    high: float
    note: str


class Target(NamedTuple):
    """What a value is to be at most, or at least."""

    bound: float
    at_least: bool = False

    def met(self, value):
        """Whether a value is as it should be."""
        return bool(value >= self.bound if self.at_least else value <= self.bound)

    def __str__(self):
        return f"{'at least' if self.at_least else 'at most'} {self.bound:g}"


class Measurement(NamedTuple):
    """A function from a `Plan` to an iterable of `Value`, and targets by setting."""

    function: Callable
    targets: dict[str, Target]


def median(setting, values, unit, note=""):
    """The `Value` of what was measured several times."""
    middle, low, high = (float(f(values)) for f in (np.median, np.min, np.max))
    return Value(setting, middle, unit, low, high, note)


def single(setting, value, unit, note=""):
    """The `Value` of what was measured once."""
    return median(setting, [value], unit, note)


def skipped(setting, why):
    """The `Value` of what was not measured, and why."""
    return lacking(setting, f"skipped: {why}")


def lacking(setting, note):
    return Value(setting, np.nan, "", np.nan, np.nan, note)


# -- tables and encoders ---------------------------------------------------------------------------


def numbers(n_rows, n_columns):
    return np.random.RandomState(0).standard_normal((n_rows, n_columns))


def mixed_frame(n_rows):
    """Numbers, whole numbers, booleans, categories and strings, with holes."""
    rng = np.random.RandomState(0)
    hidden = rng.standard_normal(n_rows)
    words = np.array([f"word {i}" for i in range(50)], dtype=object)
    return pd.DataFrame(
        {
            "number": hidden,
            "skewed": np.exp(hidden + rng.standard_normal(n_rows)),
            "holes": np.where(rng.rand(n_rows) < 0.1, np.nan, hidden),
            "count": rng.poisson(np.exp(hidden / 2)),
            "flag": hidden > 0,
            "few": pd.Categorical.from_codes(rng.randint(-1, 5, size=n_rows), list("abcde")),
            "many": pd.Categorical.from_codes(rng.randint(50, size=n_rows), list(words)),
            "word": words[rng.randint(50, size=n_rows)],
        }
    )


def fitted(X, **params):
    """An encoder whose weights hardly matter: only its shape does."""
    return CMIMEncoder(max_iter=1, random_state=0, device="cpu", **params).fit(X)


def encoded(encoder, X):
    """The table that an encoder would learn from X, and its encoded rows."""
    frame = read(X)
    table = encoder._learn_new_table(frame)
    return table, table.encode(frame)


def new_model(encoder, table):
    return encoder._build_model(table.likelihood, encoder._architecture(), 0)


# -- training --------------------------------------------------------------------------------------


def training(plan):
    """One fit's epochs, against the same in plain PyTorch, in stock skorch and in pythae."""
    for network, sizes in NETWORKS.items():
        encoder = CMIMEncoder(hidden_layer_sizes=sizes, random_state=0, device="cpu")
        yield from epochs(plan, network, encoder)
    yield from default_fit(plan)


def epochs(plan, network, encoder):
    """The epochs of a fit of one network."""
    table, x = encoded(encoder, numbers(plan.training_rows, COLUMNS))
    rows, model = torch.from_numpy(x), partial(new_model, encoder, table)
    contestants = {
        "ours": lambda: encoder._net_of(model(), plan.epochs, 0).partial_fit(EncodedTable(x)),
        "bare loop": lambda: bare_loop(model(), rows, encoder, plan.epochs),
        "stock skorch": lambda: stock_net(model(), encoder, plan.epochs).partial_fit(rows, None),
        PRODUCTS: lambda: bare_products(model(), len(x), encoder.batch_size, plan.epochs),
    }
    batches = {"pythae": encoder.batch_size, "pythae in its batches of 64": 64}
    if plan.env_dir is not None:
        python = rivals.install("pythae VAE", plan.env_dir)
        contestants |= {
            other: partial(pythae_epochs, python, x, encoder, n, plan.epochs, plan.threads)
            for other, n in batches.items()
        }
    costs = interleave(contestants, plan.repeats)
    size = f"{plan.training_rows:,} x {COLUMNS} numbers, {plan.epochs} epochs"
    for clock, name in CLOCKS.items():
        for other in ("bare loop", "stock skorch", PRODUCTS):
            ratio = quotients(costs["ours"], costs[other], clock)
            yield median(f"{name}, {network}, ours / {other}", ratio, "ratio", size)
        for other in batches:
            setting = f"{name}, {network}, {other} / ours"
            if other in costs:
                ratio = quotients(costs[other], costs["ours"], clock)
                yield median(setting, ratio, "ratio", size)
            else:
                yield skipped(setting, "needs --env-dir")
    done = plan.training_rows * plan.epochs
    rates = [done / c.wall for c in costs["ours"]]
    yield median(f"rows trained on, {network}", rates, "rows/s", size)


def default_fit(plan):
    """A whole fit with defaults, against SDV's TVAE with its own: once, since both are long."""
    setting = "wall time of a default fit of adult, ours / TVAE"
    path = adult(plan)
    if path is None or plan.quick:
        yield skipped(setting, "too long for --quick" if path else NEEDS_ADULT)
        return
    frame = pd.read_parquet(path)
    ours = timed(lambda: CMIMEncoder(random_state=0, device="cpu").fit(frame))
    size = f"a default fit of adult, {len(frame):,} x {frame.shape[1]}"
    for clock, name in CLOCKS.items():
        yield single(f"{name} of a default fit of adult", getattr(ours, clock), "s", size)
    if plan.env_dir is None:
        yield skipped(setting, "needs --env-dir, with SDV in its folder sdv")
        return
    python = plan.env_dir.absolute() / "sdv" / "bin" / "python"
    if not python.exists():
        yield skipped(setting, f"no environment with SDV: {python} is not there")
        return
    with tempfile.TemporaryDirectory() as folder:
        train, drawn = Path(folder) / "train.parquet", Path(folder) / "drawn.parquet"
        frame.to_parquet(train)
        theirs = run_rival(str(python), "synthesise", "TVAE", train, drawn, 10)["fit_s"]
    yield single(setting, ours.wall / theirs, "ratio", size)


# -- transform -------------------------------------------------------------------------------------


def transform(plan):
    """Many rows, against the bare forward pass and PCA; and the memory that a long table takes."""
    X = numbers(plan.transform_rows, COLUMNS)
    encoder = fitted(X[:FIT_ROWS])
    pca = PCA(COLUMNS).fit(X[:FIT_ROWS])
    inputs = encoder_inputs(encoder, X)
    shape = len(X), encoder._n_features_out
    used = np.zeros(shape, np.float32)
    contestants = {
        "ours": lambda: encoder.transform(X),
        "encoding": lambda: sum(map(len, encoded_parts(encoder, X))),
        "bare": lambda: bare_pass(encoder.net_.module, inputs, np.empty(shape, np.float32)),
        "into used memory": lambda: bare_pass(encoder.net_.module, inputs, used),
        "PCA": lambda: pca.transform(X),
    }
    costs = interleave(contestants, plan.repeats)
    size = f"{len(X):,} x {COLUMNS} float64 to {shape[1]:,} features"
    without = [
        Cost(*np.subtract(a, b)) for a, b in zip(costs["ours"], costs["encoding"], strict=True)
    ]
    for name, ours in (("encoding left out", without), ("with encoding", costs["ours"])):
        setting = f"ours / bare forward pass, {name}"
        yield median(setting, quotients(ours, costs["bare"]), "ratio", size)
        # Which spares the bare pass what fresh memory costs, and a caller of transform cannot.
        against_used = quotients(ours, costs["into used memory"])
        yield median(f"{setting}, into memory used before", against_used, "ratio", size)
    yield median("ours / PCA", quotients(costs["ours"], costs["PCA"]), "ratio", size)
    for name in ("ours", "bare", "PCA"):
        rates = [len(X) / cost.wall for cost in costs[name]]
        yield median({"bare": "bare forward pass"}.get(name, name), rates, "rows/s", size)
    setting = "memory beyond input and output"
    if not CLEAR_PEAK.exists():
        yield skipped(setting, "needs Linux, which tells the peak")
        return
    code = f"from benchmarks import speed; print(speed.extra_memory({plan.memory_rows}))"
    size = f"{plan.memory_rows:,} x {FEW_COLUMNS} float64 to the mean of a code of 2"
    yield single(setting, last_json([sys.executable, "-c", code], cwd=ROOT), "MB", size)


def encoded_parts(encoder, X):
    """The encoded rows of X, part by part, as `transform` reads them."""
    for frame in read_in_parts(X)[1]:
        yield encoder.table_.encode(encoder._checked(frame, reset=False, min_rows=1), {})


def encoder_inputs(encoder, X):
    """What the encoder's first layer is given, (n, W)."""
    parts = map(torch.from_numpy, encoded_parts(encoder, X))
    return torch.cat([encoder.table_.likelihood.inputs(part) for part in parts])


def extra_memory(n_rows):
    """MB that `transform` takes at its peak, beyond its input, its output and all before it.

    For a process of its own. A narrow network and a code of 2: input and output are small enough
    for ten million rows.
    """
    shape = {"n_components": 2, "embedding": "mean", "hidden_layer_sizes": (64,)}
    encoder = fitted(numbers(FIT_ROWS, FEW_COLUMNS), **shape)
    X = np.empty((n_rows, FEW_COLUMNS))
    for start in range(0, n_rows, CHUNK_ROWS):
        X[start : start + CHUNK_ROWS] = numbers(len(X[start : start + CHUNK_ROWS]), FEW_COLUMNS)
    encoder.transform(X[:10])  # what is loaded at the first call does not count
    CLEAR_PEAK.write_text("5")  # the peak begins anew
    before = memory("VmRSS")
    out = encoder.transform(X)
    return memory("VmHWM") - before - out.nbytes / 2**20


# -- latency ---------------------------------------------------------------------------------------


def latency(plan):
    """One row at a time, once warm."""
    for what, X in (
        (f"one row of {COLUMNS} numbers", numbers(FIT_ROWS, COLUMNS)),
        ("one mixed row of a pandas frame", mixed_frame(FIT_ROWS)),
    ):
        encoder, row = fitted(X), X[:1]
        for _ in range(plan.calls // 10):
            encoder.transform(row)
        calls = [call(encoder.transform, row) for _ in range(plan.calls)]
        cpu, wall = 1000 * np.array(calls).T
        note = f"{plan.calls:,} calls"
        yield median(f"{what}, median", wall, "ms", note)
        yield single(f"{what}, 95th percentile", np.percentile(wall, 95), "ms", note)
        yield median(f"{what}, median CPU time", cpu, "ms", note)


def call(function, argument) -> Cost:
    """What one short call costs, without the cleaning up of `timed`."""
    cpu, wall = time.process_time(), time.perf_counter()
    function(argument)
    return Cost(time.process_time() - cpu, time.perf_counter() - wall)


# -- encoding --------------------------------------------------------------------------------------


def encoding(plan):
    """Raw cells to encoded ones: adult from four libraries, and growth with rows."""
    encoder, path = CMIMEncoder(), adult(plan)
    if path is None:
        for form in FORMS:
            yield skipped(f"adult from {form}", NEEDS_ADULT)
    else:
        tables = adult_forms(path)
        learnt = {form: encoder._learn_new_table(read(X)) for form, X in tables.items()}
        encode = {form: partial(read_and_encode, learnt[form], X) for form, X in tables.items()}
        size = "{:,} x {}".format(*tables["pandas strings"].shape)
        for form, costs in interleave(encode, plan.repeats).items():
            yield median(f"adult from {form}", [cost.wall for cost in costs], "s", size)
            yield median(f"adult from {form}, CPU time", [cost.cpu for cost in costs], "s", size)
    table = encoder._learn_new_table(read(mixed_frame(FIT_ROWS)))
    frames = {n: mixed_frame(n) for n in plan.frame_rows}
    encode = {n: partial(read_and_encode, table, frame) for n, frame in frames.items()}
    seconds = middles(interleave(encode, plan.repeats))
    size = f"a mixed frame of {span(plan.frame_rows)} rows"
    yield single("exponent of time in rows", exponent(plan.frame_rows, seconds), "", size)
    peaks = [allocated(function) for function in encode.values()]
    yield single("exponent of peak memory in rows", exponent(plan.frame_rows, peaks), "", size)


def read_and_encode(table, X):
    table.encode(read(X))


def adult(plan):
    """Where the table is, or None."""
    path = plan.data_dir and plan.data_dir / "adult.parquet"
    return path if path and path.exists() else None


def adult_forms(path):
    """The features of a table, as the libraries read them and, for pandas, as strings too."""
    import polars as pl
    import pyarrow.parquet as pq

    frame = pd.read_parquet(path).drop(columns="target")
    # What pandas takes strings for is its version's own choice.
    words = [c for c in frame if not pd.api.types.is_numeric_dtype(frame[c])]
    strings = frame.assign(**{c: pd.Series(frame[c].tolist(), index=frame.index) for c in words})
    own = frame, strings, pl.read_parquet(path).drop("target"), pq.read_table(path).drop("target")
    return dict(zip(FORMS, own, strict=True))


# -- growth ----------------------------------------------------------------------------------------


def growth(plan):
    """How costs grow: the slope of their logarithm on that of the size."""
    X = numbers(max(plan.row_sizes), FEW_COLUMNS)
    encoder = fitted(X[:FIT_ROWS], embedding="mean")
    kinds = {
        "transform, by rows": {n: partial(encoder.transform, X[:n]) for n in plan.row_sizes},
        "training update, by columns": {n: update_of_columns(n) for n in plan.column_sizes},
        "training update, by levels": {n: update_of_levels(n) for n in plan.level_sizes},
        "training update, by batch size": {n: update_of_batch(n) for n in plan.batch_sizes},
    }
    for what, contestants in kinds.items():
        costs, sizes = interleave(contestants, plan.repeats), list(contestants)
        runs = 1 if what.startswith("transform") else UPDATES
        for n in sizes:
            yield median(f"{what}: {n:,}", [1000 * c.cpu / runs for c in costs[n]], "CPU ms")
        slope = exponent(sizes, middles(costs))
        yield single(f"exponent of {what}", slope, "", f"{span(sizes)}")
        above = exponent(sizes[-2:], middles(costs)[-2:])
        yield single(f"exponent of {what}, at the end", above, "", f"{span(sizes[-2:])}")


def update_of_columns(n_columns):
    return updates(numbers(UPDATES * CMIMEncoder().batch_size, n_columns))


def update_of_levels(n_levels):
    """One column of so many levels, none in a rare bin; a batch need not show all of them."""
    n_rows = UPDATES * CMIMEncoder().batch_size
    codes = np.arange(max(n_rows, n_levels)) % n_levels
    X = pd.DataFrame({"level": pd.Categorical.from_codes(codes, [f"{i}" for i in range(n_levels)])})
    return updates(X, n_rows, max_categories=max(2, n_levels))


def update_of_batch(batch_size):
    return updates(numbers(UPDATES * batch_size, FEW_COLUMNS), batch_size=batch_size)


def updates(X, n_rows=None, **params):
    """A function that makes `UPDATES` of them, of a net that is there."""
    encoder = CMIMEncoder(random_state=0, device="cpu", **params)
    table, x = encoded(encoder, X)
    net = encoder._net_of(new_model(encoder, table), 1, 0)
    return partial(net.partial_fit, EncodedTable(x[:n_rows]))


def middles(costs):
    """Median processor seconds of each contestant."""
    return [float(np.median([cost.cpu for cost in own])) for own in costs.values()]


def span(sizes):
    return f"{min(sizes):,} to {max(sizes):,}"


# -- the rest --------------------------------------------------------------------------------------


def imports(plan):
    """Fresh interpreters, against what the library cannot do without."""

    # As installed, that is with our modules compiled too, as those of the others are.
    compiled = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}

    def run(modules):
        command = [sys.executable, "-c", f"import {modules}"]
        subprocess.run(command, cwd=ROOT, env=compiled, check=True)

    contestants = {
        "ours": partial(run, "cmim_sklearn"),
        "bare": partial(run, "torch, sklearn, skorch"),
    }
    costs = interleave(contestants, plan.repeats, warm_up=not plan.quick)
    for clock, name in CLOCKS.items():
        setting = f"{name}, ours / torch, sklearn and skorch"
        yield median(setting, quotients(costs["ours"], costs["bare"], clock), "ratio")
    for clock, name in CLOCKS.items():
        yield median(name, [getattr(cost, clock) for cost in costs["ours"]], "s")


def search(plan):
    """A grid search over two processes, against half of what its fits and scores take alone."""
    setting = "wall time over 2 jobs / half the sum of the fits"
    if os.cpu_count() < JOBS:
        yield skipped(setting, f"needs {JOBS} cores")
        return
    X = numbers(plan.search_rows, COLUMNS)
    y = X[:, 0] > 0
    encoder = CMIMEncoder(max_iter=plan.search_epochs, random_state=0, device="cpu")
    pipe = make_pipeline(encoder, LogisticRegression(max_iter=1000))

    def over(jobs):
        grid = {"cmimencoder__contrastive_weight": list(WEIGHTS)}
        return GridSearchCV(pipe, grid, n_jobs=jobs, cv=FOLDS, refit=False).fit(X, y)

    def half():
        results = over(1).cv_results_
        times = results["mean_fit_time"] + results["mean_score_time"]
        return Cost(np.nan, float(times.sum()) * FOLDS / JOBS)

    costs = interleave({"search": lambda: timed(partial(over, JOBS)), "half": half}, plan.repeats)
    size = (
        f"{len(WEIGHTS) * FOLDS} fits, {plan.search_rows:,} x {COLUMNS}, {plan.search_epochs} ep."
    )
    yield median(setting, quotients(costs["search"], costs["half"], "wall"), "ratio", size)
    yield median("sum of the fits", [JOBS * cost.wall for cost in costs["half"]], "s", size)


def files(plan):
    """What a saved encoder with defaults takes on disk."""
    for what, X in (
        (f"{COLUMNS} numbers", numbers(FIT_ROWS, COLUMNS)),
        ("a mixed frame", mixed_frame(FIT_ROWS)),
    ):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "encoder.cmim"
            fitted(X).save(path)
            yield single(f"encoder of {what}", path.stat().st_size, "bytes")


MEASUREMENTS = {
    "training": Measurement(
        training,
        {
            f"CPU time, {network}, {what}": target
            for network in NETWORKS
            for what, target in {
                "ours / bare loop": Target(1.05),
                "ours / stock skorch": Target(0.6),
                "pythae / ours": Target(3, at_least=True),
                "pythae in its batches of 64 / ours": Target(3, at_least=True),
            }.items()
        },
    ),
    "transform": Measurement(
        transform,
        {
            "ours / bare forward pass, encoding left out": Target(1.15),
            "ours / bare forward pass, with encoding": Target(1.7),
            "memory beyond input and output": Target(100),
        },
    ),
    "latency": Measurement(latency, {f"one row of {COLUMNS} numbers, median": Target(1)}),
    "encoding": Measurement(
        encoding,
        {
            **{f"adult from {form}": Target(0.15) for form in FORMS},
            "exponent of time in rows": Target(1.05),
            "exponent of peak memory in rows": Target(1.05),
        },
    ),
    "growth": Measurement(growth, {}),
    "import": Measurement(imports, {"CPU time, ours / torch, sklearn and skorch": Target(1.1)}),
    "search": Measurement(
        search, {"wall time over 2 jobs / half the sum of the fits": Target(1.1)}
    ),
    "files": Measurement(files, {}),
}
"""Add one by a function above and a line here. Targets are by the setting of a value."""


# -- the command -----------------------------------------------------------------------------------


def measured(name, plan):
    """The rows of one measurement; a failure is said at every target that it kept from a value."""
    function, targets = MEASUREMENTS[name]
    values, why = [], "no value came"
    try:
        for value in function(plan):
            values.append(value)
    except Exception as error:
        traceback.print_exc()
        why = f"failed: {type(error).__name__}: {error}".splitlines()[0]
        values.append(lacking("all that follows", why))
    there = {value.setting for value in values}
    values += [lacking(setting, why) for setting in targets if setting not in there]
    return [judged(name, value, targets.get(value.setting)) for value in values]


def pin(threads):
    """So many threads, here and in every process that is started from here."""
    os.environ |= dict.fromkeys((*rivals.THREAD_VARIABLES, "POLARS_MAX_THREADS"), str(threads))
    torch.set_num_threads(threads)
    threadpool_limits(threads)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for speed.csv, SPEED.md")
    parser.add_argument("--data-dir", type=Path, help="folder of adult.parquet")
    parser.add_argument("--env-dir", type=Path, help="folder of the rivals' environments")
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, help="all by default")
    parser.add_argument("--repeats", type=int, help="turns; 7 by default")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="toy sizes, to see that it runs")
    parser.add_argument("--long", action="store_true", help="transform up to 10,000,000 rows")
    args = parser.parse_args(arguments)
    own = {"threads": args.threads, "data_dir": args.data_dir, "env_dir": args.env_dir}
    own |= (LONG if args.long else {}) | (QUICK if args.quick else {})
    own |= {"repeats": args.repeats} if args.repeats else {}
    plan = Plan(**own)
    pin(plan.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    rows, load = [], [os.getloadavg()[0]]
    for name in args.only or MEASUREMENTS:
        print(f"\n{name}", flush=True)
        rows += measured(name, plan)
        for row in rows:
            if row.measurement == name:
                print(line(row), flush=True)
        # After each, so that a run that is stopped leaves what it had.
        pd.DataFrame(rows, columns=Row._fields).to_csv(args.out / "speed.csv", index=False)
    about = context(plan, [*load, os.getloadavg()[0]])
    (args.out / "SPEED.md").write_text(report(rows, about))
    print(f"\n{args.out / 'speed.csv'}, {args.out / 'SPEED.md'}")
    if any(row.note.startswith("failed") for row in rows):
        sys.exit("Some measurements failed: see above.")


if __name__ == "__main__":
    main()
