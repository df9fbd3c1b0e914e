"""Pooling of hidden states: from sequences or images of positions to one feature vector per row.

Axes: n rows, T positions, H hidden features, w features.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from cmim_sklearn._encoders.model_reader import describe
from cmim_sklearn._utils.arrays import writable


def pooled_features(hidden, batch, pooling, reader):
    """Features (n, w) of a hidden state.

    Parameters
    ----------
    hidden : Tensor of shape (n, ...)
    batch : Tensor or mapping of tensors
        The rows from which the hidden state was computed.
    pooling : {"mean", "last", "max"}, callable or None
        See `InformativeEmbedding`.
    reader : HiddenStateReader
        The reader that gave the hidden state.
    """
    n = len(hidden)
    if callable(pooling):
        features = torch.as_tensor(writable(pooling(hidden, batch)))
    elif hidden.ndim != 3:  # four and more axes are an image
        features = hidden.flatten(1)
    else:
        positions = positions_first(hidden, reader.layer)
        mask = align_mask(padding_mask(batch, reader.module_names), positions.shape[1])
        features = pool(positions.float(), pooling, mask)
    if features.ndim != 2 or len(features) != n:
        raise ValueError(
            f"`pooling` must return features ({n}, w) for {n} rows; got {describe(features)} from "
            f"{describe(hidden)}."
        )
    return features


def positions_first(hidden, layer):
    """Hidden state (n, T, H) of a sequence; a 1-D convolution takes it as (n, H, T)."""
    return hidden.transpose(1, 2) if isinstance(layer, _ConvNd) else hidden


def pool(hidden, pooling, mask=None):
    """Pool the positions of hidden states, (n, w).

    Parameters
    ----------
    hidden : Tensor of shape (n, T, H)
    pooling : {"mean", "last", "max"} or None
        None concatenates all positions.
    mask : Tensor of shape (n, T), bool, or None
        True at positions that count. Rows without any give zeros.
    """
    if pooling is None:
        return hidden.flatten(1)
    if mask is None:
        mask = hidden.new_ones(hidden.shape[:2], dtype=torch.bool)
    inside = mask.unsqueeze(-1)
    # Masked by filling, not by multiplying: values at padding may be NaN.
    if pooling == "mean":
        return hidden.masked_fill(~inside, 0).sum(1) / inside.sum(1).clamp(min=1)
    if pooling == "max":
        largest = hidden.masked_fill(~inside, -torch.inf).amax(1)
        return largest.masked_fill(~inside.any(1), 0)
    positions = torch.arange(mask.shape[1], device=mask.device)
    last = (positions * mask).amax(1)
    rows = torch.arange(len(hidden), device=mask.device)
    return hidden.masked_fill(~inside, 0)[rows, last]


def padding_mask(batch, modules) -> Tensor | None:
    """Mask (n, T) that is False at padding; None if padding is not known.

    It is the attention mask of a tokenizer, or else, for a batch of integers, follows from the
    ``padding_idx`` of the first `nn.Embedding` that has one.
    """
    if isinstance(batch, Mapping):
        if "attention_mask" in batch:
            return batch["attention_mask"].bool()
        batch = batch.get("input_ids")
    if batch is None or batch.ndim != 2 or batch.is_floating_point():
        return None
    embeddings = (module for module in modules if isinstance(module, nn.Embedding))
    padding = next((e.padding_idx for e in embeddings if e.padding_idx is not None), None)
    return None if padding is None else batch != padding


def align_mask(mask, n_positions):
    """Align a mask of tokens (n, T) with hidden states that may be one fewer or one more.

    T - 1 states: the decoder gets all tokens but the last, and predicts the second and later ones.
    T + 1 states: it gets a start token first, and predicts an end token last. None if there is no
    mask or the numbers differ otherwise.
    """
    if mask is None:
        return None
    T = mask.shape[1]
    if n_positions == T + 1:
        return torch.cat([torch.ones_like(mask[:, :1]), mask], 1)
    if n_positions in (T, T - 1):
        return mask[:, T - n_positions :]
    return None
