"""Conditions of `sample`: values held fixed, checked against the schema of a table."""

import numpy as np

from cmim_sklearn._tables.dtypes import float_type, integer_bounds
from cmim_sklearn._tables.read import (
    BOOLEAN,
    CATEGORY,
    Frame,
    as_numbers,
    as_objects,
    is_missing,
    read,
    read_objects,
)
from cmim_sklearn._tables.schema import as_kind, column_position
from cmim_sklearn._utils.messages import listed, shown


def read_conditions(table, given) -> Frame:
    """Read the conditions of `sample` into a frame with the columns of the fitted table.

    Parameters
    ----------
    table : Table
    given : dict or table
        A dict with one value per column, or a table with some of the columns. An array must
        have all columns. Missing values are not conditions.

    Returns
    -------
    Frame
        All columns in the order of the fitted table, missing where there is no condition.

    Raises
    ------
    ValueError
        If a column is unknown or held no value in fit, a level was not seen in fit, a column that
        was constant in fit is given another value, or an integer or count column is given a value
        that it cannot hold.
    """
    if isinstance(given, dict):
        columns, n, index = _read_dict(table, given), 1, None
    else:
        columns, n, index = _read_table(table, given)
    columns = [columns.get(p, np.full(n, np.nan)) for p in range(len(table.types))]
    frame = Frame(table.layout, columns, table.types, None, index)
    _check_empty(table, frame)
    _check_levels(table, frame)
    _check_integers(table, frame)
    _check_constants(table, frame)
    return frame


def _read_dict(table, given):
    """Columns of one row, by position."""
    columns = {}
    for key, value in given.items():
        if np.ndim(value) > 0:
            raise ValueError(
                f"`conditions[{key!r}]` must be a single value; got {len(value)} values. Pass a "
                "DataFrame to sample for several rows."
            )
    for key, value in given.items():
        p = column_position(key, table.layout.names, len(table.types), "conditions")
        value = value.item() if hasattr(value, "item") else value  # a scalar of numpy or torch
        column, _ = read_objects([value], key)
        # A level keeps its type: True and 1 may be two levels of one column.
        is_level = table.types[p] == CATEGORY and not is_missing(column)[0]
        columns[p] = np.array([value], dtype=object) if is_level else column
    return columns


def _read_table(table, given):
    """Columns by position, number of rows and row index of a table with some of the columns."""
    frame, n_columns = read(given), len(table.types)
    keys = frame.layout.names
    if keys is None and len(frame.columns) != n_columns:
        raise ValueError(
            f"`conditions` as an array must have all {n_columns} columns of the fitted table, "
            f"with NaN where there is no condition; got {len(frame.columns)} columns."
        )
    if frame.n_rows == 0:
        raise ValueError(
            "`conditions` must have at least one row; got 0 rows. Omit it to sample without "
            "conditions."
        )
    positions = range(n_columns)
    if keys is not None:
        names = table.layout.names
        positions = [column_position(key, names, n_columns, "conditions") for key in keys]
    return dict(zip(positions, frame.columns, strict=True)), frame.n_rows, frame.index


def _check_empty(table, frame):
    for p in table.empty:
        held = frame.columns[p][~is_missing(frame.columns[p])].tolist()
        if held:
            raise ValueError(
                f"`conditions`: column {frame.name(p)!r} held no value in fit; got "
                f"{shown(held[0])}. Remove it from `conditions`, or fit to rows in which it holds "
                "values."
            )


def _check_levels(table, frame):
    for block, likelihood in zip(table.blocks, table.likelihood.blocks, strict=True):
        if not likelihood.has_levels:
            continue
        columns = [as_kind(frame, p, likelihood) for p in block.positions]
        encoded = likelihood.encode(columns)
        for c, p in enumerate(block.positions):
            unknown = np.flatnonzero(encoded[:, c] == -1)
            if len(unknown):
                value, levels = columns[c][unknown[:1]].tolist()[0], likelihood.levels_of(c)
                if table.types[p] == BOOLEAN:
                    levels = [bool(level) for level in levels]
                    value = bool(value) if value in (0, 1) else value
                raise ValueError(
                    f"`conditions`: unknown level {shown(value)} for column {frame.name(p)!r}. "
                    f"Levels seen in fit: {listed(levels)}."
                )


def _check_integers(table, frame):
    """Check that integer and count columns are given values that they can hold."""
    blocks = zip(table.blocks, table.likelihood.blocks, strict=True)
    is_count = {p: part.is_count for block, part in blocks for p in block.positions}
    for p, values in enumerate(frame.columns):
        bounds = integer_bounds(table.layout.dtype_of(p))
        if is_count[p]:
            bounds = max(0, bounds[0] if bounds else 0), bounds[1] if bounds else np.inf
        if values.dtype == object or bounds is None:
            continue
        outside = (values < bounds[0]) | (values > bounds[1])
        wrong = np.flatnonzero(outside | (~np.isnan(values) & (values != np.round(values))))
        if len(wrong):
            raise ValueError(
                f"`conditions`: column {frame.name(p)!r} must be a whole number from {bounds[0]} "
                f"to {bounds[1]}; got {values[wrong[0]]:g}."
            )


def _check_constants(table, frame):
    """Check that columns that were constant in fit are given this value, in their precision."""
    for block, likelihood in zip(table.blocks, table.likelihood.blocks, strict=True):
        for c, p in enumerate(block.positions):
            constant = likelihood.constant_of(c)
            if constant is None:
                continue
            values = as_numbers(frame.columns[p], frame.name(p))
            kind = float_type(table.layout.dtype_of(p)) or np.float64
            with np.errstate(over="ignore"):
                is_other = values.astype(kind) != kind(constant)
            wrong = values[is_other & ~np.isnan(values)]
            if len(wrong):
                raise ValueError(
                    f"`conditions`: column {frame.name(p)!r} was constant in fit, {constant!r}; "
                    f"got {shown(wrong.tolist()[0])}. Remove it from `conditions`, or fit to rows "
                    "in which it varies."
                )


def impose_conditions(columns, frame: Frame, rows):
    """Overwrite generated raw columns (n,) with the conditions at the frame's rows (n,)."""
    out = []
    for p, values in enumerate(columns):
        given = frame.columns[p]
        is_level = values.dtype == object
        given = as_objects(given) if is_level else as_numbers(given, frame.name(p))
        given = given[rows]
        out.append(np.where(is_missing(given), values, given))
    return out
