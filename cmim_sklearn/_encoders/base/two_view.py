"""Base of the encoders that compare two views of a row and have no decoder."""

import numpy as np
import torch
from torch import nn

from cmim_sklearn._encoders.base.encoder import _LatentEncoder
from cmim_sklearn._models.two_view import Corruption, TwoViewModel
from cmim_sklearn.latents import POSTERIORS
from cmim_sklearn.networks import MLP


class _ContrastiveEncoder(_LatentEncoder):
    """Two views and no decoder. A subclass is final."""

    _default_view = Corruption()
    _posterior = "point"

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
        posterior = POSTERIORS[self._posterior](d)
        n_outputs = d * posterior.outputs_per_component
        encoder = self._build_encoder(likelihood, architecture, n_outputs, generator)
        projector, widths = nn.Identity(), architecture["projector_layer_sizes"]
        if widths:
            shape = widths[-1], widths[:-1], architecture["activation"]
            projector = MLP(d, *shape, generator)
        return TwoViewModel(encoder, posterior, projector, likelihood, self._default_view)
