"""Conditions of `sample`: values held fixed, checked against the schema of a table."""

from decimal import Decimal
from fractions import Fraction
from functools import partial

import numpy as np

from cmim_sklearn._likelihoods.clock import steps_text
from cmim_sklearn._tables.date_texts import CONDITION, parse
from cmim_sklearn._tables.dtypes import (
    float_type,
    integer_bounds,
    is_object,
    number_bounds,
    scale_of,
)
from cmim_sklearn._tables.kinds import column_position
from cmim_sklearn._tables.moments import (
    DATE,
    DATETIME,
    MOMENTS,
    ZONED,
    as_moments,
    check_years,
    form_of,
    in_unit,
)
from cmim_sklearn._tables.read import (
    CATEGORY,
    Frame,
    as_numbers,
    as_objects,
    column_name,
    is_missing,
    read,
    read_objects,
)
from cmim_sklearn._tables.schema import level_text
from cmim_sklearn._utils.messages import listed, number_text, shown
from cmim_sklearn._utils.zones import from_local, to_local


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
        If a column is unknown or held no value in fit, a value of a column of dates is none, one
        that its dtype cannot hold, or one between the steps of fit, a level was not seen in fit, a
        column that was constant in fit is given another value, or a column of counts, or its dtype,
        cannot hold a value.
    """
    if isinstance(given, dict):
        columns, n, index = _read_dict(table, given), 1, None
    else:
        columns, n, index = _read_table(table, given)
    nothing = np.full(n, np.nan), None
    columns = [_as_dates(table, p, *columns.get(p, nothing)) for p in range(len(table.types))]
    frame = Frame(table.layout, columns, table.types, None, index)
    _check_empty(table, frame)
    _match_levels(table, frame)
    _check_numbers(table, frame)
    _check_constants(table, frame)
    _check_steps(table, frame)
    return frame


def _as_dates(table, position, values, held):
    """Values of a column of dates in its dtype, from dates and strings; of others as they are.

    `held` is the form of the values, if they are dates. A date without a time zone, as all dates of
    numpy, is in the local time of the column's zone.
    """
    form, missing = form_of(table.layout.dtype_of(position)), is_missing(values)
    if form is None or (position in table.empty and not missing.all()):
        return values
    name = column_name(table.layout.names, position)
    if values.dtype == object and all(v is None or isinstance(v, str) for v in values):
        dates = parse(values, form, name)
    else:
        if held is not None and (held.holds, form.holds) == (DATE, ZONED):
            values, held = from_local(values, form.zone), form
        dates = as_moments(values, form, name, held=held, what=CONDITION)
        dates = in_unit(dates, form.dtype, name, exact=True, what=CONDITION)
    if form.zone or (form.type == DATETIME and is_object(table.layout.dtype_of(position))):
        for times in (dates, to_local(dates, form.zone)):  # libraries write both
            check_years(times, values, name, form.zone, CONDITION)
    return dates


def _read_dict(table, given):
    """Columns of one row, with their forms, by position."""
    columns = {}
    for key, value in given.items():
        if isinstance(value, slice):
            raise ValueError(
                f"`conditions[{key!r}]` must be a single value; got {shown(value)}. Ranges are not "
                "supported: sample more rows, and keep those within the range."
            )
        if isinstance(value, list | tuple | set | dict) or getattr(value, "ndim", 0) > 0:
            raise ValueError(
                f"`conditions[{key!r}]` must be a single value; got {len(value)} values. Pass a "
                "DataFrame to sample for several rows."
            )
    for key, value in given.items():
        p = _position(table, key)
        if p in columns:
            raise ValueError(
                f"`conditions` must have one value for each column; got {shown(key)} and another "
                "key of the same column."
            )
        if hasattr(value, "item"):  # of a scalar of numpy or torch
            is_date = getattr(value.dtype, "kind", None) in ("M", "m")  # which may become an int
            value = value[()] if is_date else value.item()
        column, _, options = read_objects([value], key)
        # A level keeps its type: True and 1 may be two levels of one column.
        is_level = table.types[p] == CATEGORY and not is_missing(column)[0]
        column = np.array([value], dtype=object) if is_level else column
        columns[p] = column, form_of({"dtype": "object"} | options)
    return columns


def _read_table(table, given):
    """Columns with forms by position, number of rows and row index of a table of some columns."""
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
        positions = [_position(table, key) for key in keys]
        for i, p in enumerate(positions):
            if p in positions[:i]:
                raise ValueError(
                    f"`conditions` must have one column for each of X; got {shown(keys[i])} and "
                    "another name of the same column."
                )
    forms = (form_of(frame.layout.dtype_of(i)) for i in range(len(frame.columns)))
    columns = zip(frame.columns, forms, strict=True)
    return dict(zip(positions, columns, strict=True)), frame.n_rows, frame.index


def _position(table, key):
    """Position of a column of the fitted table; a column that has a name has no position."""
    return column_position(key, table.layout.names, len(table.types), "conditions", only_names=True)


def _check_empty(table, frame):
    for p in table.empty:
        held = frame.columns[p][~is_missing(frame.columns[p])].tolist()
        if held:
            raise ValueError(
                f"`conditions`: column {frame.name(p)!r} held no value in fit; got "
                f"{shown(held[0])}. Remove it from `conditions`, or fit to rows in which it holds "
                "values."
            )


def _match_levels(table, frame):
    """Check that levels were seen in fit; those of categories become the levels of fit."""
    for block, likelihood, columns in table.raw_parts(frame):
        if not likelihood.has_levels:
            continue
        encoded = likelihood.encode(columns)
        for c, p in enumerate(block.positions):
            unknown = np.flatnonzero(encoded[:, c] == -1)
            if len(unknown):
                value = columns[c][unknown[:1]].tolist()[0]
                text = partial(level_text, column_type=table.types[p])
                raise ValueError(
                    f"`conditions`: unknown level {text(value)} for column {frame.name(p)!r}. "
                    f"Levels seen in fit: {listed(likelihood.levels_of(c), text)}."
                )
        if likelihood.takes == CATEGORY:
            for p, values in zip(block.positions, likelihood.decode(encoded), strict=True):
                frame.columns[p] = values


def _check_numbers(table, frame):
    """Check that columns are given numbers that their dtype, and counts, can hold."""
    blocks = zip(table.blocks, table.likelihood.blocks, strict=True)
    is_count = {p: part.is_count for block, part in blocks for p in block.positions}
    for p, values in enumerate(frame.columns):
        description = table.layout.dtype_of(p)
        bounds, scale = integer_bounds(description), scale_of(description)
        is_whole = bounds is not None or is_count[p]
        if is_count[p]:
            bounds = max(0, bounds[0] if bounds else 0), bounds[1] if bounds else np.inf
        elif not is_whole:
            bounds = number_bounds(description)
        if table.types[p] == CATEGORY or table.types[p] in MOMENTS:
            continue
        for value in as_objects(values[~is_missing(values)]):
            # As Python numbers, which compare exactly.
            if bounds and not _is_within(value, bounds, is_whole):
                number = "whole number" if is_whole else "number"
                low, high = bounds if is_whole else map(float, bounds)
                expected = f"a {number} from {low} to {high}"
            elif scale is not None and not is_object(description) and _has_more(value, scale):
                expected = f"a number with at most {scale} decimals, as its dtype"
            else:
                continue
            raise ValueError(
                f"`conditions`: column {frame.name(p)!r} must be {expected}; got "
                f"{number_text(value)}."
            )


def _is_within(value, bounds, is_whole):
    """Whether a finite number is within bounds, and whole if it must be."""
    if not np.isfinite(float(value)):
        return False
    exact = Fraction(value)
    return bounds[0] <= exact <= bounds[1] and not (is_whole and exact.denominator > 1)


def _has_more(value, scale):
    """Whether a number has more decimals than a scale."""
    return (Fraction(str(value)) * 10**scale).denominator > 1


def _check_constants(table, frame):
    """Check that columns that were constant in fit are given this value, in their precision."""
    for block, likelihood, columns in table.raw_parts(frame):
        for c, p in enumerate(block.positions):
            constant = likelihood.constant_of(c)
            if constant is None or any(p == link.child for link in table.links):
                continue
            kind = float_type(table.layout.dtype_of(p)) or np.float64
            with np.errstate(over="ignore"):
                is_other = (
                    columns[c] != constant
                    if table.types[p] in MOMENTS
                    else columns[c].astype(kind) != kind(constant)
                )
            wrong = frame.columns[p][is_other & ~is_missing(frame.columns[p])]
            if len(wrong):
                if table.types[p] in MOMENTS:
                    constant, *wrong = _texts(table, p, [constant, *wrong[:1]])
                    wrong = np.array(wrong)
                if p in table.origins:
                    (constant,) = table.origins[p].absolute(np.array([constant]))
                raise ValueError(
                    f"`conditions`: column {frame.name(p)!r} was constant in fit, {constant!r}; "
                    f"got {shown(wrong.tolist()[0])}. Remove it from `conditions`, or fit to rows "
                    "in which it varies."
                )


def _check_steps(table, frame):
    """Check that dates are on the steps of the dates in fit, such as whole days."""
    links = {link.child: link for link in table.links}
    for block, likelihood in zip(table.blocks, table.likelihood.blocks, strict=True):
        for c, p in enumerate(block.positions):
            dates = frame.columns[p]
            if likelihood.takes not in MOMENTS or is_missing(dates).all():
                continue
            clock = likelihood.clocks[c]
            if p in links:
                link = links[p]
                start, is_whole = link.floor(dates[:1])[0], link.floor(dates) == dates
                step = steps_text(link.size, np.datetime_data(dates.dtype)[0])
            else:
                start, is_whole, step = (
                    clock.low,
                    clock.relative(dates) % 1 == 0,
                    clock.steps_text(),
                )
            wrong = dates[~is_whole & ~is_missing(dates)]
            if len(wrong):
                start, wrong = _texts(table, p, [start, wrong[0]])
                raise ValueError(
                    f"{CONDITION} {frame.name(p)!r} must be in steps of {step} from {start!r}, "
                    f"as in fit; got {wrong!r}. Round it, or fit to rows that have finer steps."
                )


def _texts(table, position, values):
    """Texts of dates in local time, or of durations."""
    form = form_of(table.layout.dtype_of(position))
    values = to_local(np.array(values).astype(form.dtype), form.zone)
    return [str(v if form.type == DATETIME else v.astype("m8[us]").item()) for v in values]


def impose_conditions(columns, frame: Frame, rows):
    """Overwrite generated raw columns (n,) with the conditions at the frame's rows (n,)."""
    out = []
    for p, values in enumerate(columns):
        given, description = frame.columns[p][rows], frame.layout.dtype_of(p)
        if is_object(description) and scale_of(description) is not None:
            given = _as_decimals(given)
        elif float_type(description):
            given = as_numbers(given, frame.name(p))
        if object in (values.dtype, given.dtype):
            values, given = as_objects(values), as_objects(given)
        out.append(np.where(is_missing(given), values, given))
    return out


def _as_decimals(values):
    """Numbers of a column of Decimals, with all the decimals that were given."""
    numbers = as_objects(values)
    return np.array([None if v is None else Decimal(str(v)) for v in numbers], dtype=object)
