"""Hashes of the content of arrays and tensors."""

import hashlib

import numpy as np
import torch


def hash_of(arrays):
    """Hash of named arrays or tensors: of names, dtypes, shapes and values, in order.

    Parameters
    ----------
    arrays : dict of str to array or Tensor

    Returns
    -------
    str
        SHA-256 in hexadecimal digits.
    """
    sha = hashlib.sha256()
    for name, array in arrays.items():
        if isinstance(array, torch.Tensor):
            array = array.detach().cpu().numpy()
        # Hash each array first, so that different lists of arrays never give the same bytes.
        content = hashlib.sha256(f"{array.dtype} {array.shape}".encode())
        content.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
        sha.update(f"{name} {content.hexdigest()} ".encode())
    return sha.hexdigest()
