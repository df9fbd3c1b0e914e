"""Local-view model of `AMDIMEncoder`: codes of whole rows, and of single groups of columns.

Axes: n rows, C columns, G groups of columns, d latent components, p projected features.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from cmim_sklearn._models.encoding_model import EncodingModel
from cmim_sklearn._models.two_view import two_views
from cmim_sklearn.latents import PointPosterior


class LocalViews(NamedTuple):
    """Both views of a batch, encoded as whole rows and by groups of columns.

    Attributes
    ----------
    sources : tuple of two Tensors of shape (n, p)
        Codes of the whole rows of each view.
    targets : tuple of two Tensors of shape (n, G, p)
        Codes of each group of columns of each view.
    are_own : tuple of two Tensors of shape (n, G), bool
        False where the view replaced all cells of the group, so that no cell is the row's.
    """

    sources: tuple[Tensor, Tensor]
    targets: tuple[Tensor, Tensor]
    are_own: tuple[Tensor, Tensor]


class LocalModel(EncodingModel):
    """Global encoder of whole rows, and local encoder of one group of columns at a time.

    Parameters
    ----------
    encoder : nn.Module
        Global encoder, (n, likelihood.n_inputs) -> (n, d).
    local : nn.Module
        Local encoder, (n, likelihood.n_inputs) -> (n, p); all groups but one are missing.
    source : nn.Module
        Projector of the global code, (n, d) -> (n, p).
    likelihood : Joint
    view : callable
        As in `Corruption`.
    groups : Tensor of shape (G, C), bool
        Columns of each group.
    """

    def __init__(self, encoder, local, source, likelihood, view, groups):
        super().__init__()
        self.encoder, self.local, self.source = encoder, local, source
        self.likelihood, self.view = likelihood, view
        self.register_buffer("groups", groups, persistent=False)
        self.posterior = PointPosterior(source.output.in_features)

    def draw_noise(self, x, generator):
        """Compute two views (n, C) of encoded rows x (n, C)."""
        return two_views(self.view, x, generator)

    def forward(self, x, noise) -> LocalViews:
        """Encode both views, as whole rows and group by group."""
        sources = tuple(self.source(self.posterior_mean(view)) for view in noise)
        is_own = [(x == view) | (torch.isnan(x) & torch.isnan(view)) for view in noise]
        targets = tuple(self._encode_groups(*part) for part in zip(noise, is_own, strict=True))
        are_own = tuple((own.unsqueeze(1) & self.groups).any(2) for own in is_own)
        return LocalViews(sources, targets, are_own)

    def _encode_groups(self, x, is_own):
        """Encode each group of columns, (n, G, p), from the cells that the view did not replace."""
        shown = is_own.unsqueeze(1) & self.groups
        alone = torch.where(shown, x.unsqueeze(1), torch.nan).flatten(0, 1)
        return self.local(self.likelihood.inputs(alone)).view(*shown.shape[:2], -1)
