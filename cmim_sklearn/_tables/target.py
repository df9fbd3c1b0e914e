"""Reading of a target y: its classes or numbers, and the rows that have no label."""

import warnings
from decimal import Decimal
from fractions import Fraction
from numbers import Number
from typing import NamedTuple

import narwhals.stable.v2 as nw
import numpy as np
from scipy.sparse import issparse
from sklearn.exceptions import DataConversionWarning

from cmim_sklearn._utils.messages import listed, shown
from cmim_sklearn._utils.stacklevel import user_stacklevel

TARGET_TYPES = ("auto", "classification", "regression")
UNLABELLED = -1
"""Number that stands for a missing label in classification, as in scikit-learn."""
MAX_CLASSES, MIN_ROWS_OF_CLASS = 50, 10
"""Number of whole numbers above which, with fewer rows each, "auto" does not choose a type."""

SINGLE = "y must be 1-D, with one label for each row"
VALUES = "numbers, booleans or strings"
CONVERT = "Convert them first; dates, for example, to days since a fixed date."


class Target(NamedTuple):
    """Target of n rows.

    Attributes
    ----------
    kind : {"classification", "regression"}
    classes : array of shape (n_classes,) or None
        Classes, sorted, in the dtype of y; None for regression.
    codes : array of shape (n,), float64
        Position in `classes`, or the number; NaN where there is no label.
    mean, scale : float
        Mean and standard deviation of the numbers of a regression, 1 if they are constant. 0 and 1
        for classification.
    n_minus_one : int
        Number of rows without a label because they hold -1.
    """

    kind: str
    classes: np.ndarray | None
    codes: np.ndarray
    mean: float
    scale: float
    n_minus_one: int

    @property
    def is_labelled(self):
        """Mask (n,) of the rows with a label."""
        return ~np.isnan(self.codes)

    @property
    def n_classes(self):
        """Number of classes; 0 for regression."""
        return 0 if self.classes is None else len(self.classes)

    @property
    def standardised(self):
        """Codes (n,) of classes, or numbers minus mean, divided by scale."""
        return (self.codes - self.mean) / self.scale


def read_target(y, target_type="auto", n_rows=None, name="y") -> Target:
    """Read a target: a list, an array, or a column of pandas, polars or pyarrow.

    None, NaN, pd.NA and null mean that a row has no label. In classification -1 does, too. It is a
    class if other numbers are negative as well, or if the classes are exactly -1 and 1.

    Parameters
    ----------
    y : array-like of shape (n,)
    target_type : {"auto", "classification", "regression"}, default="auto"
        "auto": regression if a number is not whole, or so large that its dtype has no fractions
        there (above 2**53 in float64); else classification.
    n_rows : int, default=None
        Number of rows of the table, to check the length.
    name : str, default="y"
        Name of the target in messages.

    Raises
    ------
    ValueError
        If y has several columns, another length than `n_rows`, no labelled row or an infinite
        number; if it does not fit the `target_type`; under "auto", if it has more than 50 whole
        numbers with fewer than 10 rows each on average.
    TypeError
        If y holds dates, bytes or nested values, or strings and numbers.

    Warns
    -----
    DataConversionWarning
        If y is a table or an array of one column.
    """
    values, is_labelled = _read(y, n_rows, name)
    kind = _kind(values, target_type, name)
    n_minus_one = 0
    if kind == "classification":
        labels, is_minus_one = _without_minus_one(values)
        n_minus_one = int(is_minus_one.sum())
        is_labelled[np.flatnonzero(is_labelled)[is_minus_one]] = False
        _check_some(labels, name)
        if target_type == "auto":
            _check_is_classes(labels, name)
        classes, found = np.unique(labels, return_inverse=True)
        mean, scale = 0.0, 1.0
    else:
        classes, found = None, _as_floats(values)
        mean, scale = _moments(found)
    codes = np.full(len(is_labelled), np.nan)
    codes[is_labelled] = found
    return Target(kind, classes, codes, mean, scale, n_minus_one)


def read_like(target, y, n_rows=None, name="y_val") -> Target:
    """Read the target of other rows by the classes, mean and scale of a target.

    Rows of other classes count as unlabelled. All rows may be without a label.

    Raises
    ------
    ValueError
        If there are labels, but none is a class of the target; and as `read_target` does.
    TypeError
        As `read_target` does.

    Warns
    -----
    UserWarning
        If some labels are no classes of the target.
    """
    values, is_labelled = _read(y, n_rows, name, may_be_empty=True)
    codes = np.full(len(is_labelled), np.nan)
    if target.classes is None:
        codes[is_labelled] = _numbers(values, name)
    else:
        places = {label: i for i, label in enumerate(target.classes.tolist())}
        labels = [v for v in values.tolist() if v in places or v != UNLABELLED]
        _check_are_classes(labels, target.classes, name)
        codes[is_labelled] = [places.get(label, np.nan) for label in values.tolist()]
    return target._replace(codes=codes, n_minus_one=0)


def _check_are_classes(labels, classes, name):
    """Raise if no label is a class; warn if some are none."""
    known = set(classes.tolist())
    others = [label for label in labels if label not in known]
    if not others:
        return
    example, some = shown(others[0]), listed(classes[:3].tolist())
    if len(others) == len(labels):
        raise ValueError(
            f"{name} must hold classes of y, such as {some}; got {example}. Convert its labels to "
            "the type of y, or set them to None."
        )
    warnings.warn(
        f"{len(others)} of {len(labels)} labels of {name}, such as {example}, are no classes of y, "
        "and count as missing.",
        UserWarning,
        stacklevel=user_stacklevel(),
    )


def _read(y, n_rows, name, *, may_be_empty=False):
    """Labels of the rows that are not missing, of one dtype; and the mask (n,) of these rows."""
    values, is_labelled = _present(y, name)
    if n_rows is not None and len(is_labelled) != n_rows:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: {name} must have one "
            f"label for each of {n_rows} rows; got {len(is_labelled)}."
        )
    if not may_be_empty:
        _check_some(values, name)
    if values.dtype.kind == "f" and np.isinf(values).any():
        raise ValueError(
            f"Input {name} contains infinity or a value too large for dtype('float64'). Replace "
            "it, or set it to NaN: the row then has no label."
        )
    return values, is_labelled


def _check_some(labels, name):
    if not len(labels):
        raise ValueError(
            f"{name} has no labelled row: all values are missing or {UNLABELLED}. Pass labels for "
            "some rows, or set label_weight=0 in an encoder."
        )


# -- libraries -------------------------------------------------------------------------------------


def _present(y, name):
    """Values that are not missing, and the mask (n,) of their rows."""
    if issparse(y):
        raise TypeError(
            f"{name} must be a dense array; got a sparse one. Pass y.toarray().ravel()."
        )
    if not hasattr(y, "__len__") and hasattr(y, "__array__"):
        y = np.asarray(y)
    if isinstance(y, str | bytes | dict) or not hasattr(y, "__len__"):
        raise TypeError(f"{name} must be a list, an array or a column; got {shown(y)}.")
    shape = getattr(y, "shape", ())
    if len(shape) == 2:
        _check_one_column(shape[1], name)  # before narwhals, which rejects equal names
    native = nw.from_native(y, allow_series=True, pass_through=True)
    if isinstance(native, nw.DataFrame):
        native = native[native.columns[0]]
    if isinstance(native, nw.Series):
        return _of_series(native, name)
    is_array = hasattr(y, "dtype")
    values = y if is_array else np.array(y, dtype=object)
    values = values if np.ma.isMaskedArray(values) else np.asarray(values)
    if values.ndim == 2:
        if not shape:
            _check_one_column(values.shape[1], name)
        values = values[:, 0]
    if values.ndim != 1:
        raise ValueError(f"{SINGLE}; got {name} of shape {values.shape}.")
    if np.ma.isMaskedArray(values):
        is_labelled = ~np.ma.getmaskarray(values)
        labels, rest = _of_array(values.data[is_labelled], name, is_array)
        is_labelled[is_labelled] = rest
        return labels, is_labelled
    return _of_array(values, name, is_array)


def _check_one_column(n_columns, name):
    """Raise for several columns; warn of one, as scikit-learn does."""
    if n_columns != 1:
        raise ValueError(
            f"{SINGLE}; got {name} of {n_columns} columns. Pass one of them, or fit an encoder for "
            "each."
        )
    warnings.warn(
        f"A column-vector {name} was passed when a 1d array was expected. Please change the shape "
        "of y to (n_samples,), for example using ravel().",
        DataConversionWarning,
        stacklevel=user_stacklevel(),
    )


def _of_series(series, name):
    dtype = series.dtype
    if dtype.is_temporal() or dtype == nw.Binary or dtype.is_nested():
        raise TypeError(f"{name} must hold {VALUES}; got {dtype} values. {CONVERT}")
    is_labelled = ~series.is_null().to_numpy().astype(bool)
    series = series.filter(is_labelled.tolist())
    if dtype.is_numeric() and not dtype.is_decimal():
        values = series.to_numpy()
    elif dtype == nw.Boolean:
        values = np.array(series.to_list(), dtype=bool)
    else:
        values = np.empty(len(series), dtype=object)
        values[:] = series.to_list()
    labels, rest = _of_array(values, name, True)
    is_labelled[is_labelled] = rest
    return labels, is_labelled


def _of_array(values, name, keeps_objects):
    """Values of an array that are not missing, of one dtype, and the mask of their rows.

    Strings of an object array stay objects with `keeps_objects`, as in scikit-learn.
    """
    kind = values.dtype.kind
    if kind == "f":
        is_labelled = ~np.isnan(values)
        return values[is_labelled], is_labelled
    if kind in "biuU":
        return values, np.ones(len(values), dtype=bool)
    if kind not in "OT":
        raise TypeError(f"{name} must hold {VALUES}; got {values.dtype} values. {CONVERT}")
    listed_values = values.tolist()
    is_labelled = np.array([not _is_missing(v) for v in listed_values], dtype=bool)
    labels = [v for v, present in zip(listed_values, is_labelled, strict=True) if present]
    return _of_one_type(labels, name, keeps_objects), is_labelled


def _is_missing(value):
    if isinstance(value, Decimal):
        return value.is_nan()
    is_nan = isinstance(value, float | np.floating) and value != value
    return value is None or is_nan or type(value).__name__ in ("NAType", "NaTType")


def _of_one_type(labels, name, keeps_objects):
    """Python objects as an array of booleans, whole numbers, floats or strings.

    -1 may occur among strings: the labels then are an object array.
    """
    found = set(map(type, labels))
    for kind in found:
        is_value = issubclass(kind, str | bool | np.bool_ | Number | Decimal)
        if not is_value or issubclass(kind, complex | np.complexfloating):
            raise TypeError(f"{name} must hold {VALUES}; got {kind.__name__} values. {CONVERT}")
    strings = {kind for kind in found if issubclass(kind, str)}
    if strings:
        others = [v for v in labels if not isinstance(v, str) and v != UNLABELLED]
        if others:
            raise TypeError(
                f"{name} must hold values of one type; got strings and {shown(others[0])}. Convert "
                f"all labels to strings, and leave out {UNLABELLED} and missing ones."
            )
        if keeps_objects or found - strings:
            objects = np.empty(len(labels), dtype=object)
            objects[:] = labels
            return objects
        return np.array(labels, dtype=str)
    booleans = {kind for kind in found if issubclass(kind, bool | np.bool_)}
    if found and booleans == found:
        return np.array(labels, dtype=bool)
    exact = {k for k in found if issubclass(k, int | np.integer | Decimal | Fraction)}
    if exact and exact | booleans == found:
        whole = [int(v) for v in labels if -(2**63) < v < 2**63 and v == int(v)]
        if len(whole) == len(labels):
            return np.array(whole, dtype=np.int64)
    return np.array([_as_float(v) for v in labels], dtype=np.float64)


def _as_float(value):
    try:
        return float(value)
    except OverflowError:
        return np.inf


# -- types of targets ------------------------------------------------------------------------------


def _are_whole(values):
    """Whether all floats are whole."""
    return bool((values == np.floor(values)).all())


def _have_fractions(values):
    """Whether floats are so small that their dtype has fractions there: below 2**53 in float64."""
    return bool((np.abs(values) < 2 / np.finfo(values.dtype).eps).all())


def _kind(values, target_type, name):
    """Type of a target; raises if it is not the given one."""
    if target_type == "regression":
        _numbers(values, name)
        return target_type
    is_float = values.dtype.kind == "f"
    is_continuous = is_float and not _are_whole(values)
    if target_type == "classification" and is_continuous:
        fraction = values[values != np.floor(values)][0]
        raise ValueError(
            f"Unknown label type: continuous. {name} must hold classes, for "
            f"target_type='classification'; got {shown(float(fraction))}. Convert numbers to "
            "classes, or set target_type='regression'."
        )
    if target_type == "auto" and is_float and not _have_fractions(values):
        return "regression"
    return "regression" if is_continuous else "classification"


def _numbers(values, name):
    """Labels of a regression as floats."""
    if values.dtype.kind in "UO":
        text = next(v for v in values.tolist() if isinstance(v, str))
        raise ValueError(
            f"{name} must hold numbers, for target_type='regression'; got {shown(text)}. Set "
            "target_type='classification'."
        )
    return _as_floats(values)


def _as_floats(values):
    return values.astype(np.float64)


def _without_minus_one(values):
    """Labels other than -1, of one dtype, and the mask of -1 in the values."""
    if values.dtype.kind == "O":
        is_minus_one = np.array([not isinstance(v, str) for v in values.tolist()], dtype=bool)
        return values[~is_minus_one], is_minus_one
    if values.dtype.kind not in "if":
        return values, np.zeros(len(values), dtype=bool)
    is_minus_one = values == UNLABELLED
    others = values[~is_minus_one]
    is_class = (others < 0).any() or (len(others) and (others == 1).all())
    if is_class:
        return values, np.zeros(len(values), dtype=bool)
    return others, is_minus_one


def _check_is_classes(labels, name):
    """Raise if whole numbers may be either classes or quantities."""
    if labels.dtype.kind not in "iuf":
        return
    found = np.unique(labels)
    if len(found) > MAX_CLASSES and len(labels) < MIN_ROWS_OF_CLASS * len(found):
        raise ValueError(
            f"{name} holds {len(found)} whole numbers in {len(labels)} rows, such as "
            f"{listed(found[:3].tolist())}, which may be classes or quantities. Set target_type to "
            "'classification' or 'regression'."
        )


def _moments(numbers):
    """Mean and standard deviation of numbers, 1 if they are constant; without overflow."""
    largest = float(np.abs(numbers).max()) or 1.0
    scaled = numbers / largest
    deviation = float(scaled.std()) * largest if (numbers != numbers[0]).any() else 0.0
    return float(scaled.mean()) * largest, deviation or 1.0
