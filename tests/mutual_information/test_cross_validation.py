"""Held-out estimates over folds: `mutual_information` and its result."""

import math

import numpy as np
import pytest
import torch
from scipy.special import digamma
from sklearn.model_selection import GroupKFold, ShuffleSplit

from benchmarks.studies.mutual_information import correlated
from cmim_sklearn.mutual_information import MutualInformation, mutual_information
from cmim_sklearn.mutual_information._estimators import ESTIMATORS
from tests.helpers import SHORT_TRAINING

NARROW = {"hidden_layer_sizes": (64,), "device": "cpu"}


@pytest.mark.filterwarnings("ignore:.*the critic overfits")
@pytest.mark.parametrize("name", ESTIMATORS)
def test_result_is_the_mean_over_folds_and_repeats(name):
    X, Z, _ = correlated(200, 2, 0.5)
    options = {} if name == "ksg" else SHORT_TRAINING.copy()
    options.pop("random_state", None)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    result = mutual_information(X, Z, name, cv=4, random_state=0, **options)
    assert len(result.folds) == 4
    assert result.estimate == pytest.approx(np.mean(result.folds))
    assert result.error == pytest.approx(np.std(result.folds, ddof=1) / 2)
    expected = digamma(50) - digamma(5) if name == "ksg" else math.log(50)
    assert result.cap == pytest.approx(expected)
    assert mutual_information(X, Z, name, cv=4, random_state=0, **options) == result
    assert mutual_information(X, Z, name, cv=4, random_state=1, **options) != result
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


def test_folds_are_disjoint_parts_of_shuffled_rows():
    """Sorted rows would give folds that each hold a narrow range of X, and little information."""
    X, Z, truth = correlated(2000, 1, 0.9)
    order = np.argsort(X[:, 0])
    result = mutual_information(X[order], Z[order], "ksg", random_state=0)
    assert result.estimate == pytest.approx(truth, abs=0.08)


@pytest.mark.filterwarnings("ignore:.*the critic overfits")
@pytest.mark.parametrize("name", ESTIMATORS)
def test_held_out_pairs_are_scored(name):
    X, Z, truth = correlated(900, 1, 0.9)
    Z[600:] = np.random.RandomState(1).permutation(Z[600:])  # no information in these
    options = {} if name == "ksg" else {"max_iter": 200, **NARROW}
    folds = [(np.arange(600), np.arange(600, 900))]
    result = mutual_information(X, Z, name, cv=folds, random_state=0, **options)
    assert result.estimate < 0.3 * truth


def test_cap_is_that_of_the_smallest_fold():
    result = mutual_information(*correlated(201, 1, 0.1)[:2], "ksg", cv=4, random_state=0)
    assert result.cap == pytest.approx(digamma(50) - digamma(5))


def test_dataframes_and_splitters():
    pandas = pytest.importorskip("pandas")
    X, Z, _ = correlated(200, 2, 0.5)
    expected = mutual_information(X, Z, "ksg", random_state=0)
    frames = pandas.DataFrame(X, columns=["a", "b"]), pandas.DataFrame(Z, columns=["c", "d"])
    assert mutual_information(*frames, "ksg", random_state=0) == expected
    single = mutual_information(X, Z, "ksg", cv=ShuffleSplit(1, random_state=0))
    assert len(single.folds) == 1
    assert math.isnan(single.error)
    groups = GroupKFold(4).split(X, groups=np.arange(200) // 10)
    assert len(mutual_information(X, Z, "ksg", cv=groups).folds) == 4


@pytest.mark.parametrize("name", ["mine", "nwj", "infonce"])
def test_outliers_do_not_dominate_the_estimate(name):
    rng = np.random.RandomState(1)
    X = rng.standard_cauchy((900, 2))
    Z = X + rng.standard_cauchy((900, 2))
    result = mutual_information(X, Z, name, cv=2, random_state=0, max_iter=100, **NARROW)
    assert min(result.folds) > 0.3


@pytest.mark.parametrize("name", ESTIMATORS)
def test_independent_sides_have_no_information(name):
    X, Z, _ = correlated(1500, 2, 0.0)
    options = {} if name == "ksg" else {"max_iter": 100, **NARROW}
    result = mutual_information(X, Z, name, cv=2, random_state=0, **options)
    assert result.estimate == pytest.approx(0, abs=0.05)


def test_unknown_method_lists_the_known_methods():
    with pytest.raises(ValueError, match="a str among") as caught:
        mutual_information(np.eye(10), np.eye(10), "elbo")
    for name in ("infonce", "ksg", "mine", "nwj", "smile"):
        assert f"'{name}'" in str(caught.value)


def test_repr_and_fields_of_the_result():
    result = MutualInformation(0.51234, 0.0191, (0.5, 0.52), 5.298)
    assert repr(result) == "MutualInformation(0.512 ± 0.019 nats, 2 folds, cap 5.30)"
    assert "± nan nats, 1 fold, cap" in repr(MutualInformation(0.5, math.nan, (0.5,), 5.3))
    estimate, error, folds, cap = result
    assert (estimate, error, folds, cap) == (0.51234, 0.0191, (0.5, 0.52), 5.298)
