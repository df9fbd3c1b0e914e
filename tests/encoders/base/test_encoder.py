"""Fitted encoders: features, pipelines, threads, long tables and errors."""

import copy
import pickle
import threading

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

import cmim_sklearn
from cmim_sklearn import CMIMEncoder
from cmim_sklearn._models.features import EMBEDDINGS
from cmim_sklearn._tables import read as frames
from cmim_sklearn._tables.read import read
from tests.helpers import ENCODERS, LIBRARIES, assert_like, warns_of_empty_columns


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_works_in_a_pipeline(name, mixed, quick):
    encoder = getattr(cmim_sklearn, name)
    pipe = Pipeline([("cmim", encoder(**quick)), ("clf", LogisticRegression())])
    X, y = mixed.drop(columns="member"), mixed["member"]
    assert pipe.fit(X, y).predict(X).shape == (200,)
    names = pipe[:1].get_feature_names_out()
    assert names[0] == f"{name.lower()}0"
    frame = pipe[0].set_output(transform="pandas").transform(X)
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns) == list(names)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_set_output_and_the_row_index(mixed, quick, library):
    encoder = CMIMEncoder(**quick, embedding="mean").set_output(transform=library)
    X = mixed.set_index(pd.Index(range(500, 700)))
    Z = encoder.fit_transform(X)
    assert type(Z).__module__.split(".")[0] == library
    assert list(Z.columns) == [f"cmimencoder{i}" for i in range(4)]
    back = encoder.inverse_transform(Z)
    assert isinstance(back, pd.DataFrame)
    if library == "pandas":
        assert back.index.equals(X.index)


def test_all_libraries_give_the_same_features(mixed, fitted):
    encoder = fitted()
    Z = encoder.transform(mixed)
    frame = pl.from_pandas(mixed)
    as_enum = frame.with_columns(pl.col("city").cast(pl.Enum(["Oslo", "Rome", "Lima"])))
    array = mixed.astype(object).where(mixed.notna(), None).to_numpy()
    for X in (frame, as_enum, pa.Table.from_pandas(mixed), array.tolist()):
        assert_array_equal(encoder.transform(X), Z)


@pytest.mark.parametrize(
    "X",
    [
        pd.DataFrame({"a": list("xyzx") * 10, "b": list("uuvv") * 10}),
        pd.DataFrame({"a": [True, False] * 20, "b": [True, True] * 20}),
        pd.DataFrame({"a": [5] * 40, "b": np.arange(40.0)}),
        pd.DataFrame({"a": [np.nan] * 40, "b": np.arange(40.0)}),
        pd.DataFrame({"a": [np.nan] * 40, "b": [np.nan] * 40}),
        pd.DataFrame({"a": ["only"] * 40}),
        pd.DataFrame({"a": [f"level {i % 300}" for i in range(900)], "b": np.arange(900.0)}),
        np.array([[1.0], [2.0]]),
    ],
    ids=["categorical", "boolean", "constant", "missing", "all missing", "one level", "300", "2x1"],
)
def test_unusual_tables_fit(X, quick):
    with warns_of_empty_columns(X):
        encoder = CMIMEncoder(**quick).fit(X)
    assert np.isfinite(encoder.transform(X)).all()
    assert np.isfinite(encoder.loss_curve_).all()
    assert_like(encoder.inverse_transform(encoder.transform(X)), X)
    assert_like(encoder.sample(5), X)


@pytest.mark.parametrize("scaling", ["quantile", "standard"])
def test_values_far_outside_the_range_give_finite_features(mixed, quick, scaling):
    encoder = CMIMEncoder(**quick, numeric_scaling=scaling).fit(mixed)
    for extreme in (1e30, -1e300, 1e-300):
        assert np.isfinite(encoder.transform(mixed.assign(income=extreme))).all()


def test_a_column_of_two_floats_is_recognised_as_float32(quick):
    X = pd.DataFrame({"x": [0.1, 0.3] * 10, "y": np.arange(20.0)})
    encoder = CMIMEncoder(**quick).fit(X)
    np.testing.assert_allclose(
        encoder.transform(X.astype("float32")), encoder.transform(X), atol=1e-5
    )


def test_features_of_a_row_do_not_depend_on_other_rows(mixed, quick):
    quick = quick | {"hidden_layer_sizes": (256, 256), "n_components": 64}
    encoder = CMIMEncoder(**quick).fit(mixed)
    repeated = pd.concat([mixed] * 50, ignore_index=True)
    for embedding in EMBEDDINGS:
        encoder.set_params(embedding=embedding)
        together = encoder.transform(repeated)
        for row in (0, 4095, 4096, 9999):
            alone = encoder.transform(repeated.iloc[[row]])[0]
            np.testing.assert_allclose(alone, together[row], atol=1e-6)
    one = encoder.set_params(batch_size=1).transform(repeated)
    np.testing.assert_allclose(
        encoder.set_params(batch_size=4096).transform(repeated), one, atol=1e-6
    )


@pytest.mark.parametrize("activation", ["silu", "relu", "tanh"])
def test_features_of_outlying_rows_stay_bounded(activation):
    rng = np.random.RandomState(0)
    X = rng.randn(500, 2) @ rng.randn(2, 6)
    encoder = CMIMEncoder(8, hidden_layer_sizes=(64, 64), activation=activation, max_iter=10)
    encoder.set_params(random_state=0).fit(X)
    typical, odd = np.abs(encoder.transform(X)).max(), np.abs(encoder.transform(5 * X)).max()
    assert odd < 100 * typical
    constant = CMIMEncoder(4, hidden_layer_sizes=(16,), max_iter=2, random_state=0)
    constant.fit(np.ones((50, 3)))
    assert np.abs(constant.transform(np.full((1, 3), np.nan))).max() < 100


def test_parameters_set_after_fit_do_not_change_the_fitted_network(mixed, fitted):
    encoder = copy.deepcopy(fitted())
    Z = encoder.transform(mixed)
    encoder.set_params(n_components=9, hidden_layer_sizes=(3,), posterior="learned")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(encoder)).transform(mixed), Z)


def test_threads_share_an_encoder_that_was_just_loaded(mixed, fitted):
    expected = fitted().transform(mixed)
    loaded, results = pickle.loads(pickle.dumps(fitted())), []
    threads = [
        threading.Thread(target=lambda: results.append(loaded.transform(mixed))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    for Z in results:
        np.testing.assert_array_equal(Z, expected)


def test_wrong_widths_and_names_raise(mixed, quick):
    encoder = CMIMEncoder(**quick).fit(mixed)
    with pytest.raises(ValueError, match=r"feature names should match(?s:.*)unit"):
        encoder.transform(mixed.rename(columns={"income": "unit"}))
    with pytest.raises(ValueError, match="has 7 features, but CMIMEncoder is expecting 8"):
        encoder.transform(mixed.to_numpy(dtype=object)[:, :7])
    with pytest.raises(
        ValueError, match="3 features, but CMIMEncoder with embedding='layers' expects 32"
    ):
        encoder.inverse_transform(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"n_samples must be an int of at least 1; got 0"):
        encoder.sample(0)
    with pytest.raises(ValueError, match=r"n_samples.*got True"):
        encoder.sample(True)
    encoder.set_params(embedding="foo")
    for use in (lambda: encoder.transform(mixed), lambda: encoder.get_feature_names_out()):
        with pytest.raises(ValueError, match=r"'embedding'.*Got 'foo' instead"):
            use()


def test_columns_with_integer_names_in_another_order_raise(quick):
    X = pd.DataFrame(np.random.RandomState(0).randn(40, 3), columns=[2, 0, 1])
    encoder = CMIMEncoder(**quick).fit(X)
    changed, features = X[[2, 1, 0]], encoder.transform(X)
    expected = r"\[2, 0, 1\]\. Got \[2, 1, 0\], with 1 in place of 0 at position 1"
    methods = ("transform", "reconstruct", "impute", "score_samples", "score_columns")
    for method in (*methods, "score_dependence", "mutual_information", "partial_fit"):
        with pytest.raises(ValueError, match=expected):
            getattr(encoder, method)(changed)
    with pytest.raises(ValueError, match=rf"X_val: .*{expected}"):
        CMIMEncoder(**quick).fit(X, X_val=changed)
    np.testing.assert_array_equal(encoder.transform(X.to_numpy()), features)
    sampled = encoder.sample(3, conditions=changed[[1, 0]][:1], random_state=0)
    assert sampled.columns.tolist() == [2, 0, 1]
    assert (sampled[[0, 1]] == X.loc[0, [0, 1]]).all(axis=None)


def test_use_before_fit_raises(mixed):
    for use in (lambda e: e.transform(mixed), lambda e: e.sample(), lambda e: e.net_):
        with pytest.raises(NotFittedError):
            use(CMIMEncoder())


def test_repr_of_the_net_is_short(fitted):
    encoder = fitted()
    n_weights = sum(weight.numel() for weight in encoder.net_.module.parameters())
    assert repr(encoder.net_) == f"LatentNet({n_weights:,} weights)"
    # scikit-learn's table in a notebook cuts the middle out of longer ones.
    assert len(repr(encoder.net_)) <= 30


def test_repr_shows_parameters_that_are_not_defaults():
    assert repr(CMIMEncoder(8, embedding="mean")) == "CMIMEncoder(embedding='mean', n_components=8)"


# -- long tables -----------------------------------------------------------------------------------


@pytest.fixture
def small_parts(monkeypatch):
    """Make the reader cut 200 rows into parts of 70."""
    monkeypatch.setattr(frames, "PART_CELLS", 1)
    monkeypatch.setattr(frames, "MIN_PART_ROWS", 70)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_long_table_is_transformed_in_parts_with_the_same_result(
    mixed, fitted, small_parts, library
):
    encoder, X = fitted(), LIBRARIES[library](mixed)
    n_rows, parts = frames.read_in_parts(X)
    assert (n_rows, [part.first_row for part in parts]) == (200, [0, 70, 140])
    in_parts = encoder.transform(X)
    one_by_one = np.concatenate([encoder.transform(mixed[i : i + 50]) for i in range(0, 200, 50)])
    assert_array_equal(in_parts, one_by_one)


def test_a_part_with_only_numbers_keeps_the_categories_of_the_table(quick, small_parts):
    labels = np.array(["u"] * 100 + [2**60 + 300 * (i % 2) for i in range(100)], dtype=object)
    X = pd.DataFrame({"a": labels, "b": np.arange(200.0)})
    encoder = CMIMEncoder(**quick).fit(X)
    whole = np.concatenate([encoder.transform(X[i : i + 50]) for i in (0, 50, 100, 150)])
    assert_array_equal(encoder.transform(X), whole)
    a, b = encoder.table_.encode(read(X[150:152], encoder.table_.types))[:, 1]
    assert a != b
    assert np.isfinite(encoder.transform(X[100:101])).all()


def test_a_layer_left_in_training_mode_is_set_to_evaluation_mode(mixed, quick):
    class Dropped(torch.nn.Sequential):
        def __init__(self, n_in, n_out, sizes, activation):
            super().__init__(torch.nn.Linear(n_in, n_out), torch.nn.Dropout(0.5))

    encoder = CMIMEncoder(**quick, encoder=Dropped).fit(mixed)
    expected = encoder.transform(mixed)
    encoder.net_.module.encoder[1].train()
    assert_array_equal(encoder.transform(mixed), expected)


def test_parts_of_arrays_are_views(small_parts):
    X = np.random.RandomState(0).randn(200, 3)
    n_rows, parts = frames.read_in_parts(X)
    assert n_rows == 200
    assert all(np.shares_memory(part.columns[0], X) for part in parts)


def test_messages_about_a_long_table_count_its_rows_and_warn_once(mixed, fitted, small_parts):
    encoder = fitted()
    column = next(c for c in mixed if mixed[c].dtype.kind == "O" or mixed[c].dtype.name == "str")
    unseen = mixed.astype({column: object})
    unseen.loc[unseen.index[[0, 100, 101, 190]], column] = ["u", "v", "w", "x"]
    with pytest.warns(UserWarning, match="not seen in fit") as caught:
        encoder.transform(unseen)
    (warning,) = [w for w in caught if "not seen" in str(w.message)]
    assert f"{column!r} ('u', 'v', 'w')." in str(warning.message)
    assert warning.filename == __file__
    number = next(c for c in mixed if mixed[c].dtype.kind == "f")
    broken = mixed.copy()
    broken.loc[broken.index[150], number] = np.inf
    with pytest.raises(ValueError, match=f"{number!r} must .*; got inf in row 150"):
        encoder.transform(broken)
    broken = mixed.astype({number: object})
    broken.loc[broken.index[160], number] = "much"
    with pytest.raises(ValueError, match="got 'much' in row 160"):
        encoder.transform(broken)
