"""Local and global codes of two views of a row, the model behind `AMDIMEncoder`."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cmim_sklearn._models.two_view import two_views
from cmim_sklearn.latents import PointPosterior


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
