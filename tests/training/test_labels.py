"""Labels in training: held-back rows, and the rule that ends the label term."""

import copy

import numpy as np
import pytest
import torch

from cmim_sklearn import CMIMEncoder, fit_together
from cmim_sklearn._training.labels import (
    N_CHECKS,
    PATIENCE,
    StopLabels,
    choose_held_back,
    plan_labels,
)
from tests.training.helpers import KILL, SMALL, Poison, fit_with, small, weights

NAN = np.nan
LABELLED = {"label_weight": 10.0, "max_iter": 12, "batch_size": 64}


def test_held_back_rows_are_a_share_of_each_class():
    labels = np.repeat([0.0, 1.0, 2.0, NAN], [600, 300, 100, 500])
    found = choose_held_back(labels, 3, seed=0)
    assert (np.diff(found) > 0).all()
    assert np.bincount(labels[found].astype(int)).tolist() == [60, 30, 10]
    assert (choose_held_back(labels, 3, seed=1) != found).any()


def test_held_back_rows_cover_the_range_of_numbers():
    labels = np.random.RandomState(0).permutation(1000) / 10
    found = np.sort(labels[choose_held_back(labels, 0, seed=0)])
    np.testing.assert_allclose(np.diff(found), 1.0)


@pytest.mark.parametrize(
    ("n", "expected"), [(100, 20), (200, 30), (300, 30), (1000, 100), (20_000, 1000)]
)
def test_number_of_held_back_rows(n, expected):
    assert len(choose_held_back(np.arange(n) % 2 * 1.0, 2, seed=0)) == expected


def test_the_only_row_of_a_class_is_not_held_back():
    labels = np.repeat(np.arange(200), 2).astype(float)
    labels = np.append(labels, np.arange(200, 260))
    for seed in range(5):
        found = choose_held_back(labels, 260, seed)
        assert len(found) == 46
        assert len(set(labels[found])) == 46
        assert labels[found].max() < 200
    assert not len(choose_held_back(np.arange(400.0), 400, seed=0))


def plan(labels, n_classes=2, held_out=None):
    x = np.arange(len(labels), dtype=np.float32)[:, None]
    x_held_out = None if held_out is None else -np.arange(len(held_out), dtype=np.float32)[:, None]
    return plan_labels(n_classes, labels, held_out, lambda rows: x[rows], x_held_out, 0)


def test_the_plan_marks_held_back_labels():
    labels = np.arange(400) % 2 * 1.0
    labels[:50] = NAN
    found = plan(labels)
    np.testing.assert_array_equal(found.train[:, 0], labels)
    held_back = np.flatnonzero(found.train[:, 1])
    assert len(held_back) == 35
    np.testing.assert_array_equal(found.check_x[:, 0], held_back)
    np.testing.assert_array_equal(found.check_y, labels[held_back])
    assert found.held_out is None


def test_labelled_held_out_rows_serve_for_the_checks():
    labels, held_out = np.arange(400) % 2 * 1.0, np.repeat([NAN, 0.0, 1.0], [10, 15, 15])
    found = plan(labels, held_out=held_out)
    assert not found.train[:, 1].any()
    np.testing.assert_array_equal(found.check_x[:, 0], -np.arange(10, 40))
    np.testing.assert_array_equal(found.check_y, held_out[10:])
    np.testing.assert_array_equal(found.held_out[:, 0], held_out)
    assert found.held_out[:, 1].all()
    few = plan(labels, held_out=held_out[:39])
    assert few.train[:, 1].sum() == 40


@pytest.mark.parametrize(
    "labels", [np.arange(299) % 2 * 1.0, np.repeat([0.0, NAN], [400, 200]), np.arange(400.0)]
)
def test_labels_from_which_nothing_is_learnt_are_not_used(labels):
    assert plan(labels, n_classes=400) is None


def test_three_hundred_labels_are_used():
    assert plan(np.arange(300) % 2 * 1.0) is not None


# -- fits ------------------------------------------------------------------------------------------


def table(learnable, n_rows=320):
    """Numbers, and classes that depend on them or not."""
    X = np.random.RandomState(0).randn(n_rows, 4)
    y = (X[:, 0] + X[:, 1] > 0).astype(int)
    return X, y if learnable else np.random.RandomState(1).permutation(y)


def held_out_loss(encoder, X):
    """Held-out loss of the weights of an encoder, by a warm start that hardly changes them."""
    copied = copy.deepcopy(encoder).set_params(label_weight=0.0, warm_start=True, max_iter=1)
    copied.set_params(learning_rate_init=1e-30).fit(X)
    return -copied.validation_scores_[-1]


def phases(encoder):
    return [row["uses_labels"] for row in encoder.net_.history]


@pytest.mark.usefixtures("short_calibration")
@pytest.mark.parametrize("learnable", [True, False])
@pytest.mark.parametrize(("epoch", "early_stopping"), [(2, False), (7, True), (11, False)])
def test_a_fit_resumes_to_the_bit(learnable, epoch, early_stopping, tmp_path, monkeypatch):
    X, y = table(learnable, 420 if early_stopping else 320)
    own = LABELLED | {"early_stopping": early_stopping}
    whole = small(**own).fit(X, y)
    assert phases(whole)[-1] == learnable
    monkeypatch.setitem(KILL, "epoch", epoch)
    with pytest.raises(RuntimeError, match="killed"):
        small(folder=tmp_path, **own).fit(X, y)
    monkeypatch.setitem(KILL, "epoch", None)
    resumed = small(folder=tmp_path, **own).fit(X, y)
    assert resumed.net_.n_resumed_ == epoch - 1
    assert weights(resumed) == weights(whole)
    assert phases(resumed) == phases(whole)
    for name in ("label_n_iter_", "label_scores_", "loss_curve_", "validation_scores_"):
        assert getattr(resumed, name) == getattr(whole, name)


@pytest.mark.usefixtures("short_calibration")
def test_other_labels_are_another_fit(tmp_path):
    X, y = table(True)
    small(folder=tmp_path, **LABELLED | {"max_iter": 1}).fit(X, y)
    other = y.copy()
    other[7] = 1 - y[7]
    for i, target in enumerate((other, y[::-1].copy()), start=2):
        small(folder=tmp_path, **LABELLED | {"max_iter": 1}).fit(X, target)
        assert len(list(tmp_path.iterdir())) == i


@pytest.mark.usefixtures("short_calibration")
def test_labels_end_with_the_weights_of_the_best_check():
    X, y = table(False)
    watch = Poison()  # without an epoch, it only records
    found = fit_with(watch, X, label_weight=10.0, max_iter=20, batch_size=64, y=y)
    n_on = phases(found).count(True)
    best, scores = found.label_n_iter_, np.array(found.label_scores_)
    assert 0 < best < n_on
    assert len(scores) == n_on
    assert n_on - best == -(-20 * PATIENCE // N_CHECKS)
    begin = watch.begin_[n_on + 1]
    for name, weight in watch.end_[best].items():
        assert torch.equal(begin[name], weight) == (name != "labels.is_on"), name
    assert begin["labels.is_on"] == 0
    rates = [rate for epoch, rate in watch.rates_ if epoch in (best + 1, n_on + 1)]
    assert rates[0] != rates[5]
    assert len(phases(found)) == 20


@pytest.mark.usefixtures("short_calibration")
def test_a_non_finite_loss_returns_to_the_rule_before_it():
    X, y = table(True)
    poison = Poison(5, 8)
    with pytest.warns(UserWarning, match="not finite in epoch 5, 8"):
        found = fit_with(poison, X, label_weight=10.0, max_iter=12, batch_size=64, y=y)
    assert phases(found) == [True] * 12
    assert len(found.label_scores_) == 8
    assert found.label_n_iter_ == 12


def test_a_forged_state_raises():
    X, y = table(True)
    states = []

    class Note(Poison):
        comes_last = True

        def on_epoch_end(self, net, **kwargs):
            (stop,) = (c for _, c in net.callbacks_ if isinstance(c, StopLabels))
            state = stop.state_dict()
            stop.load_state_dict(state)
            for change in ({"epoch": 1.5}, {"scores": None}, {"state": {"weights": {}}}):
                with pytest.raises(
                    ValueError, match=r"expected '(epoch|scores)' of|another network"
                ):
                    stop.load_state_dict(state | change)
            states.append(stop.state_dict())

    found = fit_with(Note(), X, label_weight=10.0, max_iter=2, y=y)
    assert [state["epoch"] for state in states] == [1, 2]
    assert states[0]["scores"] == found.label_scores_[:1]


@pytest.mark.usefixtures("short_calibration")
@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize(("max_iter", "patience"), [(2, 9), (20, 1)])
def test_the_weights_have_the_best_held_out_loss(max_iter, patience, batched):
    X, y = table(False, 420)
    own = {"max_iter": max_iter, "n_iter_no_change": patience, "batch_size": 64}
    own |= {"early_stopping": True, "label_weight": 10.0, "learning_rate_init": 0.03}
    encoders = [CMIMEncoder(**SMALL | own | {"random_state": seed}) for seed in (0, 2)]
    fit_together(encoders, X, y, batched=batched)
    ended = 0
    for found in encoders:
        given_up = range(found.label_n_iter_, phases(found).count(True))
        ended += len(given_up)
        losses = [-s for i, s in enumerate(found.validation_scores_) if i not in given_up]
        assert held_out_loss(found, X) == pytest.approx(min(losses), rel=1e-5)
    assert ended


def test_no_row_stays_in_the_net():
    X, y = table(True)
    found = small(**LABELLED | {"max_iter": 1}).fit(X, y)
    net = found.net_
    assert not [c for _, c in net.callbacks_ if isinstance(c, StopLabels)]
    assert not [c for c in net.callbacks if isinstance(c, StopLabels)]
    assert net.train_split is None
