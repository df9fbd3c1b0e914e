"""Extreme tables: every method works on them, or raises an error that says why not."""

import numpy as np
import pandas as pd
import pytest
from skorch.callbacks import Callback

from cmim_sklearn import CMIMEncoder, InfoNCEEncoder
from tests.helpers import GENERATIVE, small_encoder, warns_of_empty_columns

pytestmark = pytest.mark.usefixtures("short_calibration")
N = 200
SMALL = {"max_iter": 3, "hidden_layer_sizes": (16,), "n_components": 4, "random_state": 0}


def normal(*shape):
    return np.random.RandomState(0).randn(*shape)


TABLES = {
    "1e30": {"a": 1e30 * normal(N), "b": normal(N)},
    "1e-30": {"a": 1e-30 * normal(N), "b": normal(N)},
    "1e300": {"a": 1e300 * normal(N), "b": normal(N)},
    "1e305": {"a": 1e305 * np.tanh(normal(N)), "b": np.where(np.arange(N) == 7, -1e305, normal(N))},
    "subnormal": {"a": 1e-310 * normal(N), "b": 5e-324 * (np.arange(N) % 9)},
    "1e-300 to 1e300": {"a": 10.0 ** np.linspace(-300, 300, N), "b": normal(N)},
    "1e15 and a little": {"a": 1e15 + np.arange(N), "b": 1e15 + 0.125 * (np.arange(N) % 3)},
    "last ulp": {"a": np.where(np.arange(N) == 7, np.nextafter(0.1, 1), 0.1), "b": normal(N)},
    "2**53": {"a": 2**53 - 1 - np.arange(N), "b": 2**53 - 1 - np.arange(N) % 5},
    "float32": {"a": (3.4e38 * np.tanh(2 * normal(N))).astype("f4"), "b": np.float32(normal(N))},
    "float16": {"a": (65504 * np.tanh(2 * normal(N))).astype("f2"), "b": np.float16(normal(N))},
    "bytes": {
        "a": np.random.RandomState(0).choice([0, 1, 255], N).astype("u1"),
        "b": np.random.RandomState(0).choice([-128, 0, 127], N).astype("i1"),
    },
    "one value of 1e30": {"a": np.where(np.arange(N) == 7, 1e30, normal(N)), "b": normal(N)},
    "constant": {"a": np.full(N, 3.25), "b": normal(N)},
    "all constant": {"a": np.full(N, 3.25), "b": np.full(N, 1e30)},
    "missing": {"a": np.full(N, np.nan), "b": normal(N)},
    "one value seen": {"a": np.where(np.arange(N) == 7, 1.0, np.nan), "b": normal(N)},
    "integer ids": {"a": np.arange(N) + 10**15, "b": normal(N)},
    "string ids": {"a": [f"id {i}" for i in range(N)], "b": normal(N)},
    "99 % zeros": {"a": np.where(np.arange(N) % 100, 0.0, normal(N) ** 2), "b": normal(N)},
    "duplicates": {"a": np.repeat(normal(2), N // 2), "b": np.repeat(normal(4), N // 4)},
    "collinear": {name: factor * normal(N) for name, factor in {"a": 1, "b": -2, "c": 1e6}.items()},
    "wide": {f"c{i}": values for i, values in enumerate(normal(120, 50))},
    "2 rows": {"a": [1.5, 2.5], "b": ["x", "y"]},
    "2 equal rows": {"a": [1.5, 1.5], "b": ["x", "x"]},
    "1 column": {"a": normal(N)},
    "1 column of 2 values": {"a": np.arange(N) % 2 == 0},
}


def assert_in_range(back, table, scaling):
    """Check that numbers are finite, and in the range of the table unless they may leave it."""
    for name in table.select_dtypes("number"):
        values, original = (frame[name].dropna().astype(float) for frame in (back, table))
        assert not np.isinf(values).any()
        if (scaling == "quantile" or table[name].dtype.kind in "iu") and len(original):
            assert values.between(original.min(), original.max()).all()


CASES = [
    pytest.param(name, scaling, marks=[] if scaling == "quantile" else pytest.mark.slow)
    for name in TABLES
    for scaling in ("quantile", "standard", None)
]
"""Tables and scalings; the quick suite has the default scaling only."""


@pytest.mark.parametrize(("name", "scaling"), CASES)
def test_all_methods_work_on_extreme_tables(name, scaling, tmp_path):
    table = pd.DataFrame(TABLES[name])
    with warns_of_empty_columns(table):
        encoder = CMIMEncoder(**SMALL, numeric_scaling=scaling).fit(table)
    Z = encoder.transform(table)
    assert np.isfinite(Z).all()
    is_seen = table.notna().any()
    for back in (encoder.inverse_transform(Z), encoder.sample(20, random_state=0)):
        assert list(back.dtypes) == list(table.dtypes)
        assert back.loc[:, is_seen].notna().all(axis=None)
        assert_in_range(back, table, scaling)
    some = table[:20]  # among them the rows with extreme values
    scores = encoder.score_samples(some)
    assert np.isfinite(scores).all()
    hidden = some.mask(np.random.RandomState(0).rand(*some.shape) < 0.3)
    for imputed in (encoder.impute(hidden), *encoder.impute(hidden, n_draws=1, random_state=0)):
        assert imputed.loc[:, is_seen].notna().all(axis=None)
        assert_in_range(imputed, table, scaling)
    encoder.save(tmp_path / "file")
    again = CMIMEncoder.load(tmp_path / "file")
    np.testing.assert_array_equal(again.transform(table), Z)
    np.testing.assert_array_equal(again.score_samples(some), scores)


@pytest.mark.parametrize("name", GENERATIVE)
@pytest.mark.parametrize("rows", ["all constant", "2 equal rows"])
def test_encoders_with_a_decoder_work_on_equal_rows(name, rows):
    table = pd.DataFrame(TABLES[rows])
    encoder = small_encoder(name).fit(table)
    assert np.isfinite(encoder.transform(table)).all()
    assert np.isfinite(encoder.score_samples(table)).all()
    pd.testing.assert_frame_equal(encoder.sample(len(table), random_state=0), table)


@pytest.mark.parametrize("name", TABLES)
def test_an_encoder_without_decoder_works_on_extreme_tables(name, tmp_path):
    table = pd.DataFrame(TABLES[name])
    with warns_of_empty_columns(table):
        encoder = InfoNCEEncoder(**SMALL, projector_layer_sizes=(8,)).fit(table)
    Z = encoder.transform(table)
    assert np.isfinite(Z).all()
    encoder.save(tmp_path / "file")
    np.testing.assert_array_equal(InfoNCEEncoder.load(tmp_path / "file").transform(table), Z)


class CheckGradients(Callback):
    """Check that squares of gradients are finite: fused Adam on a GPU sets others to NaN."""

    n_steps = 0

    def on_grad_computed(self, net, named_parameters, **kwargs):
        self.n_steps += 1
        for name, weight in named_parameters:
            assert weight.grad.square().isfinite().all(), name


@pytest.mark.parametrize("hidden_layer_sizes", [(16,), ()], ids=["layers", "linear"])
@pytest.mark.parametrize("name", ["1e300", "one value of 1e30", "all constant", "integer ids"])
def test_gradients_of_unscaled_extreme_tables_have_finite_squares(name, hidden_layer_sizes):
    table, check = pd.DataFrame(TABLES[name]), CheckGradients()
    own = {"hidden_layer_sizes": hidden_layer_sizes, "net_params": {"callbacks": [check]}}
    CMIMEncoder(**SMALL | own, numeric_scaling=None).fit(table)
    assert check.n_steps > 0


def test_one_row_or_no_column_raises():
    with pytest.raises(ValueError, match=r"1 sample\(s\).*minimum of 2"):
        CMIMEncoder(**SMALL).fit(pd.DataFrame({"a": [1.0]}))
    with pytest.raises(ValueError, match=r"0 feature\(s\).*minimum of 1"):
        CMIMEncoder(**SMALL).fit(pd.DataFrame(index=range(5)))
