"""What decides how a fit ends, told by hashes: which checkpoint is of which fit.

Two processes that run the same script make the same hashes.
"""

import dataclasses
import hashlib
import inspect
import json
import math
from enum import Enum
from functools import partial
from types import CodeType, MethodType

import numpy as np
import torch

from cmim_sklearn._version import __version__

UNRELATED = {
    "device", "embedding", "latent_prior", "max_iter", "n_jobs", "random_state", "verbose",
    "warm_start",
}  # fmt: skip
"""Parameters that training does not go by, or that show in the parts beside the parameters."""

LIBRARIES = {"builtins", "cmim_sklearn", "numpy", "sklearn", "skorch", "torch"}
"""Whose classes and functions are what their names and versions say."""


def origin_of(net, X):
    """All that decides what a fit ends with, as plain JSON.

    Parameters
    ----------
    net : LatentNet
        Initialised, as its training begins.
    X : EncodedTable

    Returns
    -------
    dict
        ``fit``, a hash of the class, its parameters, seed, epochs, processes and rows; and what may
        differ where a fit is to go on, but must not: ``versions``, ``device``, a hash of
        ``weights``.

    Raises
    ------
    ValueError
        If a parameter cannot be told from others of its kind.
    """
    _, held_out = net.get_split_datasets(X, None)
    parameters = net.origin["parameters"]
    told = [
        net.origin["class"],
        net.origin["seed"],
        net.max_epochs,
        net.world_.size,
        {k: plain(v, k) for k, v in parameters.items() if k not in UNRELATED},
        _hash({"x": X.x}),
        None if held_out is None else _hash({"x": held_out.x}),
    ]
    return {
        "fit": hashlib.sha256(json.dumps(told).encode()).hexdigest(),
        "versions": {"cmim_sklearn": __version__, "torch": str(torch.__version__)},
        "device": torch.device(net.device).type,
        "weights": _hash(net.module_.state_dict()),
    }


def plain(value, place):
    """A parameter as JSON that is the same in the next process; other values have other JSON.

    Of what is no plain value: arrays and tensors by a hash, functions and classes by name and
    code, objects by their class and what it was made with, or their attributes.

    Raises
    ------
    ValueError
        If there is nothing to tell it by, naming the place.
    """
    try:
        return _plain(value)
    except (_Unknown, RecursionError) as error:
        told = str(error) if isinstance(error, _Unknown) else "an object that holds itself"
        raise ValueError(
            f"Checkpoint cannot tell whether {place} is the same when the fit is started again: it "
            f"holds {told}. Give a function, or an object with plain attributes."
        ) from None


class _Unknown(Exception):
    """An object without anything to tell it by."""


def _plain(value):
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if value is None or type(value) in (str, bool, int, float):
        return value
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, set | frozenset):
        return ["set", sorted(json.dumps(_plain(part)) for part in value)]
    if isinstance(value, dict):
        return sorted(([_plain(k), _plain(v)] for k, v in value.items()), key=json.dumps)
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, np.ndarray):
        return _plain(value.tolist()) if value.dtype == object else _hash_of_array(value)
    if isinstance(value, torch.Tensor):
        return _hash({"tensor": value})
    if isinstance(value, torch.nn.Module):
        return [repr(value), _plain(value.state_dict())]
    if isinstance(value, CodeType):
        # No line numbers, no paths: a function may move.
        return [value.co_code.hex(), list(value.co_names), _plain(value.co_consts)]
    if isinstance(value, partial):
        return _plain([value.func, value.args, value.keywords])
    if isinstance(value, MethodType):
        return _plain([value.__self__, value.__func__])
    if isinstance(value, type):
        return [_name(value), *_own_code(value)]
    if inspect.isfunction(value):
        return [_name(value), *_function(value)]
    return _object(value)


def _object(value):
    if getattr(value, "leaves_no_trace", False):
        held = {}
    elif dataclasses.is_dataclass(value):
        held = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    elif hasattr(value, "get_params"):  # a callback, an estimator: not what it has learnt
        held = value.get_params(deep=False)
    elif hasattr(value, "__dict__") and not isinstance(value, Enum):
        held = vars(value)
    elif hasattr(value, "__qualname__"):  # a function written in C
        return _name(value)
    elif " at 0x" not in repr(value):  # a dtype, a pattern, a date
        held = repr(value)
    else:
        raise _Unknown(f"a {_name(type(value))}, which has no attributes")
    return [_plain(type(value)), _plain(held)]


def _function(function):
    if _is_of_a_library(function):
        return
    yield _plain(function.__code__)
    yield _plain([function.__defaults__, function.__kwdefaults__])
    for cell in function.__closure__ or ():
        try:
            yield _plain(cell.cell_contents)
        except ValueError:  # not filled yet: the function itself, under its own name
            yield None


def _own_code(cls):
    """The code of the methods of a class and its bases, as far as they are of no library."""
    for base in cls.__mro__:
        if not _is_of_a_library(base):
            for name, part in sorted(vars(base).items()):
                part = getattr(part, "__func__", getattr(part, "fget", part))
                if inspect.isfunction(part):
                    yield [name, _plain(part.__code__)]


def _is_of_a_library(named):
    return str(named.__module__).split(".")[0] in LIBRARIES


def _name(named):
    return f"{named.__module__}.{named.__qualname__}"


def _hash(tensors):
    sha = hashlib.sha256()
    for name, tensor in tensors.items():
        array = tensor.detach().cpu().numpy()
        sha.update(f"{name} {_hash_of_array(array)} ".encode())
    return sha.hexdigest()


def _hash_of_array(array):
    array = np.ascontiguousarray(array)
    sha = hashlib.sha256(f"{array.dtype} {array.shape}".encode())
    sha.update(array.reshape(-1).view(np.uint8))
    return sha.hexdigest()
