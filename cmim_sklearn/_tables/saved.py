"""Checks of the schema in an untrusted file: dtypes that can be built, and values that fit them.

Dtypes are later looked up by name in their libraries, where names can mean other things, and built
from numbers and lists in the file. A schema that passes cannot fail there. The libraries themselves
are not imported: an encoder can be loaded and used without the library of the table in fit.
"""

import re
from fractions import Fraction
from numbers import Integral, Number, Real

import numpy as np

from cmim_sklearn._likelihoods.clock import UNITS
from cmim_sklearn._tables.dtypes import (
    NAMES,
    RANGE,
    SPARSE,
    TUPLES,
    as_numpy,
    float_type,
    integer_bounds,
    is_name,
    is_object,
    number_bounds,
    scale_of,
    sparse_fill,
    without_arrow,
)
from cmim_sklearn._tables.links import check_links
from cmim_sklearn._tables.moments import DATETIME, DURATION, MOMENTS, TIME, ZONED, form_of
from cmim_sklearn._tables.read import BOOLEAN, CATEGORY, MAX_SIZE, NUMBER
from cmim_sklearn._tables.wide import MAX_SCALE, decimals_of
from cmim_sklearn._utils.levels import level_of
from cmim_sklearn._utils.messages import shown
from cmim_sklearn._utils.zones import to_local, zone_of


def check_layout(layout):
    """Check library, names and dtypes.

    Raises
    ------
    ValueError
        If one of them is not one that `read` produces. The message names the column.
    """
    library, names, dtypes = layout.library, layout.names, layout.dtypes
    if library not in list(_DTYPES):
        raise ValueError(f"unknown dataframe library {shown(library)} in the saved schema.")
    if not (names is None if library == "numpy" else isinstance(names, list)):
        raise ValueError(
            f"column names must be a list, or None for arrays; got {shown(names)} for {library}."
        )
    if names is not None and len(dtypes) != len(names):
        raise ValueError(
            f"the saved schema must have one dtype per column; got {len(dtypes)} dtypes for "
            f"columns {shown(names)}."
        )
    if names is None and len({description["dtype"] for description in dtypes}) != 1:
        raise ValueError(f"columns of an array must have one dtype; got {shown(dtypes)}.")
    _check_names(library, names or [])
    if layout.header is not None:
        _check_header(layout)
    for position, description in enumerate(dtypes):
        if not _is_known(library, description):
            raise ValueError(
                f"unknown dtype {shown(description)} of {library} in the saved schema, for column "
                f"{shown(position if names is None else names[position])}."
            )


def _check_names(library, names):
    only_strings = library != "pandas"
    for name in names:
        if not (isinstance(name, str) if only_strings else is_name(name)):
            what = "strings" if only_strings else NAMES
            raise ValueError(f"column names must be {what}; got {shown(name)}.")
        if isinstance(name, str) != isinstance(names[0], str):
            raise ValueError(f"column names must be all strings or none; got {shown(names)}.")
        if isinstance(name, str) and not _is_unicode(name):
            raise ValueError(f"column names must be valid Unicode; got {shown(name)}.")
    if len(set(names)) < len(names):
        raise ValueError(f"column names must be different; got {shown(names)}.")


def _check_header(layout):
    """Check that the index of the columns of a pandas table can hold their names."""
    header, names = layout.header, layout.names
    of, n_levels = header["of"], len(header["names"])
    if of not in (TUPLES, RANGE) and not _is_known("pandas", of):
        raise ValueError(f"unknown dtype {shown(of)} of pandas in the saved schema.")
    if of == TUPLES:
        is_sound = all(isinstance(name, tuple) and len(name) == n_levels for name in names)
    elif of == RANGE:
        is_sound = all(type(name) is int for name in names) and _are_evenly_spaced(names)
    else:
        held = [name for name in names if name is not None and name == name]
        is_sound = len(held) == len(names) or _can_be_missing(layout, of)
        if "categories" in of:
            is_sound &= set(held) <= set(_levels(of["categories"]))
        elif not is_object(of):
            is_sound &= _can_hold(of, held)
    if (of != TUPLES and n_levels != 1) or not is_sound or not all(map(is_name, header["names"])):
        raise ValueError(f"the index of columns {shown(header)} does not suit {shown(names)}.")


def _are_evenly_spaced(names):
    return len(set(np.diff(np.array(names, dtype=object)))) < 2


def check_columns(table):
    """Check the type of each column, and its levels, against its kind and its dtype.

    Raises
    ------
    ValueError
        If decoded values would not fit the dtype. The message names the column.
    """
    unknown = set(table.origins) - set(range(len(table.types)))
    if unknown:
        raise ValueError(f"unknown columns {shown(unknown)} with an origin in the saved schema.")
    check_links(table.links, table.types)
    links = {link.child: link for link in table.links}
    for block, likelihood in zip(table.blocks, table.likelihood.blocks, strict=True):
        for c, position in enumerate(block.positions):
            description, kind = table.layout.dtype_of(position), table.types[position]
            levels = list(likelihood.levels_of(c)) if likelihood.has_levels else []
            held, origin = levels if likelihood.n_seen[c] else [], table.origins.get(position)
            if (
                not _fits(description, kind, levels)
                or (kind == CATEGORY and likelihood.takes != CATEGORY)
                or not _can_hold_dates(description, kind, likelihood, c, links.get(position))
                or (kind != NUMBER and origin is not None)
                or (likelihood.n_seen[c] == 0 and not _can_be_missing(table.layout, description))
                or not (kind != NUMBER or _can_hold_numbers(description, held, likelihood, origin))
            ):
                names = table.layout.names
                raise ValueError(
                    f"column {shown(position if names is None else names[position])} of the saved "
                    f"schema must have a dtype for its values; got the dtype {shown(description)}, "
                    f"the type {kind!r}, the kind {block.kind!r} and the levels {shown(levels)}."
                )


def _fits(description, kind, levels):
    """Whether a column of a type, with these levels if it has any, can be stored in a dtype."""
    of = description["of"] if description["dtype"] == "arrow" else description
    if _type_of(of) not in (kind, None):
        return False
    levels = [] if levels == [None] else levels  # a column without any value
    if kind != CATEGORY:
        return all(isinstance(v, Number) and abs(v) < np.inf for v in levels)
    if "categories" in of:
        return set(levels) <= set(_levels(of["categories"]))
    if of["dtype"] == "dictionary":
        fits_index = len(levels) <= np.iinfo(of["index"]).max + 1
        return fits_index and _can_hold({"dtype": of["of"]}, levels)
    return _can_hold(of, levels)


def _can_hold_numbers(description, levels, likelihood, origin):
    """Whether a dtype can store the levels of a column of numbers, and those from its origin."""
    scale, bounds = scale_of(description), number_bounds(description)
    if origin is not None:
        are_floats = levels and all(isinstance(v, float) for v in levels)
        if are_floats or likelihood.takes == CATEGORY or likelihood.is_count:
            return False
        if float_type(description) or origin.scale != (scale or 0):
            return False
        unit = Fraction(1, 10**origin.scale)
        levels = [*levels, origin.low * unit, origin.high * unit]
    if likelihood.takes != CATEGORY and not all(abs(v) <= MAX_SIZE for v in levels):
        return False
    if bounds is not None and not all(bounds[0] <= v <= bounds[1] for v in levels):
        return False
    if is_object(description) or scale is None:
        return integer_bounds(description) is None or all(v == int(v) for v in levels)
    return all(decimals_of([v]) <= scale for v in levels)


def _can_hold_dates(description, kind, likelihood, column, link=None):
    """Whether a dtype can store the dates of a column; True for columns of other types.

    ``link`` is given for dates that are encoded as the duration since another date.
    """
    if kind not in MOMENTS and likelihood.takes not in MOMENTS:
        return True
    takes, form = (kind if link is None else DURATION), form_of(description)
    if likelihood.takes != takes or form is None:
        return False
    clock = likelihood.clocks[column]
    if link is None:
        is_sound = (clock.dtype, clock.zone) == (form.dtype, form.zone)
        ends = np.array([clock.low, clock.high])
    else:
        is_unit = np.datetime_data(clock.dtype) == np.datetime_data(form.dtype)
        is_sound = is_unit and link.zone in (None, form.zone) and link.divides_week(form.dtype)
        ends = np.array([link.low, link.high]).astype(form.dtype)
    if not is_sound:
        return False
    ends = np.concatenate([ends, to_local(ends, form.zone)]).astype(f"{form.dtype.kind}8[s]")
    if form.holds == TIME:
        low, high = _A_DAY
    elif form.type == DATETIME and is_object(description):
        low, high = _YEARS_OF_PYTHON
    elif without_arrow(description)["dtype"] in ("Date", "date32[day]"):
        low, high = _DAYS_OF_32_BITS
    else:
        return True
    return bool(low <= ends.min() and ends.max() <= high)


_A_DAY = np.array([0, 86_399], "M8[s]")
_YEARS_OF_PYTHON = np.array(["0001-01-01T00:00:00", "9999-12-31T23:59:59"], "M8[s]")
_DAYS_OF_32_BITS = np.array([-(2**31) + 1, 2**31 - 1], "M8[D]").astype("M8[s]")


def _can_be_missing(layout, description):
    """Whether a dtype can store missing values."""
    name, dtype = description["dtype"], as_numpy(description)
    is_numpy = layout.library in ("numpy", "pandas") and not re.match("arrow|boolean|U?Int", name)
    return not is_numpy or dtype is None or dtype.kind == "f"


def _type_of(description):
    """Type of the columns that a dtype stores; None for any."""
    dtype = as_numpy(description)
    if description["dtype"] in _OBJECTS or description["dtype"].lower() == "null":
        return None
    form = form_of(description)
    if form is not None:
        return form.type
    if dtype is not None:
        return BOOLEAN if dtype.kind == "b" else NUMBER
    is_number = "precision" in description or description["dtype"] in ("Int128", "UInt128")
    return NUMBER if is_number else CATEGORY


def _can_hold(description, values):
    """Whether a dtype can store different Python values, none of them missing, without a change."""
    of = description["of"] if description["dtype"] == "arrow" else description
    name, dtype = of["dtype"], as_numpy(of)
    if dtype is not None:
        kinds = {"b": bool | np.bool_, "f": Real}.get(dtype.kind, Integral)
        if not all(isinstance(v, kinds) and _is_boolean(v) == (dtype.kind == "b") for v in values):
            return False
        try:
            stored = np.array(values, dtype=object).astype(dtype).tolist()
        except OverflowError:
            return False
        return stored == values and _are_different(values)
    if name in _OBJECTS:
        kinds = str | Number | np.bool_
        return all(isinstance(v, kinds) and v == v for v in values) and _are_different(values)
    if name.lower() == "null" or not all(isinstance(value, str) for value in values):
        return not values
    is_python = of.get("storage") == "python" or name[:2] in ("<U", ">U")
    return _are_different(values) and (is_python or all(map(_is_unicode, values)))


def _levels(categories):
    """Categories as values; those that cannot be read stay lists, which no dtype can hold."""
    try:
        return [level_of(category) for category in categories]
    except (ArithmeticError, TypeError, ValueError):
        return categories


def _is_boolean(value):
    return isinstance(value, bool | np.bool_)


def _are_different(values):
    return len(set(values)) == len(values)


def _is_unicode(text):
    """Whether a string has no half of a surrogate pair, so that it can be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# Dtypes of each library. --------------------------------------------------------------------------


def _is_known(library, description):
    """Whether a description is one that `DESCRIBERS` can give, and can be built."""
    name, keys = description["dtype"], set(description) - {"dtype"}
    if is_object(description) and keys:  # Python numbers of one type
        scale = description.get("scale")
        is_decimal = keys == {"scale"} and type(scale) is int and 0 <= scale <= MAX_SCALE
        is_float = keys == {"of"} and description["of"] == "float"
        is_date = keys == {"of", "unit", "zone"} and _is_date(description)
        return (is_decimal or is_float or is_date) and _is_known(library, {"dtype": name})
    for pattern, (known, is_sound) in _DTYPES[library].items():
        if re.fullmatch(pattern, name) and keys == known:
            return is_sound(description)
    return False


def _is_numeric(description):
    return as_numpy(description) is not None  # a platform may lack a size of float


def _is_sparse(description):
    sparse = SPARSE.fullmatch(description["dtype"])
    return _can_hold({"dtype": sparse["of"]}, [sparse_fill(**sparse.groupdict())])


def _is_category(description):
    of, categories = description["of"], description["categories"]
    is_arrow = of["dtype"] == "arrow"
    pattern, name = (_ARROW_INDEX, of["of"]["dtype"]) if is_arrow else (_INDEX, of["dtype"])
    return (
        re.fullmatch(pattern, name) is not None
        and _is_known("pandas", of)
        and type(description["ordered"]) is bool
        and type(categories) is list
        and _can_hold(of, _levels(categories))
    )


def _is_string(description):
    return description["storage"] in ("python", "pyarrow") and (
        description["missing"] in ("NA", "nan")
    )


def _is_enum(description):
    categories = description["categories"]
    return type(categories) is list and _can_hold({"dtype": "String"}, categories)


def _is_dictionary(description):
    parts = {"index": _INTEGER, "of": rf"{_ARROW_INDEX}|halffloat|null"}
    is_known = all(re.fullmatch(pattern, description[key]) for key, pattern in parts.items())
    return is_known and type(description["ordered"]) is bool


def _is_decimal(description):
    precision, scale = description["precision"], description["scale"]
    name = description["dtype"]
    most = _MAX_PRECISION[name]
    if type(precision) is not int or type(scale) is not int or not 1 <= precision <= most:
        return False
    # A table with another scale cannot be read.
    return (0 if name in ("Decimal", "decimal128") else -most) <= scale <= precision


def _is_date(description):
    """Whether a dtype of dates or durations, with unit and time zone if it has any, can be read."""
    unit, zone = description.get("unit", "ns"), description.get("zone")
    if unit not in UNITS or not (zone is None or type(zone) is str):
        return False
    form = form_of(description)
    if form is None or (zone is not None and form.holds != ZONED):
        return False
    try:
        return zone is None or zone_of(zone) is not None
    except ValueError:
        return False


def _is_polars_date(description):
    return description["unit"] in ("ms", "us", "ns") and _is_date(description)


def _is_plain(description):
    return True


_OBJECTS = ("object", "|O", "Sparse[object, nan]")
_MAX_PRECISION = {
    "Decimal": 38, "decimal32": 9, "decimal64": 18, "decimal128": 38, "decimal256": 76
}  # fmt: skip
_INTEGER = r"u?int(8|16|32|64)"
_INDEX = rf"bool|boolean|object|string|(?i:{_INTEGER})|[fF]loat(32|64)"
"""Dtypes that an index of pandas can have."""
_UNIT = r"(s|ms|us|ns)"
_ARROW_INDEX = rf"{_INTEGER}|float|double|bool|string|large_string"
_DTYPES = {
    "numpy": {
        r"[<>|][biuf]\d{1,2}": (set(), _is_numeric),
        rf"[<>][Mm]8\[\d{{0,4}}([YMWDhm]|{_UNIT})\]": (set(), _is_date),
        r"\|O|[<>]U\d{1,6}|StringDType": (set(), _is_plain),
    },
    "pandas": {
        rf"bool|{_INTEGER}|float(16|32|64|96|128)|[<>][iuf]\d{{1,2}}": (set(), _is_numeric),
        rf"datetime64\[{_UNIT}\]": ({"zone"}, _is_date),
        rf"timedelta64\[{_UNIT}\]": (set(), _is_date),
        r"object|boolean|U?Int(8|16|32|64)|Float(32|64)": (set(), _is_plain),
        r"Sparse\[(bool, (True|False)|object, nan)\]": (set(), _is_plain),
        r"Sparse\[float(32|64), (nan|-?\d+(\.\d+)?(e[-+]?\d+)?)\]": (set(), _is_plain),
        rf"Sparse\[{_INTEGER}, -?\d{{1,20}}\]": (set(), _is_sparse),
        "category": ({"categories", "of", "ordered"}, _is_category),
        "string": ({"storage", "missing"}, _is_string),
        "arrow": ({"of"}, lambda description: _is_known("pyarrow", description["of"])),
    },
    "polars": {
        r"U?Int(8|16|32|64|128)|Float(16|32|64)|Boolean|String|Categorical|Null|Date|Time": (
            set(),
            _is_plain,
        ),
        "Enum": ({"categories"}, _is_enum),
        "Datetime": ({"unit", "zone"}, _is_polars_date),
        "Duration": ({"unit"}, _is_polars_date),
        "Decimal": ({"precision", "scale"}, _is_decimal),
    },
    "pyarrow": {
        rf"{_ARROW_INDEX}|halffloat|null|string_view": (set(), _is_plain),
        rf"timestamp\[{_UNIT}\]": ({"zone"}, _is_date),
        rf"date32\[day\]|date64\[ms\]|duration\[{_UNIT}\]": (set(), _is_date),
        r"time32\[m?s\]|time64\[[un]s\]": (set(), _is_date),
        "dictionary": ({"index", "of", "ordered"}, _is_dictionary),
        r"decimal(32|64|128|256)": ({"precision", "scale"}, _is_decimal),
    },
}
"""Patterns of dtype names, the other keys of their descriptions and checks of them, by library."""
