"""Latent variable model: encoder, posterior, decoder and likelihood of a row.

Axes: n rows, C columns, d latent components, P decoder outputs.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from cmim_sklearn._likelihoods.joint import Joint
from cmim_sklearn._models.encoding_model import EncodingModel
from cmim_sklearn._models.labels import LABEL_COLUMNS, decode
from cmim_sklearn.latents import DiagonalNormal, standard_normal


class Pass(NamedTuple):
    """Forward pass of one batch of n rows: the input of every objective.

    Attributes
    ----------
    z : Tensor of shape (n, d)
        Latent codes, one reparametrised sample of q(z | x) per row.
    posterior, prior : DiagonalNormal
        q(z | x) and the anchor P(z), one per row.
    log_px : Tensor of shape (n, C)
        log p(x_c | z) in nats, one per cell, not summed; 0 in missing cells. For text, one per
        token, 0 at padding.
    inputs : Tensor of shape (n, W) or None, default=None
        Inputs of the encoder, where the objective needs them.
    rows : bool Tensor of shape (n,) or None, default=None
        Rows that count; the others fill up the batch, and a term that compares rows leaves them
        out. None: all rows count.
    label : Tensor of shape (n,) or None, default=None
        Weighted label term, which the loss adds; 0 in rows without a label. None: no labels.
    """

    z: Tensor
    posterior: DiagonalNormal
    prior: DiagonalNormal
    log_px: Tensor
    inputs: Tensor | None = None
    rows: Tensor | None = None
    label: Tensor | None = None


class GenerationNoise(NamedTuple):
    """Random numbers for generating n rows from the model and encoding them.

    Attributes
    ----------
    z : Tensor of shape (n, d)
        Latent codes from the anchor P(z).
    variance : Tensor of shape (n, 1)
        As in `Noise`.
    generator : torch.Generator
        Generator of the samples from p(x | z).
    """

    z: Tensor
    variance: Tensor
    generator: torch.Generator


class Noise(NamedTuple):
    """Random numbers of one forward pass over n rows, drawn before it.

    Attributes
    ----------
    code : Tensor of shape (n, d)
        Standard normal.
    variance : Tensor of shape (n, 1)
        Uniform on [0, 1), for a posterior that samples its variance.
    mask : Tensor of shape (n, C) or None
        True in cells that are hidden from the encoder.
    generation : GenerationNoise or None, default=None
        Noise of n generated rows, for a symmetric objective.
    """

    code: Tensor
    variance: Tensor
    mask: Tensor | None
    generation: GenerationNoise | None = None


class LatentModel(EncodingModel):
    """Encoder, posterior, decoder and likelihood, trained together.

    Parameters
    ----------
    encoder : nn.Module
        (n, likelihood.n_inputs) -> (n, d * posterior.outputs_per_component).
    posterior : Posterior
    decoder : nn.Module
        (n, d) -> (n, likelihood.n_params), with submodules ``body`` and ``output``.
    likelihood : Joint
    input_masking : float, default=0.0
        Share of cells that are hidden from the encoder in training. The likelihood sees them.
    symmetric : bool, default=False
        Whether `forward`, in training, also passes the same number of generated rows: z from P(z),
        x from p(x | z). This needs samples of x with a gradient, so all columns must be Gaussian.

    Attributes
    ----------
    labels : LabelHead or None
        If set, rows have `LABEL_COLUMNS` after those of the table, which only the head sees.
    """

    has_decoder = True

    def __init__(
        self, encoder, posterior, decoder, likelihood: Joint, input_masking=0.0, symmetric=False
    ):
        super().__init__()
        self.encoder = encoder
        self.posterior = posterior
        self.decoder = decoder
        self.likelihood = likelihood
        self.input_masking = input_masking
        self.symmetric = symmetric
        self.labels = None

    def draw_noise(self, x, generator) -> Noise:
        """See `EncodingModel.draw_noise`."""
        n, options = len(x), {"generator": generator, "dtype": x.dtype, "device": x.device}
        mask = None
        if self.input_masking > 0:
            mask = torch.rand((n, self.likelihood.n_columns), **options) < self.input_masking
        width = self.posterior.n_components
        code = torch.randn((n, width), **options)
        variance = torch.rand((n, 1), **options)
        generation = None
        if self.symmetric and self.training:
            z, its_variance = torch.randn((n, width), **options), torch.rand((n, 1), **options)
            generation = GenerationNoise(z, its_variance, generator)
        return Noise(code, variance, mask, generation)

    def forward(self, x, noise: Noise) -> Pass:
        """Encode rows x (n, C), sample their codes, decode and score them."""
        if self.labels is not None:
            x, columns = x[:, :-LABEL_COLUMNS], x[:, -LABEL_COLUMNS:]
        # NOTE[paper] The papers have no input_masking; with 0 the encoder sees every observed cell.
        seen = x if noise.mask is None else x.masked_fill(noise.mask, torch.nan)
        inputs = self.likelihood.inputs(seen)
        posterior = self.posterior(self.encoder(inputs), noise.variance)
        z = posterior.rsample(noise.code)
        if self.labels is None:
            params, label = self.decoder(z), None
        else:
            params, h = decode(self.decoder, z)
            label = self.labels(h, columns)
        log_px = self.likelihood.log_prob(params, x)
        batch = Pass(z, posterior, standard_normal(z), log_px, inputs, label=label)
        if noise.generation is None:
            return batch
        return concatenate(batch, self._pass_generated(noise.generation))

    def _pass_generated(self, noise: GenerationNoise) -> Pass:
        """Generate rows, with gradients through them, and encode and score them."""
        params = self.decoder(noise.z)
        x = self.likelihood.rsample(params, noise.generator)
        inputs = self.likelihood.inputs(x)
        posterior = self.posterior(self.encoder(inputs), noise.variance)
        log_px = self.likelihood.log_prob(params, x)
        return Pass(noise.z, posterior, standard_normal(noise.z), log_px, inputs)

    def reconstruction_log_prob(self, x) -> Tensor:
        """Compute log p(x | z) of every cell, (n, C), at the posterior means of encoded rows x."""
        return self.likelihood.log_prob(self.decoder(self.posterior_mean(x)), x)


def concatenate(first: Pass, second: Pass) -> Pass:
    """Concatenate the rows of two passes; the second one has no labels."""

    def cat(a, b):
        return torch.cat([a, b])

    posterior = DiagonalNormal(
        cat(first.posterior.mean, second.posterior.mean),
        cat(
            first.posterior.log_variance.expand(len(first.z), -1),
            second.posterior.log_variance.expand(len(second.z), -1),
        ),
    )
    z = cat(first.z, second.z)
    log_px, inputs = cat(first.log_px, second.log_px), cat(first.inputs, second.inputs)
    label = first.label
    if label is not None:  # generated rows have none
        label = cat(label, label.new_zeros(len(second.z)))
    return Pass(z, posterior, standard_normal(z), log_px, inputs, label=label)
