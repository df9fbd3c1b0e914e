"""Who is compared: encoders of the family, with and without contrast, and what users have instead.

An arm makes features of a table's training and test rows without seeing a label. Those of this
library read the DataFrame as it is; the others get raw columns as `benchmarks.linear_probe`
prepares them. Arms of `benchmarks.rivals` run in environments of their own.
"""

import pickle
import resource
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
from benchmarks.linear_probe import raw_matrices
from cmim_sklearn.model import on_rows
from cmim_sklearn.net import ObjectiveLoss
from cmim_sklearn.networks import build
from cmim_sklearn.objectives import contrast, mim

TEMPERATURE = 0.1
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
}
"""Arms of this library, and the class of each."""

WITH_DECODER = ("AE", "cAE", "VAE", "cVAE", "MIM", "cMIM")


class Features(NamedTuple):
    """What an arm made of a table.

    Attributes
    ----------
    matrices : dict of str to (ndarray, ndarray)
        Features of the training and the test rows, by embedding; "" where there is but one.
    cost : dict
        ``fit_s`` seconds, ``transform_rows_s`` rows a second, ``peak_mb`` of fit and transform
        above what was held before, ``bytes`` on disk.
    reconstruction : float
        See `reconstruction`; not a number for arms without a decoder.
    """

    matrices: dict
    cost: dict
    reconstruction: float = np.nan


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
    return cls(random_state=seed).set_params(**params)


def embed_family(arm, seed, X_train, X_test, *, embeddings=(), control=False, **params):
    """Features of an arm of `FAMILY`, in several embeddings, for the cost of one fit.

    ``control`` adds the informative embedding of a decoder whose weights are random.
    """
    torch.manual_seed(seed)  # second_sample draws from the global generator
    encoder = make_encoder(arm, seed, **params)
    meter = Meter()
    encoder.fit(X_train)
    meter.fitted()
    train, test = encoder.transform(X_train), encoder.transform(X_test)
    cost = meter.transformed(len(X_train) + len(X_test))
    cost["bytes"] = len(pickle.dumps(encoder.__getstate__()))
    if not embeddings:
        return Features({getattr(encoder, "embedding", "mean"): (train, test)}, cost)
    matrices = {}
    for name in embeddings:
        encoder.set_params(embedding=name)
        matrices[name] = encoder.transform(X_train), encoder.transform(X_test)
    rebuilt = reconstruction(X_train, X_test, encoder.reconstruct(X_test))
    if control:
        matrices["control"] = random_decoder(encoder, seed, X_train, X_test)
    return Features(matrices, cost, rebuilt)


def random_decoder(encoder, seed, *tables):
    """Informative features of tables, standardised, from a decoder of random weights."""
    model = encoder._model()
    shape = encoder._built["hidden_layer_sizes"], encoder._built["activation"]
    generator = torch.Generator().manual_seed(seed + 1000)
    decoder = build(
        encoder.decoder, encoder.n_components, 1, *shape, generator, is_decoder=True
    ).eval()
    parts = []
    for X in tables:
        encoded = encoder.table_.encode(encoder._read(X, reset=False, min_rows=1))
        parts.append(
            on_rows(model, lambda x: {"h": decoder.body(model.posterior_mean(x))}, encoded)["h"]
        )
    centre, scale = cmim_sklearn.embedding.feature_scale(parts[:1])
    return tuple((part - centre) / scale for part in parts)


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
    "RandomTreesEmbedding": lambda width, seed: RandomTreesEmbedding(random_state=seed),
}
"""Transformers of scikit-learn, on raw columns as prepared for a linear model."""


def embed_other(arm, seed, X_train, X_test):
    """Features of raw columns ("raw"), or of one of `OTHERS`."""
    meter = Meter()
    raw = raw_matrices(X_train, X_test)
    if arm == "raw":
        meter.fitted()
        return Features({"": raw}, meter.transformed(0) | {"bytes": 0})
    width = min(RIVAL_WIDTH, raw[0].shape[1] - 1, len(raw[0]) - 1)
    transformer = OTHERS[arm](width, seed).fit(raw[0])
    meter.fitted()
    matrices = transformer.transform(raw[0]), transformer.transform(raw[1])
    cost = meter.transformed(len(X_train) + len(X_test))
    cost["bytes"] = len(pickle.dumps(transformer))
    return Features({"": matrices}, cost)


class Meter:
    """Seconds, rows a second, and the peak of memory above what was held at the start."""

    def __init__(self):
        self.held, self.start = peak_memory(), time.perf_counter()

    def fitted(self):
        """Call it when fit is done."""
        self.fit_s = time.perf_counter() - self.start

    def transformed(self, n_rows):
        """Call it when so many rows are transformed, for what it all cost."""
        seconds = time.perf_counter() - self.start - self.fit_s
        return {
            "fit_s": self.fit_s,
            "transform_rows_s": n_rows / seconds if n_rows else np.nan,
            "peak_mb": peak_memory() - self.held,
        }


def peak_memory():
    """Peak of this process's resident memory so far, in MB."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
