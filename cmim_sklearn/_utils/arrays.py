"""Arrays that torch can use: it shares their memory, and does not support read-only memory."""

import numpy as np


def writable(value):
    """Copy the read-only arrays in nested dicts, lists and tuples, such as memory-mapped ones."""
    if isinstance(value, np.ndarray):
        return value if value.flags.writeable else np.array(value)
    if type(value) is dict:
        return {name: writable(part) for name, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(writable, value))
    return value
