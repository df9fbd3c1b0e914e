"""Two-view model: two corrupted views of each row, encoded and projected for a contrastive loss.

A view is an object: `Corruption`, or a custom callable.

Axes: n rows, C columns, d latent components, p projected features.
"""

from dataclasses import dataclass
from numbers import Real
from typing import NamedTuple

import torch
from torch import Tensor

from cmim_sklearn._models.encoding_model import EncodingModel
from cmim_sklearn.latents import DiagonalNormal


@dataclass(frozen=True)
class Corruption:
    """Two views of a row: the row itself, and a copy with some cells from other rows, as in SCARF.

    A custom view is any callable ``(x, generator) -> (first, second)`` on encoded rows: float32
    tensors (n, C) with NaN in missing cells. The generator is on the device of the rows.

    Parameters
    ----------
    rate : float, default=0.6
        Probability that a cell is replaced, in [0, 1]. The new value comes from the same column of
        a random row of the batch.
    both : bool, default=False
        Whether the first view is corrupted too. False: the first view is the row itself.

    Raises
    ------
    ValueError
        If `rate` is not a number in [0, 1].

    References
    ----------
    D. Bahri et al., "SCARF" (2022), arXiv 2106.15147.
    """

    # NOTE[paper] SCARF replaces a fixed number of cells per row, by values from the training table.
    rate: float = 0.6
    both: bool = False

    def __post_init__(self):
        """Check the rate."""
        if not isinstance(self.rate, Real) or not 0 <= self.rate <= 1:
            raise ValueError(f"rate must be a number in [0, 1]; got {self.rate!r}.")

    def __call__(self, x, generator):
        """Compute two views (n, C) of encoded rows x (n, C)."""
        return (self._corrupt(x, generator) if self.both else x), self._corrupt(x, generator)

    def _corrupt(self, x, generator):
        options = {"generator": generator, "device": x.device}
        is_replaced = torch.rand(x.shape, dtype=x.dtype, **options) < self.rate
        others = torch.randint(len(x), x.shape, **options)
        return torch.where(is_replaced, x.gather(0, others), x)


class View(NamedTuple):
    """One encoded view of n rows.

    Attributes
    ----------
    z : Tensor of shape (n, d)
        Latent codes, sampled from the posterior.
    posterior : DiagonalNormal
    projected : Tensor of shape (n, p)
        Projected codes that losses compare. The projector is not used after training.
    """

    z: Tensor
    posterior: DiagonalNormal
    projected: Tensor


class Views(NamedTuple):
    """Both views of a batch: the input of every contrastive loss."""

    first: View
    second: View


class ViewNoise(NamedTuple):
    """Random parts of one pass: two views of encoded rows, each (n, C), and code noise (n, d)."""

    rows: tuple[Tensor, Tensor]
    codes: tuple[Tensor, Tensor]


class TwoViewModel(EncodingModel):
    """Encoder, posterior and projector that map two views of a batch to `Views`.

    Parameters
    ----------
    encoder : nn.Module
        (n, likelihood.n_inputs) -> (n, d * posterior.outputs_per_component).
    posterior : Posterior
    projector : nn.Module
        (n, d) -> (n, p).
    likelihood : Joint
        Converts encoded rows to inputs of the encoder; its densities are not used.
    view : callable
        As in `Corruption`.
    """

    def __init__(self, encoder, posterior, projector, likelihood, view):
        super().__init__()
        self.encoder, self.posterior, self.projector = encoder, posterior, projector
        self.likelihood, self.view = likelihood, view

    def draw_noise(self, x, generator) -> ViewNoise:
        """See `EncodingModel.draw_noise`."""
        shape = len(x), self.posterior.n_components
        options = {"generator": generator, "dtype": x.dtype, "device": x.device}
        codes = tuple(torch.randn(shape, **options) for _ in range(2))
        return ViewNoise(two_views(self.view, x, generator), codes)

    def forward(self, x, noise: ViewNoise) -> Views:
        """Encode both views of encoded rows x (n, C)."""
        return Views(*(self._encode_view(*part) for part in zip(*noise, strict=True)))

    def _encode_view(self, x, noise) -> View:
        posterior = self.posterior(self.encoder(self.likelihood.inputs(x)))
        z = posterior.rsample(noise)
        # Losses need more than half precision.
        return View(z, posterior, self.projector(z).float())


def two_views(view, x, generator):
    """Compute two views (n, C) of encoded rows x (n, C); check their shapes and devices."""
    if isinstance(view, type):
        raise ValueError(
            f"view must be an object, not a class; got {view.__name__}. Create an object, as in "
            "view=Corruption(0.5)."
        )
    views = view(x, generator)
    is_pair = isinstance(views, tuple | list) and len(views) == 2
    if not is_pair or any(getattr(part, "shape", None) != x.shape for part in views):
        shapes = [tuple(getattr(part, "shape", ())) for part in views]
        raise ValueError(
            f"view must return two tensors of shape {tuple(x.shape)}, the shape of its input; got "
            f"a {type(views).__name__} of {len(views)}: {', '.join(map(str, shapes[:3]))}."
        )
    for part in views:
        if isinstance(part, Tensor) and part.device != x.device:
            raise ValueError(
                f"view must return tensors on {x.device}, the device of its input; got one on "
                f"{part.device}. Create tensors with device=x.device."
            )
    return tuple(views)
