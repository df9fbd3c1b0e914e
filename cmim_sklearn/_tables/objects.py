"""Reading of Python objects: as numbers, booleans, dates or categories."""

from decimal import Decimal
from numbers import Number

import numpy as np

from cmim_sklearn._tables.moments import TIMES, read_moments
from cmim_sklearn._tables.sizes import check_exact, finite
from cmim_sklearn._tables.wide import decimals_of, is_wide
from cmim_sklearn._utils.levels import twin_of

NUMBER, BOOLEAN, CATEGORY = "number", "boolean", "category"
"""Types of columns without dates; for those with dates, see `cmim_sklearn._tables.moments`."""
PERIOD_ADVICE = "Convert periods to their start, with .dt.to_timestamp()."
INTERVAL_ADVICE = "Split intervals into their two ends, or convert them with .astype(str)."
BYTES_ADVICE = "Decode the values to strings, or drop the column."
NESTED_ADVICE = "Split nested values into separate columns, or drop the column."


def read_objects(values, name, first_row=0, *, is_category=False):
    """Read Python objects: as numbers, booleans or dates if all of them are, else as categories.

    Numbers of other types, such as fractions.Fraction, become floats. Floats in a column with
    Decimals become Decimals.

    Returns
    -------
    column : array of shape (n,)
        As in `Frame`.
    type : {"number", "boolean", "category"}
    options : dict
        Type of the numbers, to add to the description of an object dtype: ``{"scale": 2}`` for
        Decimals of up to two decimals, ``{"of": "float"}`` for floats; for dates, see
        `cmim_sklearn._tables.moments.read_moments`.

    Raises
    ------
    TypeError, ValueError
        As `cmim_sklearn._tables.read.read` does.
    """
    found = set(map(type, values))
    missing = {t for t in found if t is type(None) or t.__name__ in ("NAType", "NaTType")}
    found -= missing
    for kind in found:
        if issubclass(kind, complex | np.complexfloating):
            raise ValueError(f"Complex data not supported: column {name!r}.")
        if kind.__name__ in ("Period", "Interval"):
            advice = PERIOD_ADVICE if kind.__name__ == "Period" else INTERVAL_ADVICE
            raise TypeError(f"Column {name!r} holds {kind.__name__} values. {advice}")
        if issubclass(kind, bytes):
            raise TypeError(f"Column {name!r} holds bytes. {BYTES_ADVICE}")
        if not issubclass(kind, (str, Number, np.bool_, Decimal, *TIMES)):
            raise TypeError(
                f"Column {name!r} must hold numbers, booleans, dates or strings; got "
                f"{kind.__name__} values. {NESTED_ADVICE} Convert labels of another type with "
                ".astype(str)."
            )
    if missing - {type(None)}:
        values = [None if type(value) in missing else value for value in values]
    if any(issubclass(kind, TIMES) for kind in found):
        values = [None if isinstance(v, float) and v != v else v for v in values]
        return read_moments(values, name)
    numbers = {kind for kind in found if not issubclass(kind, str)}
    booleans = {kind for kind in numbers if issubclass(kind, bool | np.bool_)}
    if numbers == found and not is_category:
        floats = np.array([np.nan if v is None else as_float(v) for v in values], np.float64)
        only_booleans = booleans and all(
            kind in booleans or issubclass(kind, float) for kind in found
        )
        if only_booleans and np.isin(floats[~np.isnan(floats)], [0.0, 1.0]).all():
            return floats, BOOLEAN, {}
        if any(issubclass(kind, Decimal) for kind in found):
            exact = _plain(values, found)
            exact[:] = [twin_of(v) if isinstance(v, float) else v for v in exact]
            check_exact(exact, floats, name, first_row)
            return exact, NUMBER, {"scale": decimals_of(exact)}
        if any(issubclass(kind, int | np.integer) for kind in found) and is_wide(floats):
            exact = _plain(values, found)
            check_exact(exact, floats, name, first_row)
            return exact, NUMBER, {}
        floats = finite(floats, name, first_row)
        are_floats = all(issubclass(kind, float | np.floating) for kind in found)
        has_float = are_floats and not np.isnan(floats).all()
        return floats, NUMBER, {"of": "float"} if has_float else {}
    others = [kind for kind in numbers if not issubclass(kind, int | float | np.generic | Decimal)]
    if others:
        raise TypeError(
            f"Column {name!r} must have strings, numbers or booleans as categories; got "
            f"{others[0].__name__} values. Convert them with .astype(str)."
        )
    return _plain(values, found), CATEGORY, {}


def as_float(value):
    """Float of a number; NaN if it is missing, infinite if a Python int is too large."""
    try:
        return np.nan if _is_nan(value) else float(value)
    except OverflowError:
        return np.inf


def _is_nan(value):
    return value.is_nan() if isinstance(value, Decimal) else value != value


def _plain(values, found):
    """Values of some types as an array of str, int, float, bool or Decimal, with None for NaN."""
    if not found <= {str, int, bool}:
        values = [None if v is None or _is_nan(v) else _plain_value(v) for v in values]
    objects = np.empty(len(values), dtype=object)
    objects[:] = values
    return objects


def _plain_value(value):
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, str | int | float | Decimal) else float(value)
