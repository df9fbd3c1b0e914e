"""ONNX models of classifier and regressor, alone and from skl2onnx."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cmim_sklearn import CMIMClassifier, CMIMRegressor
from cmim_sklearn.onnx import register
from tests.helpers import make_mixed
from tests.onnx.conftest import QUICK, TOLERANCE, cells, run
from tests.onnx.test_register import pipeline_types

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

X = make_mixed(60)
AGE = X["age"].to_numpy()
TARGETS = {
    "strings": (np.array(["a", "bb", "c"])[np.digitize(AGE, [35, 45])], object),
    "booleans": (AGE > 40, bool),
    "small integers": (np.digitize(AGE, [35, 45]).astype("int8"), np.int64),
    "floats": (np.where(AGE > 40, 2.0, 0.0), np.float64),
}


def exported(predictor, tmp_path):
    predictor.to_onnx(tmp_path / "model.onnx")
    return onnx.load(tmp_path / "model.onnx")


def converted(predictor):
    skl2onnx = pytest.importorskip("skl2onnx")
    register()
    return skl2onnx.to_onnx(
        predictor,
        initial_types=pipeline_types(X, predictor.encoder_),
        options={id(predictor): {"zipmap": False}},
    )


@pytest.mark.parametrize("name", TARGETS)
def test_labels_and_probabilities_are_those_of_the_classifier(name, tmp_path):
    y, dtype = TARGETS[name]
    classifier = CMIMClassifier(**QUICK).fit(X, y)
    for model in (exported(classifier, tmp_path), converted(classifier)):
        got = run(model, cells(X, classifier.encoder_))
        assert set(got) == {"label", "probabilities"}
        assert got["label"].dtype == dtype
        assert_array_equal(got["label"], classifier.predict(X))
        assert_allclose(got["probabilities"], classifier.predict_proba(X), atol=TOLERANCE)


def test_values_are_those_of_the_regressor(tmp_path):
    regressor = CMIMRegressor(**QUICK).fit(X, AGE)
    for model in (exported(regressor, tmp_path), converted(regressor)):
        got = run(model, cells(X, regressor.encoder_))
        assert_allclose(got["value"], regressor.predict(X), rtol=10 * TOLERANCE)


def test_a_column_may_have_the_name_of_an_output(tmp_path):
    renamed = X.rename(columns={"age": "label", "score": "features"})
    classifier = CMIMClassifier(**QUICK).fit(renamed, AGE > 40)
    got = run(exported(classifier, tmp_path), cells(renamed, classifier.encoder_))
    assert set(got) == {"_label", "probabilities"}
    assert_array_equal(got["_label"], classifier.predict(renamed))
