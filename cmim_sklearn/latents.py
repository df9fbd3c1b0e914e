"""What is assumed of the latent code z: posteriors q(z | x), and what z is drawn from to sample.

Axes: n rows, d latent components.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
import torch
from sklearn.mixture import GaussianMixture
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
MIXTURE_SIZES = (1, 5, 10, 20, 50)
MIXTURE_ROWS = 5000
MIXTURE_EM_STEPS, MIXTURE_TOL = 20, 1e-3


class DiagonalNormal(NamedTuple):
    """N(mean, exp(log_variance)), independent over d components; one for each of n rows.

    Attributes
    ----------
    mean : Tensor of shape (n, d)
    log_variance : Tensor that broadcasts to (n, d)
    """

    mean: Tensor
    log_variance: Tensor

    def rsample(self, noise):
        """Reparametrised draw (n, d) from standard normal noise (n, d)."""
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
    def forward(self, outputs, uniform) -> DiagonalNormal:
        """q(z | x) as trained, from outputs (n, k d) and uniform noise (n, 1)."""

    @abstractmethod
    def mean(self, outputs) -> Tensor:
        """The posterior mean at inference, (n, d)."""


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

    def forward(self, outputs, uniform):
        """See `Posterior.forward`."""
        log_variance = MIN_LOG_VARIANCE + (MAX_LOG_VARIANCE - MIN_LOG_VARIANCE) * uniform
        return DiagonalNormal(outputs + log_variance * self.by_log_variance, log_variance)

    def mean(self, outputs):
        """See `Posterior.mean`."""
        return outputs + MIN_LOG_VARIANCE * self.by_log_variance


class LearnedPosterior(Posterior):
    """The encoder gives mean and log-variance, above a soft floor of -6.

    The floor is -6 + softplus(v + 6), which always has a gradient, where a clamp would hold a
    component that once fell below it. Expect every component to end there: see
    `MIN_LOG_VARIANCE`.
    """

    outputs_per_component = 2

    def forward(self, outputs, uniform):
        """See `Posterior.forward`."""
        mean, raw = outputs.chunk(2, dim=-1)
        return DiagonalNormal(mean, MIN_LOG_VARIANCE + softplus(raw - MIN_LOG_VARIANCE))

    def mean(self, outputs):
        """See `Posterior.mean`."""
        return outputs.chunk(2, dim=-1)[0]


class FixedPosterior(Posterior):
    """A constant log-variance of -2 (sigma = 0.37) for every row and component: needs no floor."""

    def forward(self, outputs, uniform):
        """See `Posterior.forward`."""
        return DiagonalNormal(outputs, torch.full_like(uniform, FIXED_LOG_VARIANCE))

    def mean(self, outputs):
        """See `Posterior.mean`."""
        return outputs


class NormalLatents:
    """z ~ N(0, I), the anchor of the objective.

    Right only where codes came to match it: A-MIM leaves their scale free.
    """

    def __init__(self, n_components):
        self.n_components = int(n_components)

    @classmethod
    def fit(cls, codes, random_state):
        """Take the width of codes (n, d), and nothing else."""
        return cls(codes.shape[1])

    def state(self):
        """Return the constructor's arguments."""
        return {"n_components": self.n_components}

    def sample(self, n_samples, rng):
        """Draw float32 codes (n_samples, d) from a numpy Generator."""
        return rng.standard_normal((n_samples, self.n_components)).astype(np.float32)


class MixtureLatents:
    """z ~ a Gaussian mixture fitted after training to codes drawn as in training.

    Parameters
    ----------
    weights : array of shape (k,)
    means : array of shape (k, d)
    factors : array of shape (k, d, d)
        Lower Cholesky factors of the covariances.
    """

    def __init__(self, weights, means, factors):
        self.weights = np.asarray(weights, float)
        self.means = np.asarray(means, np.float32)
        self.factors = np.asarray(factors, np.float32)

    @classmethod
    def fit(cls, codes, random_state):
        """Fit to codes (n, d); the size of `MIXTURE_SIZES` is chosen by held-out likelihood.

        Sizes are tried upwards until one does worse on a fifth of the codes, and one that would
        have fewer codes than 2 d to a component is not tried. At most 5,000 codes are used.
        """
        codes = codes[:MIXTURE_ROWS].astype(np.float64)
        # In standard units, so that the mixture's own regularisation suits codes of any scale.
        centre, spread = codes.mean(0), np.maximum(codes.std(0), 1e-12)
        codes = (codes - centre) / spread
        n_held_out = max(1, len(codes) // 5)
        held_out, kept = codes[:n_held_out], codes[n_held_out:]
        best, best_score = None, -np.inf
        for size in MIXTURE_SIZES:
            if size > 1 and len(kept) < 2 * size * codes.shape[1]:
                break
            mixture = _fit_mixture(kept if len(kept) > 1 else codes, size, random_state)
            score = mixture.score(held_out)
            if score < best_score:
                break
            best, best_score = mixture, score
        factors = np.linalg.cholesky(best.covariances_)
        return cls(best.weights_, best.means_ * spread + centre, factors * spread[:, None])

    def state(self):
        """Return the constructor's arguments."""
        return {"weights": self.weights, "means": self.means, "factors": self.factors}

    def sample(self, n_samples, rng):
        """Draw float32 codes (n_samples, d) from a numpy Generator."""
        component = rng.choice(len(self.weights), size=n_samples, p=self.weights)
        codes = rng.standard_normal((n_samples, self.means.shape[1])).astype(np.float32)
        for k in np.unique(component):
            rows = component == k
            codes[rows] = self.means[k] + codes[rows] @ self.factors[k].T
        return codes


def _fit_mixture(codes, size, random_state):
    # Two EM steps a call, none of which can fail to "converge": a mixture stopped early is judged
    # by its held-out likelihood all the same, and warning filters are not safe between threads.
    mixture = GaussianMixture(
        size, reg_covar=1e-4, tol=1e300, max_iter=2, warm_start=True, random_state=random_state
    )
    bound = -np.inf
    for _ in range(MIXTURE_EM_STEPS // 2):
        if mixture.fit(codes).lower_bound_ - bound < MIXTURE_TOL:
            break
        bound = mixture.lower_bound_
    return mixture


POSTERIORS = {"sampled": SampledPosterior, "learned": LearnedPosterior, "fixed": FixedPosterior}

LATENT_PRIORS = {"normal": NormalLatents, "mixture": MixtureLatents}
