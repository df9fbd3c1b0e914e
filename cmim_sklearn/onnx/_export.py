"""ONNX model of a fitted encoder: from raw cells to features, or from features to raw cells.

Axes: n rows, C columns of a block, N numeric columns, w features.
"""

import copy
from collections import Counter

import numpy as np
import torch

from cmim_sklearn._encoders.base.fitted import fitted_parts
from cmim_sklearn._encoders.base.generative import _GenerativeEncoder
from cmim_sklearn._likelihoods.bernoulli import Bernoulli
from cmim_sklearn._likelihoods.categorical import Categorical
from cmim_sklearn._likelihoods.gaussian import MAX_SCALED, Gaussian
from cmim_sklearn._likelihoods.poisson import MAX_ENCODED, MAX_LOG_RATE, Poisson
from cmim_sklearn._models.features import hidden_states
from cmim_sklearn._tables.read import BOOLEAN, CATEGORY
from cmim_sklearn.networks import MLP
from cmim_sklearn.onnx._columns import code_of_string, origins_of, tensor_types, with_codes
from cmim_sklearn.onnx._graph import (
    EXAMPLE_ROWS,
    Activation,
    Graph,
    add_hidden_states,
    add_module,
    add_piecewise,
    forward_segments,
    inverse_segments,
)

OUTPUTS = ("embedding", "decode")


def export(encoder, output="embedding"):
    """Export a fitted encoder to an ONNX model.

    Parameters
    ----------
    encoder : encoder of this package
        Fitted encoder.
    output : {"embedding", "decode"}, default="embedding"
        "embedding": from raw cells to features. "decode": from features to raw cells. See the
        encoder's ``to_onnx`` for the inputs and outputs.

    Returns
    -------
    onnx.ModelProto
        Model, checked by onnx.

    Raises
    ------
    ImportError
        If onnx is not installed, or onnxscript for a custom network.
    NotImplementedError
        If a kind of column cannot be exported, such as dates.
    ValueError
        If `output` is neither of the two, or "decode" for an encoder without a decoder; if two
        levels of a column, or two names, are the same string; if doubles cannot tell the numbers
        of a column apart.
    """
    if output not in OUTPUTS:
        raise ValueError(f"`output` must be one of {OUTPUTS}; got {output!r}.")
    if output == "decode" and not isinstance(encoder, _GenerativeEncoder):
        raise ValueError(
            f"`output` must be 'embedding' for {type(encoder).__name__}, which has no decoder; got "
            "'decode'."
        )
    parts = fitted_parts(encoder)
    graph, tensors = begin_graph(parts.table)
    features = free_name(graph, tensors, "embedding")
    row = graph.value_info(features, np.float32, len(parts.centre))
    if output == "decode":
        return graph.model([row], _add_cells(graph, parts, features, tensors))
    return graph.model(add_columns(graph, parts, tensors, features), [row])


def begin_graph(table):
    """Empty graph, and name, type and width of each tensor that holds a part of a table."""
    tensors = _table_tensors(table)
    prefix = "_"  # of all other tensors: not the beginning of a column's name
    while any(name.startswith(prefix) for name, _, _ in tensors):
        prefix += "_"
    return Graph(prefix), tensors


def free_name(graph, tensors, name):
    """Name of an output; it begins with the graph's prefix if a column has that name."""
    return graph.prefix + name if name in [column for column, _, _ in tensors] else name


def add_columns(graph, parts, tensors, features):
    """Add the features of a table's tensors, and return the descriptions of these inputs."""
    numbers = [name for name, kind, _ in tensors if kind != CATEGORY]
    strings = [name for name, kind, _ in tensors if kind == CATEGORY]
    add_embedding(graph, parts, graph.concat(numbers), strings, features)
    return [
        graph.value_info(name, object if kind == CATEGORY else np.float64, width)
        for name, kind, width in tensors
    ]


def _table_tensors(table):
    """Name, type and width of each tensor that holds a part of a table.

    There is one tensor per column. An array of only numbers, or only booleans, is one tensor X.
    """
    names, types = table.layout.names, tensor_types(table)
    if names is None and len(set(types)) == 1 and CATEGORY not in types:
        return [("X", types[0], len(types))]
    names = [""] * len(types) if names is None else map(str, names)
    names = [name or f"x{p}" for p, name in enumerate(names)]
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ValueError(
            "Column names must differ as strings, the form in which ONNX stores them; got "
            f"{repeated[0]!r} more than once. Rename the columns and fit again."
        )
    return [(name, kind, 1) for name, kind in zip(names, types, strict=True)]


def add_embedding(graph, parts, numbers, strings, name):
    """Add the features of cells, as `transform` computes them.

    Parameters
    ----------
    graph : Graph
    parts : FittedParts
    numbers : str or None
        Name of the doubles (n, N): numeric and boolean columns, in the order of the table.
    strings : list of str
        Names of the strings (n, 1): the other columns.
    name : str
        Name of the features.
    """
    model = copy.deepcopy(parts.model).cpu()
    inputs = _network_inputs(graph, parts.table, model.likelihood, numbers, strings)
    example = torch.zeros(EXAMPLE_ROWS, model.likelihood.n_inputs, dtype=torch.float32)
    h = Activation(inputs, example)
    states = _feature_states(graph, parts.embedding, model, h)
    flat = graph.concat([graph.add("Flatten", state.name) for state in states])
    graph.add("Div", graph.add("Sub", flat, parts.centre), parts.scale, name=name)


# -- from cells to features ------------------------------------------------------------------------


def _network_inputs(graph, table, likelihood, numbers, strings):
    """Inputs of the network, as `Joint.inputs` computes them from an encoded table.

    Both an unknown level and a missing value are zeros there, so neither needs a code.
    """
    is_string = np.equal(tensor_types(table), CATEGORY)
    rank = np.where(is_string, np.cumsum(is_string), np.cumsum(~is_string)) - 1
    values, observed, one_hots = [], [], []
    for block, kind in zip(table.blocks, likelihood.blocks, strict=True):
        if isinstance(kind, Categorical):
            # `Joint.inputs` sorts columns by their number of classes.
            for c in np.argsort(kind.n_classes, kind="stable"):
                p = block.positions[c]
                if is_string[p]:
                    one_hots.append(_one_hot_strings(graph, kind, c, strings[rank[p]]))
                else:
                    cells = graph.select(numbers, [rank[p]])
                    one_hots.append(_one_hot_numbers(graph, kind, c, cells))
        else:
            if is_string[block.positions].any():
                cells = graph.concat(
                    [
                        code_of_string(graph, kind.levels_of(c), strings[rank[p]])
                        if is_string[p]
                        else graph.select(numbers, [rank[p]])
                        for c, p in enumerate(block.positions)
                    ]
                )
                kind = with_codes(kind, is_string[block.positions])
            else:
                cells = graph.select(numbers, rank[block.positions])
            if not kind.n_seen.all():  # columns without any value in fit stay missing
                cells = graph.add("Where", kind.n_seen > 0, cells, np.array(np.nan))
            origins = origins_of(table, block, kind)
            if origins.any():
                cells = graph.add("Sub", cells, origins)
            own_values, own_observed = _converter(_INPUTS, kind)(graph, kind, cells)
            values.append(own_values)
            observed.append(own_observed)
    return graph.concat(values + observed + one_hots)


def _converter(converters, kind):
    """Function that converts columns of a kind, from a dictionary by likelihood class."""
    if type(kind) not in converters:
        known = [cls.__name__ for cls in (*converters, Categorical)]
        raise NotImplementedError(
            f"Columns to export must be of kind {', '.join(known[:-1])} or {known[-1]}; got "
            f"{type(kind).__name__}. Write a converter for it in cmim_sklearn/onnx/_export.py."
        )
    return converters[type(kind)]


def _gaussian_inputs(graph, kind, cells):
    missing = graph.add("IsNaN", cells)
    known = graph.add("Where", missing, np.array(0.0), cells)
    scaled = add_piecewise(graph, known, [forward_segments(m) for m in kind.maps])
    scaled = graph.add("Clip", scaled, np.array(-MAX_SCALED), np.array(MAX_SCALED))
    observed = graph.cast(graph.add("Not", missing), np.float32)
    return graph.add("Mul", graph.cast(scaled, np.float32), observed), observed


def _bernoulli_inputs(graph, kind, cells):
    # As in `Bernoulli.encode`.
    single = graph.cast(graph.cast(cells, np.float32), np.float64)
    cells = graph.add("Where", kind.in_single, single, cells)
    pairs = np.array([[float(value) for value in pair] for pair in kind.values])
    with np.errstate(over="ignore"):
        pairs = np.where(kind.in_single[:, None], np.float32(pairs), pairs)
    zero, one = (
        graph.cast(graph.add("Equal", cells, values), np.float32) for values in pairs.T.copy()
    )
    return graph.add("Sub", one, zero), graph.add("Add", one, zero)


def _poisson_inputs(graph, kind, cells):
    observed = graph.add("GreaterOrEqual", cells, np.array(0.0))
    known = graph.add("Where", observed, cells, np.array(0.0))
    known = graph.cast(graph.add("Min", known, np.array(MAX_ENCODED)), np.float32)
    share = graph.add("Mul", known, torch.exp(-kind.log_mean).numpy())
    value = graph.add("Log", graph.add("Add", share, np.float32(1)))
    return value, graph.cast(observed, np.float32)


_INPUTS = {
    Gaussian: _gaussian_inputs,
    Bernoulli: _bernoulli_inputs,
    Poisson: _poisson_inputs,
}


def _one_hot_strings(graph, kind, c, cells):
    n_classes, texts = kind.n_classes[c], _as_strings(kind.levels[c])
    classes = {text: min(code, n_classes - 1) for code, text in enumerate(texts)}
    # An unknown level has position n_classes, for which OneHot gives a row of zeros.
    position = graph.add(
        "LabelEncoder",
        cells,
        domain="ai.onnx.ml",
        keys_strings=list(classes) or [""],
        values_int64s=list(classes.values()) or [n_classes],
        default_int64=n_classes,
    )
    off_on = np.array([0, 1], np.float32)
    return graph.add("Flatten", graph.add("OneHot", position, np.array(n_classes), off_on))


def _one_hot_numbers(graph, kind, c, cells):
    levels = np.array(kind.levels[c], dtype=float)
    classes = np.arange(len(levels)).clip(max=kind.n_classes[c] - 1)
    is_level = graph.cast(graph.add("Equal", cells, levels), np.float32)
    return graph.add("MatMul", is_level, np.eye(kind.n_classes[c], dtype=np.float32)[classes])


def _as_strings(levels):
    """Levels as strings; empty for a column without observed values."""
    texts = {}
    for level in (level for level in levels if level is not None):
        if str(level) in texts:
            raise ValueError(
                "Levels of a column must differ as strings, the form in which ONNX stores them; "
                f"got {texts[str(level)]!r} and {level!r}. Rename one of them and fit again."
            )
        texts[str(level)] = level
    return list(texts)


def _feature_states(graph, embedding, model, h):
    """Activations that form the features, as `features.layers` returns them."""
    network, encoder_states = model.encoder, []
    if embedding == "layers" and isinstance(network, MLP) and len(network.body):
        encoder_states = add_hidden_states(graph, network, h)
        outputs = add_module(graph, network, network.output, encoder_states[-1])
    else:
        outputs = add_module(graph, network, network, h)
    z = _posterior_mean(graph, model.posterior, outputs)
    if embedding == "mean":
        return [z]
    states = add_hidden_states(graph, model.decoder, z)
    by_embedding = {
        "informative": states[-1:],
        "hidden": states,
        "layers": encoder_states + states,
    }
    return by_embedding[embedding]


def _posterior_mean(graph, posterior, outputs):
    # Every posterior mean is the first part of the outputs plus a constant.
    with torch.no_grad():
        shift = posterior.inference(torch.zeros_like(outputs.example)).mean[:1]
    first = graph.select(outputs.name, np.arange(posterior.n_components))
    mean = graph.add("Add", first, shift.numpy())
    return Activation(mean, outputs.example[:, : posterior.n_components] + shift)


# -- from features to cells ------------------------------------------------------------------------


def _add_cells(graph, parts, features, tensors):
    """Add the cells of features (n, w), as `inverse_transform` computes them.

    Returns the descriptions of the outputs.
    """
    table, model = parts.table, copy.deepcopy(parts.model).cpu()
    is_string = np.equal(tensor_types(table), CATEGORY)
    params = _decoder_outputs(graph, parts, model, features)
    cells, seen, start = {}, {}, 0
    for block, kind in zip(table.blocks, model.likelihood.blocks, strict=True):
        outputs = graph.select(params, np.arange(start, start + kind.n_params))
        start += kind.n_params
        seen.update(zip(block.positions, kind.n_seen > 0, strict=True))
        if isinstance(kind, Categorical):
            for c, p in enumerate(block.positions):
                cells[p] = _most_likely_level(graph, kind, c, outputs, is_string=is_string[p])
        else:
            are_strings, levels = is_string[block.positions], kind
            if are_strings.any():
                kind = with_codes(kind, are_strings)
            points = _converter(_POINTS, kind)(graph, kind, outputs)
            origins = origins_of(table, block, kind)
            if origins.any():
                points = graph.add("Add", points, origins)
            points = graph.add("Where", kind.n_seen > 0, points, np.array(np.nan))
            cells.update((p, graph.select(points, [c])) for c, p in enumerate(block.positions))
            for c in np.flatnonzero(are_strings):
                pair = np.array(_as_strings(levels.levels_of(c)), dtype=object)
                code = graph.cast(cells[block.positions[c]], np.int64)
                cells[block.positions[c]] = graph.add("Gather", pair, code)
    infos, first = [], 0
    for name, kind, width in tensors:
        positions = range(first, first + width)
        first += width
        value = graph.concat([cells[p] for p in positions])
        if kind == BOOLEAN and all(seen[p] for p in positions):  # a boolean cannot be NaN
            infos.append(graph.value_info(graph.cast(value, bool, name=name), bool, width))
        else:
            dtype = object if kind == CATEGORY else np.float64
            infos.append(graph.value_info(graph.add("Identity", value, name=name), dtype, width))
    return infos


def _decoder_outputs(graph, parts, model, features):
    """Decoder outputs of features, as `features.decode` computes them."""
    name = graph.add("Add", graph.add("Mul", features, parts.scale), parts.centre)
    decoder = model.decoder
    z = torch.zeros(EXAMPLE_ROWS, model.posterior.n_components, dtype=torch.float32)
    if parts.embedding == "mean":
        return add_module(graph, decoder, decoder, Activation(name, z)).name
    with torch.no_grad():
        last = hidden_states(decoder, z)[-1]
    width = last[0].numel()
    name = graph.select(name, np.arange(len(parts.scale) - width, len(parts.scale)))
    if last.ndim > 2:
        name = graph.add("Reshape", name, np.array([-1, *last.shape[1:]]))
    return add_module(graph, decoder, decoder.output, Activation(name, last)).name


def _most_likely_level(graph, kind, c, params, *, is_string):
    n_classes, start = kind.n_classes[c], int(kind.class_starts[c])
    logits = graph.select(params, np.arange(start, start + n_classes))
    best = graph.add("ArgMax", logits, axis=1, keepdims=1)
    # The first of the rare levels is the most frequent one. A column may have no levels.
    levels = kind.levels[c][:n_classes]
    if is_string:
        return graph.add("Gather", np.array(_as_strings(levels) or [""], dtype=object), best)
    return graph.add("Gather", np.array(levels, dtype=float), best)


def _gaussian_points(graph, kind, params):
    doubles = graph.cast(params, np.float64)
    values = add_piecewise(graph, doubles, [inverse_segments(m) for m in kind.maps])
    is_rounded = np.not_equal(kind.decimals, None)
    factor = 10.0 ** np.where(is_rounded, kind.decimals, 0).astype(int)
    rounded = graph.add("Div", graph.add("Round", graph.add("Mul", values, factor)), factor)
    values = graph.add("Where", is_rounded, rounded, values)
    return _clip(graph, values, kind.low, kind.high)


def _bernoulli_points(graph, kind, params):
    is_one = graph.add("Greater", params, np.float32(0))
    zero, one = np.array(kind.values).T.copy()
    return graph.add("Where", is_one, one, zero)


def _poisson_points(graph, kind, params):
    log_rate = graph.add("Add", params, kind.log_mean.numpy())
    rate = graph.add("Exp", graph.add("Min", log_rate, np.float32(MAX_LOG_RATE)))
    counts = graph.add("Round", graph.cast(rate, np.float64))
    return _clip(graph, counts, np.zeros(kind.n_columns), kind.high)


def _clip(graph, values, low, high):
    """Clip values (n, C) to the range of each column; columns without a range become NaN later."""
    low, high = (np.nan_to_num(end) for end in (low, high))
    return graph.add("Min", graph.add("Max", values, low), high)


_POINTS = {
    Gaussian: _gaussian_points,
    Bernoulli: _bernoulli_points,
    Poisson: _poisson_points,
}
