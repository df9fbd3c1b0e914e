"""Content of encoder files: conversion of a state for writing, and checks after reading.

The file format itself is in `cmim_sklearn._utils.archive`. No name in a file decides what is
imported or called, and no number how much memory is allocated.
"""

import numpy as np
import sklearn
import torch

from cmim_sklearn._encoders.base.fit import COLUMN_PARAMETERS, plain_columns
from cmim_sklearn._encoders.base.parameters import ENCODERS
from cmim_sklearn._models.two_view import Corruption
from cmim_sklearn._tables.kinds import HELD
from cmim_sklearn._tables.saved import check_columns, check_layout
from cmim_sklearn._utils.archive import from_json, pack, to_json, unpack
from cmim_sklearn._utils.messages import shown
from cmim_sklearn._version import __version__

MAX_OTHER_WEIGHTS = 10**8
"""Maximum number of weights, counted as dense layers, of networks whose weights the file does not
prove: those built by a callable, and the critic of InfoMax-VAE."""

KEPT_BY_SCIKIT_LEARN = {
    "_skl_callbacks": "callbacks of set_callbacks",
    "_metadata_request": "requests of set_fit_request",
}
"""Attributes of scikit-learn that hold objects, and the methods that set them."""


def check_class(cls, method):
    """Raise a TypeError unless a class is one of the library's encoders."""
    if ENCODERS.get(cls.__name__) is not cls:
        raise TypeError(
            f"{method} is for {', '.join(sorted(ENCODERS))}; got "
            f"{cls.__module__}.{cls.__qualname__}. Use pickle for a custom class."
        )


# -- writing ---------------------------------------------------------------------------------------


def state_to_write(state, networks):
    """State for a file: JSON values and arrays only, and the names of what was left out.

    Parameters
    ----------
    state : dict
        As `__getstate__` of an encoder returns it.
    networks : dict
        Callables that made the networks, by parameter; None for the library's networks. A
        callable is written as a dict with its name.

    Returns
    -------
    state : dict
    left_out : list of str
    """
    state, left_out = dict(state), []
    built = state["_built"] = dict(state["_built"])
    for name, network in networks.items():
        is_other = callable(state[name]) and state[name] != network
        if network is not None:
            built[name] = {"callable": _name_of(network)}
        if is_other:
            left_out.append(f"{name}={_name_of(state[name])}")
        if callable(state[name]):
            state[name] = built[name]
    view = state.get("view")
    if type(view) is Corruption:
        state["view"] = {"Corruption": [view.rate, view.both]}
    elif view is not None:
        left_out.append(f"view={_name_of(view)}")
        state["view"] = None
    try:
        to_json(state["net_params"], "net_params", {})
    except TypeError:
        # All of them: options of an optimizer are invalid without the optimizer.
        left_out.append("net_params")
        state["net_params"] = None
    if isinstance(state["random_state"], np.random.RandomState):
        left_out.append("random_state, a RandomState instance")
        state["random_state"] = None
    for name, described in KEPT_BY_SCIKIT_LEARN.items():
        if state.pop(name, None):
            left_out.append(described)
    return state, left_out


def _name_of(function):
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def to_bytes(cls, state):
    """Content of the file for the state of an encoder of a class."""
    arrays = {}
    written = {name: to_json(value, name, arrays) for name, value in state.items()}
    content = {
        "class": cls.__name__,
        "versions": {
            "cmim_sklearn": __version__,
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "sklearn": sklearn.__version__,
        },
        "parameters": {name: written.pop(name) for name in cls._get_param_names()},
        "fitted": written,
    }
    return pack(content, arrays)


# -- reading ---------------------------------------------------------------------------------------


def from_bytes(data, cls, networks):
    """Parameters and fitted attributes, by name, of an encoder of a class in a file.

    `networks` are the callables that the caller of `load` gave, by parameter, or None.
    """
    manifest, arrays = unpack(data)
    if manifest["class"] != cls.__name__:
        name = shown(manifest["class"]).strip("'")
        raise ValueError(f"it holds a {name}, not a {cls.__name__}. Use {name}.load.")
    parameters = from_json(manifest["parameters"], arrays)
    fitted = from_json(manifest["fitted"], arrays)
    if arrays:
        raise ValueError(f"array {shown(min(arrays))} is not part of any value.")
    _check_names(cls, parameters, fitted)
    _put_networks(parameters, fitted["_built"], networks)
    upgrade(parameters, fitted["_built"])
    if isinstance(parameters.get("view"), dict):
        parameters["view"] = Corruption(*parameters["view"]["Corruption"])
    return parameters, fitted


def _check_names(cls, parameters, fitted):
    """Raise if a name is not that of a parameter, or hides an attribute of the class."""
    known = cls._get_param_names()
    for name in parameters:
        if name not in known:
            raise ValueError(
                f"{cls.__name__} has no parameter {shown(name)} in cmim_sklearn {__version__}. "
                "Install the release that wrote the file, or a later one."
            )
    for name in fitted:
        is_taken = name in known or hasattr(cls, name)
        if is_taken or not name.isidentifier() or name.startswith("__"):
            raise ValueError(f"{shown(name)} is not the name of a fitted attribute.")


def _put_networks(parameters, built, networks):
    """Put the caller's networks where the file has only the name of a callable."""
    for name, given in networks.items():
        written = built.get(name)
        if not isinstance(written, dict):
            if given is not None:
                raise ValueError(
                    f"{name}= must be left out: the {name} in the file is {shown(written)}, not a "
                    f"custom network; got a {type(given).__name__}."
                )
            continue
        if not callable(given):
            raise ValueError(
                f"its {name} was made by a callable, {shown(written['callable'])}, which no file "
                f"can hold. Pass it: load(path, {name}=...). Got {given!r}."
            )
        if parameters[name] == written:
            parameters[name] = given
        built[name] = given


def upgrade(parameters, built):
    """Complete the architecture of format versions 1 and 2.

    These had the four parameters of the schema in one string, ``columns``. It is not parsed, since
    the file is not trusted; the parameters have the same values unless they were set after fit.
    """
    if built.pop("columns", None) is not None:
        built.update({name: parameters.get(name) for name in COLUMN_PARAMETERS})
        built["categorical_features"] = plain_columns(built["categorical_features"])


def check_table(table, n_columns):
    """Check that each column is there once, with a dtype that reading a table can give."""
    check_layout(table.layout)
    names = table.layout.names
    positions = [p for block in table.blocks for p in block.positions]
    counts = [len(block.positions) for block in table.blocks]
    is_sound = (
        len(table.types) == n_columns
        and set(table.types) <= set(HELD)
        and sorted(positions) == list(range(n_columns))
        and counts == [likelihood.n_columns for likelihood in table.likelihood.blocks]
        and counts == [likelihood.n_seen.size for likelihood in table.likelihood.blocks]
        and (names is None or len(names) == n_columns)
    )
    if not is_sound:
        raise ValueError(f"its schema does not describe a table of {shown(n_columns)} columns.")
    check_columns(table)
    table.raw_columns(np.zeros((1, n_columns), np.float32))  # raises if a column cannot decode


def check_weights(weights, expected):
    """Check names, shapes and dtypes of weights in a file against those of the built network."""
    shapes = [
        {name: (tuple(part.shape), part.dtype) for name, part in parts.items()}
        for parts in (
            {name: torch.from_numpy(weight) for name, weight in weights.items()},
            expected,
        )
    ]
    for name in sorted(shapes[0].keys() | shapes[1].keys()):
        found, wanted = (of.get(name) for of in shapes)
        if found != wanted:
            raise ValueError(
                f"weight {shown(name)} is {found} in the file and {wanted} in the network that "
                "the file describes (None means that there is no such weight)."
            )
