"""What is assumed of the latent code z: posteriors q(z | x), and what z is drawn from to sample.

Axes: n rows, d latent components.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

LOG_2PI = float(np.log(2 * np.pi))


MIN_LOG_VARIANCE = -6.0
"""Floor of log sigma^2, so sigma >= exp(-3) = 0.0498.

Nothing in the A-MIM loss opposes a shrinking sigma: every nat per dimension it gives up is a gain
of half a nat, without end, so a learnt one runs to its floor in every dimension and the loss is
bounded by the floor alone. We take the published choice of -6 for the log-variance (NeMo, MolMIM);
another published code has -6 for log sigma, a deviation twenty times smaller.
"""


MAX_LOG_VARIANCE = 0.0


FIXED_LOG_VARIANCE = -2.0


class DiagonalNormal(NamedTuple):
    """N(mean, exp(log_variance)), independent over d components; one for each of n rows.

    Attributes
    ----------
    mean : Tensor of shape (n, d)
    log_variance : Tensor that broadcasts to (n, d)
    """

    mean: Tensor
    log_variance: Tensor

    def rsample(self, noise=None):
        """Reparametrised draw (n, d) from standard normal noise (n, d).

        None draws the noise from torch's global generator.
        """
        noise = torch.randn_like(self.mean) if noise is None else noise
        return self.mean + torch.exp(0.5 * self.log_variance) * noise

    def log_prob(self, z):
        """Log density at z (n, d), in nats, (n,)."""
        squares = (z - self.mean).square() * torch.exp(-self.log_variance)
        return -0.5 * (squares + self.log_variance + LOG_2PI).sum(-1)


def standard_normal(z):
    """Return the anchor P(z) = N(0, I) as a `DiagonalNormal` that fits codes z (n, d)."""
    zero = torch.zeros((), dtype=z.dtype, device=z.device)
    return DiagonalNormal(zero, zero)


class Posterior(nn.Module, ABC):
    """q(z | x) from the encoder's outputs; a subclass is final.

    Parameters
    ----------
    n_components : int
        The latent width d.
    """

    outputs_per_component = 1

    def __init__(self, n_components):
        super().__init__()
        self.n_components = n_components

    @abstractmethod
    def forward(self, outputs, uniform=None) -> DiagonalNormal:
        """q(z | x) as trained, from outputs (n, k d) and uniform noise (n, 1).

        Where noise is needed, None draws it from torch's global generator.
        """

    @abstractmethod
    def inference(self, outputs) -> DiagonalNormal:
        """q(z | x) after training, from outputs (n, k d): the narrowest that training showed."""


class SampledPosterior(Posterior):
    """A log-variance v ~ U(-6, 0) drawn per row in training and told to the mean; -6 at inference.

    The mean is one linear layer on [h; v]: the encoder's last layer gives its part of h, and this
    head adds v times a learnt direction. Noise of every size up to the prior's own fills the holes
    between codes and keeps their scale near the prior's, which a floor alone does not. From MolMIM
    (arXiv 2208.09016), whose head has one hidden layer more.
    """

    # NOTE[paper] MolMIM feeds [h; v] through two layers; here it is one.

    def __init__(self, n_components):
        super().__init__(n_components)
        self.by_log_variance = nn.Parameter(torch.zeros(n_components))

    def forward(self, outputs, uniform=None):
        """See `Posterior.forward`."""
        uniform = torch.rand_like(outputs[:, :1]) if uniform is None else uniform
        log_variance = MIN_LOG_VARIANCE + (MAX_LOG_VARIANCE - MIN_LOG_VARIANCE) * uniform
        return DiagonalNormal(outputs + log_variance * self.by_log_variance, log_variance)

    def inference(self, outputs):
        """See `Posterior.inference`."""
        return self.forward(outputs, torch.zeros_like(outputs[:, :1]))


class LearnedPosterior(Posterior):
    """The encoder gives mean and log-variance, above a soft floor of -6.

    The floor is -6 + softplus(v + 6), which always has a gradient, where a clamp would hold a
    component that once fell below it. Expect every component to end there: see
    `MIN_LOG_VARIANCE`.
    """

    outputs_per_component = 2

    def forward(self, outputs, uniform=None):
        """See `Posterior.forward`."""
        mean, raw = outputs.chunk(2, dim=-1)
        return DiagonalNormal(mean, MIN_LOG_VARIANCE + softplus(raw - MIN_LOG_VARIANCE))

    def inference(self, outputs):
        """See `Posterior.inference`."""
        return self.forward(outputs)


class FixedPosterior(Posterior):
    """A constant log-variance of -2 (sigma = 0.37) for every row and component: needs no floor."""

    def forward(self, outputs, uniform=None):
        """See `Posterior.forward`."""
        return DiagonalNormal(outputs, torch.full_like(outputs[:, :1], FIXED_LOG_VARIANCE))

    def inference(self, outputs):
        """See `Posterior.inference`."""
        return self.forward(outputs)


class PointPosterior(Posterior):
    """No variance at all: z is the mean, as in an auto-encoder that is no probabilistic model.

    Its densities are infinite, so that no objective may ask for one.
    """

    def forward(self, outputs, uniform=None):
        """See `Posterior.forward`."""
        return DiagonalNormal(outputs, torch.full_like(outputs[:, :1], -torch.inf))

    def inference(self, outputs):
        """See `Posterior.inference`."""
        return self.forward(outputs)


POSTERIORS = {
    "sampled": SampledPosterior,
    "learned": LearnedPosterior,
    "fixed": FixedPosterior,
    "point": PointPosterior,
}
"""Posteriors by name.

"point" is for encoders with a deterministic code. The parameter ``posterior`` does not accept it.
"""
