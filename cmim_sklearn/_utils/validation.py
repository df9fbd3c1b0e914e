"""Checks of arguments that several methods take."""

from numbers import Integral


def check_at_least_one(name, value):
    """Raise a ValueError unless a count is an int of at least 1."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be an int of at least 1; got {value!r}.")
