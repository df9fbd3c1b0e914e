"""Reading of a target y."""

from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from scipy.sparse import csr_array
from sklearn.exceptions import DataConversionWarning

from cmim_sklearn._tables.target import read_like, read_target
from tests.helpers import objects

NAN = np.nan


class Wrapped:
    """Object that numpy converts, and that has no length."""

    def __array__(self, dtype=None, copy=None):
        return np.array([3, 1], dtype)


CLASSES = [
    ([0, 2, 0], [0, 2], [0, 1, 0]),
    ([3, None, 1], [1, 3], [1, NAN, 0]),
    (Wrapped(), [1, 3], [1, 0]),
    ([3, NAN, 1], [1, 3], [1, NAN, 0]),
    (np.array([3.0, NAN, 1.0]), [1.0, 3.0], [1, NAN, 0]),
    (np.array([2, -1, 0, 1], np.int8), [0, 1, 2], [2, NAN, 0, 1]),
    (np.array([-1, 1, -1]), [-1, 1], [0, 1, 0]),
    ([-1, 1, None], [-1, 1], [0, 1, NAN]),
    ([-1, 0, 0], [0], [NAN, 0, 0]),
    ([-1.0, 0.0, 2.0], [0.0, 2.0], [NAN, 0, 1]),
    ([-1, -2, 0], [-2, -1, 0], [1, 0, 2]),
    (np.array([-1.0, 1.0, -3.0]), [-3.0, -1.0, 1.0], [1, 2, 0]),
    ([2**54, 1], [1, 2**54], [1, 0]),
    ([True, False, None], [False, True], [1, 0, NAN]),
    (np.array([True, False]), [False, True], [1, 0]),
    (["b", "a", "-1"], ["-1", "a", "b"], [2, 1, 0]),
    (["b", "a", -1], ["a", "b"], [1, 0, NAN]),
    (np.array(["b", "a"]), ["a", "b"], [1, 0]),
    (objects("b", None, "a", NAN, pd.NA, pd.NaT, -1), ["a", "b"], [1, NAN, 0, *[NAN] * 4]),
    (objects(1, 2.0, None), [1.0, 2.0], [0, 1, NAN]),
    ([Decimal(2), Decimal("NaN"), Decimal(1)], [1, 2], [1, NAN, 0]),
    (np.ma.array([5, 7, 5], mask=[False, True, False]), [5], [0, NAN, 0]),
    (np.array([2**63, 1], np.uint64), [1, 2**63], [1, 0]),
    (pd.Series([3, None, 1], dtype="Int64"), [1, 3], [1, NAN, 0]),
    (pd.Series([True, None], dtype="boolean", index=[5, 5]), [True], [0, NAN]),
    (pd.Series(["b", None, "a"], dtype="string"), ["a", "b"], [1, NAN, 0]),
    (pd.Series(["b", None, "a"], dtype="category"), ["a", "b"], [1, NAN, 0]),
    (pd.Series([7, 3], dtype="category"), [3, 7], [1, 0]),
    (pd.Series(["b", None, "a"]), ["a", "b"], [1, NAN, 0]),
    (pd.Categorical(["b", None, "a"]), ["a", "b"], [1, NAN, 0]),
    (pl.Series([3, None, 1]), [1, 3], [1, NAN, 0]),
    (pl.Series([3.0, NAN, None]), [3.0], [0, NAN, NAN]),
    (pl.Series(["b", None, "a"], dtype=pl.Categorical), ["a", "b"], [1, NAN, 0]),
    (pl.Series([True, None]), [True], [0, NAN]),
    (pa.chunked_array([["b", None, "a"]]), ["a", "b"], [1, NAN, 0]),
    (pa.chunked_array([[3, None], [1]]), [1, 3], [1, NAN, 0]),
    (pa.array(["b", None]), ["b"], [0, NAN]),
    (pa.chunked_array([pa.array(["b", None, "a"]).dictionary_encode()]), ["a", "b"], [1, NAN, 0]),
]  # fmt: skip


@pytest.mark.parametrize(("y", "classes", "codes"), CLASSES)
def test_classes_of_any_library_are_read(y, classes, codes):
    target = read_target(y)
    assert (target.kind, target.mean, target.scale) == ("classification", 0.0, 1.0)
    assert target.classes.tolist() == classes
    assert target.classes.tolist() == sorted(classes)
    np.testing.assert_array_equal(target.codes, codes)
    assert target.codes.dtype == np.float64
    np.testing.assert_array_equal(read_like(target, y).codes, codes)


@pytest.mark.parametrize(
    "y",
    [
        np.array([3, 1], np.int16), np.array([3.0, 1.0], np.float32), np.array(["a", "bc"]),
        np.array([True]), objects("a", "b"), np.array([2**63, 1], np.uint64),
    ],
)  # fmt: skip
def test_classes_have_the_dtype_of_y(y):
    assert read_target(y).classes.dtype == y.dtype


@pytest.mark.parametrize(
    "y",
    [
        [0.5, None, 1.5], np.array([0.5, NAN, 1.5]), pd.Series([0.5, None, 1.5], dtype="Float64"),
        pl.Series([0.5, NAN, 1.5]), pa.chunked_array([[0.5, None, 1.5]]),
        [Decimal("0.5"), None, Decimal("1.5")],
        pa.chunked_array([[Decimal("0.5"), None, Decimal("1.5")]]),
    ],
)  # fmt: skip
def test_numbers_that_are_not_whole_are_a_regression(y):
    target = read_target(y)
    assert (target.kind, target.classes, target.mean, target.scale) == ("regression", None, 1, 0.5)
    np.testing.assert_array_equal(target.codes, [0.5, NAN, 1.5])
    np.testing.assert_array_equal(target.standardised, [-1, NAN, 1])
    np.testing.assert_array_equal(read_like(target, y).codes, target.codes)


def test_minus_one_is_a_number_in_a_regression():
    target = read_target([-1, 1, 3], "regression")
    assert target.codes.tolist() == [-1, 1, 3]
    assert target.n_minus_one == 0
    assert read_target([-1, 0.5]).codes.tolist() == [-1, 0.5]


def test_rows_without_a_label_because_of_minus_one_are_counted():
    assert read_target([-1, 0, 1, -1, None]).n_minus_one == 2
    assert read_target([-1, 1, -1]).n_minus_one == 0
    assert read_target([-1, -2, -3, 0]).n_minus_one == 0


def test_moments_do_not_overflow():
    target = read_target([-1.5e305, 1.5e305], "regression")
    assert (target.mean, target.scale) == (0.0, 1.5e305)
    assert read_target([0.1] * 3).scale == 1.0


def test_one_column_is_read_with_the_warning_of_scikit_learn():
    for y in (np.array([[1], [2]]), pd.DataFrame({"y": [1, 2]}), [[1], [2]]):
        with pytest.warns(DataConversionWarning, match="column-vector y was passed"):
            assert read_target(y).codes.tolist() == [0, 1]


@pytest.mark.parametrize("y", [[1e17, 5.0], np.array([2**24 + 2, 5], np.float32), [2**64, 1]])
def test_floats_without_fractions_are_no_evidence_of_classes(y):
    assert read_target(y).kind == "regression"
    assert read_target(y, "classification").n_classes == 2


def test_other_classes_of_other_rows_are_unlabelled():
    target = read_target(["a", "b"])
    match = "1 of 2 labels of y_val, such as 'c', are no classes of y"
    with pytest.warns(UserWarning, match=match):
        found = read_like(target, ["b", "c", None, -1])
    np.testing.assert_array_equal(found.codes, [1, NAN, NAN, NAN])
    for y in ([None], [-1]):
        assert np.isnan(read_like(target, y).codes).all()


@pytest.mark.parametrize(("y", "other"), [([0, 1], "1"), (["0", "1"], 1), ([0, 1], 5)])
def test_labels_of_which_none_is_a_class_raise(y, other):
    match = f"y_val must hold classes of y, such as {y[0]!r}, {y[1]!r}; got {other!r}"
    with pytest.raises(ValueError, match=match):
        read_like(read_target(y), [other, None])


def test_whole_numbers_of_many_values_need_a_type():
    y = np.arange(600) % 61
    match = "y holds 61 whole numbers in 600 rows, such as 0, 1, 2, which may be"
    with pytest.raises(ValueError, match=match):
        read_target(y)
    assert read_target(y, "classification").n_classes == 61
    assert read_target(y, "regression").n_classes == 0
    assert read_target(np.arange(610) % 61).n_classes == 61


@pytest.mark.parametrize(
    ("y", "kind", "match"),
    [
        ([None, NAN, -1], "auto", "y has no labelled row"),
        ([], "auto", "y has no labelled row"),
        ([NAN], "regression", "y has no labelled row"),
        ([1.0, np.inf], "auto", "Input y contains infinity"),
        ([10**400, 1], "regression", "Input y contains infinity"),
        ([Decimal("Infinity"), Decimal(1)], "auto", "Input y contains infinity"),
        ([Decimal("-Infinity"), 1], "regression", "Input y contains infinity"),
        ([0.5, 1], "classification", "Unknown label type: continuous.*; got 0.5"),
        (["a"], "regression", "y must hold numbers, .*; got 'a'"),
        ([[1, 2], [3, 4]], "auto", "y must be 1-D.*; got y of 2 columns"),
        (pd.DataFrame({"a": [1], "b": [2]}), "auto", "y must be 1-D.*; got y of 2 columns"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "auto", "got y of 2 columns"),
        (pa.table([[1], [2]], names=["a", "a"]), "auto", "got y of 2 columns"),
        (np.zeros((2, 1, 1)), "auto", r"y must be 1-D.*; got y of shape \(2, 1, 1\)"),
    ],
)
def test_targets_that_do_not_fit_raise(y, kind, match):
    with pytest.raises(ValueError, match=match):
        read_target(y, kind)


@pytest.mark.parametrize(
    ("y", "match"),
    [
        (["a", 2], "y must hold values of one type; got strings and 2"),
        (np.array(["2020-01-01"], "M8[D]"), "y must hold numbers, booleans or strings"),
        (pd.Series(pd.to_datetime(["2020-01-01"])), "y must hold numbers.*got Datetime"),
        (pl.Series([[1], [2]]), "y must hold numbers, .*got List"),
        ([b"a"], "got bytes values"),
        ([[1, 2], [3]], "got list values"),
        ([1j], "got complex values"),
        (csr_array([[1], [0]]), "y must be a dense array"),
        ("abc", "y must be a list, an array or a column; got 'abc'"),
        (3, "y must be a list, an array or a column; got 3"),
    ],
)
def test_values_that_are_no_labels_raise(y, match):
    with pytest.raises(TypeError, match=match):
        read_target(y)


def test_another_length_than_that_of_the_table_raises():
    match = "inconsistent numbers of samples: y must have one label for each of 3 rows; got 2"
    with pytest.raises(ValueError, match=match):
        read_target([1, 2], n_rows=3)
