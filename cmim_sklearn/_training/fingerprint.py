"""Fingerprint of a fit (rows, parameters, seed), so that only the same fit resumes a checkpoint."""

import copyreg
import hashlib
import json
import math
import platform
from importlib.metadata import version
from types import FunctionType

import numpy as np
import torch

from cmim_sklearn._utils.hashing import hash_of
from cmim_sklearn._version import __version__

WITHOUT_EFFECT = {
    "device", "embedding", "latent_prior", "max_iter", "random_state", "verbose", "warm_start",
}  # fmt: skip
"""Parameters that do not change the trained weights, or that the fingerprint holds elsewhere."""


def fit_fingerprint(net, X):
    """Everything that decides the result of a fit, as plain JSON, equal in every process.

    Parameters
    ----------
    net : LatentNet
        Initialised, as its training begins.
    X : EncodedTable or StreamedTable

    Returns
    -------
    dict
        ``fit``: hash of class, parameters, seed, number of epochs and rows. ``versions``,
        ``device`` and ``weights`` (a hash of the initial ones) must be equal to resume.

    Raises
    ------
    ValueError
        If a parameter has no stable fingerprint.
    """
    _, held_out = net.get_split_datasets(X, None)
    parameters = net.fit_spec["parameters"]
    parts = [
        net.fit_spec["class"],
        net.fit_spec["seed"],
        net.max_epochs,
        {k: fingerprint(v, k) for k, v in parameters.items() if k not in WITHOUT_EFFECT},
        hash_of(X.identity()),
        None if held_out is None else hash_of(held_out.identity()),
    ]
    return {
        "fit": hashlib.sha256(json.dumps(parts).encode()).hexdigest(),
        "versions": {
            "cmim_sklearn": __version__,
            "torch": str(torch.__version__),
            "skorch": version("skorch"),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "device": torch.device(net.device).type,
        "weights": hash_of(net.module_.state_dict()),
    }


def fingerprint(value, name):
    """Hash of a parameter: the same for equal values in every process, different for others.

    Arrays and tensors count by their bytes, functions and classes by their qualified name, objects
    with ``get_params`` by class and parameters, all other objects by what pickle would save:
    networks by class, weights and attributes.

    joblib.hash is not used: it depends on the order of a frozenset, which changes with
    PYTHONHASHSEED, and on whether equal tuples are the same object.

    Raises
    ------
    ValueError
        If the value holds a lambda, a local function or class, or an object that cannot be pickled.
    """
    try:
        return hashlib.sha256(json.dumps(_plain(value)).encode()).hexdigest()
    except Exception as error:
        reason = "it refers to itself" if isinstance(error, RecursionError) else error
        raise ValueError(
            f"Checkpoint cannot recognise the parameter {name!r} in another process: {reason}. "
            "Use a function or class defined at the top level of a module, or an object that "
            "pickle can save."
        ) from error


def _plain(value):
    """A value as JSON; lists begin with a tag, so that no two kinds of values are equal."""
    if isinstance(value, np.bool_ | np.integer | np.floating):
        value = value.item()
    kind = type(value)
    if value is None or kind in (bool, int, str) or (kind is float and math.isfinite(value)):
        return value
    if kind in (float, bytes):
        return [kind.__name__, repr(value)]
    if kind in (list, tuple):
        return ["list", *map(_plain, value)]
    if kind in (set, frozenset):
        return ["set", *sorted(map(_plain, value), key=json.dumps)]
    if kind is dict:
        return ["dict", *sorted(([_plain(k), _plain(v)] for k, v in value.items()), key=json.dumps)]
    if kind in (np.ndarray, np.memmap) and not value.dtype.hasobject:
        return ["array", hash_of({"": value})]
    if isinstance(value, torch.Tensor):
        return ["tensor", value.requires_grad, hash_of({"": value})]
    if isinstance(value, type | FunctionType):
        return ["name", _qualified_name(value)]
    if getattr(value, "without_effect", False):
        return ["object", _qualified_name(kind)]
    if hasattr(value, "get_params"):
        return ["object", _qualified_name(kind), _plain(value.get_params(deep=False))]
    reduced = copyreg.dispatch_table.get(kind, lambda value: value.__reduce_ex__(2))(value)
    if isinstance(reduced, str):
        return ["name", f"{getattr(value, '__module__', None) or kind.__module__}.{reduced}"]
    made_by, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
    return ["object", *map(_plain, (made_by, arguments, state, [*(items or ())], [*(pairs or ())]))]


def _qualified_name(value):
    name = f"{value.__module__}.{value.__qualname__}"
    if "<lambda>" in name or "<locals>" in name:
        raise ValueError(f"{name} is a lambda, or is defined inside a function")
    return name
