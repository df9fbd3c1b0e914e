"""Networks of encoders and decoders, by name or from a custom callable.

A network is built by a callable ``(n_in, n_out, hidden_layer_sizes, activation) -> nn.Module`` and
maps (n, n_in) to (n, n_out). A decoder needs two submodules: ``body``, up to the last hidden
activation, and ``output``, which maps that to the n_out outputs. Embeddings are read between them.
A custom encoder may be any module. A new network by name is one class and one line in `NETWORKS`.
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
"""Activation functions by name. "identity" means none: only layer norms are not linear then."""

# A custom callable may draw from torch's global generator, whose state is restored afterwards. The
# state belongs to the whole process, so only one thread at a time may do this.
_GLOBAL_RANDOM_STATE = fork_safe_lock()


class MLP(nn.Module):
    """Multilayer perceptron with layer norm.

    Each hidden layer is a linear map, a layer norm and an activation; the output is linear. The
    norm acts on rows, not on the batch, so a row's features do not depend on other rows. It
    improves results on small tables.

    Parameters
    ----------
    n_in : int
        Number of inputs.
    n_out : int
        Number of outputs.
    hidden_layer_sizes : sequence of int
        Widths of the hidden layers. ``()``: a linear map from inputs to outputs.
    activation : {"silu", "relu", "gelu", "elu", "tanh", "identity"}
        Activation function of the hidden layers, by its name in PyTorch. `"identity"`: none.
    generator : torch.Generator, default=None
        Generator of the initial weights. None: torch's global generator, as for any module.

    Attributes
    ----------
    body : nn.Sequential
        Hidden layers, one child each.
    output : nn.Linear
        Output layer.

    Examples
    --------
    >>> import torch
    >>> from cmim_sklearn.networks import MLP
    >>> network = MLP(4, 2, (8,), "silu", torch.Generator().manual_seed(0))
    >>> network(torch.zeros(3, 4)).shape
    torch.Size([3, 2])
    """

    def __init__(self, n_in, n_out, hidden_layer_sizes, activation, generator=None):
        super().__init__()
        widths = [n_in, *hidden_layer_sizes]
        self.body = nn.Sequential(
            *(
                nn.Sequential(
                    linear(a, b),
                    nn.LayerNorm(b, device="cpu", dtype=torch.float32),
                    ACTIVATIONS[activation](),
                )
                for a, b in pairwise(widths)
            )
        )
        self.output = linear(widths[-1], n_out)
        reset_parameters(self, generator)

    def forward(self, x):
        """Map inputs (n, n_in) to outputs (n, n_out)."""
        return self.output(self.body(x))


def linear(n_in, n_out):
    """Return an `nn.Linear` without using the global random state.

    Its parameters are undefined until `reset_parameters` sets them.
    """
    return nn.utils.skip_init(nn.Linear, n_in, n_out, dtype=torch.float32)


def reset_parameters(module, generator):
    """Initialise all linear layers from a generator, by U(-1, 1) / sqrt(n_in), torch's default."""
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Linear):
                bound = 1 / math.sqrt(max(1, layer.in_features))
                for parameter in (layer.weight, layer.bias):
                    parameter.uniform_(-bound, bound, generator=generator)


def build(network, n_in, n_out, hidden_layer_sizes, activation, generator, *, is_decoder):
    """Build a network and initialise it from a generator.

    Parameters
    ----------
    network : str or callable
        Name in `NETWORKS`, or a callable with the same signature as the classes there.
    n_in, n_out, hidden_layer_sizes, activation
        Arguments of the callable, as in `MLP`.
    generator : torch.Generator
        Generator on the CPU. For a callable, torch's global generator is seeded from it, and its
        state is restored afterwards.
    is_decoder : bool
        Whether the network needs ``body`` and ``output``.

    Returns
    -------
    nn.Module
        Network in training mode.

    Raises
    ------
    TypeError
        If `network` is a module instead of a callable, or the callable does not return a module.
    ValueError
        If the network does not map (n, n_in) to (n, n_out), or is a decoder without ``body`` or
        ``output``.
    """
    arguments = n_in, n_out, hidden_layer_sizes, activation
    if isinstance(network, str):
        return NETWORKS[network](*arguments, generator=generator)
    role = "decoder" if is_decoder else "encoder"
    if isinstance(network, nn.Module):
        raise TypeError(
            f"{role} must be a callable that builds a new network for each fit; got a network, "
            f"{type(network).__name__}. Pass its class or a function."
        )
    seed = int(torch.randint(2**31 - 1, (), generator=generator))
    with _GLOBAL_RANDOM_STATE, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        module = network(*arguments)
        if not isinstance(module, nn.Module):
            raise TypeError(
                f"{role} must return a torch.nn.Module; got {type(module).__name__} from "
                f"{network!r}."
            )
        with torch.no_grad():
            output = module.float().eval()(torch.zeros(2, n_in, dtype=torch.float32))
        module.train()
    found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    if found != (2, n_out):
        raise ValueError(
            f"{role} must return a network that maps (n, {n_in}) to (n, {n_out}); got {found} for "
            f"n = 2, from {network!r}."
        )
    missing = [part for part in ("body", "output") if not hasattr(module, part)]
    if is_decoder and missing:
        raise ValueError(
            "decoder must return a network with submodules body (up to the last hidden activation) "
            f"and output (from there to n_out numbers); got {type(module).__name__} without "
            f"{' and '.join(missing)}, from {network!r}."
        )
    return module


NETWORKS = {"mlp": MLP}
"""Networks by name."""
