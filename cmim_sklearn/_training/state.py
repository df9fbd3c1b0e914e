"""Training state (weights, gradients, optimizer, callbacks): save, restore, copy, scale, bound.

The state of a callback is included if it has ``state_dict()`` and ``load_state_dict(state)``, as
torch's optimizers do. For skorch's `LRScheduler`, these are methods of its torch scheduler.
"""

import copy

import numpy as np
import torch
from torch import nn

MAX_GRADIENT = 1e15
"""Largest absolute value of a gradient in training.

Its square fits a float32, and so does a sum of squares over the weights. Adam's square is infinite
above 1.8e19, and fused kernels on a GPU then set the weight to NaN. Only columns with values above
about 1e7 that are not scaled have such gradients.
"""


def training_state(net):
    """Weights, optimizer and callbacks of a net, as nested dicts and lists with live tensors.

    The next training step changes the tensors: copy those that you keep.
    """
    return {
        "weights": net.module_.state_dict(),
        "optimizer": net.optimizer_.state_dict(),
        "callbacks": callback_states(net),
    }


def callback_states(net):
    """States of the callbacks of a net, by name, with live tensors."""
    return {name: part.state_dict() for name, part in _parts_with_state(net)}


def restore(net, state):
    """Restore what `training_state` returned; the optimizer keeps the tensors of the state.

    Raises
    ------
    KeyError, RuntimeError, ValueError
        If the state belongs to another network, optimizer or list of callbacks.
    """
    _check_fused(net.optimizer_, state["optimizer"])
    net.module_.load_state_dict(state["weights"])
    net.optimizer_.load_state_dict(state["optimizer"])
    restore_callbacks(net, state["callbacks"])


def restore_callbacks(net, states):
    """Restore what `callback_states` returned."""
    for name, part in _parts_with_state(net):
        part.load_state_dict(copy.deepcopy(states[name]))  # schedulers keep lists


def _check_fused(optimizer, state):
    """Raise if tensors of a fused optimizer's state have wrong shapes.

    torch accepts any shape here, and the fused kernels would write past the end.
    """
    groups = [*optimizer.param_groups, *state["param_groups"]]
    if not any(group.get("fused") for group in groups):
        return
    own = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    places = [i for group in state["param_groups"] for i in group["params"]]
    if places != list(range(len(own))) or not set(state["state"]) <= set(places):
        raise ValueError(
            f"expected an optimizer state of {len(own)} weights; got {len(places)} weights, and "
            f"moments of {len(state['state'])}."
        )
    for i, values in state["state"].items():
        for name, value in values.items():
            shape = torch.Size([]) if name == "step" else own[i].shape
            if not isinstance(value, torch.Tensor) or value.shape != shape:
                found = getattr(value, "shape", value)
                raise ValueError(
                    f"expected the optimizer's {name!r} of weight {i} to have shape {shape}; got "
                    f"{found}."
                )


def scale_learning_rate(net, factor):
    """Multiply the learning rate by a factor, including in callbacks that set it later."""
    scale_optimizer_rate(net.optimizer_, factor)
    for _, callback in net.callbacks_:
        if hasattr(callback, "scale_learning_rate"):
            callback.scale_learning_rate(factor)
        elif hasattr(callback, "lr_scheduler_"):
            _scale_scheduler_rate(callback.lr_scheduler_, factor)


def scale_optimizer_rate(optimizer, factor):
    """Multiply the rates of a torch optimizer by a factor, also those for schedulers."""
    for group in optimizer.param_groups:
        for name in ("lr", "initial_lr", "max_lr", "min_lr"):  # max and min: OneCycleLR
            if name in group:
                group[name] *= factor


def _scale_scheduler_rate(scheduler, factor):
    """Multiply the rates that a torch scheduler holds."""
    for name in ("base_lrs", "max_lrs", "_last_lr"):
        if hasattr(scheduler, name):
            setattr(scheduler, name, [factor * rate for rate in getattr(scheduler, name)])
    for name in ("min_lr", "max_lr"):  # arrays of skorch's WarmRestartLR
        if hasattr(scheduler, name):
            setattr(scheduler, name, factor * getattr(scheduler, name))
    for part in getattr(scheduler, "_schedulers", ()):
        _scale_scheduler_rate(part, factor)


def bound_gradients(optimizer):
    """Clip gradients of float32 weights to `MAX_GRADIENT`, in place; NaN stays NaN."""
    # An optimizer lists its weights faster than a module. Other dtypes may not hold the bound.
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    weights = [w for w in weights if w.grad is not None and w.dtype == torch.float32]
    if weights:
        nn.utils.clip_grad_value_(weights, MAX_GRADIENT)


def copy_optimizer_state(source, target):
    """Copy moments and step counts between optimizers of one class; rates stay."""
    if type(target) is type(source):
        state = copy_tensors(source.state_dict()["state"])
        target.load_state_dict(target.state_dict() | {"state": state})


def restore_optimizer_in_place(optimizer, state):
    """Restore moments and step counts, copied before, into the tensors that the optimizer has."""
    own = optimizer.state_dict()["state"]
    with torch.no_grad():
        for key, values in state.items():
            for name, value in values.items():
                if isinstance(value, torch.Tensor):
                    own[key][name].copy_(value)
                else:
                    own[key][name] = value


def copy_tensors(tree):
    """Nested dicts, lists and tuples with copies of their tensors."""
    return _mapped(tree, torch.Tensor, lambda tensor: tensor.detach().clone())


def tensors_to_arrays(tree):
    """Nested dicts, lists and tuples with numpy arrays instead of tensors; copies."""
    return _mapped(tree, torch.Tensor, lambda tensor: tensor.detach().cpu().numpy().copy())


def arrays_to_tensors(tree):
    """Nested dicts, lists and tuples with tensors instead of numpy arrays; copies."""
    return _mapped(tree, np.ndarray, torch.tensor)


def _parts_with_state(net):
    """Pairs of a callback's name and the object that holds its state."""
    parts = [
        (name, getattr(callback, "lr_scheduler_", callback)) for name, callback in net.callbacks_
    ]
    return [(name, part) for name, part in parts if hasattr(part, "state_dict")]


def _mapped(tree, kind, function):
    if isinstance(tree, kind):
        return function(tree)
    if isinstance(tree, dict):
        out = copy.copy(tree)  # keeps the class, as a scheduler's Counter
        for name, value in tree.items():
            out[name] = _mapped(value, kind, function)
        return out
    if isinstance(tree, list | tuple):
        return type(tree)(_mapped(value, kind, function) for value in tree)
    return tree
