"""Arrays and tensors told apart by hashes of what they hold."""

import hashlib

import numpy as np
import torch


def hash_of(arrays):
    """A hash of named arrays or tensors: of their names, dtypes, shapes and values, in order.

    Parameters
    ----------
    arrays : dict of str to array or Tensor

    Returns
    -------
    str
        SHA-256, in hexadecimal digits.
    """
    sha = hashlib.sha256()
    for name, array in arrays.items():
        if isinstance(array, torch.Tensor):
            array = array.detach().cpu().numpy()
        # Each hashed by itself first, so that no two lists of arrays can make the same bytes.
        own = hashlib.sha256(f"{array.dtype} {array.shape}".encode())
        own.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
        sha.update(f"{name} {own.hexdigest()} ".encode())
    return sha.hexdigest()
