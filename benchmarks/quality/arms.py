"""Arms of the quality benchmark: encoders of this library, other transformers, and rivals.

An arm computes features of a table's training and test rows, without labels unless its parameters
have a ``label_weight``. Encoders of this
library read the DataFrame; other transformers read raw columns prepared for a linear model. Arms in
`benchmarks.rivals` have separate environments.
"""

import pickle
import time
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import RandomTreesEmbedding
from sklearn.preprocessing import FunctionTransformer, QuantileTransformer

import cmim_sklearn
from benchmarks import rivals
from benchmarks.quality.tables import RawColumns
from benchmarks.tools import memory
from cmim_sklearn._models.features import feature_scale, hidden_states
from cmim_sklearn._models.inference import on_rows
from cmim_sklearn._training.net import ObjectiveLoss
from cmim_sklearn.networks import build
from cmim_sklearn.objectives import contrast

TEMPERATURE = cmim_sklearn.CMIMEncoder().temperature
WIDTH = 32  # of PCA and SVD
FAMILY = {
    "AE": "AEEncoder",
    "VAE": "VAEEncoder",
    "MIM": "MIMEncoder",
    "cMIM": "CMIMEncoder",
    "cAE": "AEEncoder",
    "cVAE": "VAEEncoder",
    "InfoNCE": "InfoNCEEncoder",
    "VICReg": "VICRegEncoder",
    "BarlowTwins": "BarlowTwinsEncoder",
    "untrained": "CMIMEncoder",
}
"""Arms of this library, and the class of each."""
WITHOUT_DECODER = ("InfoNCE", "VICReg", "BarlowTwins")
OTHERS = {
    "PCA": PCA,
    "TruncatedSVD": TruncatedSVD,
    "RandomTreesEmbedding": lambda width: RandomTreesEmbedding(sparse_output=False),
}
"""Transformers of scikit-learn by number of features."""
COSTS = ("fit_s", "transform_rows_s", "peak_mb", "bytes")
"""Seconds, test rows per second, peak memory above the start, and size of the fitted model."""


class Features(NamedTuple):
    """Features of training and test rows by embedding (or ""), and `COSTS`; absent values are NaN.

    ``loss`` and ``contrast`` are those of the last epoch, in nats per row.
    """

    matrices: dict
    cost: dict
    reconstruction: float = np.nan
    loss: float = np.nan
    contrast: float = np.nan


def with_contrast(loss):
    """Loss of another encoder plus the contrastive term of cMIM at weight 1."""

    def objective(batch, **options):
        return {**loss.objective(batch, **options), "contrast": contrast(batch.z, TEMPERATURE)}

    return ObjectiveLoss(objective, **loss.options)


def make_encoder(arm, seed, **params):
    """Unfitted encoder of an arm of `FAMILY`."""
    cls = getattr(cmim_sklearn, FAMILY[arm])

    class WithContrast(cls):
        def _objective(self, model, seed):
            return with_contrast(super()._objective(model, seed))

    cls = WithContrast if arm in ("cAE", "cVAE") else cls
    if arm == "untrained":
        params = params | {"max_iter": 1, "learning_rate_init": 1e-12}
    return cls(random_state=seed).set_params(**params)


def embed_family(arm, seed, X_train, X_test, y=None, *, embeddings=("mean",), **params):
    """Features of an arm of `FAMILY` in several embeddings, for the cost of one fit.

    y are the labels of the training rows, for a ``label_weight``.

    Arms without a decoder have "mean", and "layers" of the encoder alone. The others also have
    "control": the informative embedding of a decoder with random weights.
    """
    encoder = make_encoder(arm, seed, **params)
    meter = Meter()
    encoder.fit(X_train, y)
    meter.fitted()
    encoder.transform(X_test)
    cost = meter.transformed(len(X_test), len(pickle.dumps(encoder.__getstate__())))
    matrices, has_decoder = {}, arm not in WITHOUT_DECODER
    other = {"control": random_decoder} if has_decoder else {"layers": lambda *_: encoder_layers}
    for name in embeddings:
        if name in other:
            matrices[name] = scaled_layers(encoder, other[name](encoder, seed), X_train, X_test)
        elif has_decoder or name == "mean":
            encoder.set_params(**{"embedding": name} if has_decoder else {})
            matrices[name] = encoder.transform(X_train), encoder.transform(X_test)
    last, rebuilt = encoder.net_.history[-1], np.nan
    if has_decoder:
        rebuilt = reconstruction(X_train, X_test, encoder.reconstruct(X_test))
    return Features(matrices, cost, rebuilt, last["train_loss"], last.get("train_contrast", np.nan))


def scaled_layers(encoder, layers, *tables):
    """Features from other layers, scaled as the library does; ``layers`` maps model and rows."""
    model, made = encoder._model(), []
    for X in tables:
        encoded = encoder.table_.encode(encoder._read(X, reset=False, min_rows=1))
        parts = on_rows(model, lambda x: dict(enumerate(layers(model, x))), encoded)
        made.append(list(parts.values()))
    centre, scale = feature_scale(made[0])
    return tuple((np.concatenate(parts, 1) - centre) / scale for parts in made)


def encoder_layers(model, x):
    """Hidden layers of an encoder, and its code."""
    states = hidden_states(model.encoder, model.likelihood.inputs(x))
    return [*states, model.posterior_mean(x)]


def random_decoder(encoder, seed):
    """Last hidden layer of a decoder with random weights."""
    shape = encoder._built["hidden_layer_sizes"], encoder._built["activation"]
    generator = torch.Generator().manual_seed(seed + 1000)
    decoder = build(encoder.decoder, encoder.n_components, 1, *shape, generator, is_decoder=True)
    decoder.to(encoder._model().device)
    return lambda model, x: [decoder.body(model.posterior_mean(x))]


def reconstruction(X_train, X_test, rebuilt):
    """Quality of reconstructed test rows: the mean over columns, at most 1.

    Accuracy of categories and booleans; for numbers the explained share of variance, at least 0, in
    normal scores of the training column. Missing cells do not count.
    """
    scores = []
    for name in X_test:
        seen = X_test[name].notna().to_numpy()
        real, made = X_test[name][seen], rebuilt[name][seen]
        if not len(real):
            continue
        if not pd.api.types.is_numeric_dtype(real) or X_train[name].nunique() <= 2:
            scores.append((real.astype(str).to_numpy() == made.astype(str).to_numpy()).mean())
            continue
        column = X_train[name].dropna().to_numpy(float)[:, None]
        normal = QuantileTransformer(
            n_quantiles=min(1000, len(column)), output_distribution="normal"
        ).fit(column)
        u, v = (normal.transform(part.to_numpy(float)[:, None]) for part in (real, made))
        if u.var():
            scores.append(max(0.0, 1 - float(((u - v) ** 2).mean() / u.var())))
    return float(np.mean(scores))


def embed_other(arm, seed, X_train, X_test):
    """Features of raw columns ("raw"), or of one of `OTHERS`."""
    meter = Meter()
    raw, model = RawColumns(X_train), FunctionTransformer()
    if arm != "raw":
        columns = raw.transform(X_train)
        width = min(WIDTH, columns.shape[1] - 1, len(columns) - 1)
        model = OTHERS[arm](width).set_params(random_state=seed).fit(columns)
    meter.fitted()
    test = model.transform(raw.transform(X_test))
    cost = meter.transformed(len(X_test), len(pickle.dumps([raw, model])))
    return Features({"": (model.transform(raw.transform(X_train)), test)}, cost)


def embed_rival(arm, seed, X_train, X_test, env_dir, threads):
    """Features of an arm of `benchmarks.rivals`."""
    raw, frames = RawColumns(X_train), (X_train, X_test)
    matrices = [raw.transform(X) for X in frames]
    made, costs = rivals.embed(arm, frames, matrices, seed, env_dir, threads=threads)
    return Features({"": made}, costs)


class Meter:
    """Clock and memory of one fit."""

    def __init__(self):
        self.held, self.start = memory("VmRSS"), time.perf_counter()

    def fitted(self):
        """Record the end of fit."""
        self.fit_s = time.perf_counter() - self.start

    def transformed(self, n_rows, n_bytes):
        """Record the end of transform and return the `COSTS`."""
        rate = n_rows / (time.perf_counter() - self.start - self.fit_s)
        costs = (self.fit_s, rate, memory("VmHWM") - self.held, n_bytes)
        return dict(zip(COSTS, costs, strict=True))
