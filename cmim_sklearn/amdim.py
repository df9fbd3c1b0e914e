"""AMDIM: the whole of one view tells parts of the other. Its parts here are groups of columns.

Axes: n rows, C columns, d latent components, p projected features, G groups of columns.
"""

import math
from numbers import Integral, Real
from typing import ClassVar, NamedTuple

import torch
from sklearn.utils._param_validation import Interval
from torch import Tensor, nn

from cmim_sklearn.contrastive import _ContrastiveEncoder
from cmim_sklearn.latents import PointPosterior
from cmim_sklearn.net import ObjectiveLoss
from cmim_sklearn.networks import MLP
from cmim_sklearn.parameters import shared_parameters
from cmim_sklearn.views import Corruption, two_views


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
        self.posterior = PointPosterior(source.output.in_features)

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
        return self.posterior.inference(self.encoder(self.likelihood.inputs(x)))

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
        activation, widths = architecture["activation"], architecture["projector_layer_sizes"]
        encoder = self._build_encoder(likelihood, architecture, d, generator)
        if not widths:
            raise ValueError(
                "projector_layer_sizes of AMDIMEncoder must have a width at least, that of what is "
                f"compared. Got {self.projector_layer_sizes!r} instead."
            )
        local = MLP(likelihood.n_inputs, widths[-1], widths[:-1], activation, generator)
        source = MLP(d, widths[-1], (), activation, generator)
        n_columns = likelihood.n_columns
        n_groups = min(architecture["n_groups"], n_columns)
        group = torch.arange(n_columns) * n_groups // n_columns
        groups = group == torch.arange(n_groups)[:, None]
        return LocalModel(encoder, local, source, likelihood, self._default_view, groups)

    def _objective(self, model, seed):
        return ObjectiveLoss(amdim, clip=self.score_clip, score_weight=self.score_weight)
