"""Tables as people hold them: pandas, polars, pyarrow, arrays and lists, in and out.

A table is read into a `Frame`: plain numpy columns and a description of where they came from that
JSON can hold. `write` makes a table of that description again. This is the one file that knows
narwhals and the three libraries; none of them is imported before the user's own table needs it.
"""

import datetime
import re
from dataclasses import asdict, dataclass
from decimal import Decimal
from numbers import Number
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from sklearn.utils.validation import check_array

NUMBER, BOOLEAN, CATEGORY = "number", "boolean", "category"
PART_CELLS, MIN_PART_ROWS = 2**20, 256
"""Cells that are read at a time of a long table, some 20 MB, but at least so many rows."""

DATETIME_ADVICE = (
    "Turn dates and times into numbers first, for example with skrub's DatetimeEncoder or a "
    "column of your own such as the days since a date."
)
BYTES_ADVICE = "Decode them to strings first, or drop the column."
NESTED_ADVICE = "Give each value a column of its own, or drop the column."


@dataclass(frozen=True)
class Layout:
    """Where a table came from, as JSON values.

    Attributes
    ----------
    library : {"numpy", "pandas", "polars", "pyarrow"}
    names : list of str or int, or None
        Column names; None for arrays and lists.
    dtypes : list of dict
        One description a column, from which its dtype can be made again. For an array, one that
        all columns share.
    """

    library: str
    names: list | None
    dtypes: list

    def state(self):
        """Return the constructor's arguments."""
        return asdict(self)


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
        For dates, times, nested or binary values, naming the column and what to do.
    ValueError
        For complex or infinite numbers, naming the column; for fewer or more than two axes.
    """
    native = _from_native(X)
    if type(X).__name__ == "RecordBatch":
        raise TypeError("A pyarrow RecordBatch came: give pyarrow.Table.from_batches([batch]).")
    if isinstance(native, nw.LazyFrame):
        raise TypeError("A lazy frame has no rows yet: call .collect() on it first.")
    if isinstance(native, nw.DataFrame):
        return _read_frame(native, types, first_row)
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
        raise ValueError(f"{error} Rename columns, so that each name stands once.") from error


def _was_category(types, position):
    return types is not None and position < len(types) and types[position] == CATEGORY


def _read_frame(frame, known_types, first_row) -> Frame:
    library = str(frame.implementation).lower()
    if library not in _WRITERS:
        raise TypeError(
            f"A {library} frame came; expected pandas, polars, pyarrow, an array or a list. "
            "Turn it into one of them first."
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
        dtypes.append(_DESCRIBERS[library](series.to_native()))
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
        values, kind = _read_objects([*levels, None], name, first_row, is_category=is_category)
        return values[codes], kind
    if library == "pandas":
        values = native.to_numpy(dtype=object, na_value=None).tolist()
    else:
        values = series.to_list()
    return _read_objects(values, name, first_row, is_category=is_category)


def _coded_pandas(series):
    """Levels and codes (n,) of categories, -1 where missing; None for another dtype."""
    if not hasattr(series, "cat"):
        return None
    used, codes = _used(series.cat.codes.to_numpy(), len(series.cat.categories))
    return series.cat.categories.take(used).tolist(), codes


def _coded_pyarrow(column):
    """Levels and codes (n,) of a dictionary, -1 where missing; None for another dtype."""
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
    # Bounds on rows and columns are the estimator's to check, in its own name.
    X = check_array(
        X, dtype=None, ensure_all_finite=False, ensure_min_samples=0, ensure_min_features=0
    )
    if X.dtype.kind in "biuf":
        kind = BOOLEAN if X.dtype.kind == "b" else NUMBER
        values = X.astype(np.float64, copy=False)
        columns = [_finite(column, c, first_row) for c, column in enumerate(values.T)]
        types = [kind] * X.shape[1]
    elif X.dtype.kind in "mM":
        raise TypeError(f"The array holds dates or times ({X.dtype}). {DATETIME_ADVICE}")
    else:
        read_columns = [
            _read_objects(column.tolist(), c, first_row, is_category=_was_category(known_types, c))
            for c, column in enumerate(X.T)
        ]
        columns, types = [v for v, _ in read_columns], [t for _, t in read_columns]
    # numpy's variable-width strings have no name that np.dtype understands.
    dtype = "StringDType" if X.dtype.char == "T" else X.dtype.str
    layout = Layout("numpy", None, [{"dtype": dtype}])
    return Frame(layout, columns, types, X, first_row=first_row)


def _read_objects(values, name, first_row, *, is_category=False):
    """Read Python objects of unknown nature: all numbers, all booleans, or else categories."""
    found = set(map(type, values))
    missing = {t for t in found if t is type(None) or t.__name__ in ("NAType", "NaTType")}
    found -= missing
    for kind in found:
        if issubclass(kind, complex | np.complexfloating):
            raise ValueError(f"Complex data not supported: column {name!r}.")
        if issubclass(kind, datetime.date | datetime.time | datetime.timedelta) or issubclass(
            kind, np.datetime64 | np.timedelta64
        ):
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
    is_infinite = np.isinf(values)
    if is_infinite.any():
        row = first_row + np.flatnonzero(is_infinite)[0]
        raise ValueError(
            f"Column {name!r} holds inf in row {row}; expected finite numbers or NaN. "
            "Replace it by NaN to have it treated as missing, or by a large number."
        )
    return values


def as_numbers(values, name, first_row=0):
    """An object column as float64 (n,), where it was fitted as numbers.

    Raises
    ------
    ValueError
        If a value is not a number, naming column, row and value.
    """
    if values.dtype != object:
        return values
    out = np.full(len(values), np.nan)
    for row, value in enumerate(values):
        if isinstance(value, str):
            raise ValueError(
                f"Column {name!r} held numbers in fit; row {first_row + row} now holds {value!r}. "
                "Convert the column to numbers, or fit again."
            )
        out[row] = np.nan if value is None else float(value)
    return out


def write(layout, columns, types, index=None):
    """Make a table like the one read.

    Parameters
    ----------
    layout : Layout
    columns : list of arrays of shape (n,)
        As in `Frame`.
    types : list of {"number", "boolean", "category"}
        As in `Frame`; they tell an object column's numbers from its booleans.
    index : object, default=None
        Row index for a pandas frame.
    """
    dtypes = layout.dtypes if layout.names is not None else layout.dtypes * len(columns)
    columns = [
        _inside(v, d) if t == NUMBER else v for v, t, d in zip(columns, types, dtypes, strict=True)
    ]
    return _WRITERS[layout.library](layout, columns, types, index)


def check_layout(layout):
    """Raise where a layout, of a file of unknown origin, is none that `read` makes.

    `write` looks dtypes up by their names in the libraries, which have much else under names.

    Raises
    ------
    ValueError
        Naming the library or the dtype.
    """
    if layout.library not in _DTYPES:
        raise ValueError(f"There are no tables of {layout.library!r}.")
    if (layout.names is None) != (layout.library == "numpy"):
        raise ValueError(f"Columns of {layout.library} cannot be called {layout.names!r}.")
    if len(layout.dtypes) != (1 if layout.names is None else len(layout.names)):
        raise ValueError(f"There are {len(layout.dtypes)} dtypes for {layout.names!r}.")
    for name in layout.names or []:
        if not isinstance(name, str | int | float):
            raise ValueError(f"{name!r} is no name of a column.")
    for description in layout.dtypes:
        _check_dtype(layout.library, description)


def _check_dtype(library, description):
    name, options = description["dtype"], set(description) - {"dtype"}
    known = [own for pattern, own in _DTYPES[library].items() if re.fullmatch(pattern, name)]
    if options not in known:
        raise ValueError(f"{description!r} is no dtype of {library}.")
    if name == "dictionary":
        for part in ("index", "of"):
            _check_dtype(library, {"dtype": description[part]})
    elif "of" in options:
        _check_dtype("pyarrow" if name == "arrow" else library, description["of"])


def is_missing(values):
    """Which of a column's values (n,) are missing, as `read` gives them."""
    return np.equal(values, None) if values.dtype == object else np.isnan(values)


def fill(X, frame, layout, types, rows, columns):
    """A table like X, of which `frame` was read, with holes filled and all else as it was.

    Parameters
    ----------
    X : table
    frame : Frame
        Of X.
    layout, types
        Of the table that the values come from: they decide a column of nothing but holes.
    rows : array of shape (n_rows,)
        Positions of the rows that have holes.
    columns : list of arrays of shape (n_rows,)
        Raw values of these rows for each column; only those at holes are used. Numbers for a column
        of integers are rounded.
    """
    new = {}
    for p, values in enumerate(columns):
        mask = is_missing(frame.columns[p])
        if mask.any():
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
        if types[p] == NUMBER and _integer_dtype(description):
            values = np.round(values)
        # Cells that will not be used must fit the dtype all the same: any filler will do.
        whole = np.full(len(mask), values[0], values.dtype)
        whole[mask] = values
        series[name] = mask, description, whole, types[p]
    return _FILLERS[frame.layout.library](X, series)


def integer_bounds(layout, position):
    """Lowest and highest number of a column's integer dtype; None for other dtypes."""
    found = _integer_dtype(layout.dtypes[position if layout.names is not None else 0])
    if not found:
        return None
    bounds = np.iinfo(f"{found[1]}int{found[2]}")
    return bounds.min, bounds.max


def _integer_dtype(description):
    of = description["of"] if description["dtype"] == "arrow" else description
    name = of["dtype"]
    if name[:1] in "<>|=":
        name = np.dtype(name).name
    return re.fullmatch(r"(u?)int(\d+)", name.lower())


def _inside(values, description):
    """Numbers inside the bounds of their integer dtype, of which float64 may overshoot the ends."""
    bounds = integer_bounds(Layout("", None, [description]), 0)
    if not bounds:
        return values
    highest = float(bounds[1])
    if int(highest) > bounds[1]:
        highest = np.nextafter(highest, 0)
    return np.clip(values, float(bounds[0]), highest)


# One describer and one writer for each library. --------------------------------------------------


def _plain(values, kind):
    """A column as Python objects: whole numbers as int, None where missing."""
    if kind == CATEGORY:
        return list(values)
    make = bool if kind == BOOLEAN else lambda v: int(v) if v == np.round(v) else float(v)
    return [None if np.isnan(v) else make(v) for v in values]


def _write_numpy(layout, columns, types, index):
    name = layout.dtypes[0]["dtype"]
    dtype = np.dtypes.StringDType() if name == "StringDType" else np.dtype(name)
    if dtype.kind in "biuf":
        return np.stack(columns, axis=1).astype(dtype)
    out = np.empty((len(columns[0]), len(columns)), dtype=object)
    for c, (column, kind) in enumerate(zip(columns, types, strict=True)):
        out[:, c] = _plain(column, kind)
    return out.astype(dtype)


def _describe_pandas(series):
    import pandas as pd

    return _describe_pandas_dtype(series.dtype, pd)


def _describe_pandas_dtype(dtype, pd):
    if isinstance(dtype, pd.CategoricalDtype):
        return {
            "dtype": "category",
            "categories": dtype.categories.tolist(),
            "of": _describe_pandas_dtype(dtype.categories.dtype, pd),
            "ordered": bool(dtype.ordered),
        }
    if isinstance(dtype, pd.StringDtype):
        is_nan = getattr(dtype, "na_value", pd.NA) is not pd.NA
        return {"dtype": "string", "storage": dtype.storage, "missing": "nan" if is_nan else "NA"}
    if isinstance(dtype, pd.ArrowDtype):
        return {"dtype": "arrow", "of": _describe_arrow(dtype.pyarrow_dtype)}
    return {"dtype": str(dtype)}


def _pandas_dtype(description, pd):
    if description["dtype"] == "category":
        of = _pandas_dtype(description["of"], pd)
        categories = pd.Index(description["categories"], dtype=of)
        return pd.CategoricalDtype(categories, ordered=description["ordered"])
    if description["dtype"] == "string":
        # na_value came with pandas 2.3; before it there was only pd.NA.
        options = {"na_value": np.nan} if description["missing"] == "nan" else {}
        return pd.StringDtype(description["storage"], **options)
    if description["dtype"] == "arrow":
        return pd.ArrowDtype(_arrow_type(description["of"]))
    return pd.api.types.pandas_dtype(description["dtype"])


def _write_pandas(layout, columns, types, index):
    import pandas as pd

    series = []
    for values, kind, description in zip(columns, types, layout.dtypes, strict=True):
        dtype = _pandas_dtype(description, pd)
        if isinstance(dtype, pd.CategoricalDtype):
            series.append(pd.Series(pd.Categorical(_plain(values, kind), dtype=dtype)))
        elif dtype == np.dtype(object) or kind == CATEGORY:
            series.append(pd.Series(_plain(values, kind), dtype=dtype))
        elif isinstance(dtype, np.dtype):
            series.append(pd.Series(values).astype(dtype))
        else:
            series.append(pd.Series(pd.array(_plain(values, kind), dtype=dtype)))
    frame = pd.concat(series, axis=1) if series else pd.DataFrame()
    frame.columns = layout.names
    if index is not None:
        frame.index = index
    return frame


def _describe_polars(series):
    dtype = series.dtype
    description = {"dtype": str(dtype.base_type())}
    if description["dtype"] == "Enum":
        description["categories"] = dtype.categories.to_list()
    elif description["dtype"] == "Decimal":
        description |= {"precision": dtype.precision, "scale": dtype.scale}
    return description


def _write_polars(layout, columns, types, index):
    import polars as pl

    series = []
    for name, values, kind, description in zip(
        layout.names, columns, types, layout.dtypes, strict=True
    ):
        options = {k: v for k, v in description.items() if k != "dtype"}
        dtype = getattr(pl, description["dtype"])
        dtype = dtype(*options.values()) if options else dtype
        plain = pl.Series(name, _plain(values, kind), strict=False)
        series.append(plain.cast(dtype))
    return pl.DataFrame(series)


def _describe_pyarrow(column):
    return _describe_arrow(column.type)


def _describe_arrow(kind):
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        names = {"index": str(kind.index_type), "of": str(kind.value_type)}
        return {"dtype": "dictionary", **names, "ordered": kind.ordered}
    if pa.types.is_decimal(kind):
        size = {"precision": kind.precision, "scale": kind.scale}
        return {"dtype": f"decimal{kind.bit_width}", **size}
    return {"dtype": str(kind)}


def _arrow_type(description):
    import pyarrow as pa

    name = description["dtype"]
    if name == "dictionary":
        index, of = (pa.type_for_alias(description[key]) for key in ("index", "of"))
        return pa.dictionary(index, of, description["ordered"])
    if name.startswith("decimal"):
        return getattr(pa, name)(description["precision"], description["scale"])
    return pa.type_for_alias(name)


def _write_pyarrow(layout, columns, types, index):
    import pyarrow as pa

    arrays = []
    for values, kind, description in zip(columns, types, layout.dtypes, strict=True):
        dtype = _arrow_type(description)
        if pa.types.is_dictionary(dtype):
            encoded = pa.array(_plain(values, kind), dtype.value_type)
            arrays.append(encoded.dictionary_encode().cast(dtype))
        elif pa.types.is_null(dtype):
            arrays.append(pa.nulls(len(values)))
        elif kind == NUMBER:
            safe = not pa.types.is_decimal(dtype)
            arrays.append(pa.array(values, from_pandas=True).cast(dtype, safe=safe))
        else:
            arrays.append(pa.array(_plain(values, kind), dtype))
    return pa.table(dict(zip(layout.names, arrays, strict=True)))


def _fill_pandas(X, new):
    out = X.copy()
    for name, (mask, description, values, kind) in new.items():
        series = out[name]
        if description["dtype"] == "category":
            lacking = set(_plain(values[mask], kind)) - {None} - set(series.cat.categories)
            series = series.cat.add_categories(sorted(lacking))
            description = _DESCRIBERS["pandas"](series)
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
        series = filler[name].zip_with(pl.Series(mask), known.cast(filler[name].dtype))
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


_PLAIN_DTYPES = {
    "pandas": {NUMBER: "float64", BOOLEAN: "boolean", CATEGORY: "object"},
    "polars": {NUMBER: "Float64", BOOLEAN: "Boolean", CATEGORY: "String"},
    "pyarrow": {NUMBER: "double", BOOLEAN: "bool", CATEGORY: "string"},
}
_FILLERS = {"pandas": _fill_pandas, "polars": _fill_polars, "pyarrow": _fill_pyarrow}

_DESCRIBERS = {
    "pandas": _describe_pandas,
    "polars": _describe_polars,
    "pyarrow": _describe_pyarrow,
}

_WRITERS = {
    "numpy": _write_numpy,
    "pandas": _write_pandas,
    "polars": _write_polars,
    "pyarrow": _write_pyarrow,
}

# Patterns of the dtypes of each library, and what else their descriptions hold.
_DTYPES = {
    "numpy": {r"[<>|=]([biuf]\d{1,2}|O|U\d{1,6})|StringDType": set()},
    "pandas": {
        r"bool|boolean|object|(u?i|UI|I)nt\d+|[fF]loat\d+|Sparse\[\w+(, [-+.\w]+)?\]": set(),
        "category": {"categories", "of", "ordered"},
        "string": {"storage", "missing"},
        "arrow": {"of"},
    },
    "polars": {
        r"U?Int\d+|Float\d+|Boolean|String|Categorical|Null": set(),
        "Enum": {"categories"},
        "Decimal": {"precision", "scale"},
    },
    "pyarrow": {
        r"u?int\d+|halffloat|float|double|bool|null|(large_)?string|string_view": set(),
        "dictionary": {"index", "of", "ordered"},
        r"decimal\d+": {"precision", "scale"},
    },
}
