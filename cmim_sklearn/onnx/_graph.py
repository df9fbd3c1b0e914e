"""What ONNX graphs are made of: nodes, piecewise linear maps of columns, and networks.

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
SAMPLE_ROWS = 2


def advice(package):
    """What to say where a package is missing."""
    return f"Export to ONNX needs {package}: pip install 'cmim-sklearn[onnx]'"


class Graph:
    """Nodes and constants of a graph in the making; a method that adds one returns its name."""

    def __init__(self, prefix):
        try:
            import onnx
        except ImportError as error:
            raise ImportError(advice("onnx")) from error
        self.onnx, self.prefix = onnx, prefix
        self.nodes, self.constants = [], []

    def new_name(self):
        """A name that no other tensor has."""
        return f"{self.prefix}{len(self.nodes)}_{len(self.constants)}"

    def add(self, op, *inputs, name=None, **attributes):
        """Add a node; its inputs are names, or arrays, which become constants."""
        inputs = [v if isinstance(v, str) else self.constant(v) for v in inputs]
        name = name or self.new_name()
        self.nodes.append(self.onnx.helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def constant(self, values):
        """Add an array; one of objects holds strings."""
        name, values = f"{self.new_name()}_constant", np.asarray(values)
        if values.dtype.kind == "i":
            values = values.astype(np.int64)  # as ONNX wants positions
        self.constants.append(self.onnx.numpy_helper.from_array(values, name))
        return name

    def cast(self, value, dtype, name=None):
        """Convert to a numpy dtype."""
        return self.add("Cast", value, name=name, to=self._type(dtype))

    def beside(self, values):
        """Tensors (n, w_i) side by side; None where there are none."""
        if len(values) < 2:
            return values[0] if values else None
        return self.add("Concat", *values, axis=1)

    def pick(self, values, positions):
        """Some columns of a tensor (n, w)."""
        return self.add("Gather", values, np.asarray(positions), axis=1)

    def info(self, name, dtype, width):
        """Describe an input or an output (n, width) of the graph."""
        return self.onnx.helper.make_tensor_value_info(name, self._type(dtype), ["n", width])

    def _type(self, dtype):
        return self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))

    def model(self, inputs, outputs):
        """The whole, checked."""
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
    """A piecewise linear map: of a value in a segment, ``base + (value - origin) * slope``.

    Attributes
    ----------
    start : array of shape (S,)
        Where each begins, -inf first.
    origin, slope, base : array of shape (S,)
    """

    start: np.ndarray
    origin: np.ndarray
    slope: np.ndarray
    base: np.ndarray


def forward_segments(m):
    """`ScalingMap.forward` in segments: a tail, then two a knot, its atom and what follows."""
    first, last = m.tails
    reach = m.reach.clip(min=np.finfo(float).tiny)  # the least that runtimes tell from 0
    starts, ends = m.x - reach, np.nextafter(m.x + reach, np.inf)
    # Beyond the range all is tail.
    starts[0], ends[-1] = m.x[0], np.nextafter(m.x[-1], np.inf)
    is_atom = m.above > m.below
    starts, ends = np.where(is_atom, starts, m.x), np.where(is_atom, ends, m.x)
    between = (m.below[1:] - m.above[:-1]) / np.diff(m.x)
    return Segments(
        np.concatenate([[-np.inf], _alternating(starts, ends)]),
        np.concatenate([m.x[:1], np.repeat(m.x, 2)]),
        np.concatenate([[first], _alternating(np.zeros(len(m.x)), [*between, last])]),
        np.concatenate([m.below[:1], _alternating(m.y, m.above)]),
    )


def inverse_segments(m):
    """`ScalingMap.inverse` in segments."""
    first, last = m.tails
    ends, values = _alternating(m.below, m.above), np.repeat(m.x, 2)
    width, rise = np.diff(ends), np.diff(values)
    between = np.divide(rise, width, out=np.zeros(len(width)), where=width > 0)
    return Segments(
        np.concatenate([[-np.inf], ends]),
        np.concatenate([ends[:1], ends]),
        np.concatenate([[1 / first], between, [1 / last]]),
        np.concatenate([values[:1], values]),
    )


def _alternating(a, b):
    return np.stack([a, b], axis=1).ravel()


def piecewise(graph, values, maps):
    """Apply one map to each column of doubles (n, C), finding segments by binary search."""
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


class Hidden(NamedTuple):
    """A tensor between networks.

    Attributes
    ----------
    name : str
        In the graph.
    sample : Tensor of shape (SAMPLE_ROWS, ...)
        What it may hold.
    """

    name: str
    sample: Tensor


def apply_body(graph, network, h):
    """The hidden activations of a network, as `embedding.hidden_states` gives them."""
    if not isinstance(network.body, nn.Sequential):
        return [apply(graph, network, network.body, h)]
    states = []
    for block in network.body:
        h = apply(graph, network, block, h)
        states.append(h)
    return states or [h]


def apply(graph, network, module, h):
    """Put a hidden state through a network or a part of it, by our own nodes or torch's export."""
    if type(network) is MLP and type(module) in (MLP, nn.Sequential):
        for part in module.children():
            h = apply(graph, network, part, h)
        return h
    known = type(network) is MLP and type(module) in _MODULES
    add = _MODULES[type(module)] if known else _add_traced
    with torch.no_grad():
        return Hidden(add(graph, module, h), module(h.sample))


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
    """A module of the user's own, as torch exports it."""
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(advice("onnxscript")) from error
    from onnx.inliner import inline_local_functions

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns of its own insides
        program = torch.onnx.export(
            module,
            (h.sample,),
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
