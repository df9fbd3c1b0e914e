"""Converters of encoders, classifier and regressor for skl2onnx pipelines."""

import numpy as np

from cmim_sklearn._encoders.base.fitted import fitted_parts
from cmim_sklearn._encoders.base.parameters import ENCODERS
from cmim_sklearn._encoders.predictor import PREDICTORS
from cmim_sklearn._tables.read import CATEGORY
from cmim_sklearn.onnx._columns import tensor_types
from cmim_sklearn.onnx._export import add_embedding
from cmim_sklearn.onnx._graph import OPSETS, Graph, install_hint
from cmim_sklearn.onnx._predictors import add_prediction, output_types


def register():
    """Register the estimators with skl2onnx, so that it converts them alone or in pipelines.

    After this call, ``skl2onnx.to_onnx(pipeline, initial_types=...)`` accepts pipelines with
    encoders of this package, and pipelines that end in `CMIMClassifier` or `CMIMRegressor`. These
    have the outputs of their ``to_onnx``, without a ZipMap. Calling it again has no effect.

    Raises
    ------
    ImportError
        If skl2onnx is not installed.

    See Also
    --------
    cmim_sklearn.CMIMEncoder.to_onnx : Export a single encoder, without skl2onnx.

    Notes
    -----
    ``initial_types`` describes the columns:

    - numbers and booleans: ``DoubleTensorType``, or ``FloatTensorType``, which has only single
      precision. A tensor may hold several columns, in the order of the table.
    - strings and categories: ``StringTensorType``.

    Columns are matched by name if the table of fit had names, else by order. Missing numbers are
    NaN. A missing string is "", or any string that is not a level if "" is a level. Features equal
    those of ``transform`` up to rounding, about 1e-6 with doubles.

    The target opset must be at least 18; skl2onnx raises a ValueError otherwise, and also if
    ``initial_types`` does not have the columns of fit.

    Examples
    --------
    >>> import skl2onnx  # doctest: +SKIP
    >>> from cmim_sklearn.onnx import register
    >>> register()  # doctest: +SKIP
    >>> model = skl2onnx.to_onnx(pipeline, X[:1])  # doctest: +SKIP
    """
    try:
        from skl2onnx import update_registered_converter
    except ImportError as error:
        raise ImportError(install_hint("skl2onnx")) from error
    for cls in ENCODERS.values():
        update_registered_converter(cls, _alias(cls), _set_shape, _convert, parser=_parse)
    for cls in PREDICTORS.values():
        update_registered_converter(
            cls,
            _alias(cls),
            _set_shape,
            _convert_predictor,
            parser=_parse_predictor,
            options={"zipmap": [False]},
        )


def _alias(cls):
    return f"CMIMSklearn{cls.__name__}"


def _parse(scope, model, inputs, custom_parsers=None):
    """Declare an encoder in a pipeline, with any inputs, and its features as the output."""
    from skl2onnx.common.data_types import FloatTensorType

    operator = scope.declare_local_operator(_alias(type(model)), model)
    operator.inputs = inputs
    features = FloatTensorType([None, len(fitted_parts(model).centre)])
    operator.outputs.append(scope.declare_local_variable("embedding", features))
    return operator.outputs


def _parse_predictor(scope, model, inputs, custom_parsers=None):
    """Declare a classifier or regressor in a pipeline, with any inputs, and its outputs."""
    from skl2onnx.common import data_types

    kinds = {"i": "Int64", "f": "Double", "b": "Boolean", "O": "String"}
    operator = scope.declare_local_operator(_alias(type(model)), model)
    operator.inputs = inputs
    for name, (dtype, width) in output_types(model).items():
        dtype = np.dtype(dtype)
        kind = "Float" if dtype == np.float32 else kinds[dtype.kind]
        shape = [None] if width is None else [None, width]
        variable_type = getattr(data_types, f"{kind}TensorType")(shape)
        operator.outputs.append(scope.declare_local_variable(name, variable_type))
    return operator.outputs


def _set_shape(operator):
    """Do nothing: the parser has set the shape."""


def _convert(scope, operator, container):
    """Add the nodes of an encoder to skl2onnx's container."""
    graph = _begin(scope, container)
    features = operator.outputs[0].onnx_name
    _add_embedding(graph, operator.raw_operator, operator.inputs, features)
    _end(graph, container)


def _convert_predictor(scope, operator, container):
    """Add the nodes of a classifier or regressor to skl2onnx's container."""
    graph, predictor = _begin(scope, container), operator.raw_operator
    features = f"{graph.prefix}_features"
    _add_embedding(graph, predictor.encoder_, operator.inputs, features)
    add_prediction(graph, predictor, features, [v.onnx_name for v in operator.outputs])
    _end(graph, container)


def _begin(scope, container):
    """Empty graph with names that are unique in a pipeline."""
    opset = container.target_opset_any_domain("")
    if opset < OPSETS[""]:
        raise ValueError(f"`target_opset` must be at least {OPSETS['']}; got {opset}.")
    return Graph(scope.get_unique_variable_name("cmim"))


def _end(graph, container):
    container.nodes.extend(graph.nodes)
    container.initializers.extend(graph.constants)
    container.node_domain_version_pair_sets.update(OPSETS.items())


def _add_embedding(graph, encoder, variables, features):
    """Add the features of a pipeline's variables, under a name."""
    numbers, strings = _read_variables(graph, encoder, variables)
    add_embedding(graph, fitted_parts(encoder), numbers, strings, features)


def _read_variables(graph, encoder, variables):
    """Numbers and strings of a pipeline's variables, as `add_embedding` takes them."""
    from skl2onnx.common.data_types import StringTensorType

    names = [str(name) for name in encoder.table_.layout.names or []]
    if sorted(variable.raw_name for variable in variables) == sorted(names):
        variables = sorted(variables, key=lambda variable: names.index(variable.raw_name))
    numbers, strings, are_strings = [], [], []
    for variable in variables:
        is_string, width = isinstance(variable.type, StringTensorType), variable.type.shape[1]
        are_strings += [is_string] * width
        if is_string:
            strings += [graph.select(variable.onnx_name, [column]) for column in range(width)]
        else:
            numbers.append(graph.cast(variable.onnx_name, np.float64))
    expected = [kind == CATEGORY for kind in tensor_types(encoder.table_)]
    if are_strings != expected:
        raise ValueError(
            f"`initial_types` must have the {len(expected)} columns of fit, with strings or "
            f"categories at {np.flatnonzero(expected).tolist()}; got {len(are_strings)} columns, "
            f"with strings at {np.flatnonzero(are_strings).tolist()}. Name columns as in fit or "
            "keep their order, and use StringTensorType for strings and categories."
        )
    return graph.concat(numbers), strings
