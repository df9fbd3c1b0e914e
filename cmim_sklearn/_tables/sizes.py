"""Checks of the size of numbers in a table."""

from decimal import Decimal

import numpy as np

from cmim_sklearn._likelihoods.scaling import MAX_SIZE
from cmim_sklearn._tables.wide import MAX_SCALE, decimals_of

MAX_LEVEL_DIGITS = 4000
"""Maximum number of digits of a number that is a level; Python writes only 4,300 as text."""


def finite(values, name, first_row, exact=None):
    """Return floats (n,); raise if one is infinite or too large.

    The message shows the value of the row in `exact`, if that is given.
    """
    is_too_large = np.abs(values) > MAX_SIZE
    if is_too_large.any():
        row = np.flatnonzero(is_too_large)[0]
        found = values[row] if exact is None else exact[row]
        found = Decimal(found) if isinstance(found, int) else found
        raise ValueError(
            f"Column {name!r} must hold numbers from {-MAX_SIZE:g} to {MAX_SIZE:g}, or NaN; got "
            f"{found:.3g} in row {first_row + row}. Replace it with NaN to treat it as missing, or "
            "with a smaller number."
        )
    return values


def check_exact(exact, as_float, name, first_row):
    """Raise if a number (n,) of Python cannot even be a level.

    Integers and Decimals above 1e305 can. Infinite numbers, those of more than 4,000 digits, and
    Decimals of more than 100 decimals cannot.
    """
    for row in np.flatnonzero(np.abs(as_float) > MAX_SIZE):
        value = Decimal(exact[row])
        if not value.is_finite() or value.adjusted() >= MAX_LEVEL_DIGITS:
            finite(as_float[row:], name, first_row + row, exact[row:])
    for row, value in enumerate(exact):
        if isinstance(value, Decimal) and decimals_of([value]) > MAX_SCALE:
            raise ValueError(
                f"Column {name!r} must hold Decimals of at most {MAX_SCALE} decimals; got "
                f"{value:.3g} in row {first_row + row}. Round or scale the values, or convert them "
                "to floats."
            )
