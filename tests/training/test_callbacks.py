"""Callbacks: schedule, early stopping, progress, and those of skorch and scikit-learn."""

import numpy as np
import pytest
import sklearn
import torch
from sklearn.utils.fixes import parse_version
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    GradientNormClipping,
    LRScheduler,
    ProgressBar,
    TrainEndCheckpoint,
)

from cmim_sklearn import CMIMEncoder
from cmim_sklearn._training.callbacks import OneCycle, Progress
from tests.training.helpers import WARNING, Poison, small

# -- schedule --------------------------------------------------------------------------------------


def test_one_cycle_rises_and_falls():
    rates = []

    class Watch(Callback):
        def on_batch_end(self, net, training=False, **kwargs):
            if training:
                rates.append(net.optimizer_.param_groups[0]["lr"])

    CMIMEncoder(
        max_iter=20, hidden_layer_sizes=(4,), n_components=2, batch_size=20, random_state=0,
        learning_rate_init=0.01, net_params={"callbacks": [Watch()]},
    ).fit(np.random.RandomState(0).randn(100, 3))  # fmt: skip
    assert len(rates) == 100
    peak = int(np.argmax(rates))
    assert peak == 30
    assert rates[peak] == pytest.approx(0.01)
    assert (np.diff(rates[: peak + 1]) > 0).all()
    assert (np.diff(rates[peak:]) < 0).all()
    assert rates[-1] < 1e-4


def test_a_custom_scheduler_replaces_the_default(mixed, quick):
    scheduler = LRScheduler(policy="StepLR", step_size=1, gamma=0.1)
    params = {"callbacks": [scheduler]}
    encoder = CMIMEncoder(**quick, net_params=params, learning_rate_init=0.01).fit(mixed)
    assert not any(isinstance(cb, OneCycle) for _, cb in encoder.net_.callbacks_)
    assert encoder.net_.optimizer_.param_groups[0]["lr"] == pytest.approx(1e-5)


# -- early stopping --------------------------------------------------------------------------------


@pytest.mark.parametrize("patience", [1, 3])
def test_an_improvement_below_the_tolerance_does_not_count(mixed, quick, patience):
    params = quick | {"max_iter": 8, "early_stopping": True, "n_iter_no_change": patience}
    # Only the first epoch improves by as much as this.
    assert CMIMEncoder(**params, tol=1e9).fit(mixed).n_iter_ == 1 + patience
    assert CMIMEncoder(**params, tol=0, learning_rate_init=1e-2).fit(mixed).n_iter_ > 1 + patience


def test_the_best_weights_are_restored_if_no_improvement_reached_the_tolerance(mixed):
    encoder = CMIMEncoder(
        max_iter=12, hidden_layer_sizes=(16,), n_components=4, random_state=0, batch_size=32,
        early_stopping=True, tol=1e9, n_iter_no_change=50,
    ).fit(mixed)  # fmt: skip
    scores = encoder.validation_scores_
    assert int(np.argmax(scores)) > 0
    longer = encoder.set_params(warm_start=True, learning_rate_init=1e-30, max_iter=1).fit(mixed)
    assert longer.validation_scores_[-1] == pytest.approx(max(scores))


def test_early_stopping_restores_the_best_weights(mixed):
    """At a high rate the held-out loss grows: training stops and restores the best epoch."""

    class Weights(Callback):
        def on_epoch_end(self, net, **kwargs):
            seen.append({k: v.clone() for k, v in net.module_.state_dict().items()})

    seen = []
    encoder = CMIMEncoder(
        max_iter=60, n_components=2, hidden_layer_sizes=(16,), random_state=0, batch_size=16,
        learning_rate_init=0.03, early_stopping=True, n_iter_no_change=3,
        net_params={"callbacks": [Weights()], "callbacks__schedule": None},
    ).fit(mixed[:60])  # fmt: skip
    scores = np.array(encoder.validation_scores_)
    assert encoder.n_iter_ < 60
    assert encoder.n_iter_ == scores.argmax() + 1 + 3
    for name, weight in encoder.net_.module.named_parameters():
        assert torch.equal(weight, seen[scores.argmax()][name])


def test_skorchs_early_stopping_ends_training_without_an_interruption(mixed, quick):
    stop = EarlyStopping(monitor="train_loss", patience=2, threshold=1e9, threshold_mode="abs")
    params = quick | {"max_iter": 9, "net_params": {"callbacks": [stop]}}
    assert CMIMEncoder(**params).fit(mixed).n_iter_ == 3


# -- progress --------------------------------------------------------------------------------------


def test_progress_prints_about_ten_lines_to_a_file(mixed, quick, capsys):
    CMIMEncoder(**quick | {"max_iter": 40}, verbose=1).fit(mixed)
    lines = capsys.readouterr().out.splitlines()
    assert 8 <= len(lines) <= 12
    for part in (
        "[CMIMEncoder] 40/40",
        "loss",
        "distortion",
        "latent",
        "contrast",
        "0 s left",
    ):
        assert part in lines[-1]


def test_progress_rewrites_one_line_in_a_terminal(mixed, quick, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    CMIMEncoder(**quick, verbose=1).fit(mixed)
    out = capsys.readouterr().out
    assert out.count("\r") == 3
    assert out.count("\n") == 1
    assert out.endswith("\n")
    assert max(len(line) for line in out.rstrip().split("\r")) < 80


def test_progress_shows_the_last_epoch_of_a_fit_that_stops_early(mixed, quick, capsys):
    params = quick | {"max_iter": 100, "n_iter_no_change": 2, "tol": 1e9, "early_stopping": True}
    encoder = CMIMEncoder(**params, verbose=1).fit(mixed)
    last = capsys.readouterr().out.splitlines()[-1]
    assert f"{encoder.n_iter_}/100" in last
    assert "held out" in last


def test_nothing_is_printed_by_default(mixed, quick, capsys):
    CMIMEncoder(**quick).fit(mixed)
    assert capsys.readouterr().out == ""


def test_progress_without_verbosity_is_silent(capsys):
    class Net:
        verbose, history, max_epochs = 0, [{}], 1

    progress = Progress("x")
    progress.on_train_begin(Net())
    progress.on_epoch_end(Net())
    assert capsys.readouterr().out == ""


# -- other libraries -------------------------------------------------------------------------------


def test_skorchs_callbacks_work(mixed, quick, tmp_path, capsys):
    callbacks = [
        Checkpoint(monitor="train_loss_best", dirname=tmp_path),
        TrainEndCheckpoint(dirname=tmp_path),
        ProgressBar(),
        LRScheduler(policy="CosineAnnealingLR", T_max=10, step_every="batch"),
        GradientNormClipping(1.0),
    ]
    CMIMEncoder(**quick, net_params={"callbacks": callbacks}).fit(mixed)
    capsys.readouterr()
    assert (tmp_path / "params.pt").exists()
    assert (tmp_path / "train_end_params.pt").exists()


@pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.9"),
    reason="needs callbacks of scikit-learn",
)
def test_scikit_learns_callbacks_see_each_epoch_once(mixed):
    class Count:
        def __init__(self):
            self.events = []

        def setup(self, estimator, context):
            pass

        def teardown(self, estimator, context):
            pass

        def on_fit_task_begin(self, estimator, context):
            self.events.append(f"begin {context.task_name}")

        def on_fit_task_end(self, estimator, context):
            self.events.append(f"end {context.task_name}")

    count = Count()
    encoder = small(net_params={"callbacks": [Poison(3, 3)]}).set_callbacks(count)
    with pytest.warns(UserWarning, match=f"{WARNING} 3, 3"):
        encoder.fit(mixed)
    assert count.events == ["begin fit", *["begin epoch", "end epoch"] * 6, "end fit"]
