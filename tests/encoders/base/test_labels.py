"""Encoders with labels."""

import numpy as np
import pandas as pd
import pytest

from tests.helpers import GENERATIVE, small_encoder, weights

N = 320


def table(n_rows=N, seed=0):
    """Numbers, and a class that depends on two of them."""
    X = np.random.RandomState(seed).randn(n_rows, 4)
    return X, (X[:, 0] + X[:, 1] > 0).astype(int)


def encoder(name="CMIMEncoder", **parameters):
    own = {"label_weight": 10.0, "hidden_layer_sizes": (8,), "batch_size": 64, "device": "cpu"}
    return small_encoder(name, **own | parameters)


def same_bits(one, other):
    """Whether two encoders have the same weights, without those of a head."""
    one, other = (
        {k: v for k, v in weights(e).items() if not k.startswith("labels")} for e in (one, other)
    )
    return one == other


def test_without_weight_y_is_not_looked_at():
    X, _ = table()
    plain = encoder(label_weight=0.0).fit(X)
    for y in (np.arange(N), object(), "nonsense"):
        found = encoder(label_weight=0.0).fit(X, y)
        assert weights(found) == weights(plain)
        assert not hasattr(found, "classes_")
        assert not hasattr(found, "label_n_iter_")


@pytest.mark.parametrize("name", GENERATIVE)
def test_labels_reach_the_encoder(name):
    X, y = table()
    plain, labelled = encoder(name, label_weight=0.0).fit(X), encoder(name).fit(X, y)
    assert labelled.classes_.tolist() == [0, 1]
    assert labelled.label_n_iter_ == 2
    assert len(labelled.label_scores_) == 2
    assert "train_label" in labelled.net_.history[-1]
    for part in ("encoder.output.weight", "decoder.body.0.0.weight"):
        assert weights(plain)[part] != weights(labelled)[part]
    assert labelled.transform(X).shape == plain.transform(X).shape


@pytest.mark.parametrize(
    "y",
    [
        np.r_[np.arange(290) % 2, [-1] * 30],
        np.r_[np.arange(290.0) % 2, [np.nan] * 30],
        np.zeros(N),
        np.full(N, 0.5),
        ["a"] * N,
    ],
)
@pytest.mark.filterwarnings("ignore:30 of 320 rows have the label -1")
def test_labels_from_which_nothing_is_learnt_change_nothing(y):
    X, _ = table()
    found = encoder().fit(X, y)
    assert (found.label_n_iter_, found.label_scores_) == (0, [])
    assert weights(found) == weights(encoder(label_weight=0.0).fit(X))


def test_a_missing_target_raises():
    match = "CMIMEncoder has label_weight=10.0, and requires y to be passed, but the target y is No"
    with pytest.raises(ValueError, match=match):
        encoder().fit(table()[0])


def test_minus_one_is_unlabelled_with_a_warning():
    X, y = table()
    y[:5] = -1
    with pytest.warns(UserWarning, match="5 of 320 rows have the label -1, and count as unlabe"):
        found = encoder().fit(X, y)
    missing = y.astype(float)
    missing[:5] = np.nan
    assert weights(encoder().fit(X, missing)) == weights(found)
    assert encoder().fit(X, np.where(table()[1], 1, -1)).classes_.tolist() == [-1, 1]


@pytest.mark.parametrize(
    "convert",
    [
        lambda y: list(y),
        lambda y: np.array(["no", "yes"])[y],
        lambda y: y.astype(bool),
        lambda y: pd.Series(y, dtype="Int64"),
        lambda y: pd.Series(np.array(["no", "yes"])[y], dtype="category"),
        lambda y: pd.Series(y, dtype="boolean"),
    ],
)
def test_equal_classes_of_any_dtype_give_equal_weights(convert):
    X, y = table()
    assert weights(encoder(max_iter=1).fit(X, convert(y))) == weights(encoder(max_iter=1).fit(X, y))


def test_numbers_are_standardised():
    X, _ = table()
    y = X[:, 0] * 3 + 100.5
    found = encoder().fit(X, y)
    assert (found.target_mean_, found.target_scale_) == (pytest.approx(y.mean()), y.std())
    assert not hasattr(found, "classes_")
    other = encoder().fit(X, 1000 * y)
    np.testing.assert_allclose(other.transform(X), found.transform(X), rtol=1e-3, atol=1e-3)


def test_a_refit_forgets_the_labels():
    X, y = table()
    found = encoder().fit(X, y)
    found.set_params(label_weight=0.0).fit(X)
    assert not [name for name in vars(found) if name.startswith(("label_n", "classes", "target_m"))]
    assert weights(found) == weights(encoder(label_weight=0.0).fit(X))


def test_partial_fit_cannot_use_labels():
    X, y = table()
    with pytest.raises(ValueError, match=r"partial_fit cannot use labels.*label_weight=10\.0"):
        encoder().partial_fit(X, y)


def test_permuted_labels_are_switched_off():
    X, y = table(600)
    y = np.random.RandomState(1).permutation(y)
    found = encoder(max_iter=30, batch_size=200).fit(X, y)
    assert found.label_n_iter_ < 20
    phases = [row["labels"] for row in found.net_.history]
    assert phases[0] == "on"
    assert phases[-1] == "off"
