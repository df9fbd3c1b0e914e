"""Missing cells as data: p(missing | z) of the columns that had missing cells in fit.

After training, with all networks frozen, a logistic regression on the decoder's last hidden layer
is fitted for each of these columns, at the codes of the rows. Given z, cells are missing
independently of each other and of all values.

Axes: n rows, M columns, d latent components, w units of the last hidden layer.
"""

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, linear

from cmim_sklearn._likelihoods.bernoulli import Bernoulli
from cmim_sklearn._models.latent_model import LatentModel
from cmim_sklearn._models.latent_prior import LatentPrior

N_STEPS, BATCH_ROWS, WARM_UP_STEPS = 300, 256, 30
LEARNING_RATE = 1e-2
N_USUAL, N_BISECTIONS, MAX_LOGIT = 10_000, 40, 20.0
"""Number of codes from the prior at which the intercepts are set, and steps and range of that."""


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
        return DecoderWithMissing(decoder, body, self.weights)


class DecoderWithMissing(nn.Module):
    """Decoder that returns M logits of missing cells after its outputs.

    Parameters
    ----------
    decoder : nn.Module
        (n, d) -> (n, P).
    body : nn.Module
        (n, d) -> (n, ...), w numbers of the last hidden layer.
    weights : array of shape (M, w + 1)
    """

    def __init__(self, decoder, body, weights):
        super().__init__()
        self.decoder, self.body = decoder, body
        self.register_buffer("weights", torch.as_tensor(weights, dtype=torch.float32))

    def forward(self, z):
        """Outputs (n, P + M) for codes z (n, d)."""
        logits = linear(self.body(z).flatten(1), self.weights[:, :-1], self.weights[:, -1])
        return torch.cat([self.decoder(z), logits], 1)


def fit_missing(model: LatentModel, prior: LatentPrior, codes, noise, is_missing, seed):
    """Fit `MissingCells` to the codes of rows, with noise.

    The intercepts are then set so that generated rows lack as many cells as the rows do.

    Parameters
    ----------
    model : LatentModel
        In evaluation mode; it is not changed.
    prior : LatentPrior
    codes : array of shape (n, d)
        Posterior means of the rows.
    noise : array of shape (d,)
        Variance of the noise.
    is_missing : array of shape (n, n_columns), bool
        Missing cells of the same rows.
    seed : int

    Returns
    -------
    MissingCells or None
        Of the columns in which some cells are missing, not all; None if there are none.
    """
    share = is_missing.mean(0)
    columns = np.flatnonzero((share > 0) & (share < 1))
    if not len(columns):
        return None
    options = {"dtype": torch.float32, "device": model.device}
    codes, deviation, target, share = (
        torch.as_tensor(np.asarray(part), **options)
        for part in (codes, np.sqrt(noise), is_missing[:, columns], share[columns])
    )
    centre, basis = (torch.as_tensor(part, **options) for part in (prior.centre, prior.basis))
    body = model.decoder.body
    usual = torch.as_tensor(prior.sample(N_USUAL, np.random.default_rng(seed)), **options)
    with torch.no_grad():
        usual = body(usual).flatten(1)
    weights = torch.zeros(len(columns), usual.shape[1] + 1, **options)
    weights[:, -1] = torch.logit(share)
    weights.requires_grad_()
    generator = torch.Generator(model.device).manual_seed(seed)
    optimizer = torch.optim.AdamW([weights], LEARNING_RATE)
    for step in range(N_STEPS):
        rows = torch.randint(len(codes), (BATCH_ROWS,), generator=generator, device=model.device)
        z = codes[rows]
        z = z + deviation * torch.randn(z.shape, generator=generator, **options)
        with torch.no_grad():  # only directions in which the prior varies
            h = body(centre + (z - centre) @ basis @ basis.T).flatten(1)
        found = linear(h, weights[:, :-1], weights[:, -1])
        loss = binary_cross_entropy_with_logits(found, target[rows], reduction="sum") / BATCH_ROWS
        (weights.grad,) = torch.autograd.grad(loss, [weights])
        warm, left = min(1.0, (step + 1) / WARM_UP_STEPS), 1 - step / N_STEPS
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * warm * left
        optimizer.step()
    weights = weights.detach().half().float()  # half precision, as in a file
    slopes = usual @ weights[:, :-1].T
    low, high = torch.full_like(share, -MAX_LOGIT), torch.full_like(share, MAX_LOGIT)
    low, high = low - slopes.max(0).values, high - slopes.min(0).values
    for _ in range(N_BISECTIONS):
        middle = (low + high) / 2
        is_low = torch.sigmoid(slopes + middle).mean(0) < share
        low, high = torch.where(is_low, middle, low), torch.where(is_low, high, middle)
    weights[:, -1] = (low + high) / 2
    weights = weights.half().cpu().numpy()
    return MissingCells(columns, weights) if np.isfinite(weights).all() else None
