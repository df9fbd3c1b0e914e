"""A fitted encoder as an ONNX graph: raw cells in and features out, or features in and cells out.

`register` tells skl2onnx of the encoders, so that a whole pipeline can be converted.

Axes: n rows, C columns of a block, N columns of numbers, w features.
"""

import copy

import numpy as np
import torch

from cmim_sklearn._likelihoods.bernoulli import Bernoulli
from cmim_sklearn._likelihoods.categorical import Categorical
from cmim_sklearn._likelihoods.gaussian import MAX_SCALED, Gaussian
from cmim_sklearn._likelihoods.poisson import MAX_LOG_RATE, Poisson
from cmim_sklearn._models.features import hidden_states
from cmim_sklearn._tables.read import BOOLEAN, CATEGORY
from cmim_sklearn.networks import MLP
from cmim_sklearn.onnx._graph import (
    SAMPLE_ROWS,
    Graph,
    Hidden,
    apply,
    apply_body,
    forward_segments,
    inverse_segments,
    piecewise,
)

OUTPUTS = ("embedding", "decode")


def export(encoder, output="embedding"):
    """Turn a fitted encoder into an ONNX model.

    Parameters
    ----------
    encoder : encoder of this package
        Fitted.
    output : {"embedding", "decode"}, default="embedding"
        As for the encoder's ``to_onnx``, which says what goes in and what comes out.

    Returns
    -------
    onnx.ModelProto
        Checked.

    Raises
    ------
    ImportError
        Without the package onnx, or onnxscript where a network is one of your own.
    ValueError
        If `output` is neither, or asks an encoder to decode that has no decoder; if two levels of a
        column are the same as strings.
    """
    if output not in OUTPUTS:
        raise ValueError(f"output must be one of {OUTPUTS}. Got {output!r} instead.")
    if output == "decode" and not hasattr(encoder, "inverse_transform"):
        raise ValueError(
            f"{type(encoder).__name__} has no decoder: output must be 'embedding'. Got 'decode' "
            "instead."
        )
    encoder._check_use()
    tensors = _tensors(encoder.table_)
    prefix = "_"
    while any(name.startswith(prefix) for name, _, _ in tensors):
        prefix += "_"
    graph = Graph(prefix)
    features = "embedding"
    if features in [name for name, _, _ in tensors]:
        features = prefix + features
    row = graph.info(features, np.float32, encoder._n_features_out)
    if output == "decode":
        return graph.model([row], _decode(graph, encoder, features, tensors))
    columns = [
        graph.info(name, object if kind == CATEGORY else np.float64, width)
        for name, kind, width in tensors
    ]
    numbers = [name for name, kind, _ in tensors if kind != CATEGORY]
    strings = [name for name, kind, _ in tensors if kind == CATEGORY]
    _embed(graph, encoder, graph.beside(numbers), strings, features)
    return graph.model(columns, [row])


def _tensors(table):
    """Name, type and width of each tensor that holds a table.

    One for each column, or one for all, named X, where an array held numbers or booleans alone.
    """
    names, types = table.layout.names, table.types
    if names is None and len(set(types)) == 1 and CATEGORY not in types:
        return [("X", types[0], len(types))]
    names = [f"x{p}" for p in range(len(types))] if names is None else map(str, names)
    return [(name, kind, 1) for name, kind in zip(names, types, strict=True)]


def _embed(graph, encoder, numbers, strings, name):
    """Features of cells, as `transform` gives them.

    Parameters
    ----------
    graph : Graph
    encoder : encoder of this package
    numbers : str or None
        Doubles (n, N): the columns of numbers and booleans, in the table's order.
    strings : list of str
        Strings (n, 1): the others.
    name : str
        Of the features.
    """
    model = _model(encoder)
    inputs = _inputs(graph, encoder.table_, model.likelihood, numbers, strings)
    h = Hidden(inputs, torch.zeros(SAMPLE_ROWS, model.likelihood.n_inputs))
    states = _states(graph, encoder, model, h)
    centre, scale = encoder._scales[encoder._embedding]
    flat = graph.beside([graph.add("Flatten", state.name) for state in states])
    graph.add("Div", graph.add("Sub", flat, centre), scale, name=name)


def _model(encoder):
    """The module in evaluation mode: a copy on the CPU, as arrays are wanted of its tensors."""
    return copy.deepcopy(encoder._model()).cpu()


def _inputs(graph, table, likelihood, numbers, strings):
    """What the network is given, as `Joint.inputs` makes it of an encoded table.

    An unknown level and a missing cell are all zeros to it alike, so that neither needs a code.
    """
    is_string = np.equal(table.types, CATEGORY)
    rank = np.where(is_string, np.cumsum(is_string), np.cumsum(~is_string)) - 1
    values, observed, one_hots = [], [], []
    for block, kind in zip(table.blocks, likelihood.blocks, strict=True):
        if isinstance(kind, Categorical):
            # As there, columns stand in the order of their number of classes.
            for c in np.argsort(kind.n_classes, kind="stable"):
                p = block.positions[c]
                if is_string[p]:
                    one_hots.append(_hot_strings(graph, kind, c, strings[rank[p]]))
                else:
                    one_hots.append(_hot_numbers(graph, kind, c, graph.pick(numbers, [rank[p]])))
        else:
            cells = graph.pick(numbers, rank[block.positions])
            own_values, own_observed = _of(_INPUTS, kind)(graph, kind, cells)
            values.append(own_values)
            observed.append(own_observed)
    return graph.beside(values + observed + one_hots)


def _of(dictionary, kind):
    if type(kind) not in dictionary:
        raise NotImplementedError(f"Columns of kind {type(kind).__name__} can't be exported yet.")
    return dictionary[type(kind)]


def _gaussian_inputs(graph, kind, cells):
    missing = graph.add("IsNaN", cells)
    known = graph.add("Where", missing, np.array(0.0), cells)
    scaled = piecewise(graph, known, [forward_segments(m) for m in kind.maps])
    scaled = graph.add("Clip", scaled, np.array(-MAX_SCALED), np.array(MAX_SCALED))
    observed = graph.cast(graph.add("Not", missing), np.float32)
    return graph.add("Mul", graph.cast(scaled, np.float32), observed), observed


def _bernoulli_inputs(graph, kind, cells):
    # As in `Bernoulli.encode`, in single precision where that tells the two values apart.
    pairs = np.array(kind.values)
    single = graph.cast(graph.cast(cells, np.float32), np.float64)
    tells = np.float32(pairs[:, 0]) != np.float32(pairs[:, 1])
    cells = graph.add("Where", tells, single, cells)
    pairs = np.where(tells[:, None], np.float32(pairs), pairs)
    zero, one = (
        graph.cast(graph.add("Equal", cells, values), np.float32) for values in pairs.T.copy()
    )
    return graph.add("Sub", one, zero), graph.add("Add", one, zero)


def _poisson_inputs(graph, kind, cells):
    observed = graph.add("GreaterOrEqual", cells, np.array(0.0))
    known = graph.cast(graph.add("Where", observed, cells, np.array(0.0)), np.float32)
    share = graph.add("Mul", known, torch.exp(-kind._log_mean).numpy())
    value = graph.add("Log", graph.add("Add", share, np.float32(1)))
    return value, graph.cast(observed, np.float32)


_INPUTS = {
    Gaussian: _gaussian_inputs,
    Bernoulli: _bernoulli_inputs,
    Poisson: _poisson_inputs,
}


def _hot_strings(graph, kind, c, cells):
    n_classes, texts = kind.n_classes[c], _texts(kind.levels[c])
    classes = {text: min(code, n_classes - 1) for code, text in enumerate(texts)}
    # A position beyond the last class is a row of zeros.
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


def _hot_numbers(graph, kind, c, cells):
    levels = np.array(kind.levels[c], dtype=float)
    classes = np.arange(len(levels)).clip(max=kind.n_classes[c] - 1)
    is_level = graph.cast(graph.add("Equal", cells, levels), np.float32)
    return graph.add("MatMul", is_level, np.eye(kind.n_classes[c], dtype=np.float32)[classes])


def _texts(levels):
    """Levels as strings; none of a column that was all missing."""
    texts = {}
    for level in (level for level in levels if level is not None):
        if str(level) in texts:
            raise ValueError(
                f"Levels {texts[str(level)]!r} and {level!r} of one column are the same string, as "
                "which ONNX has them. Rename one of them and fit again."
            )
        texts[str(level)] = level
    return list(texts)


def _states(graph, encoder, model, h):
    """The states that the features consist of, as `embedding.layers` gives them."""
    name, network, own = encoder._embedding, model.encoder, []
    if name == "layers" and isinstance(network, MLP) and len(network.body):
        own = apply_body(graph, network, h)
        outputs = apply(graph, network, network.output, own[-1])
    else:
        outputs = apply(graph, network, network, h)
    z = _posterior_mean(graph, model.posterior, outputs)
    if name == "mean":
        return [z]
    states = apply_body(graph, model.decoder, z)
    return {"informative": states[-1:], "hidden": states, "layers": own + states}[name]


def _posterior_mean(graph, posterior, outputs):
    # Of every posterior it is the first of the outputs, and a constant.
    with torch.no_grad():
        shift = posterior.inference(torch.zeros_like(outputs.sample)).mean[:1]
    first = graph.pick(outputs.name, np.arange(posterior.n_components))
    mean = graph.add("Add", first, shift.numpy())
    return Hidden(mean, outputs.sample[:, : posterior.n_components] + shift)


def _decode(graph, encoder, features, tensors):
    """Cells of features (n, w), as `inverse_transform` gives them: descriptions of the outputs."""
    table, model = encoder.table_, _model(encoder)
    params = _params(graph, encoder, model, features)
    cells, seen, start = {}, {}, 0
    for block, kind in zip(table.blocks, model.likelihood.blocks, strict=True):
        own = graph.pick(params, np.arange(start, start + kind.n_params))
        start += kind.n_params
        seen.update(zip(block.positions, kind.n_seen > 0, strict=True))
        if isinstance(kind, Categorical):
            for c, p in enumerate(block.positions):
                cells[p] = _likeliest(graph, kind, c, own, is_string=table.types[p] == CATEGORY)
        else:
            points = _of(_POINTS, kind)(graph, kind, own)
            points = graph.add("Where", kind.n_seen > 0, points, np.array(np.nan))
            cells.update((p, graph.pick(points, [c])) for c, p in enumerate(block.positions))
    outputs, first = [], 0
    for name, kind, width in tensors:
        positions = range(first, first + width)
        first += width
        value = graph.beside([cells[p] for p in positions])
        if kind == BOOLEAN and all(seen[p] for p in positions):  # NaN is no boolean
            outputs.append(graph.info(graph.cast(value, bool, name=name), bool, width))
        else:
            dtype = object if kind == CATEGORY else np.float64
            outputs.append(graph.info(graph.add("Identity", value, name=name), dtype, width))
    return outputs


def _params(graph, encoder, model, features):
    """Decoder outputs of features, as `embedding.decode` gives them."""
    centre, scale = encoder._scales[encoder._embedding]
    name = graph.add("Add", graph.add("Mul", features, scale), centre)
    decoder, z = model.decoder, torch.zeros(SAMPLE_ROWS, model.posterior.n_components)
    if encoder._embedding == "mean":
        return apply(graph, decoder, decoder, Hidden(name, z)).name
    with torch.no_grad():
        last = hidden_states(decoder, z)[-1]
    width = last[0].numel()
    name = graph.pick(name, np.arange(len(scale) - width, len(scale)))
    if last.ndim > 2:
        name = graph.add("Reshape", name, np.array([-1, *last.shape[1:]]))
    return apply(graph, decoder, decoder.output, Hidden(name, last)).name


def _likeliest(graph, kind, c, params, *, is_string):
    n_classes, start = kind.n_classes[c], int(kind._start[c])
    best = graph.add(
        "ArgMax", graph.pick(params, np.arange(start, start + n_classes)), axis=1, keepdims=1
    )
    # A rare bin's first level is its most frequent; a column that was all missing has none.
    levels = kind.levels[c][:n_classes]
    if is_string:
        return graph.add("Gather", np.array(_texts(levels) or [""], dtype=object), best)
    return graph.add("Gather", np.array(levels, dtype=float), best)


def _gaussian_points(graph, kind, params):
    values = piecewise(
        graph, graph.cast(params, np.float64), [inverse_segments(m) for m in kind.maps]
    )
    is_rounded = np.not_equal(kind.decimals, None)
    factor = 10.0 ** np.where(is_rounded, kind.decimals, 0).astype(int)
    rounded = graph.add("Div", graph.add("Round", graph.add("Mul", values, factor)), factor)
    values = graph.add("Where", is_rounded, rounded, values)
    return _clipped(graph, values, kind.low, kind.high)


def _bernoulli_points(graph, kind, params):
    is_one = graph.add("Greater", params, np.float32(0))
    zero, one = np.array(kind.values).T.copy()
    return graph.add("Where", is_one, one, zero)


def _poisson_points(graph, kind, params):
    log_rate = graph.add("Add", params, kind._log_mean.numpy())
    rate = graph.add("Exp", graph.add("Min", log_rate, np.float32(MAX_LOG_RATE)))
    counts = graph.add("Round", graph.cast(rate, np.float64))
    return _clipped(graph, counts, np.zeros(kind.n_columns), kind.high)


def _clipped(graph, values, low, high):
    """Values (n, C) cut to a range for each column; any, where there is none."""
    low, high = (np.nan_to_num(end) for end in (low, high))
    return graph.add("Min", graph.add("Max", values, low), high)


_POINTS = {
    Gaussian: _gaussian_points,
    Bernoulli: _bernoulli_points,
    Poisson: _poisson_points,
}
