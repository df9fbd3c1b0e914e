"""Generator: p(x | z) as `sample` and densities use it, with noise that depends on z.

After training, with all networks frozen, heads are fitted: a linear layer on the last hidden layer
of the decoder, whose outputs turn each Gaussian column into a `GaussianMixture`. No weight that
features depend on changes.

Axes: n rows, d latent components, w units of the last hidden layer, P outputs of the decoder,
H outputs of the heads.
"""

import math

import numpy as np
import torch
from torch import nn
from torch.nn.functional import linear

from cmim_sklearn._likelihoods.gaussian import Gaussian
from cmim_sklearn._likelihoods.gaussian_mixture import GaussianMixture
from cmim_sklearn._likelihoods.joint import JointDensity
from cmim_sklearn._models.encoding_model import exact_model
from cmim_sklearn._models.latent_model import LatentModel
from cmim_sklearn._models.latent_prior import LatentPrior, NoisyCodes

CODE_NOISE = {100: -1.0, 700: -1.75, 2800: -2.5, 20_000: -3.25}
"""Log-variance of the codes that the generator is fitted to, by the number of training rows.

It is linear in the logarithm of that number between these, and constant beyond them.
"""
N_STEPS, N_STEPS_ROWS, MIN_STEPS, MAX_STEPS = 600, 2800, 150, 1500
"""Number of training steps for that number of training rows, to which it is in proportion; least
and largest number of steps."""
BATCH_ROWS, WARM_UP_STEPS = 256, 50
LEARNING_RATE, WEIGHT_DECAY, MAX_NORM = 3e-3, 1e-4, 50.0
MAX_COLUMNS = 64
"""Maximum number of Gaussian columns that have heads: the heads of wider tables would take more
space and time than the network."""


def code_log_variance(n_rows):
    """Log-variance of the codes that the generator is fitted to; see `CODE_NOISE`."""
    rows = np.log(list(CODE_NOISE))
    return float(np.interp(np.log(n_rows), rows, list(CODE_NOISE.values())))


def n_steps_for(n_rows, n_updates):
    """Number of training steps of the heads, for a number of training rows.

    It is at most the number of updates of the network: one that is hardly trained, as in a search
    or after a first `partial_fit`, is not worth more.
    """
    n_steps = round(N_STEPS * (n_rows / N_STEPS_ROWS))
    return min(n_updates, max(MIN_STEPS, min(MAX_STEPS, n_steps)))


class Generator(nn.Module):
    """Decoder and likelihood of a fitted model after training.

    Parameters
    ----------
    model : LatentModel
        Its modules are shared, not copied.
    heads : array of shape (H, w + 1), default=None
        Weights of the heads, and their intercepts in the last column. None: the decoder and the
        likelihood of the model.
    missing : MissingCells, default=None
        Adds a last block of cells: 1 if a cell is missing, 0 if not.

    Attributes
    ----------
    decoder : nn.Module
        (n, d) -> (n, likelihood.n_params).
    trained : nn.Module
        `decoder` without the heads.
    likelihood : JointDensity
    device : torch.device
    """

    def __init__(self, model: LatentModel, heads=None, missing=None):
        super().__init__()
        self.device = model.device
        self.decoder = self.trained = model.decoder
        self.likelihood = model.likelihood
        if heads is not None:
            self.likelihood = mixtures(model.likelihood)
            heads = torch.as_tensor(np.asarray(heads, np.float32), device=self.device)
            self.decoder = HeadedDecoder(model.decoder, heads, self.likelihood.blocks)
        if missing is not None:
            blocks = [*self.likelihood.blocks, missing.likelihood().to(self.device)]
            self.likelihood = JointDensity(blocks)
            self.decoder, self.trained = (
                missing.join(decoder, model.decoder.body).to(self.device)
                for decoder in (self.decoder, model.decoder)
            )


def mixtures(likelihood) -> JointDensity:
    """Likelihood with a `GaussianMixture` in place of each Gaussian block."""
    blocks = likelihood.blocks
    return JointDensity([GaussianMixture(b) if isinstance(b, Gaussian) else b for b in blocks])


class HeadedDecoder(nn.Module):
    """Decoder with additional outputs, a linear map of its last hidden layer, in some blocks.

    Parameters
    ----------
    decoder : nn.Module
    heads : Tensor of shape (H, w + 1)
    blocks : list of Density
    """

    def __init__(self, decoder, heads, blocks):
        super().__init__()
        self.decoder, self.heads = decoder, heads
        self._trained = [block.n_trained for block in blocks]
        self._added = [block.n_params - block.n_trained for block in blocks]

    def forward(self, z):
        """Outputs (n, P + H) for codes z (n, d)."""
        return self.join(*outputs_and_hidden(self.decoder, z))

    def join(self, outputs, h):
        """Outputs (n, P + H) from those of the decoder (n, P), and its last hidden layer (n, w)."""
        added = linear(h, self.heads[:, :-1], self.heads[:, -1])
        parts = zip(outputs.split(self._trained, 1), added.split(self._added, 1), strict=True)
        return torch.cat([part for pair in parts for part in pair], 1)


def heads_shape(model: LatentModel):
    """Shape (H, w + 1) of the heads of a model; None if it has none.

    There are none without a Gaussian column, with more than `MAX_COLUMNS`, without hidden layers,
    since a decoder that is linear in z has no use for them, or with a custom decoder that does
    more than to apply ``output`` to ``body``.
    """
    likelihood, decoder = model.likelihood, model.decoder
    n_columns = sum(b.n_columns for b in likelihood.blocks if isinstance(b, Gaussian))
    body = decoder.body
    has_layers = isinstance(body, nn.Module) and any(True for _ in body.parameters())
    if not 0 < n_columns <= MAX_COLUMNS or not has_layers:
        return None
    z = torch.ones(2, model.posterior.n_components, dtype=torch.float32, device=model.device)
    with torch.no_grad():
        outputs, h = outputs_and_hidden(decoder, z)
        if not torch.equal(outputs, decoder(z)):
            return None
    return mixtures(likelihood).n_params - outputs.shape[1], h.shape[1] + 1


def outputs_and_hidden(decoder, z):
    """Outputs (n, P) of a decoder for codes z (n, d), and its last hidden layer as (n, w)."""
    h = decoder.body(z)
    return decoder.output(h), h.flatten(1)


def fit_heads(model: LatentModel, prior: LatentPrior, codes, noise, cells, n_steps, seed):
    """Fit heads by maximum likelihood at the codes of rows with noise.

    Parameters
    ----------
    model : LatentModel
        In evaluation mode; it is not changed.
    prior : LatentPrior
    codes : array of shape (n, d)
        Posterior means of the rows.
    noise : array of shape (d,)
        Variance of the noise.
    cells : array of shape (n, n_cells)
        The same rows, as `Table.measure` returns them.
    n_steps : int
        Number of training steps.
    seed : int

    Returns
    -------
    array of shape (H, w + 1), float16, or None
        Half precision, since they are a large part of a file. None if `heads_shape` is None, or
        if training diverges, as it may with extreme values.
    """
    shape = heads_shape(model)
    if shape is None:
        return None
    model = exact_model(model)
    device = model.device
    blocks = model.likelihood.blocks

    def of_gaussians(values, sizes):
        parts = zip(values.split(sizes, 1), blocks, strict=True)
        return torch.cat([part for part, block in parts if isinstance(block, Gaussian)], 1)

    cells = torch.as_tensor(np.asarray(cells), dtype=torch.float32, device=device)
    cells = of_gaussians(cells, [block.n_columns * block.cell_width for block in blocks])
    n_outputs = [block.n_params for block in blocks]
    heads = torch.zeros(shape, dtype=torch.float32, device=device, requires_grad=True)
    # Heads change nothing in the other blocks.
    likelihood = JointDensity([GaussianMixture(b) for b in blocks if isinstance(b, Gaussian)])
    decoder = HeadedDecoder(model.decoder, heads, likelihood.blocks)
    optimizer = torch.optim.AdamW([heads], LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    batches = NoisyCodes(prior, codes, noise, device, seed)
    for step in range(n_steps):
        rows, z = batches.draw(BATCH_ROWS)
        with torch.no_grad():
            outputs, h = outputs_and_hidden(model.decoder, z)
        params = decoder.join(of_gaussians(outputs, n_outputs), h)
        loss = -likelihood.log_density(params, cells[rows]).sum(1).mean()
        (heads.grad,) = torch.autograd.grad(loss, [heads])
        nn.utils.clip_grad_norm_([heads], MAX_NORM)
        rate = min(1, (step + 1) / WARM_UP_STEPS) * (1 + math.cos(math.pi * step / n_steps)) / 2
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * rate
        optimizer.step()
    heads = heads.detach().half().cpu().numpy()
    return heads if np.isfinite(heads).all() else None
