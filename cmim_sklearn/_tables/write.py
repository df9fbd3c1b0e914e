"""Writing of columns as a table of the original library, dtypes and row index.

`write` creates a table from a `Layout`; `fill` imputes the missing values of an existing table.
"""

import numpy as np

from cmim_sklearn._tables.dtypes import (
    DESCRIBERS,
    Layout,
    arrow_type,
    integer_bounds,
    number_bounds,
    numpy_dtype,
    pandas_dtype,
    polars_dtype,
)
from cmim_sklearn._tables.read import BOOLEAN, CATEGORY, NUMBER, is_missing

_PLAIN_DTYPES = {
    "pandas": {NUMBER: "float64", BOOLEAN: "boolean", CATEGORY: "object"},
    "polars": {NUMBER: "Float64", BOOLEAN: "Boolean", CATEGORY: "String"},
    "pyarrow": {NUMBER: "double", BOOLEAN: "bool", CATEGORY: "string"},
}


def write(layout, columns, types, index=None):
    """Create a table with the library, names and dtypes of a layout.

    Parameters
    ----------
    layout : Layout
    columns : list of arrays of shape (n,)
        As in `Frame`.
    types : list of {"number", "boolean", "category"}
        As in `Frame`; they distinguish numbers and booleans of an object column.
    index : object, default=None
        Row index for a pandas DataFrame.
    """
    dtypes = layout.dtypes if layout.names is not None else layout.dtypes * len(columns)
    columns = [
        _as_stored(v, d) if t == NUMBER else v
        for v, t, d in zip(columns, types, dtypes, strict=True)
    ]
    return _WRITERS[layout.library](layout, columns, types, index)


def fill(X, frame, layout, types, rows, columns):
    """Copy of X with its missing values imputed and all other values unchanged.

    Parameters
    ----------
    X : table
    frame : Frame
        X as read.
    layout, types
        Layout and types of the table seen in fit, for columns of X without any value.
    rows : array of shape (n_rows,)
        Positions of the rows with missing values.
    columns : list of arrays of shape (n_rows,)
        Imputed raw values of these rows for each column; observed cells are ignored. Values for an
        integer column are rounded. A column without any value in fit has none, and is not changed.
    """
    new = {}
    for p, values in enumerate(columns):
        mask = is_missing(frame.columns[p])
        if mask.any() and not is_missing(values).all():
            new[p] = mask, values[mask[rows]]
    if frame.layout.names is None:
        out = np.array(frame.native)
        for p, (mask, values) in new.items():
            out[mask, p] = _plain(values, types[p]) if out.dtype == object else values
        return out
    fitted = dict(zip(layout.names or [], layout.dtypes, strict=False))
    series = {}
    for p, (mask, values) in new.items():
        name, description = frame.layout.names[p], frame.layout.dtypes[p]
        if mask.all() and (types[p] != frame.types[p] or description["dtype"] in ("Null", "null")):
            same_library = layout.library == frame.layout.library and name in fitted
            plain = {"dtype": _PLAIN_DTYPES[frame.layout.library][types[p]]}
            description = fitted[name] if same_library else plain
        if types[p] == NUMBER and integer_bounds(description):
            values = _as_stored(values, description)
        # Other cells are ignored, but must hold values of the dtype.
        whole = np.full(len(mask), values[0], values.dtype)
        whole[mask] = values
        series[name] = mask, description, whole, types[p]
    return _FILLERS[frame.layout.library](X, series)


def _as_stored(values, description):
    """Round numbers for an integer dtype, and clip them to the bounds of their dtype."""
    bounds = number_bounds(description)
    if not bounds:
        return values
    if integer_bounds(description):
        values = np.round(values)
    highest = float(bounds[1])
    if int(highest) > bounds[1]:  # float64 may round it outward
        highest = np.nextafter(highest, 0)
    return np.clip(values, float(bounds[0]), highest)


def _plain(values, kind):
    """Convert a column to Python objects: whole numbers as int, None where missing."""
    if kind == CATEGORY:
        return list(values)
    make = bool if kind == BOOLEAN else lambda v: int(v) if v == np.round(v) else float(v)
    return [None if np.isnan(v) else make(v) for v in values]


# A writer and a filler for each library. -----------------------------------------------------


def _write_numpy(layout, columns, types, index):
    dtype = numpy_dtype(layout.dtype_of(0))
    if dtype.kind in "biuf":
        return np.stack(columns, axis=1).astype(dtype)
    out = np.empty((len(columns[0]), len(columns)), dtype=object)
    for c, (column, kind) in enumerate(zip(columns, types, strict=True)):
        out[:, c] = _plain(column, kind)
    return out.astype(dtype)


def _write_pandas(layout, columns, types, index):
    import pandas as pd

    series = []
    for values, kind, description in zip(columns, types, layout.dtypes, strict=True):
        dtype = pandas_dtype(description)
        if isinstance(dtype, pd.CategoricalDtype):
            series.append(pd.Series(pd.Categorical(_plain(values, kind), dtype=dtype)))
        elif dtype == np.dtype(object) or kind == CATEGORY:
            series.append(pd.Series(_plain(values, kind), dtype=dtype))
        elif isinstance(dtype, np.dtype):
            series.append(pd.Series(values).astype(dtype))
        elif description["dtype"] == "arrow":
            array = _arrow_array(values, kind, dtype.pyarrow_dtype)
            series.append(pd.Series(pd.arrays.ArrowExtensionArray(array)))
        else:
            series.append(pd.Series(pd.array(_plain(values, kind), dtype=dtype)))
    frame = pd.concat(series, axis=1) if series else pd.DataFrame()
    frame.columns = layout.names
    if index is not None:
        frame.index = index
    return frame


def _write_polars(layout, columns, types, index):
    import polars as pl

    series = []
    for name, values, kind, description in zip(
        layout.names, columns, types, layout.dtypes, strict=True
    ):
        if description["dtype"] == "Null":
            column = pl.Series(name, [None] * len(values))
        elif description["dtype"].startswith("Float"):  # polars has no ints as large as floats
            column = pl.Series(name, values, nan_to_null=True)
        else:
            column = pl.Series(name, _plain(values, kind), strict=False)
        series.append(column.cast(polars_dtype(description)))
    return pl.DataFrame(series)


def _arrow_array(values, kind, dtype):
    import pyarrow as pa

    if pa.types.is_dictionary(dtype):
        encoded = pa.array(_plain(values, kind), dtype.value_type)
        return encoded.dictionary_encode().cast(dtype)
    if pa.types.is_null(dtype):
        return pa.nulls(len(values))
    if kind == NUMBER:
        safe = not pa.types.is_decimal(dtype)
        return pa.array(values, from_pandas=True).cast(dtype, safe=safe)
    return pa.array(_plain(values, kind), dtype)


def _write_pyarrow(layout, columns, types, index):
    import pyarrow as pa

    arrays = [
        _arrow_array(values, kind, arrow_type(description))
        for values, kind, description in zip(columns, types, layout.dtypes, strict=True)
    ]
    return pa.table(dict(zip(layout.names, arrays, strict=True)))


def _fill_pandas(X, new):
    out = X.copy()
    for name, (mask, description, values, kind) in new.items():
        series = out[name]
        if description["dtype"] == "category":
            series = series.astype(
                pandas_dtype(description)
            )  # a column without values may be float
            lacking = set(_plain(values[mask], kind)) - {None} - set(series.cat.categories)
            series = series.cat.add_categories(sorted(lacking))
            description = DESCRIBERS["pandas"](series.dtype)
        filler = _write_pandas(Layout("pandas", [name], [description]), [values], [kind], X.index)
        if series.isna().all():
            out[name] = filler[name]
        else:
            out[name] = series.where(~mask, filler[name])
    return out


def _fill_polars(X, new):
    import polars as pl

    for name, (mask, description, values, kind) in new.items():
        known = X[name]
        if description["dtype"] == "Enum":
            lacking = set(_plain(values[mask], kind)) - {None} - set(description["categories"])
            wider = [*description["categories"], *sorted(lacking)]
            description, known = description | {"categories": wider}, known.cast(pl.String)
        filler = _write_polars(Layout("polars", [name], [description]), [values], [kind], None)
        series = filler[name]
        if not mask.all():  # missing values alone cannot be cast
            series = series.zip_with(pl.Series(mask), known.cast(series.dtype))
        X = X.with_columns(series.alias(name))
    return X


def _fill_pyarrow(X, new):
    import pyarrow as pa
    import pyarrow.compute as pc

    for name, (mask, description, values, kind) in new.items():
        layout = Layout("pyarrow", [name], [description])
        filler, position = (
            _write_pyarrow(layout, [values], [kind], None)[name],
            X.column_names.index(name),
        )
        dtype = filler.type
        plain = dtype.value_type if pa.types.is_dictionary(dtype) else dtype
        merged = pc.if_else(pa.array(mask), filler.cast(plain), X[name].cast(plain))
        if plain != dtype:
            merged = pc.dictionary_encode(merged).cast(dtype)
        X = X.set_column(position, name, merged)
    return X


_WRITERS = {
    "numpy": _write_numpy,
    "pandas": _write_pandas,
    "polars": _write_polars,
    "pyarrow": _write_pyarrow,
}
_FILLERS = {"pandas": _fill_pandas, "polars": _fill_polars, "pyarrow": _fill_pyarrow}
