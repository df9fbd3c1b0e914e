"""Pipelines with encoders, converted by skl2onnx."""

import sys
import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from cmim_sklearn import CMIMEncoder, VAEEncoder
from cmim_sklearn._encoders.base.parameters import ENCODERS
from cmim_sklearn._models.features import EMBEDDINGS
from cmim_sklearn.onnx import register
from tests.helpers import make_mixed
from tests.onnx.conftest import QUICK, TOLERANCE, cells, run, strange

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def pipeline_types(X, encoder):
    types = pytest.importorskip("skl2onnx.common.data_types")
    return [
        (
            name,
            types.StringTensorType([None, 1])
            if kind == "category"
            else types.DoubleTensorType([None, 1]),
        )
        for name, kind in zip(X.columns, encoder.table_.types, strict=True)
    ]


@pytest.mark.parametrize(
    ("embedding", "is_reversed"), [*((name, False) for name in EMBEDDINGS), ("layers", True)]
)
def test_a_pipeline_on_columns_in_any_order(embedding, is_reversed):
    skl2onnx = pytest.importorskip("skl2onnx")
    register()
    X = make_mixed()
    y = X.pop("member")
    pipe = make_pipeline(CMIMEncoder(**QUICK, embedding=embedding), LogisticRegression())
    pipe.fit(X, y)
    types = pipeline_types(X, pipe[0])
    model = skl2onnx.to_onnx(
        pipe,
        initial_types=types[::-1] if is_reversed else types,  # matched by name
        options={id(pipe): {"zipmap": False}},
    )
    onnx.checker.check_model(model, full_check=True)
    new = strange().drop(columns="member")
    got = run(model, cells(new, pipe[0]))["probabilities"]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Values not seen in fit")
        np.testing.assert_allclose(got, pipe.predict_proba(new), atol=TOLERANCE)


def test_a_pipeline_on_arrays():
    skl2onnx = pytest.importorskip("skl2onnx")
    types = pytest.importorskip("skl2onnx.common.data_types")
    register()
    X = np.random.RandomState(0).randn(100, 5).astype(np.float32)
    pipe = make_pipeline(VAEEncoder(**QUICK), LogisticRegression()).fit(X, X[:, 0] > 0)
    model = skl2onnx.to_onnx(
        pipe,
        initial_types=[("rows", types.FloatTensorType([None, 5]))],
        options={id(pipe): {"zipmap": False}},
    )
    got = run(model, {"rows": X})["probabilities"]
    np.testing.assert_allclose(got, pipe.predict_proba(X), atol=TOLERANCE)


def test_wrong_initial_types_raise(encoder):
    skl2onnx = pytest.importorskip("skl2onnx")
    register()
    types = pipeline_types(make_mixed(), encoder)
    with pytest.raises(
        ValueError, match=r"the 8 columns of fit, .* \[6, 7\]; got 7 columns, .* \[6\]"
    ):
        skl2onnx.to_onnx(encoder, initial_types=types[:-1])
    with pytest.raises(ValueError, match="`target_opset` must be at least 18; got 15"):
        skl2onnx.to_onnx(encoder, initial_types=types, target_opset=15)


def test_without_skl2onnx_register_raises(monkeypatch):
    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    with pytest.raises(ImportError, match=r"needs skl2onnx: pip install 'cmim-sklearn\[onnx\]'"):
        register()


def test_every_encoder_is_registered():
    skl2onnx = pytest.importorskip("skl2onnx")
    register()
    assert {f"CMIMSklearn{name}" for name in ENCODERS} <= set(skl2onnx.supported_converters())
