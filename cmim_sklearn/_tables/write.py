"""Writing of columns as a table of the original library, dtypes and row index.

`write` creates a table from a `Layout`; `fill` imputes the missing values of an existing table.
"""

from decimal import Decimal

import numpy as np

from cmim_sklearn._tables.dtypes import (
    DESCRIBERS,
    Layout,
    arrow_type,
    float_type,
    integer_bounds,
    is_object,
    number_bounds,
    numpy_dtype,
    pandas_columns,
    pandas_dtype,
    polars_dtype,
    scale_of,
)
from cmim_sklearn._tables.moments import (
    MOMENTS,
    arrow_array,
    as_numpy_moments,
    as_python,
    form_of,
    pandas_series,
    plain_description,
    polars_series,
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
    types : list of {"number", "boolean", "category", "datetime", "duration"}
        As in `Frame`; they distinguish numbers and booleans of an object column.
    index : object, default=None
        Row index for a pandas DataFrame.
    """
    dtypes = [layout.dtype_of(p) for p in range(len(columns))]
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
        Imputed raw values of these rows for each column; observed cells are ignored. A column
        without missing values may be None. Values for an integer column are rounded. A column
        without any value in fit has none, and is not changed.
    """
    new = {}
    for p, values in enumerate(columns):
        mask = is_missing(frame.columns[p])
        if mask.any() and not is_missing(values).all():
            new[p] = mask, values[mask[rows]]
    if frame.layout.names is None:
        out = np.array(frame.native)
        for p, (mask, values) in new.items():
            description = _with_numbers(frame.layout.dtype_of(p), layout.dtype_of(p))
            if types[p] == NUMBER:
                values = _as_stored(values, frame.layout.dtype_of(p))
            if out.dtype == object:
                values = _plain(values, types[p], description)
            elif types[p] in MOMENTS and values.dtype.kind == out.dtype.kind:
                values = as_numpy_moments(values, out.dtype)
            out[mask, p] = values
        return out
    series = {}
    for p, (mask, values) in new.items():
        description = _with_numbers(frame.layout.dtype_of(p), layout.dtype_of(p))
        if mask.all() and (types[p] != frame.types[p] or description["dtype"] in ("Null", "null")):
            same_library = layout.library == frame.layout.library
            description = layout.dtype_of(p)
            if not same_library:
                description = _plain_dtype(frame.layout.library, types[p], form_of(description))
        if types[p] == NUMBER:
            values = _as_stored(values, description)
        # Other cells are ignored, but must hold values of the dtype.
        whole = np.full(len(mask), values[0], values.dtype)
        whole[mask] = values
        series[p] = mask, description, whole, types[p]
    return _FILLERS[frame.layout.library](X, series)


def _plain_dtype(library, kind, form):
    """Description of the usual dtype of a type of columns, of dates for their form."""
    return plain_description(library, form) if form else {"dtype": _PLAIN_DTYPES[library][kind]}


def _with_numbers(description, fitted):
    """Description of objects, with the type of numbers seen in fit if they are of no other type."""
    is_other = "of" in description or ("scale" in description and "scale" not in fitted)
    if not is_object(description) or not is_object(fitted) or is_other:
        return description
    return fitted | {"dtype": description["dtype"]}


def _as_stored(values, description):
    """Round numbers for an integer dtype, and clip them to the bounds of their dtype."""
    bounds, scale = number_bounds(description), scale_of(description)
    if bounds is None or (values.dtype == object and float_type(description)):
        return values
    if values.dtype == object:  # exact numbers
        if scale is not None:
            bounds = [Decimal(f"{round(bound * 10**scale)}E-{scale}") for bound in bounds]
        clipped = [v if v is None else min(max(v, bounds[0]), bounds[1]) for v in values]
        return np.array(clipped, dtype=object)
    if integer_bounds(description):
        values = np.round(values)
    # float64 may round a bound outward.
    ends = [
        end if abs(end) <= abs(bound) else np.nextafter(end, 0)
        for end, bound in zip(map(float, bounds), bounds, strict=True)
    ]
    return np.clip(values, *ends)


def _plain(values, kind, description=None):
    """Convert a column to Python objects, with None where missing.

    Numbers are Decimals or floats if the description of their dtype says so, otherwise ints if they
    are whole.
    """
    if kind == CATEGORY:
        return list(values)
    if kind in MOMENTS:
        return as_python(values, description)
    make = bool if kind == BOOLEAN else _number_of(description or {"dtype": "object"})
    return [None if v is None or v != v else make(v) for v in values.tolist()]


def _number_of(description):
    """Function that converts a number to the type of a dtype."""
    scale = scale_of(description)
    if scale is not None:
        # Adding 0.0 turns -0.0 into 0.0.
        return lambda v: (
            Decimal(f"{round(v, scale) + 0.0:.{scale}f}") if isinstance(v, float) else Decimal(v)
        )
    if is_object(description) and "of" in description:
        return float
    return lambda v: int(v) if v == int(v) else float(v)


def _in_dtype(values, dtype):
    """Numbers in a numpy dtype, or with missing values in one that can hold them, as in pandas."""
    if dtype.kind in "biu" and (is_absent := is_missing(values)).any():
        if dtype.kind != "b":
            return values.astype(np.float64)
        return np.where(is_absent, np.array(np.nan, object), values.astype(bool))
    return values.astype(dtype)


# A writer and a filler for each library. -----------------------------------------------------


def _write_numpy(layout, columns, types, index):
    dtype = numpy_dtype(layout.dtype_of(0))
    if dtype.kind in "Mm":
        columns = [as_numpy_moments(column, dtype) for column in columns]
    if dtype.kind in "biufMm":
        return _in_dtype(np.stack(columns, axis=1), dtype)
    out = np.empty((len(columns[0]), len(columns)), dtype=object)
    for c, (column, kind) in enumerate(zip(columns, types, strict=True)):
        out[:, c] = _plain(column, kind, layout.dtype_of(c))
    return out.astype(dtype)


def _pandas_series(values, kind, description):
    import pandas as pd

    dtype = pandas_dtype(description)
    if isinstance(dtype, pd.CategoricalDtype):
        # By code: pandas would look ints up as floats if one of them is missing.
        code = {level: i for i, level in enumerate(dtype.categories.tolist())}
        codes = [code.get(level, -1) for level in _plain(values, kind)]
        return pd.Series(pd.Categorical.from_codes(codes, dtype=dtype))
    if kind in MOMENTS and dtype != np.dtype(object) and description["dtype"] != "arrow":
        return pandas_series(values, form_of(description))
    if dtype == np.dtype(object) or kind == CATEGORY:
        return pd.Series(_plain(values, kind, description), dtype=dtype)
    if isinstance(dtype, np.dtype):
        return pd.Series(_in_dtype(values, dtype))
    if description["dtype"] == "arrow":
        array = _arrow_array(values, kind, description, dtype.pyarrow_dtype)
        return pd.Series(pd.arrays.ArrowExtensionArray(array))
    return pd.Series(pd.array(_plain(values, kind), dtype=dtype))


def _write_pandas(layout, columns, types, index):
    import pandas as pd

    parts = zip(columns, types, layout.dtypes, strict=True)
    series = [_pandas_series(*part) for part in parts]
    frame = pd.concat(series, axis=1) if series else pd.DataFrame()
    frame.columns = pandas_columns(layout)
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
        elif kind in MOMENTS:
            column = polars_series(name, values, form_of(description))
        elif float_type(description):  # polars has no ints as large as floats
            column = pl.Series(name, values, nan_to_null=True)
        else:
            column = pl.Series(name, _plain(values, kind, description), strict=False)
        series.append(column.cast(polars_dtype(description)))
    return pl.DataFrame(series)


def _arrow_array(values, kind, description, dtype):
    import pyarrow as pa

    if pa.types.is_dictionary(dtype):
        encoded = pa.array(_plain(values, kind), dtype.value_type)
        return encoded.dictionary_encode().cast(dtype)
    if pa.types.is_null(dtype):
        return pa.nulls(len(values))
    if kind in MOMENTS:
        return arrow_array(values, form_of(description), dtype)
    if kind == NUMBER and values.dtype != object:
        safe = not pa.types.is_decimal(dtype)
        return pa.array(values, from_pandas=True).cast(dtype, safe=safe)
    return pa.array(_plain(values, kind, description), dtype)


def _write_pyarrow(layout, columns, types, index):
    import pyarrow as pa

    arrays = [
        _arrow_array(values, kind, description, arrow_type(description))
        for values, kind, description in zip(columns, types, layout.dtypes, strict=True)
    ]
    return pa.table(dict(zip(layout.names, arrays, strict=True)))


def _fill_pandas(X, new):
    out = X.copy()
    for p, (mask, description, values, kind) in new.items():
        series = out.iloc[:, p]
        if description["dtype"] == "category":
            series = series.astype(
                pandas_dtype(description)
            )  # a column without values may be float
            lacking = set(_plain(values[mask], kind)) - {None} - set(series.cat.categories)
            series = series.cat.add_categories(sorted(lacking))
            description = DESCRIBERS["pandas"](series.dtype)
        filler = _pandas_series(values, kind, description).set_axis(X.index)
        # By position, since some names mean a selection of rows or columns.
        out.isetitem(p, filler if series.isna().all() else series.where(~mask, filler))
    return out


def _fill_polars(X, new):
    import polars as pl

    for p, (mask, description, values, kind) in new.items():
        name = X.columns[p]
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

    for p, (mask, description, values, kind) in new.items():
        dtype = arrow_type(description)
        filler = _arrow_array(values, kind, description, dtype)
        plain = dtype.value_type if pa.types.is_dictionary(dtype) else dtype
        merged = pc.if_else(pa.array(mask), filler.cast(plain), X[p].cast(plain))
        if plain != dtype:
            merged = pc.dictionary_encode(merged).cast(dtype)
        X = X.set_column(p, X.column_names[p], merged)
    return X


_WRITERS = {
    "numpy": _write_numpy,
    "pandas": _write_pandas,
    "polars": _write_polars,
    "pyarrow": _write_pyarrow,
}
_FILLERS = {"pandas": _fill_pandas, "polars": _fill_polars, "pyarrow": _fill_pyarrow}
