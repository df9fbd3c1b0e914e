"""An encoder, tables and a runtime that the tests of ONNX models share."""

import warnings

import numpy as np
import pytest

from cmim_sklearn import CMIMEncoder
from tests.helpers import make_mixed

TOLERANCE = 1e-4
"""Allowed difference of features, whose deviation is 0.14 to 2; rounding gives some 1e-6."""

QUICK = {"max_iter": 2, "hidden_layer_sizes": (16, 8), "n_components": 4, "random_state": 0}


@pytest.fixture(scope="session")
def encoder():
    return CMIMEncoder(**QUICK, likelihoods={"visits": "poisson"}).fit(make_mixed())


def run(model, feeds):
    """Outputs of a model by name, from ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


def cells(X, encoder):
    """Inputs of a model from a frame: doubles with NaN, strings with '' for missing values."""
    feeds = {}
    for name, kind in zip(X.columns, encoder.table_.types, strict=True):
        values = X[name].astype(object).where(X[name].notna(), None)
        if kind == "category":
            values = ["" if value is None else str(value) for value in values]
            feeds[str(name)] = np.array(values, dtype=object)[:, None]
        else:
            values = [np.nan if value is None else float(value) for value in values]
            feeds[str(name)] = np.array(values)[:, None]
    return feeds


def transformed(encoder, X):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Values not seen in fit")
        return encoder.transform(X)


def strange(n_rows=60):
    """Rows unlike those of fit: missing values, unknown levels, outliers, and an empty row."""
    X = make_mixed(n_rows, seed=1).astype(object)
    X.loc[0, "word"], X.loc[1, "city"] = "never seen", "Paris"
    X.loc[2, "flag"] = 5
    X.loc[3, ["income", "score"]] = 1e12, -1e12
    X.loc[4, ["income", "age", "score"]] = -1e300, 1e300, 1e30
    X.loc[5] = None
    X.loc[6, ["age", "visits"]] = np.nan
    X.loc[7, "visits"] = -3
    X.loc[8, "age"] = 40.3
    return X
