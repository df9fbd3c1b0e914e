"""Tables as people hold them, read: pandas, polars, pyarrow, arrays and lists.

A table is read into a `Frame`: plain numpy columns and the `Layout` that they came in, by which
`cmim_sklearn._tables.write` makes a table of columns again. The three libraries are known in these
two files and in `cmim_sklearn._tables.dtypes`, and narwhals here; none of the three is imported
before the user's own table needs it.
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

from cmim_sklearn._tables.dtypes import DESCRIBERS, Layout
from cmim_sklearn._utils.messages import shown

NUMBER, BOOLEAN, CATEGORY = "number", "boolean", "category"
PART_CELLS, MIN_PART_ROWS = 2**20, 256
"""Cells that are read at a time of a long table, some 20 MB, but at least so many rows."""

TIMES = (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64)

MAX_SIZE = 1e305
"""The largest number that a column may hold: differences and means of larger ones overflow."""

DATETIME_ADVICE = (
    "Turn dates and times into numbers first, for example with skrub's DatetimeEncoder or a "
    "column of your own such as the days since a date."
)
BYTES_ADVICE = "Decode them to strings first, or drop the column."
NESTED_ADVICE = "Give each value a column of its own, or drop the column."
TABLES = "a pandas, polars or pyarrow frame, an array or a list of rows"


@dataclass(frozen=True)
class Frame:
    """A table read into numpy.

    Attributes
    ----------
    layout : Layout
    columns : list of arrays of shape (n,)
        float64 with NaN where unobserved (numbers and booleans), or object with None (categories).
        They may be the user's own memory: read, not written to.
    types : list of {"number", "boolean", "category"}
        What each column's dtype says, or its values where the dtype is object.
    native : object
        What `sklearn.utils.validation.validate_data` should look at.
    index : object
        The row index of a pandas frame; None for all else.
    first_row : int
        What messages call its first row.
    """

    layout: Layout
    columns: list
    types: list
    native: Any
    index: Any = None
    first_row: int = 0

    @property
    def n_rows(self):
        """How many rows there are."""
        return len(self.columns[0]) if self.columns else 0

    def take(self, rows):
        """The same columns, of some rows only; without what came from outside."""
        return Frame(self.layout, [column[rows] for column in self.columns], self.types, None)

    def name(self, position):
        """How messages call a column: its name, or its position in an array."""
        return column_name(self.layout.names, position)


def column_name(names, position):
    """Name of the column at a position, or its position where columns have no names."""
    return position if names is None else names[position]


def read(X, types=None, first_row=0) -> Frame:
    """Read a table of any supported kind.

    Parameters
    ----------
    X : table
    types : list of {"number", "boolean", "category"}, default=None
        Of the columns of another table like this one. Objects are categories where they were: few
        rows may happen to be all numbers.
    first_row : int, default=0
        What messages call its first row.

    Raises
    ------
    TypeError
        For what is no table; for dates, times, nested or binary values, naming the column and what
        to do.
    ValueError
        For complex or infinite numbers, naming the column; for fewer or more than two axes.
    """
    native = _from_native(X)
    if type(X).__name__ == "RecordBatch":
        raise TypeError("A pyarrow RecordBatch came: give pyarrow.Table.from_batches([batch]).")
    if isinstance(native, nw.LazyFrame):
        raise TypeError(
            "A lazy frame has no rows yet: call .collect() on it first (.compute() on Dask's)."
        )
    if isinstance(native, nw.DataFrame):
        return _read_frame(native, types, first_row)
    _check_rows(X)
    return _read_array(X, types, first_row)


def read_in_parts(X, types=None):
    """Read a table in memory that doesn't grow with its length, a part of its rows at a time.

    A list is read as a whole, and so is what is not long.

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
        raise ValueError(f"{error}. Rename columns, so that each name stands once.") from error


def _check_rows(X):
    """Raise where something is neither an array nor rows, with what to make of it."""
    what, remedy = type(X).__name__, ""
    if isinstance(X, str | PathLike):
        remedy = " Read the file first, as by pandas.read_csv."
    elif isinstance(X, dict) and not issparse(X):
        remedy = " Give pandas.DataFrame(X)."
    elif isinstance(X, list | tuple) and any(isinstance(row, dict) for row in X):
        what, remedy = f"{what} of dicts", " Give pandas.DataFrame(X)."
    elif getattr(getattr(X, "dtype", None), "names", None):
        what, remedy = "structured array", " Give pandas.DataFrame(X)."
    elif isinstance(X, Sequence) or hasattr(X, "__array__") or issparse(X):
        return  # what else may be wrong with it, `check_array` says
    raise TypeError(f"A {what} came; expected {TABLES}.{remedy}")


def _was_category(types, position):
    return types is not None and position < len(types) and types[position] == CATEGORY


def _read_frame(frame, known_types, first_row) -> Frame:
    library = str(frame.implementation).lower()
    if library not in DESCRIBERS:
        raise TypeError(
            f"A {library} frame came; expected {TABLES}. Turn it into one of them first."
        )
    names = list(frame.columns)
    for name in names:
        if not isinstance(name, str | int | float):
            raise TypeError(
                f"Column label {name!r} is a {type(name).__name__}; expected a string or a number. "
                "Rename the columns: X.columns = X.columns.map(str), for example."
            )
    columns, types, dtypes = [], [], []
    for p, (name, series) in enumerate(zip(names, frame.iter_columns(), strict=True)):
        was_category = _was_category(known_types, p)
        values, kind = _read_series(series, name, first_row, was_category)
        columns.append(values)
        types.append(kind)
        column = series.to_native()
        dtype = column.type if library == "pyarrow" else column.dtype
        dtypes.append(DESCRIBERS[library](dtype))
    native = frame.to_native()
    index = native.index if library == "pandas" else None
    return Frame(Layout(library, names, dtypes), columns, types, native, index, first_row)


def _read_series(series, name, first_row, was_category):
    dtype = series.dtype
    if dtype.is_temporal():
        raise TypeError(f"Column {name!r} holds dates or times ({dtype}). {DATETIME_ADVICE}")
    if dtype == nw.Binary:
        raise TypeError(f"Column {name!r} holds bytes. {BYTES_ADVICE}")
    if dtype.is_nested():
        raise TypeError(f"Column {name!r} holds nested values ({dtype}). {NESTED_ADVICE}")
    if dtype == nw.Boolean:
        return series.cast(nw.Int8).cast(nw.Float64).to_numpy().astype(np.float64), BOOLEAN
    if dtype.is_integer():
        if dtype in (nw.Int128, nw.UInt128):  # numpy has none
            return series.cast(nw.Float64).to_numpy().astype(np.float64), NUMBER
        # No cast: Arrow refuses one to float for integers beyond 2^53.
        values = series.fill_null(0).to_numpy().astype(np.float64)
        values[series.is_null().to_numpy()] = np.nan
        return values, NUMBER
    if dtype.is_numeric():
        if not isinstance(dtype, nw.Float64):
            series = series.cast(nw.Float64)
        return _finite(series.to_numpy().astype(np.float64, copy=False), name, first_row), NUMBER
    if dtype == nw.Object and type(series.to_native()).__module__.startswith("polars"):
        raise TypeError(f"Column {name!r} is polars Object: cast it to numbers or strings first.")
    # Categories of numbers stay categories: the dtype decides.
    is_category = was_category or dtype in (nw.String, nw.Categorical, nw.Enum)
    native, library = series.to_native(), str(series.implementation).lower()
    coded = _CODED[library](native) if library in _CODED else None
    if coded is not None:
        levels, codes = coded
        values, kind = read_objects([*levels, None], name, first_row, is_category=is_category)
        return values[codes], kind
    if library == "pandas":
        values = native.to_numpy(dtype=object, na_value=None).tolist()
    else:
        values = series.to_list()
    return read_objects(values, name, first_row, is_category=is_category)


def _coded_pandas(series):
    """Levels and codes (n,) of categories, -1 where missing; None for another dtype."""
    if not hasattr(series, "cat"):
        return None
    used, codes = _used(series.cat.codes.to_numpy(), len(series.cat.categories))
    return series.cat.categories.take(used).tolist(), codes


def _coded_pyarrow(column):
    """Levels and codes (n,) of strings or a dictionary, -1 where missing; None for other dtypes."""
    if str(column.type) in ("string", "large_string"):
        column = column.dictionary_encode()  # a Python string for each level, not for each row
    if not hasattr(column.type, "index_type"):
        return None
    levels, codes = [], [np.empty(0, dtype=np.int64)]
    for chunk in column.chunks:  # each with a dictionary of its own
        own = chunk.indices.cast("int64").fill_null(-1).to_numpy()
        used, own = _used(own, len(chunk.dictionary))
        codes.append(np.where(own < 0, -1, own + len(levels)))
        levels += chunk.dictionary.take(used).to_pylist()
    return levels, np.concatenate(codes)


def _used(codes, n_levels):
    """Which of the levels stand in codes (n,), and the codes among these; -1 stays -1."""
    is_used = np.zeros(n_levels, dtype=bool)
    is_used[codes[codes >= 0]] = True
    place = np.append(np.cumsum(is_used) - 1, -1)
    return np.flatnonzero(is_used), place[codes]


# Of long columns with few levels, the libraries' own lists take ten times as long.
_CODED = {"pandas": _coded_pandas, "pyarrow": _coded_pyarrow}


def _read_array(X, known_types, first_row) -> Frame:
    if isinstance(X, list | tuple):
        X = np.array(X, dtype=object)
        if all(isinstance(v, int | float | np.number) and type(v) is not bool for v in X.flat):
            X = np.array(X.tolist())  # numbers throughout: an array of numbers, not of objects
    if np.ma.is_masked(X):
        X = _with_holes(X)
    # Bounds on rows and columns are the estimator's to check, in its own name.
    X = check_array(
        X, dtype=None, ensure_all_finite=False, ensure_min_samples=0, ensure_min_features=0
    )
    if X.dtype.kind in "biuf":
        kind = BOOLEAN if X.dtype.kind == "b" else NUMBER
        values = X.astype(np.float64, copy=False)
        columns = list(values.T)
        if (np.abs(values) > MAX_SIZE).any():  # of all at once: rows may come one at a time
            columns = [_finite(column, c, first_row) for c, column in enumerate(columns)]
        types = [kind] * X.shape[1]
    elif X.dtype.kind in "mM":
        raise TypeError(f"The array holds dates or times ({X.dtype}). {DATETIME_ADVICE}")
    else:
        read_columns = [
            read_objects(column.tolist(), c, first_row, is_category=_was_category(known_types, c))
            for c, column in enumerate(X.T)
        ]
        columns, types = [v for v, _ in read_columns], [t for _, t in read_columns]
    layout = Layout("numpy", None, [DESCRIBERS["numpy"](X.dtype)])
    return Frame(layout, columns, types, X, first_row=first_row)


def _with_holes(X):
    """A plain array of a masked one, missing where it is masked."""
    if X.dtype.kind in "biu":
        X = X.astype(np.float64)
    is_float = X.dtype.kind == "f"
    values = X.data.astype(X.dtype if is_float else object)  # a copy, of what a mask hides too
    values[np.ma.getmaskarray(X)] = np.nan if is_float else None
    return values


def read_objects(values, name, first_row=0, *, is_category=False):
    """Read Python objects of unknown nature: all numbers, all booleans, or else categories.

    Returns
    -------
    column : array of shape (n,)
        As in `Frame`.
    type : {"number", "boolean", "category"}

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
                f"Column {name!r} holds {kind.__name__} values; expected numbers, booleans or "
                f"strings. {NESTED_ADVICE} Labels of another type: .astype(str)."
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
            return as_float, BOOLEAN
        return _finite(as_float, name, first_row), NUMBER
    if any(issubclass(kind, float | np.generic | Decimal) for kind in found):
        values = [None if value != value else _plain_level(value) for value in values]
    objects = np.empty(len(values), dtype=object)
    objects[:] = values
    return objects, CATEGORY


def _as_float(value):
    try:
        return float(value)
    except OverflowError:  # a Python int too large for a float
        return np.inf


def _plain_level(value):
    """A level as JSON has it: str, int, float or bool."""
    if isinstance(value, np.generic):
        return value.item()
    return float(value) if isinstance(value, Decimal) else value


def as_objects(values):
    """A column of numbers as objects with None where NaN, where it was fitted as categories."""
    if values.dtype == object:
        return values
    objects = values.astype(object)
    objects[np.isnan(values)] = None
    return objects


def _finite(values, name, first_row):
    is_too_large = np.abs(values) > MAX_SIZE
    if is_too_large.any():
        row = np.flatnonzero(is_too_large)[0]
        raise ValueError(
            f"Column {name!r} holds {values[row]:.3g} in row {first_row + row}; expected numbers "
            f"from {-MAX_SIZE:g} to {MAX_SIZE:g}, or NaN. Replace it by NaN to have it treated as "
            "missing, or by a smaller number."
        )
    return values


def as_numbers(values, name, first_row=0):
    """An object column as float64 (n,), where it was fitted as numbers.

    Raises
    ------
    ValueError
        If a value is not a number, or too large, naming column, row and value.
    """
    if values.dtype != object:
        return values
    out = np.full(len(values), np.nan)
    for row, value in enumerate(values):
        if isinstance(value, str):
            raise ValueError(
                f"Column {name!r} held numbers in fit; row {first_row + row} now holds "
                f"{shown(value)}. Convert the column to numbers, or fit again."
            )
        out[row] = np.nan if value is None else _as_float(value)
    return _finite(out, name, first_row)


def is_missing(values):
    """Which of a column's values (n,) are missing, as `read` gives them."""
    return np.equal(values, None) if values.dtype == object else np.isnan(values)
