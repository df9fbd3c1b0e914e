"""Estimators that train a critic: objectives, accuracy, scikit-learn's checks, bad parameters."""

import math
import re

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from benchmarks.studies.mutual_information import correlated
from cmim_sklearn.mutual_information import KSG, MINE, NWJ, SMILE, InfoNCE, mutual_information
from cmim_sklearn.mutual_information._bounds import (
    donsker_varadhan,
    infonce_bound,
    jensen_shannon,
    nwj,
    smile,
)
from cmim_sklearn.mutual_information._critics import CRITICS
from cmim_sklearn.mutual_information._estimators import ESTIMATORS
from tests.helpers import NEURAL_ESTIMATORS, SHORT_TRAINING, score_matrix

PAIRS = correlated(40, 2, 0.5)[:2]


@pytest.mark.parametrize(
    ("estimator", "objective", "value"),
    [
        (MINE(), donsker_varadhan, donsker_varadhan),
        (NWJ(), nwj, nwj),
        (InfoNCE(), infonce_bound, infonce_bound),
        (SMILE(clip=1.5), jensen_shannon, lambda F: smile(F, 1.5)),
    ],
)
def test_objective_and_estimate_of_each_estimator(estimator, objective, value):
    F = score_matrix()
    assert estimator._objective()(F).item() == pytest.approx(objective(F).item())
    assert estimator._value(F) == value(F)


def test_only_the_objective_of_mine_depends_on_past_batches():
    first, second = score_matrix(), 2 * score_matrix() + 1
    for estimator in (MINE(momentum=0.7), NWJ(), InfoNCE(), SMILE()):
        used, fresh = estimator._objective(), estimator._objective()
        used(first)
        gradients = []
        for objective in (used, fresh):
            F = second.clone().requires_grad_()
            objective(F).backward()
            gradients.append(F.grad)
        assert torch.equal(*gradients) == (not isinstance(estimator, MINE))


@pytest.mark.parametrize("critic", CRITICS)
@pytest.mark.parametrize("name", NEURAL_ESTIMATORS)
def test_estimate_is_near_the_information_of_a_gaussian(name, critic, pairs):
    X, Z, X_test, Z_test, truth = pairs
    options = {
        "separable": {"hidden_layer_sizes": (64,), "max_iter": 200},
        "concat": {"hidden_layer_sizes": (32,), "batch_size": 32, "learning_rate_init": 3e-3},
    }[critic]
    options = {"max_iter": 250, "random_state": 0, "device": "cpu"} | options
    estimator = NEURAL_ESTIMATORS[name](critic=critic, **options)
    value = estimator.fit(X, Z).score(X_test, Z_test)
    assert type(value) is float
    assert truth == pytest.approx(1.0217, abs=1e-4)
    # The deviation of 500 pairs' mean information is 0.05.
    assert value == pytest.approx(truth, abs=0.25)


def test_cross_val_score_clone_and_repr(pairs):
    X, Z, *_ = pairs
    values = cross_val_score(InfoNCE(**SHORT_TRAINING), X, Z, cv=3, error_score="raise")
    assert np.isfinite(values).all()
    assert clone(SMILE(clip=2.0)).get_params()["clip"] == 2.0
    assert repr(MINE(momentum=0.5)) == "MINE(momentum=0.5)"


@parametrize_with_checks([*(kind(**SHORT_TRAINING) for kind in NEURAL_ESTIMATORS.values()), KSG()])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
@pytest.mark.parametrize("map_name", ["none", "cubic"])
@pytest.mark.parametrize("rho", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("d", [2, 20])
@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.filterwarnings("ignore:.*the largest value that the rows:UserWarning")
def test_accuracy_on_gaussians(name, d, rho, map_name):
    """Estimates are near the true value in 2 dimensions, and below it in 20, with 4,000 rows."""
    X, Z, truth = correlated(5000, d, rho, map_name)
    options = {} if name == "ksg" else {"device": "cpu"}
    estimator = ESTIMATORS[name](random_state=0, **options)
    value = estimator.fit(X[:4000], Z[:4000]).score(X[4000:], Z[4000:])
    if d == 2:
        assert value == pytest.approx(truth, abs=0.04 + 0.12 * truth)
    elif name == "ksg":
        assert 0 < value < 0.3 * truth
    else:
        # The information of a thousand pairs has a deviation of rho sqrt(d) / sqrt(1000).
        least = {0.2: 0.2, 0.5: 0.55, 0.9: 0.3}[rho]
        assert least * truth < value < truth + 2 * rho * math.sqrt(20 / 1000)
    if name == "infonce":
        assert value < math.log(1000)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nwj", "infonce"])
def test_accuracy_in_twenty_dimensions_with_many_rows(name):
    X, Z, truth = correlated(42_000, 20, 0.5)
    estimator = NEURAL_ESTIMATORS[name](random_state=0, device="cpu").fit(X[:40_000], Z[:40_000])
    assert truth == pytest.approx(2.877, abs=1e-3)
    assert estimator.score(X[40_000:], Z[40_000:]) == pytest.approx(truth, rel=0.15)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mutual_information(*PAIRS, "elbo"), "Got 'elbo' instead"),
        (lambda: mutual_information(*PAIRS, "ksg", cv=1), "Got 1 instead"),
        (lambda: mutual_information(*PAIRS, "ksg", cv=5), "got 40 rows in all and 8 in the sma"),
        (lambda: mutual_information(*PAIRS, "ksg", cv=2, clip=1), "Invalid parameter 'clip'"),
        (lambda: MINE(momentum=1.0).fit(*PAIRS), "(0.0, 1.0). Got 1.0 instead"),
        (lambda: SMILE(clip=0.0).fit(*PAIRS), "(0.0, inf]. Got 0.0 instead"),
        (lambda: NWJ(critic="bilinear").fit(*PAIRS), "Got 'bilinear' instead"),
        (lambda: NWJ((8, 0)).fit(*PAIRS), "of at least 1, one per layer, or be empty; got (8, 0)."),
        (lambda: NWJ(batch_size=1).fit(*PAIRS), "[2, inf). Got 1 instead"),
        (lambda: NWJ(device="tpu").fit(*PAIRS), "Got 'tpu' instead"),
        (lambda: KSG(n_neighbors=0).fit(*PAIRS), "[1, inf). Got 0 instead"),
        (lambda: KSG(n_neighbors=40).score(*PAIRS), "got n_neighbors=40 and 40 rows."),
        (lambda: NWJ(**SHORT_TRAINING).score(*PAIRS), "This NWJ instance is not fitted yet"),
        (
            lambda: NWJ(**SHORT_TRAINING).fit(*PAIRS).score(PAIRS[0], PAIRS[1][:, :1]),
            "y must have 2 features, as in fit; got 1.",
        ),
        (
            lambda: NWJ(**SHORT_TRAINING).fit(*PAIRS).score(PAIRS[0][:, :1], PAIRS[1]),
            "X has 1 features, but NWJ is expecting 2 features",
        ),
    ],
)
def test_bad_parameters(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
