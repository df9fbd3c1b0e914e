"""One piece of `benchmarks.plan`: fit, probe, and what it cost."""

import warnings

import numpy as np
import pandas as pd
import torch
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)

from benchmarks import rivals
from benchmarks.arms import FAMILY, Features, embed_family, embed_other, make_encoder
from benchmarks.linear_probe import few_rows, load, raw_matrices
from benchmarks.plan import LENGTH, TARGETS, TREES
from benchmarks.probes import score

PROBE_ROWS = 8000
COSTS = ("fit_s", "transform_rows_s", "peak_mb", "bytes")


def measure(data_dir, env_dir, threads, piece):
    """Scores of one piece, as a list of dicts."""
    warnings.simplefilter("ignore")  # unknown levels, 500 iterations that were not enough
    torch.set_num_threads(threads)
    path = data_dir / f"{piece.table}.parquet"
    X_train, X_test, y_train, y_test, regression = load(path, piece.seed, piece.max_rows)
    targets = {"": (y_train, y_test, regression)}
    if piece.regimes == ("targets",):
        targets = {"target": targets[""]}
        for name in TARGETS[piece.table]:
            parts = X_train.pop(name), X_test.pop(name)
            numeric = pd.api.types.is_numeric_dtype(parts[0])
            dtype = float if numeric else str
            targets[name] = (*(part.to_numpy(dtype, na_value=np.nan) for part in parts), numeric)
    rows = []
    if piece.arm in TREES:
        train, test = raw_matrices(X_train, X_test)
        features = Features({"": (train, test)}, dict.fromkeys(COSTS, np.nan))
    else:
        features = embed(piece, X_train, X_test, env_dir)
    for name, (y, y_held_out, is_number) in targets.items():
        known, known_test = ([v == v for v in values] for values in (y, y_held_out))
        for regime in ("all",) if name else piece.regimes:
            some = np.flatnonzero(known)
            if regime == "few":
                some = some[few_rows(y[some], piece.seed)]
            some = some[np.random.RandomState(piece.seed).permutation(len(some))[:PROBE_ROWS]]
            for embedding, (train, test) in features.matrices.items():
                for probe in piece.probes if regime == "all" else ("linear",):
                    data = train[some], y[some], test[known_test], y_held_out[known_test], is_number
                    value = tree(piece, *data) if piece.arm in TREES else score(probe, *data)
                    rows.append(
                        {
                            "embedding": embedding if piece.arm in FAMILY else "",
                            "probe": probe,
                            "regime": f"target:{name}" if name else regime,
                            "score": value,
                            "n_labels": len(some),
                            "n_features": train.shape[1],
                        }
                    )
    if features.reconstruction == features.reconstruction:
        rows.append({**rows[0], "embedding": "mean", "probe": "reconstruction"})
        rows[-1]["score"] = features.reconstruction
    about = {"seed": piece.seed, **features.cost, "n_rows": len(X_train)}
    return [row | about for row in rows]


def embed(piece, X_train, X_test, env_dir):
    """Features of a piece's arm."""
    if piece.arm in FAMILY:
        params = {k: v for k, v in piece.params.items() if k not in LENGTH}
        if set(LENGTH) & set(piece.params):
            params["max_iter"] = n_epochs(piece, len(X_train))
        with_decoder = piece.arm not in ("InfoNCE", "VICReg", "BarlowTwins")
        embeddings = [name for name in piece.embeddings if name != "control"]
        return embed_family(
            piece.arm,
            piece.seed,
            X_train,
            X_test,
            embeddings=embeddings if with_decoder else (),
            control=with_decoder and "control" in piece.embeddings,
            **params,
        )
    if piece.arm in rivals.RIVALS:
        raw = raw_matrices(X_train, X_test)
        made = rivals.embed(piece.arm, X_train, X_test, *raw, piece.seed, env_dir)
        cost = {name: getattr(made, name) for name in COSTS}
        return Features({"": (made.train, made.test)}, cost)
    return embed_other(piece.arm, piece.seed, X_train, X_test)


def n_epochs(piece, n_rows):
    """How many epochs a piece's `LENGTH` asks for."""
    default = make_encoder(piece.arm, 0)
    epochs = default._n_epochs(n_rows)
    if "n_updates" in piece.params:
        batch_size = piece.params.get("batch_size", default.batch_size)
        epochs = round(piece.params["n_updates"] / -(-n_rows // batch_size))
    return max(1, epochs * piece.params.get("times", 1))


def tree(piece, X, y, X_test, y_test, regression):
    """Score of a tree model on raw columns."""
    if piece.arm == "ExtraTrees":
        model = (ExtraTreesRegressor if regression else ExtraTreesClassifier)(300)
    else:
        model = (HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier)()
    return model.set_params(random_state=piece.seed).fit(X, y).score(X_test, y_test)
