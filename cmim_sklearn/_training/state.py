"""What training goes by besides its data: taken off a net between two epochs, and put back.

A callback takes part by ``state_dict()`` and ``load_state_dict(state)``, as torch's optimizers do;
skorch's `LRScheduler` by those of the scheduler of torch that it holds.
"""

import copy

import numpy as np
import torch


def training_state(net):
    """Weights, optimizer and callbacks of a net, as nested dicts and lists with live tensors.

    Whoever keeps it copies it: the next step changes its tensors.
    """
    return {
        "weights": net.module_.state_dict(),
        "optimizer": net.optimizer_.state_dict(),
        "callbacks": {name: part.state_dict() for name, part in _with_state(net)},
    }


def restore(net, state):
    """Put back what `training_state` gave; the net takes the optimizer's tensors for its own.

    Raises
    ------
    KeyError, RuntimeError, ValueError
        If the state is that of another network, optimizer or list of callbacks.
    """
    _check_fused(net.optimizer_, state["optimizer"])
    net.module_.load_state_dict(state["weights"])
    net.optimizer_.load_state_dict(state["optimizer"])
    for name, part in _with_state(net):
        part.load_state_dict(copy.deepcopy(state["callbacks"][name]))  # torch's takes lists as own


def _check_fused(optimizer, state):
    """Raise where the state of a fused optimizer does not fit: its kernels trust the sizes.

    torch takes moments of any shape, and the next step would write beyond their ends.
    """
    groups = [*optimizer.param_groups, *state["param_groups"]]
    if not any(group.get("fused") for group in groups):
        return
    own = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    places = [i for group in state["param_groups"] for i in group["params"]]
    if places != list(range(len(own))) or not set(state["state"]) <= set(places):
        raise ValueError(f"the optimizer's state is of {len(places)} weights, not of {len(own)}.")
    for i, values in state["state"].items():
        for name, value in values.items():
            shape = torch.Size([]) if name == "step" else own[i].shape
            if not isinstance(value, torch.Tensor) or value.shape != shape:
                found = getattr(value, "shape", value)
                raise ValueError(
                    f"the optimizer's {name!r} of weight {i} has shape {found}, not {shape}."
                )


def slow_down(net, factor):
    """Multiply the learning rate by a factor, and what callbacks will set it to."""
    slow_down_optimizer(net.optimizer_, factor)
    for _, callback in net.callbacks_:
        if hasattr(callback, "slow_down"):
            callback.slow_down(factor)
        elif hasattr(callback, "lr_scheduler_"):
            _slow_down_scheduler(callback.lr_scheduler_, factor)


def slow_down_optimizer(optimizer, factor):
    """Multiply the rates of a torch optimizer by a factor, those that schedulers go by as well."""
    for group in optimizer.param_groups:
        for name in ("lr", "initial_lr", "max_lr", "min_lr"):  # the last two of torch's OneCycleLR
            if name in group:
                group[name] *= factor


def _slow_down_scheduler(scheduler, factor):
    """Multiply what a scheduler of torch computes rates from, and those that it holds."""
    for name in ("base_lrs", "max_lrs", "_last_lr"):
        if hasattr(scheduler, name):
            setattr(scheduler, name, [factor * rate for rate in getattr(scheduler, name)])
    for name in ("min_lr", "max_lr"):  # arrays of skorch's WarmRestartLR
        if hasattr(scheduler, name):
            setattr(scheduler, name, factor * getattr(scheduler, name))
    for part in getattr(scheduler, "_schedulers", ()):
        _slow_down_scheduler(part, factor)


def take_over(optimizer, before):
    """Moments and step counts of another optimizer of the same class; rates stay."""
    if type(optimizer) is type(before):
        state = copied(before.state_dict()["state"])
        optimizer.load_state_dict(optimizer.state_dict() | {"state": state})


def copied(tree):
    """Nested dicts, lists and tuples with copies of their tensors."""
    return _mapped(tree, torch.Tensor, lambda tensor: tensor.detach().clone())


def to_arrays(tree):
    """Nested dicts, lists and tuples with numpy arrays in the place of tensors; copies."""
    return _mapped(tree, torch.Tensor, lambda tensor: tensor.detach().cpu().numpy().copy())


def to_tensors(tree):
    """Nested dicts, lists and tuples with tensors in the place of numpy arrays; copies."""
    return _mapped(tree, np.ndarray, torch.tensor)


def _with_state(net):
    """Names of callbacks, and what of each has a state."""
    parts = [
        (name, getattr(callback, "lr_scheduler_", callback)) for name, callback in net.callbacks_
    ]
    return [(name, part) for name, part in parts if hasattr(part, "state_dict")]


def _mapped(tree, kind, function):
    if isinstance(tree, kind):
        return function(tree)
    if isinstance(tree, dict):
        out = copy.copy(tree)  # of its own kind, as a scheduler's Counter
        for name, value in tree.items():
            out[name] = _mapped(value, kind, function)
        return out
    if isinstance(tree, list | tuple):
        return type(tree)(_mapped(value, kind, function) for value in tree)
    return tree
