"""`VAEEncoder`: variational auto-encoder, beta-VAE and InfoVAE, and their losses."""

from numbers import Real
from typing import ClassVar

import torch
from sklearn.utils._param_validation import Interval
from torch import Tensor

from cmim_sklearn._encoders.base.generative import _GenerativeEncoder
from cmim_sklearn._encoders.base.parameters import shared_parameters
from cmim_sklearn._models.latent_model import Pass
from cmim_sklearn._training.net import ObjectiveLoss


def vae(batch: Pass, *, beta=1.0, mmd_weight=0.0) -> dict[str, Tensor]:
    r"""Minus the evidence lower bound, its rate weighted; and the MMD of InfoVAE.

    .. math:: -\log p(x|z) + \beta\, KL(q(z|x) \| P(z)) + \lambda\, MMD^2(q(z), P(z))

    Parameters
    ----------
    batch : Pass
        n rows.
    beta : float, default=1.0
        Factor of the rate; 1 - alpha of InfoVAE.
    mmd_weight : float, default=0.0
        Factor of the MMD; alpha + lambda - 1 of InfoVAE.

    Returns
    -------
    dict of str to Tensor of shape (n,)
        ``distortion``, ``rate``, and ``mmd`` where it has a weight, in nats.

    References
    ----------
    D. Kingma, M. Welling (2013), arXiv 1312.6114; I. Higgins et al., "beta-VAE" (2017); S. Zhao,
    J. Song, S. Ermon, "InfoVAE" (2017), arXiv 1706.02262.
    """
    terms = {"distortion": -batch.log_px.sum(-1), "rate": beta * rate(batch)}
    if mmd_weight:
        terms["mmd"] = mmd_weight * mmd(batch.z)
    return terms


def rate(batch: Pass) -> Tensor:
    """KL(q(z | x) || N(0, I)) of each row, (n,), in nats."""
    mean, log_variance = batch.posterior
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1)


def mmd(z: Tensor) -> Tensor:
    """Squared maximum mean discrepancy between codes z (n, d) and N(0, I), by row, (n,).

    With the kernel exp(-||a - b||^2 / (2 d)); the mean over rows is the unbiased estimate, and can
    be below zero. Zero where n is 1.
    """
    # NOTE[paper] Published code draws from the prior; a Gaussian kernel's means over N(0, I) are
    # known, so nothing is drawn here. Its kernel is exp(-||a - b||^2 / d^2), nearly flat in many
    # components.
    n, d = z.shape
    if n == 1:
        return torch.zeros_like(z[:, 0])
    between = torch.exp(-torch.cdist(z, z).square() / (2 * d))
    among = (between.sum(1) - between.diagonal()) / (n - 1)
    to_prior = (d / (1 + d)) ** (d / 2) * torch.exp(-z.square().sum(1) / (2 * (1 + d)))
    return among - 2 * to_prior + (d / (2 + d)) ** (d / 2)


@shared_parameters
class VAEEncoder(_GenerativeEncoder):
    """Embed mixed tables by a variational auto-encoder: beta-VAE, and InfoVAE's MMD as an option.

    Parameters
    ----------
    %(n_components)s
    beta : float, default=1.0
        Factor of the rate, the divergence of q(z | x) from N(0, I).
    mmd_weight : float, default=0.0
        Factor of the squared maximum mean discrepancy between a batch's codes and N(0, I). MMD-VAE
        is ``beta=0`` with a large one.
    %(shared)s

    Attributes
    ----------
    %(attributes)s

    Notes
    -----
    The posterior's variance is learnt, above a soft floor of -6 for its logarithm. `latent_prior`
    is "normal" by default: the prior that it was trained with.

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

    _parameter_constraints: ClassVar[dict] = {
        "beta": [Interval(Real, 0, None, closed="left")],
        "mmd_weight": [Interval(Real, 0, None, closed="left")],
    }
    _posterior = "learned"

    def __init__(
        self,
        n_components=64,
        *,
        beta=1.0,
        mmd_weight=0.0,
        embedding="layers",
        latent_prior="normal",
        hidden_layer_sizes=(256, 256),
        activation="silu",
        encoder="mlp",
        decoder="mlp",
        categorical_features="from_dtype",
        numeric_scaling="quantile",
        max_categories=256,
        likelihoods=None,
        input_masking=0.1,
        batch_size=256,
        learning_rate_init=3e-3,
        alpha=1e-4,
        max_iter="auto",
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        tol=1e-4,
        warm_start=False,
        device="auto",
        net_params=None,
        random_state=None,
        verbose=0,
    ):
        self._store(locals())

    def _objective(self, model, seed):
        return ObjectiveLoss(vae, beta=self.beta, mmd_weight=self.mmd_weight)
