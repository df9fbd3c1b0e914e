"""Inference in chunks: apply a function of tensors to many rows without gradients."""

import numpy as np
import torch

from cmim_sklearn._models.encoding_model import EncodingModel

CHUNK_ROWS, MIN_CHUNK_ROWS = 4096, 32


def on_rows(model: EncodingModel, function, rows, n_rows=None):
    """Apply a function of tensors to rows, in chunks on the model's device, without gradients.

    Short chunks are padded. Matrix products of one or two rows are computed and rounded
    differently, but a row's result must not depend on the other rows.

    Parameters
    ----------
    model : EncodingModel
    function : callable
        From rows (chunk, k) to a dict of tensors (chunk, ...), or of lists of tensors (chunk, w_i),
        which are concatenated along axis 1.
    rows : array of shape (n, k), or iterable of such arrays
    n_rows : int, default=None
        Number of rows of all arrays together, if `rows` is an iterable. None: `rows` is one array.

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
                    _write(outputs, name, values, slice(start, start + n), n_rows)
                start += n
    return outputs


def _write(outputs, name, values, where, n_rows):
    """Write values (chunk, ...), or a list of them side by side, into some rows of an output."""
    if not isinstance(values, list):
        values = [values]
    widths = [v.shape[1] for v in values] if len(values) > 1 else values[0].shape[1:]
    if name not in outputs:
        shape = [sum(widths)] if len(values) > 1 else widths
        # NumPy allocates on large pages, torch does not.
        outputs[name] = np.empty((n_rows, *shape), np.float32)
    rows = torch.from_numpy(outputs[name][where])
    columns = rows.split(widths, 1) if len(values) > 1 else [rows]
    for v, target in zip(values, columns, strict=True):
        target.copy_(v[: len(rows)])
