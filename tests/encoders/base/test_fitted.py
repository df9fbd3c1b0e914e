"""What all encoders share: any of them in a pipeline, and the information in their codes."""

import math

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

import cmim_sklearn
from cmim_sklearn import AEEncoder, CMIMEncoder, InfoNCEEncoder, VAEEncoder
from cmim_sklearn._tables import read as frames
from cmim_sklearn._tables.read import read
from cmim_sklearn.mutual_information._codes import index_information

ENCODERS = [name for name in cmim_sklearn.__all__ if name.endswith("Encoder")]


@pytest.mark.parametrize("name", ENCODERS)
def test_any_encoder_stands_in_the_pipeline_by_its_name_alone(name, mixed, quick):
    encoder = getattr(cmim_sklearn, name)
    pipe = Pipeline([("cmim", encoder(**quick)), ("clf", LogisticRegression())])
    X, y = mixed.drop(columns="member"), mixed["member"]
    assert pipe.fit(X, y).predict(X).shape == (200,)
    names = pipe[:1].get_feature_names_out()
    assert names[0] == f"{name.lower()}0"
    framed = pipe[0].set_output(transform="pandas").transform(X)
    assert isinstance(framed, pd.DataFrame)
    assert list(framed.columns) == list(names)


# -- long tables -----------------------------------------------------------------------------------


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(frames, "PART_CELLS", 1)
    monkeypatch.setattr(frames, "MIN_PART_ROWS", 70)


@pytest.mark.parametrize("make", [lambda X: X, pl.from_pandas, pa.Table.from_pandas])
def test_a_long_table_is_embedded_in_parts_as_it_would_be_whole(mixed, quick, small_parts, make):
    encoder = CMIMEncoder(**quick).fit(mixed)
    n_rows, parts = frames.read_in_parts(make(mixed))
    assert (n_rows, [part.first_row for part in parts]) == (200, [0, 70, 140])
    in_parts = encoder.transform(make(mixed))
    one_by_one = np.concatenate([encoder.transform(mixed[i : i + 50]) for i in range(0, 200, 50)])
    assert_array_equal(in_parts, one_by_one)


def test_a_part_of_all_numbers_is_of_categories_where_the_table_was(quick, small_parts):
    labels = np.array(["u"] * 100 + [2**60 + 300 * (i % 2) for i in range(100)], dtype=object)
    X = pd.DataFrame({"a": labels, "b": np.arange(200.0)})
    encoder = CMIMEncoder(**quick).fit(X)
    whole = np.concatenate([encoder.transform(X[i : i + 50]) for i in (0, 50, 100, 150)])
    assert_array_equal(encoder.transform(X), whole)
    a, b = encoder.table_.encode(read(X[150:152], encoder.table_.types))[:, 1]
    assert a != b
    assert np.isfinite(encoder.transform(X[100:101])).all()


def test_a_network_left_in_training_mode_in_part_is_set_right(mixed, quick):
    class Dropped(torch.nn.Sequential):
        def __init__(self, n_in, n_out, sizes, activation):
            super().__init__(torch.nn.Linear(n_in, n_out), torch.nn.Dropout(0.5))

    encoder = CMIMEncoder(**quick, encoder=Dropped).fit(mixed)
    expected = encoder.transform(mixed)
    encoder.net_.module.encoder[1].train()
    assert_array_equal(encoder.transform(mixed), expected)


def test_parts_of_arrays_are_views(small_parts):
    X = normal(200, 3)
    n_rows, parts = frames.read_in_parts(X)
    assert n_rows == 200
    assert all(np.shares_memory(part.columns[0], X) for part in parts)


def test_a_long_table_is_warned_of_once_and_told_its_rows(mixed, quick, small_parts):
    encoder = CMIMEncoder(**quick).fit(mixed)
    column = next(c for c in mixed if mixed[c].dtype.kind == "O" or mixed[c].dtype.name == "str")
    odd = mixed.astype({column: object})
    odd.loc[odd.index[[0, 100, 101, 190]], column] = ["u", "v", "w", "x"]
    with pytest.warns(UserWarning, match="not seen in fit") as caught:
        encoder.transform(odd)
    (warning,) = [w for w in caught if "not seen" in str(w.message)]
    assert f"{column!r} ('u', 'v', 'w')." in str(warning.message)
    assert warning.filename == __file__
    number = next(c for c in mixed if mixed[c].dtype.kind == "f")
    broken = mixed.copy()
    broken.loc[broken.index[150], number] = np.inf
    with pytest.raises(ValueError, match=f"{number!r} holds inf in row 150"):
        encoder.transform(broken)
    broken = mixed.astype({number: object})
    broken.loc[broken.index[160], number] = "much"
    with pytest.raises(ValueError, match="row 160 now holds 'much'"):
        encoder.transform(broken)


# -- information -----------------------------------------------------------------------------------


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def test_an_encoder_tells_what_its_codes_hold(mixed, quick):
    encoder = InfoNCEEncoder(**quick).fit(mixed)
    results = [encoder.mutual_information(mixed, noise=noise) for noise in (0.3, 0.5, 2.0)]
    values = [result.estimate for result in results]
    assert values == sorted(values, reverse=True)
    assert 0 < values[-1] < values[0] < math.log(200)
    for result in results:
        assert result.cap == math.log(200)
        assert len(result.folds) == 8
        assert result.estimate == np.mean(result.folds)
        assert 0 < result.error < 0.1
    assert encoder.mutual_information(mixed, noise=0.5) == results[1]  # it repeats
    backwards = encoder.mutual_information(mixed[::-1], noise=0.5, n_draws=50)
    assert backwards.estimate == pytest.approx(values[1], abs=5 * results[1].error)


def test_noise_is_a_share_of_the_code_s_own_scale(mixed, quick):
    """Codes twice as large hold as much at the same noise."""
    encoder = AEEncoder(**quick).fit(mixed)
    before = encoder.mutual_information(mixed, noise=0.7)
    with torch.no_grad():
        layer = encoder.net_.module.encoder.output
        layer.weight.mul_(2)
        layer.bias.mul_(2)
    centre, scale = encoder._scales["mean"]
    encoder._scales["mean"] = 2 * centre, 2 * scale
    after = encoder.mutual_information(mixed, noise=0.7)
    assert after.estimate == pytest.approx(before.estimate, rel=1e-4)


def test_codes_that_drown_in_their_own_noise_hold_nothing():
    """A VAE whose codes collapsed: however small they are, noise by their scale would not tell."""
    X = normal(300, 3)
    shared = {"n_components": 4, "max_iter": 100, "hidden_layer_sizes": (16,), "random_state": 0}
    collapsed = VAEEncoder(beta=1000.0, **shared).fit(X)
    for noise in (0, 0.3):
        assert abs(collapsed.mutual_information(X, noise=noise).estimate) < 0.02
    alive = VAEEncoder(beta=0.1, **shared).fit(X)
    assert alive.mutual_information(X, noise=0.3).estimate > 1


def test_noise_is_a_share_of_the_whole_deviation_and_comes_on_top(mixed, quick):
    """The same in every direction: components that tell nothing neither add nor take anything."""
    encoder = CMIMEncoder(**quick).fit(mixed)
    x = torch.from_numpy(encoder.table_.encode(read(mixed)))
    with torch.no_grad():
        mean, log_variance = encoder.net_.module.eval().encode(x)
    mean = mean.numpy().astype(float)
    variance = np.full_like(mean, log_variance.exp()[0].item() + 0.4**2 * mean.var(0).sum())
    rng = np.random.RandomState(0)
    order = rng.permutation(200)
    draws = [
        index_information(mean[order], variance, rng.standard_normal(mean.shape)) for _ in range(8)
    ]
    found = encoder.mutual_information(mixed, noise=0.4)
    assert found.folds == pytest.approx(draws, rel=1e-3)


def test_a_large_table_is_drawn_from(quick, monkeypatch):
    monkeypatch.setattr("cmim_sklearn._encoders.base.encoder.SUMMARY_ROWS", 50)
    X = normal(200, 3)
    encoder = CMIMEncoder(**quick).fit(X)
    assert encoder.mutual_information(X, noise=1.0).cap == math.log(50)


def test_information_near_its_cap_is_warned_of(mixed, quick):
    encoder = AEEncoder(**quick).fit(mixed)
    with pytest.warns(UserWarning, match=r"at noise=1e-06 is close to 5.30, .* 200 rows"):
        found = encoder.mutual_information(mixed, noise=1e-6)
    assert found.estimate == pytest.approx(math.log(200), abs=0.05)
    for bad, told in (
        ({"noise": -1}, "at least 1e-06. Got -1"),
        ({"noise": True}, "at least 1e-06. Got True"),
        ({"noise": math.inf}, "at least 1e-06. Got inf"),
        ({"n_draws": 0}, "n_draws must be an int of at least 1. Got 0"),
    ):
        with pytest.raises(ValueError, match=told):
            encoder.mutual_information(mixed, **bad)
    with pytest.raises(ValueError, match=r"noise must be above 0, .* no variance; got 0"):
        encoder.mutual_information(mixed, noise=0)


def test_nothing_is_told_of_rows_seen_before_fit(mixed, quick):
    with pytest.raises(Exception, match="not fitted yet"):
        CMIMEncoder(**quick).mutual_information(mixed)
    encoder = CMIMEncoder(**quick).fit(mixed)
    Z = encoder.transform(mixed)
    encoder.mutual_information(mixed, noise=1.0)
    assert_array_equal(encoder.transform(mixed), Z)
