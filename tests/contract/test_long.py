"""Long checks on the real table that ships with the examples, and on the package as built."""

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score, train_test_split
from sklearn.pipeline import Pipeline

from benchmarks.informative import probe
from cmim_sklearn import CMIMEncoder, InfoMaxVAEEncoder, VAEEncoder

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def houses():
    X = pd.read_csv(ROOT / "examples" / "data" / "california_housing.csv")
    return X.astype({"ocean_proximity": "category"})


@pytest.fixture(scope="module")
def encoder(houses):
    return CMIMEncoder(random_state=0).fit(houses)


def test_samples_have_the_marginals_of_the_table(houses, encoder):
    drawn = encoder.sample(len(houses), random_state=0)
    pd.testing.assert_series_equal(drawn.dtypes, houses.dtypes)
    assert drawn.notna().all(axis=None)
    gaps = []
    for name in houses:
        real, made = houses[name].dropna(), drawn[name]
        if real.dtype == "category":
            shares = [c.value_counts(normalize=True, sort=False) for c in (real, made)]
            gaps.append(0.5 * (shares[0] - shares[1]).abs().sum())
        else:
            gaps.append(ks_2samp(real, made).statistic)
    assert np.mean(gaps) < 0.05


def test_samples_have_the_correlations_of_the_table(houses, encoder):
    drawn = encoder.sample(len(houses), random_state=0)
    numbers = houses.select_dtypes("number").columns
    gap = houses[numbers].corr("spearman") - drawn[numbers].corr("spearman")
    assert gap.abs().to_numpy().mean() < 0.05


def test_trees_hardly_tell_samples_from_rows(houses, encoder):
    """AUC below 0.85; columns drawn each by itself are told apart with 0.98 and more."""
    real = houses.dropna().sample(3000, random_state=0)
    drawn = encoder.sample(3000, random_state=1)
    alone = real.apply(lambda c: c.sample(frac=1, random_state=len(c.name)).to_numpy())
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    auc = {
        name: cross_val_score(
            HistGradientBoostingClassifier(categorical_features="from_dtype", random_state=0),
            pd.concat([real, made.astype(houses.dtypes)]),
            np.repeat([0, 1], 3000),
            cv=folds,
            scoring="roc_auc",
        ).mean()
        for name, made in {"drawn": drawn, "alone": alone}.items()
    }
    assert auc["drawn"] < 0.85 < 0.95 < auc["alone"]


def test_held_out_rows_are_filled_better_than_by_columns_alone(houses):
    train, test = train_test_split(houses, test_size=300, random_state=0)
    encoder = CMIMEncoder(max_iter=100, random_state=0).fit(train)
    hidden = np.random.RandomState(0).rand(*test.shape) < 0.3
    filled = encoder.impute(test.mask(hidden))
    for c, name in enumerate(test):
        truth, guess = test[name][hidden[:, c]], filled[name][hidden[:, c]]
        if name == "ocean_proximity":
            assert (truth == guess).mean() > (truth == train[name].mode()[0]).mean() + 0.15
        else:
            error = np.sqrt(((guess - truth) ** 2).mean())
            assert error < 0.95 * np.sqrt(((truth - train[name].mean()) ** 2).mean())


def test_a_trained_text_decoder_tells_more_than_its_code_and_than_a_random_one():
    pytest.importorskip("transformers")
    scores = pd.DataFrame(probe("T5", seed=0))
    accuracy = scores.groupby(["labels", "features"])["accuracy"].first()
    for labels, margin in (("all", 0.05), (100, 0.0)):
        assert accuracy[labels, "informative"] > accuracy[labels, "code"] + 0.1
        assert accuracy[labels, "informative"] > accuracy[labels, "random decoder"] + margin


def test_infomax_vae_holds_more_information_than_a_vae(houses):
    """At equal beta, on rows that neither saw, by the noise of their own posteriors."""
    numbers = houses.select_dtypes("number")
    train, test = numbers[:2000], numbers[2000:4000]
    held = {
        encoder: encoder(max_iter=40, random_state=0).fit(train).mutual_information(test, noise=0)
        for encoder in (VAEEncoder, InfoMaxVAEEncoder)
    }
    assert held[InfoMaxVAEEncoder].estimate > held[VAEEncoder].estimate + 0.2


def test_rows_are_rebuilt(houses, encoder):
    back = encoder.inverse_transform(encoder.transform(houses))
    assert (back["ocean_proximity"] == houses["ocean_proximity"]).mean() > 0.9
    for name in houses.select_dtypes("number"):
        known = houses[name].notna()
        assert houses.loc[known, name].corr(back.loc[known, name], "spearman") > 0.9, name


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
def test_literal_logistic_regression_loses_nothing_to_a_converged_one(houses):
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


def test_the_wheel_holds_the_package_and_its_type_marker(tmp_path):
    pytest.importorskip("build")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(ROOT)],
        check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("cmim_sklearn-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "cmim_sklearn/py.typed" in names
    modules = {path.name for path in (ROOT / "cmim_sklearn").glob("*.py")}
    assert modules <= {name.removeprefix("cmim_sklearn/") for name in names}
    assert not [name for name in names if name.startswith(("tests", "examples", "benchmarks"))]
