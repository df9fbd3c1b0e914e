"""Rows of other generative models, and SDMetrics' detection, for `benchmarks.studies.generation`.

Runs in this folder's environment and prints one line of JSON, the last of its output:

    python synthesise.py synthesise MODEL TRAIN.parquet OUT.parquet N_ROWS
    python synthesise.py detect REAL.parquet GENERATED.parquet
"""

import json
import sys
import time
import warnings

import numpy as np
import pandas as pd

MISSING = "(missing)"


def read(path):
    """Frame with categories as strings, and SDV's description of its columns."""
    frame, columns = pd.read_parquet(path), {}
    for name, column in frame.items():
        is_number = pd.api.types.is_numeric_dtype(column)
        columns[name] = {"sdtype": "numerical" if is_number else "categorical"}
        if not is_number:
            frame[name] = column.astype(object).where(column.notna(), MISSING)
    return frame, {"columns": columns}


def tvae(frame, described, n_rows):
    from sdv.metadata import Metadata
    from sdv.single_table import TVAESynthesizer

    metadata = Metadata.load_from_dict({"tables": {"table": described}})
    synthesizer = TVAESynthesizer(metadata)
    synthesizer.fit({"table": frame})
    rows = synthesizer.sample(n_rows)
    return rows["table"] if isinstance(rows, dict) else rows


def arf(frame, described, n_rows):
    np.in1d = np.isin  # noqa: NPY201 - arfpy 0.1.1 calls it, numpy 2.4 has removed it
    from arfpy import arf

    model = arf.arf(frame, verbose=False, random_state=0)
    model.forde()
    rows = model.forge(n_rows)[frame.columns]
    numbers = frame.select_dtypes("number").columns
    return rows.assign(**{c: rows[c].astype(float).round(decimals(frame[c])) for c in numbers})


def decimals(column):
    """Number of decimals of a column, at most 8; without rounding, they would give ARF away."""
    values = column.dropna()
    return next((d for d in range(8) if (values.round(d) == values).all()), 8)


def synthesise(model, train, out, n_rows):
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    np.random.seed(0)
    frame, described = read(train)
    start = time.process_time()
    rows = {"TVAE": tvae, "ARF": arf}[model](frame, described, int(n_rows))[frame.columns]
    seconds = time.process_time() - start
    for name, column in rows.items():
        if described["columns"][name]["sdtype"] == "numerical":
            rows[name] = column.astype(float)
        else:
            rows[name] = column.astype(object).where(column != MISSING, None)
    rows.to_parquet(out)
    return {"cpu_s": seconds}


def detect(real, generated):
    from sdmetrics.single_table.detection.sklearn import ScikitLearnClassifierDetectionMetric
    from xgboost import XGBClassifier

    class Detection(ScikitLearnClassifierDetectionMetric):
        @staticmethod
        def _get_classifier():
            return XGBClassifier(eval_metric="logloss", enable_categorical=True, random_state=0)

    np.random.seed(0)
    (real, described), (generated, _) = read(real), read(generated)
    score = Detection.compute(real, generated[real.columns], described)
    return {"auc": 1 - score / 2}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    verb, *arguments = sys.argv[1:]
    print(json.dumps({"synthesise": synthesise, "detect": detect}[verb](*arguments)))
