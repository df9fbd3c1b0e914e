"""Who is compared: encoders of the family, with and without contrast, and what users have instead.

An arm makes features of a table's training and test rows without seeing a label. Those of this
library read the DataFrame as it is; the others get raw columns as `benchmarks.linear_probe`
prepares them. Arms of `benchmarks.rivals` run in environments of their own.
"""

import pickle
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import RandomTreesEmbedding
from sklearn.preprocessing import QuantileTransformer

import cmim_sklearn
from benchmarks import rivals
from benchmarks.linear_probe import RawColumns
from cmim_sklearn._models.features import feature_scale, hidden_states
from cmim_sklearn._models.inference import on_rows
from cmim_sklearn._training.net import ObjectiveLoss
from cmim_sklearn.networks import build
from cmim_sklearn.objectives import contrast, mim

TEMPERATURE = cmim_sklearn.CMIMEncoder().temperature
RIVAL_WIDTH = 32

FAMILY = {
    "AE": "AEEncoder",
    "VAE": "VAEEncoder",
    "MIM": "MIMEncoder",
    "cMIM": "CMIMEncoder",
    "cAE": "AEEncoder",
    "cVAE": "VAEEncoder",
    "cMIM, second sample": "CMIMEncoder",
    "InfoNCE": "InfoNCEEncoder",
    "VICReg": "VICRegEncoder",
    "BarlowTwins": "BarlowTwinsEncoder",
    "untrained": "CMIMEncoder",
}
"""Arms of this library, and the class of each."""

WITHOUT_DECODER = ("InfoNCE", "VICReg", "BarlowTwins")
COSTS = ("fit_s", "transform_rows_s", "peak_mb", "bytes")


class Features(NamedTuple):
    """What an arm made of a table.

    Attributes
    ----------
    matrices : dict of str to (ndarray, ndarray)
        Features of the training and the test rows, by embedding; "" where there is but one.
    cost : dict
        The `COSTS`: seconds to fit, test rows transformed in a second, both with the preparation of
        columns; peak of memory above what was held before, in MB; size of what was fitted.
    reconstruction : float
        See `reconstruction`; not a number for arms without a decoder.
    loss, contrast : float
        The whole loss and the contrastive term at the last epoch, in nats a row; not a number where
        there is none.
    """

    matrices: dict
    cost: dict
    reconstruction: float = np.nan
    loss: float = np.nan
    contrast: float = np.nan


def with_contrast(loss):
    """A sibling's loss with the contrastive term of cMIM added, at weight 1."""

    def objective(batch, **options):
        terms = loss.objective(batch, **options)
        return {**terms, "contrast": contrast(batch.z, TEMPERATURE)}

    return ObjectiveLoss(objective, **loss.options)


def second_sample(batch):
    """cMIM whose positive is a second draw from the posterior, not the code itself.

    minus log e^{s_ii} / (e^{s_ii} + mean_{j != i} e^{s_ij}) with s_ij = cos(z_i, z'_j) / tau.
    """
    z = torch.nn.functional.normalize(batch.z, dim=1)
    other = torch.nn.functional.normalize(batch.posterior.rsample(), dim=1)
    s = z @ other.T / TEMPERATURE
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    log_mean = s.masked_fill(itself, -torch.inf).logsumexp(1) - np.log(max(1, len(z) - 1))
    return {**mim(batch), "contrast": torch.nn.functional.softplus(log_mean - s.diagonal())}


def make_encoder(arm, seed, **params):
    """The unfitted encoder of an arm of `FAMILY`."""
    cls = getattr(cmim_sklearn, FAMILY[arm])
    if arm in ("cAE", "cVAE"):

        class WithContrast(cls):
            def _objective(self, model, seed):
                return with_contrast(super()._objective(model, seed))

        cls = WithContrast
    if arm == "cMIM, second sample":

        class SecondSample(cls):
            def _objective(self, model, seed):
                return ObjectiveLoss(second_sample)

        cls = SecondSample
    if arm == "untrained":
        params = params | {"max_iter": 1, "learning_rate_init": 1e-12}
    return cls(random_state=seed).set_params(**params)


def embed_family(arm, seed, X_train, X_test, *, embeddings=("mean",), **params):
    """Features of an arm of `FAMILY`, in several embeddings, for the cost of one fit.

    Arms without a decoder have "layers", hidden layers and code of the encoder, and "mean". Others
    have "control" besides their own: the informative embedding of a decoder of random weights.
    """
    torch.manual_seed(seed)  # second_sample draws from the global generator
    encoder = make_encoder(arm, seed, **params)
    meter = Meter()
    encoder.fit(X_train)
    meter.fitted()
    encoder.transform(X_test)
    cost = meter.transformed(len(X_test), len(pickle.dumps(encoder.__getstate__())))
    matrices, has_decoder = {}, arm not in WITHOUT_DECODER
    for name in embeddings:
        if has_decoder and name != "control":
            encoder.set_params(embedding=name)
        if name == "mean" or (has_decoder and name != "control"):
            matrices[name] = encoder.transform(X_train), encoder.transform(X_test)
        elif name == "layers":
            matrices[name] = own_features(encoder, encoder_layers, X_train, X_test)
        elif name == "control" and has_decoder:
            layers = random_decoder(encoder, seed)
            matrices[name] = own_features(encoder, layers, X_train, X_test)
    rebuilt = np.nan
    if has_decoder:
        rebuilt = reconstruction(X_train, X_test, encoder.reconstruct(X_test))
    last = encoder.net_.history[-1]
    return Features(matrices, cost, rebuilt, last["train_loss"], last.get("train_contrast", np.nan))


def own_features(encoder, layers, *tables):
    """Features of tables from layers that no encoder of the library gives, scaled as its own.

    ``layers`` makes a list of tensors (n, w) from a model and encoded rows.
    """
    model, made = encoder._model(), []
    for X in tables:
        encoded = encoder.table_.encode(encoder._read(X, reset=False, min_rows=1))
        parts = on_rows(model, lambda x: dict(enumerate(layers(model, x))), encoded)
        made.append(list(parts.values()))
    centre, scale = feature_scale(made[0])
    return tuple((np.concatenate(parts, 1) - centre) / scale for parts in made)


def encoder_layers(model, x):
    """The hidden layers of an encoder, and the code."""
    states = hidden_states(model.encoder, model.likelihood.inputs(x))
    return [*states, model.posterior_mean(x)]


def random_decoder(encoder, seed):
    """The last hidden layer of a decoder like an encoder's own, its weights never trained."""
    shape = encoder._built["hidden_layer_sizes"], encoder._built["activation"]
    generator = torch.Generator().manual_seed(seed + 1000)
    decoder = build(encoder.decoder, encoder.n_components, 1, *shape, generator, is_decoder=True)
    decoder.to(encoder._model().device)
    return lambda model, x: [decoder.body(model.posterior_mean(x))]


def reconstruction(X_train, X_test, rebuilt):
    """How well test rows came back from their codes: the mean over columns, at most 1.

    Accuracy for categories and booleans; for numbers the share of variance explained in normal
    scores of the training column, and 0 where it is below. Missing cells do not count.
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
        to_normal = QuantileTransformer(
            n_quantiles=min(1000, len(column)), output_distribution="normal"
        ).fit(column)
        u, v = (to_normal.transform(part.to_numpy(float)[:, None]) for part in (real, made))
        variance = u.var()
        if variance:
            scores.append(max(0.0, 1 - float(((u - v) ** 2).mean() / variance)))
    return float(np.mean(scores))


OTHERS = {
    "PCA": lambda width, seed: PCA(width, random_state=seed),
    "TruncatedSVD": lambda width, seed: TruncatedSVD(width, random_state=seed),
    "RandomTreesEmbedding": lambda width, seed: RandomTreesEmbedding(
        sparse_output=False, random_state=seed
    ),
}
"""Transformers of scikit-learn, on raw columns as prepared for a linear model."""


def embed_other(arm, seed, X_train, X_test):
    """Features of raw columns ("raw"), or of one of `OTHERS`."""
    meter = Meter()
    steps = [RawColumns(X_train)]
    if arm != "raw":
        columns = steps[0].transform(X_train)
        width = min(RIVAL_WIDTH, columns.shape[1] - 1, len(columns) - 1)
        steps.append(OTHERS[arm](width, seed).fit(columns))
    meter.fitted()

    def transform(X):
        for step in steps:
            X = step.transform(X)
        return X

    test = transform(X_test)
    cost = meter.transformed(len(X_test), len(pickle.dumps(steps)))
    return Features({"": (transform(X_train), test)}, cost)


def embed_rival(arm, seed, X_train, X_test, env_dir, threads):
    """Features of an arm of `benchmarks.rivals`."""
    raw = RawColumns(X_train)
    columns = raw.transform(X_train), raw.transform(X_test)
    made = rivals.embed(arm, X_train, X_test, *columns, seed, env_dir, threads=threads)
    return Features({"": (made.train, made.test)}, {name: getattr(made, name) for name in COSTS})


class Meter:
    """Seconds, rows a second, and the peak of memory above what was held at the start."""

    def __init__(self):
        self.held, self.start = memory("VmRSS"), time.perf_counter()

    def fitted(self):
        """Call it when fit is done."""
        self.fit_s = time.perf_counter() - self.start

    def transformed(self, n_rows, n_bytes):
        """Call it when so many rows are transformed, for the `COSTS`."""
        seconds = time.perf_counter() - self.start - self.fit_s
        return {
            "fit_s": self.fit_s,
            "transform_rows_s": n_rows / seconds,
            "peak_mb": memory("VmHWM") - self.held,
            "bytes": n_bytes,
        }


def memory(which):
    """Resident memory of this process in MB: now ("VmRSS"), or its peak so far ("VmHWM")."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(which)).split()[1]) / 1024
