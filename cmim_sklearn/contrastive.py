"""Learners that only tell rows apart: InfoNCE, VICReg, Barlow Twins, AMDIM, SuperInfo.

They have no decoder, so nothing here decodes, samples or scores. What a learner needs stands here
together: its loss, a pure function, and a short final class.

Axes: n rows, C columns, d latent components, p projected features, G groups of columns.
"""

import math
from numbers import Integral, Real
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from sklearn.utils._param_validation import Interval
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, relu

from cmim_sklearn.base import _LatentEncoder
from cmim_sklearn.latents import DiagonalNormal, LearnedPosterior, PointPosterior, standard_normal
from cmim_sklearn.net import ObjectiveLoss
from cmim_sklearn.networks import MLP, reset_parameters
from cmim_sklearn.networks import build as build_network
from cmim_sklearn.parameters import shared_parameters
from cmim_sklearn.views import Corruption, TwoViewModel, Views, two_views


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
        sizes, activation = architecture["hidden_layer_sizes"], architecture["activation"]
        posterior = self._posterior(d)
        encoder = build_network(
            architecture["encoder"],
            likelihood.n_inputs,
            d * posterior.outputs_per_component,
            sizes,
            activation,
            generator,
            is_decoder=False,
        )
        projector, widths = nn.Identity(), architecture["projector_layer_sizes"]
        if widths:
            projector = MLP(d, widths[-1], widths[:-1], activation)
            reset_parameters(projector, generator)
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


# -- AMDIM -----------------------------------------------------------------------------------------


class LocalViews(NamedTuple):
    """Both views of a batch, whole and by groups of columns.

    Attributes
    ----------
    sources : tuple of two Tensors of shape (n, p)
        Of the whole of each view.
    targets : tuple of two Tensors of shape (n, G, p)
        Of each group of columns of each view.
    are_own : tuple of two Tensors of shape (n, G), bool
        False where the view changed all cells of the group, so that nothing of it is the row's.
    """

    sources: tuple[Tensor, Tensor]
    targets: tuple[Tensor, Tensor]
    are_own: tuple[Tensor, Tensor]


class LocalModel(nn.Module):
    """A global encoder, and a local one that sees one group of columns at a time.

    Parameters
    ----------
    encoder : nn.Module
        (n, likelihood.n_inputs) -> (n, d).
    local : nn.Module
        (n, likelihood.n_inputs) -> (n, p), of rows of which only one group is shown.
    source : nn.Module
        (n, d) -> (n, p).
    likelihood : Joint
    view : callable
    groups : Tensor of shape (G, C), bool
    """

    def __init__(self, encoder, local, source, likelihood, view, groups):
        super().__init__()
        self.encoder, self.local, self.source = encoder, local, source
        self.likelihood, self.view = likelihood, view
        self.register_buffer("groups", groups, persistent=False)
        self.point = PointPosterior(source.output.in_features)

    @property
    def device(self):
        """Where the parameters are."""
        return next(self.parameters()).device

    def draw_noise(self, x, generator):
        """Two views (n, C) of encoded rows x (n, C)."""
        return two_views(self.view, x, generator)

    def forward(self, x, noise) -> LocalViews:
        """Encode both views, whole and group by group."""
        sources = tuple(self.source(self.posterior_mean(view)) for view in noise)
        is_own = [(x == view) | (torch.isnan(x) & torch.isnan(view)) for view in noise]
        targets = tuple(self._local(*part) for part in zip(noise, is_own, strict=True))
        are_own = tuple((own.unsqueeze(1) & self.groups).any(2) for own in is_own)
        return LocalViews(sources, targets, are_own)

    def _local(self, x, is_own):
        """Codes (n, G, p) of groups of rows x (n, C), from those cells that are the row's own."""
        shown = is_own.unsqueeze(1) & self.groups
        alone = torch.where(shown, x.unsqueeze(1), torch.nan).flatten(0, 1)
        return self.local(self.likelihood.inputs(alone)).view(*shown.shape[:2], -1)

    def encode(self, x):
        """The code (n, d) of encoded rows x (n, C), uncorrupted, as a point."""
        return self.point.inference(self.encoder(self.likelihood.inputs(x)))

    def posterior_mean(self, x):
        """The code itself."""
        return self.encode(x).mean


def amdim(batch: LocalViews, *, clip=20.0, score_weight=5e-2) -> dict[str, Tensor]:
    """The whole of one view tells each group of columns of the other from those of other rows.

    Scores are products over the square root of the width, clipped by c tanh(score / c); the mean
    square of the raw ones is added. Groups are told by the cells that the view left as they were;
    one that it changed as a whole is no positive.

    Parameters
    ----------
    batch : LocalViews
    clip, score_weight : float

    Returns
    -------
    dict of str to Tensor of shape (n,)
        ``contrast``, in nats, and ``scores``.

    References
    ----------
    P. Bachman, R. D. Hjelm, W. Buchwalter (2019), arXiv 1906.00910, and its published code.
    """
    # NOTE[paper] Negatives are the same group of other rows, where AMDIM has all places of other
    # images; and there is no term from local to local codes.
    contrast = scores = 0.0
    for source, target, is_own in zip(
        batch.sources, batch.targets[::-1], batch.are_own[::-1], strict=True
    ):
        width = source.shape[1]
        raw = torch.einsum("ip,jgp->gij", source, target) / math.sqrt(width)
        clipped = clip * torch.tanh(raw / clip)
        found = clipped.log_softmax(2).diagonal(dim1=1, dim2=2).T  # (n, G)
        contrast = contrast - (found * is_own).sum(1) / is_own.sum(1).clamp(min=1)
        scores = scores + raw.square().mean((0, 2))
    return {"contrast": 0.5 * contrast, "scores": 0.5 * score_weight * scores}


@shared_parameters
class AMDIMEncoder(_ContrastiveEncoder):
    """Embed mixed tables by AMDIM: the code of a row's one view tells parts of its other view.

    `transform` returns the code, `n_components` wide. There is no decoder: nothing to sample from,
    nothing to decode with. Where AMDIM has places of an image, this has groups of columns, side by
    side as they stand in the table by kind.

    Parameters
    ----------
    %(n_components)s
    n_groups : int, default=8
        Into how many groups the columns are cut; fewer where there are fewer columns.
    score_clip : float, default=20.0
        Where scores are bent, by c tanh(score / c).
    score_weight : float, default=0.05
        Of the mean square of scores.
    projector_layer_sizes : int or sequence of int, default=(256, 256)
        Widths of the local encoder; the last is that of what is compared.
    %(shared)s

    Attributes
    ----------
    %(attributes)s

    Notes
    -----
    The local encoder sees every group of both views: a fit takes some ten times as long as with the
    other learners.

    References
    ----------
    P. Bachman, R. D. Hjelm, W. Buchwalter, "Learning Representations by Maximizing Mutual
    Information Across Views" (2019), arXiv 1906.00910.

    Examples
    --------
    >>> from cmim_sklearn import AMDIMEncoder
    >>> from sklearn.datasets import load_iris
    >>> X = load_iris().data
    >>> AMDIMEncoder(16, max_iter=5).fit_transform(X).shape
    (150, 16)
    """

    _parameter_constraints: ClassVar[dict] = {
        "n_groups": [Interval(Integral, 1, None, closed="left")],
        "score_clip": [Interval(Real, 0, None, closed="neither")],
        "score_weight": [Interval(Real, 0, None, closed="left")],
        "projector_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    }
    _default_view = Corruption(0.3, both=True)

    def __init__(
        self,
        n_components=256,
        *,
        n_groups=8,
        score_clip=20.0,
        score_weight=5e-2,
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

    def _architecture(self):
        return {**super()._architecture(), "n_groups": int(self.n_groups)}

    def _build_model(self, likelihood, architecture, seed):
        d, generator = architecture["n_components"], torch.Generator().manual_seed(seed)
        sizes, activation = architecture["hidden_layer_sizes"], architecture["activation"]
        n_in, widths = likelihood.n_inputs, architecture["projector_layer_sizes"]
        encoder = build_network(
            architecture["encoder"], n_in, d, sizes, activation, generator, is_decoder=False
        )
        if not widths:
            raise ValueError(
                "projector_layer_sizes of AMDIMEncoder must have a width at least, that of what is "
                f"compared. Got {self.projector_layer_sizes!r} instead."
            )
        local = MLP(n_in, widths[-1], widths[:-1], activation)
        source = MLP(d, widths[-1], (), activation)
        for module in (local, source):
            reset_parameters(module, generator)
        n_columns = likelihood.n_columns
        n_groups = min(architecture["n_groups"], n_columns)
        group = torch.arange(n_columns) * n_groups // n_columns
        groups = group == torch.arange(n_groups)[:, None]
        return LocalModel(encoder, local, source, likelihood, self._default_view, groups)

    def _objective(self, model, seed):
        return ObjectiveLoss(amdim, clip=self.score_clip, score_weight=self.score_weight)
