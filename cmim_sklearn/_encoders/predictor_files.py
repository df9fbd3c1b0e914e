"""Files of classifiers and regressors: a linear model, and the file of the encoder within."""

import numpy as np
import sklearn

from cmim_sklearn._encoders.base.fitted import from_bytes, to_bytes
from cmim_sklearn._encoders.cmim import CMIMEncoder
from cmim_sklearn._utils.archive import from_json, pack, to_json, unpack
from cmim_sklearn._utils.messages import shown
from cmim_sklearn._version import __version__

ENCODER = "encoder"
"""Array with the bytes of the encoder's file."""
VALUES = ("parameters", "model", "output")
"""Dicts of the manifest: own parameters, attributes of the linear model, `set_output`."""


def pack_predictor(name, encoder, values):
    """Content of the file of a predictor.

    Parameters
    ----------
    name : str
        Name of its class.
    encoder : CMIMEncoder
        Its fitted encoder.
    values : dict of dict
        `VALUES`.
    """
    arrays = {}
    content = {part: to_json(values[part], part, arrays) for part in VALUES}
    arrays[ENCODER] = np.frombuffer(to_bytes(encoder), np.uint8)
    versions = {"cmim_sklearn": __version__, "sklearn": sklearn.__version__}
    return pack({"class": name, "versions": versions, **content}, arrays)


def unpack_predictor(data, name, device, networks):
    """Encoder and `VALUES` in the content of the file of a predictor."""
    manifest, arrays = unpack(data)
    if manifest["class"] != name:
        found = shown(manifest["class"]).strip("'")
        raise ValueError(f"it holds a {found}, not a {name}. Use {found}.load.")
    encoder = from_bytes(CMIMEncoder, arrays.pop(ENCODER).tobytes(), device, networks)
    values = {part: from_json(manifest[part], arrays) for part in VALUES}
    if arrays:
        raise ValueError(f"array {shown(min(arrays))} is not part of any value.")
    return encoder, values


def check_names(found, expected, what):
    """Raise unless a dict has the expected names."""
    if found.keys() != set(expected):
        raise ValueError(f"its {what} must be {sorted(expected)}; got {shown(sorted(found))}.")


def check_numbers(attributes, shapes):
    """Raise unless attributes of a linear model are finite numbers of the given shapes."""
    for name, shape in shapes.items():
        value = np.asarray(attributes[name])
        is_finite = value.dtype.kind in "fi" and np.isfinite(value).all()
        if value.shape != shape or not is_finite:
            raise ValueError(
                f"{name} of its linear model must hold finite numbers of shape {shape}; got "
                f"{value.dtype} of shape {value.shape}."
            )


def check_classes(classes):
    """Raise unless classes are an array of at least two values of one type, all different."""
    is_array = isinstance(classes, np.ndarray) and classes.ndim == 1
    listed = classes.tolist() if is_array else []
    is_plain = is_array and (
        classes.dtype.kind in "biufU" or all(type(value) is str for value in listed)
    )
    if not is_plain or len(set(listed)) != len(listed) or len(listed) < 2:
        raise ValueError(
            f"its classes must be 2 or more different numbers or strings; got {shown(classes)}."
        )
