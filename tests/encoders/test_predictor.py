"""Classifier and regressor: labels, features, parameters, files and state."""

import copy
import inspect
import pickle
import re

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GridSearchCV, cross_val_score

from cmim_sklearn import CMIMClassifier, CMIMEncoder, CMIMRegressor, EncoderFileError
from cmim_sklearn._encoders.predictor import PREDICTORS
from tests.helpers import forge, make_mixed

CLASSES = [CMIMClassifier, CMIMRegressor]
ROWS = 60
IS_LABELLED = np.arange(ROWS) % 3 > 0


def data(cls):
    """Table and complete labels for a class: three classes, or numbers."""
    X = make_mixed(ROWS)
    age = X.pop("age").to_numpy()
    return X, (np.digitize(age, [35, 45]) + 3 if cls is CMIMClassifier else age + 0.5)


def partly(y, missing):
    """Labels as an object array, with a value for missing ones."""
    out = y.astype(object)
    out[~IS_LABELLED] = missing
    return out


@pytest.fixture(scope="module")
def predictors():
    """Fitted estimators by class, for the first labels of `data`. Copy them before a change."""
    quick = {"max_iter": 2, "hidden_layer_sizes": (8,), "n_components": 3, "random_state": 0}
    fitted = {}
    for cls in CLASSES:
        X, y = data(cls)
        fitted[cls] = cls(**quick).fit(X, partly(y, None))
    return fitted


@pytest.mark.parametrize("cls", CLASSES)
def test_parameters_are_those_of_the_encoder_documented_and_validated(cls):
    parameters = inspect.signature(cls).parameters
    of_encoder = set(inspect.signature(CMIMEncoder).parameters) - {"target_type"}
    own = {"C"} if cls is CMIMClassifier else {"alphas"}
    assert set(parameters) == set(cls._parameter_constraints) == of_encoder | own
    section = cls.__doc__.split("----------\n")[1]
    documented = dict(re.findall(r"^(\w+) : .*default=(.*)$", section, flags=re.M))
    assert list(documented) == list(parameters)
    for name, parameter in parameters.items():
        assert eval(documented[name]) == parameter.default, name
    assert "%(" not in cls.__doc__
    with pytest.raises(TypeError, match="n_component"):
        cls(n_component=3)
    with pytest.raises(ValueError, match=f"'n_components' parameter of {cls.__name__}.*Got 0"):
        cls(n_components=0).fit(*data(cls))


@pytest.mark.parametrize("cls", CLASSES)
def test_predictions_are_those_of_a_linear_model_on_labelled_features(predictors, cls):
    predictor, (X, y) = predictors[cls], data(cls)
    encoder = CMIMEncoder(
        **{k: v for k, v in predictor.get_params().items() if k in CMIMEncoder().get_params()},
        target_type="classification" if cls is CMIMClassifier else "regression",
    ).fit(X, partly(y, None))
    Z = encoder.transform(X).astype(float)
    assert_array_equal(predictor.transform(X), Z.astype("float32"))
    if cls is CMIMClassifier:
        linear = LogisticRegression(max_iter=1000)
    else:
        linear = RidgeCV(predictor.alphas)
    linear.fit(Z[IS_LABELLED], y[IS_LABELLED])
    assert_array_equal(predictor.predict(X), linear.predict(Z))
    assert_array_equal(predictor.transduction_, np.where(IS_LABELLED, y, linear.predict(Z)))
    assert predictor.transduction_.dtype == y.dtype
    if cls is CMIMClassifier:
        for method in ("predict_proba", "predict_log_proba", "decision_function"):
            assert_array_equal(getattr(predictor, method)(X), getattr(linear, method)(Z))
        assert_array_equal(predictor.classes_, [3, 4, 5])


@pytest.mark.parametrize(
    "as_y",
    [
        lambda y: partly(y, np.nan),
        lambda y: partly(y, pd.NA),
        lambda y: partly(y, -1).astype(int),
        lambda y: np.where(IS_LABELLED, y, np.nan),
        lambda y: pd.Series(partly(y, None), dtype="Int64"),
        lambda y: pl.Series(partly(y, None).tolist()),
        lambda y: pa.array(partly(y, None).tolist()),
        lambda y: partly(y, None).tolist(),
    ],
)
def test_every_form_of_missing_labels_gives_the_same_classifier(predictors, as_y):
    fitted, (X, y) = predictors[CMIMClassifier], data(CMIMClassifier)
    again = clone(fitted).fit(X, as_y(y))
    assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    # Scores leave out the same rows.
    assert again.score(X, as_y(y)) == np.mean(fitted.predict(X)[IS_LABELLED] == y[IS_LABELLED])


@pytest.mark.parametrize("cls", CLASSES)
def test_score_leaves_out_rows_without_labels(predictors, cls):
    predictor, (X, y) = predictors[cls], data(cls)
    weight = np.arange(ROWS, dtype=float)
    for kept in (None, weight):
        of_rows = None if kept is None else kept[IS_LABELLED]
        expected = predictor.score(X[IS_LABELLED], y[IS_LABELLED], of_rows)
        assert predictor.score(X, partly(y, None), kept) == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match=r"y must have a label in at least one row.*got none"):
        predictor.score(X, [None] * ROWS)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        predictor.score(X, y[:-1])


def test_minus_one_is_a_label_of_two_classes_with_one():
    X, y = data(CMIMClassifier)
    signs = np.where(y > 3, 1, -1)
    classifier = CMIMClassifier(max_iter=1, hidden_layer_sizes=(4,), random_state=0).fit(X, signs)
    assert_array_equal(classifier.classes_, [-1, 1])
    assert classifier.score(X[y == 3], signs[y == 3]) == np.mean(
        classifier.predict(X[y == 3]) == -1
    )


def test_an_unseen_class_counts_as_wrong(predictors):
    classifier, (X, _) = predictors[CMIMClassifier], data(CMIMClassifier)
    assert classifier.score(X, np.full(ROWS, 9)) == 0


@pytest.mark.parametrize(
    ("cls", "y", "error", "message"),
    [
        (CMIMClassifier, None, ValueError, "CMIMClassifier requires y to be passed, but the"),
        (CMIMClassifier, [-1] * ROWS, ValueError, "y has no labelled row"),
        (CMIMClassifier, [4, None] * 30, ValueError, "at least 2 classes; got one class, 4"),
        (CMIMClassifier, [0.5, 1.5] * 30, ValueError, "Unknown label type.*got 0.5"),
        (CMIMClassifier, [0, 1], ValueError, r"inconsistent numbers of samples: \[60, 2\]"),
        (CMIMClassifier, [[0, 1]] * ROWS, ValueError, "2 columns"),
        (CMIMRegressor, ["a", "b"] * 30, ValueError, "must hold numbers.*got 'a'"),
        (CMIMRegressor, [np.inf] * ROWS, ValueError, "infinity"),
        (CMIMRegressor, [np.nan] * ROWS, ValueError, "y has no labelled row"),
    ],
)
def test_invalid_labels_raise(cls, y, error, message):
    with pytest.raises(error, match=message):
        cls(max_iter=1).fit(make_mixed(ROWS), y)


def test_searches_score_labelled_rows(quick):
    X, y = data(CMIMClassifier)
    some = partly(y, -1).astype(int)
    classifier = CMIMClassifier(**quick)
    scores = cross_val_score(classifier, X, some, cv=2)
    assert len(scores) == 2
    search = GridSearchCV(classifier, {"label_weight": [0, 10]}, cv=2).fit(X, some)
    assert len(search.cv_results_["params"]) == 2
    assert_array_equal(search.classes_, [3, 4, 5])


@pytest.mark.parametrize("cls", CLASSES)
def test_the_output_of_transform_can_be_a_table(predictors, cls):
    predictor, (X, _) = copy.deepcopy(predictors[cls]), data(cls)
    Z = predictor.set_output(transform="pandas").transform(X)
    assert list(Z.columns) == list(predictor.get_feature_names_out())
    assert Z.columns[0] == f"{cls.__name__.lower()}0"
    assert_array_equal(predictor.predict(X), predictors[cls].predict(X))


def test_warm_start_continues_the_encoder():
    X, y = data(CMIMClassifier)
    classifier = CMIMClassifier(max_iter=1, hidden_layer_sizes=(4,), warm_start=True)
    assert classifier.fit(X, y).fit(X, y).n_iter_ == classifier.encoder_.n_iter_ == 2


# -- state and files -------------------------------------------------------------------------------


def through_skops(estimator):
    import skops.io

    data = skops.io.dumps(estimator)
    ours = [t for t in skops.io.get_untrusted_types(data=data) if t.startswith("cmim_sklearn.")]
    return skops.io.loads(data, trusted=ours)


def through_file(estimator, folder):
    estimator.save(folder / "model.cmim")
    return type(estimator).load(folder / "model.cmim")


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("how", ["pickle", "skops", "file", "deepcopy"])
def test_a_copy_predicts_the_same(predictors, cls, how, tmp_path):
    fitted, (X, y) = copy.deepcopy(predictors[cls]).set_output(transform="pandas"), data(cls)
    again = {
        "pickle": lambda e: pickle.loads(pickle.dumps(e)),
        "skops": through_skops,
        "file": lambda e: through_file(e, tmp_path),
        "deepcopy": copy.deepcopy,
    }[how](fitted)
    assert repr(again) == repr(fitted)
    assert_array_equal(again.predict(X), fitted.predict(X))
    pd.testing.assert_frame_equal(again.transform(X), fitted.transform(X), check_exact=True)
    assert_array_equal(again.feature_names_in_, fitted.feature_names_in_)
    assert again.score(X, y) == fitted.score(X, y)
    assert again.encoder_.n_iter_ == again.n_iter_ == 2
    assert hasattr(again, "transduction_") == (how != "file")
    if cls is CMIMClassifier:
        assert again.classes_.dtype == fitted.classes_.dtype
        assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))


def test_files_hold_no_label_of_a_row(tmp_path):
    X, y = data(CMIMRegressor)
    y = y + 1e-3 * np.arange(ROWS)
    regressor = CMIMRegressor(max_iter=1, hidden_layer_sizes=(4,)).fit(X, y)
    regressor.save(tmp_path / "model.cmim")
    content = (tmp_path / "model.cmim").read_bytes()
    assert not any(np.float64(value).tobytes() in content for value in y)


def test_files_of_another_class_raise(predictors, tmp_path):
    path = tmp_path / "model.cmim"
    predictors[CMIMClassifier].save(path)
    with pytest.raises(EncoderFileError, match=r"holds a CMIMClassifier, not a CMIMEncoder\. Use"):
        CMIMEncoder.load(path)
    with pytest.raises(EncoderFileError, match="holds a CMIMClassifier, not a CMIMRegressor"):
        CMIMRegressor.load(path)
    predictors[CMIMClassifier].encoder_.save(path)
    with pytest.raises(EncoderFileError, match="holds a CMIMEncoder, not a CMIMClassifier"):
        CMIMClassifier.load(path)

    class Other(CMIMClassifier):
        pass

    for method in (Other().save, Other.load):
        with pytest.raises(TypeError, match=r"CMIMClassifier and CMIMRegressor; got .*Other"):
            method(path)
    with pytest.raises(NotFittedError):
        CMIMClassifier().save(path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m, a: m["parameters"].update(C=-1.0), "'C' parameter of CMIMClassifier.*-1.0"),
        (lambda m, a: m["parameters"].update(D=1.0), r"parameters must be \['C'\]; got \['C', 'D"),
        (lambda m, a: m["model"].update(n=1), r"linear model must be \['classes_', .*; got .*'n'"),
        (lambda m, a: a.update({"model.coef_": a["model.coef_"][:2]}), r"coef_ .*shape \(2, 16\)"),
        (lambda m, a: a["model.intercept_"].fill(np.nan), "intercept_ .* finite numbers"),
        (lambda m, a: a["model.classes_"].fill(1), "2 or more different numbers or strings"),
        (lambda m, a: a["encoder"].__setitem__(slice(400, 900), 0), "cannot be loaded"),
        (lambda m, a: a.update(more=np.zeros(2)), "array 'more' is not part of any value"),
    ],
)
def test_forged_files_raise(predictors, tmp_path, edit, message):
    predictors[CMIMClassifier].save(tmp_path / "model.cmim")

    def change(manifest, arrays):
        arrays.update({name: array.copy() for name, array in arrays.items()})
        edit(manifest, arrays)

    forged = forge(tmp_path / "model.cmim", tmp_path / "forged.cmim", change)
    with pytest.raises(EncoderFileError, match=message):
        CMIMClassifier.load(forged)


def test_every_final_class_is_registered():
    assert {cls.__name__: cls for cls in CLASSES} == PREDICTORS
