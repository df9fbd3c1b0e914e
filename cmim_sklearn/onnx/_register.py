"""Converters of the encoders for skl2onnx pipelines."""

import numpy as np

from cmim_sklearn._tables.read import CATEGORY
from cmim_sklearn.onnx._export import _embed
from cmim_sklearn.onnx._graph import (
    OPSETS,
    Graph,
    advice,
)


def register():
    """Tell skl2onnx how to convert the encoders, alone or as steps of a pipeline.

    After it, ``skl2onnx.to_onnx(pipeline, initial_types=...)`` takes pipelines with encoders of
    this package. The initial types are those of the columns: by name where the table fitted had
    names, else in its order; numbers and booleans may come in tensors wider than one column, in the
    table's order. Strings and categories are ``StringTensorType``. Missing cells are given as for
    ``to_onnx``.

    Features are those of ``transform`` where numbers are ``DoubleTensorType``; with
    ``FloatTensorType`` they are so as far as single precision holds the numbers.

    Raises
    ------
    ImportError
        Without the package skl2onnx.
    """
    try:
        from skl2onnx import update_registered_converter
    except ImportError as error:
        raise ImportError(advice("skl2onnx")) from error
    import cmim_sklearn

    for name in cmim_sklearn.__all__:
        encoder = getattr(cmim_sklearn, name)
        if hasattr(encoder, "to_onnx"):
            update_registered_converter(
                encoder, _alias(encoder), _set_shape, _convert, parser=_parse
            )


def _alias(encoder):
    return f"CMIMSklearn{encoder.__name__}"


def _parse(scope, model, inputs, custom_parsers=None):
    """Declare an encoder in a pipeline and its features, whatever its inputs; see `register`."""
    from skl2onnx.common.data_types import FloatTensorType

    operator = scope.declare_local_operator(_alias(type(model)), model)
    operator.inputs = inputs
    kind = FloatTensorType([None, model._n_features_out])
    operator.outputs.append(scope.declare_local_variable("embedding", kind))
    return operator.outputs


def _set_shape(operator):
    """Nothing to infer: `_parse` said all."""


def _convert(scope, operator, container):
    """Add an encoder in a pipeline to skl2onnx's container; see `register`."""
    from skl2onnx.common.data_types import StringTensorType

    if container.target_opset_any_domain("") < OPSETS[""]:
        raise ValueError(f"target_opset must be at least {OPSETS['']}.")
    encoder, variables = operator.raw_operator, operator.inputs
    names = [str(name) for name in encoder.table_.layout.names or []]
    if sorted(variable.raw_name for variable in variables) == sorted(names):
        variables = sorted(variables, key=lambda variable: names.index(variable.raw_name))
    graph = Graph(scope.get_unique_variable_name("cmim"))
    numbers, strings, are_strings = [], [], []
    for variable in variables:
        is_string, width = isinstance(variable.type, StringTensorType), variable.type.shape[1]
        are_strings += [is_string] * width
        if is_string:
            strings += [graph.pick(variable.onnx_name, [column]) for column in range(width)]
        else:
            numbers.append(graph.cast(variable.onnx_name, np.float64))
    wanted = [kind == CATEGORY for kind in encoder.table_.types]
    if are_strings != wanted:
        raise ValueError(
            f"{type(encoder).__name__} was fitted on {len(wanted)} columns, of strings or "
            f"categories at {np.flatnonzero(wanted).tolist()}; the initial types are those of "
            f"{len(are_strings)}, of strings at {np.flatnonzero(are_strings).tolist()}. Give all "
            "columns, named as in fit or in its order, and strings as StringTensorType."
        )
    _embed(graph, encoder, graph.beside(numbers), strings, operator.outputs[0].onnx_name)
    container.nodes.extend(graph.nodes)
    container.initializers.extend(graph.constants)
    container.node_domain_version_pair_sets.update(OPSETS.items())
