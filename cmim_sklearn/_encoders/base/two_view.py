"""Base of the encoders that compare two views of a row and have no decoder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from cmim_sklearn._encoders.base.encoder import _LatentEncoder
from cmim_sklearn._encoders.base.fit import layer_sizes
from cmim_sklearn._models.two_view import Corruption, TwoViewModel
from cmim_sklearn.latents import POSTERIORS
from cmim_sklearn.networks import MLP


@dataclass(eq=False, repr=False, kw_only=True)
class _TwoViewEncoder(_LatentEncoder):
    """Encoder that compares two views of a row.

    A final subclass adds its own fields with their `_parameter_constraints`, and `_objective`.
    """

    n_components: int = field(default=256, kw_only=False)
    view: Callable | None = None

    _default_view = Corruption()
    _posterior = "point"
    _projector_layer_sizes = ()
    _min_held_out = 2

    def _architecture(self):
        sizes = layer_sizes(self._projector_layer_sizes)
        return super()._architecture() | {"projector_layer_sizes": sizes}

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

    def _layer_chains(self, likelihood, architecture):
        d, hidden = architecture["n_components"], architecture["hidden_layer_sizes"]
        return [[likelihood.n_inputs, *hidden, d], [d, *architecture["projector_layer_sizes"]]]

    def _update_model(self, model):
        model.view = self._default_view if self.view is None else self.view


@dataclass(eq=False, repr=False, kw_only=True)
class _ProjectingEncoder(_TwoViewEncoder):
    """Encoder that compares two views of a row after a projector, which is for training only."""

    projector_layer_sizes: int | Sequence[int] | np.ndarray = (256, 256)

    _layer_size_parameters = ("hidden_layer_sizes", "projector_layer_sizes")

    @property
    def _projector_layer_sizes(self):
        return self.projector_layer_sizes
