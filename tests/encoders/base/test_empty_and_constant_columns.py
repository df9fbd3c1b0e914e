"""Columns without any value in fit, and columns with one value."""

import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline

from cmim_sklearn import CMIMEncoder
from cmim_sklearn._encoders.base import given_cells
from tests.helpers import ENCODERS, LIBRARIES, small_encoder, to_pandas, warns_of_empty_columns

pytestmark = pytest.mark.usefixtures("short_calibration")
N = 40
MAKERS = LIBRARIES | {
    "objects": lambda frame: frame.to_numpy(object),
    "list": lambda frame: [list(row) for row in frame.to_numpy(object)],
}


def with_text(text):
    return pd.DataFrame(
        {"v": np.random.RandomState(0).randn(N), "t": pd.Series(text, dtype=object)}
    )


EMPTY, LATER = with_text([None] * N), with_text(["x", None] * (N // 2))
MISSING = "Values not seen in fit are treated as missing. Columns: "


def column(table, position=1):
    """Column of any table as a list, with None where missing."""
    frame = table if hasattr(table, "columns") else pd.DataFrame(np.array(table, dtype=object))
    values = to_pandas(frame).iloc[:, position]
    return values.astype(object).where(values.notna(), None).tolist()


# -- columns without any value in fit --------------------------------------------------------------


@pytest.mark.parametrize("library", MAKERS)
def test_text_in_one_group_of_cross_validation_does_not_matter(library):
    groups = np.repeat([0, 1, 2], 20)
    X = pd.DataFrame({"v": np.random.RandomState(0).randn(60)})
    X["t"] = pd.Series(np.where(groups == 0, np.array(["x", "y"] * 30), None), dtype=object)
    pipe = make_pipeline(small_encoder(), LogisticRegression())
    with pytest.warns(UserWarning, match="treated as missing") as caught:
        scores = cross_val_score(
            pipe, MAKERS[library](X), X["v"] > 0, groups=groups, cv=GroupKFold(3),
            error_score="raise",
        )  # fmt: skip
    assert np.isfinite(scores).all()
    assert len(caught) == 2  # of the fold without text, in fit and later


@pytest.mark.parametrize("library", MAKERS)
def test_every_method_treats_later_values_as_missing(library, tmp_path):
    make = MAKERS[library]
    empty, later = make(EMPTY), make(LATER)
    with warns_of_empty_columns(empty) as caught:
        encoder = small_encoder().fit(empty)
    assert len(caught) == 1
    encoder.save(tmp_path / "file")
    loaded = [pickle.loads(pickle.dumps(encoder)), CMIMEncoder.load(tmp_path / "file")]
    calls = [(encoder, "reconstruct"), (encoder, "score_samples")]
    for fitted, method in [*calls, *((fitted, "transform") for fitted in [encoder, *loaded])]:
        with pytest.warns(UserWarning, match=MISSING) as caught:
            found = getattr(fitted, method)(later)
        assert len(caught) == 1
        np.testing.assert_array_equal(found, getattr(fitted, method)(empty))
    for draws in (None, 2):
        with pytest.warns(UserWarning, match=MISSING) as caught:
            imputed = encoder.impute(later, n_draws=draws)
        assert len(caught) == 1
        assert column(imputed[0] if draws else imputed) == column(later)
    assert set(column(encoder.sample(5))) == {None}
    assert set(column(encoder.inverse_transform(encoder.transform(empty)))) == {None}
    name = "t" if hasattr(empty, "columns") else 1
    with pytest.raises(ValueError, match=f"column {name!r} held no value in fit; got 'x'"):
        encoder.sample(conditions={name: "x"})


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("schema", ["fit_schema", "partial_fit"])
def test_chunks_may_hold_values_that_the_schema_has_not_seen(schema, name):
    encoder = small_encoder(name)
    with warns_of_empty_columns(EMPTY):
        getattr(encoder, schema)(EMPTY)
    with pytest.warns(UserWarning, match=MISSING) as caught:
        encoder.partial_fit(LATER)
    assert len(caught) == 1
    again = small_encoder(name)
    with warns_of_empty_columns(EMPTY):
        getattr(again, schema)(EMPTY)
    np.testing.assert_array_equal(
        encoder.transform(EMPTY), again.partial_fit(EMPTY).transform(EMPTY)
    )


def test_held_out_rows_and_warm_starts_may_hold_values():
    with warns_of_empty_columns(EMPTY), pytest.warns(UserWarning, match=MISSING):
        encoder = small_encoder(warm_start=True).fit(EMPTY, X_val=LATER)
    with pytest.warns(UserWarning, match=MISSING):
        encoder.fit(LATER)


@pytest.mark.parametrize("dtype", [pa.null(), pa.string(), pa.float64(), pa.bool_()], ids=str)
@pytest.mark.parametrize("buffer_rows", [15, 1000])
def test_columns_of_parquet_files_without_any_value(dtype, buffer_rows, tmp_path):
    empty = pa.table({"v": EMPTY["v"], "t": pa.nulls(N, dtype)})
    pq.write_table(empty, tmp_path / "a.parquet", row_group_size=7)
    pq.write_table(pa.Table.from_pandas(LATER), tmp_path / "b.parquet", row_group_size=9)
    encoder = small_encoder()
    with warns_of_empty_columns(empty):
        encoder.fit_parquet(tmp_path / "a.parquet", buffer_rows=buffer_rows)
    assert encoder.sample(3).schema == empty.schema
    with pytest.warns(UserWarning, match=MISSING) as caught:
        encoder.transform_parquet(tmp_path / "b.parquet", tmp_path / "b")
    assert len(caught) == 1
    encoder.transform_parquet(tmp_path / "a.parquet", tmp_path / "a")
    one, other = (pd.read_parquet(tmp_path / name).to_numpy() for name in "ab")
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_cells_of_columns_without_any_value_in_fit_score_zero():
    with warns_of_empty_columns(EMPTY):
        encoder = small_encoder().fit(EMPTY)
    with pytest.warns(UserWarning, match=MISSING) as caught:
        scores = encoder.score_columns(LATER[:4])
    assert len(caught) == 1
    np.testing.assert_array_equal(scores[:, 1], 0)
    np.testing.assert_array_equal(scores, encoder.score_columns(EMPTY[:4]))
    with pytest.warns(UserWarning, match=MISSING):
        scores = encoder.score_dependence(LATER[:4])
    np.testing.assert_array_equal(scores, encoder.score_dependence(EMPTY[:4]))


def test_dates_in_a_column_without_any_value_in_fit_are_missing():
    with warns_of_empty_columns(EMPTY):
        encoder = small_encoder().fit(EMPTY)
    with pytest.warns(UserWarning, match=MISSING + r"'t' \('2020-01-01T00:00:00"):
        Z = encoder.transform(EMPTY.assign(t=pd.Timestamp("2020-01-01")))
    np.testing.assert_array_equal(Z, encoder.transform(EMPTY))


def test_a_column_of_dates_without_any_value_in_fit_keeps_its_dtype():
    table = EMPTY.assign(t=pd.Series(pd.NaT, index=EMPTY.index).dt.tz_localize("Europe/Paris"))
    with warns_of_empty_columns(table):
        encoder = small_encoder().fit(table)
    pd.testing.assert_frame_equal(encoder.impute(table), table)
    assert encoder.sample(2)["t"].dtype == table["t"].dtype
    for later in ("2020-01-01", 5.0, pd.Timestamp("2020-01-01")):
        with pytest.warns(UserWarning, match=MISSING + "'t'"):
            Z = encoder.transform(table.assign(t=later))
        np.testing.assert_array_equal(Z, encoder.transform(table))


def test_only_rows_that_lack_a_known_column_are_imputed(monkeypatch):
    with warns_of_empty_columns(EMPTY):
        encoder = small_encoder().fit(EMPTY)
    monkeypatch.setattr(given_cells, "guess", lambda *args: pytest.fail("guessed"))
    pd.testing.assert_frame_equal(encoder.impute(EMPTY), EMPTY)


# -- columns with one value ------------------------------------------------------------------------

CONSTANTS = {
    "flag": True,
    "off": pd.array([False, None] * (N // 2), dtype="boolean"),
    "object flag": pd.Series([None, True] * (N // 2), dtype=object),
    "one": 1,
    "nullable": pd.array([3, None] * (N // 2), dtype="Int64"),
    "byte": np.full(N, 255, np.uint8),
    "tenth": 0.1,
    "third": [1 / 3, None] * (N // 2),
    "single": np.full(N, 0.1, np.float32),
    "half": np.full(N, 65504, np.float16),
    "zero": -0.0,
    "large": 1e300,
    "small": 5e-324,
    "word": "w",
    "level": pd.Categorical(["b"] * N, categories=["a", "b"]),
    "code": 2.5,
    "count": 5,
    "coin": 7,
}
KINDS = {
    "categorical_features": ["code"],
    "likelihoods": {"count": "poisson", "coin": "bernoulli"},
}


def constants():
    return pd.DataFrame({"v": np.random.RandomState(0).randn(N), **CONSTANTS})


def assert_constant(table, expected):
    for name in CONSTANTS:
        value = expected[name].dropna().iloc[0]
        assert (table[name] == value).all(), name
        if isinstance(value, float):
            assert (np.signbit(table[name].astype(float)) == np.signbit(value)).all()


@pytest.mark.parametrize("scaling", ["quantile", "standard", None])
def test_constant_columns_are_generated_as_the_constant(scaling):
    X = constants()
    encoder = small_encoder(numeric_scaling=scaling, **KINDS).fit(X)
    generated = [
        encoder.inverse_transform(3 * encoder.transform(X)),
        encoder.reconstruct(X),
        encoder.sample(500, random_state=0),
        encoder.sample(50, conditions={"v": 0.5}, random_state=0),
    ]
    for table in generated:
        assert table.dtypes.equals(X.dtypes)
        assert_constant(table, X)
    hidden = X.mask(pd.Series(np.arange(N) % 2 == 0))
    for table in (encoder.impute(hidden), *encoder.impute(hidden, n_draws=2, random_state=0)):
        assert_constant(table, X)
    assert np.isfinite(encoder.score_samples(X)).all()


@pytest.mark.parametrize("library", ["polars", "pyarrow", "objects"])
def test_constants_of_other_libraries(library):
    X = pd.DataFrame({"v": np.random.RandomState(0).randn(N), "flag": True, "n": 3, "w": "w"})
    encoder = small_encoder().fit(MAKERS[library](X))
    drawn = encoder.sample(200, random_state=0)
    assert [set(column(drawn, p)) for p in (1, 2, 3)] == [{True}, {3}, {"w"}]
    key = 1 if library == "objects" else "flag"
    with pytest.raises(ValueError, match=r"level False for column .*fit: True\."):
        encoder.sample(conditions={key: False})


def test_other_values_of_constant_columns_are_unlikely():
    X = constants()
    encoder = small_encoder(**KINDS).fit(X)
    usual = encoder.score_samples(X)[0]
    others = {"flag": False, "object flag": False, "word": "x", "one": 0, "tenth": 0.2, "count": 4}
    for name, value in others.items():
        score = encoder.score_samples(X[:1].assign(**{name: value}))[0]
        assert -50 < score - usual < -3  # 1 / (n + K + 1), or a density
    with pytest.warns(UserWarning, match=r"treated as missing. Columns: 'flag' \(False\)"):
        encoder.transform(X.assign(flag=False))


def test_constants_of_all_rows_of_a_stream(tmp_path):
    """A column is constant only if it is in all rows, not in the first part or the sample."""
    n = 200
    table = pa.table(
        {
            "v": np.random.RandomState(0).randn(n),
            "flag": [True] * n,
            "rare": [False] * 150 + [True] + [False] * 49,
            "count": [4] * n,
            "coin": [7] * n,
        }
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=20)
    encoder = small_encoder(likelihoods={"count": "poisson", "coin": "bernoulli"})
    encoder.fit_parquet(tmp_path / "a.parquet", buffer_rows=15)
    kinds = {p: block.kind for block in encoder.table_.blocks for p in block.positions}
    assert [kinds[p] for p in range(1, 5)] == [
        "categorical",
        "bernoulli",
        "gaussian",
        "categorical",
    ]
    drawn = encoder.sample(300, random_state=0)
    assert [set(column(drawn, p)) for p in (1, 3, 4)] == [{True}, {4}, {7}]
    encoder.sample(2, conditions={"rare": True})
