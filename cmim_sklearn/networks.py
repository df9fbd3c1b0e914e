"""Trunks, for encoder and decoder alike.

A network is built by ``(n_in, n_out, hidden_layer_sizes, activation) -> nn.Module`` and maps
(n, n_in) to (n, n_out). It has two submodules: ``body``, up to the last hidden activation, and
``output``, the linear map from there. Only a decoder needs them, for the embeddings read from its
hidden state; an encoder of one's own may be any module.
"""

import math

import torch
from torch import nn

ACTIVATIONS = {
    "silu": nn.SiLU,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
    "identity": nn.Identity,
}


class MLP(nn.Module):
    """Linear layers with an activation between; with ``hidden_layer_sizes=()`` one linear layer.

    Attributes
    ----------
    body : nn.Sequential
        One child for each hidden layer.
    output : nn.Linear
    """

    def __init__(self, n_in, n_out, hidden_layer_sizes, activation):
        super().__init__()
        widths = [n_in, *hidden_layer_sizes]
        self.body = nn.Sequential(
            *(
                nn.Sequential(linear(a, b), ACTIVATIONS[activation]())
                for a, b in zip(widths[:-1], widths[1:], strict=True)
            )
        )
        self.output = linear(widths[-1], n_out)

    def forward(self, x):
        """Map (n, n_in) to (n, n_out)."""
        return self.output(self.body(x))


def linear(n_in, n_out):
    """Return an `nn.Linear` that has drawn nothing from the global random state.

    Its parameters are undefined until `reset_parameters`.
    """
    return nn.utils.skip_init(nn.Linear, n_in, n_out)


def reset_parameters(module, generator):
    """Draw all linear layers' parameters from a generator: U(-1, 1) / sqrt(n_in), torch's own."""
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Linear):
                bound = 1 / math.sqrt(max(1, layer.in_features))
                for parameter in (layer.weight, layer.bias):
                    parameter.uniform_(-bound, bound, generator=generator)


NETWORKS = {"mlp": MLP}
