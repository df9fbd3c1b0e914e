"""One piece of `benchmarks.plan`: fit, probe, and what it cost."""

import pickle
import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.preprocessing import StandardScaler

from benchmarks import rivals
from benchmarks.arms import FAMILY, Meter, embed_family, embed_other, embed_rival, make_encoder
from benchmarks.linear_probe import few_rows, load
from benchmarks.plan import LENGTH, TARGETS, TREES
from benchmarks.probes import score
from cmim_sklearn._encoders.base import fit as fitting
from cmim_sklearn._tables.read import read

PROBE_ROWS = 8000


def measure(data_dir, env_dir, threads, piece):
    """Scores of one piece, as a list of dicts."""
    warnings.simplefilter("ignore")  # unknown levels, 500 iterations that were not enough
    torch.set_num_threads(threads)
    path = data_dir / f"{piece.table}.parquet"
    X_train, X_test, y_train, y_test, regression = load(path, piece.seed, piece.max_rows)
    targets = {"": Target(y_train, y_test, regression)}
    if piece.regimes == ("targets",):
        targets = {"target": targets[""]}
        for name in TARGETS[piece.table]:
            targets[name] = other_target(X_train.pop(name), X_test.pop(name))
    features = embed(piece, X_train, X_test, env_dir, threads)
    rows = []
    for name, target in targets.items():
        known, known_test = (pd.notna(y) for y in target[:2])
        for regime in ("all",) if name else piece.regimes:
            some = np.flatnonzero(known)
            if regime == "few":
                some = some[few_rows(target.train[some], piece.seed)]
            some = some[np.random.RandomState(piece.seed).permutation(len(some))[:PROBE_ROWS]]
            for embedding, (train, test) in features.matrices.items():
                data = train[some], target.train[some], test[known_test], target.test[known_test]
                for probe in piece.probes if regime == "all" else ("linear",):
                    value, cost = ask(piece, probe, *data, target.regression)
                    row = {"embedding": embedding, "probe": probe, "score": value}
                    row["regime"] = f"target:{name}" if name else regime
                    rows.append(row | {"n_labels": len(some), "n_features": train.shape[1]} | cost)
    if not np.isnan(features.reconstruction):
        row = {"embedding": "mean", "probe": "reconstruction", "score": features.reconstruction}
        rows.append(row | {"regime": "all", "n_labels": 0, "n_features": 0})
    about = {"seed": piece.seed, "n_rows": len(X_train), "threads": threads, **features.cost}
    about |= {"loss": features.loss, "contrast": features.contrast}
    return [about | row for row in rows]


class Target(NamedTuple):
    """Values of training and test rows, and whether they are numbers."""

    train: np.ndarray
    test: np.ndarray
    regression: bool


def other_target(*parts):
    """A column as a target; missing cells stay missing."""
    if pd.api.types.is_numeric_dtype(parts[0]):
        return Target(*(part.to_numpy(float, na_value=np.nan) for part in parts), True)
    return Target(*(part.astype(object).to_numpy() for part in parts), False)


def embed(piece, X_train, X_test, env_dir, threads):
    """Features of a piece's arm; trees read raw columns."""
    data = piece.seed, X_train, X_test
    if piece.arm in rivals.RIVALS:
        return embed_rival(piece.arm, *data, env_dir, threads)
    if piece.arm not in FAMILY:
        return embed_other("raw" if piece.arm in TREES else piece.arm, *data)
    params = {k: v for k, v in piece.params.items() if k not in LENGTH}
    if set(LENGTH) & set(piece.params):
        params["max_iter"] = n_epochs(piece, X_train)
    return embed_family(piece.arm, *data, embeddings=piece.embeddings, **params)


def n_epochs(piece, X_train):
    """How many epochs a piece's `LENGTH` asks for."""
    default = make_encoder("cMIM", 0)
    if "n_updates" in piece.params:
        batch_size = piece.params.get("batch_size", default.batch_size)
        epochs = round(piece.params["n_updates"] / -(-len(X_train) // batch_size))
    else:
        likelihood = default._learn_new_table(read(X_train)).likelihood
        n_units = likelihood.n_inputs + likelihood.n_params
        epochs = fitting.n_epochs(default.max_iter, len(X_train), default.batch_size, n_units)
    return max(1, epochs * piece.params.get("times", 1))


def ask(piece, probe, train, y, test, y_test, regression):
    """A probe's score of features, and what it cost where the features are no cost of their own.

    Features of others than this library are taken as they come and standardised, and the better of
    the two on the test rows counts: which suits a probe is not theirs to know.
    """
    if piece.arm in TREES:
        meter = Meter()
        model = tree(piece, regression).fit(train, y)
        meter.fitted()
        value = model.score(test, y_test)
        return value, meter.transformed(len(test), len(pickle.dumps(model)))
    scores = [score(probe, train, y, test, y_test, regression)]
    if piece.arm not in FAMILY and piece.arm != "raw":
        scaler = StandardScaler().fit(train)
        scaled = scaler.transform(train), scaler.transform(test)
        scores.append(score(probe, scaled[0], y, scaled[1], y_test, regression))
    return max(scores), {}


def tree(piece, regression):
    """A tree model for raw columns."""
    if piece.arm == "ExtraTrees":
        model = (ExtraTreesRegressor if regression else ExtraTreesClassifier)(300)
    else:
        model = (HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier)()
    return model.set_params(random_state=piece.seed)
