"""Learners that only tell rows apart by two views: InfoNCE, VICReg, Barlow Twins, SuperInfo.

They have no decoder, so nothing here decodes, samples or scores. What a learner needs
stands here together: its loss, a pure function, and a short final class. AMDIM, which has views of
another form, has a file of its own.

Axes: n rows, C columns, d latent components, p projected features.
"""

from numbers import Real
from typing import ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, relu

from cmim_sklearn.base import _LatentEncoder
from cmim_sklearn.latents import DiagonalNormal, LearnedPosterior, PointPosterior, standard_normal
from cmim_sklearn.net import ObjectiveLoss
from cmim_sklearn.networks import MLP
from cmim_sklearn.parameters import shared_parameters
from cmim_sklearn.views import Corruption, TwoViewModel, Views


class _ContrastiveEncoder(_LatentEncoder):
    """Two views and no decoder. A subclass is final."""

    _default_view = Corruption()
    _posterior = PointPosterior

    _min_held_out = 2

    def _configure(self, model):
        model.view = self._default_view if self.view is None else self.view

    @property
    def _projector_sizes(self):
        sizes = getattr(self, "projector_layer_sizes", ())
        return np.atleast_1d(np.asarray(sizes, dtype=int)).tolist()

    def _architecture(self):
        return {**super()._architecture(), "projector_layer_sizes": self._projector_sizes}

    def _build_model(self, likelihood, architecture, seed):
        d, generator = architecture["n_components"], torch.Generator().manual_seed(seed)
        posterior = self._posterior(d)
        n_outputs = d * posterior.outputs_per_component
        encoder = self._build_encoder(likelihood, architecture, n_outputs, generator)
        projector, widths = nn.Identity(), architecture["projector_layer_sizes"]
        if widths:
            shape = widths[-1], widths[:-1], architecture["activation"]
            projector = MLP(d, *shape, generator)
        return TwoViewModel(encoder, posterior, projector, likelihood, self._default_view)


# -- InfoNCE ---------------------------------------------------------------------------------------


def nce(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    r"""InfoNCE of two views: minus the log-probability that a row's second view is its own.

    .. math:: -\log \frac{e^{\cos(z_i, z_i')/\tau}}{\sum_j e^{\cos(z_i, z_j')/\tau}}

    Parameters
    ----------
    first, second : Tensor of shape (n, p)
    temperature : float

    Returns
    -------
    Tensor of shape (n,)
        In nats. log n less its mean is a lower bound on the information that the views share.
    """
    similarity = normalize(first, dim=1) @ normalize(second, dim=1).T / temperature
    return cross_entropy(
        similarity, torch.arange(len(first), device=first.device), reduction="none"
    )


def infonce(batch: Views, *, temperature=0.5) -> dict[str, Tensor]:
    """`nce` of the projected views, in both directions, as ``contrast`` (n,)."""
    # NOTE[paper] SCARF has the direction from the row to its corrupted view alone.
    first, second = batch.first.projected, batch.second.projected
    both = nce(first, second, temperature) + nce(second, first, temperature)
    return {"contrast": 0.5 * both}


@shared_parameters
class InfoNCEEncoder(_ContrastiveEncoder):
    """Embed mixed tables by InfoNCE on two views of each row, as SCARF does.

    `transform` returns the code, `n_components` wide. There is no decoder: nothing to sample from,
    nothing to decode with.

    Parameters
    ----------
    %(n_components)s
    temperature : float, default=0.5
        Of the cosine similarity.
    %(shared)s

    Attributes
    ----------
    %(attributes)s

    References
    ----------
    A. van den Oord, Y. Li, O. Vinyals (2018), arXiv 1807.03748; D. Bahri et al., "SCARF" (2022),
    arXiv 2106.15147.

    Examples
    --------
    >>> from cmim_sklearn import InfoNCEEncoder
    >>> from sklearn.datasets import load_iris
    >>> X = load_iris().data
    >>> InfoNCEEncoder(16, max_iter=5).fit_transform(X).shape
    (150, 16)
    """

    _parameter_constraints: ClassVar[dict] = {
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        n_components=256,
        *,
        temperature=0.5,
        projector_layer_sizes=(256, 256),
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
        return ObjectiveLoss(infonce, temperature=self.temperature)


# -- VICReg ----------------------------------------------------------------------------------------


def vicreg(
    batch: Views, *, invariance_weight=25.0, variance_weight=25.0, covariance_weight=1.0
) -> dict[str, Tensor]:
    """Views alike, every feature with a deviation of 1 at least, no two features alike.

    Parameters
    ----------
    batch : Views
    invariance_weight, variance_weight, covariance_weight : float

    Returns
    -------
    dict of str to Tensor of shape (n,)
        ``invariance`` by row; ``variance`` and ``covariance``, the batch's, alike in all rows.

    References
    ----------
    A. Bardes, J. Ponce, Y. LeCun, "VICReg" (2022), arXiv 2105.04906.
    """
    first, second = batch.first.projected, batch.second.projected
    n, p = first.shape
    terms = {"invariance": invariance_weight * (first - second).square().mean(1)}
    variance = covariance = first.new_zeros(())
    if n > 1:
        for view in (first, second):
            centred = view - view.mean(0)
            deviation = (centred.square().sum(0) / (n - 1) + 1e-4).sqrt()
            variance = variance + 0.5 * relu(1 - deviation).mean()
            between = centred.T @ centred / (n - 1)
            covariance = (
                covariance + (between.square().sum() - between.diagonal().square().sum()) / p
            )
    terms["variance"] = (variance_weight * variance).expand(n)
    terms["covariance"] = (covariance_weight * covariance).expand(n)
    return terms


@shared_parameters
class VICRegEncoder(_ContrastiveEncoder):
    """Embed mixed tables by VICReg: variance, invariance and covariance of two views.

    `transform` returns the code, `n_components` wide. There is no decoder: nothing to sample from,
    nothing to decode with.

    Parameters
    ----------
    %(n_components)s
    invariance_weight : float, default=25.0
        Of the squared distance between the views of a row.
    variance_weight : float, default=25.0
        Of what a feature's deviation lacks of 1.
    covariance_weight : float, default=1.0
        Of the squared covariances between features.
    %(shared)s

    Attributes
    ----------
    %(attributes)s

    References
    ----------
    A. Bardes, J. Ponce, Y. LeCun, "VICReg" (2022), arXiv 2105.04906.

    Examples
    --------
    >>> from cmim_sklearn import VICRegEncoder
    >>> from sklearn.datasets import load_iris
    >>> X = load_iris().data
    >>> VICRegEncoder(16, max_iter=5).fit_transform(X).shape
    (150, 16)
    """

    _parameter_constraints: ClassVar[dict] = {
        "invariance_weight": [Interval(Real, 0, None, closed="left")],
        "variance_weight": [Interval(Real, 0, None, closed="left")],
        "covariance_weight": [Interval(Real, 0, None, closed="left")],
    }
    _default_view = Corruption(0.3, both=True)

    def __init__(
        self,
        n_components=256,
        *,
        invariance_weight=25.0,
        variance_weight=25.0,
        covariance_weight=1.0,
        projector_layer_sizes=(256, 256),
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
            vicreg,
            invariance_weight=self.invariance_weight,
            variance_weight=self.variance_weight,
            covariance_weight=self.covariance_weight,
        )


# -- Barlow Twins ----------------------------------------------------------------------------------


def barlow_twins(batch: Views, *, redundancy_weight=5e-3) -> dict[str, Tensor]:
    """The correlations of features between the views: 1 with itself, 0 with any other.

    Parameters
    ----------
    batch : Views
    redundancy_weight : float

    Returns
    -------
    dict of str to Tensor of shape (n,)
        ``invariance`` and ``redundancy``, both the batch's, the same in all rows.

    References
    ----------
    J. Zbontar et al., "Barlow Twins" (2021), arXiv 2103.03230.
    """
    n = len(batch.first.projected)
    if n == 1:
        zero = batch.first.projected.new_zeros(1)
        return {"invariance": zero, "redundancy": zero}
    first, second = (
        (view.projected - view.projected.mean(0)) / (view.projected.std(0) + 1e-5) for view in batch
    )
    correlation = first.T @ second / (n - 1)
    own = correlation.diagonal()
    redundancy = correlation.square().sum() - own.square().sum()
    return {
        "invariance": (1 - own).square().sum().expand(n),
        "redundancy": (redundancy_weight * redundancy).expand(n),
    }


@shared_parameters
class BarlowTwinsEncoder(_ContrastiveEncoder):
    """Embed mixed tables by Barlow Twins: features that agree between views and with no other.

    `transform` returns the code, `n_components` wide. There is no decoder: nothing to sample from,
    nothing to decode with.

    Parameters
    ----------
    %(n_components)s
    redundancy_weight : float, default=0.005
        Of the squared correlations between different features.
    %(shared)s

    Attributes
    ----------
    %(attributes)s

    References
    ----------
    J. Zbontar et al., "Barlow Twins" (2021), arXiv 2103.03230.

    Examples
    --------
    >>> from cmim_sklearn import BarlowTwinsEncoder
    >>> from sklearn.datasets import load_iris
    >>> X = load_iris().data
    >>> BarlowTwinsEncoder(16, max_iter=5).fit_transform(X).shape
    (150, 16)
    """

    _parameter_constraints: ClassVar[dict] = {
        "redundancy_weight": [Interval(Real, 0, None, closed="left")],
    }
    _default_view = Corruption(0.3, both=True)

    def __init__(
        self,
        n_components=256,
        *,
        redundancy_weight=5e-3,
        projector_layer_sizes=(256, 256),
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
        return ObjectiveLoss(barlow_twins, redundancy_weight=self.redundancy_weight)


# -- SuperInfo -------------------------------------------------------------------------------------


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
    _posterior = LearnedPosterior

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
