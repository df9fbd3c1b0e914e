"""A fitted encoder in a file, and back: what is written of it, and what is checked of what is read.

The file itself is `cmim_sklearn.archive`'s. Here a state, as `__getstate__` gives it, is made fit
for it; and one that was read is held against the class that is to have it: no name in a file
decides what is imported or called, and no number how much is allocated.
"""

import warnings
from itertools import pairwise

import numpy as np
import sklearn
import torch
from sklearn.utils.validation import check_is_fitted

from cmim_sklearn._models.inference import on_rows
from cmim_sklearn._models.two_view import Corruption
from cmim_sklearn._tables.dtypes import check_layout
from cmim_sklearn._utils.archive import (
    clear_parts,
    from_json,
    pack,
    read_bytes,
    reading,
    to_json,
    unpack,
    write_bytes,
)
from cmim_sklearn._utils.messages import shown as short
from cmim_sklearn._version import __version__

MAX_OTHER_WEIGHTS = 10**8
"""The most weights, counted as if layers were dense, of networks that the file cannot vouch for:
those that a callable makes, and the critic of InfoMax-VAE, which is begun anew."""

KEPT_BY_SCIKIT_LEARN = {
    "_skl_callbacks": "callbacks of set_callbacks",
    "_metadata_request": "requests of set_fit_request",
}
"""Attributes that hold objects, and how a user knows them."""


def save_encoder(encoder, path):
    """Write a fitted encoder; see `_LatentEncoder.save`."""
    cls = type(encoder)
    _check_class(cls, "save")
    check_is_fitted(encoder, "_net")
    state, left_out = _state_to_write(encoder)
    if left_out:
        warnings.warn(
            f"{cls.__name__}.save leaves out what only training needs and the file cannot hold: "
            f"{', '.join(left_out)}. Set it again before the loaded encoder is fitted.",
            UserWarning,
            stacklevel=3,
        )
    arrays, names = {}, cls._get_param_names()
    written = {name: to_json(value, name, arrays) for name, value in state.items()}
    content = {
        "class": cls.__name__,
        "versions": {
            "cmim_sklearn": __version__,
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "sklearn": sklearn.__version__,
        },
        "parameters": {name: written.pop(name) for name in names},
        "fitted": written,
    }
    data = pack(content, arrays)
    with reading(path):  # what would not load is not written
        _made_of(cls, data, encoder.device, _own_networks(encoder))
    clear_parts(path)
    write_bytes(path, data)


def load_encoder(cls, path, device, networks):
    """Read a fitted encoder of a class; see `_LatentEncoder.load`."""
    _check_class(cls, "load")
    data = read_bytes(path)
    with reading(path):
        return _made_of(cls, data, device, networks)


def _check_class(cls, method):
    """Raise for what is not one of the library's own final classes, which alone have files."""
    import cmim_sklearn

    known = [name for name in cmim_sklearn.__all__ if name.endswith("Encoder")]
    if not any(getattr(cmim_sklearn, name) is cls for name in known):
        raise TypeError(
            f"{method} is for {', '.join(known)}. {cls.__module__}.{cls.__qualname__} is none of "
            "them: a class of your own can be pickled."
        )


# -- writing ---------------------------------------------------------------------------------------


def _state_to_write(encoder):
    """The state, with JSON values and arrays for what needs no code, and names of what is left out.

    A network that a callable made is written as a dict with the callable's name, for messages.
    """
    state, left_out = dict(encoder.__getstate__()), []
    built = state["_built"] = dict(state["_built"])
    for name, network in _own_networks(encoder).items():
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
        # As a whole: what is left of an optimizer's options without it would not load.
        left_out.append("net_params")
        state["net_params"] = None
    if isinstance(state["random_state"], np.random.RandomState):
        left_out.append("random_state, a RandomState instance")
        state["random_state"] = None
    for name, told in KEPT_BY_SCIKIT_LEARN.items():
        if state.pop(name, None):
            left_out.append(told)
    return state, left_out


def _own_networks(encoder):
    """The callables that made encoder and decoder; None where the library's own did."""
    built = encoder._built
    return {
        name: built[name] if callable(built[name]) else None
        for name in ("encoder", "decoder")
        if name in built
    }


def _name_of(function):
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


# -- reading ---------------------------------------------------------------------------------------


def _made_of(cls, data, device, networks):
    """The encoder in a file's bytes, after all checks."""
    manifest, arrays = unpack(data)
    if manifest["class"] != cls.__name__:
        name = short(manifest["class"]).strip("'")
        raise ValueError(f"it holds a {name}, not a {cls.__name__}. Try {name}.load.")
    parameters = from_json(manifest["parameters"], arrays)
    fitted = from_json(manifest["fitted"], arrays)
    if arrays:
        raise ValueError(f"array {short(min(arrays))} belongs to nothing.")
    _check_names(cls, parameters, fitted)
    _put_networks(parameters, fitted["_built"], networks)
    if isinstance(parameters.get("view"), dict):
        parameters["view"] = Corruption(*parameters["view"]["Corruption"])
    # A parameter that came after the release that wrote the file has its default.
    encoder = cls()
    encoder.__setstate__({**vars(encoder), **parameters, **fitted, "device": device})
    _check_table(encoder)
    _check_size(encoder)
    _check_network(encoder)
    return encoder


def _check_names(cls, parameters, fitted):
    """Raise where a name is not that of a parameter, or stands for something of the class."""
    known = cls._get_param_names()
    for name in parameters:
        if name not in known:
            raise ValueError(
                f"{cls.__name__} has no parameter {short(name)} in cmim_sklearn {__version__}. "
                "Install the release that wrote the file, or a later one."
            )
    for name in fitted:
        is_taken = name in known or hasattr(cls, name)
        if is_taken or not name.isidentifier() or name.startswith("__"):
            raise ValueError(f"{short(name)} is not the name of something learnt in fit.")


def _put_networks(parameters, built, networks):
    """Put the caller's networks where the file has the name of a callable alone."""
    for name, given in networks.items():
        written = built.get(name)
        if not isinstance(written, dict):
            if given is not None:
                raise ValueError(
                    f"{name}= was given, a {type(given).__name__}, but the file's {name} is "
                    f"{short(written)}, which needs none."
                )
            continue
        if not callable(given):
            raise ValueError(
                f"its {name} was made by a callable, {short(written['callable'])}, which no file "
                f"can hold. Give it: load(path, {name}=...). Got {given!r}."
            )
        if parameters[name] == written:
            parameters[name] = given
        built[name] = given


def _check_table(encoder):
    """Check that the columns are each there once, with dtypes that reading a table can give."""
    table, n_columns = encoder.table_, encoder.n_features_in_
    check_layout(table.layout)
    names = table.layout.names
    positions = [p for block in table.blocks for p in block.positions]
    counts = [len(block.positions) for block in table.blocks]
    is_sound = (
        len(table.types) == n_columns
        and set(table.types) <= {"number", "boolean", "category"}
        and sorted(positions) == list(range(n_columns))
        and counts == [likelihood.n_columns for likelihood in table.likelihood.blocks]
        and (names is None or len(names) == n_columns)
        and ("feature_names_in_" not in vars(encoder) or list(encoder.feature_names_in_) == names)
    )
    if not is_sound:
        raise ValueError(f"its columns do not make a table of {short(n_columns)} columns.")
    table.raw_columns(np.zeros((1, n_columns), np.float32))  # fails where a column cannot decode


def _check_size(encoder):
    """Check that the weights in the file suffice for the network to be built, before it is."""
    built, likelihood = encoder._built, encoder.table_.likelihood
    if built.keys() != type(encoder)()._architecture().keys():
        raise ValueError(f"its architecture is {short(sorted(built))}.")
    d, hidden = built["n_components"], built["hidden_layer_sizes"]
    projector = built.get("projector_layer_sizes", [])
    widths = [d, *hidden, *projector, built.get("n_groups", 1)]
    if not all(type(n) is int and n > 0 for n in widths):
        raise ValueError(f"its architecture has widths {short(widths)}.")
    chains = [[likelihood.n_inputs, *hidden, d]]
    if "decoder" in built:
        chains.append([d, *hidden, likelihood.n_params])
    elif "n_groups" in built:
        chains += [[likelihood.n_inputs, *projector], [d, *projector[-1:]]]
    else:
        chains.append([d, *projector])
    there = sum(weight.size for weight in encoder._net["weights"].values())
    most = there
    if any(_own_networks(encoder).values()):
        most = max(there, MAX_OTHER_WEIGHTS)
    needed = sum(a * b for chain in chains for a, b in pairwise(chain))
    if needed > most:
        raise ValueError(
            f"its architecture takes {needed} weights or more, and the file has {there}."
        )
    for name in encoder.get_params(deep=False).keys() - built.keys():
        if name.endswith("layer_sizes"):
            sizes = np.atleast_1d(np.asarray(getattr(encoder, name), dtype=object)).tolist()
            others = sum(a * b for a, b in pairwise([likelihood.n_inputs + d, *sizes]))
            if others > MAX_OTHER_WEIGHTS:
                raise ValueError(f"{name}={short(sizes)} takes more weights than are allowed.")


def _check_network(encoder):
    """Build the network on the CPU, and hold all that was learnt against it by one empty row."""
    # Built once more, where `device` says, when it is used.
    likelihood, weights = encoder.table_.likelihood, encoder._net["weights"]
    model = encoder._build_model(likelihood, encoder._built, 0).eval()
    weights = {name: torch.from_numpy(weight) for name, weight in weights.items()}
    shapes = [
        {name: (tuple(part.shape), part.dtype) for name, part in of.items()}
        for of in (weights, model.state_dict())
    ]
    for name in sorted(shapes[0].keys() | shapes[1].keys()):
        there, expected = (of.get(name) for of in shapes)
        if there != expected:
            raise ValueError(
                f"weight {short(name)} is {there} in the file and {expected} in the network that "
                "the file describes (None where there is no such weight)."
            )
    model.load_state_dict(weights)

    def widths(x):
        parts = encoder._layers(model, x)
        return {name: torch.cat(of, 1) for name, of in parts.items()}

    layers = on_rows(model, widths, np.full((1, likelihood.n_columns), np.nan))
    expected = {name: [layer.shape[1:]] * 2 for name, layer in layers.items()}
    scales = {name: [part.shape for part in of] for name, of in encoder._scales.items()}
    if scales != expected:
        raise ValueError(f"the scales of its features have shapes {short(scales)}.")
    if "decoder" in encoder._built:
        latents, d = encoder._latents, encoder._built["n_components"]
        k, r = latents.means.shape
        shapes = {"weights": (k,), "centre": (d,), "basis": (d, r)}
        for name, shape in shapes.items():
            found = getattr(latents, name).shape
            if found != shape:
                raise ValueError(f"its latents' {name} have shape {found}, not {shape}.")
    if not all(isinstance(row, dict) for row in encoder._net["history"]):
        raise ValueError("its history is not one of epochs.")
