"""Reading of tables: pandas, polars and pyarrow tables, arrays and lists.

A table is read into a `Frame`: numpy columns and a `Layout`, from which
`cmim_sklearn._tables.write` creates a table of the same library and dtypes. pandas, polars and
pyarrow are imported only when a table of theirs is read or written.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from numbers import Number
from os import PathLike
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from scipy.sparse import issparse
from sklearn.utils.validation import check_array

from cmim_sklearn._likelihoods.scaling import MAX_SIZE
from cmim_sklearn._tables.dtypes import (
    DESCRIBERS,
    NAMES,
    Layout,
    describe_header,
    has_long_decimals,
    is_name,
    is_object,
)
from cmim_sklearn._tables.native import integers, levels_and_codes, listed
from cmim_sklearn._tables.sizes import check_exact, finite
from cmim_sklearn._tables.wide import EXACT, decimals_of, is_wide
from cmim_sklearn._utils.levels import twin_of
from cmim_sklearn._utils.messages import shown

NUMBER, BOOLEAN, CATEGORY = "number", "boolean", "category"
PART_CELLS, MIN_PART_ROWS = 2**20, 256
"""Cells of a long table that are read together (about 20 MB), and the minimum number of rows."""
TIMES = (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64)

DATETIME_ADVICE = (
    "Convert it to numbers first, for example with skrub's DatetimeEncoder or to days since a date."
)
BYTES_ADVICE = "Decode the values to strings, or drop the column."
NESTED_ADVICE = "Split nested values into separate columns, or drop the column."
TABLES = "a pandas, polars or pyarrow table, an array or a list of rows"


@dataclass(frozen=True)
class Frame:
    """Table read into numpy columns.

    Attributes
    ----------
    layout : Layout
    columns : list of arrays of shape (n,)
        Numbers and booleans as float64 with NaN where missing, categories as object with None.
        Integers beyond 2**53 make a column of numbers object with None, too, and so do Decimals, in
        a dtype if it has more than 15 digits. Columns may share memory with the user's table, so
        they must not be modified.
    types : list of {"number", "boolean", "category"}
        Type of each column by its dtype, or by its values if the dtype is object.
    native : object
        Table or array to pass to `sklearn.utils.validation.validate_data`.
    index : object
        Row index of a pandas DataFrame; None for other tables.
    first_row : int
        Number of the first row in messages.
    """

    layout: Layout
    columns: list
    types: list
    native: Any
    index: Any = None
    first_row: int = 0

    @property
    def n_rows(self):
        """Number of rows."""
        return len(self.columns[0]) if self.columns else 0

    def take(self, rows):
        """Frame of some of the rows, without the native table and index."""
        return Frame(self.layout, [column[rows] for column in self.columns], self.types, None)

    def name(self, position):
        """Name of a column in messages, or its position in an array."""
        return column_name(self.layout.names, position)


def column_name(names, position):
    """Name of the column at a position, or the position if columns have no names."""
    return position if names is None else names[position]


def read(X, types=None, first_row=0) -> Frame:
    """Read a table of any supported library.

    Parameters
    ----------
    X : table
    types : list of {"number", "boolean", "category"}, default=None
        Types of the columns in fit. An object column that held categories in fit is read as
        categories, even if all values of these rows are numbers.
    first_row : int, default=0
        Number of the first row in messages.

    Raises
    ------
    TypeError
        If X is not a table, or a column holds dates, times, nested or binary values.
    ValueError
        If a column holds complex, infinite or too large numbers, or X does not have two axes.
    """
    native = _from_native(X)
    if type(X).__name__ == "RecordBatch":
        raise TypeError(
            f"X must be {TABLES}; got a pyarrow RecordBatch. Convert it with "
            "pyarrow.Table.from_batches([X])."
        )
    if isinstance(native, nw.LazyFrame):
        raise TypeError(
            f"X must be {TABLES}; got a lazy table. Call X.collect() first (X.compute() for Dask)."
        )
    if isinstance(native, nw.DataFrame):
        return _read_frame(native, types, first_row)
    _check_rows(X)
    return _read_array(X, types, first_row)


def read_in_parts(X, types=None):
    """Read a table one part of its rows at a time, in memory that does not grow with its length.

    Lists and short tables are read as a whole.

    Parameters
    ----------
    X : table
    types : list of {"number", "boolean", "category"}, default=None
        See `read`.

    Returns
    -------
    n_rows : int
    frames : iterator of Frame
        At least one.
    """
    table = _from_native(X)
    if not isinstance(table, nw.DataFrame | np.ndarray) or len(table.shape) != 2:
        frame = read(X, types)
        return frame.n_rows, iter([frame])
    n_rows, n_columns = table.shape
    step = max(MIN_PART_ROWS, PART_CELLS // max(1, n_columns))
    if n_rows <= step:
        return n_rows, iter([read(X, types)])
    return n_rows, (
        read(nw.to_native(table[start : start + step], pass_through=True), types, start)
        for start in range(0, n_rows, step)
    )


def _from_native(X):
    if isinstance(X, np.ndarray):
        return X
    try:
        return nw.from_native(X, pass_through=True)
    except nw.exceptions.DuplicateError as error:
        raise ValueError(f"{error}. Rename columns so that each name occurs once.") from error


def _check_rows(X):
    """Raise if X is neither an array nor a list of rows."""
    found, advice = type(X).__name__, ""
    if isinstance(X, str | PathLike):
        advice = " Read the file first, for example with pandas.read_csv(X)."
    elif isinstance(X, dict) and not issparse(X):
        advice = " Convert it with pandas.DataFrame(X)."
    elif isinstance(X, list | tuple) and any(isinstance(row, dict) for row in X):
        found, advice = f"{found} of dicts", " Convert it with pandas.DataFrame(X)."
    elif getattr(getattr(X, "dtype", None), "names", None):
        found, advice = "structured array", " Convert it with pandas.DataFrame(X)."
    elif isinstance(X, Sequence) or hasattr(X, "__array__") or issparse(X):
        return  # `check_array` checks the rest
    raise TypeError(f"X must be {TABLES}; got {found}.{advice}")


def _was_category(types, position):
    return types is not None and position < len(types) and types[position] == CATEGORY


def _read_frame(frame, known_types, first_row) -> Frame:
    library = str(frame.implementation).lower()
    if library not in DESCRIBERS:
        raise TypeError(
            f"X must be {TABLES}; got a {library} table. Convert it to one of them first."
        )
    names = list(frame.columns)
    for name in names:
        if not is_name(name):
            raise TypeError(
                f"Column names must be {NAMES}; got {name!r}, a {type(name).__name__}. "
                "Rename the columns, for example with X.columns = X.columns.map(str)."
            )
    if sum(name != name for name in names) > 1:
        raise ValueError("Two columns have the name nan. Rename columns so that each is unique.")
    columns, types, dtypes = [], [], []
    for p, (name, series) in enumerate(zip(names, frame.iter_columns(), strict=True)):
        column, was_category = series.to_native(), _was_category(known_types, p)
        dtype = DESCRIBERS[library](column.type if library == "pyarrow" else column.dtype)
        values, kind, options = _read_series(series, dtype, name, first_row, was_category)
        columns.append(values)
        types.append(kind)
        dtypes.append(dtype | options if is_object(dtype) else dtype)
    native = frame.to_native()
    is_pandas = library == "pandas"
    index = native.index if is_pandas else None
    header = describe_header(native.columns) if is_pandas else None
    layout = Layout(library, names, dtypes, header)
    return Frame(layout, columns, types, native, index, first_row)


def _read_series(series, description, name, first_row, was_category):
    dtype = series.dtype
    if dtype.is_temporal():
        raise TypeError(f"Column {name!r} holds dates or times ({dtype}). {DATETIME_ADVICE}")
    if dtype == nw.Binary:
        raise TypeError(f"Column {name!r} holds bytes. {BYTES_ADVICE}")
    if dtype.is_nested():
        raise TypeError(f"Column {name!r} holds nested values ({dtype}). {NESTED_ADVICE}")
    if dtype == nw.Boolean:
        return series.cast(nw.Int8).cast(nw.Float64).to_numpy().astype(np.float64), BOOLEAN, {}
    if dtype.is_integer():
        return integers(series), NUMBER, {}
    if dtype.is_numeric():
        if has_long_decimals(description):
            return listed(series), NUMBER, {}
        floats = series if isinstance(dtype, nw.Float64) else series.cast(nw.Float64)
        values = floats.to_numpy().astype(np.float64, copy=False)
        return finite(values, name, first_row), NUMBER, {}
    if dtype == nw.Object and type(series.to_native()).__module__.startswith("polars"):
        raise TypeError(
            f"Column {name!r} has the polars dtype Object. Cast it to numbers or strings first."
        )
    # Categories of numbers stay categories: the dtype decides.
    is_category = was_category or dtype in (nw.String, nw.Categorical, nw.Enum)
    native, library = series.to_native(), str(series.implementation).lower()
    coded = levels_and_codes(native, library)
    if coded is not None:
        levels, codes = coded
        values, *kind = read_objects([*levels, None], name, first_row, is_category=is_category)
        return values[codes], *kind
    if library == "pandas":
        values = native.to_numpy(dtype=object, na_value=None).tolist()
    else:
        values = series.to_list()
    return read_objects(values, name, first_row, is_category=is_category)


def _read_array(X, known_types, first_row) -> Frame:
    if isinstance(X, list | tuple):
        X = np.array(X, dtype=object)
        if all(isinstance(v, int | float | np.number) and type(v) is not bool for v in X.flat):
            numbers = np.array(X.tolist())  # only numbers: an array of numbers, not objects
            if numbers.dtype.kind != "f" or not any(map(_is_wide_integer, X.flat)):
                X = numbers
    if np.ma.is_masked(X):
        X = _unmasked(X)
    # The estimator checks the number of rows and columns, since its errors name it.
    X = check_array(
        X, dtype=None, ensure_all_finite=False, ensure_min_samples=0, ensure_min_features=0
    )
    dtypes = [DESCRIBERS["numpy"](X.dtype)]
    if X.dtype.kind in "biuf":
        kind = BOOLEAN if X.dtype.kind == "b" else NUMBER
        values = X.astype(np.float64, copy=False)
        columns = list(values.T)
        # All columns at once: rows may come one at a time.
        if X.dtype.kind == "f" and (np.abs(values) > MAX_SIZE).any():
            columns = [finite(column, c, first_row) for c, column in enumerate(columns)]
        elif X.dtype.kind != "f" and is_wide(values):
            columns = [
                exact.astype(object) if is_wide(column) else column
                for exact, column in zip(X.T, columns, strict=True)
            ]
        types = [kind] * X.shape[1]
    elif X.dtype.kind in "mM":
        raise TypeError(f"X holds dates or times ({X.dtype}). {DATETIME_ADVICE}")
    else:
        read_columns = [
            read_objects(column.tolist(), c, first_row, is_category=_was_category(known_types, c))
            for c, column in enumerate(X.T)
        ]
        columns, types, options = ([column[i] for column in read_columns] for i in range(3))
        if any(options):
            dtypes = [dtypes[0] | of_column for of_column in options]
    return Frame(Layout("numpy", None, dtypes), columns, types, X, first_row=first_row)


def _is_wide_integer(value):
    return isinstance(value, int | np.integer) and abs(int(value)) >= EXACT


def _unmasked(X):
    """Convert a masked array to a plain one with missing values."""
    if X.dtype.kind in "biu" and not (X.dtype.kind in "iu" and is_wide(X.data.astype(np.float64))):
        X = X.astype(np.float64)
    is_float = X.dtype.kind == "f"
    values = X.data.astype(X.dtype if is_float else object)  # a copy
    values[np.ma.getmaskarray(X)] = np.nan if is_float else None
    return values


def read_objects(values, name, first_row=0, *, is_category=False):
    """Read Python objects: as numbers or booleans if all of them are, otherwise as categories.

    Numbers of other types, such as fractions.Fraction, become floats. Floats in a column with
    Decimals become Decimals.

    Returns
    -------
    column : array of shape (n,)
        As in `Frame`.
    type : {"number", "boolean", "category"}
    options : dict
        Type of the numbers, to add to the description of an object dtype: ``{"scale": 2}`` for
        Decimals of up to two decimals, ``{"of": "float"}`` for floats.

    Raises
    ------
    TypeError, ValueError
        As `read` does.
    """
    found = set(map(type, values))
    missing = {t for t in found if t is type(None) or t.__name__ in ("NAType", "NaTType")}
    found -= missing
    for kind in found:
        if issubclass(kind, complex | np.complexfloating):
            raise ValueError(f"Complex data not supported: column {name!r}.")
        if issubclass(kind, TIMES) or kind.__name__ == "Period":
            raise TypeError(f"Column {name!r} holds {kind.__name__} values. {DATETIME_ADVICE}")
        if issubclass(kind, bytes):
            raise TypeError(f"Column {name!r} holds bytes. {BYTES_ADVICE}")
        if not issubclass(kind, str | Number | np.bool_ | Decimal):
            raise TypeError(
                f"Column {name!r} must hold numbers, booleans or strings; got {kind.__name__} "
                f"values. {NESTED_ADVICE} Convert labels of another type with .astype(str)."
            )
    if missing - {type(None)}:
        values = [None if type(value) in missing else value for value in values]
    numbers = {kind for kind in found if not issubclass(kind, str)}
    booleans = {kind for kind in numbers if issubclass(kind, bool | np.bool_)}
    if numbers == found and not is_category:
        as_float = np.array([np.nan if v is None else _as_float(v) for v in values], np.float64)
        only_booleans = booleans and all(
            kind in booleans or issubclass(kind, float) for kind in found
        )
        if only_booleans and np.isin(as_float[~np.isnan(as_float)], [0.0, 1.0]).all():
            return as_float, BOOLEAN, {}
        if any(issubclass(kind, Decimal) for kind in found):
            exact = _plain(values, found)
            exact[:] = [twin_of(v) if isinstance(v, float) else v for v in exact]
            check_exact(exact, as_float, name, first_row)
            return exact, NUMBER, {"scale": decimals_of(exact)}
        if any(issubclass(kind, int | np.integer) for kind in found) and is_wide(as_float):
            exact = _plain(values, found)
            check_exact(exact, as_float, name, first_row)
            return exact, NUMBER, {}
        as_float = finite(as_float, name, first_row)
        are_floats = all(issubclass(kind, float | np.floating) for kind in found)
        has_float = are_floats and not np.isnan(as_float).all()
        return as_float, NUMBER, {"of": "float"} if has_float else {}
    others = [kind for kind in numbers if not issubclass(kind, int | float | np.generic | Decimal)]
    if others:
        raise TypeError(
            f"Column {name!r} must have strings, numbers or booleans as categories; got "
            f"{others[0].__name__} values. Convert them with .astype(str)."
        )
    return _plain(values, found), CATEGORY, {}


def _as_float(value):
    try:
        return np.nan if _is_nan(value) else float(value)
    except OverflowError:  # a Python int too large for a float
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


def as_objects(values):
    """Convert a column to objects, with None where missing."""
    if values.dtype == object:
        return values
    objects = values.astype(object)
    objects[np.isnan(values)] = None
    return objects


def as_numbers(values, name, first_row=0, held="numbers"):
    """Convert a column that held numbers or booleans in fit to float64 (n,).

    Raises
    ------
    ValueError
        If a value is not a number, or too large.
    """
    if values.dtype != object:
        return values
    out = np.full(len(values), np.nan)
    for row, value in enumerate(values):
        if isinstance(value, str):
            raise ValueError(
                f"Column {name!r} must hold {held}, as in fit; got {shown(value)} in row "
                f"{first_row + row}. Convert the column to {held}, or fit again."
            )
        out[row] = np.nan if value is None else _as_float(value)
    return finite(out, name, first_row, values)


def is_missing(values):
    """Mask (n,) of the missing values of a column of a `Frame`."""
    return np.equal(values, None) if values.dtype == object else np.isnan(values)
