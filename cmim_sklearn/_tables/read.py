"""Reading of tables: pandas, polars and pyarrow tables, arrays and lists.

A table is read into a `Frame`: numpy columns and a `Layout`, from which
`cmim_sklearn._tables.write` creates a table of the same library and dtypes. pandas, polars and
pyarrow are imported only when a table of theirs is read or written.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from scipy.sparse import issparse
from sklearn.utils.validation import check_array

from cmim_sklearn._likelihoods.scaling import MAX_SIZE
from cmim_sklearn._tables import moments
from cmim_sklearn._tables.dtypes import (
    DESCRIBERS,
    NAMES,
    Layout,
    describe_header,
    has_long_decimals,
    is_name,
    is_object,
)
from cmim_sklearn._tables.moments import MOMENTS, form_of
from cmim_sklearn._tables.native import integers, levels_and_codes, listed
from cmim_sklearn._tables.objects import (
    BOOLEAN,
    BYTES_ADVICE,
    CATEGORY,
    NESTED_ADVICE,
    NUMBER,
    as_float,
    read_objects,
)
from cmim_sklearn._tables.sizes import finite
from cmim_sklearn._tables.wide import EXACT, is_wide
from cmim_sklearn._utils.messages import shown

PART_CELLS, MIN_PART_ROWS = 2**20, 256
"""Cells of a long table that are read together (about 20 MB), and the minimum number of rows."""

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
        a dtype if it has more than 15 digits. Dates are ``datetime64`` in UTC, and durations
        ``timedelta64``, with NaT, see `cmim_sklearn._tables.moments`. Columns may share memory with
        the user's table, so they must not be modified.
    types : list of {"number", "boolean", "category", "datetime", "duration"}
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

    def missing(self):
        """Mask (n, n_columns) of the missing cells."""
        return np.stack([is_missing(column) for column in self.columns], axis=1)

    def zone(self, position):
        """Name of the time zone of a column of dates; None without one."""
        form = form_of(self.layout.dtype_of(position))
        return form and form.zone

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
    types : list of {"number", "boolean", "category", "datetime", "duration"}, default=None
        Types of the columns in fit. An object column that held categories in fit is read as
        categories, even if all values of these rows are numbers.
    first_row : int, default=0
        Number of the first row in messages.

    Raises
    ------
    TypeError
        If X is not a table, or a column holds periods, intervals, nested or binary values.
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
    types : list of {"number", "boolean", "category", "datetime", "duration"}, default=None
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
    form, library = form_of(description), str(series.implementation).lower()
    if form is not None:
        return moments.read_series(series.to_native(), library, form), form.type, {}
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
    native = series.to_native()
    coded = levels_and_codes(native, library)
    if coded is not None:
        levels, codes = coded
        values, kind, of = read_objects([*levels, None], name, first_row, is_category=is_category)
        if kind in MOMENTS:
            raise TypeError(
                f"Column {name!r} has dates or durations as categories ({dtype}). Convert "
                "it to a dtype of dates, or the categories to strings."
            )
        return values[codes], kind, of
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
        columns, kind = moments.read_array(X)
        types = [kind] * X.shape[1]
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
    missing = {"f": np.nan, "M": "NaT", "m": "NaT"}
    values = X.data.astype(X.dtype if X.dtype.kind in missing else object)  # a copy
    values[np.ma.getmaskarray(X)] = missing.get(X.dtype.kind)
    return values


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
    if values.dtype.kind in "Mm":
        held_dates = ~np.isnat(values)
        if held_dates.any():
            raise ValueError(
                f"Column {name!r} must hold {held}, as in fit; got the date or duration "
                f"{values[held_dates][0]}. Convert the column to {held}, or fit again."
            )
        return np.full(len(values), np.nan)
    if values.dtype != object:
        return values
    out = np.full(len(values), np.nan)
    for row, value in enumerate(values):
        if isinstance(value, str):
            raise ValueError(
                f"Column {name!r} must hold {held}, as in fit; got {shown(value)} in row "
                f"{first_row + row}. Convert the column to {held}, or fit again."
            )
        out[row] = np.nan if value is None else as_float(value)
    return finite(out, name, first_row, values)


def erased(columns, positions, mask):
    """Columns of a `Frame`, with missing values where mask (n, M) is true for M of them."""
    out = list(columns)
    for p, gone in zip(positions, mask.T, strict=True):
        nothing = {"O": None, "M": "NaT", "m": "NaT"}.get(out[p].dtype.kind, np.nan)
        out[p] = out[p].copy()
        out[p][gone] = nothing
    return out


def is_missing(values):
    """Mask (n,) of the missing values of a column of a `Frame`."""
    return np.equal(values, None) if values.dtype == object else np.isnan(values)
