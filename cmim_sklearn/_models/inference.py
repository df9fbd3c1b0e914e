"""Inference in chunks: apply a function of tensors to many rows without gradients."""

import numpy as np
import torch

from cmim_sklearn._models.encoding_model import EncodingModel

CHUNK_ROWS, MIN_CHUNK_ROWS = 4096, 32
MAX_CUDA_ROWS, MAX_CUDA_NUMBERS = 2**16, 2**27
"""Maximum number of rows of a chunk on a GPU, and of float32 numbers that it needs: 512 MB."""


def chunk_rows(model: EncodingModel):
    """Rows of a chunk: some thousands, on a GPU up to 65,536.

    The number follows from the model alone: random numbers are drawn chunk by chunk.
    """
    if model.device.type != "cuda":
        return CHUNK_ROWS
    width = sum(len(weight) for weight in model.parameters() if weight.ndim > 1)
    numbers_per_row = 4 * (model.likelihood.n_inputs + width)
    return int(np.clip(MAX_CUDA_NUMBERS // numbers_per_row, CHUNK_ROWS, MAX_CUDA_ROWS))


def on_rows(model: EncodingModel, function, rows, n_rows=None):
    """Apply a function of tensors to rows, in chunks on the model's device, without gradients.

    Each chunk moves to the device once, and its results move back once. Short chunks are padded:
    matrix products of one or two rows are computed and rounded differently, but a row's result must
    not depend on the other rows.

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
    device, outputs, start, step = model.device, {}, 0, chunk_rows(model)
    with torch.no_grad():
        for part in parts:
            for first in range(0, len(part), step):
                chunk = torch.from_numpy(np.array(part[first : first + step], np.float32))
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
    elif values[0].device.type != "cpu":
        values = [torch.cat(values, 1)]  # one copy from the device
    widths = [v.shape[1] for v in values] if len(values) > 1 else values[0].shape[1:]
    if name not in outputs:
        shape = [sum(widths)] if len(values) > 1 else widths
        # NumPy allocates on large pages, torch does not.
        outputs[name] = np.empty((n_rows, *shape), np.float32)
    rows = torch.from_numpy(outputs[name][where])
    columns = rows.split(widths, 1) if len(values) > 1 else [rows]
    for v, target in zip(values, columns, strict=True):
        target.copy_(v[: len(rows)])
