"""AMDIM: the whole of one view tells parts of the other. Its parts here are groups of columns.

Axes: n rows, C columns, d latent components, p projected features, G groups of columns.
"""

import math
from numbers import Integral, Real
from typing import ClassVar

import torch
from sklearn.utils._param_validation import Interval
from torch import Tensor

from cmim_sklearn._encoders.base.parameters import shared_parameters
from cmim_sklearn._encoders.base.two_view import _ContrastiveEncoder
from cmim_sklearn._models.local_view import LocalModel, LocalViews
from cmim_sklearn._models.two_view import Corruption
from cmim_sklearn._training.net import ObjectiveLoss
from cmim_sklearn.networks import MLP


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
