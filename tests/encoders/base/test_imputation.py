"""Imputation of missing values."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from cmim_sklearn import CMIMEncoder
from tests.helpers import (
    LIBRARIES,
    make_mixed,
    small_encoder,
    to_pandas,
    warns_of_empty_columns,
)


@pytest.fixture(scope="module", params=LIBRARIES)
def other(request):
    """Encoder fitted to a table of each library, and the table."""
    frame = LIBRARIES[request.param](make_mixed())
    return small_encoder().fit(frame), frame


def assert_imputed(imputed, original):
    """Check that no value is missing, and that those that were observed are unchanged."""
    imputed, original = to_pandas(imputed), to_pandas(original)
    assert not imputed.isna().any(axis=None)
    for name in original:
        known = original[name].notna().to_numpy()
        pd.testing.assert_series_equal(
            imputed[name][known].astype(object), original[name][known].astype(object)
        )


def test_observed_values_do_not_change(trained, mixed):
    X = mixed.sample(frac=1, random_state=0)
    before = X.copy()
    imputed = trained.impute(X)
    assert_imputed(imputed, X)
    assert imputed.index.equals(X.index)
    assert imputed.dtypes.equals(X.dtypes)
    pd.testing.assert_frame_equal(X, before)
    bits = X["income"].to_numpy().view("int64")[X["income"].notna()]
    assert (imputed["income"].to_numpy().view("int64")[X["income"].notna()] == bits).all()


def test_imputed_integers_fit_into_a_narrower_dtype_than_in_fit():
    wide = pd.DataFrame({"x": np.linspace(0, 1000, 100), "y": np.arange(100.0)})
    encoder = CMIMEncoder(max_iter=3, hidden_layer_sizes=(8,), random_state=0).fit(wide)
    narrow = pd.DataFrame({"x": pd.array([1, None, 2], "Int8"), "y": [10.0, 99.0, 20.0]})
    imputed = encoder.impute(narrow)
    assert imputed["x"].dtype == "Int8"
    assert imputed["x"].notna().all()
    assert imputed["x"].max() == 127


def test_imputation_in_every_library(other):
    encoder, frame = other
    imputed = encoder.impute(frame)
    assert type(imputed) is type(frame)
    assert_imputed(imputed, frame)
    if hasattr(frame, "schema"):
        assert imputed.schema == frame.schema
    for sampled in encoder.impute(frame, n_draws=2, random_state=0):
        assert_imputed(sampled, frame)


def test_imputed_values_depend_on_the_rest_of_the_row(trained, mixed):
    """The error is below that of the column's mean."""
    X = mixed[mixed["score"].notna()]
    hidden = X.assign(score=np.nan, member=None)
    imputed = trained.impute(hidden)
    error = np.sqrt(np.mean((imputed["score"] - X["score"]) ** 2))
    assert error < 0.6 * X["score"].std()
    assert (imputed["member"] == X["member"]).mean() > 0.85


def test_multiple_imputations_differ_and_repeat_with_the_seed(trained, mixed):
    first = trained.impute(mixed, n_draws=3, random_state=0)
    again = trained.impute(mixed, n_draws=3, random_state=0)
    for one, two in zip(first, again, strict=True):
        pd.testing.assert_frame_equal(one, two, check_exact=True)
        assert_imputed(one, mixed)
    assert not first[0].equals(first[1])
    pd.testing.assert_frame_equal(trained.impute(mixed), trained.impute(mixed), check_exact=True)


def test_an_empty_row_gets_the_marginal_distribution(trained, mixed):
    imputed = trained.impute(mixed.iloc[:2].assign(**dict.fromkeys(mixed.columns)))
    sampled = trained.sample(4000, random_state=0)
    for name in ("income", "score"):
        spread = float(sampled[name].std())
        assert float(imputed[name].iloc[0]) == pytest.approx(sampled[name].mean(), abs=0.1 * spread)
    shares = sampled["city"].value_counts(normalize=True)
    assert shares[imputed["city"].iloc[0]] > shares.max() - 0.03
    assert imputed["word"].iloc[0] in set(mixed["word"].dropna())


def test_the_mean_is_taken_in_raw_units():
    """The mean of a lognormal column is far above the exponential of the mean of its logarithm."""
    rng = np.random.RandomState(0)
    X = pd.DataFrame({"amount": np.exp(rng.randn(1500)), "noise": rng.randn(1500)})
    encoder = CMIMEncoder(
        n_components=4,
        hidden_layer_sizes=(32,),
        max_iter=30,
        learning_rate_init=0.01,
        random_state=0,
    ).fit(X)
    imputed = encoder.impute(X[:50].assign(amount=np.nan))["amount"]
    assert imputed.mean() > 1.3 * X["amount"].median()
    assert imputed.mean() == pytest.approx(encoder.sample(20_000)["amount"].mean(), rel=0.15)


def test_means_are_rounded_for_integer_dtypes_only(mixed):
    X = mixed.assign(age=mixed["age"].astype("Int64").where(mixed["age"] > 30))
    encoder = CMIMEncoder(n_components=4, hidden_layer_sizes=(16,), max_iter=5, random_state=0)
    imputed = encoder.fit(X).impute(X)
    assert imputed["age"].dtype == "Int64"
    assert not imputed["age"].isna().any()
    as_float = X.assign(age=X["age"].astype("float64"))
    values = encoder.impute(as_float)["age"][X["age"].isna()]
    assert (values != values.round()).any()


def test_integers_too_large_for_a_float_do_not_change(trained, mixed):
    X = mixed.assign(visits=2**60 + 1 + np.arange(len(mixed)))
    assert (trained.impute(X)["visits"] == X["visits"]).all()


def test_a_category_that_the_table_lacks_is_added(trained, mixed):
    X = mixed.iloc[:20].assign(city=pd.Categorical([None] * 20, categories=["Paris"]))
    imputed = trained.impute(X)
    assert not imputed["city"].isna().any()
    assert set(imputed["city"]) <= {"Oslo", "Rome", "Lima"}


def test_a_column_missing_in_fit_stays_missing(mixed):
    X = mixed[["age", "score"]].assign(empty=np.nan)
    with warns_of_empty_columns(X):
        encoder = CMIMEncoder(n_components=2, hidden_layer_sizes=(8,), max_iter=2).fit(X)
    imputed = encoder.impute(X)
    assert imputed["empty"].isna().all()
    assert not imputed["score"].isna().any()


def test_an_outlying_row_does_not_change_the_imputation_of_others(trained, mixed):
    X = mixed.iloc[:6].assign(score=np.float32(np.nan))
    far = X.iloc[:1].assign(income=1e12, age=10**6)
    alone, beside = trained.impute(X), trained.impute(pd.concat([X, far], ignore_index=True))
    np.testing.assert_allclose(beside["score"][:6], alone["score"], rtol=1e-6)
    assert np.isfinite(trained.score_samples(far)).all()
    assert trained.score_samples(far)[0] < trained.score_samples(X).min()


def test_imputation_of_a_row_does_not_depend_on_gaps_of_others(trained, mixed):
    X = mixed.dropna().iloc[:80].astype({"age": "float64", "visits": "float64"})
    few = X.mask(np.random.RandomState(0).rand(*X.shape) < 0.2)
    many, kept = few.mask(np.random.RandomState(1).rand(*X.shape) < 0.6), np.arange(0, 80, 7)
    many.iloc[kept] = few.iloc[kept]
    one, other = (trained.impute(rows).iloc[kept] for rows in (few, many))
    pd.testing.assert_frame_equal(one, other, rtol=1e-4)


def test_columns_of_untyped_nulls_are_imputed(mixed):
    X = mixed[["score", "city", "member"]]
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
        imputed = to_pandas(encoder.impute(untyped))
        assert not imputed.isna().any(axis=None)
        assert imputed["score"].dtype.kind == "f"
        assert set(imputed["city"]) <= {"Oslo", "Rome", "Lima"}


def test_a_complete_table_is_returned_unchanged(trained, mixed):
    whole = mixed.dropna()
    imputed = trained.impute(whole)
    pd.testing.assert_frame_equal(imputed, whole, check_exact=True)
    assert imputed is not whole
    assert len(trained.impute(whole, n_draws=2)) == 2


@pytest.mark.parametrize("n_draws", [0, -1, 2.5, True])
def test_an_invalid_number_of_draws_raises(trained, mixed, n_draws):
    with pytest.raises(ValueError, match=rf"n_draws must be an int of at least 1; got {n_draws}"):
        trained.impute(mixed, n_draws=n_draws)
