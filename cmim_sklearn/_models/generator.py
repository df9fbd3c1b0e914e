"""Generator: p(x | z) as `sample` and densities use it, with noise that depends on z.

After training, with all networks frozen, heads are fitted: a linear layer on the last hidden layer
of the decoder, whose outputs turn each Gaussian column into a `GaussianMixture`. No weight that
features depend on changes.

Axes: n rows, d latent components, w units of the last hidden layer, P outputs of the decoder,
H outputs of the heads.
"""

import copy
import math

import numpy as np
import torch
from torch import nn

from cmim_sklearn._likelihoods.gaussian import Gaussian
from cmim_sklearn._likelihoods.gaussian_mixture import GaussianMixture
from cmim_sklearn._likelihoods.joint import JointDensity
from cmim_sklearn._models.heads import Heads, WithHidden, affine
from cmim_sklearn._models.latent_model import LatentModel

CODE_NOISE = {100: -1.0, 700: -1.75, 2800: -2.5, 20_000: -3.25}
"""Log-variance of the codes that the generator is fitted to, by the number of training rows.

It is linear in the logarithm of that number between these, and constant beyond them.
"""
N_STEPS, N_STEPS_ROWS, MIN_STEPS, MAX_STEPS = 600, 2800, 150, 1500
"""Number of training steps for that number of training rows, to which it is in proportion; least
and largest number of steps."""
LEARNING_RATE, WARM_UP_STEPS = 3e-3, 50
FULL_RANK_COLUMNS, RANK, MIN_WIDE_STEPS = 64, 32, 100
"""Maximum number of Gaussian columns whose heads may be any linear layer. With more columns, it has
this rank, so that a file stays small, and fewer steps in proportion, but at least that number."""
MAX_COLUMNS = 256
"""Maximum number of Gaussian columns that have heads. With heads, scores of a table of 784 columns
took 2.6 times as long."""


def code_log_variance(n_rows):
    """Log-variance of the codes that the generator is fitted to; see `CODE_NOISE`."""
    rows = np.log(list(CODE_NOISE))
    return float(np.interp(np.log(n_rows), rows, list(CODE_NOISE.values())))


def n_mixture_steps(n_rows, n_updates, n_columns):
    """Number of training steps of the heads, for a number of training rows and Gaussian columns.

    It is at most the number of updates of the network: one that is hardly trained, as in a search
    or after a first `partial_fit`, is not worth more.
    """
    n_steps = max(MIN_STEPS, min(MAX_STEPS, round(N_STEPS * (n_rows / N_STEPS_ROWS))))
    in_proportion = round(n_steps * min(1, FULL_RANK_COLUMNS / n_columns))
    return min(n_updates, max(MIN_WIDE_STEPS, in_proportion))


class Generator(nn.Module):
    """Decoder and likelihood of a fitted model after training.

    Parameters
    ----------
    model : LatentModel
        Its modules are shared, not copied.
    heads : array of shape (H, w + 1) or (H + w + 1, rank), default=None
        Weights of the heads, and their intercepts in the last column; or their factors, see
        `heads_shape`. None: the decoder and the likelihood of the model.
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


def n_numeric(likelihood):
    """Number of Gaussian columns."""
    return sum(block.n_columns for block in likelihood.blocks if isinstance(block, Gaussian))


def mixtures(likelihood) -> JointDensity:
    """Likelihood with a `GaussianMixture` in place of each Gaussian block."""
    blocks = likelihood.blocks
    return JointDensity([GaussianMixture(b) if isinstance(b, Gaussian) else b for b in blocks])


class HeadedDecoder(nn.Module):
    """Decoder with additional outputs, a linear map of its last hidden layer, in some blocks.

    Parameters
    ----------
    decoder : nn.Module
    heads : Tensor of shape (H, w + 1) or (H + w + 1, rank)
    blocks : list of Density
    """

    def __init__(self, decoder, heads, blocks):
        super().__init__()
        self.decoder, self.heads, self._sizes = WithHidden(decoder), heads, sizes_of(blocks)

    def forward(self, z):
        """Outputs (n, P + H) for codes z (n, d)."""
        outputs, h = self.decoder(z)
        return with_added(self._sizes, outputs, added_outputs(self.heads, self._sizes, h))


def sizes_of(blocks):
    """Numbers of trained outputs of some blocks, and of those that heads add to each."""
    added = [block.n_params - block.n_trained for block in blocks]
    return [block.n_trained for block in blocks], added


def added_outputs(heads, sizes, h):
    """Outputs (n, H) of heads, or of their factors, at the last hidden layer (n, w)."""
    n_outputs = sum(sizes[1])
    if len(heads) == n_outputs:
        return affine(heads, h)
    return affine(heads[n_outputs:].T, h) @ heads[:n_outputs].T


def with_added(sizes, outputs, added):
    """Params (n, P + H), from trained outputs (n, P) and those of heads (n, H), by `sizes_of`."""
    trained, added = (x.split(of, 1) for x, of in zip((outputs, added), sizes, strict=True))
    return torch.cat([part for pair in zip(trained, added, strict=True) for part in pair], 1)


def heads_shape(model: LatentModel):
    """Shape of the heads of a model: (H, w + 1), or (H + w + 1, rank); None if it has none.

    With more than `FULL_RANK_COLUMNS` Gaussian columns, heads are V = U S', and U (H, rank) and
    S (w + 1, rank) lie in one array.

    There are none without a Gaussian column, with more than `MAX_COLUMNS`, without hidden layers,
    since a decoder that is linear in z has no use for them, or with a custom decoder that does
    more than to apply ``output`` to ``body``.
    """
    likelihood, decoder = model.likelihood, model.decoder
    n_columns = n_numeric(likelihood)
    body = decoder.body
    has_layers = isinstance(body, nn.Module) and any(True for _ in body.parameters())
    if not 0 < n_columns <= MAX_COLUMNS or not has_layers:
        return None
    z = torch.ones(2, model.posterior.n_components, dtype=torch.float32, device=model.device)
    with torch.no_grad():
        outputs, h = WithHidden(decoder)(z)
        if not torch.equal(outputs, decoder(z)):
            return None
    n_outputs, n_inputs = mixtures(likelihood).n_params - outputs.shape[1], h.shape[1] + 1
    return (n_outputs, n_inputs) if n_columns <= FULL_RANK_COLUMNS else (n_outputs + n_inputs, RANK)


class MixtureHeads(Heads):
    """Heads of the Gaussian columns, which get a `GaussianMixture`; none of other columns.

    Parameters
    ----------
    model : LatentModel
        In evaluation mode, with a `heads_shape`, on a device with float64; it is not changed.
    cells : array of shape (n, n_cells)
        Training rows, as `Table.measure` returns them.
    n_steps : int
        Number of training steps.
    """

    weight_decay, max_norm, needs_outputs = 1e-4, 50.0, True

    def __init__(self, model: LatentModel, cells, n_steps):
        self._blocks = model.likelihood.blocks
        options = {"dtype": torch.float32, "device": model.device}
        cells = torch.as_tensor(np.asarray(cells), **options)
        sizes = [block.n_columns * block.cell_width for block in self._blocks]
        gaussians = [block for block in self._blocks if isinstance(block, Gaussian)]
        self.likelihood = JointDensity([GaussianMixture(block) for block in gaussians])
        self._sizes = sizes_of(self.likelihood.blocks)
        start = torch.zeros(heads_shape(model), **options)
        # Factors of 0 would both have a gradient of 0.
        basis = start[sum(self._sizes[1]) :]
        basis.normal_(generator=torch.Generator(model.device).manual_seed(0))
        basis /= max(1, len(basis)) ** 0.5
        super().__init__(start, self._of_gaussians(cells, sizes), n_steps)

    def _of_gaussians(self, values, sizes):
        """Values (n, ...) of the Gaussian blocks, out of those of blocks of these sizes."""
        parts = zip(values.split(sizes, 1), self._blocks, strict=True)
        return torch.cat([part for part, block in parts if isinstance(block, Gaussian)], 1)

    def rate(self, step):
        part = min(1, (step + 1) / WARM_UP_STEPS) * (1 + math.cos(math.pi * step / self.n_steps))
        return LEARNING_RATE * (part / 2)

    def params(self, weights, outputs, h):
        trained = self._of_gaussians(outputs, [block.n_params for block in self._blocks])
        return with_added(self._sizes, trained, added_outputs(weights, self._sizes, h))

    def losses(self, params, cells):
        return -self.likelihood.log_density(params, cells).sum(-1).mean(-1)

    def together(self, others):
        together = copy.copy(self)
        each = zip(*(other.likelihood.blocks for other in others), strict=True)
        together.likelihood = JointDensity([_stacked(blocks) for blocks in each])
        return together

    def result(self, weights):
        """Heads or their factors as float16, or None if training diverged, as with extreme values.

        Half precision, since they are a large part of a file.
        """
        heads = weights.half().cpu().numpy()
        return heads if np.isfinite(heads).all() else None


def _stacked(mixtures):
    """Mixture whose params (k, n, P) are those of k models, each with its own noise."""
    block = copy.deepcopy(mixtures[0].block)
    block.deviation = torch.stack([m.block.deviation for m in mixtures])[:, None, None]
    block.leak = torch.stack([m.block.leak for m in mixtures])[:, None]
    return GaussianMixture(block)
