"""scikit-learn's estimator checks, for every encoder, variants of two, classifier and regressor."""

import functools

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator

from cmim_sklearn import CMIMClassifier, CMIMEncoder, CMIMRegressor, VAEEncoder
from tests.helpers import ENCODERS, small_encoder

pytestmark = pytest.mark.usefixtures("short_calibration")
QUICK = {"max_iter": 2, "hidden_layer_sizes": (16,), "n_components": 4, "random_state": 0}
LEARNERS = {name: small_encoder(name) for name in ENCODERS}
VARIANTS = {
    "defaults": CMIMEncoder(max_iter=2, random_state=0),
    "mean": CMIMEncoder(**QUICK, embedding="mean"),
    "informative": CMIMEncoder(**QUICK, embedding="informative"),
    "hidden": CMIMEncoder(**QUICK, embedding="hidden"),
    "learned": CMIMEncoder(**QUICK, posterior="learned"),
    "fixed": CMIMEncoder(**QUICK, posterior="fixed"),
    "standard": CMIMEncoder(**QUICK, numeric_scaling="standard"),
    "unscaled": CMIMEncoder(**QUICK, numeric_scaling=None),
    "early_stopping": CMIMEncoder(**QUICK, early_stopping=True),
    "normal": CMIMEncoder(**QUICK, latent_prior="normal", input_masking=0.2),
    "linear": CMIMEncoder(**QUICK | {"hidden_layer_sizes": ()}),
    "mmd": VAEEncoder(**QUICK, beta=0.0, mmd_weight=10.0, latent_prior="mixture"),
}
PREDICTORS = {"classifier": CMIMClassifier(**QUICK), "regressor": CMIMRegressor(**QUICK)}
CHANGEABLE = {
    "check_estimators_dtypes", "check_fit2d_1feature", "check_fit_idempotent",
    "check_methods_subset_invariance", "check_transformer_general",
}  # fmt: skip
"""Checks that a variant can change: they depend on its features, weights or table."""


def checks_of(estimators, quick=None):
    """Parameters of a test: each estimator with each check; those not in quick are slow."""
    for name, estimator in estimators.items():
        for instance, check in estimator_checks_generator(estimator):
            function = check.func if isinstance(check, functools.partial) else check
            is_slow = quick is not None and function.__name__ not in quick
            marks = [pytest.mark.slow] if is_slow else []
            yield pytest.param(instance, check, id=f"{name}-{function.__name__}", marks=marks)


@pytest.mark.parametrize(("estimator", "check"), [*checks_of(LEARNERS)])
def test_encoders_pass_every_check(estimator, check):
    check(estimator)


@pytest.mark.parametrize(("estimator", "check"), [*checks_of(PREDICTORS)])
def test_classifier_and_regressor_pass_every_check(estimator, check):
    check(estimator)


@pytest.mark.parametrize(("estimator", "check"), [*checks_of(VARIANTS, CHANGEABLE)])
def test_variants_pass_every_check(estimator, check):
    check(estimator)


def test_checks_that_a_variant_can_change_exist():
    names = {check.func.__name__ for _, check in estimator_checks_generator(CMIMEncoder())}
    assert names >= CHANGEABLE
