"""ONNX model of a fitted classifier or regressor: from raw cells to its predictions.

Axes: n rows, w features, K classes.
"""

import numpy as np
from sklearn.base import is_classifier

from cmim_sklearn._encoders.base.fitted import fitted_parts
from cmim_sklearn.onnx._export import add_columns, begin_graph, free_name


def export(predictor):
    """Export a fitted classifier or regressor to an ONNX model.

    Its outputs are those of `output_types`.

    Returns
    -------
    onnx.ModelProto
        Model, checked by onnx.
    """
    parts = fitted_parts(predictor.encoder_)
    graph, tensors = begin_graph(parts.table)
    types = output_types(predictor)
    names = {name: free_name(graph, tensors, name) for name in types}
    features = graph.prefix + "features"
    columns = add_columns(graph, parts, tensors, features)
    add_prediction(graph, predictor, features, list(names.values()))
    outputs = [graph.value_info(names[name], *types[name]) for name in types]
    return graph.model(columns, outputs)


def output_types(predictor):
    """Dtype and width of each output, by name; those of shape (n,) have no width."""
    if not is_classifier(predictor):
        return {"value": (np.float64, None)}
    dtype = _plain(predictor.classes_).dtype
    return {"label": (dtype, None), "probabilities": (np.float32, len(predictor.classes_))}


def _plain(classes):
    """Classes in a dtype that ONNX has."""
    dtypes = {"i": np.int64, "u": np.int64, "f": np.float64, "b": np.bool_}
    return classes.astype(dtypes.get(classes.dtype.kind, object))


def add_prediction(graph, predictor, features, outputs):
    """Add the predictions for features (n, w), as the linear model computes them.

    `outputs` are the names of the outputs, in the order of `output_types`.
    """
    features = graph.cast(features, np.float64)
    if not is_classifier(predictor):
        model = predictor.regressor_
        product = graph.add("MatMul", features, model.coef_)
        graph.add("Add", product, np.asarray(model.intercept_), name=outputs[0])
        return
    model, (label, probabilities) = predictor.classifier_, outputs
    scores = graph.add("Add", graph.add("MatMul", features, model.coef_.T), model.intercept_)
    if len(model.classes_) == 2:  # log-odds of the second class
        scores = graph.concat([graph.add("Mul", scores, np.array(0.0)), scores])
    shares = graph.add("Softmax", scores, axis=1)
    graph.cast(shares, np.float32, name=probabilities)
    positions = graph.add("ArgMax", scores, axis=1, keepdims=0)
    graph.add("Gather", _plain(model.classes_), positions, axis=0, name=label)
