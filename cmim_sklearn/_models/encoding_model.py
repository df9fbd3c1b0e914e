"""Base of the torch models: an encoder with a posterior over latent codes.

Axes: n rows, C columns, d latent components.
"""

import copy
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from cmim_sklearn._utils.device import exact_device
from cmim_sklearn.latents import DiagonalNormal


class EncodingModel(nn.Module, ABC):
    """Interface of a model, for the net that trains it and the encoder that uses it.

    A subclass sets the three attributes below. Training calls `draw_noise` and then `forward`, so
    that all randomness comes from one generator.

    Attributes
    ----------
    encoder : nn.Module
        (n, likelihood.n_inputs) -> (n, d * posterior.outputs_per_component).
    posterior : Posterior
    likelihood : Joint
        Converts encoded rows to inputs of the encoder.
    has_decoder : bool
        Whether the model has `reconstruction_log_prob`.
    """

    has_decoder = False

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.parameters()).device

    @abstractmethod
    def draw_noise(self, x, generator):
        """Draw all random numbers of one `forward` for encoded rows x (n, C).

        The generator is on the device of x.
        """

    @abstractmethod
    def forward(self, x, noise):
        """Pass encoded rows x (n, C) through the model; returns the input of the loss."""

    def encode(self, x) -> DiagonalNormal:
        """Compute q(z | x) at inference for encoded rows x (n, C)."""
        return self.posterior.inference(self.encoder(self.likelihood.inputs(x)))

    def posterior_mean(self, x) -> Tensor:
        """Compute the mean (n, d) of q(z | x) at inference for encoded rows x (n, C)."""
        return self.encode(x).mean


def exact_model(model: EncodingModel) -> EncodingModel:
    """Return the model if its device has float64, else a copy on the CPU.

    Apple's mps has none, and lacks functions that densities and samples of counts need.
    """
    device = exact_device(model.device)
    return model if device == model.device else copy.deepcopy(model).to(device)
