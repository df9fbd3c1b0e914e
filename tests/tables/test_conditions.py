"""Conditions of `sample`: columns, levels and values that are accepted or rejected."""

import datetime
import re

import numpy as np
import pandas as pd
import pytest
import torch

from cmim_sklearn._tables.conditions import impose_conditions, read_conditions
from cmim_sklearn._tables.read import read
from cmim_sklearn._tables.schema import Table


def test_a_frame_may_have_some_columns_but_an_array_needs_all(mixed):
    table = Table.fit(read(mixed))
    frame = read_conditions(table, mixed[["city", "age"]][:3])
    np.testing.assert_array_equal(frame.columns[list(mixed).index("age")], mixed["age"][:3])
    assert np.isnan(frame.columns[list(mixed).index("income")].astype(float)).all()
    with pytest.raises(ValueError, match=r"must have all 8 columns .*got 2 columns"):
        read_conditions(table, np.zeros((3, 2)))


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        ({"city": "Paris"}, "city", "Paris"),
        ({"flag": 5}, "flag", 5),
        ({"word": "x", "city": "Bonn"}, "city", "Bonn"),
    ],
)
def test_unknown_levels_are_named(mixed, given, name, value):
    table = Table.fit(read(mixed))
    with pytest.raises(
        ValueError, match=rf"unknown level {value!r} for column {name!r}\. Levels seen in fit: "
    ):
        read_conditions(table, given)
    with pytest.raises(
        ValueError, match=rf"unknown level {value!r} for column {name!r}\. Levels seen in fit: "
    ):
        read_conditions(table, pd.DataFrame([given]))


@pytest.mark.parametrize("make", [np.array, np.float32, torch.tensor, float])
def test_scalars_of_numpy_and_torch_are_accepted(mixed, make):
    table = Table.fit(read(mixed))
    frame = read_conditions(table, {"age": make(40.0), "city": np.array("Rome")})
    assert frame.columns[list(mixed).index("age")].tolist() == [40.0]
    assert frame.columns[list(mixed).index("city")].tolist() == ["Rome"]


@pytest.mark.parametrize("value", [datetime.date(2020, 1, 1), b"x", 1j])
def test_dates_bytes_and_complex_numbers_name_the_column(mixed, value):
    with pytest.raises((TypeError, ValueError), match="olumn 'age'"):
        read_conditions(Table.fit(read(mixed)), {"age": value})


def test_missing_values_are_not_conditions(mixed):
    table = Table.fit(read(mixed))
    frame = read_conditions(table, {"city": "Oslo", "age": 30})
    given = {frame.name(p): v[0] for p, v in enumerate(frame.columns) if v[0] == v[0]}
    assert {k: v for k, v in given.items() if v is not None} == {"city": "Oslo", "age": 30.0}
    nothing = read_conditions(table, {"city": None, "age": np.nan})
    assert np.isnan(
        table.measure(nothing)[:, [c.start for c in map(table.cells_of, range(8))]]
    ).all()


@pytest.mark.parametrize("empty", [None, np.nan, pd.NA])
@pytest.mark.parametrize("value", ["x", 3.0, 2.5])
def test_columns_without_any_value_in_fit_cannot_be_conditions(empty, value):
    X = pd.DataFrame({"t": pd.Series([empty] * 4, dtype=object), "v": [1.0, 2, 3, 4]})
    for table in (Table.fit(read(X)), Table.fit(read(X), categorical_features=["t"])):
        message = rf"column 't' held no value in fit; got {value!r}\. Remove it"
        for given in ({"t": value}, pd.DataFrame({"v": [1.0, 2.0], "t": [None, value]})):
            with pytest.raises(ValueError, match=message):
                read_conditions(table, given)
        frame = read_conditions(table, {"t": None, "v": 2.0})
        assert np.isnan(table.measure(frame)[0, table.cells_of(0)]).all()


CONSTANTS = {
    "flag": (True, False, "unknown level False .*fit: True"),
    "off": (np.bool_(False), True, "unknown level True .*fit: False"),
    "number": (3, 4, "'number' was constant in fit, 3.0; got 4.0"),
    "real": (0.1, 0.1 + 1e-9, r"'real' was constant in fit, 0.1; got 0.100000001"),
    "single": (0.1, 0.11, r"'single' was constant in fit, 0.1000000\d+; got 0.11"),
    "word": ("w", "x", "unknown level 'x' .*fit: 'w'"),
    "count": (5, 6, "'count' was constant in fit, 5.0; got 6.0"),
    "coin": (7, 8, "unknown level 8 .*fit: 7"),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_constant_columns_take_the_constant_only(name):
    value, other, message = CONSTANTS[name]
    X = pd.DataFrame({key: [value] * 4 for key, (value, _, _) in CONSTANTS.items()})
    X = X.astype({"single": "float32"}).assign(v=[1.0, 2, 3, 5])
    likelihoods = {"count": "poisson", "coin": "bernoulli"}
    table = Table.fit(read(X), likelihoods=likelihoods)
    for given in ({name: value}, {name: None}, X[[name]], X):
        read_conditions(table, given)
    for given in ({name: other}, X[[name]].assign(**{name: other}), X.assign(**{name: other})):
        with pytest.raises(ValueError, match=message):
            read_conditions(table, given)


def test_only_one_value_per_column_in_a_dict(mixed):
    with pytest.raises(ValueError, match=r"`conditions\['age'\]` must be a single value; got 2"):
        read_conditions(Table.fit(read(mixed)), {"age": [30, 40]})


@pytest.mark.parametrize("value", [[1, [2, 3]], (), {"a": 1}, np.ones((2, 1)), pd.Series([1.0])])
def test_nested_and_long_values_are_no_conditions(mixed, value):
    message = rf"`conditions\['age'\]` must be a single value; got {len(value)} values"
    with pytest.raises(ValueError, match=message):
        read_conditions(Table.fit(read(mixed)), {"age": value})


def frame_named(names):
    X = pd.DataFrame({"a": np.arange(6.0), "b": np.arange(6.0) ** 2, "c": ["x", "y"] * 3})
    return X.set_axis(pd.Index(names, dtype=object), axis=1)


@pytest.mark.parametrize("names", [[10, 20, 30], ["a", "b", "c"]])
@pytest.mark.parametrize("make", [dict, lambda given: pd.DataFrame(given, index=[0])])
def test_columns_with_names_have_no_positions_in_conditions(names, make):
    table = Table.fit(read(frame_named(names)))
    with pytest.raises(ValueError, match=r"X has no column 1\. Columns of X"):
        read_conditions(table, make({1: 4.0}))
    frame = read_conditions(table, make({names[1]: 4.0}))
    assert frame.columns[1].tolist() == [4.0]


def test_two_conditions_of_one_column_raise():
    table = Table.fit(read(frame_named(["a", "b", "c"]).to_numpy()))
    with pytest.raises(ValueError, match="one value for each column; got -2 and another key"):
        read_conditions(table, {1: 4.0, -2: 1.0})
    with pytest.raises(ValueError, match="one column for each of X; got -2 and another name"):
        read_conditions(table, pd.DataFrame({1: [4.0], -2: [1.0]}))


def test_a_frame_needs_a_row(mixed):
    with pytest.raises(ValueError, match="must have at least one row; got 0 rows"):
        read_conditions(Table.fit(read(mixed)), mixed[["age"]][:0])


@pytest.mark.parametrize(
    ("given", "bounds"),
    [
        ({"age": 40.5}, "-9223372036854775808 to"),
        ({"age": 1e30}, "-9223372036854775808 to"),
        ({"visits": -1}, "0 to 9223372036854775807"),
        ({"score": 1e39}, r"-3.40\d+e\+38 to 3.40\d+e\+38"),
    ],
)
def test_numbers_must_fit_the_dtype_and_integers_and_counts_be_whole(mixed, given, bounds):
    table = Table.fit(read(mixed), likelihoods={"visits": "poisson"})
    ((name, value),) = given.items()
    match = rf"{name!r} must be a (whole )?number from {bounds}.*; got {re.escape(f'{value:g}')}\.$"
    with pytest.raises(ValueError, match=match):
        read_conditions(table, given)


def test_imposed_conditions_overwrite_only_the_given_cells(mixed):
    table = Table.fit(read(mixed))
    given = read_conditions(table, pd.DataFrame({"age": [30, None], "city": [None, "Oslo"]}))
    columns = read(mixed[:4]).columns
    out = impose_conditions(columns, given, np.array([0, 0, 1, 1]))
    age, city = list(mixed).index("age"), list(mixed).index("city")
    assert out[age].tolist() == [30, 30, *columns[age][2:]]
    assert out[city].tolist() == [*columns[city][:2], "Oslo", "Oslo"]
    for p in set(range(8)) - {age, city}:
        np.testing.assert_array_equal(out[p], columns[p])
