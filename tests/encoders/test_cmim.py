"""cMIM: its contrastive term, the structure that it learns, and its quality on a real table."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp
from sklearn.datasets import load_iris
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import StratifiedKFold, cross_val_score, train_test_split
from sklearn.pipeline import Pipeline

from cmim_sklearn import CMIMEncoder
from tests.helpers import small_encoder, weights


def test_contrastive_weight_zero_trains_as_mim_to_the_bit(mixed, monkeypatch):
    from cmim_sklearn._encoders import cmim as module
    from cmim_sklearn.objectives import mim

    without = small_encoder(contrastive_weight=0).fit(mixed)
    monkeypatch.setattr(module, "cmim", lambda batch, **options: mim(batch))
    assert weights(without) == weights(small_encoder().fit(mixed))
    assert "train_contrast" not in without.net_.history[0]


def test_one_component_warns_that_there_is_no_contrast(mixed, quick):
    with pytest.warns(UserWarning, match="n_components=1 codes have no direction"):
        CMIMEncoder(**quick | {"n_components": 1}).fit(mixed)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        CMIMEncoder(**quick | {"n_components": 1}, contrastive_weight=0).fit(mixed)


def test_a_linear_gaussian_table_is_reconstructed_and_sampled():
    rng = np.random.RandomState(0)
    hidden = rng.randn(1500, 2)
    X = hidden @ rng.randn(2, 5) + 0.1 * rng.randn(1500, 5) + 3
    encoder = CMIMEncoder(8, hidden_layer_sizes=(64,), max_iter=60, random_state=0).fit(X)
    back = encoder.inverse_transform(encoder.transform(X))
    explained = 1 - (back - X).var(0) / X.var(0)
    assert explained.min() > 0.9
    drawn = encoder.sample(4000, random_state=0)
    np.testing.assert_allclose(drawn.mean(0), X.mean(0), atol=0.15 * X.std(0).max())
    np.testing.assert_allclose(np.corrcoef(drawn.T), np.corrcoef(X.T), atol=0.15)


def test_samples_keep_the_dependence_of_a_category_on_a_number(mixed):
    encoder = CMIMEncoder(8, hidden_layer_sizes=(64,), max_iter=100, random_state=0).fit(mixed)
    drawn = encoder.sample(2000, random_state=0)
    by_city = drawn.groupby("city", observed=True)["score"].mean()
    assert by_city["Rome"] < by_city["Oslo"] < by_city["Lima"]


def test_training_lowers_the_loss(mixed, quick):
    encoder = CMIMEncoder(**quick | {"max_iter": 40}).fit(mixed)
    assert encoder.loss_curve_[-1] < encoder.loss_curve_[0] - 0.5


def test_features_separate_iris():
    X, y = load_iris(return_X_y=True, as_frame=True)
    pipe = Pipeline(
        [("cmim", CMIMEncoder(max_iter=100, random_state=0)), ("clf", LogisticRegression())]
    )
    assert pipe.fit(X[::2], y[::2]).score(X[1::2], y[1::2]) > 0.9


# -- a real table ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def houses_encoder(houses):
    return CMIMEncoder(random_state=0).fit(houses)


@pytest.mark.slow
def test_samples_have_the_marginals_of_the_table(houses, houses_encoder):
    drawn = houses_encoder.sample(len(houses), random_state=0)
    pd.testing.assert_series_equal(drawn.dtypes, houses.dtypes)
    assert drawn.notna().all(axis=None)
    gaps = []
    for name in houses:
        real, generated = houses[name].dropna(), drawn[name]
        if real.dtype == "category":
            shares = [c.value_counts(normalize=True, sort=False) for c in (real, generated)]
            gaps.append(0.5 * (shares[0] - shares[1]).abs().sum())
        else:
            gaps.append(ks_2samp(real, generated).statistic)
    assert np.mean(gaps) < 0.05


@pytest.mark.slow
def test_samples_have_the_correlations_of_the_table(houses, houses_encoder):
    drawn = houses_encoder.sample(len(houses), random_state=0)
    numbers = houses.select_dtypes("number").columns
    gap = houses[numbers].corr("spearman") - drawn[numbers].corr("spearman")
    assert gap.abs().to_numpy().mean() < 0.05


@pytest.mark.slow
def test_trees_separate_samples_from_rows_with_a_low_auc(houses, houses_encoder):
    """AUC below 0.85; it is 0.98 and more for columns that are sampled independently."""
    real = houses.dropna().sample(3000, random_state=0)
    drawn = houses_encoder.sample(3000, random_state=1)
    independent = real.apply(lambda c: c.sample(frac=1, random_state=len(c.name)).to_numpy())
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    auc = {
        name: cross_val_score(
            HistGradientBoostingClassifier(categorical_features="from_dtype", random_state=0),
            pd.concat([real, generated.astype(houses.dtypes)]),
            np.repeat([0, 1], 3000),
            cv=folds,
            scoring="roc_auc",
        ).mean()
        for name, generated in {"drawn": drawn, "independent": independent}.items()
    }
    assert auc["drawn"] < 0.85 < 0.95 < auc["independent"]


@pytest.mark.slow
def test_imputation_of_held_out_rows_beats_column_statistics(houses):
    train, test = train_test_split(houses, test_size=300, random_state=0)
    encoder = CMIMEncoder(max_iter=100, random_state=0).fit(train)
    hidden = np.random.RandomState(0).rand(*test.shape) < 0.3
    imputed = encoder.impute(test.mask(hidden))
    for c, name in enumerate(test):
        truth, guess = test[name][hidden[:, c]], imputed[name][hidden[:, c]]
        if name == "ocean_proximity":
            assert (truth == guess).mean() > (truth == train[name].mode()[0]).mean() + 0.15
        else:
            error = np.sqrt(((guess - truth) ** 2).mean())
            assert error < 0.95 * np.sqrt(((truth - train[name].mean()) ** 2).mean())


@pytest.mark.slow
def test_rows_are_reconstructed(houses, houses_encoder):
    back = houses_encoder.inverse_transform(houses_encoder.transform(houses))
    assert (back["ocean_proximity"] == houses["ocean_proximity"]).mean() > 0.9
    for name in houses.select_dtypes("number"):
        known = houses[name].notna()
        assert houses.loc[known, name].corr(back.loc[known, name], "spearman") > 0.9, name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
def test_logistic_regression_with_defaults_scores_like_a_converged_one(houses):
    y = pd.qcut(houses["median_house_value"], 4, labels=list("abcd")).astype(str)
    parts = train_test_split(
        houses.drop(columns="median_house_value"), y, test_size=0.3, random_state=0
    )
    X_train, X_test, y_train, y_test = parts
    pipe = Pipeline([("cmim", CMIMEncoder(random_state=0)), ("clf", LogisticRegression())])
    short = pipe.fit(X_train, y_train).score(X_test, y_test)
    Z_train, Z_test = (pipe[0].transform(X) for X in (X_train, X_test))
    long = LogisticRegression(max_iter=5000).fit(Z_train, y_train).score(Z_test, y_test)
    assert abs(long - short) < 0.005


def test_features_tell_season_weekday_and_hour_of_dates():
    rng = np.random.RandomState(0)
    at = pd.Timestamp("2021-01-01") + pd.to_timedelta(rng.randint(0, 24 * 730, 600), unit="h")
    season, hour = np.cos(2 * np.pi * (at.month - 7) / 12), np.cos(2 * np.pi * (at.hour - 17) / 24)
    sales = np.where(at.day_of_week >= 5, 1.0, -0.4) + season + hour + 0.3 * rng.randn(600)
    encoder = CMIMEncoder(hidden_layer_sizes=(32,), max_iter=10, random_state=0, device="cpu")
    features = encoder.fit_transform(pd.DataFrame({"at": at}))
    scaled = (features - features.mean(0)) / features.std(0)
    fitted = Ridge().fit(scaled[:400], sales[:400])
    assert fitted.score(scaled[400:], sales[400:]) > 0.6  # the number of days explains nothing
