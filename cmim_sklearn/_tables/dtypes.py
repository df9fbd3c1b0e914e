"""Layout of a table: library, names and dtypes of its columns, as JSON values.

Dtypes of each library are converted to descriptions, and descriptions back to dtypes.
"""

import re
from dataclasses import asdict, dataclass
from decimal import Decimal

import numpy as np

SPARSE = re.compile(r"Sparse\[(?P<of>\w+), (?P<fill>[-+.\w]+)\]")
"""Names of pandas dtypes that store only values other than a fill value."""


@dataclass(frozen=True)
class Layout:
    """Library, column names and dtypes of a table, as JSON values.

    Attributes
    ----------
    library : {"numpy", "pandas", "polars", "pyarrow"}
    names : list of str or int, or None
        Column names; None for arrays and lists.
    dtypes : list of dict
        Description of the dtype of each column; for an array, one that all columns share.
    """

    library: str
    names: list | None
    dtypes: list

    def dtype_of(self, position):
        """Description of the dtype of a column."""
        return self.dtypes[0 if self.names is None else position]

    def state(self):
        """Return the constructor's arguments."""
        return asdict(self)


def as_numpy(description):
    """The numpy dtype of the same numbers or booleans; None for other dtypes."""
    name = _without_arrow(description)["dtype"]
    sparse = SPARSE.fullmatch(name)
    name = sparse["of"] if sparse else _NUMPY_NAMES.get(name.lower(), name)
    try:
        dtype = np.dtype(name if name[:1] in "<>|" else name.lower())
    except TypeError:
        return None
    return dtype if dtype.kind in "biuf" else None


def _without_arrow(description):
    return description["of"] if description["dtype"] == "arrow" else description


def number_bounds(description):
    """Smallest and largest number of a dtype; None for dtypes that hold every float64."""
    of, dtype = _without_arrow(description), as_numpy(description)
    if "precision" in of:
        exact = Decimal(10 ** of["precision"] - 1).scaleb(-of["scale"])
        # Libraries may round the last bit outward.
        largest = float(exact) * (1 - 2**-52)
        return -largest, largest
    if dtype is not None and dtype.kind == "f" and dtype.itemsize < 8:
        return float(np.finfo(dtype).min), float(np.finfo(dtype).max)
    return integer_bounds(description)


def integer_bounds(description):
    """Smallest and largest number of an integer dtype; None for other dtypes."""
    dtype = as_numpy(description)
    if dtype is not None and dtype.kind in "iu":
        return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    largest = {"Int128": 2**127 - 1, "UInt128": 2**128 - 1}.get(description["dtype"])
    if largest is None:
        return None
    return (0, largest) if description["dtype"] == "UInt128" else (-largest - 1, largest)


def float_type(description):
    """Numpy type of a float dtype, such as `numpy.float32`; None for other dtypes."""
    dtype = as_numpy(description)
    return dtype.type if dtype is not None and dtype.name in _FLOATS else None


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
            "categories": dtype.categories.tolist(),
            "of": _describe_pandas(dtype.categories.dtype),
            "ordered": bool(dtype.ordered),
        }
    if isinstance(dtype, pd.StringDtype):
        is_nan = getattr(dtype, "na_value", pd.NA) is not pd.NA
        return {"dtype": "string", "storage": dtype.storage, "missing": "nan" if is_nan else "NA"}
    if isinstance(dtype, pd.ArrowDtype):
        return {"dtype": "arrow", "of": _describe_arrow(dtype.pyarrow_dtype)}
    return {"dtype": str(dtype)}


def pandas_dtype(description):
    """The pandas or numpy dtype of a description."""
    import pandas as pd

    if description["dtype"] == "category":
        of = pandas_dtype(description["of"])
        categories = pd.Index(description["categories"], dtype=of)
        return pd.CategoricalDtype(categories, ordered=description["ordered"])
    if description["dtype"] == "string":
        # Before pandas 2.3 there was no na_value, only pd.NA.
        options = {"na_value": np.nan} if description["missing"] == "nan" else {}
        return pd.StringDtype(description["storage"], **options)
    if description["dtype"] == "arrow":
        return pd.ArrowDtype(arrow_type(description["of"]))
    sparse = SPARSE.fullmatch(description["dtype"])
    if sparse:  # pandas reads only names with the default fill value
        return pd.SparseDtype(sparse["of"], sparse_fill(**sparse.groupdict()))
    return pd.api.types.pandas_dtype(description["dtype"])


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
    return pa.type_for_alias(name)


DESCRIBERS = {
    "numpy": _describe_numpy,
    "pandas": _describe_pandas,
    "polars": _describe_polars,
    "pyarrow": _describe_arrow,
}
"""Functions that describe a dtype, by library."""

_FLOATS = ("float16", "float32", "float64")
_NUMPY_NAMES = {"boolean": "bool", "halffloat": "float16", "float": "float32", "double": "float64"}
"""Names in numpy of dtypes of other libraries that have another name."""
