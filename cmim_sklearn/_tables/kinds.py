"""Choice of the kind of each column, from its values and the parameters of an encoder."""

from numbers import Integral

import numpy as np

from cmim_sklearn._likelihoods import LIKELIHOODS
from cmim_sklearn._likelihoods.clock import ClockSummary
from cmim_sklearn._likelihoods.summary import ColumnSummary
from cmim_sklearn._tables.date_texts import date_example, looks_like_dates
from cmim_sklearn._tables.dtypes import is_same_name
from cmim_sklearn._tables.moments import DATETIME, DURATION, MOMENTS
from cmim_sklearn._tables.read import BOOLEAN, CATEGORY, NUMBER, Frame, column_name
from cmim_sklearn._tables.wide import distinct
from cmim_sklearn._utils.messages import listed, shown

HELD = {
    NUMBER: "numbers", BOOLEAN: "booleans", CATEGORY: "categories", DATETIME: "dates",
    DURATION: "durations",
}  # fmt: skip
"""Names of the values of a column in messages, by its type."""


DECLARED = ("category", "Categorical", "Enum", "dictionary")
"""Dtypes of columns that were declared to be categories."""


def choose_kinds(frame: Frame, categorical_features="from_dtype", likelihoods=None, summaries=None):
    """Choose the kind of each column, a key of `LIKELIHOODS`; parameters as in `Table.fit`."""
    n_columns, names = len(frame.columns), frame.layout.names
    kinds = [
        _default_kind(values, kind, summaries and summaries[p])
        for p, (values, kind) in enumerate(zip(frame.columns, frame.types, strict=True))
    ]
    for position in _categorical_positions(categorical_features, names, n_columns):
        _check_kind("categorical", column_name(names, position), frame.types[position])
        kinds[position] = "categorical"
    for key, kind in (likelihoods or {}).items():
        position = column_position(key, names, n_columns, "likelihoods")
        _check_kind(kind, key, frame.types[position])
        kinds[position] = kind
    return kinds


def unparsed_dates(frame: Frame, categorical_features="from_dtype", likelihoods=None):
    """Columns of strings that look like dates, by name, with an example; not declared ones."""
    n_columns, names, found = len(frame.columns), frame.layout.names, {}
    declared = set(_categorical_positions(categorical_features, names, n_columns))
    declared |= {column_position(k, names, n_columns, "likelihoods") for k in likelihoods or ()}
    for p, (kind, values) in enumerate(zip(frame.types, frame.columns, strict=True)):
        of = frame.layout.dtype_of(p)
        of = of["of"] if of["dtype"] == "arrow" else of
        is_open = kind == CATEGORY and of["dtype"] not in DECLARED and p not in declared
        if is_open and looks_like_dates(values):
            found[frame.name(p)] = date_example(values)
    return found


def new_summaries(frame: Frame, kinds):
    """Empty summaries of the columns of a frame, one for each, to which their values are added."""
    return [
        ClockSummary(frame.zone(p))
        if LIKELIHOODS[kind].takes in MOMENTS
        else ColumnSummary(kind == "categorical")
        for p, kind in enumerate(kinds)
    ]


def _default_kind(values, kind, summary):
    if kind == CATEGORY or kind in MOMENTS:
        return "categorical" if kind == CATEGORY else kind
    found = distinct(values) if summary is None else summary.distinct
    return "bernoulli" if kind == BOOLEAN or len(found) == 2 else "gaussian"


def with_constants(frame, kinds, summaries):
    """Kinds and summaries in which columns with one value have a kind that generates only it.

    Two-valued columns become levels, and counts become numbers.
    """
    kinds, summaries = list(kinds), summaries and list(summaries)
    for p, kind in enumerate(kinds):
        if kind not in ("bernoulli", "poisson"):
            continue
        values = list(summaries[p].distinct if summaries else distinct(frame.columns[p]))
        if len(values) != 1:
            continue
        if kind == "bernoulli":
            kinds[p] = "categorical"
            if summaries:
                summaries[p] = summaries[p].as_level()
        elif values[0] >= 0 and values[0] == int(values[0]):
            kinds[p] = "gaussian"
    return kinds, summaries


def _check_kind(kind, key, column_type):
    if kind not in list(LIKELIHOODS):
        raise ValueError(
            f"`likelihoods` must map columns to {sorted(LIKELIHOODS)}; got {kind!r} for column "
            f"{key!r}."
        )
    takes = LIKELIHOODS[kind].takes
    if column_type in MOMENTS and takes != column_type:
        raise ValueError(
            f"`likelihoods` and `categorical_features`: column {key!r} holds dates or durations, "
            f"which are {column_type!r}; got {kind!r}. Convert the column to numbers or strings, "
            "or remove it from the parameter."
        )
    if takes in MOMENTS and takes != column_type:
        raise ValueError(
            f"`likelihoods`: {kind!r} needs {HELD[takes]}, but column {key!r} holds "
            f"{HELD[column_type]}. Convert the column, for example with pandas.to_datetime, or "
            "remove it from `likelihoods`."
        )
    if column_type == CATEGORY and takes != CATEGORY:
        raise ValueError(
            f"`likelihoods`: {kind!r} needs numbers, but column {key!r} holds categories. Convert "
            "the column to numbers, or remove it from `likelihoods`."
        )


def _categorical_positions(categorical_features, names, n_columns):
    if categorical_features is None or isinstance(categorical_features, str):
        if categorical_features not in (None, "from_dtype"):
            raise ValueError(
                "The 'categorical_features' parameter must be 'from_dtype', None, or an array of "
                f"column names, positions or booleans. Got {categorical_features!r} instead."
            )
        return []
    keys = [k.item() if isinstance(k, np.generic) else k for k in categorical_features]
    if any(isinstance(key, bool) for key in keys):
        if len(keys) != n_columns:
            raise ValueError(
                "The 'categorical_features' parameter, as an array of booleans, must have one "
                f"entry for each of the {n_columns} columns. Got {len(keys)} entries instead."
            )
        return [p for p, is_categorical in enumerate(keys) if is_categorical]
    return [column_position(key, names, n_columns, "categorical_features") for key in keys]


def column_position(key, names, n_columns, parameter, *, only_names=False):
    """Position of the column that a parameter names by its name or position.

    An integer is a position if the columns have no names, or only strings, as in scikit-learn.
    With `only_names` it is one only if they have none.

    Raises
    ------
    ValueError
        If there is no such column, with the parameter and the columns that exist.
    """
    for position, name in enumerate(names or ()):
        if is_same_name(name, key):
            return position
    has_positions = names is None or (
        not only_names and all(isinstance(name, str) for name in names)
    )
    if has_positions and isinstance(key, Integral) and -n_columns <= key < n_columns:
        return int(key) % n_columns
    known = f"[{listed(names)}]" if names is not None else f"positions 0 to {n_columns - 1}"
    raise ValueError(f"`{parameter}`: X has no column {shown(key)}. Columns of X: {known}.")
