"""ONNX graphs: nodes and constants, piecewise linear maps of columns, and torch networks.

Axes: n rows, C columns, S segments.
"""

import math
import warnings
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from cmim_sklearn.networks import MLP

OPSETS, IR_VERSION = {"": 18, "ai.onnx.ml": 2}, 8
EXAMPLE_ROWS = 2
"""Rows of the example inputs with which networks are traced."""


def install_hint(package):
    """Message of the ImportError for a missing package."""
    return f"Export to ONNX needs {package}: pip install 'cmim-sklearn[onnx]'"


class Graph:
    """Nodes and constants of a graph. Methods that add a node return the name of its output.

    Names of tensors start with `prefix`.
    """

    def __init__(self, prefix):
        try:
            import onnx
        except ImportError as error:
            raise ImportError(install_hint("onnx")) from error
        self.onnx, self.prefix = onnx, prefix
        self.nodes, self.constants = [], []

    def new_name(self):
        """Name that no other tensor of the graph has."""
        return f"{self.prefix}{len(self.nodes)}_{len(self.constants)}"

    def add(self, op, *inputs, name=None, **attributes):
        """Add a node. Inputs are names of tensors, or arrays, which become constants."""
        inputs = [v if isinstance(v, str) else self.constant(v) for v in inputs]
        name = name or self.new_name()
        self.nodes.append(self.onnx.helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def constant(self, values):
        """Add an array of numbers, or an object array of strings."""
        name, values = f"{self.new_name()}_constant", np.asarray(values)
        if values.dtype.kind == "i":
            values = values.astype(np.int64)  # the type of positions in ONNX
        self.constants.append(self.onnx.numpy_helper.from_array(values, name))
        return name

    def cast(self, value, dtype, name=None):
        """Convert a tensor to a numpy dtype."""
        return self.add("Cast", value, name=name, to=self._type(dtype))

    def concat(self, values):
        """Concatenate tensors (n, w_i) along the columns; None for an empty list."""
        if len(values) < 2:
            return values[0] if values else None
        return self.add("Concat", *values, axis=1)

    def select(self, values, positions):
        """Select columns of a tensor (n, w)."""
        return self.add("Gather", values, np.asarray(positions), axis=1)

    def value_info(self, name, dtype, width):
        """Description of an input or an output (n, width) of the graph, or (n,) without width."""
        shape = ["n"] if width is None else ["n", width]
        return self.onnx.helper.make_tensor_value_info(name, self._type(dtype), shape)

    def _type(self, dtype):
        return self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))

    def model(self, inputs, outputs):
        """Model of the graph, checked by onnx."""
        helper = self.onnx.helper
        model = helper.make_model(
            helper.make_graph(self.nodes, "cmim_sklearn", inputs, outputs, self.constants),
            opset_imports=[helper.make_opsetid(*item) for item in OPSETS.items()],
            ir_version=IR_VERSION,
            producer_name="cmim_sklearn",
        )
        self.onnx.checker.check_model(model, full_check=True)
        return model


# -- piecewise linear maps -------------------------------------------------------------------------


class Segments(NamedTuple):
    """Piecewise linear map: ``base + (value - origin) * slope`` in each segment.

    Attributes
    ----------
    start : array of shape (S,)
        Lower ends of the segments; the first is -inf.
    origin, slope, base : array of shape (S,)
        Parameters of the segments.
    """

    start: np.ndarray
    origin: np.ndarray
    slope: np.ndarray
    base: np.ndarray


def forward_segments(m):
    """Segments of `ScalingMap.forward`: a tail, then an atom and a slope per knot."""
    first, last = m.tails
    reach = m.reach.clip(min=np.finfo(float).tiny)  # runtimes treat smaller numbers as 0
    starts, ends = m.x - reach, np.nextafter(m.x + reach, np.inf)
    # Tails begin at the first and end at the last knot itself.
    starts[0], ends[-1] = m.x[0], np.nextafter(m.x[-1], np.inf)
    is_atom = m.above > m.below
    starts, ends = np.where(is_atom, starts, m.x), np.where(is_atom, ends, m.x)
    between = (m.below[1:] - m.above[:-1]) / np.diff(m.x)
    return Segments(
        np.concatenate([[-np.inf], _interleave(starts, ends)]),
        np.concatenate([m.x[:1], np.repeat(m.x, 2)]),
        np.concatenate([[first], _interleave(np.zeros(len(m.x)), [*between, last])]),
        np.concatenate([m.below[:1], _interleave(m.y, m.above)]),
    )


def inverse_segments(m):
    """Segments of `ScalingMap.inverse`."""
    first, last = m.tails
    ends, values = _interleave(m.below, m.above), np.repeat(m.x, 2)
    width, rise = np.diff(ends), np.diff(values)
    between = np.divide(rise, width, out=np.zeros(len(width)), where=width > 0)
    return Segments(
        np.concatenate([[-np.inf], ends]),
        np.concatenate([ends[:1], ends]),
        np.concatenate([[1 / first], between, [1 / last]]),
        np.concatenate([values[:1], values]),
    )


def _interleave(a, b):
    return np.stack([a, b], axis=1).ravel()


def add_piecewise(graph, values, maps):
    """Apply one map to each column of doubles (n, C); binary search finds the segments."""
    size = 2 ** math.ceil(math.log2(max(len(m.start) for m in maps)))

    def padded(name):
        parts = np.full((len(maps), size), np.nan)
        for row, m in zip(parts, maps, strict=True):
            row[: len(m.start)] = getattr(m, name)
        return parts.ravel()

    start = graph.constant(padded("start"))
    place = graph.constant(np.arange(len(maps)) * size)
    step = size // 2
    while step:
        ahead = graph.add("Add", place, np.array(step))
        is_there = graph.add("GreaterOrEqual", values, graph.add("Gather", start, ahead))
        place = graph.add("Where", is_there, ahead, place)
        step //= 2
    origin, slope, base = (
        graph.add("Gather", padded(name), place) for name in ("origin", "slope", "base")
    )
    rise = graph.add("Mul", graph.add("Sub", values, origin), slope)
    return graph.add("Add", base, rise)


# -- networks --------------------------------------------------------------------------------------


class Activation(NamedTuple):
    """Input or output of a network.

    Attributes
    ----------
    name : str
        Name of the tensor in the graph.
    example : Tensor of shape (EXAMPLE_ROWS, ...)
        Values of the right shape and dtype, to trace networks with.
    """

    name: str
    example: Tensor


def add_hidden_states(graph, network, h):
    """Hidden activations of a network, as `features.hidden_states` returns them."""
    if not isinstance(network.body, nn.Sequential):
        return [add_module(graph, network, network.body, h)]
    states = []
    for block in network.body:
        h = add_module(graph, network, block, h)
        states.append(h)
    return states or [h]


def add_module(graph, network, module, h):
    """Output of a network or a part of it: nodes written here for an MLP, else torch's export."""
    if type(network) is MLP and type(module) in (MLP, nn.Sequential):
        for part in module.children():
            h = add_module(graph, network, part, h)
        return h
    is_known = type(network) is MLP and type(module) in _MODULES
    add = _MODULES[type(module)] if is_known else _add_traced
    with torch.no_grad():
        return Activation(add(graph, module, h), module(h.example))


def _add_linear(graph, module, h):
    weight, bias = module.weight.detach().numpy(), module.bias.detach().numpy()
    return graph.add("Gemm", h.name, weight, bias, transB=1)


def _add_layer_norm(graph, module, h):
    weight, bias = module.weight.detach().numpy(), module.bias.detach().numpy()
    return graph.add("LayerNormalization", h.name, weight, bias, epsilon=module.eps)


def _add_silu(graph, module, h):
    return graph.add("Mul", h.name, graph.add("Sigmoid", h.name))


def _add_gelu(graph, module, h):
    share = graph.add("Erf", graph.add("Mul", h.name, np.float32(math.sqrt(0.5))))
    twice = graph.add("Mul", h.name, graph.add("Add", share, np.float32(1)))
    return graph.add("Mul", twice, np.float32(0.5))


_MODULES = {
    nn.Linear: _add_linear,
    nn.LayerNorm: _add_layer_norm,
    nn.SiLU: _add_silu,
    nn.GELU: _add_gelu,
    nn.ReLU: lambda graph, module, h: graph.add("Relu", h.name),
    nn.ELU: lambda graph, module, h: graph.add("Elu", h.name),
    nn.Tanh: lambda graph, module, h: graph.add("Tanh", h.name),
    nn.Identity: lambda graph, module, h: h.name,
}


def _add_traced(graph, module, h):
    """Output of a custom module, as torch exports it."""
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(install_hint("onnxscript")) from error
    from onnx.inliner import inline_local_functions

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns about its internals
        program = torch.onnx.export(
            module,
            (h.example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("n")},),
            opset_version=OPSETS[""],
            verbose=False,
        )
    traced = inline_local_functions(program.model_proto)
    traced = graph.onnx.compose.add_prefix(traced, f"{graph.new_name()}_").graph
    graph.add("Identity", h.name, name=traced.input[0].name)
    graph.nodes.extend(traced.node)
    graph.constants.extend(traced.initializer)
    return traced.output[0].name
