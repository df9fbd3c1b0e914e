"""`VAEEncoder`: variational auto-encoder, beta-VAE and InfoVAE, and their losses."""

from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

import torch
from sklearn.utils._param_validation import Interval
from torch import Tensor

from cmim_sklearn._encoders.base.generative import _GenerativeEncoder
from cmim_sklearn._encoders.base.parameters import shared_parameters
from cmim_sklearn._models.latent_model import Pass
from cmim_sklearn._training.net import ObjectiveLoss
from cmim_sklearn.objectives import has_weight


def vae(batch: Pass, *, beta=1.0, mmd_weight=0.0) -> dict[str, Tensor]:
    r"""Loss of a VAE: negative evidence lower bound with a weighted rate, and InfoVAE's MMD.

    .. math:: -\log p(x|z) + \beta\, KL(q(z|x) \| P(z)) + \lambda\, MMD^2(q(z), P(z))

    Parameters
    ----------
    batch : Pass
        Batch of n rows.
    beta : float, default=1.0
        Weight of the rate; 1 - alpha in InfoVAE.
    mmd_weight : float, default=0.0
        Weight of the MMD; alpha + lambda - 1 in InfoVAE.

    Returns
    -------
    dict of str to Tensor of shape (n,)
        ``distortion``, ``rate``, and ``mmd`` if its weight is not 0, in nats.

    References
    ----------
    D. Kingma, M. Welling (2013), arXiv 1312.6114; I. Higgins et al., "beta-VAE" (2017); S. Zhao,
    J. Song, S. Ermon, "InfoVAE" (2017), arXiv 1706.02262.
    """
    terms = {"distortion": -batch.log_px.sum(-1), "rate": beta * rate(batch)}
    if has_weight(mmd_weight):
        terms["mmd"] = mmd_weight * mmd(batch.z, batch.rows)
    return terms


def rate(batch: Pass) -> Tensor:
    """KL(q(z | x) || N(0, I)) of each row, (n,), in nats."""
    mean, log_variance = batch.posterior
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1)


def mmd(z: Tensor, rows: Tensor | None = None) -> Tensor:
    """Squared maximum mean discrepancy between codes z (n, d) and N(0, I), by row, (n,).

    The kernel is exp(-||a - b||^2 / (2 d)). The mean over rows is an unbiased estimate, which can
    be negative. For n = 1 it is 0. If ``rows`` is given, a bool Tensor (n,), only these rows count.
    """
    # NOTE[paper] Published code samples from the prior. The means of a Gaussian kernel over N(0, I)
    # are known, so nothing is sampled here. The published kernel is exp(-||a - b||^2 / d^2), which
    # is nearly flat for many components.
    n, d = z.shape
    if n == 1:
        return torch.zeros_like(z[:, 0])
    if rows is None:
        between = torch.exp(-torch.cdist(z, z).square() / (2 * d))
        among = (between.sum(1) - between.diagonal()) / (n - 1)
    else:  # plain operations, for `torch.vmap`
        squares, others = z.square().sum(1), rows & ~torch.eye(n, dtype=torch.bool, device=z.device)
        distance = (squares.unsqueeze(1) + squares - 2 * z @ z.T).clamp(min=0)
        between = torch.where(others, torch.exp(-distance / (2 * d)), 0.0)
        among = between.sum(1) / (rows.sum() - 1).clamp(min=1)
    to_prior = (d / (1 + d)) ** (d / 2) * torch.exp(-z.square().sum(1) / (2 * (1 + d)))
    squared = among - 2 * to_prior + (d / (2 + d)) ** (d / 2)
    return squared if rows is None else torch.where(rows.sum() > 1, squared, 0.0)


@shared_parameters
@dataclass(eq=False, repr=False, kw_only=True)
class VAEEncoder(_GenerativeEncoder):
    """Embed mixed tables with a variational auto-encoder: VAE, beta-VAE, or InfoVAE.

    Parameters
    ----------
    %(n_components)s
    beta : float, default=1.0
        Weight of the rate, the divergence of q(z | x) from N(0, I).
    mmd_weight : float, default=0.0
        Weight of the squared maximum mean discrepancy between the codes of a batch and N(0, I).
        MMD-VAE is ``beta=0`` with a large weight.
    %(shared)s

    Attributes
    ----------
    %(attributes)s

    Notes
    -----
    The variance of the posterior is learned, with a soft floor of -6 for its logarithm. The default
    `latent_prior`, "normal", is the prior of the loss.

    References
    ----------
    D. Kingma, M. Welling, "Auto-Encoding Variational Bayes" (2013), arXiv 1312.6114; S. Zhao,
    J. Song, S. Ermon, "InfoVAE" (2017), arXiv 1706.02262.

    Examples
    --------
    >>> from cmim_sklearn import VAEEncoder
    >>> from sklearn.datasets import load_iris
    >>> X = load_iris().data
    >>> VAEEncoder(4, beta=0.5, embedding="mean", max_iter=5).fit_transform(X).shape
    (150, 4)
    """

    beta: float = 1.0
    mmd_weight: float = 0.0
    latent_prior: str = "normal"

    _parameter_constraints: ClassVar[dict] = {
        "beta": [Interval(Real, 0, None, closed="left")],
        "mmd_weight": [Interval(Real, 0, None, closed="left")],
    }
    _posterior = "learned"

    def _objective(self, model, seed):
        return ObjectiveLoss(vae, takes_rows=True, beta=self.beta, mmd_weight=self.mmd_weight)
