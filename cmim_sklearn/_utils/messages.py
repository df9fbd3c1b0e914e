"""Messages: short text for values and lists of values in errors and warnings."""

from reprlib import Repr

MAX_LISTED = 20
"""Number of values of a list that a message shows."""

_REPR = Repr()
_REPR.maxlevel, _REPR.maxstring, _REPR.maxother = 2, 60, 60


def shown(value):
    """Short ``repr`` of a value of any size: at most 60 characters of a string or object.

    Safe for values read from untrusted files.
    """
    return _REPR.repr(value)


def listed(values):
    """Comma-separated text of the first 20 of a sequence of values."""
    more = ", ..." if len(values) > MAX_LISTED else ""
    return ", ".join(map(shown, values[:MAX_LISTED])) + more
