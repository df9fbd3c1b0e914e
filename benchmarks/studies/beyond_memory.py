"""Memory and speed of `fit_parquet` and `transform_parquet` on a large file.

    python -m benchmarks.studies.beyond_memory [--rows 5000000] [--part-rows 1000000] [--out DIR]

A Parquet file of 20 columns (15 numeric, 4 of strings, one of integers; missing values in some) and
a file of its first rows are written in chunks. Each case runs in a new process, with one epoch:

- memory: the part by `read_table`, `fit`, `transform` and `write_table`;
- part:   the part by `fit_parquet` and `transform_parquet`;
- whole:  the whole file in the same way. Its peak equals that of the part if memory is flat.

Peaks are resident memory above that after a small fit. Rates include reading and writing.
"""

import ast
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.tools import memory, parser, save
from cmim_sklearn import CMIMEncoder

GROUP_ROWS = 100_000
PARAMS = {"max_iter": 1, "n_components": 16, "embedding": "mean", "random_state": 0}


def make_rows(n_rows, seed):
    """Rows that depend on four latent numbers, as a pyarrow Table."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(0).standard_normal((4, 20))
    values = rng.standard_normal((n_rows, 4)) @ mix
    values += 0.3 * rng.standard_normal(values.shape)
    columns = {}
    for c in range(15):
        missing = rng.random(n_rows) < 0.05 if c % 3 == 0 else None
        columns[f"number_{c}"] = pa.array(np.exp(values[:, c] / 2), mask=missing)
    levels = pa.array([f"level {i}" for i in range(12)])
    for c in range(15, 19):
        codes = np.clip(values[:, c] * 2 + 6, 0, 11).astype("int32")
        columns[f"string_{c}"] = levels.take(pa.array(codes))
    columns["whole"] = pa.array(np.round(10 * values[:, -1]).astype("int64"))
    return pa.table(columns)


def make_file(path, n_rows):
    """Write a file, row group by row group."""
    with pq.ParquetWriter(path, make_rows(1, 0).schema) as writer:
        for start in range(0, n_rows, GROUP_ROWS):
            writer.write_table(make_rows(min(GROUP_ROWS, n_rows - start), seed=start))


def run(case, folder, buffer_rows, batch_size):
    """Fit and transform in this process: rows per second of each, and MB at the peak."""
    folder, params = Path(folder), PARAMS | {"batch_size": batch_size}
    few = make_rows(2000, seed=2)
    CMIMEncoder(**params).fit(few).transform(few)
    held, encoder = memory("VmRSS"), CMIMEncoder(**params)
    source = folder / f"{'whole' if case == 'whole' else 'part'}.parquet"
    start = time.perf_counter()
    if case == "memory":
        table = pq.read_table(source)
        encoder.fit(table)
    else:
        encoder.fit_parquet(source, buffer_rows=buffer_rows)
    fitted = time.perf_counter()
    if case == "memory":
        features, names = encoder.transform(table), encoder.get_feature_names_out()
        written = pa.table(dict(zip(names, map(pa.array, features.T.copy()), strict=True)))
        pq.write_table(written, folder / "features.parquet", use_dictionary=False)
    else:
        encoder.transform_parquet(source, folder / f"{case}.features")
    seconds, n_rows = time.perf_counter() - fitted, pq.read_metadata(source).num_rows
    rates = {"fit_rows_s": n_rows / (fitted - start), "transform_rows_s": n_rows / seconds}
    found = {"case": case, "rows": n_rows, "loss": encoder.loss_curve_[-1], **rates}
    return found | {"peak_mb": memory("VmHWM") - held}


def in_new_process(*arguments):
    code = f"from benchmarks.studies.beyond_memory import run; print(run{arguments})"
    done = subprocess.run([sys.executable, "-c", code], stdout=-1, text=True, check=True)
    return ast.literal_eval(done.stdout.splitlines()[-1])


def main(arguments=None):
    options = parser(__doc__)
    options.add_argument("--rows", type=int, default=5_000_000)
    options.add_argument("--part-rows", type=int, default=1_000_000)
    options.add_argument("--buffer-rows", type=int, default=200_000)
    options.add_argument("--batch-size", type=int, default=1024)
    args = options.parse_args(arguments)
    n_rows, n_part = (3000, 1000) if args.quick else (args.rows, args.part_rows)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        make_file(Path(folder) / "part.parquet", n_part)
        make_file(Path(folder) / "whole.parquet", n_rows)
        for case in ("memory", "part", "whole"):
            arguments = (case, folder, args.buffer_rows, args.batch_size)
            results.append((run if args.quick else in_new_process)(*arguments))
            print(results[-1], flush=True)
    table = pd.DataFrame(results)
    print(table.round(2).to_string(index=False))
    megabytes = make_rows(GROUP_ROWS, 1).nbytes / GROUP_ROWS * n_rows / 2**20
    print(f"The whole table takes {megabytes:.0f} MB in pyarrow.")
    save(table, args.out, "beyond_memory.csv")


if __name__ == "__main__":
    main()
