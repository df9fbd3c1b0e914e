"""Conditions, imputation and scores as users call them: tables in, tables out, errors."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from cmim_sklearn import CMIMEncoder
from tests.conftest import make_mixed

LIBRARIES = {
    "pandas": lambda frame: frame,
    "polars": pl.from_pandas,
    "pyarrow": lambda frame: pa.Table.from_pandas(frame, preserve_index=False),
}


def to_pandas(table):
    return table if isinstance(table, pd.DataFrame) else table.to_pandas()


@pytest.fixture(scope="module")
def table():
    return make_mixed()


@pytest.fixture(scope="module")
def encoder(table):
    return CMIMEncoder(n_components=4, hidden_layer_sizes=(32,), max_iter=400, random_state=0).fit(
        table
    )


@pytest.fixture(scope="module", params=LIBRARIES)
def other(request, table):
    """An encoder fitted on another library's frame, and the frame."""
    frame = LIBRARIES[request.param](table)
    encoder = CMIMEncoder(n_components=4, hidden_layer_sizes=(32,), max_iter=5, random_state=0)
    return encoder.fit(frame), frame


# Conditions. --------------------------------------------------------------------------------------


def test_conditioned_cells_come_back_exactly_and_the_others_vary(encoder, table):
    given = {"city": "Oslo", "income": 12345.67, "age": 41, "member": True, "flag": 7}
    drawn = encoder.sample(40, conditions=given, random_state=0)
    for name, value in given.items():
        assert (drawn[name] == value).all()
    assert drawn.dtypes.equals(table.dtypes)
    assert not drawn.isna().any(axis=None)
    assert drawn["score"].nunique() > 30


def test_conditions_move_the_other_columns(encoder, table):
    low, high = (encoder.sample(200, conditions={"score": s}, random_state=0) for s in (-1.5, 1.5))
    observed = table.groupby(table["score"] > 0)["age"].mean()
    assert observed[True] - observed[False] > 10
    assert high["age"].mean() - low["age"].mean() > 10
    assert high["member"].mean() > 0.9 > 0.1 > low["member"].mean()


def test_conditions_do_what_rejection_does(encoder):
    """Free draws that happen to have the level, against draws conditioned on it."""
    free = encoder.sample(6000, random_state=1)
    kept = free[free["city"] == "Lima"]
    drawn = encoder.sample(2000, conditions={"city": "Lima"}, random_state=0)
    assert len(kept) > 1000
    for name in ("income", "age", "score", "visits"):
        spread = float(kept[name].std())
        assert drawn[name].mean() == pytest.approx(kept[name].mean(), abs=0.12 * spread)
        assert drawn[name].std() == pytest.approx(spread, rel=0.15)
    assert drawn["member"].mean() == pytest.approx(kept["member"].mean(), abs=0.04)


def test_a_frame_of_partial_rows_gives_draws_for_each(encoder, table):
    given = table.loc[[5, 17, 3], ["income", "city", "age"]]
    drawn = encoder.sample(4, conditions=given, random_state=0)
    assert list(drawn.index) == [5] * 4 + [17] * 4 + [3] * 4
    assert list(drawn.columns) == list(table.columns)
    repeated = given.loc[drawn.index]
    for name in given:
        known = repeated[name].notna().to_numpy()
        assert (drawn[name][known] == repeated[name][known]).all()
    assert not drawn.isna().any(axis=None)


def test_conditions_in_every_library(other):
    encoder, frame = other
    drawn = encoder.sample(3, conditions={"city": "Oslo", "age": 50}, random_state=0)
    assert type(drawn) is type(frame)
    rows = to_pandas(drawn)
    assert (rows["city"] == "Oslo").all()
    assert (rows["age"] == 50).all()
    again = encoder.sample(2, conditions=frame[:3], random_state=0)
    assert type(again) is type(frame)
    assert len(again) == 6


def test_conditions_by_position_for_arrays():
    X = np.random.RandomState(0).randn(100, 3)
    encoder = CMIMEncoder(max_iter=3, hidden_layer_sizes=(8,), random_state=0).fit(X)
    drawn = encoder.sample(5, conditions={1: 0.25}, random_state=0)
    assert (drawn[:, 1] == 0.25).all()
    drawn = encoder.sample(2, conditions=[[np.nan, 1.0, 2.0], [0.5, np.nan, np.nan]])
    assert (drawn[:2, 1:] == [1.0, 2.0]).all()
    assert (drawn[2:, 0] == 0.5).all()


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"agee": 3}, r"`conditions`: X has no column 'agee'"),
        ({"city": "Rom"}, r"unknown level 'Rom' for column 'city'.*fit: 'Lima', 'Oslo', 'Rome'\."),
        ({"flag": 4}, r"unknown level 4.0 for column 'flag'.*fit: 3.0, 7.0\."),
        ({"age": 40.5}, r"'age' must be a whole number from -92.*; got 40\.5"),
        ({"age": 1e30}, r"'age' must be a whole number from -92.*; got 1e\+30"),
        ({"income": np.inf}, r"Column 'income' must hold numbers .*; got inf in row 0"),
        ({"income": 10**400}, r"Column 'income' must hold numbers .*; got inf in row 0"),
        ({"income": 1 + 2j}, r"Complex data not supported: column 'income'"),
        ({"age": [40, 41]}, r"\['age'\]` must be a single value; got 2 values.*DataFrame"),
        ({"age": "old"}, r"Column 'age' must hold numbers, as in fit; got 'old' in row 0"),
        (pd.DataFrame({"age": []}), r"`conditions` must have at least one row"),
        (np.zeros((2, 3)), r"`conditions` as an array must have all 8.*got 3 columns"),
    ],
)
def test_conditions_that_cannot_be_are_named(encoder, conditions, message):
    with pytest.raises(ValueError, match=message):
        encoder.sample(2, conditions=conditions)


def test_conditions_far_outside_the_range_are_kept(encoder):
    drawn = encoder.sample(20, conditions={"income": 6e5, "age": 80}, random_state=0)
    assert (drawn["income"] == 6e5).all()
    assert (drawn["age"] == 80).all()
    assert drawn["member"].mean() > 0.8
    absurd = encoder.sample(20, conditions={"income": 1e39, "age": 10**9}, random_state=0)
    assert (absurd["income"] == 1e39).all()
    assert not absurd.isna().any(axis=None)


# Imputation. --------------------------------------------------------------------------------------


def check_filled(filled, original):
    filled, original = to_pandas(filled), to_pandas(original)
    assert not filled.isna().any(axis=None)
    for name in original:
        known = original[name].notna().to_numpy()
        pd.testing.assert_series_equal(
            filled[name][known].astype(object), original[name][known].astype(object)
        )


def test_impute_fills_holes_and_touches_nothing_else(encoder, table):
    X = table.sample(frac=1, random_state=0)
    before = X.copy()
    filled = encoder.impute(X)
    check_filled(filled, X)
    assert filled.index.equals(X.index)
    assert filled.dtypes.equals(X.dtypes)
    pd.testing.assert_frame_equal(X, before)
    bits = X["income"].to_numpy().view("int64")[X["income"].notna()]
    assert (filled["income"].to_numpy().view("int64")[X["income"].notna()] == bits).all()


def test_imputed_integers_fit_a_column_narrower_than_that_of_fit():
    wide = pd.DataFrame({"x": np.linspace(0, 1000, 100), "y": np.arange(100.0)})
    encoder = CMIMEncoder(max_iter=3, hidden_layer_sizes=(8,), random_state=0).fit(wide)
    narrow = pd.DataFrame({"x": pd.array([1, None, 2], "Int8"), "y": [10.0, 99.0, 20.0]})
    filled = encoder.impute(narrow)
    assert filled["x"].dtype == "Int8"
    assert filled["x"].notna().all()
    assert filled["x"].max() == 127


def test_impute_in_every_library(other):
    encoder, frame = other
    filled = encoder.impute(frame)
    assert type(filled) is type(frame)
    check_filled(filled, frame)
    if hasattr(frame, "schema"):
        assert filled.schema == frame.schema
    for drawn in encoder.impute(frame, n_draws=2, random_state=0):
        check_filled(drawn, frame)


def test_imputed_values_follow_the_row(encoder, table):
    """What is hidden is put back better than by the column's mean."""
    X = table[table["score"].notna()]
    holed = X.assign(score=np.nan, member=None)
    filled = encoder.impute(holed)
    error = np.sqrt(np.mean((filled["score"] - X["score"]) ** 2))
    assert error < 0.6 * X["score"].std()
    assert (filled["member"] == X["member"]).mean() > 0.85


def test_draws_differ_and_repeat_by_their_seed(encoder, table):
    first = encoder.impute(table, n_draws=3, random_state=0)
    again = encoder.impute(table, n_draws=3, random_state=0)
    for one, two in zip(first, again, strict=True):
        pd.testing.assert_frame_equal(one, two, check_exact=True)
        check_filled(one, table)
    assert not first[0].equals(first[1])
    pd.testing.assert_frame_equal(encoder.impute(table), encoder.impute(table), check_exact=True)


def test_a_row_without_any_cell_gets_the_marginal(encoder, table):
    filled = encoder.impute(table.iloc[:2].assign(**dict.fromkeys(table.columns)))
    drawn = encoder.sample(4000, random_state=0)
    for name in ("income", "score"):
        spread = float(drawn[name].std())
        assert float(filled[name].iloc[0]) == pytest.approx(drawn[name].mean(), abs=0.1 * spread)
    shares = drawn["city"].value_counts(normalize=True)
    assert shares[filled["city"].iloc[0]] > shares.max() - 0.03
    assert filled["word"].iloc[0] in set(table["word"].dropna())


def test_the_mean_is_that_of_the_raw_column_not_of_the_scaled_one():
    """A lognormal column's mean is far above the exponential of its log's."""
    rng = np.random.RandomState(0)
    X = pd.DataFrame({"amount": np.exp(2 * rng.randn(1500)), "noise": rng.randn(1500)})
    encoder = CMIMEncoder(
        n_components=4, hidden_layer_sizes=(32,), max_iter=60, random_state=0
    ).fit(X)
    filled = encoder.impute(X[:50].assign(amount=np.nan))["amount"]
    assert filled.mean() > 3 * X["amount"].median()
    assert filled.mean() == pytest.approx(encoder.sample(20_000)["amount"].mean(), rel=0.15)


def test_means_are_rounded_for_integer_dtypes_alone(table):
    X = table.assign(age=table["age"].astype("Int64").where(table["age"] > 30))
    encoder = CMIMEncoder(n_components=4, hidden_layer_sizes=(16,), max_iter=5, random_state=0)
    filled = encoder.fit(X).impute(X)
    assert filled["age"].dtype == "Int64"
    assert not filled["age"].isna().any()
    as_float = X.assign(age=X["age"].astype("float64"))
    values = encoder.impute(as_float)["age"][X["age"].isna()]
    assert (values != values.round()).any()


def test_integers_beyond_what_a_float_holds_are_not_touched(encoder, table):
    X = table.assign(visits=2**60 + 1 + np.arange(len(table)))
    assert (encoder.impute(X)["visits"] == X["visits"]).all()


def test_a_category_that_the_table_to_fill_lacks_is_added(encoder, table):
    X = table.iloc[:20].assign(city=pd.Categorical([None] * 20, categories=["Paris"]))
    filled = encoder.impute(X)
    assert not filled["city"].isna().any()
    assert set(filled["city"]) <= {"Oslo", "Rome", "Lima"}


def test_a_column_missing_in_fit_stays_missing(table):
    X = table[["age", "score"]].assign(empty=np.nan)
    encoder = CMIMEncoder(n_components=2, hidden_layer_sizes=(8,), max_iter=2).fit(X)
    filled = encoder.impute(X)
    assert filled["empty"].isna().all()
    assert not filled["score"].isna().any()


def test_one_row_far_out_does_not_change_what_others_get(encoder, table):
    X = table.iloc[:6].assign(score=np.float32(np.nan))
    far = X.iloc[:1].assign(income=1e12, age=10**6)
    alone, beside = encoder.impute(X), encoder.impute(pd.concat([X, far], ignore_index=True))
    np.testing.assert_allclose(beside["score"][:6], alone["score"], rtol=1e-6)
    assert np.isfinite(encoder.score_samples(far)).all()
    assert encoder.score_samples(far)[0] < encoder.score_samples(X).min()


def test_columns_of_nulls_without_a_type_are_filled(table):
    X = table[["score", "city", "member"]]
    for name, make in LIBRARIES.items():
        if name == "pandas":
            continue
        frame = make(X)
        encoder = CMIMEncoder(n_components=2, hidden_layer_sizes=(8,), max_iter=2, random_state=0)
        encoder.fit(frame)
        untyped = (
            frame.with_columns(pl.lit(None).alias("score"), pl.lit(None).alias("city"))
            if name == "polars"
            else frame.set_column(0, "score", pa.nulls(200)).set_column(1, "city", pa.nulls(200))
        )
        filled = to_pandas(encoder.impute(untyped))
        assert not filled.isna().any(axis=None)
        assert filled["score"].dtype.kind == "f"
        assert set(filled["city"]) <= {"Oslo", "Rome", "Lima"}


def test_constants_are_drawn_as_they_are_and_others_scored_as_unlikely():
    X = pd.DataFrame({"c": [1234.5] * 60, "x": np.random.RandomState(0).randn(60)})
    encoder = CMIMEncoder(n_components=2, hidden_layer_sizes=(8,), max_iter=5, random_state=0)
    encoder.fit(X)
    assert (encoder.sample(50, random_state=0)["c"] == 1234.5).all()
    scores = encoder.score_samples(X.iloc[[0, 0]].assign(c=[1234.5, 1240.0]))
    assert np.isfinite(scores).all()
    assert scores[0] > scores[1] + 2


def test_levels_of_many_types_are_conditions_as_they_are():
    X = pd.DataFrame({"mixed": np.array([True, 2, "x", 2.5] * 20, dtype=object), "n": range(80)})
    encoder = CMIMEncoder(n_components=2, hidden_layer_sizes=(8,), max_iter=2).fit(X)
    for value in (True, 2, "x", 2.5):
        drawn = encoder.sample(3, conditions={"mixed": value})["mixed"]
        assert drawn.tolist() == [value] * 3
        assert {type(v) for v in drawn} == {type(value)}


def test_arrays_of_conditions_go_by_position_whatever_the_names():
    X = pd.DataFrame(np.random.RandomState(0).randn(60, 2), columns=[1, 0])
    encoder = CMIMEncoder(n_components=2, hidden_layer_sizes=(8,), max_iter=2).fit(X)
    drawn = encoder.sample(2, conditions=np.array([[0.5, np.nan]]))
    assert (drawn[1] == 0.5).all()


def test_impossible_counts_are_unlikely_and_no_condition():
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


class SingleOnly(torch.nn.Module):
    """A decoder that works in single precision alone."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(n_in, 8), torch.nn.Tanh())
        self.output = torch.nn.Linear(8, n_out)

    def forward(self, z):
        return self.output(self.body(z.float()))


def single_only(n_in, n_out, hidden_layer_sizes, activation):
    return SingleOnly(n_in, n_out)


def test_a_decoder_that_wants_single_precision_gets_it(table):
    encoder = CMIMEncoder(n_components=2, hidden_layer_sizes=(8,), max_iter=5, decoder=single_only)
    scores = encoder.fit(table).score_samples(table)
    assert np.isfinite(scores).all()


def test_a_whole_table_is_given_back(encoder, table):
    whole = table.dropna()
    filled = encoder.impute(whole)
    pd.testing.assert_frame_equal(filled, whole, check_exact=True)
    assert filled is not whole
    assert len(encoder.impute(whole, n_draws=2)) == 2


@pytest.mark.parametrize("n_draws", [0, -1, 2.5, True])
def test_a_wrong_number_of_draws_is_named(encoder, table, n_draws):
    with pytest.raises(ValueError, match=rf"n_draws must be an int of at least 1. Got {n_draws}"):
        encoder.impute(table, n_draws=n_draws)


# Scores. ------------------------------------------------------------------------------------------


def test_scores_repeat_and_do_not_depend_on_other_rows(encoder, table):
    scores = encoder.score_samples(table)
    assert scores.shape == (200,)
    np.testing.assert_array_equal(encoder.score_samples(table), scores)
    for rows in ([7], [3, 2, 1], list(range(199, -1, -1))):
        np.testing.assert_allclose(encoder.score_samples(table.iloc[rows]), scores[rows], atol=1e-9)
    assert encoder.score(table) == pytest.approx(scores.mean())


def test_scores_are_the_same_in_every_library(table, encoder):
    expected = encoder.score_samples(table)
    for make in LIBRARIES.values():
        np.testing.assert_allclose(encoder.score_samples(make(table)), expected, atol=1e-6)


def test_rows_of_the_table_are_likelier_than_shuffled_ones(encoder, table):
    rng = np.random.RandomState(0)
    shuffled = table.apply(lambda c: c.sample(frac=1, random_state=rng).to_numpy())
    assert encoder.score(table) > encoder.score(shuffled) + 2


def test_the_odd_column_is_found(encoder, table):
    rows = table.dropna().iloc[:12]
    for name, value in {"score": -3.0, "age": 95, "visits": 200}.items():
        odd = rows.assign(**{name: np.array([value]).astype(rows[name].dtype)[0]})
        found = encoder.score_columns(odd).argmin(1)
        assert (np.array(table.columns)[found] == name).mean() > 0.9
    usual = encoder.score_columns(rows)
    assert np.abs(np.median(usual)) < 0.5
    # An inner contradiction, not an extreme value: high score, yet no member.
    odd = rows.assign(score=np.float32(1.8), member=False)
    worst = encoder.score_columns(odd).argmin(1)
    assert np.isin(np.array(table.columns)[worst], ["score", "member"]).mean() > 0.7


def test_missing_cells_have_no_score(encoder, table):
    columns = encoder.score_columns(table[:10])
    assert columns.shape == (10, 8)
    missing = table[:10].isna().to_numpy()
    assert missing.any()
    assert (columns[missing] == 0).all()
    assert (columns[~missing] != 0).all()


def test_a_cells_score_is_what_it_adds_to_the_rest_of_the_row(encoder, table):
    rows = table.dropna().iloc[:5]
    columns = encoder.score_columns(rows)
    without = encoder.score_samples(rows.assign(age=np.nan))
    gain = encoder.score_samples(rows) - without
    centred = columns[:, list(table.columns).index("age")]
    np.testing.assert_allclose(gain - gain.mean(), centred - centred.mean(), atol=1e-6)


def test_unknown_levels_lower_the_score_by_a_finite_amount(encoder, table):
    rows = table.dropna().iloc[:5]
    unknown = encoder.score_samples(rows.assign(word="never"))
    assert np.isfinite(unknown).all()
    assert (unknown < encoder.score_samples(rows)).all()


def test_scores_survive_a_pickle(encoder, table):
    import pickle

    again = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(again.score_samples(table[:9]), encoder.score_samples(table[:9]))
    pd.testing.assert_frame_equal(again.impute(table[:9]), encoder.impute(table[:9]))


@pytest.mark.parametrize("posterior", ["learned", "fixed"])
def test_other_posteriors_sample_and_score(table, posterior):
    encoder = CMIMEncoder(
        n_components=3, hidden_layer_sizes=(16,), max_iter=5, posterior=posterior, random_state=0
    ).fit(table)
    assert np.isfinite(encoder.score_samples(table)).all()
    assert not encoder.impute(table).isna().any(axis=None)


def test_scores_choose_in_a_search(table):
    from sklearn.model_selection import GridSearchCV

    search = GridSearchCV(
        CMIMEncoder(n_components=3, hidden_layer_sizes=(16,), random_state=0),
        {"max_iter": [1, 40]},
        cv=2,
    ).fit(table)
    assert search.best_params_ == {"max_iter": 40}
