"""`SuperInfoEncoder`: shared and superfluous information of two views, and its loss."""

from numbers import Real
from typing import ClassVar

import torch
from sklearn.utils._param_validation import Interval
from torch import Tensor

from cmim_sklearn._encoders.base.parameters import shared_parameters
from cmim_sklearn._encoders.base.two_view import _ContrastiveEncoder
from cmim_sklearn._encoders.infonce import nce
from cmim_sklearn._models.two_view import Views
from cmim_sklearn._training.net import ObjectiveLoss
from cmim_sklearn.latents import DiagonalNormal, standard_normal


def divergence(one: DiagonalNormal, other: DiagonalNormal) -> Tensor:
    """KL(one || other) of each row, (n,), in nats."""
    ratio = one.log_variance - other.log_variance
    distance = (one.mean - other.mean).square() * torch.exp(-other.log_variance)
    return 0.5 * (ratio.exp() + distance - 1 - ratio).sum(-1)


def superinfo(
    batch: Views, *, temperature=0.5, superfluous_weight=1e-3, compression_weight=1e-3
) -> dict[str, Tensor]:
    """Shared information up, superfluous information down, by variational bounds.

    Parameters
    ----------
    batch : Views
    temperature : float
        Of the cosine similarity in the bound on what the views share.
    superfluous_weight : float
        Of the divergence between the posteriors of the two views, a bound on I(z1; v1 | v2).
    compression_weight : float
        Of the posteriors' divergence from N(0, I), a bound on I(z1; v1).

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
class SuperInfoEncoder(_ContrastiveEncoder):
    """Embed mixed tables in the manner of SuperInfo: keep what views share, weigh what they do not.

    `transform` returns the code, `n_components` wide. There is no decoder: nothing to sample from,
    nothing to decode with.

    Parameters
    ----------
    %(n_components)s
    temperature : float, default=0.5
        Of the cosine similarity.
    superfluous_weight : float, default=0.001
        Of a bound on what a view's code holds beyond the other view. Below 0 that is rewarded, and
        the loss has no lower bound.
    compression_weight : float, default=0.001
        Of a bound on all that a code holds of its view; below 0 likewise.
    %(shared)s

    Attributes
    ----------
    %(attributes)s

    Notes
    -----
    A reading of the paper, not a reproduction: only its words were at hand, neither its equations
    nor code. Shared information is bounded by InfoNCE between samples, superfluous information by
    the divergence between the posteriors of the two views, as in multi-view information
    bottlenecks, and the weights are ours.

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

    _parameter_constraints: ClassVar[dict] = {
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "superfluous_weight": [Interval(Real, None, None, closed="neither")],
        "compression_weight": [Interval(Real, None, None, closed="neither")],
    }
    _posterior = "learned"

    def __init__(
        self,
        n_components=256,
        *,
        temperature=0.5,
        superfluous_weight=1e-3,
        compression_weight=1e-3,
        view=None,
        hidden_layer_sizes=(256, 256),
        activation="silu",
        encoder="mlp",
        categorical_features="from_dtype",
        numeric_scaling="quantile",
        max_categories=256,
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
        return ObjectiveLoss(
            superinfo,
            temperature=self.temperature,
            superfluous_weight=self.superfluous_weight,
            compression_weight=self.compression_weight,
        )
