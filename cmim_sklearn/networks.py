"""Trunks, for encoder and decoder alike.

A network is built by ``(n_in, n_out, hidden_layer_sizes, activation) -> nn.Module`` and maps
(n, n_in) to (n, n_out). It has two submodules: ``body``, up to the last hidden activation, and
``output``, the linear map from there. Only a decoder needs them, for the embeddings read from its
hidden state; an encoder of one's own may be any module.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from cmim_sklearn._utils.forking import fork_safe_lock

ACTIVATIONS = {
    "silu": nn.SiLU,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
    "identity": nn.Identity,
}

# Building a network of the user's own may draw from torch's global generator, which is put back
# after: that state belongs to the whole process, so one thread at a time.
_GLOBAL_RANDOM_STATE = fork_safe_lock()


class MLP(nn.Module):
    """Hidden layers of linear map, layer norm and activation, and a linear output.

    With ``hidden_layer_sizes=()`` it is the linear output alone. The norm acts on a row, not on a
    batch, so that no row's features depend on another's; it pays on small tables.

    Parameters
    ----------
    n_in, n_out : int
    hidden_layer_sizes : sequence of int
    activation : str
        One of `ACTIVATIONS`.
    generator : torch.Generator, default=None
        That draws the weights; None is torch's global one, as for any module.

    Attributes
    ----------
    body : nn.Sequential
        One child for each hidden layer.
    output : nn.Linear
    """

    def __init__(self, n_in, n_out, hidden_layer_sizes, activation, generator=None):
        super().__init__()
        widths = [n_in, *hidden_layer_sizes]
        self.body = nn.Sequential(
            *(
                nn.Sequential(linear(a, b), nn.LayerNorm(b), ACTIVATIONS[activation]())
                for a, b in pairwise(widths)
            )
        )
        self.output = linear(widths[-1], n_out)
        reset_parameters(self, generator)

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


def build(network, n_in, n_out, hidden_layer_sizes, activation, generator, *, is_decoder):
    """Build a network and draw its parameters from a generator.

    Parameters
    ----------
    network : str or callable
        A name in `NETWORKS`, or a callable of the same signature as the classes there.
    n_in, n_out, hidden_layer_sizes, activation
        What it is called with.
    generator : torch.Generator
        On the CPU. A callable finds torch's global generator seeded from it, and leaves that as it
        was.
    is_decoder : bool
        Whether ``body`` and ``output`` are needed.

    Raises
    ------
    TypeError
        If a network is given, and no callable that makes one, or the callable makes something else.
    ValueError
        If it makes one that does not map (n, n_in) to (n, n_out), or a decoder without the two.
    """
    arguments = n_in, n_out, hidden_layer_sizes, activation
    if isinstance(network, str):
        return NETWORKS[network](*arguments, generator=generator)
    role = "decoder" if is_decoder else "encoder"
    if isinstance(network, nn.Module):
        raise TypeError(
            f"{role} must be a callable that makes a network, anew for each fit. Got a network, a "
            f"{type(network).__name__}."
        )
    seed = int(torch.randint(2**31 - 1, (), generator=generator))
    with _GLOBAL_RANDOM_STATE, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        module = network(*arguments)
        if not isinstance(module, nn.Module):
            raise TypeError(
                f"The {role} that {network!r} made must be a torch.nn.Module. Got a "
                f"{type(module).__name__}."
            )
        with torch.no_grad():
            output = module.eval()(torch.zeros(2, n_in))
        module.train()
    made = tuple(output.shape) if isinstance(output, Tensor) else f"a {type(output).__name__}"
    if made != (2, n_out):
        raise ValueError(
            f"The {role} that {network!r} made must map (n, {n_in}) to (n, {n_out}). Of 2 rows it "
            f"makes {made}."
        )
    missing = [part for part in ("body", "output") if not hasattr(module, part)]
    if is_decoder and missing:
        raise ValueError(
            f"The decoder that {network!r} made, a {type(module).__name__}, has no submodule "
            f"{' and no '.join(missing)}. A decoder needs `body`, up to its last hidden "
            "activation, and `output`, the map from there to n_out numbers."
        )
    return module


NETWORKS = {"mlp": MLP}
