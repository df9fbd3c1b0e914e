"""Inference in chunks: apply a function of tensors to many rows without gradients."""

import numpy as np
import torch

from cmim_sklearn._models.latent_model import LatentModel

CHUNK_ROWS, MIN_CHUNK_ROWS = 4096, 32


def on_rows(model: LatentModel, function, rows, n_rows=None):
    """Apply a function of tensors on the model's device to rows, without gradients.

    Short chunks are padded: matrix products of one or two rows take other code paths and round
    otherwise, and a row must not depend on what stands beside it.

    Parameters
    ----------
    model : LatentModel
    function : callable
        From rows (chunk, k) to a dict of tensors (chunk, ...), or of lists of tensors (chunk, w_i)
        to be put side by side.
    rows : array of shape (n, k), or iterable of such arrays
    n_rows : int, default=None
        Of all arrays together, where there are several.

    Returns
    -------
    dict of str to array of shape (n, ...), float32
    """
    parts = [rows] if n_rows is None else rows
    n_rows = len(rows) if n_rows is None else n_rows
    device, outputs, start = model.device, {}, 0
    with torch.no_grad():
        for part in parts:
            for first in range(0, len(part), CHUNK_ROWS):
                chunk = torch.from_numpy(np.array(part[first : first + CHUNK_ROWS], np.float32))
                n = len(chunk)
                if n < MIN_CHUNK_ROWS:
                    chunk = torch.cat([chunk, chunk.new_zeros(MIN_CHUNK_ROWS - n, chunk.shape[1])])
                for name, values in function(chunk.to(device)).items():
                    _put(outputs, name, values, slice(start, start + n), n_rows)
                start += n
    return outputs


def _put(outputs, name, values, where, n_rows):
    """Write values (chunk, ...), or several side by side, into some of the rows of an output."""
    if not isinstance(values, list):
        values = [values]
    widths = [v.shape[1] for v in values] if len(values) > 1 else values[0].shape[1:]
    if name not in outputs:
        shape = [sum(widths)] if len(values) > 1 else widths
        outputs[name] = np.empty((n_rows, *shape), np.float32)  # on large pages, unlike torch's
    rows = torch.from_numpy(outputs[name][where])
    for v, own in zip(values, rows.split(widths, 1) if len(values) > 1 else [rows], strict=True):
        own.copy_(v[: len(rows)])
