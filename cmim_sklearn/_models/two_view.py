"""Two views of each row, and the model that encodes both.

A view is an object, `Corruption` or one of the user's own.

Axes: n rows, C columns, d latent components, p projected features.
"""

from dataclasses import dataclass
from numbers import Real
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cmim_sklearn.latents import DiagonalNormal


@dataclass(frozen=True)
class Corruption:
    """Two views of a row: as it is, and with some cells taken from other rows, as in SCARF.

    A view of your own is any callable ``(x, generator) -> (first, second)`` on encoded rows,
    tensors (n, C) with NaN where nothing is known.

    Parameters
    ----------
    rate : float, default=0.6
        Share of cells that are replaced, each by what its column has in a row of the batch drawn
        at random.
    both : bool, default=False
        Whether the first view is corrupted, too.

    References
    ----------
    D. Bahri et al., "SCARF" (2022), arXiv 2106.15147.
    """

    # NOTE[paper] SCARF replaces a fixed number of cells a row, by draws from the training table.
    rate: float = 0.6
    both: bool = False

    def __post_init__(self):
        """Check the rate."""
        if not isinstance(self.rate, Real) or not 0 <= self.rate <= 1:
            raise ValueError(f"rate must be a number from 0 to 1. Got {self.rate!r} instead.")

    def __call__(self, x, generator):
        """Two views (n, C) of encoded rows x (n, C)."""
        return (self._corrupt(x, generator) if self.both else x), self._corrupt(x, generator)

    def _corrupt(self, x, generator):
        options = {"generator": generator, "device": x.device}
        is_replaced = torch.rand(x.shape, **options) < self.rate
        others = torch.randint(len(x), x.shape, **options)
        return torch.where(is_replaced, x.gather(0, others), x)


class View(NamedTuple):
    """What is made of one view of n rows.

    Attributes
    ----------
    z : Tensor of shape (n, d)
    posterior : DiagonalNormal
    projected : Tensor of shape (n, p)
        What losses compare; thrown away after training.
    """

    z: Tensor
    posterior: DiagonalNormal
    projected: Tensor


class Views(NamedTuple):
    """Both views of a batch: all that a contrastive loss may see."""

    first: View
    second: View


class ViewNoise(NamedTuple):
    """Everything random in one pass: two views of encoded rows, each (n, C), and noise (n, d)."""

    rows: tuple[Tensor, Tensor]
    codes: tuple[Tensor, Tensor]


class TwoViewModel(nn.Module):
    """Encoder, posterior and projector; a batch in, `Views` out.

    Parameters
    ----------
    encoder : nn.Module
        (n, likelihood.n_inputs) -> (n, d * posterior.outputs_per_component).
    posterior : Posterior
    projector : nn.Module
        (n, d) -> (n, p).
    likelihood : Joint
        Makes inputs of encoded rows; nothing else of it is used.
    view : callable
    """

    def __init__(self, encoder, posterior, projector, likelihood, view):
        super().__init__()
        self.encoder, self.posterior, self.projector = encoder, posterior, projector
        self.likelihood, self.view = likelihood, view

    @property
    def device(self):
        """Where the parameters are."""
        return next(self.parameters()).device

    def draw_noise(self, x, generator) -> ViewNoise:
        """Draw what `forward` needs for encoded rows x (n, C)."""
        shape, options = (len(x), self.posterior.n_components), {"generator": generator}
        codes = tuple(torch.randn(shape, **options, device=x.device) for _ in range(2))
        return ViewNoise(two_views(self.view, x, generator), codes)

    def forward(self, x, noise: ViewNoise) -> Views:
        """Encode both views of encoded rows x (n, C)."""
        return Views(*(self._see(*part) for part in zip(*noise, strict=True)))

    def _see(self, x, noise) -> View:
        posterior = self.posterior(self.encoder(self.likelihood.inputs(x)))
        z = posterior.rsample(noise)
        return View(z, posterior, self.projector(z).float())  # losses want more than half

    def encode(self, x) -> DiagonalNormal:
        """q(z | x) of encoded rows x (n, C), uncorrupted, at inference."""
        return self.posterior.inference(self.encoder(self.likelihood.inputs(x)))

    def posterior_mean(self, x) -> Tensor:
        """Its mean, (n, d)."""
        return self.encode(x).mean


def two_views(view, x, generator):
    """Two views (n, C) of encoded rows x (n, C), by a callable that is checked."""
    if isinstance(view, type):
        raise ValueError(
            f"view must be an object, not a class. Got {view.__name__}; call it first, as "
            "view=Corruption(0.5)."
        )
    views = view(x, generator)
    is_pair = isinstance(views, tuple | list) and len(views) == 2
    if not is_pair or any(getattr(part, "shape", None) != x.shape for part in views):
        shapes = [tuple(getattr(part, "shape", ())) for part in views]
        raise ValueError(
            f"view must return two tensors {tuple(x.shape)}, as encoded rows come. Got a "
            f"{type(views).__name__} of {len(views)}: {', '.join(map(str, shapes[:3]))}."
        )
    return tuple(views)
