"""Heads: linear layers on the decoder's last hidden layer, fitted after training.

Axes: n rows, d latent components, w units of the last hidden layer, H outputs of the heads.
"""

from abc import ABC, abstractmethod

from torch import nn
from torch.nn.functional import linear


class Heads(ABC):
    """Heads to fit by maximum likelihood, with the decoder frozen.

    `params`, for one model, and `losses` are called in each training step; `params` also by
    `torch.vmap`.

    Attributes
    ----------
    start : Tensor of shape (H, w + 1)
        Weights to start from; the intercepts are last. A subclass may have other shapes.
    cells : Tensor of shape (n, q) or None
        Numbers that the heads predict, of all training rows. Training takes them, and leaves None.
    n_steps : int
        Number of training steps.
    weight_decay : float
        Weight decay of AdamW.
    max_norm : float or None, default=None
        Upper bound of the norm of a gradient.
    needs_outputs : bool, default=False
        Whether `params` needs the outputs of the decoder.
    """

    max_norm, needs_outputs = None, False

    def __init__(self, start, cells, n_steps):
        self.start, self.cells, self.n_steps = start, cells, n_steps

    @abstractmethod
    def rate(self, step):
        """Learning rate of a training step, above 0."""

    def params(self, weights, outputs, h):
        """Numbers (n, p) that the loss needs, given outputs (n, P) or None, and h (n, w)."""
        return affine(weights, h)

    @abstractmethod
    def losses(self, params, cells):
        """Mean loss (...) of rows in nats, from params (..., n, p) and cells (..., n, q)."""

    def together(self, others):
        """Heads whose `losses` are those of several models, along a first axis.

        ``others`` are the heads of these models, all of which have the same shapes.
        """
        return self

    @abstractmethod
    def result(self, weights):
        """Fitted attribute of the encoder, from trained weights (H, w + 1)."""


def affine(weights, h):
    """Outputs (n, H) of heads (H, w + 1) at the last hidden layer (n, w)."""
    return linear(h, weights[:, :-1], weights[:, -1])


class WithHidden(nn.Module):
    """Decoder that returns its outputs (n, P), and its last hidden layer as (n, w).

    Parameters
    ----------
    decoder : nn.Module
        With submodules ``body`` and ``output``.
    """

    def __init__(self, decoder):
        super().__init__()
        self.decoder = decoder

    def forward(self, z, has_outputs=True):
        """Outputs, or None, and last hidden layer for codes z (n, d)."""
        h = self.decoder.body(z)
        return self.decoder.output(h) if has_outputs else None, h.flatten(1)
