"""Posteriors q(z | x) of the latent code, and their anchor, the standard normal prior P(z).

A posterior is an ``nn.Module`` that maps outputs of the encoder to a `DiagonalNormal`. A new one is
one class and one line in `POSTERIORS`.

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
"""Lower bound of log sigma^2, so sigma >= exp(-3) = 0.0498.

Nothing in the A-MIM loss opposes a shrinking sigma: in each dimension, when log sigma falls by 1,
the loss falls by half a nat, without limit. A learned sigma therefore reaches its lower bound in
every dimension, and only this lower bound keeps the loss finite. -6 is the published choice for the
log-variance (NeMo, MolMIM). Other published code uses -6 for log sigma, a standard deviation twenty
times smaller.
"""

MAX_LOG_VARIANCE = 0.0
"""Upper bound of the log-variance that `SampledPosterior` samples: the variance of the anchor."""

FIXED_LOG_VARIANCE = -2.0
"""Log-variance of `FixedPosterior`, so sigma = exp(-1) = 0.37."""


class DiagonalNormal(NamedTuple):
    """Normal distributions with diagonal covariance, N(mean, exp(log_variance)), one per row.

    Attributes
    ----------
    mean : Tensor of shape (n, d)
    log_variance : Tensor that broadcasts to shape (n, d)
        Natural logarithm of the variance.
    """

    mean: Tensor
    log_variance: Tensor

    def rsample(self, noise=None):
        """Sample with gradients to mean and variance (reparametrisation).

        Parameters
        ----------
        noise : Tensor of shape (n, d), default=None
            Standard normal noise. None: it is sampled from torch's global generator.

        Returns
        -------
        Tensor of shape (n, d)
        """
        noise = torch.randn_like(self.mean) if noise is None else noise
        return self.mean + torch.exp(0.5 * self.log_variance) * noise

    def log_prob(self, z):
        """Log density of codes.

        Parameters
        ----------
        z : Tensor of shape (n, d)

        Returns
        -------
        Tensor of shape (n,)
            In nats, summed over components.
        """
        squares = (z - self.mean).square() * torch.exp(-self.log_variance)
        return -0.5 * (squares + self.log_variance + LOG_2PI).sum(-1)


def standard_normal(z):
    """Anchor P(z) = N(0, I), with the dtype and device of codes.

    Parameters
    ----------
    z : Tensor of shape (n, d)

    Returns
    -------
    DiagonalNormal
        Its mean and log-variance are zeros that broadcast to (n, d).
    """
    zero = torch.zeros((), dtype=z.dtype, device=z.device)
    return DiagonalNormal(zero, zero)


class Posterior(nn.Module, ABC):
    """Base class of posteriors: q(z | x) from the outputs of the encoder.

    Subclasses are not meant to be subclassed further.

    Parameters
    ----------
    n_components : int
        Latent width d.

    Attributes
    ----------
    outputs_per_component : int
        Number k of encoder outputs per latent component: 1 for the mean alone, 2 for mean and
        variance.
    """

    outputs_per_component = 1

    def __init__(self, n_components):
        super().__init__()
        self.n_components = n_components

    @abstractmethod
    def forward(self, outputs, uniform=None) -> DiagonalNormal:
        """Compute q(z | x) in training.

        Parameters
        ----------
        outputs : Tensor of shape (n, k * d)
            Outputs of the encoder.
        uniform : Tensor of shape (n, 1), default=None
            Uniform noise on [0, 1), for a posterior that samples its variance. None: it is sampled
            from torch's global generator. Other posteriors ignore it.

        Returns
        -------
        DiagonalNormal
        """

    @abstractmethod
    def inference(self, outputs) -> DiagonalNormal:
        """Compute q(z | x) after training, with the smallest variance used in training.

        Parameters
        ----------
        outputs : Tensor of shape (n, k * d)
            Outputs of the encoder.

        Returns
        -------
        DiagonalNormal
        """

    def generation(self, outputs, log_variance) -> DiagonalNormal:
        """Compute q(z | x) for the generative model.

        By default as at inference: a decoder suits no larger variance than it was trained with.

        Parameters
        ----------
        outputs : Tensor of shape (n, k * d)
            Outputs of the encoder.
        log_variance : float
            Log-variance for a posterior that was trained with all of them.

        Returns
        -------
        DiagonalNormal
        """
        return self.inference(outputs)


class SampledPosterior(Posterior):
    """Posterior with a log-variance v sampled per row from U(-6, 0) in training; -6 at inference.

    The mean depends on v: it is one linear layer on [h; v]. The encoder's last layer computes the
    part of h, and this module adds v times a learned direction. Noise of all sizes, up to the
    variance of the prior, closes gaps between codes and keeps their scale near the prior's. A lower
    bound of the variance alone does not do that.

    Parameters
    ----------
    n_components : int
        Latent width d.

    References
    ----------
    D. Reidenbach et al., "Improving Small Molecule Generation using Mutual Information Machine"
    (MolMIM, 2022), arXiv 2208.09016.
    """

    # NOTE[paper] MolMIM feeds [h; v] through two layers; here it is one.

    def __init__(self, n_components):
        super().__init__(n_components)
        self.by_log_variance = nn.Parameter(torch.zeros(n_components, dtype=torch.float32))

    def forward(self, outputs, uniform=None):
        """See `Posterior.forward`."""
        uniform = torch.rand_like(outputs[:, :1]) if uniform is None else uniform
        log_variance = MIN_LOG_VARIANCE + (MAX_LOG_VARIANCE - MIN_LOG_VARIANCE) * uniform
        return DiagonalNormal(outputs + log_variance * self.by_log_variance, log_variance)

    def inference(self, outputs):
        """See `Posterior.inference`."""
        return self.forward(outputs, torch.zeros_like(outputs[:, :1]))

    def generation(self, outputs, log_variance):
        """See `Posterior.generation`."""
        share = (log_variance - MIN_LOG_VARIANCE) / (MAX_LOG_VARIANCE - MIN_LOG_VARIANCE)
        return self.forward(outputs, torch.full_like(outputs[:, :1], share))


class LearnedPosterior(Posterior):
    """Posterior with mean and log-variance from the encoder; the log-variance is at least -6.

    The bound is soft, -6 + softplus(v + 6), so the gradient never vanishes; a clamp would trap a
    component that fell below it. With A-MIM every component ends near the bound, see
    `MIN_LOG_VARIANCE`.

    Parameters
    ----------
    n_components : int
        Latent width d.
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
    """Posterior with a log-variance of -2 (sigma = 0.37) for every row and component.

    Parameters
    ----------
    n_components : int
        Latent width d.
    """

    def forward(self, outputs, uniform=None):
        """See `Posterior.forward`."""
        return DiagonalNormal(outputs, torch.full_like(outputs[:, :1], FIXED_LOG_VARIANCE))

    def inference(self, outputs):
        """See `Posterior.inference`."""
        return self.forward(outputs)


class PointPosterior(Posterior):
    """Posterior without variance: z equals the mean, as in a deterministic auto-encoder.

    Its density is infinite at the mean, so objectives must not use `DiagonalNormal.log_prob`.

    Parameters
    ----------
    n_components : int
        Latent width d.
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
