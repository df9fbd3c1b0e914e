"""Synthesise a table with a model of SDV, and measure synthetic tables with SDMetrics.

Runs in a virtual environment of its own, as a subprocess of `benchmarks/generation.py`:

    python generation_rivals.py synthesise MODEL TRAIN.parquet OUT.parquet N_ROWS
    python generation_rivals.py measure REAL.parquet SYNTHETIC.parquet

Each prints one line of JSON, the last of its output.
"""

import json
import sys
import time
import warnings

import pandas as pd


def describe(frame):
    """SDV's metadata: categories are categorical, all else numerical; nothing is guessed."""
    kinds = {
        name: {"sdtype": "numerical" if pd.api.types.is_numeric_dtype(column) else "categorical"}
        for name, column in frame.items()
    }
    return {"columns": kinds}


def plain(frame):
    """Categories as strings, which every version of SDV takes."""
    return frame.assign(
        **{
            name: column.astype(object).where(column.notna(), None)
            for name, column in frame.items()
            if not pd.api.types.is_numeric_dtype(column)
        }
    )


def synthesise(model, train, out, n_rows):
    import torch
    from sdv import single_table
    from sdv.metadata import Metadata

    torch.set_num_threads(int(__import__("os").environ.get("OMP_NUM_THREADS", 2)))
    torch.manual_seed(0)
    frame = plain(pd.read_parquet(train))
    metadata = Metadata.load_from_dict({"tables": {"table": describe(frame)}})
    start = time.perf_counter()
    synthesizer = getattr(single_table, f"{model}Synthesizer")(metadata)
    synthesizer.fit({"table": frame})
    fitted = time.perf_counter()
    drawn = synthesizer.sample(n_rows)
    drawn = drawn["table"] if isinstance(drawn, dict) else drawn
    done = time.perf_counter()
    drawn.to_parquet(out)
    return {"fit_s": fitted - start, "sample_s": done - fitted}


def measure(real, synthetic):
    from sdmetrics.reports.single_table import QualityReport

    real, synthetic = plain(pd.read_parquet(real)), plain(pd.read_parquet(synthetic))
    report = QualityReport()
    report.generate(real, synthetic[real.columns], describe(real), verbose=False)
    scores = report.get_properties().set_index("Property")["Score"]
    return {"shapes": scores["Column Shapes"], "trends": scores["Column Pair Trends"]}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    verb, *arguments = sys.argv[1:]
    if verb == "synthesise":
        result = synthesise(*arguments[:3], int(arguments[3]))
    else:
        result = measure(*arguments)
    print(json.dumps(result))
