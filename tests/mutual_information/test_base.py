"""Checks of pairs, and warnings about unreliable estimates."""

import math
import re
import warnings

import numpy as np
import pytest
from scipy.special import digamma
from sklearn.model_selection import cross_val_score

from benchmarks.studies.mutual_information import correlated
from cmim_sklearn.mutual_information import KSG, MINE, mutual_information
from cmim_sklearn.mutual_information._base import NormalScores, warn_if_unreliable
from tests.helpers import NEURAL_ESTIMATORS, SHORT_TRAINING

PAIRS = correlated(40, 2, 0.5)[:2]
WITH_NAN = np.where(np.arange(80).reshape(40, 2) == 7, np.nan, PAIRS[0])


@pytest.mark.parametrize(
    ("X", "Z", "message"),
    [
        (PAIRS[0], PAIRS[1][:39], "got 40 rows of X and 39 of "),
        (PAIRS[0][:9], PAIRS[1][:9], "Found array with 9 sample(s) (shape=(9, 2)) while a minimum"),
        (WITH_NAN, PAIRS[1], "Input X contains NaN"),
        (PAIRS[0], WITH_NAN, " contains NaN"),
        (PAIRS[0], np.where(np.isnan(WITH_NAN), np.inf, PAIRS[1]), " contains infinity"),
        (PAIRS[0], None, "array-like (array or non-string sequence), got None for "),
        (PAIRS[0], np.full((40, 1), "a"), "could not convert string to float"),
        (PAIRS[0], np.zeros((40, 2, 2)), "Found array with dim 3"),
    ],
)
@pytest.mark.parametrize(
    "use",
    [
        lambda X, Z: MINE(**SHORT_TRAINING).fit(X, Z),
        lambda X, Z: MINE(**SHORT_TRAINING).fit(*PAIRS).score(X, Z),
        lambda X, Z: KSG().fit(X, Z),
        lambda X, Z: KSG().score(X, Z),
        lambda X, Z: mutual_information(X, Z, "ksg"),
    ],
)
def test_bad_pairs(use, X, Z, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        use(X, Z)


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="Input Z contains NaN"):
        mutual_information(PAIRS[0], WITH_NAN)
    with pytest.raises(ValueError, match="Input y contains NaN"):
        MINE().fit(PAIRS[0], WITH_NAN)


def test_information_near_the_cap_warns():
    X = np.random.RandomState(0).randn(300, 1)
    message = r"KSG: the estimate of 4\.\d\d nats is close to 4\.20, the largest value that"
    with pytest.warns(UserWarning, match=message) as record:
        value = KSG().score(X, X)
    assert record[0].filename == __file__
    assert value <= digamma(300) - digamma(5)
    with pytest.warns(UserWarning, match=r"ksg: .* close to 2\.58, .*Score more rows"):
        mutual_information(X, X, "ksg")


def test_warning_in_scikit_learn_points_to_the_users_line():
    X = np.random.RandomState(0).randn(100, 1)
    with pytest.warns(UserWarning, match="the largest value") as record:
        cross_val_score(KSG(), X, X, cv=2)
    assert {warning.filename for warning in record} == {__file__}


@pytest.mark.parametrize("name", NEURAL_ESTIMATORS)
def test_neural_estimators_warn_near_the_log_of_the_rows(name, monkeypatch):
    X, Z, _ = correlated(100, 2, 0.5)
    estimator = NEURAL_ESTIMATORS[name](**SHORT_TRAINING).fit(X, Z)
    expected = rf"{type(estimator).__name__}: the estimate of 4\.20 nats is close to 4\.61"
    monkeypatch.setattr(NEURAL_ESTIMATORS[name], "_value", lambda self, F: 4.2)
    with pytest.warns(UserWarning, match=expected):
        estimator.score(X, Z)
    monkeypatch.setattr(NEURAL_ESTIMATORS[name], "_value", lambda self, F: 4.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        estimator.score(X, Z)


def test_small_caps_warn_within_0_3_nats():
    with pytest.warns(UserWarning, match=r"of 2\.01 nats is close to 2\.30"):
        warn_if_unreliable("KSG", 2.01, math.log(10))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warn_if_unreliable("KSG", 1.99, math.log(10))


def test_overfit_critic_warns():
    rng = np.random.RandomState(0)
    X = rng.randn(60, 2)
    Z = X + rng.randn(60, 2)
    with pytest.warns(UserWarning, match=r"mine: .* of -[\d.]+ nats is negative.* overfits"):
        mutual_information(X, Z, "mine", cv=2, random_state=0, max_iter=150, device="cpu")


def test_normal_scores_increase_and_clip_values_outside_their_range():
    rng = np.random.RandomState(0)
    X = rng.standard_cauchy((500, 2))
    scores = NormalScores(X)
    mapped = scores(X)
    np.testing.assert_allclose([mapped.mean(0), mapped.std(0)], [[0, 0], [1, 1]], atol=0.05)
    for column in range(2):
        ordered = mapped[np.argsort(X[:, column]), column]
        assert (np.diff(ordered) > 0).all()
    low, high = X.min(0), X.max(0)
    outside = np.array([low - 1, high + 1, high + 1e9])
    np.testing.assert_array_equal(scores(outside), scores(np.array([low, high, high])))
