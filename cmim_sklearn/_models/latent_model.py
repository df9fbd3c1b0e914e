"""The probabilistic auto-encoder: encoder, posterior, decoder, likelihood; a batch in, a Pass out.

Axes: n rows, C columns, d latent components, P decoder outputs.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cmim_sklearn._likelihoods.joint import Joint
from cmim_sklearn.latents import DiagonalNormal, standard_normal


class Pass(NamedTuple):
    """All that an objective may see of one batch.

    Attributes
    ----------
    z : Tensor of shape (n, d)
        Codes, one reparametrised draw from the posterior for each row.
    posterior, prior : DiagonalNormal
        q(z | x) and the anchor P(z), one for each row.
    log_px : Tensor of shape (n, C)
        log p(x_c | z) in nats, not reduced; 0 in unobserved cells. For text, one for each token, 0
        at padding.
    inputs : Tensor of shape (n, W) or None
        What the encoder was given.
    """

    z: Tensor
    posterior: DiagonalNormal
    prior: DiagonalNormal
    log_px: Tensor
    inputs: Tensor | None = None


class Noise(NamedTuple):
    """Everything random in one pass over n rows, drawn before it.

    Attributes
    ----------
    code : Tensor of shape (n, d)
        Standard normal.
    variance : Tensor of shape (n, 1)
        Uniform on [0, 1), for a posterior that draws its variance.
    hidden : Tensor of shape (n, C) or None
        True in cells that the encoder must not see.
    dream : Dream or None
        For as many rows of the model's own.
    """

    code: Tensor
    variance: Tensor
    hidden: Tensor | None
    dream: "Dream | None" = None


class Dream(NamedTuple):
    """Everything random in a pass over n rows that the model makes up.

    Attributes
    ----------
    z : Tensor of shape (n, d)
        Codes from the anchor P(z).
    variance : Tensor of shape (n, 1)
        As in `Noise`.
    generator : torch.Generator
        Of the draws from p(x | z).
    """

    z: Tensor
    variance: Tensor
    generator: torch.Generator


class LatentModel(nn.Module):
    """Encoder, posterior, decoder and likelihood, put together by the estimator.

    Parameters
    ----------
    encoder : nn.Module
        (n, likelihood.n_inputs) -> (n, n_components * posterior.outputs_per_component).
    posterior : Posterior
    decoder : nn.Module
        (n, n_components) -> (n, likelihood.n_params), with submodules ``body`` and ``output``.
    likelihood : Joint
    input_masking : float, default=0.0
        The share of cells hidden from the encoder, not from the likelihood, in training.
    dreams : bool, default=False
        Whether `forward`, in training, passes as many rows of the model's own as it is given: z
        from P(z), x from p(x | z). Only columns whose draws have a gradient can be dreamt, that
        is Gaussian ones.
    """

    def __init__(
        self, encoder, posterior, decoder, likelihood: Joint, input_masking=0.0, dreams=False
    ):
        super().__init__()
        self.encoder = encoder
        self.posterior = posterior
        self.decoder = decoder
        self.likelihood = likelihood
        self.input_masking = input_masking
        self.dreams = dreams

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def draw_noise(self, x, generator) -> Noise:
        """Draw what `forward` needs for encoded rows x (n, C) from a generator on x's device."""
        n, options = len(x), {"generator": generator, "device": x.device}
        hidden = None
        if self.input_masking > 0:
            hidden = torch.rand(x.shape, **options) < self.input_masking
        width = self.posterior.n_components
        code = torch.randn((n, width), **options)
        variance = torch.rand((n, 1), **options)
        dream = None
        if self.dreams and self.training:
            z, dreamt = torch.randn((n, width), **options), torch.rand((n, 1), **options)
            dream = Dream(z, dreamt, generator)
        return Noise(code, variance, hidden, dream)

    def forward(self, x, noise: Noise) -> Pass:
        """Encode, draw a code, decode and score encoded rows x (n, C)."""
        # NOTE[paper] input_masking is ours; at its value 0 the encoder sees every observed cell.
        seen = x if noise.hidden is None else x.masked_fill(noise.hidden, torch.nan)
        inputs = self.likelihood.inputs(seen)
        posterior = self.posterior(self.encoder(inputs), noise.variance)
        z = posterior.rsample(noise.code)
        log_px = self.likelihood.log_prob(self.decoder(z), x)
        batch = Pass(z, posterior, standard_normal(z), log_px, inputs)
        return batch if noise.dream is None else joined(batch, self._dream(noise.dream))

    def _dream(self, noise: "Dream") -> Pass:
        """The pass of rows that the model makes up, with gradients through them."""
        params = self.decoder(noise.z)
        x = self.likelihood.rsample(params, noise.generator)
        inputs = self.likelihood.inputs(x)
        posterior = self.posterior(self.encoder(inputs), noise.variance)
        log_px = self.likelihood.log_prob(params, x)
        return Pass(noise.z, posterior, standard_normal(noise.z), log_px, inputs)

    def encode(self, x) -> DiagonalNormal:
        """q(z | x) of encoded rows x (n, C) at inference."""
        return self.posterior.inference(self.encoder(self.likelihood.inputs(x)))

    def posterior_mean(self, x) -> Tensor:
        """The posterior mean of encoded rows x (n, C) at inference, (n, d)."""
        return self.encode(x).mean


def joined(one: Pass, other: Pass) -> Pass:
    """The rows of two passes in one."""

    def both(a, b):
        return torch.cat([a, b])

    posterior = DiagonalNormal(
        both(one.posterior.mean, other.posterior.mean),
        both(
            one.posterior.log_variance.expand(len(one.z), -1),
            other.posterior.log_variance.expand(len(other.z), -1),
        ),
    )
    z = both(one.z, other.z)
    log_px, inputs = both(one.log_px, other.log_px), both(one.inputs, other.inputs)
    return Pass(z, posterior, standard_normal(z), log_px, inputs)
