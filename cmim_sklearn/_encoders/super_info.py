"""`SuperInfoEncoder`: shared and superfluous information of two views, and its loss."""

from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

import torch
from sklearn.utils._param_validation import Interval
from torch import Tensor

from cmim_sklearn._encoders.base.parameters import shared_parameters
from cmim_sklearn._encoders.base.two_view import _TwoViewEncoder
from cmim_sklearn._encoders.infonce import nce
from cmim_sklearn._models.two_view import Views
from cmim_sklearn._training.net import ObjectiveLoss
from cmim_sklearn.latents import DiagonalNormal, standard_normal


def divergence(one: DiagonalNormal, other: DiagonalNormal) -> Tensor:
    """KL divergence KL(one || other) of each row, (n,), in nats."""
    ratio = one.log_variance - other.log_variance
    distance = (one.mean - other.mean).square() * torch.exp(-other.log_variance)
    return 0.5 * (ratio.exp() + distance - 1 - ratio).sum(-1)


def superinfo(
    batch: Views, *, temperature=0.5, superfluous_weight=1e-3, compression_weight=1e-3
) -> dict[str, Tensor]:
    """Loss of SuperInfo: bounds on shared, superfluous and total information of two views.

    Parameters
    ----------
    batch : Views
    temperature : float
        Temperature of the cosine similarity in the bound on shared information.
    superfluous_weight : float
        Weight of the divergence between the posteriors of the two views, a bound on
        I(z1; v1 | v2).
    compression_weight : float
        Weight of the divergence of the posteriors from N(0, I), a bound on I(z1; v1).

    Returns
    -------
    dict of str to Tensor of shape (n,)
        ``contrast``, ``superfluous`` and ``compression``, in nats.
    """
    first, second = batch
    one, other = first.posterior, second.posterior
    prior = standard_normal(first.z)
    both = nce(first.z, second.z, temperature) + nce(second.z, first.z, temperature)
    between = divergence(one, other) + divergence(other, one)
    to_prior = divergence(one, prior) + divergence(other, prior)
    return {
        "contrast": 0.5 * both,
        "superfluous": 0.5 * superfluous_weight * between,
        "compression": compression_weight * to_prior,
    }


@shared_parameters
@dataclass(eq=False, repr=False, kw_only=True)
class SuperInfoEncoder(_TwoViewEncoder):
    """Embed mixed tables with a loss after SuperInfo, on shared and superfluous information.

    `transform` returns the latent code, `n_components` wide. There is no decoder, so features
    cannot be inverted and rows cannot be generated.

    Parameters
    ----------
    %(n_components)s
    temperature : float, default=0.5
        Temperature of the cosine similarity.
    superfluous_weight : float, default=0.001
        Weight of a bound on the information in the code of one view that is not in the other view.
        A negative weight rewards it, and the loss then has no lower bound.
    compression_weight : float, default=0.001
        Weight of a bound on all information that a code holds about its view. A negative weight
        rewards it, and the loss then has no lower bound.
    %(shared)s

    Attributes
    ----------
    %(attributes)s

    Notes
    -----
    An interpretation of the paper, not a reproduction: its text was available, but neither its
    equations nor its code. InfoNCE between samples bounds the shared information, and the
    divergence between the posteriors of the two views bounds the superfluous information, as in
    multi-view information bottlenecks. The default weights are not from the paper.

    References
    ----------
    W. Yu, "SuperInfo" (2024); M. Federici et al., "Learning Robust Representations via Multi-View
    Information Bottleneck" (2020), arXiv 2002.07017.

    Examples
    --------
    >>> from cmim_sklearn import SuperInfoEncoder
    >>> from sklearn.datasets import load_iris
    >>> X = load_iris().data
    >>> SuperInfoEncoder(16, max_iter=5).fit_transform(X).shape
    (150, 16)
    """

    temperature: float = 0.5
    superfluous_weight: float = 1e-3
    compression_weight: float = 1e-3

    _parameter_constraints: ClassVar[dict] = {
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "superfluous_weight": [Interval(Real, None, None, closed="neither")],
        "compression_weight": [Interval(Real, None, None, closed="neither")],
    }
    _posterior = "learned"

    def _objective(self, model, seed):
        return ObjectiveLoss(
            superinfo,
            temperature=self.temperature,
            superfluous_weight=self.superfluous_weight,
            compression_weight=self.compression_weight,
        )
