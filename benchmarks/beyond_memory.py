"""Memory and speed of `fit_parquet` and `transform_parquet`, on a file larger than memory need be.

    python -m benchmarks.beyond_memory [--rows 5000000] [--part-rows 1000000] [--folder DIR]

A Parquet file of 20 columns (15 of numbers, 4 of strings, one of whole numbers; holes in some) is
made in chunks, and one of its first rows beside. Each in a process of its own, with one epoch:

- memory: the part by `read_table`, `fit`, `transform` and `write_table`;
- part:   the part by `fit_parquet` and `transform_parquet`, whose peak is that of the whole if
          memory is flat;
- files:  the whole in the same way.

Peaks are of resident memory (VmHWM) over what a process holds once it has imported all and fitted a
few rows; rows per second include reading and writing.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.arms import memory
from cmim_sklearn import CMIMEncoder

GROUP_ROWS = 100_000
N_HIDDEN, N_NUMBERS, N_STRINGS = 4, 15, 4


def make_rows(n_rows, rng):
    """Rows that depend on a few hidden numbers, as a pyarrow Table."""
    mix = np.random.default_rng(0).standard_normal((N_HIDDEN, N_NUMBERS + N_STRINGS + 1))
    values = rng.standard_normal((n_rows, N_HIDDEN)) @ mix
    values += 0.3 * rng.standard_normal(values.shape)
    columns = {}
    for c in range(N_NUMBERS):
        hole = rng.random(n_rows) < 0.05 if c % 3 == 0 else None
        columns[f"number_{c}"] = pa.array(np.exp(values[:, c] / 2), mask=hole)
    levels = pa.array([f"level {i}" for i in range(12)])
    for c in range(N_STRINGS):
        codes = np.clip(values[:, N_NUMBERS + c] * 2 + 6, 0, 11).astype("int32")
        columns[f"string_{c}"] = levels.take(pa.array(codes))
    columns["whole"] = pa.array(np.round(10 * values[:, -1]).astype("int64"))
    return pa.table(columns)


def make_files(folder, n_rows, part_rows):
    """The whole file and its first part, row group by row group."""
    schema = make_rows(1, np.random.default_rng(0)).schema
    for name, n in (("part", part_rows), ("files", n_rows)):
        rng = np.random.default_rng(1)
        with pq.ParquetWriter(folder / f"{name}.parquet", schema) as writer:
            for start in range(0, n, GROUP_ROWS):
                writer.write_table(make_rows(min(GROUP_ROWS, n - start), rng))


def run(name, folder, parameters, buffer_rows):
    """Fit and transform in this process; seconds of each and megabytes at the peak."""
    few = make_rows(2000, np.random.default_rng(2))
    CMIMEncoder(**parameters).fit(few).transform(few)
    held, encoder = memory("VmRSS"), CMIMEncoder(**parameters)
    source = folder / f"{'part' if name == 'memory' else name}.parquet"
    start = time.perf_counter()
    if name == "memory":
        table = pq.read_table(source)
        encoder.fit(table)
    else:
        encoder.fit_parquet(source, buffer_rows=buffer_rows)
    fitted, after_fit = time.perf_counter(), memory("VmHWM")
    if name == "memory":
        features = encoder.transform(table)
        names = encoder.get_feature_names_out()
        written = pa.table(dict(zip(names, map(pa.array, features.T.copy()), strict=True)))
        pq.write_table(written, folder / "memory.features.parquet", use_dictionary=False)
    else:
        features = folder / f"{name}.features"
        shutil.rmtree(features, ignore_errors=True)  # those of an earlier run
        encoder.transform_parquet(source, features)
    return {
        "rows": pq.read_metadata(source).num_rows,
        "fit_s": fitted - start,
        "transform_s": time.perf_counter() - fitted,
        "loss": encoder.loss_curve_[-1],
        "fit_mb": after_fit - held,
        "peak_mb": memory("VmHWM") - held,
    }


def report(results, n_bytes):
    """Print rows per second and peaks, and what the whole takes over its part."""
    table = pd.DataFrame(results).T
    for stage in ("fit", "transform"):
        table[f"{stage}_rows/s"] = table["rows"] / table[f"{stage}_s"]
    print(table.round(2).to_string())
    of = table.loc
    print(f"\nThe table would take {n_bytes / 2**20:.0f} MB in memory, as pyarrow holds it:")
    print(f"  {n_bytes / 2**20 / of['files', 'peak_mb']:.1f} times the peak of the whole file")
    print(f"  peak over that of the part: {of['files', 'peak_mb'] / of['part', 'peak_mb']:.2f}")
    for stage in ("fit", "transform"):
        ratio = of["part", f"{stage}_s"] / of["memory", f"{stage}_s"]
        print(f"  {stage} of the part: {ratio:.2f} times the seconds that it takes in memory")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--part-rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where the files go; kept, if given")
    parser.add_argument("--out", type=Path, help="folder for beyond_memory.json")
    parser.add_argument("--buffer-rows", type=int, default=200_000)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--stage", choices=["files", "part", "memory"], help="one, in this process")
    args = parser.parse_args()
    parameters = {
        "max_iter": 1, "batch_size": args.batch_size, "n_components": 16, "embedding": "mean",
        "random_state": 0,
    }  # fmt: skip
    if args.stage:
        print(json.dumps(run(args.stage, args.folder, parameters, args.buffer_rows)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        make_files(folder, args.rows, args.part_rows)
        results = {}
        for stage in ("memory", "part", "files"):
            command = [sys.executable, "-m", "benchmarks.beyond_memory", "--stage", stage]
            command += ["--folder", str(folder), "--buffer-rows", str(args.buffer_rows)]
            command += ["--batch-size", str(args.batch_size)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            results[stage] = json.loads(done.stdout.splitlines()[-1])
            print(stage, results[stage], flush=True)
        some = make_rows(GROUP_ROWS, np.random.default_rng(1))
        report(results, some.nbytes / GROUP_ROWS * args.rows)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "beyond_memory.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
