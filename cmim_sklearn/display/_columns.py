"""Columns, levels and colours of tables, as the displays draw them."""

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support

from cmim_sklearn._encoders.base.encoder import _LatentEncoder
from cmim_sklearn._encoders.base.generative import _GenerativeEncoder
from cmim_sklearn._tables.read import BOOLEAN, NUMBER, as_numbers, as_objects, read_objects
from cmim_sklearn._tables.schema import column_position

MAX_CLASSES, MAX_PANELS, GRID_STEPS = 8, 12, 100


def _check(cls, method, encoder, *, with_decoder=False):
    check_matplotlib_support(f"{cls.__name__}.{method}")
    kind = type(encoder).__name__
    if not isinstance(encoder, _LatentEncoder):
        raise TypeError(
            f"{cls.__name__} draws encoders of cmim_sklearn. Got {kind}; of a pipeline, give the "
            "step and the table as it comes there."
        )
    if with_decoder and not isinstance(encoder, _GenerativeEncoder):
        raise ValueError(
            f"This picture needs a decoder, and {kind} has none. CMIMEncoder, MIMEncoder, "
            "VAEEncoder, AEEncoder and InfoMaxVAEEncoder have one."
        )
    encoder._check_use()


def _positions(encoder, columns, parameter):
    names, n_columns = encoder.table_.layout.names, len(encoder.table_.types)
    if columns is None:
        return list(range(min(n_columns, MAX_PANELS)))
    columns = [columns] if np.ndim(columns) == 0 else list(columns)
    if not columns:
        raise ValueError(f"`{parameter}` names no column. Got {columns!r}.")
    return [column_position(key, names, n_columns, parameter) for key in columns]


def _columns(encoder, positions, *frames):
    """Columns of tables as {name: (n,)} each, and {name: levels} of those that have levels."""
    tables, found = [{} for _ in frames], {}
    for position in positions:
        raw = [frame.columns[position] for frame in frames]
        columns, levels, name = _column(encoder, position, raw)
        for table, values in zip(tables, columns, strict=True):
            table[name] = values
        if levels is not None:
            found[name] = levels
    return tables, found


def _column(encoder, position, raw):
    """One column of several tables: arrays (n,), its levels or None, and its name."""
    table = encoder.table_
    names = table.layout.names
    name = f"x{position}" if names is None else str(names[position])
    parts = zip(table.blocks, table.likelihood.blocks, strict=True)
    if not any(part.has_levels and position in block.positions for block, part in parts):
        return [as_numbers(values, name) for values in raw], None, name
    order = [] if names is None else table.layout.dtypes[position].get("categories", [])
    codes, levels = _as_levels(raw, table.types[position] == BOOLEAN, order)
    return codes, levels, name


def _colours(color, n_rows):
    """Labels or numbers beside a table, as (n,), and levels or None."""
    color = np.asarray(color, dtype=object)
    if color.shape != (n_rows,):
        raise ValueError(f"color has shape {color.shape}, and X {n_rows} rows: one for each.")
    values, kind = read_objects(color.tolist(), "color")
    if kind == NUMBER:
        seen = np.unique(values[~np.isnan(values)])
        if len(seen) > MAX_CLASSES or (seen != np.round(seen)).any():
            return values, None
    (codes,), levels = _as_levels([values], kind == BOOLEAN)
    return codes, levels


def _as_levels(columns, is_boolean, order=()):
    """Raw columns as positions (n,) in a list of levels, NaN where missing, and that list."""
    columns = [as_objects(values) for values in columns]
    seen = {value for values in columns for value in values if value is not None}
    ordered = [value for value in order if value in seen]
    ordered += sorted(seen - set(ordered), key=lambda v: (isinstance(v, str), v))
    code = {value: k for k, value in enumerate(ordered)}
    codes = [np.array([code.get(value, np.nan) for value in values]) for values in columns]
    return codes, [str(bool(value)) if is_boolean else _text(value) for value in ordered]


def _without(kwargs, *names):
    return {name: value for name, value in kwargs.items() if name not in names}


def _text(value):
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
