"""Messages: short text for values and lists of values in errors and warnings."""

from decimal import Decimal
from reprlib import Repr

MAX_LISTED = 20
"""Number of values of a list that a message shows."""

MAX_WHOLE = 1e16
"""Number from which whole floats are written as floats, with an exponent."""

_REPR = Repr()
_REPR.maxlevel, _REPR.maxstring, _REPR.maxother = 2, 60, 60


def shown(value):
    """Short ``repr`` of a value of any size: at most 60 characters of a string or object.

    Safe for values read from untrusted files.
    """
    return _REPR.repr(value)


def number_text(value):
    """Text of a number; of a whole float without ``.0``, of a Decimal without its class."""
    if isinstance(value, float) and value.is_integer() and abs(value) < MAX_WHOLE:
        value = int(value)
    return str(value) if isinstance(value, Decimal) else shown(value)


def listed(values, text=shown):
    """Comma-separated text of the first 20 of a sequence of values."""
    more = ", ..." if len(values) > MAX_LISTED else ""
    return ", ".join(map(text, values[:MAX_LISTED])) + more
