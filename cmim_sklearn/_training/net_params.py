"""Checks of `net_params`, before the table is read."""

from inspect import Parameter, signature

import torch
from sklearn.utils._param_validation import InvalidParameterError
from skorch import NeuralNet
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from cmim_sklearn._training.net import LatentNet
from cmim_sklearn._utils.messages import listed, shown
from cmim_sklearn._utils.validation import check_at_least_one

OWNED = {
    "module": "hidden_layer_sizes, encoder, decoder",
    "criterion": "contrastive_weight, temperature",
    "lr": "learning_rate_init",
    "optimizer__lr": "learning_rate_init",
    "optimizer__weight_decay": "alpha",
    "max_epochs": "max_iter",
    "batch_size": "batch_size",
    "iterator_train": "batch_size",
    "iterator_valid": "batch_size",
    "train_split": "early_stopping, validation_fraction, or fit(X, X_val=...)",
    "device": "device",
    "warm_start": "warm_start",
    "verbose": "verbose",
    "seed": "random_state",
    "title": "verbose",
    "fit_spec": "random_state",
    "one_cycle": "net_params={'callbacks__schedule': None}",
    "dataset": "X",
    "predict_nonlinearity": "embedding",
}
"""Net parameters that the estimator sets, with the estimator's parameters to use instead."""

KNOWN = {name for cls in (NeuralNet, LatentNet) for name in signature(cls).parameters}
KNOWN = KNOWN - {"kwargs"} - set(OWNED) | {"n_threads"}
"""Names in `net_params`: parameters of `LatentNet`, and one that the estimator itself applies."""

PARTS = ("optimizer", "callbacks", "compile")
"""Parameters that have parameters, whose names add ``__`` and a name."""

VALUES = {
    "autocast": (("bfloat16", "float16", None), "'bfloat16', 'float16' or None"),
    "compile": ((True, False), "True or False"),
    "cuda_graph": ((True, False), "True or False"),
    "use_caching": (("auto", True, False), "'auto', True or False"),
}
"""Values that a parameter may have, and the same in words."""


def check_net_params(net_params, owner):
    """Check `net_params` of an estimator; `owner` is the name of its class.

    Raises
    ------
    ValueError
        If a parameter is unknown or has a wrong value, or the estimator has one for it. A wrong
        value also is a TypeError.
    """
    for name in net_params:
        _check_name(name, owner)
    for name, (allowed, expected) in VALUES.items():
        value = net_params.get(name, allowed[0])
        if not isinstance(value, str | bool | None) or value not in allowed:
            _reject(name, expected, value)
    if not isinstance(net_params.get("torch_load_kwargs"), dict | None):
        _reject("torch_load_kwargs", "a dict or None", net_params["torch_load_kwargs"])
    if "n_threads" in net_params:
        check_at_least_one("net_params['n_threads']", net_params["n_threads"])
    _check_callbacks(net_params)
    _check_optimizer(net_params)


def _reject(name, expected, value):
    raise InvalidParameterError(f"net_params[{name!r}] must be {expected}; got {shown(value)}.")


def _check_name(name, owner):
    part = name.split("__")[0] if isinstance(name, str) else None
    owned = name if name in OWNED else part
    if owned in OWNED:
        raise ValueError(
            f"net_params must not contain {name!r}: {owner} sets it. Use the parameter "
            f"{OWNED[owned]} instead."
        )
    if name not in KNOWN and (part == name or part not in PARTS):
        raise ValueError(
            f"net_params has an unknown parameter {shown(name)}. Known parameters: "
            f"{', '.join(sorted(KNOWN))}, and parameters of {', '.join(PARTS)}, as in "
            "optimizer__betas."
        )


def _check_callbacks(net_params):
    callbacks = net_params.get("callbacks")
    if not isinstance(callbacks, list | tuple | None):
        _reject("callbacks", "a list or None", callbacks)
    for callback in callbacks or ():
        is_pair = isinstance(callback, tuple) and len(callback) == 2
        name, own = callback if is_pair else ("", callback)
        if not isinstance(name, str) or not _is_callback(own):
            expected = "a list of skorch callbacks, or of pairs of a name and a callback"
            if isinstance(own, LRScheduler):
                expected += " (skorch.callbacks.LRScheduler makes one from a scheduler of torch)"
            _reject("callbacks", expected, callback)
    for name, value in net_params.items():
        is_one = name.startswith("callbacks__") and name.count("__") == 1
        if is_one and value is not None and not _is_callback(value):
            _reject(name, "a skorch callback or None", value)


def _is_callback(value):
    return hasattr(value, "on_train_begin")


def _check_optimizer(net_params):
    optimizer = net_params.get("optimizer", AdamW)
    is_class = isinstance(optimizer, type)
    if not callable(optimizer) or (is_class and not issubclass(optimizer, Optimizer)):
        expected = "a torch.optim.Optimizer class, such as torch.optim.Adam, or a function"
        _reject("optimizer", f"{expected} that returns an optimizer", optimizer)
    try:
        known = signature(optimizer).parameters
    except (TypeError, ValueError):  # a function of C
        known = {}
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in known.values()):
        return
    name = getattr(optimizer, "__name__", shown(optimizer))
    for needed in ("lr", "weight_decay"):
        if needed not in known:
            raise InvalidParameterError(
                "net_params['optimizer'] must take lr and weight_decay, which learning_rate_init "
                f"and alpha set; got {name}, which has no {needed}. Use another optimizer, or a "
                "function of parameters, lr and weight_decay that returns it."
            )
    for option, value in net_params.items():
        inner = option.removeprefix("optimizer__")
        if inner in (option, "param_groups"):  # not of the optimizer, or handled by skorch
            continue
        if inner not in known:
            raise InvalidParameterError(
                f"net_params has the parameter {option!r}, but {name} takes no {inner!r}. It takes "
                f"{listed(list(known)[1:])}."
            )
        if optimizer is AdamW:  # others may not accept this weight
            try:
                AdamW([nn.Parameter(torch.zeros(1))], **{inner: value})
            except Exception as error:
                _reject(option, f"a value that AdamW takes ({error})", value)
