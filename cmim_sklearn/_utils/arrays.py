"""Arrays that torch can use, and numbers that an array keeps.

Torch shares the memory of arrays, and does not support read-only memory.
"""

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


def nearest_kept(values, kept):
    """Position in ``kept`` (K,), ascending, of the number nearest to each of values (n,).

    Returns
    -------
    place : array of shape (n,)
    is_kept : array of shape (n,)
        Whether the two are equal up to rounding. NaN equals no number.
    """
    place = np.searchsorted((kept[1:] + kept[:-1]) / 2, values)
    nearest = kept[place]
    return place, np.abs(values - nearest) <= 2 * np.spacing(nearest)
