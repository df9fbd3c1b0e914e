"""`AMDIMEncoder` and its loss: the global code of one view predicts local codes of the other view.

Local codes are codes of groups of columns.

Axes: n rows, C columns, d latent components, p projected features, G groups of columns.
"""

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import ClassVar

import torch
from sklearn.utils._param_validation import Interval
from torch import Tensor

from cmim_sklearn._encoders.base.parameters import shared_parameters
from cmim_sklearn._encoders.base.two_view import _ProjectingEncoder
from cmim_sklearn._models.local_view import LocalModel, LocalViews
from cmim_sklearn._models.two_view import Corruption
from cmim_sklearn._training.net import ObjectiveLoss
from cmim_sklearn.networks import MLP


def amdim(batch: LocalViews, *, clip=20.0, score_weight=5e-2) -> dict[str, Tensor]:
    """Loss of AMDIM: the code of one view identifies each group of columns of the other view.

    Scores are products of codes over the square root of their width, clipped by c tanh(score / c).
    The mean square of the unclipped scores is added. A group that the view replaced entirely is not
    used as a positive.

    Parameters
    ----------
    batch : LocalViews
    clip : float
        Bound c of the scores.
    score_weight : float
        Weight of the mean square of the scores.

    Returns
    -------
    dict of str to Tensor of shape (n,)
        ``contrast``, in nats, and ``scores``.

    References
    ----------
    P. Bachman, R. D. Hjelm, W. Buchwalter (2019), arXiv 1906.00910, and its published code.
    """
    # NOTE[paper] Negatives are the same group in other rows; AMDIM uses all places of other images.
    # There is no term between local codes.
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
@dataclass(eq=False, repr=False, kw_only=True)
class AMDIMEncoder(_ProjectingEncoder):
    """Embed mixed tables with AMDIM: the code of one view predicts parts of the other view.

    `transform` returns the latent code, `n_components` wide. There is no decoder, so features
    cannot be inverted and rows cannot be generated. Parts are groups of adjacent columns of the
    table, sorted by kind; in AMDIM they are places of an image.

    Parameters
    ----------
    %(n_components)s
    n_groups : int, default=8
        Number of groups of columns; fewer if there are fewer columns.
    score_clip : float, default=20.0
        Bound c of the scores, which are clipped by c tanh(score / c).
    score_weight : float, default=0.05
        Weight of the mean square of the scores.
    projector_layer_sizes : int or sequence of int, default=(256, 256)
        Widths of the layers of the local encoder. The last one is the width of the local codes.
    %(shared)s

    Attributes
    ----------
    %(attributes)s

    Notes
    -----
    The local encoder processes each group of both views separately: a fit takes about ten times as
    long as with the other encoders.

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

    n_groups: int = 8
    score_clip: float = 20.0
    score_weight: float = 5e-2

    _parameter_constraints: ClassVar[dict] = {
        "n_groups": [Interval(Integral, 1, None, closed="left")],
        "score_clip": [Interval(Real, 0, None, closed="neither")],
        "score_weight": [Interval(Real, 0, None, closed="left")],
        "projector_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    }
    _default_view = Corruption(0.3, both=True)

    def _architecture(self):
        return super()._architecture() | {"n_groups": int(self.n_groups)}

    def _layer_chains(self, likelihood, architecture):
        d, hidden = architecture["n_components"], architecture["hidden_layer_sizes"]
        projector = architecture["projector_layer_sizes"]
        encoder, local = [likelihood.n_inputs, *hidden, d], [likelihood.n_inputs, *projector]
        n_groups = [architecture["n_groups"]]  # without weights, but checked like a width
        return [encoder, local, [d, *projector[-1:]], n_groups]

    def _build_model(self, likelihood, architecture, seed):
        d, generator = architecture["n_components"], torch.Generator().manual_seed(seed)
        activation, widths = architecture["activation"], architecture["projector_layer_sizes"]
        encoder = self._build_encoder(likelihood, architecture, d, generator)
        if not widths:
            raise ValueError(
                "projector_layer_sizes of AMDIMEncoder must hold at least one width, that of the "
                f"local codes; got {self.projector_layer_sizes!r}."
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
