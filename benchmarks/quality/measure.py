"""One piece of `benchmarks.quality.plan`: fit, probe, and cost.

A probe is trained on features of labelled training rows and scored on test rows: accuracy, or R2 of
a numeric target; and log-loss and calibration error of the probabilities of classes. Features are
not scaled first, except those of other libraries.
"""

import pickle
import warnings
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from sklearn import clone, ensemble
from sklearn.base import is_classifier
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import log_loss
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler

from benchmarks import rivals
from benchmarks.quality import arms
from benchmarks.quality.arms import FAMILY, Meter
from benchmarks.quality.plan import LENGTH, PROBABILITIES, TARGETS, TREES, limits
from benchmarks.quality.tables import few_rows, load
from cmim_sklearn._encoders.base import fit as fitting
from cmim_sklearn._tables.read import read

PROBE_ROWS = 8000
NEIGHBOURS = (KNeighborsClassifier, KNeighborsRegressor)
KNN, MLP = {"algorithm": "brute"}, {"early_stopping": True, "random_state": 0}
PROBES = {
    # name: for classes, for numbers
    "linear": (LogisticRegression(max_iter=500), RidgeCV(np.logspace(-2, 4, 13))),
    "knn_cosine": tuple(kind(metric="cosine", **KNN) for kind in NEIGHBOURS),
    "knn_euclidean": tuple(kind(**KNN) for kind in NEIGHBOURS),
    "mlp": (MLPClassifier(**MLP), MLPRegressor(**MLP)),
}


def measure(data_dir, env_dir, threads, piece):
    """Scores of one piece, as a list of dicts."""
    warnings.simplefilter("ignore")  # unknown levels, probes that have not converged
    torch.set_num_threads(threads)
    path = data_dir / f"{piece.table}.parquet"
    X_train, X_test, y_train, y_test, regression = load(path, piece.seed, piece.max_rows)
    targets = {"": (y_train, y_test, regression)}
    if piece.regimes == ("targets",):
        targets = {"target": targets[""]}
        for name in TARGETS[piece.table]:
            targets[name] = other_target(X_train.pop(name), X_test.pop(name))
    y = with_labels(piece, y_train) if "label_weight" in piece.params else None
    features = embed(piece, X_train, X_test, env_dir, threads, y)
    rows = []
    for name, (y, y_test, regression) in targets.items():
        known, known_test = pd.notna(y), pd.notna(y_test)
        for regime in ("all",) if name else piece.regimes:
            some = np.flatnonzero(known)
            if regime == "few":
                some = some[few_rows(y[some], piece.seed)]
            some = some[np.random.RandomState(piece.seed).permutation(len(some))[:PROBE_ROWS]]
            for embedding, (train, test) in features.matrices.items():
                data = train[some], y[some], test[known_test], y_test[known_test], regression
                about = {"regime": f"target:{name}" if name else regime, "embedding": embedding}
                about |= {"n_labels": len(some), "n_features": train.shape[1]}
                for probe in [name for name in piece.probes if name in PROBES]:
                    if regime == "all" or probe == "linear":
                        values, cost = score(piece, probe, *data)
                        rows += [about | {"probe": k, "score": v} | cost for k, v in values.items()]
    if not np.isnan(features.reconstruction):
        row = {"embedding": "mean", "probe": "reconstruction", "score": features.reconstruction}
        rows.append(row | {"regime": "all", "n_labels": 0, "n_features": 0})
    about = {"seed": piece.seed, "n_rows": len(X_train), "threads": threads, **features.cost}
    about |= {"loss": features.loss, "contrast": features.contrast}
    return [about | row for row in rows]


def with_labels(piece, y):
    """Labels of the training rows in the only regime of a piece; others are missing."""
    if piece.regimes == ("all",):
        return y
    some = few_rows(y, piece.seed)
    known = np.full(len(y), np.nan, y.dtype if y.dtype.kind == "f" else object)
    known[some] = y[some]
    return known


def other_target(*parts):
    """Column as a target, and whether it is a number; missing cells stay missing."""
    if pd.api.types.is_numeric_dtype(parts[0]):
        return *(part.to_numpy(float, na_value=np.nan) for part in parts), True
    return *(part.astype(object).to_numpy() for part in parts), False


def embed(piece, X_train, X_test, env_dir, threads, y=None):
    """Features of a piece's arm; trees read raw columns. y are the labels for a label_weight."""
    data = piece.seed, X_train, X_test
    if piece.arm in rivals.RIVALS:
        return arms.embed_rival(piece.arm, *data, env_dir, threads)
    if piece.arm not in FAMILY:
        return arms.embed_other("raw" if piece.arm in TREES else piece.arm, *data)
    params = {k: v for k, v in piece.params.items() if k not in LENGTH}
    with patch.multiple(fitting, **limits(piece.params.get("updates"))):
        if {"n_updates", "times"} & set(piece.params):
            params["max_iter"] = n_epochs(piece, X_train)
        return arms.embed_family(piece.arm, *data, y, embeddings=piece.embeddings, **params)


def n_epochs(piece, X_train):
    """Number of epochs that a piece's `LENGTH` asks for."""
    default = arms.make_encoder("cMIM", 0)
    if "n_updates" in piece.params:
        batch_size = piece.params.get("batch_size", default.batch_size)
        epochs = round(piece.params["n_updates"] / -(-len(X_train) // batch_size))
    else:
        likelihood = default._learn_new_table(read(X_train)).likelihood
        n_units = likelihood.n_inputs + likelihood.n_params
        epochs = fitting.n_epochs(default.max_iter, len(X_train), default.batch_size, n_units)
    return max(1, epochs * piece.params.get("times", 1))


def score(piece, probe, train, y, test, y_test, regression):
    """Scores of a probe on features by name, and its cost if the arm has no other.

    Features of other libraries are scored as they are and standardised, and the better score on
    the test rows counts, because the right scale is unknown. This favours them.
    """
    if piece.arm in TREES:
        meter = Meter()
        model = trees(piece, regression).fit(train, y)
        meter.fitted()
        values = scores(piece, probe, model, test, y_test)
        return values, meter.transformed(len(test), len(pickle.dumps(model)))
    scales = [(train, test)]
    if piece.arm not in FAMILY and piece.arm != "raw":
        scaler = StandardScaler().fit(train)
        scales.append((scaler.transform(train), scaler.transform(test)))
    model = PROBES[probe][regression]
    fitted = [(clone(model).fit(a, y), b) for a, b in scales]
    found = [scores(piece, probe, fit, b, y_test) for fit, b in fitted]
    return max(found, key=lambda values: values[probe]), {}


def scores(piece, probe, model, test, y_test):
    """Score of a fitted model, and `PROBABILITIES` if a piece asks for them."""
    values = {probe: model.score(test, y_test)}
    if probe == "linear" and {*PROBABILITIES} & {*piece.probes} and is_classifier(model):
        p = model.predict_proba(test)
        values["log_loss"] = log_loss(y_test, p, labels=model.classes_)
        values["calibration"] = calibration_error(p, model.classes_[p.argmax(1)] == y_test)
    return values


def calibration_error(p, is_right, n_bins=15):
    """Expected calibration error: mean of |confidence - accuracy| over bins of confidence."""
    confidence = p.max(1)
    bins = np.minimum((n_bins * confidence).astype(int), n_bins - 1)
    gaps = np.bincount(bins, confidence - is_right, n_bins)
    return float(np.abs(gaps).sum() / len(p))


def trees(piece, regression):
    """Model of an arm of `TREES`."""
    kind = getattr(ensemble, piece.arm + ("Regressor" if regression else "Classifier"))
    model = kind(n_estimators=300) if piece.arm == "ExtraTrees" else kind()
    return model.set_params(random_state=piece.seed)
