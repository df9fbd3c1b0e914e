"""Generative encoders: embeddings, inverse_transform, reconstruct and sample."""

import copy
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn.base import clone

from cmim_sklearn import CMIMEncoder
from cmim_sklearn._likelihoods import LIKELIHOODS
from cmim_sklearn._models.features import EMBEDDINGS, TOTAL_VARIANCE
from cmim_sklearn._tables.schema import Block
from tests.helpers import (
    GENERATIVE,
    LIBRARIES,
    assert_like,
    make_mixed,
    warns_of_empty_columns,
)
from tests.tables import test_write as dtypes


def with_enum(frame):
    return pl.from_pandas(frame).with_columns(
        pl.col("city").cast(pl.Enum(["Oslo", "Rome", "Lima"]))
    )


def n_missing(table):
    if isinstance(table, pl.DataFrame):
        return sum(table.null_count().row(0))
    if isinstance(table, pa.Table):
        return sum(column.null_count for column in table.columns)
    return int(pd.isna(pd.DataFrame(table)).to_numpy().sum())


TABLES = {
    "pandas": lambda frame: frame,
    "polars": with_enum,
    "pyarrow": lambda frame: LIBRARIES["pyarrow"](frame).replace_schema_metadata(),
    "array": lambda frame: frame[["income", "age", "score"]].to_numpy(),
    "integers": lambda frame: frame[["age", "visits"]].to_numpy(),
    "objects": lambda frame: frame.to_numpy(dtype=object),
}  # fmt: skip


@pytest.mark.parametrize(
    ("embedding", "width"), [("informative", 16), ("hidden", 40), ("layers", 80), ("mean", 4)]
)
def test_width_and_inverse_of_each_embedding(mixed, quick, embedding, width):
    encoder = CMIMEncoder(**quick | {"hidden_layer_sizes": (24, 16)}, embedding=embedding)
    Z = encoder.fit_transform(mixed)
    assert Z.shape == (200, width)
    assert Z.dtype == np.float32
    assert len(encoder.get_feature_names_out()) == width
    assert encoder.get_feature_names_out()[0] == "cmimencoder0"
    assert list(encoder.inverse_transform(Z).columns) == list(mixed.columns)


def test_embeddings_can_change_after_fit_and_invert_to_the_same_table(mixed, quick):
    encoder = CMIMEncoder(**quick | {"max_iter": 20, "hidden_layer_sizes": (24, 16)}).fit(mixed)
    tables = []
    for embedding in EMBEDDINGS:
        encoder.set_params(embedding=embedding)
        tables.append(encoder.inverse_transform(encoder.transform(mixed)))
    for table in tables[1:]:
        pd.testing.assert_frame_equal(table, tables[0], rtol=1e-3)


@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_features_are_centred_and_have_a_fixed_total_variance(mixed, fitted, embedding):
    Z = copy.deepcopy(fitted()).set_params(embedding=embedding).transform(mixed)
    np.testing.assert_allclose(Z.mean(0), 0, atol=1e-3)
    n_layers = 2 if embedding == "layers" else 1
    by_layer = Z.var(0).reshape(n_layers, -1).sum(1)
    np.testing.assert_allclose(by_layer, TOTAL_VARIANCE / n_layers, rtol=0.01)


def test_without_hidden_layers_every_embedding_is_the_code(mixed, quick):
    encoder = CMIMEncoder(**quick | {"hidden_layer_sizes": ()}).fit(mixed)
    by_name = [encoder.set_params(embedding=name).transform(mixed) for name in EMBEDDINGS]
    for Z in by_name[1:]:
        np.testing.assert_array_equal(Z, by_name[0])


def test_reconstruct_is_the_inverse_of_the_features(mixed, quick):
    encoder = CMIMEncoder(**quick | {"max_iter": 20}, embedding="mean").fit(mixed)
    X = mixed.set_index(pd.Index(range(500, 700)))
    back = encoder.reconstruct(X)
    assert back.index.equals(X.index)
    assert back.notna().all(axis=None)
    expected = encoder.inverse_transform(encoder.transform(mixed)).set_index(X.index)
    pd.testing.assert_frame_equal(back, expected, rtol=1e-3)


@pytest.mark.parametrize("name", TABLES)
def test_inverse_transform_and_sample_keep_the_layout_of_the_table(name, quick):
    X = TABLES[name](make_mixed())
    encoder = CMIMEncoder(**quick).fit(X)
    for table in (encoder.inverse_transform(encoder.transform(X)), encoder.sample(70)):
        assert_like(table, X)
        assert n_missing(table) == 0
    assert len(encoder.sample(70)) == 70


def test_decoded_values_stay_within_the_observed_range(mixed, quick):
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


def test_a_pandas_index_is_kept(fitted):
    X = make_mixed().set_index(pd.Index([f"row {i}" for i in range(200)]))
    encoder = copy.deepcopy(fitted()).set_output(transform="pandas")
    assert encoder.inverse_transform(encoder.transform(X)).index.equals(X.index)


DTYPES = {**dtypes.PANDAS, **dtypes.POLARS, **dtypes.PYARROW}


@pytest.mark.filterwarnings("ignore:Column .* so far apart:UserWarning")
@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_is_kept(name, quick):
    column = DTYPES[name]
    make = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}
    X = make[type(column).__module__.split(".")[0]]({"x": column})
    with warns_of_empty_columns(X):
        encoder = CMIMEncoder(**quick).fit(X)
    for table in (encoder.inverse_transform(encoder.transform(X)), encoder.sample(4)):
        assert_like(table, X)


def test_poisson_columns_are_sampled_as_counts(saved):
    encoder, _, mixed = saved
    drawn = encoder.sample(500, random_state=0)["visits"]
    assert drawn.dtype == mixed["visits"].dtype
    assert (drawn >= 0).all()


def test_a_new_column_kind_needs_one_class_and_one_entry(mixed, quick, monkeypatch):

    class Laplace(LIKELIHOODS["gaussian"]):
        def log_prob(self, params, x, observed):
            return torch.where(observed, -(x - params).abs() - np.log(2.0), 0.0)

    monkeypatch.setitem(LIKELIHOODS, "laplace", Laplace)
    encoder = CMIMEncoder(**quick, likelihoods={"age": "laplace"}).fit(mixed)
    assert Block("laplace", [1]) in encoder.table_.blocks
    assert encoder.sample(5)["age"].dtype == mixed["age"].dtype


def test_latent_prior_changes_what_is_sampled(mixed, quick):
    one, two = (
        CMIMEncoder(**quick, latent_prior=prior).fit(mixed) for prior in ("mixture", "normal")
    )
    assert not one.sample(20, random_state=0).equals(two.sample(20, random_state=0))


def test_the_mixture_is_fitted_to_codes_with_the_noise_of_inference(mixed, quick):
    """The "sampled" posterior has log-variance -6 at inference, and larger values in training."""
    encoder = CMIMEncoder(**quick | {"max_iter": 30}, embedding="mean").fit(mixed)
    codes = encoder._latents.sample(20_000, np.random.default_rng(0))
    means = encoder.transform(mixed) * encoder._scales["mean"][1] + encoder._scales["mean"][0]
    assert (codes.var(0) - means.var(0)).mean() == pytest.approx(np.exp(-6), abs=0.05)


@pytest.mark.parametrize("posterior", ["learned", "fixed"])
def test_other_posteriors_score_and_impute(mixed, quick, posterior):
    encoder = CMIMEncoder(**quick, posterior=posterior).fit(mixed)
    assert np.isfinite(encoder.score_samples(mixed[:20])).all()
    assert not encoder.impute(mixed[:20]).isna().any(axis=None)


def test_other_values_in_a_constant_column_are_unlikely():
    X = pd.DataFrame({"c": [1234.5] * 60, "x": np.random.RandomState(0).randn(60)})
    encoder = CMIMEncoder(n_components=2, hidden_layer_sizes=(8,), max_iter=5, random_state=0)
    encoder.fit(X)
    assert (encoder.sample(50, random_state=0)["c"] == 1234.5).all()
    scores = encoder.score_samples(X.iloc[[0, 0]].assign(c=[1234.5, 1240.0]))
    assert np.isfinite(scores).all()
    assert scores[0] > scores[1] + 2


@pytest.mark.parametrize("name", GENERATIVE)
def test_every_generative_encoder_has_all_methods(name, mixed, fitted):
    encoder = copy.deepcopy(fitted(name))
    Z = encoder.transform(mixed)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    again = clone(encoder).fit(mixed)
    assert_array_equal(again.transform(mixed), Z)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert_array_equal(np.random.get_state()[1], before[1])
    reopened = pickle.loads(pickle.dumps(encoder))
    assert_array_equal(reopened.transform(mixed), Z)
    assert reopened.sample(5, random_state=0).equals(encoder.sample(5, random_state=0))
    back = encoder.inverse_transform(encoder.transform(mixed))
    pd.testing.assert_frame_equal(back, encoder.reconstruct(mixed), rtol=1e-3, atol=0.011)
    assert encoder.impute(mixed[:20]).notna().all(axis=None)
    assert np.isfinite(encoder.score_samples(mixed[:10])).all()
    assert encoder.set_params(embedding="mean").transform(mixed).shape == (200, 4)
    longer = encoder.set_params(warm_start=True).fit(mixed)
    assert longer.n_iter_ == 4
