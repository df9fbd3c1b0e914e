"""Missing cells as data: p(missing | z) of the columns that had missing cells in fit.

After training, with all networks frozen, a logistic regression on the decoder's last hidden layer
is fitted for each of these columns, at the codes of the rows. Given z, cells are missing
independently of each other and of all values.

Axes: n rows, M columns, d latent components, w units of the last hidden layer.
"""

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from cmim_sklearn._likelihoods.bernoulli import Bernoulli
from cmim_sklearn._models.heads import Heads, affine
from cmim_sklearn._models.latent_model import LatentModel
from cmim_sklearn._models.latent_prior import LatentPrior

N_STEPS, MIN_STEPS, N_STEPS_COLUMNS = 300, 100, 256
"""Number of training steps for up to `N_STEPS_COLUMNS` columns, fewer in proportion beyond, and its
minimum: a step of many columns takes longer."""
LEARNING_RATE, WARM_UP_STEPS = 1e-2, 30
N_USUAL, N_NEWTON = 2000, 10
"""Number of codes from the prior at which the intercepts are set, and of steps to do so."""
LEAST_SHARE, LEAST_SLOPE, MAX_CHANGE = 1e-6, 0.1, 5.0
"""Bounds that keep these steps finite."""


class MissingCells:
    """Which cells of a row are missing, given its code: one Bernoulli for each of M columns.

    Parameters
    ----------
    columns : sequence of M ints
        Positions of the columns in the raw table, ascending.
    weights : array of shape (M, w + 1), float16
        Logistic regressions on the last hidden layer; the intercepts are last.
    """

    def __init__(self, columns, weights):
        self.columns, self.weights = [int(p) for p in columns], np.asarray(weights)

    def state(self):
        """Return the constructor's arguments as JSON values and arrays."""
        return {"columns": self.columns, "weights": self.weights}

    def likelihood(self):
        """Bernoulli block of M cells: 1 if missing, 0 if not."""
        n_columns = len(self.columns)
        return Bernoulli([(0.0, 1.0)] * n_columns, np.ones(n_columns))

    def join(self, decoder, body):
        """Decoder that returns M logits, computed on its hidden layers, after other outputs."""
        return DecoderWithMissing(decoder, MissingDecoder(body, self.weights))

    def sampler(self, model, seed):
        """Function that samples which cells are missing, 1 or 0, (n, M), at codes z (n, d).

        It has its own random numbers: values that are sampled, too, do not depend on it.
        """
        decoder = MissingDecoder(model.decoder.body, self.weights).to(model.device)
        likelihood = self.likelihood()
        generator = torch.Generator(model.device).manual_seed(seed + 1)
        return lambda z: likelihood.sample(decoder(z), generator)


class DecoderWithMissing(nn.Module):
    """Decoder that returns M logits of missing cells after its outputs.

    Parameters
    ----------
    decoder : nn.Module
        (n, d) -> (n, P).
    missing : MissingDecoder
    """

    def __init__(self, decoder, missing):
        super().__init__()
        self.decoder, self.missing = decoder, missing

    def forward(self, z):
        """Outputs (n, P + M) for codes z (n, d)."""
        return torch.cat([self.decoder(z), self.missing(z)], 1)


class MissingDecoder(nn.Module):
    """Logits of M missing cells.

    Parameters
    ----------
    body : nn.Module
        (n, d) -> (n, ...), w numbers of the last hidden layer.
    weights : array of shape (M, w + 1)
    """

    def __init__(self, body, weights):
        super().__init__()
        self.body = body
        self.register_buffer("weights", torch.as_tensor(weights, dtype=torch.float32))

    def forward(self, z):
        """Logits (n, M) for codes z (n, d)."""
        return affine(self.weights, self.body(z).flatten(1))


def n_steps_for(n_columns, n_updates):
    """Number of training steps for M columns; at most the number of updates of the network."""
    return min(n_updates, max(MIN_STEPS, round(N_STEPS * min(1, N_STEPS_COLUMNS / n_columns))))


def sometimes_missing(share):
    """Positions of the columns in which some cells are missing, not all, by their shares."""
    return np.flatnonzero((share > 0) & (share < 1))


class MissingHeads(Heads):
    """Logistic regressions, one for each of M columns.

    Parameters
    ----------
    model : LatentModel
        In evaluation mode; it is not changed.
    prior : LatentPrior
    columns : array of shape (M,)
        Positions of the columns, as `sometimes_missing` returns them; at least one.
    is_missing : array of shape (n, n_columns), bool
        Missing cells of the training rows.
    share : array of shape (n_columns,)
        Share of missing cells in all rows of the table.
    n_updates : int
        Number of updates of the network in training.
    seed : int
    """

    weight_decay = 1e-2

    def __init__(
        self, model: LatentModel, prior: LatentPrior, columns, is_missing, share, n_updates, seed
    ):
        self._columns, options = columns, {"dtype": torch.float32, "device": model.device}
        cells, self._share = (
            torch.as_tensor(np.asarray(part), **options)
            for part in (is_missing[:, columns], share[columns])
        )
        usual = torch.as_tensor(prior.sample(N_USUAL, np.random.default_rng(seed)), **options)
        with torch.no_grad():
            self._usual = model.decoder.body(usual).flatten(1)
        start = torch.zeros(len(columns), self._usual.shape[1] + 1, **options)
        start[:, -1] = torch.logit(self._share)
        super().__init__(start, cells, n_steps_for(len(columns), n_updates))

    def rate(self, step):
        warm, left = min(1.0, (step + 1) / WARM_UP_STEPS), 1 - step / self.n_steps
        return LEARNING_RATE * warm * left

    def losses(self, params, cells):
        loss = binary_cross_entropy_with_logits(params, cells, reduction="none")
        return loss.sum(-1).mean(-1)

    def result(self, weights):
        """`MissingCells`, or None if training diverged.

        The intercepts are set so that generated rows lack as many cells as the table does.
        """
        weights = weights.half().float()  # half precision, as in a file
        weights[:, -1] = intercepts(self._usual @ weights[:, :-1].T, weights[:, -1], self._share)
        weights = weights.half().cpu().numpy()
        return MissingCells(self._columns, weights) if np.isfinite(weights).all() else None


def intercepts(logits, start, share):
    """Intercepts (M,) with which the mean probability over logits (n, M) is a share (M,).

    These are Newton steps on the logit of the mean, which is nearly linear in the intercept.
    """
    found = start
    for _ in range(N_NEWTON):
        p = torch.sigmoid(logits + found)
        mean = p.mean(0).clamp(LEAST_SHARE, 1 - LEAST_SHARE)
        slope = (p * (1 - p)).mean(0) / (mean * (1 - mean))
        change = (torch.logit(share) - torch.logit(mean)) / slope.clamp(min=LEAST_SLOPE)
        found = found + change.clamp(-MAX_CHANGE, MAX_CHANGE)
    return found
