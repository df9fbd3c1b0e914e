"""Table columns as arrays to plot: numbers, dates, or codes of levels.

A plotted column is an array (n,) with NaN for missing values. It holds numbers, dates in days as
matplotlib counts them, or codes, which are positions in a list of level names.
"""

from typing import NamedTuple

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted

from cmim_sklearn._encoders.base.encoder import _LatentEncoder
from cmim_sklearn._encoders.base.generative import _GenerativeEncoder
from cmim_sklearn._encoders.base.parameters import ENCODERS
from cmim_sklearn._tables.kinds import column_position
from cmim_sklearn._tables.moments import form_of
from cmim_sklearn._tables.read import BOOLEAN, as_numbers, as_objects
from cmim_sklearn._utils.levels import level_of
from cmim_sklearn._utils.messages import number_text
from cmim_sklearn.display._dates import as_plotted
from cmim_sklearn.display._texts import numbered

MAX_COLUMNS = 12
"""Number of columns drawn by default."""

CENTRAL_PERCENTAGE = 99.0
"""Percentage of values inside colour and histogram limits, so that outliers do not set them."""

MAX_WHOLE = 2.0**53
"""Number below which a float level that is whole is written as an int."""


class Column(NamedTuple):
    """Column of several frames, to plot.

    Attributes
    ----------
    values : list of array of shape (n,)
        One per frame.
    levels : list of str or None
        Level names, of a column with levels.
    is_date : bool
        Whether the values are dates.
    name : str
    """

    values: list
    levels: list | None
    is_date: bool
    name: str


def check_encoder(display, encoder, *, needs_decoder=False):
    """Raise unless `encoder` is a fitted encoder, with a decoder if the display needs one."""
    check_matplotlib_support(f"{display.__name__}.from_estimator")
    name = type(encoder).__name__
    if not isinstance(encoder, _LatentEncoder):
        raise TypeError(
            f"`encoder` of {display.__name__} must be an encoder of cmim_sklearn; got {name}. For "
            "a pipeline, pass its encoder step, and the table as that step receives it."
        )
    if needs_decoder and not isinstance(encoder, _GenerativeEncoder):
        able = sorted(n for n, cls in ENCODERS.items() if issubclass(cls, _GenerativeEncoder))
        raise ValueError(
            f"`encoder` must have a decoder for this plot; got {name}, which has none. Use "
            f"{', '.join(able[:-1])} or {able[-1]}."
        )
    check_is_fitted(encoder)


def column_positions(table, columns, parameter):
    """Positions of columns given by name or position; the first `MAX_COLUMNS` if None."""
    names, n_columns = table.layout.names, len(table.types)
    if columns is None:
        return list(range(min(n_columns, MAX_COLUMNS)))
    columns = [columns] if np.ndim(columns) == 0 else list(columns)
    if not columns:
        raise ValueError(f"`{parameter}` must name at least one column; got {columns!r}.")
    positions = [column_position(key, names, n_columns, parameter) for key in columns]
    return list(dict.fromkeys(positions))


def read_columns(table, positions, *frames):
    """Columns of frames that share a schema, to plot together.

    Returns
    -------
    columns : list of dict of str to array of shape (n,)
        One dict per frame.
    levels : dict of str to list of str
        Level names of the columns that have levels.
    dates : list of str
        Names of the columns that hold dates.
    """
    found = [read_column(table, p, [frame.columns[p] for frame in frames]) for p in positions]
    names = numbered([column.name for column in found])
    named = dict(zip(names, found, strict=True))
    columns = [{n: column.values[i] for n, column in named.items()} for i in range(len(frames))]
    levels = {n: column.levels for n, column in named.items() if column.levels is not None}
    return columns, levels, [n for n, column in named.items() if column.is_date]


def read_column(table, position, raw):
    """`Column` of the raw columns (n,) of several frames."""
    names, name = table.layout.names, _column_name(table, position)
    form = form_of(table.layout.dtype_of(position))
    if form is not None:
        values, name, is_date = as_plotted(raw, form, name)
        return Column(values, None, is_date, name)
    if not _has_levels(table, position):
        numbers = [as_numbers(values, name) for values in raw]
        if position in table.origins:
            numbers = [table.origins[position].relative(values) for values in raw]
        return Column(numbers, None, False, name)
    order = [] if names is None else table.layout.dtypes[position].get("categories", [])
    order = list(map(level_of, order))
    codes, levels = as_codes(raw, table.types[position] == BOOLEAN, order)
    return Column(codes, levels, False, name)


def _has_levels(table, position):
    kinds = zip(table.blocks, table.likelihood.blocks, strict=True)
    return any(kind.has_levels and position in block.positions for block, kind in kinds)


def _column_name(table, position):
    """Name of a column; numbers beyond 2**53 are relative to their smallest, as it then says."""
    names = table.layout.names
    name = f"x{position}" if names is None else str(names[position])
    if position in table.origins and not _has_levels(table, position):
        (low,) = table.origins[position].absolute(np.zeros(1))
        name = f"{name} - {number_text(low)}"
    return name


def as_codes(columns, is_boolean, order=()):
    """Codes (n,) of raw columns that share their levels, and the level names, all different.

    Levels come in the given order, others after them: numbers by size, strings alphabetically.
    """
    columns = [as_objects(values) for values in columns]
    seen = {value for values in columns for value in values if value is not None}
    ordered = [value for value in order if value in seen]
    ordered += sorted(seen - set(ordered), key=lambda v: (isinstance(v, str), v))
    code = {value: k for k, value in enumerate(ordered)}
    codes = [np.array([code.get(value, np.nan) for value in values]) for values in columns]
    as_name = (lambda value: str(bool(value))) if is_boolean else _level_name
    return codes, numbered(map(as_name, ordered))


def _level_name(value):
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) < MAX_WHOLE
    return str(int(value)) if is_whole else str(value)


def merge_rare(codes, levels, max_levels):
    """Merge rare levels into "other": the new code of each level, and the new names."""
    if len(levels) <= max_levels:
        return np.arange(len(levels)), numbered(levels)
    counts = np.bincount(codes[~np.isnan(codes)].astype(int), minlength=len(levels))
    kept = np.sort(np.argsort(-counts, kind="stable")[:max_levels])
    new_codes = np.full(len(levels), max_levels)
    new_codes[kept] = np.arange(max_levels)
    return new_codes, numbered([*(levels[k] for k in kept), "other"])


def recode(codes, new_codes):
    """Replace codes by the new ones of `merge_rare`; NaN stays."""
    out = np.full(codes.shape, np.nan)
    seen = ~np.isnan(codes)
    out[seen] = new_codes[codes[seen].astype(int)]
    return out


def cross_counts(a, b, n_a, n_b):
    """Number of rows for each pair of codes, (n_a, n_b)."""
    counts = np.zeros((n_a, n_b))
    np.add.at(counts, (a.astype(int), b.astype(int)), 1)
    return counts


def central_range(values):
    """Limits that hold `CENTRAL_PERCENTAGE` of the values; the upper one is always larger."""
    outside = (100 - CENTRAL_PERCENTAGE) / 2
    low, high = np.percentile(values, [outside, 100 - outside])
    return (low, high) if high > low else (low - 0.5, high + 0.5)
