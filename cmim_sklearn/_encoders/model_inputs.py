"""Inputs of a custom model: rows or texts as tensors."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from cmim_sklearn._utils.arrays import writable
from cmim_sklearn._utils.device import exact_device, resolve_device


def as_texts(X):
    """Texts of a list or column of strings, as an object array (n,)."""
    values = np.asarray(X, dtype=object)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ValueError(
            "`X` must be a list or one column of strings if there is a tokenizer; got shape "
            f"{values.shape}."
        )
    if not len(values):
        raise ValueError("`X` must hold at least one text; got 0.")
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise TypeError(
                f"`X` must hold strings if there is a tokenizer; got {value!r} in row {row}. "
                "Replace missing texts first, for example by ''."
            )
    return values


def make_to_batch(modules, device="auto", tokenizer=None):
    """Return a function from rows to the input of a model, and move the model to its device.

    Parameters
    ----------
    modules : iterable of nn.Module
        Modules of the model, each once.
    device : str, default="auto"
        Device to move the modules to. "auto" leaves them where they are.
    tokenizer : callable, default=None
        See `InformativeEmbedding`.

    Raises
    ------
    ValueError
        If the model has float64 weights and the device has no float64, as Apple's mps.
    """
    tensors = [t for m in modules for t in (*m.parameters(False), *m.buffers(False))]
    if device != "auto":
        name, device = device, resolve_device(device)
        has_double = any(t.dtype == torch.float64 for t in tensors)
        if has_double and exact_device(device) != device:  # before any module moves
            raise ValueError(
                f"device={name!r} has no float64, but the model has float64 weights. Convert it "
                "with model.float(), or set device='cpu'."
            )
        for module in modules:
            module.to(device)
    else:
        device = tensors[0].device if tensors else torch.device("cpu")
    dtype = next((t.dtype for t in tensors if t.is_floating_point()), torch.float32)
    takes_tokens = any(isinstance(module, nn.Embedding) for module in modules)

    def to_batch(rows):
        if tokenizer is not None:
            tokens = tokenizer(rows.tolist())
            if isinstance(tokens, Mapping):
                return {
                    name: torch.as_tensor(writable(t), device=device) for name, t in tokens.items()
                }
            return torch.as_tensor(writable(tokens), device=device)
        if takes_tokens and rows.dtype.kind in "iu":
            return torch.from_numpy(rows.astype(np.int64)).to(device)
        as_numpy = np.float64 if dtype == torch.float64 else np.float32
        return torch.from_numpy(rows.astype(as_numpy)).to(device, dtype)

    return to_batch
