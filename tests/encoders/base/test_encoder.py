"""The estimator: tables in and out, determinism, state, search, and what it refuses."""

import copy
import gc
import io
import pickle
import random
import threading
import warnings
import weakref

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.fixes import parse_version
from skorch.callbacks import Callback, LRScheduler
from torch import nn

from cmim_sklearn import Checkpoint, CMIMEncoder
from cmim_sklearn._likelihoods.joint import LIKELIHOODS
from cmim_sklearn._models.features import EMBEDDINGS, TOTAL_VARIANCE
from tests.conftest import make_mixed
from tests.tables import test_write as dtypes


def weights(encoder):
    return encoder.net_.module.state_dict()


def same_weights(one, two):
    return all(torch.equal(w, weights(two)[name]) for name, w in weights(one).items())


# Embeddings. --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("embedding", "width"), [("informative", 16), ("hidden", 40), ("layers", 80), ("mean", 4)]
)
def test_embedding_decides_the_width_and_inverts(mixed, quick, embedding, width):
    encoder = CMIMEncoder(**quick | {"hidden_layer_sizes": (24, 16)}, embedding=embedding)
    Z = encoder.fit_transform(mixed)
    assert Z.shape == (200, width)
    assert Z.dtype == np.float32
    assert len(encoder.get_feature_names_out()) == width
    assert encoder.get_feature_names_out()[0] == "cmimencoder0"
    assert list(encoder.inverse_transform(Z).columns) == list(mixed.columns)


def test_all_embeddings_invert_to_one_table_and_switch_after_fit(mixed, quick):
    encoder = CMIMEncoder(**quick | {"max_iter": 20, "hidden_layer_sizes": (24, 16)}).fit(mixed)
    tables = []
    for embedding in EMBEDDINGS:
        encoder.set_params(embedding=embedding)
        tables.append(encoder.inverse_transform(encoder.transform(mixed)))
    for table in tables[1:]:
        pd.testing.assert_frame_equal(table, tables[0], rtol=1e-3)


@pytest.mark.parametrize("activation", ["silu", "relu", "tanh"])
def test_features_of_rows_unlike_any_other_stay_bounded(activation):
    rng = np.random.RandomState(0)
    X = rng.randn(500, 2) @ rng.randn(2, 6)
    encoder = CMIMEncoder(8, hidden_layer_sizes=(64, 64), activation=activation, max_iter=10)
    encoder.set_params(random_state=0).fit(X)
    typical, odd = np.abs(encoder.transform(X)).max(), np.abs(encoder.transform(5 * X)).max()
    assert odd < 100 * typical
    constant = CMIMEncoder(4, hidden_layer_sizes=(16,), max_iter=2, random_state=0)
    constant.fit(np.ones((50, 3)))
    assert np.abs(constant.transform(np.full((1, 3), np.nan))).max() < 100


@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_features_are_centred_and_share_one_variance(mixed, quick, embedding):
    Z = CMIMEncoder(**quick, embedding=embedding).fit_transform(mixed)
    np.testing.assert_allclose(Z.mean(0), 0, atol=1e-3)
    n_layers = 2 if embedding == "layers" else 1
    by_layer = Z.var(0).reshape(n_layers, -1).sum(1)
    np.testing.assert_allclose(by_layer, TOTAL_VARIANCE / n_layers, rtol=0.01)


def test_no_hidden_layers_mean_that_the_hidden_state_is_the_code(mixed, quick):
    encoder = CMIMEncoder(**quick | {"hidden_layer_sizes": ()}).fit(mixed)
    by_name = [encoder.set_params(embedding=name).transform(mixed) for name in EMBEDDINGS]
    for Z in by_name[1:]:
        np.testing.assert_array_equal(Z, by_name[0])


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_set_output(mixed, quick, library):
    encoder = CMIMEncoder(**quick, embedding="mean").set_output(transform=library)
    X = mixed.set_index(pd.Index(range(500, 700)))
    Z = encoder.fit_transform(X)
    assert type(Z).__module__.split(".")[0] == library
    assert list(Z.columns) == [f"cmimencoder{i}" for i in range(4)]
    back = encoder.inverse_transform(Z)
    assert isinstance(back, pd.DataFrame)
    if library == "pandas":
        assert back.index.equals(X.index)


# Tables in, tables out. ---------------------------------------------------------------------------


def as_polars(frame):
    return pl.from_pandas(frame).with_columns(
        pl.col("city").cast(pl.Enum(["Oslo", "Rome", "Lima"]))
    )


def as_pyarrow(frame):
    return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata()


def check_like(table, original):
    """Same library, names, order and dtypes."""
    assert type(table) is type(original)
    if isinstance(original, pd.DataFrame):
        pd.testing.assert_series_equal(table.dtypes, original.dtypes)
    elif isinstance(original, np.ndarray):
        assert table.dtype == original.dtype
    else:
        assert table.schema == original.schema


def n_holes(table):
    if isinstance(table, pl.DataFrame):
        return sum(table.null_count().row(0))
    if isinstance(table, pa.Table):
        return sum(column.null_count for column in table.columns)
    return int(pd.isna(pd.DataFrame(table)).to_numpy().sum())


MAKERS = {
    "pandas": lambda frame: frame,
    "polars": as_polars,
    "pyarrow": as_pyarrow,
    "array": lambda frame: frame[["income", "age", "score"]].to_numpy(),
    "integers": lambda frame: frame[["age", "visits"]].to_numpy(),
    "objects": lambda frame: frame.to_numpy(dtype=object),
}  # fmt: skip


@pytest.mark.parametrize("name", MAKERS)
def test_inverse_transform_and_sample_give_the_table_fitted(name, quick):
    X = MAKERS[name](make_mixed())
    encoder = CMIMEncoder(**quick).fit(X)
    for table in (encoder.inverse_transform(encoder.transform(X)), encoder.sample(70)):
        check_like(table, X)
        assert n_holes(table) == 0
    assert len(encoder.sample(70)) == 70


def test_decoded_values_stay_inside_what_was_seen(mixed, quick):
    encoder = CMIMEncoder(**quick).fit(mixed)
    drawn = encoder.sample(2000, random_state=0)
    for column in ("age", "visits"):
        assert drawn[column].between(mixed[column].min(), mixed[column].max()).all()
    features = encoder.transform(mixed)
    for decoded in (encoder.reconstruct(mixed), encoder.inverse_transform(9 * features)):
        for column in ("income", "age", "score", "visits"):
            assert decoded[column].between(mixed[column].min(), mixed[column].max()).all()
    for column in ("flag", "member", "city", "word"):
        assert set(drawn[column]) <= set(mixed[column].dropna())


def test_all_libraries_give_one_embedding(mixed, quick):
    encoder = CMIMEncoder(**quick).fit(mixed)
    Z = encoder.transform(mixed)
    np.testing.assert_array_equal(encoder.transform(as_polars(mixed)), Z)
    np.testing.assert_array_equal(encoder.transform(pa.Table.from_pandas(mixed)), Z)
    array = mixed.astype(object).where(mixed.notna(), None).to_numpy()
    np.testing.assert_array_equal(encoder.transform(array.tolist()), Z)


def test_pandas_index_is_handed_on(quick):
    X = make_mixed().set_index(pd.Index([f"row {i}" for i in range(200)]))
    encoder = CMIMEncoder(**quick).set_output(transform="pandas").fit(X)
    assert encoder.inverse_transform(encoder.transform(X)).index.equals(X.index)


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
def test_odd_tables_fit(X, quick):
    encoder = CMIMEncoder(**quick).fit(X)
    assert np.isfinite(encoder.transform(X)).all()
    assert np.isfinite(encoder.loss_curve_).all()
    check_like(encoder.inverse_transform(encoder.transform(X)), X)
    check_like(encoder.sample(5), X)


@pytest.mark.parametrize("extreme", [1e30, -1e300, 1e-300])
@pytest.mark.parametrize("scaling", ["quantile", "standard"])
def test_values_far_outside_the_range_give_finite_features(mixed, quick, extreme, scaling):
    encoder = CMIMEncoder(**quick, numeric_scaling=scaling).fit(mixed)
    assert np.isfinite(encoder.transform(mixed.assign(income=extreme))).all()


def test_poisson_by_name(mixed, quick):
    encoder = CMIMEncoder(**quick, likelihoods={"visits": "poisson"}).fit(mixed)
    drawn = encoder.sample(500, random_state=0)["visits"]
    assert drawn.dtype == mixed["visits"].dtype
    assert (drawn >= 0).all()


def test_a_kind_is_one_class_and_one_line(mixed, quick, monkeypatch):
    """A kind put in the dictionary is taken up by fit, transform, inverse_transform and sample."""

    class Laplace(LIKELIHOODS["gaussian"]):
        def log_prob(self, params, x, observed):
            return torch.where(observed, -(x - params).abs() - np.log(2.0), 0.0)

    monkeypatch.setitem(LIKELIHOODS, "laplace", Laplace)
    encoder = CMIMEncoder(**quick, likelihoods={"age": "laplace"}).fit(mixed)
    assert encoder.table_.describe()["laplace"] == ["age"]
    assert encoder.sample(5)["age"].dtype == mixed["age"].dtype


DTYPES = {**dtypes.PANDAS, **dtypes.POLARS, **dtypes.PYARROW}


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_comes_back_from_the_model(name, quick):
    column = DTYPES[name]
    make = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}
    X = make[type(column).__module__.split(".")[0]]({"x": column})
    encoder = CMIMEncoder(**quick).fit(X)
    for table in (encoder.inverse_transform(encoder.transform(X)), encoder.sample(4)):
        check_like(table, X)


def test_a_pair_of_floats_is_known_again_as_float32(quick):
    X = pd.DataFrame({"x": [0.1, 0.3] * 10, "y": np.arange(20.0)})
    encoder = CMIMEncoder(**quick).fit(X)
    np.testing.assert_allclose(
        encoder.transform(X.astype("float32")), encoder.transform(X), atol=1e-5
    )


def test_reconstruct_is_the_inverse_of_every_embedding(mixed, quick):
    encoder = CMIMEncoder(**quick | {"max_iter": 20}, embedding="mean").fit(mixed)
    X = mixed.set_index(pd.Index(range(500, 700)))
    back = encoder.reconstruct(X)
    assert back.index.equals(X.index)
    assert back.notna().all(axis=None)
    expected = encoder.inverse_transform(encoder.transform(mixed)).set_index(X.index)
    pd.testing.assert_frame_equal(back, expected, rtol=1e-3)


# What it learns. ----------------------------------------------------------------------------------


def test_a_linear_gaussian_table_is_reproduced_and_sampled():
    rng = np.random.RandomState(0)
    hidden = rng.randn(1500, 2)
    X = hidden @ rng.randn(2, 5) + 0.1 * rng.randn(1500, 5) + 3
    encoder = CMIMEncoder(8, hidden_layer_sizes=(64,), max_iter=60, random_state=0).fit(X)
    back = encoder.inverse_transform(encoder.transform(X))
    explained = 1 - (back - X).var(0) / X.var(0)
    assert explained.min() > 0.9
    drawn = encoder.sample(4000, random_state=0)
    np.testing.assert_allclose(drawn.mean(0), X.mean(0), atol=0.15 * X.std(0).max())
    np.testing.assert_allclose(np.corrcoef(drawn.T), np.corrcoef(X.T), atol=0.15)


def test_a_category_that_follows_from_a_number_is_drawn_with_it(mixed):
    encoder = CMIMEncoder(8, hidden_layer_sizes=(64,), max_iter=100, random_state=0).fit(mixed)
    drawn = encoder.sample(2000, random_state=0)
    by_city = drawn.groupby("city", observed=True)["score"].mean()
    assert by_city["Rome"] < by_city["Oslo"] < by_city["Lima"]


def test_training_lowers_the_loss(mixed, quick):
    encoder = CMIMEncoder(**quick | {"max_iter": 40}).fit(mixed)
    assert encoder.loss_curve_[-1] < encoder.loss_curve_[0] - 0.5


class ConvEncoder(nn.Module):
    def __init__(self, n_out):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Unflatten(1, (2, 8, 8)),
            nn.Conv2d(2, 8, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(8 * 4 * 4, n_out),
        )

    def forward(self, x):
        return self.layers(x)


class ConvDecoder(nn.Module):
    def __init__(self, n_in):
        super().__init__()
        self.body = nn.Sequential(
            nn.Sequential(nn.Linear(n_in, 8 * 4 * 4), nn.SiLU(), nn.Unflatten(1, (8, 4, 4))),
            nn.Sequential(nn.ConvTranspose2d(8, 8, 4, stride=2, padding=1), nn.SiLU()),
        )
        self.output = nn.Sequential(nn.Conv2d(8, 1, 3, padding=1), nn.Flatten())

    def forward(self, z):
        return self.output(self.body(z))


def conv_encoder(n_in, n_out, hidden_layer_sizes, activation):
    assert n_in == 2 * 64
    return ConvEncoder(n_out)


def conv_decoder(n_in, n_out, hidden_layer_sizes, activation):
    assert n_out == 64
    return ConvDecoder(n_in)


def test_convolutional_networks_of_ones_own():
    X, y = load_digits(return_X_y=True)
    kinds = dict.fromkeys(range(64), "gaussian")
    before = torch.get_rng_state()
    encoder = CMIMEncoder(
        16, encoder=conv_encoder, decoder=conv_decoder, numeric_scaling="standard", max_iter=40,
        likelihoods=kinds, embedding="informative", random_state=0, batch_size=64,
    )  # fmt: skip
    Z = encoder.fit_transform(X[:1000])
    assert torch.equal(before, torch.get_rng_state())
    assert Z.shape == (1000, 8 * 8 * 8)
    assert encoder.set_params(embedding="hidden").transform(X[:5]).shape == (5, 128 + 512)
    encoder.set_params(embedding="informative")
    back = encoder.inverse_transform(Z)
    assert 1 - ((back - X[:1000]) ** 2).sum() / ((X[:1000] - X[:1000].mean(0)) ** 2).sum() > 0.6
    again = clone(encoder).fit(X[:1000])
    assert same_weights(encoder, again)
    loaded = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(loaded.transform(X[:5]), encoder.transform(X[:5]))
    model = LogisticRegression(max_iter=1000).fit(Z, y[:1000])
    assert model.score(encoder.transform(X[1000:]), y[1000:]) > 0.8


# Randomness. --------------------------------------------------------------------------------------


def test_one_seed_is_one_model_also_beside_other_fits(mixed, quick):
    quick = quick | {"max_iter": 15}
    one = CMIMEncoder(**quick).fit(mixed)
    stop = threading.Event()

    def disturb():
        seed = 0
        while not stop.is_set():
            CMIMEncoder(**quick | {"max_iter": 2, "random_state": seed}).fit(mixed)
            torch.rand(3)
            seed += 1

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        two = CMIMEncoder(**quick).fit(mixed)
    finally:
        stop.set()
        thread.join()
    assert same_weights(one, two)
    assert not same_weights(one, CMIMEncoder(**quick | {"random_state": 1}).fit(mixed))
    np.testing.assert_array_equal(one.transform(mixed), two.transform(mixed))
    pd.testing.assert_frame_equal(
        one.sample(9, random_state=3), two.sample(9, random_state=3), check_exact=True
    )


def test_global_random_state_is_untouched(mixed, quick):
    def states():
        return random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state().numpy()

    before = states()
    encoder = CMIMEncoder(**quick, early_stopping=True).fit(mixed)
    encoder.transform(mixed)
    encoder.sample(5, random_state=0)
    after = states()
    assert before[:2] == after[:2]
    np.testing.assert_array_equal(before[2], after[2])


def test_a_random_state_instance_advances_and_none_varies(mixed, quick):
    rng = np.random.RandomState(0)
    one = CMIMEncoder(**quick | {"random_state": rng}).fit(mixed)
    two = CMIMEncoder(**quick | {"random_state": rng}).fit(mixed)
    assert not same_weights(one, two)
    free = [CMIMEncoder(**quick | {"random_state": None}).fit(mixed) for _ in range(2)]
    assert not same_weights(*free)


def test_a_row_is_embedded_alike_alone_and_in_a_crowd(mixed, quick):
    quick = quick | {"hidden_layer_sizes": (256, 256), "n_components": 64}
    encoder = CMIMEncoder(**quick).fit(mixed)
    crowd = pd.concat([mixed] * 50, ignore_index=True)
    for embedding in EMBEDDINGS:
        encoder.set_params(embedding=embedding)
        together = encoder.transform(crowd)
        for row in (0, 4095, 4096, 9999):
            alone = encoder.transform(crowd.iloc[[row]])[0]
            np.testing.assert_allclose(alone, together[row], atol=1e-6)
    one = encoder.set_params(batch_size=1).transform(crowd)
    np.testing.assert_allclose(encoder.set_params(batch_size=4096).transform(crowd), one, atol=1e-6)


# Every parameter counts. --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params",
    [
        {"contrastive_weight": 0.5},
        {"temperature": 1.0},
        {"posterior": "fixed"},
        {"activation": "relu"},
        {"input_masking": 0.5},
        {"batch_size": 64},
        {"learning_rate_init": 1e-2},
        {"alpha": 10.0},
        {"max_iter": 4},
        {"early_stopping": True},
        {"early_stopping": True, "validation_fraction": 0.4},
        {"early_stopping": True, "tol": 1e9, "n_iter_no_change": 1},
        {"numeric_scaling": "standard"},
        {"likelihoods": {"visits": "poisson"}},
        {"categorical_features": ["flag"]},
        {"max_categories": 2},
        {"n_components": 5},
        {"hidden_layer_sizes": (17,)},
    ],
    ids=repr,
)  # fmt: skip
def test_a_parameter_changes_the_fit(mixed, quick, params):
    one, two = CMIMEncoder(**quick).fit(mixed), CMIMEncoder(**quick | params).fit(mixed)
    shapes = [{name: w.shape for name, w in weights(e).items()} for e in (one, two)]
    assert shapes[0] != shapes[1] or not same_weights(one, two)


def test_latent_prior_changes_what_is_sampled(mixed, quick):
    one, two = (
        CMIMEncoder(**quick, latent_prior=prior).fit(mixed) for prior in ("mixture", "normal")
    )
    assert not one.sample(20, random_state=0).equals(two.sample(20, random_state=0))


def test_weight_zero_is_trained_as_mim_to_the_bit(mixed, quick, monkeypatch):
    from cmim_sklearn._encoders import cmim as module
    from cmim_sklearn.objectives import mim

    ours = CMIMEncoder(**quick, contrastive_weight=0).fit(mixed)
    monkeypatch.setitem(module.OBJECTIVES, "cmim", lambda batch, **options: mim(batch))
    assert same_weights(ours, CMIMEncoder(**quick).fit(mixed))
    assert "train_contrast" not in ours.net_.history[0]


def test_held_out_rows_are_not_trained_on(mixed, quick, monkeypatch):
    from cmim_sklearn._training.net import LatentNet

    seen, get_iterator = {}, LatentNet.get_iterator

    def spy(self, dataset, training=False):
        seen[training] = dataset.x
        return get_iterator(self, dataset, training)

    monkeypatch.setattr(LatentNet, "get_iterator", spy)
    mixed["income"] = np.arange(200.0)  # tells rows apart
    CMIMEncoder(**quick, early_stopping=True, validation_fraction=0.25).fit(mixed)
    train, held_out = (
        {tuple(row) for row in seen[t].nan_to_num(-9).tolist()} for t in (True, False)
    )
    assert (len(train), len(held_out)) == (150, 50)
    assert not train & held_out


def test_the_mixture_is_fitted_to_codes_as_at_inference(mixed, quick):
    """Their log-variance is -6 under the sampled posterior, whatever noise training added."""
    encoder = CMIMEncoder(**quick | {"max_iter": 30}, embedding="mean").fit(mixed)
    codes = encoder._latents.sample(20_000, np.random.default_rng(0))
    means = encoder.transform(mixed) * encoder._scales["mean"][1] + encoder._scales["mean"][0]
    assert (codes.var(0) - means.var(0)).mean() == pytest.approx(np.exp(-6), abs=0.05)


# Fitting again, stopping, callbacks. --------------------------------------------------------------


def test_warm_start_goes_on(mixed, quick):
    encoder = CMIMEncoder(**quick, warm_start=True).fit(mixed)
    before = {name: w.clone() for name, w in weights(encoder).items()}
    first = encoder.loss_curve_
    encoder.set_params(learning_rate_init=1e-30).fit(mixed)
    for name, w in weights(encoder).items():
        torch.testing.assert_close(w, before[name])
    assert encoder.n_iter_ == 6
    assert encoder.loss_curve_[:3] == first
    loaded = pickle.loads(pickle.dumps(encoder)).fit(mixed)
    assert loaded.n_iter_ == 9


def test_warm_start_refuses_another_network_or_table(mixed, quick):
    encoder = CMIMEncoder(**quick, warm_start=True).fit(mixed)
    with pytest.raises(ValueError, match="n_components changed since it was built"):
        encoder.set_params(n_components=7).fit(mixed)
    with pytest.raises(ValueError, match="7 features, but CMIMEncoder is expecting 8"):
        encoder.set_params(n_components=4).fit(mixed.drop(columns="word").to_numpy())


@pytest.mark.parametrize("params", [{"max_categories": 2}, {"categorical_features": ["age"]}])
def test_warm_start_refuses_other_columns(mixed, quick, params):
    encoder = CMIMEncoder(**quick, warm_start=True).fit(mixed)
    with pytest.raises(ValueError, match=r"one of categorical_features.*changed"):
        encoder.set_params(**params).fit(mixed)


def test_a_refit_that_fails_leaves_the_columns_as_they_were(mixed, quick):
    encoder = CMIMEncoder(**quick).fit(mixed)
    Z = encoder.transform(mixed)
    with pytest.raises(ValueError, match="inf"):
        encoder.fit(pd.DataFrame({"a": [1.0, np.inf], "b": [1, 2]}))
    with pytest.raises(ValueError, match="feature"):
        encoder.fit(mixed[["age", "score"]], X_val=mixed)
    with pytest.raises(ValueError, match=r"^X_val: Column 'age' held numbers in fit; row 0"):
        encoder.fit(mixed, X_val=mixed.astype({"age": str}))
    np.testing.assert_array_equal(encoder.transform(mixed), Z)
    assert encoder.n_features_in_ == 8
    fresh = CMIMEncoder(**quick)
    with pytest.raises(ValueError, match="inf"):
        fresh.fit(pd.DataFrame({"a": [1.0, np.inf], "b": [1, 2]}))
    assert not hasattr(fresh, "n_features_in_")


def test_without_warm_start_a_fit_begins_anew(mixed, quick):
    encoder = CMIMEncoder(**quick).fit(mixed)
    again = copy.deepcopy(encoder).fit(mixed)
    assert same_weights(encoder, again)
    assert again.n_iter_ == 3


def test_parameters_set_after_fit_do_not_change_the_fitted_network(mixed, quick):
    encoder = CMIMEncoder(**quick).fit(mixed)
    Z = encoder.transform(mixed)
    encoder.set_params(n_components=9, hidden_layer_sizes=(3,), posterior="learned")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(encoder)).transform(mixed), Z)


@pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.9"), reason="callbacks came with 1.9"
)
def test_scikit_learn_callbacks_see_every_epoch_and_can_stop(mixed, quick):
    class Count:
        def setup(self, estimator, context):
            self.events = ["setup"]

        def teardown(self, estimator, context):
            self.events.append("teardown")

        def on_fit_task_begin(self, estimator, context):
            self.events.append(f"begin {context.task_name}")

        def on_fit_task_end(self, estimator, context):
            self.events.append(f"end {context.task_name}")
            return self.events.count("end epoch") == 2

    count = Count()
    encoder = CMIMEncoder(**quick).set_callbacks(count).fit(mixed)
    assert count.events == [
        "setup", "begin fit", "begin epoch", "end epoch", "begin epoch", "end epoch", "end fit",
        "teardown",
    ]  # fmt: skip
    assert encoder.n_iter_ == 2


@pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.9"), reason="callbacks came with 1.9"
)
def test_scikit_learn_progress_bar(mixed, quick, capsys):
    pytest.importorskip("rich")
    from sklearn.callback import ProgressBar

    CMIMEncoder(**quick).set_callbacks(ProgressBar()).fit(mixed)
    assert "CMIMEncoder" in capsys.readouterr().out


# State. -------------------------------------------------------------------------------------------


def through_pickle(encoder):
    return pickle.loads(pickle.dumps(encoder))


def through_joblib(encoder):
    buffer = io.BytesIO()
    joblib.dump(encoder, buffer)
    buffer.seek(0)
    return joblib.load(buffer)


def through_skops(encoder):
    import skops.io

    data = skops.io.dumps(encoder)
    ours = [t for t in skops.io.get_untrusted_types(data=data) if t.startswith("cmim_sklearn.")]
    return skops.io.loads(data, trusted=ours)


@pytest.mark.parametrize("through", [through_pickle, through_joblib, through_skops, copy.deepcopy])
@pytest.mark.parametrize("latent_prior", ["mixture", "normal"])
def test_a_fitted_encoder_survives(mixed, quick, through, latent_prior):
    encoder = CMIMEncoder(**quick, early_stopping=True, latent_prior=latent_prior).fit(mixed)
    again = through(encoder)
    np.testing.assert_array_equal(again.transform(mixed), encoder.transform(mixed))
    pd.testing.assert_frame_equal(
        again.sample(5, random_state=0), encoder.sample(5, random_state=0), check_exact=True
    )
    assert again.get_params() == encoder.get_params()
    assert again.loss_curve_ == encoder.loss_curve_
    assert [row["valid_loss"] for row in again.net_.history] == [
        row["valid_loss"] for row in encoder.net_.history
    ]
    # And once more, before the net was rebuilt.
    np.testing.assert_array_equal(
        through(through(encoder)).transform(mixed), encoder.transform(mixed)
    )


def plain(value):
    """Whether a state is JSON values and numpy arrays."""
    if isinstance(value, dict):
        return all(isinstance(k, str) and plain(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        return all(plain(v) for v in value)
    return value is None or isinstance(value, str | int | float | bool | np.ndarray | np.generic)


def test_state_is_json_and_arrays(mixed, quick):
    encoder = CMIMEncoder(**quick, likelihoods={"visits": "poisson"}).fit(mixed)
    assert plain(encoder.__getstate__())


def test_no_row_is_kept_in_memory_either(mixed, quick):
    X, X_val = (mixed[["age", "score"]].to_numpy()[:n] + 0 for n in (177, 33))
    references = [weakref.ref(X), weakref.ref(X_val)]
    encoder = CMIMEncoder(**quick).fit(X, X_val=X_val)
    del X, X_val
    gc.collect()
    assert all(reference() is None for reference in references)
    tensors = [o for o in gc.get_objects() if type(o) is torch.Tensor and o.ndim == 2]
    assert [o.shape for o in tensors if len(o) in (177, 33)] == []
    assert encoder.transform(mixed[["age", "score"]].to_numpy()).shape == (200, 32)


def test_a_fit_that_fails_leaves_the_encoder_as_it_was(mixed, quick):
    encoder = CMIMEncoder(**quick, warm_start=True).fit(mixed)
    Z = encoder.transform(mixed)
    with pytest.raises(FloatingPointError):
        encoder.set_params(learning_rate_init=1e30).fit(mixed)
    np.testing.assert_array_equal(encoder.transform(mixed), Z)
    assert encoder.n_iter_ == 3


def test_state_does_not_grow_with_the_rows(quick):
    quick = quick | {"max_iter": 1}
    sizes = [len(pickle.dumps(CMIMEncoder(**quick).fit(make_mixed(n)))) for n in (3100, 12400)]
    assert abs(sizes[1] - sizes[0]) < 1500


def test_a_fitted_pipeline_survives_skops(mixed, quick):
    y = (mixed["age"] > 40).to_numpy()
    pipe = Pipeline([("cmim", CMIMEncoder(**quick)), ("clf", LogisticRegression())]).fit(mixed, y)
    np.testing.assert_array_equal(through_skops(pipe).predict(mixed), pipe.predict(mixed))


def test_pickles_hold_no_optimizer_and_callbacks_as_they_were_given(mixed, quick, tmp_path):
    sizes = {}
    for name, callbacks in {
        "none": [],
        "schedule": [LRScheduler("StepLR", step_size=2)],
        "checkpoint": [("kept", Checkpoint(tmp_path))],
    }.items():
        encoder = CMIMEncoder(**quick, net_params={"callbacks": callbacks}).fit(mixed)
        data = pickle.dumps(encoder)
        sizes[name] = len(data)
        again = pickle.loads(data)
        np.testing.assert_array_equal(again.transform(mixed), encoder.transform(mixed))
        assert [type(c) for c in again.net_params["callbacks"]] == [type(c) for c in callbacks]
        np.testing.assert_array_equal(again.fit(mixed).transform(mixed), encoder.transform(mixed))
    assert max(sizes.values()) - sizes["none"] < 1000


def test_clone_and_memory(mixed, quick, tmp_path):
    y = (mixed["age"] > 40).to_numpy()
    steps = [("cmim", CMIMEncoder(**quick)), ("clf", LogisticRegression())]
    pipe = Pipeline(steps, memory=str(tmp_path)).fit(mixed, y)
    again = Pipeline(steps, memory=str(tmp_path)).fit(mixed, y)
    np.testing.assert_array_equal(again.predict_proba(mixed), pipe.predict_proba(mixed))
    fresh = clone(pipe.named_steps["cmim"])
    assert not hasattr(fresh, "net_")
    assert not hasattr(fresh, "table_")


def test_successive_halving_gives_more_epochs_to_the_better(mixed, quick):
    X, y = mixed.drop(columns="member"), mixed["member"]
    pipe = Pipeline([("cmim", CMIMEncoder(**quick)), ("clf", LogisticRegression())])
    search = HalvingGridSearchCV(
        pipe,
        {"cmim__contrastive_weight": [0, 1, 10, 100]},
        resource="cmim__max_iter",
        min_resources=1,
        max_resources=4,
        factor=2,
        cv=2,
        random_state=0,
    ).fit(X, y)
    assert search.n_resources_ == [1, 2, 4]
    assert search.n_candidates_ == [4, 2, 1]
    assert search.best_estimator_["cmim"].n_iter_ == 4


@pytest.mark.filterwarnings("ignore")  # torch.compile warns of torch
def test_a_fit_with_torch_compile_is_the_same_and_is_kept_without(mixed, quick):
    plain = CMIMEncoder(**quick).fit(mixed)
    # "eager" traces as every backend does, and compiles nothing, which would take a minute.
    compiled = CMIMEncoder(**quick, net_params={"compile": True, "compile__backend": "eager"}).fit(
        mixed
    )
    assert hasattr(compiled.net_.module_, "_orig_mod")
    assert same_weights(plain, compiled)
    again = pickle.loads(pickle.dumps(compiled))
    np.testing.assert_array_equal(again.transform(mixed), plain.transform(mixed))


def test_grid_search_in_processes(mixed, quick):
    y = (mixed["age"] > 40).to_numpy()
    pipe = Pipeline([("cmim", CMIMEncoder(**quick)), ("clf", LogisticRegression(max_iter=1000))])
    search = GridSearchCV(pipe, {"cmim__contrastive_weight": [0, 1, 10]}, n_jobs=2, cv=2)
    search.fit(mixed, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    again = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(again.predict(mixed), search.predict(mixed))


def test_threads_share_a_fitted_encoder_that_was_just_loaded(mixed, quick):
    encoder = CMIMEncoder(**quick).fit(mixed)
    expected = encoder.transform(mixed)
    loaded, results = through_pickle(encoder), []
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


# What it refuses. ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_components": 0}, r"'n_components' parameter of CMIMEncoder.*\[1, inf\).*Got 0"),
        ({"temperature": 0}, r"'temperature'.*Got 0 instead"),
        ({"contrastive_weight": -1}, "'contrastive_weight'.*Got -1 instead"),
        ({"embedding": "informtive"}, "'embedding'.*'hidden'.*Got 'informtive' instead"),
        ({"posterior": "exact"}, "'posterior'.*'sampled'.*Got 'exact' instead"),
        ({"encoder": "cnn"}, "'encoder'.*'mlp'.*Got 'cnn' instead"),
        ({"numeric_scaling": "robust"}, "'numeric_scaling'.*'quantile'.*Got 'robust' instead"),
        ({"hidden_layer_sizes": (16, 0)}, r"'hidden_layer_sizes'.*Got \(16, 0\) instead"),
        ({"input_masking": 1.0}, "'input_masking'.*Got 1.0 instead"),
        ({"device": "gpu"}, "'device'.*Got 'gpu' instead"),
        ({"device": "cuda:99"}, r"device='cuda:99' is not on this machine, which has \d device"),
        ({"net_params": {"lr": 1}}, r"'lr'.*Use the parameter learning_rate_init instead"),
        ({"net_params": {"max_epochs": 1}}, "'max_epochs'.*max_iter instead"),
        ({"net_params": {"iterator_train__shuffle": 1}}, "'iterator_train__shuffle'.*batch_size"),
        ({"net_params": {"module__x": 1}}, "'module__x'.*hidden_layer_sizes"),
        ({"net_params": {"callbacks": Callback()}}, "be a list or None; got <.*Callback"),
        ({"net_params": {"callbacks": [Callback(), len]}}, "contain skorch callbacks.*got <.*len>"),
        ({"net_params": {"autocast": "bf16"}}, "'autocast'.*'bfloat16'.*got 'bf16'"),
        ({"hidden_layer_sizes": (True,)}, r"'hidden_layer_sizes'.*Got \(True,\) instead"),
        ({"net_params": {"nonsense": 1}}, "unknown parameter 'nonsense'.*callbacks, compile, opt"),
        ({"net_params": {"data_parallel": True}}, "unknown parameter 'data_parallel'"),
        ({"net_params": {"optimzer__betas": (0, 0)}}, "unknown parameter 'optimzer__betas'"),
        ({"early_stopping": True, "validation_fraction": 0.999}, "=0.999 of 200 rows leaves 0"),
    ],
)  # fmt: skip
def test_a_parameter_out_of_range_is_named(mixed, quick, params, message):
    with pytest.raises((ValueError, TypeError), match=message):
        CMIMEncoder(**quick | params).fit(mixed)


def test_an_unknown_parameter_is_named():
    with pytest.raises(TypeError, match="n_component"):
        CMIMEncoder(n_component=3)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (make_mixed()[:1], r"1 sample\(s\) \(shape=\(1, 8\)\) while a minimum of 2 is required"),
        (make_mixed()[:0], r"0 sample\(s\)"),
        (make_mixed()[[]], r"0 feature\(s\) \(shape=\(200, 0\)\) while a minimum of 1"),
        (np.empty((5, 0)), r"0 feature\(s\)"),
    ],
)
def test_too_small_a_table_is_refused(X, message, quick):
    with pytest.raises(ValueError, match=message):
        CMIMEncoder(**quick).fit(X)


def test_wrong_widths_and_names_are_refused(mixed, quick):
    encoder = CMIMEncoder(**quick).fit(mixed)
    with pytest.raises(ValueError, match=r"feature names should match(?s:.*)unit"):
        encoder.transform(mixed.rename(columns={"income": "unit"}))
    with pytest.raises(ValueError, match="has 7 features, but CMIMEncoder is expecting 8"):
        encoder.transform(mixed.to_numpy(dtype=object)[:, :7])
    with pytest.raises(
        ValueError, match="3 features, but CMIMEncoder with embedding='layers' expects 32"
    ):
        encoder.inverse_transform(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"n_samples must be an int of at least 1\. Got 0 instead"):
        encoder.sample(0)
    with pytest.raises(ValueError, match=r"n_samples.*Got True instead"):
        encoder.sample(True)
    encoder.set_params(embedding="foo")
    for use in (lambda: encoder.transform(mixed), lambda: encoder.get_feature_names_out()):
        with pytest.raises(ValueError, match=r"'embedding'.*Got 'foo' instead"):
            use()


def test_a_decoder_without_its_two_parts_is_refused(mixed, quick):
    def bare(n_in, n_out, hidden_layer_sizes, activation):
        return nn.Linear(n_in, n_out)

    with pytest.raises(ValueError, match="a Linear, has no submodule body and no output"):
        CMIMEncoder(**quick, decoder=bare).fit(mixed)


@pytest.mark.parametrize("role", ["encoder", "decoder"])
@pytest.mark.parametrize(
    ("network", "error", "message"),
    [
        (nn.Linear(2, 2), TypeError, "must be a callable that makes .* Got a network, a Linear"),
        (lambda *a: None, TypeError, "made must be a torch.nn.Module. Got a NoneType"),
        (lambda n_in, n_out, *a: nn.Linear(n_in, n_out + 1), ValueError, r"must map \(n, \d+\) to"),
        (lambda n_in, n_out, *a: nn.GRU(n_in, n_out), ValueError, r"rows it makes a tuple\."),
    ],
    ids=["instance", "none", "width", "tuple"],
)
def test_a_network_that_cannot_be_used_is_named(mixed, quick, role, network, error, message):
    with pytest.raises(error, match=f"{role}.* {message}"):
        CMIMEncoder(**quick, **{role: network}).fit(mixed)


def test_one_component_is_no_contrast(mixed, quick):
    with pytest.warns(UserWarning, match="n_components=1 codes have no direction"):
        CMIMEncoder(**quick | {"n_components": 1}).fit(mixed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CMIMEncoder(**quick | {"n_components": 1}, contrastive_weight=0).fit(mixed)


def test_before_fit(mixed):
    from sklearn.exceptions import NotFittedError

    for use in (lambda e: e.transform(mixed), lambda e: e.sample(), lambda e: e.net_):
        with pytest.raises(NotFittedError):
            use(CMIMEncoder())


def test_a_notebook_s_table_shows_what_was_learnt_in_short(mixed, quick):
    encoder = CMIMEncoder(**quick).fit(mixed)
    n_weights = sum(weight.numel() for weight in encoder.net_.module.parameters())
    assert repr(encoder.net_) == f"LatentNet({n_weights:,} weights)"
    # scikit-learn cuts out the middle of whatever is longer.
    assert len(repr(encoder.net_)) <= 30


def test_repr_shows_what_was_changed():
    assert repr(CMIMEncoder(8, embedding="mean")) == "CMIMEncoder(embedding='mean', n_components=8)"


def test_a_fit_with_defaults_separates_iris():
    X, y = load_iris(return_X_y=True, as_frame=True)
    pipe = Pipeline(
        [("cmim", CMIMEncoder(max_iter=100, random_state=0)), ("clf", LogisticRegression())]
    )
    assert pipe.fit(X[::2], y[::2]).score(X[1::2], y[1::2]) > 0.9
