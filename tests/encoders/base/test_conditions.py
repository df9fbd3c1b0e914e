"""Conditional sampling."""

import numpy as np
import pandas as pd
import pytest

from cmim_sklearn import CMIMEncoder
from tests.helpers import LIBRARIES, make_mixed, small_encoder, to_pandas


@pytest.fixture(scope="module", params=LIBRARIES)
def other(request):
    """Encoder fitted to a table of each library, and the table."""
    frame = LIBRARIES[request.param](make_mixed())
    return small_encoder().fit(frame), frame


def test_conditioned_cells_are_exact_and_the_others_vary(trained, mixed):
    given = {"city": "Oslo", "income": 12345.67, "age": 41, "member": True, "flag": 7}
    sampled = trained.sample(40, conditions=given, random_state=0)
    for name, value in given.items():
        assert (sampled[name] == value).all()
    assert sampled.dtypes.equals(mixed.dtypes)
    assert not sampled.isna().any(axis=None)
    assert sampled["score"].nunique() > 30


def test_conditions_change_the_other_columns(trained, mixed):
    low, high = (trained.sample(200, conditions={"score": s}, random_state=0) for s in (-1.5, 1.5))
    observed = mixed.groupby(mixed["score"] > 0)["age"].mean()
    assert observed[True] - observed[False] > 10
    assert high["age"].mean() - low["age"].mean() > 10
    assert high["member"].mean() > 0.9 > 0.1 > low["member"].mean()


def test_conditional_samples_match_rejection_sampling(trained):
    free = trained.sample(6000, random_state=1)
    kept = free[free["city"] == "Lima"]
    sampled = trained.sample(2000, conditions={"city": "Lima"}, random_state=0)
    assert len(kept) > 1000
    for name in ("income", "age", "score", "visits"):
        spread = float(kept[name].std())
        assert sampled[name].mean() == pytest.approx(kept[name].mean(), abs=0.12 * spread)
        assert sampled[name].std() == pytest.approx(spread, rel=0.15)
    assert sampled["member"].mean() == pytest.approx(kept["member"].mean(), abs=0.04)


def test_a_frame_of_partial_rows_gives_samples_for_each(trained, mixed):
    given = mixed.loc[[5, 17, 3], ["income", "city", "age"]]
    sampled = trained.sample(4, conditions=given, random_state=0)
    assert list(sampled.index) == [5] * 4 + [17] * 4 + [3] * 4
    assert list(sampled.columns) == list(mixed.columns)
    repeated = given.loc[sampled.index]
    for name in given:
        known = repeated[name].notna().to_numpy()
        assert (sampled[name][known] == repeated[name][known]).all()
    assert not sampled.isna().any(axis=None)


def test_conditions_in_every_library(other):
    encoder, frame = other
    sampled = encoder.sample(3, conditions={"city": "Oslo", "age": 50}, random_state=0)
    assert type(sampled) is type(frame)
    rows = to_pandas(sampled)
    assert (rows["city"] == "Oslo").all()
    assert (rows["age"] == 50).all()
    again = encoder.sample(2, conditions=frame[:3], random_state=0)
    assert type(again) is type(frame)
    assert len(again) == 6


def test_conditions_on_an_array_are_by_position():
    X = np.random.RandomState(0).randn(100, 3)
    encoder = CMIMEncoder(max_iter=3, hidden_layer_sizes=(8,), random_state=0).fit(X)
    sampled = encoder.sample(5, conditions={1: 0.25}, random_state=0)
    assert (sampled[:, 1] == 0.25).all()
    sampled = encoder.sample(2, conditions=[[np.nan, 1.0, 2.0], [0.5, np.nan, np.nan]])
    assert (sampled[:2, 1:] == [1.0, 2.0]).all()
    assert (sampled[2:, 0] == 0.5).all()


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"agee": 3}, r"`conditions`: X has no column 'agee'"),
        ({"city": "Rom"}, r"unknown level 'Rom' for column 'city'.*fit: 'Lima', 'Oslo', 'Rome'\."),
        ({"flag": 4}, r"unknown level 4 for column 'flag'.*fit: 3, 7\."),
        ({"age": 40.5}, r"'age' must be a whole number from -92.*; got 40\.5"),
        ({"age": 1e30}, r"'age' must be a whole number from -92.*; got 1e\+30"),
        ({"income": np.inf}, r"Column 'income' must hold numbers .*; got inf in row 0"),
        ({"income": 10**400}, r"Column 'income' must hold numbers .*; got 1.00e\+400 in row 0"),
        ({"income": 1 + 2j}, r"Complex data not supported: column 'income'"),
        ({"age": [40, 41]}, r"\['age'\]` must be a single value; got 2 values.*DataFrame"),
        ({"age": "old"}, r"Column 'age' must hold numbers, as in fit; got 'old' in row 0"),
        (pd.DataFrame({"age": []}), r"`conditions` must have at least one row"),
        (np.zeros((2, 3)), r"`conditions` as an array must have all 8.*got 3 columns"),
    ],
)
def test_impossible_conditions_raise(trained, conditions, message):
    with pytest.raises(ValueError, match=message):
        trained.sample(2, conditions=conditions)


def test_conditions_far_outside_the_range_are_exact(trained):
    sampled = trained.sample(20, conditions={"income": 6e5, "age": 80}, random_state=0)
    assert (sampled["income"] == 6e5).all()
    assert (sampled["age"] == 80).all()
    assert sampled["member"].mean() > 0.8
    absurd = trained.sample(20, conditions={"income": 1e39, "age": 10**9}, random_state=0)
    assert (absurd["income"] == 1e39).all()
    assert not absurd.isna().any(axis=None)


def test_levels_of_several_types_can_be_conditions():
    X = pd.DataFrame({"mixed": np.array([True, 2, "x", 2.5] * 20, dtype=object), "n": range(80)})
    encoder = CMIMEncoder(n_components=2, hidden_layer_sizes=(8,), max_iter=2).fit(X)
    for value in (True, 2, "x", 2.5):
        sampled = encoder.sample(3, conditions={"mixed": value})["mixed"]
        assert sampled.tolist() == [value] * 3
        assert {type(v) for v in sampled} == {type(value)}


def test_an_array_of_conditions_is_by_position_for_numbered_columns():
    X = pd.DataFrame(np.random.RandomState(0).randn(60, 2), columns=[1, 0])
    encoder = CMIMEncoder(n_components=2, hidden_layer_sizes=(8,), max_iter=2).fit(X)
    sampled = encoder.sample(2, conditions=np.array([[0.5, np.nan]]))
    assert (sampled[1] == 0.5).all()


def test_impossible_counts_are_unlikely_and_raise_as_conditions():
    X = pd.DataFrame({"n": np.random.RandomState(0).poisson(3, 100).astype(float)})
    encoder = CMIMEncoder(
        n_components=2, hidden_layer_sizes=(8,), max_iter=20, likelihoods={"n": "poisson"}
    ).fit(X)
    scores = encoder.score_samples(pd.DataFrame({"n": [3.0, -5.0, 2.5, np.nan]}))
    assert scores[0] > max(scores[1:3])
    np.testing.assert_allclose(scores[1:3], -np.log(101), atol=1e-2)
    for value in (-5, 2.5):
        with pytest.raises(ValueError, match=rf"'n' must be a whole number from 0.*; got {value}"):
            encoder.sample(conditions={"n": value})
