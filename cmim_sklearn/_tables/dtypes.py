"""Layout of a table: library, names and dtypes of its columns, as JSON values.

Dtypes of each library are converted to descriptions, and descriptions back to dtypes.
"""

import re
from dataclasses import asdict, dataclass
from fractions import Fraction

import numpy as np

from cmim_sklearn._utils.levels import level_of, plain_level
from cmim_sklearn._utils.zones import zone_name, zone_of

SPARSE = re.compile(r"Sparse\[(?P<of>\w+), (?P<fill>[-+.\w]+)\]")
"""Names of pandas dtypes that store only values other than a fill value."""

NAMES = "strings, numbers or tuples of them"
TUPLES, RANGE = {"dtype": "tuples"}, {"dtype": "range"}
"""Descriptions of a MultiIndex and of a RangeIndex of columns."""
MAX_DIGITS = 76
"""Maximum precision of a decimal dtype, that of Arrow's decimal256."""
FLOAT_DIGITS = 15
"""Number of digits up to which float64 holds all Decimals."""


@dataclass(frozen=True)
class Layout:
    """Library, column names and dtypes of a table, as JSON values.

    Attributes
    ----------
    library : {"numpy", "pandas", "polars", "pyarrow"}
    names : list or None
        Column names, strings in polars and pyarrow; see `is_name` for those of pandas. None for
        arrays and lists.
    dtypes : list of dict
        Description of the dtype of each column; for an array, it may be one that all columns share.
        That of objects names the type of numbers that are not ints: ``{"scale": 2}`` for Decimals
        of up to two decimals, ``{"of": "float"}`` for floats. That of dates also names the type,
        unit and time zone: ``{"of": "datetime", "unit": "us", "zone": None}``.
    header : dict or None
        Type and names of the index of columns of a pandas table; None for other tables.
    """

    library: str
    names: list | None
    dtypes: list
    header: dict | None = None

    def dtype_of(self, position):
        """Description of the dtype of a column."""
        return self.dtypes[position if len(self.dtypes) > 1 else 0]

    def state(self):
        """Return the constructor's arguments."""
        return asdict(self)


def is_name(name):
    """Whether a column may have a name: JSON values, numpy scalars and tuples of them."""
    if isinstance(name, tuple):
        return all(map(is_name, name))
    return name is None or isinstance(name, str | int | float | np.number | np.bool_)


def is_same_name(one, other):
    """Whether two column names are equal; NaN equals NaN, also within tuples."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(is_same_name, one, other))
    return one == other or (one != one and other != other)


def as_numpy(description):
    """The numpy dtype of the same numbers or booleans; None for other dtypes."""
    name = without_arrow(description)["dtype"]
    sparse = SPARSE.fullmatch(name)
    name = sparse["of"] if sparse else _NUMPY_NAMES.get(name.lower(), name)
    try:
        dtype = np.dtype(name if name[:1] in "<>|" else name.lower())
    except TypeError:
        return None
    return dtype if dtype.kind in "biuf" else None


def without_arrow(description):
    """Description of the Arrow dtype in a dtype of pandas; others as they are."""
    return description["of"] if description["dtype"] == "arrow" else description


def integer_bounds(description):
    """Smallest and largest number of an integer dtype; None for other dtypes."""
    dtype = as_numpy(description)
    if dtype is not None and dtype.kind in "iu":
        return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    largest = {"Int128": 2**127 - 1, "UInt128": 2**128 - 1}.get(description["dtype"])
    if largest is None:
        return None
    return (0, largest) if description["dtype"] == "UInt128" else (-largest - 1, largest)


def number_bounds(description):
    """Smallest and largest finite number of a dtype of numbers; None if float64 cannot exceed them.

    Bounds are exact: ints or fractions.
    """
    name, kind = without_arrow(description)["dtype"].lower(), float_type(description)
    if kind in (np.float16, np.float32):
        largest = Fraction(float(np.finfo(kind).max))
    elif name.startswith("decimal"):
        of = description["of"] if description["dtype"] == "arrow" else description
        digits = min(of["precision"], MAX_DIGITS)
        largest = Fraction(10**digits - 1) / Fraction(10) ** of["scale"]
    else:
        return integer_bounds(description)
    return -largest, largest


def float_type(description):
    """Numpy type of a float dtype, such as `numpy.float32`; None for other dtypes."""
    dtype = as_numpy(description)
    return dtype.type if dtype is not None and dtype.name in _FLOATS else None


def scale_of(description):
    """Number of decimals of Decimals, fixed by their dtype or seen in fit; None for others."""
    of = description["of"] if description["dtype"] == "arrow" else description
    return max(0, of["scale"]) if "scale" in of else None


def has_long_decimals(description):
    """Whether a dtype is one of Decimals with more digits than float64 holds."""
    of = description["of"] if description["dtype"] == "arrow" else description
    return of.get("precision", 0) > FLOAT_DIGITS


def is_object(description):
    """Whether a dtype is that of Python objects."""
    return description["dtype"] in _OBJECTS


# Dtypes to descriptions and back, for each library. -----------------------------------------------


def _describe_numpy(dtype):
    # Variable-width strings have no name that np.dtype understands.
    return {"dtype": "StringDType" if dtype.char == "T" else dtype.str}


def numpy_dtype(description):
    """The numpy dtype of a description."""
    name = description["dtype"]
    return np.dtypes.StringDType() if name == "StringDType" else np.dtype(name)


def _describe_pandas(dtype):
    import pandas as pd

    if isinstance(dtype, pd.CategoricalDtype):
        return {
            "dtype": "category",
            "categories": list(map(plain_level, dtype.categories.tolist())),
            "of": _describe_pandas(dtype.categories.dtype),
            "ordered": bool(dtype.ordered),
        }
    if isinstance(dtype, pd.StringDtype):
        is_nan = getattr(dtype, "na_value", pd.NA) is not pd.NA
        return {"dtype": "string", "storage": dtype.storage, "missing": "nan" if is_nan else "NA"}
    if isinstance(dtype, pd.ArrowDtype):
        return {"dtype": "arrow", "of": _describe_arrow(dtype.pyarrow_dtype)}
    if isinstance(dtype, pd.DatetimeTZDtype):
        return {"dtype": f"datetime64[{dtype.unit}]", "zone": zone_name(dtype.tz)}
    name = str(dtype)
    return {"dtype": name} | ({"zone": None} if name.startswith("datetime64") else {})


def pandas_dtype(description):
    """The pandas or numpy dtype of a description."""
    import pandas as pd

    if description["dtype"] == "category":
        of = pandas_dtype(description["of"])
        categories = pd.Index(list(map(level_of, description["categories"])), dtype=of)
        return pd.CategoricalDtype(categories, ordered=description["ordered"])
    if description["dtype"] == "string":
        # Before pandas 2.3 there was no na_value, only pd.NA.
        options = {"na_value": np.nan} if description["missing"] == "nan" else {}
        return pd.StringDtype(description["storage"], **options)
    if description["dtype"] == "arrow":
        return pd.ArrowDtype(arrow_type(description["of"]))
    if description.get("zone") and not is_object(description):
        unit = np.datetime_data(np.dtype(description["dtype"]))[0]
        return pd.DatetimeTZDtype(unit, zone_of(description["zone"]))
    sparse = SPARSE.fullmatch(description["dtype"])
    if sparse:  # pandas reads only names with the default fill value
        return pd.SparseDtype(sparse["of"], sparse_fill(**sparse.groupdict()))
    return pd.api.types.pandas_dtype(description["dtype"])


def describe_header(columns):
    """Type and names of the index of columns of a pandas table, as JSON values."""
    import pandas as pd

    if isinstance(columns, pd.MultiIndex):
        of = TUPLES
    elif isinstance(columns, pd.RangeIndex):
        of = RANGE
    else:
        of = _describe_pandas(columns.dtype)
    return {"of": of, "names": [name if is_name(name) else None for name in columns.names]}


def pandas_columns(layout):
    """The index of columns of a pandas table."""
    import pandas as pd

    names, header = layout.names, layout.header
    if header is None:  # from a file of format version 3 or before
        return names
    if header["of"] == TUPLES:
        return pd.MultiIndex.from_tuples(names, names=header["names"])
    (name,) = header["names"]
    if header["of"] == RANGE:
        step = names[1] - names[0] if len(names) > 1 else 1
        return pd.RangeIndex(names[0], names[0] + len(names) * step, step, name=name)
    # The dtype of names without pd.NA depends on the version of pandas.
    is_default = header["of"].get("missing") == "nan"
    dtype = None if is_default else pandas_dtype(header["of"])
    return pd.Index(names, dtype=dtype, name=name, tupleize_cols=False)


def sparse_fill(of, fill):
    """Fill value of a sparse dtype, from the texts in its name."""
    if fill in _FILLS:
        return _FILLS[fill]
    return int(fill) if "int" in of else float(fill)


_FILLS = {"nan": np.nan, "False": False, "True": True}


def _describe_polars(dtype):
    description = {"dtype": str(dtype.base_type())}
    if description["dtype"] == "Enum":
        description["categories"] = dtype.categories.to_list()
    elif description["dtype"] == "Decimal":
        description |= {"precision": dtype.precision, "scale": dtype.scale}
    elif description["dtype"] in ("Datetime", "Duration"):
        description["unit"] = dtype.time_unit
        if description["dtype"] == "Datetime":
            description["zone"] = dtype.time_zone
    return description


def polars_dtype(description):
    """The polars dtype of a description."""
    import polars as pl

    options = [value for key, value in description.items() if key != "dtype"]
    dtype = getattr(pl, description["dtype"])
    return dtype(*options) if options else dtype


def _describe_arrow(kind):
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        names = {"index": str(kind.index_type), "of": str(kind.value_type)}
        return {"dtype": "dictionary", **names, "ordered": kind.ordered}
    if pa.types.is_decimal(kind):
        size = {"precision": kind.precision, "scale": kind.scale}
        return {"dtype": f"decimal{kind.bit_width}", **size}
    if pa.types.is_timestamp(kind):
        return {"dtype": f"timestamp[{kind.unit}]", "zone": kind.tz}
    return {"dtype": str(kind)}


def arrow_type(description):
    """The pyarrow type of a description."""
    import pyarrow as pa

    name = description["dtype"]
    if name == "dictionary":
        index, of = (pa.type_for_alias(description[key]) for key in ("index", "of"))
        return pa.dictionary(index, of, description["ordered"])
    if name.startswith("decimal"):
        return getattr(pa, name)(description["precision"], description["scale"])
    if description.get("zone"):
        return pa.timestamp(pa.type_for_alias(name).unit, description["zone"])
    return pa.type_for_alias(name)


DESCRIBERS = {
    "numpy": _describe_numpy,
    "pandas": _describe_pandas,
    "polars": _describe_polars,
    "pyarrow": _describe_arrow,
}
"""Functions that describe a dtype, by library."""

_OBJECTS = ("object", "|O")
_FLOATS = ("float16", "float32", "float64")
_NUMPY_NAMES = {"boolean": "bool", "halffloat": "float16", "float": "float32", "double": "float64"}
"""Names in numpy of dtypes of other libraries that have another name."""
