"""What decides how a fit ends, told by hashes: which checkpoint is of which fit.

Two processes that run the same script make the same hashes.
"""

import dataclasses
import hashlib
import inspect
import json
import logging
import math
import platform
import random
import re
import sys
from enum import Enum
from functools import cached_property, partial
from importlib.metadata import version
from types import (
    CodeType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)

import numpy as np
import torch
from torch.utils.hooks import RemovableHandle

from cmim_sklearn._utils.hashing import hash_of
from cmim_sklearn._version import __version__

UNRELATED = {
    "device", "embedding", "latent_prior", "max_iter", "random_state", "verbose", "warm_start",
}  # fmt: skip
"""Parameters that training does not go by, or that show in the parts beside the parameters."""

LIBRARIES = {"cmim_sklearn", "numpy", "sklearn", "skorch", "torch", *sys.stdlib_module_names}
"""Whose classes and functions are what their names and versions say."""

OF_EVERY_NETWORK = frozenset(vars(torch.nn.Module())) | {"training"}
HOOKS = sorted(name for name in OF_EVERY_NETWORK if name.endswith("_hooks"))


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
        ``fit``, a hash of the class, its parameters, seed, epochs and rows; and what may
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
        {k: plain(v, k) for k, v in parameters.items() if k not in UNRELATED},
        hash_of(X.identity()),
        None if held_out is None else hash_of(held_out.identity()),
    ]
    return {
        "fit": hashlib.sha256(json.dumps(told).encode()).hexdigest(),
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


def plain(value, place):
    """A parameter as JSON that is the same in the next process; other values have other JSON.

    Of what is no plain value: arrays and tensors by a hash, functions and classes by name, code,
    and what they close over, have as defaults and as attributes; networks by their weights and
    attributes too; objects by their class and what it was made with, or their attributes.

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


def _plain(value, within=()):
    """See `plain`; `within` has the ids of the classes and functions that are being told."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if value is None or type(value) in (str, bool, int, float):
        return value
    if isinstance(value, list | tuple):
        return [_plain(part, within) for part in value]
    if isinstance(value, set | frozenset):
        return ["set", sorted(json.dumps(_plain(part, within)) for part in value)]
    if isinstance(value, dict):
        pairs = ([_plain(k, within), _plain(v, within)] for k, v in value.items())
        return sorted(pairs, key=json.dumps)
    if isinstance(value, np.generic):
        return _plain(value.item(), within)
    if isinstance(value, np.ndarray):
        is_objects = value.dtype == object
        return _plain(value.tolist(), within) if is_objects else hash_of({"array": value})
    if isinstance(value, torch.Tensor):
        return hash_of({"tensor": value})
    if isinstance(value, RemovableHandle):  # of a hook, which is told where it is
        return "a hook"
    if isinstance(value, torch.nn.Module):
        if id(value) in within:  # as a network whose hook is a method of its own
            return ["within itself", within.index(id(value))]
        return _module(value, (*within, id(value)))
    if isinstance(value, CodeType):
        # No line numbers, no paths: a function may move.
        return [value.co_code.hex(), list(value.co_names), _plain(value.co_consts, within)]
    if isinstance(value, partial):
        return _plain([value.func, value.args, value.keywords], within)
    if isinstance(value, MethodType):
        return _plain([value.__self__, value.__func__], within)
    if isinstance(value, ModuleType):
        return value.__name__
    if isinstance(value, type) or inspect.isfunction(value):
        if id(value) in within:  # as the class that a method calls super() of
            return ["within itself", within.index(id(value))]
        parts = _own_parts if isinstance(value, type) else _function
        return [_name(value), *parts(value, (*within, id(value)))]
    return _object(value, within)


def _object(value, within):
    if getattr(value, "leaves_no_trace", False):
        held = {}
    elif dataclasses.is_dataclass(value):
        held = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    elif hasattr(value, "get_params"):  # a callback, an estimator: not what it has learnt
        held = value.get_params(deep=False)
    elif isinstance(value, random.Random):  # its state is no attribute
        held = [value.getstate(), vars(value)]
    elif isinstance(value, logging.Logger):
        held = value.name
    elif isinstance(value, re.Pattern):  # which repr cuts short
        held = [value.pattern, value.flags]
    elif hasattr(value, "__dict__") and not isinstance(value, Enum):
        held = vars(value)
    elif hasattr(value, "__qualname__"):  # a function written in C
        return _name(value)
    elif " at 0x" not in repr(value):  # a dtype, a date
        held = repr(value)
    else:
        raise _Unknown(f"a {_name(type(value))}, which has no attributes")
    return [_plain(type(value), within), _plain(held, within)]


def _module(module, within):
    """A network by its weights, which are trained, and the classes and attributes of its parts."""
    parts = {name: [type(part), *_held_by(part)] for name, part in module.named_modules()}
    trained = {name: weight.requires_grad for name, weight in module.named_parameters()}
    tensors = [module.state_dict(), dict(module.named_buffers())]
    return [repr(module), *_plain([parts, trained, tensors], within)]


def _held_by(part):
    """Attributes of a part of a network, and its hooks."""
    networks = {base for base in type(part).__mro__ if issubclass(base, torch.nn.Module)}
    is_own = not any(map(_is_of_a_library, networks - {torch.nn.Module}))  # else private are caches
    held = {
        name: value
        for name, value in vars(part).items()
        if name not in OF_EVERY_NETWORK and (is_own or not name.startswith("_"))
    }
    hooks = {name: [*vars(part)[name].values()] for name in HOOKS if vars(part)[name]}
    return held, hooks


def _function(function, within):
    """The code of a function that is of no library, and what it holds."""
    if _is_of_a_library(function):
        return
    yield _plain(function.__code__, within)
    yield _plain([function.__defaults__, function.__kwdefaults__], within)
    for cell in function.__closure__ or ():
        try:
            yield _plain(cell.cell_contents, within)
        except ValueError:  # not filled yet: the function itself, under its own name
            yield None


def _own_parts(cls, within):
    """Methods and attributes of a class and its bases, as far as they are of no library."""
    for base in cls.__mro__:
        if not _is_of_a_library(base):
            for name, part in sorted(vars(base).items()):
                if isinstance(part, property):
                    part = [part.fget, part.fset]
                elif isinstance(part, cached_property):
                    part = part.func
                else:
                    part = getattr(part, "__func__", part)
                # Python's own notes on a class, some of which are lines, say nothing.
                is_note = name.startswith("__") or name == "_abc_impl"
                is_slot = isinstance(part, MemberDescriptorType | GetSetDescriptorType)
                if inspect.isfunction(part) or not (is_note or is_slot):
                    yield [name, _plain(part, within)]


def _is_of_a_library(named):
    return str(named.__module__).split(".")[0] in LIBRARIES


def _name(named):
    return f"{getattr(named, '__module__', None)}.{named.__qualname__}"
