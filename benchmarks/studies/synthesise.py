"""Synthetic rows of SDV's models, and SDMetrics' scores, for `benchmarks.studies.generation`.

Runs in a separate environment with ``sdv`` and prints one line of JSON, the last of its output:

    python synthesise.py synthesise MODEL TRAIN.parquet OUT.parquet N_ROWS
    python synthesise.py measure REAL.parquet GENERATED.parquet
"""

import json
import os
import sys
import time
import warnings

import pandas as pd


def read(path):
    """Frame with categories as strings, and SDV's description of its columns."""
    frame, columns = pd.read_parquet(path), {}
    for name, column in frame.items():
        is_number = pd.api.types.is_numeric_dtype(column)
        columns[name] = {"sdtype": "numerical" if is_number else "categorical"}
        if not is_number:
            frame[name] = column.astype(object).where(column.notna(), None)
    return frame, {"columns": columns}


def synthesise(model, train, out, n_rows):
    import torch
    from sdv import single_table
    from sdv.metadata import Metadata

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 2)))
    torch.manual_seed(0)
    frame, described = read(train)
    metadata = Metadata.load_from_dict({"tables": {"table": described}})
    start = time.perf_counter()
    synthesizer = getattr(single_table, f"{model}Synthesizer")(metadata)
    synthesizer.fit({"table": frame})
    fitted = time.perf_counter()
    rows = synthesizer.sample(int(n_rows))
    done = time.perf_counter()
    (rows["table"] if isinstance(rows, dict) else rows).to_parquet(out)
    return {"fit_s": fitted - start, "sample_s": done - fitted}


def measure(real, generated):
    from sdmetrics.reports.single_table import QualityReport

    (real, described), (generated, _) = read(real), read(generated)
    report = QualityReport()
    report.generate(real, generated[real.columns], described, verbose=False)
    scores = report.get_properties().set_index("Property")["Score"]
    return {"shapes": scores["Column Shapes"], "trends": scores["Column Pair Trends"]}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    verb, *arguments = sys.argv[1:]
    print(json.dumps({"synthesise": synthesise, "measure": measure}[verb](*arguments)))
