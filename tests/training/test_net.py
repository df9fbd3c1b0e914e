"""Training: batches, history, schedule, stopping, interruption."""

import math
import os
import signal
import time

import numpy as np
import pytest
import torch
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
from cmim_sklearn._models.latent_prior import LATENT_PRIORS, mixture_prior
from cmim_sklearn._training.batches import WholeBatches
from cmim_sklearn._training.callbacks import OneCycle, Progress
from cmim_sklearn._training.net import ObjectiveLoss
from cmim_sklearn.objectives import cmim
from tests.conftest import make_mixed


def batches(n, batch_size, seed=0):
    x = torch.arange(n, dtype=torch.float32)[:, None]
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return list(WholeBatches(x, batch_size, generator, "cpu"))


@pytest.mark.parametrize("n", [1, 2, 3, 5, 16, 17, 100, 257, 1000])
@pytest.mark.parametrize("batch_size", [2, 3, 16, 256])
def test_batches_are_near_equal_and_hold_every_row_once(n, batch_size):
    parts = batches(n, batch_size)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= max(batch_size, 3 if n % 2 else 2)
    assert min(sizes) > 1 or n == 1
    assert sorted(torch.cat(parts).flatten().tolist()) == list(range(n))


def test_batches_are_shuffled_anew_each_pass_and_in_order_without_a_generator():
    x = torch.arange(50.0)[:, None]
    loader = WholeBatches(x, 10, torch.Generator().manual_seed(0), "cpu")
    first, second = torch.cat(list(loader)), torch.cat(list(loader))
    assert not torch.equal(first, second)
    assert torch.equal(torch.cat(batches(50, 10, seed=None)), x)


def test_history_holds_every_term_once_an_epoch_and_they_add_up(mixed, quick):
    encoder = CMIMEncoder(**quick, early_stopping=True).fit(mixed)
    assert len(encoder.net_.history) == 3
    for row in encoder.net_.history:
        assert len(row["batches"]) <= 1
        assert row["dur"] > 0
        for stage in ("train", "valid"):
            terms = [row[f"{stage}_{name}"] for name in ("distortion", "latent", "contrast")]
            assert row[f"{stage}_loss"] == pytest.approx(sum(terms))
    losses = [row["train_loss"] for row in encoder.net_.history]
    assert [row["train_loss_best"] for row in encoder.net_.history] == [
        loss < min([math.inf, *losses[:i]]) for i, loss in enumerate(losses)
    ]
    assert encoder.loss_curve_ == losses


def test_the_recorded_loss_is_the_mean_over_rows(mixed, quick):
    """With a rate of next to nothing the epoch's loss is that of one pass over all rows."""
    encoder = CMIMEncoder(**quick | {"max_iter": 1}, learning_rate_init=1e-30, contrastive_weight=0)
    encoder.set_params(batch_size=16, posterior="fixed", input_masking=0).fit(mixed)
    model = encoder.net_.module
    from cmim_sklearn._tables.read import read

    x = torch.from_numpy(encoder.table_.encode(read(mixed)))
    losses = []
    for seed in range(40):
        batch = model(x, model.draw_noise(x, torch.Generator().manual_seed(seed)))
        losses.append(sum(cmim(batch, contrastive_weight=0).values()).mean().item())
    assert abs(encoder.loss_curve_[0] - np.mean(losses)) < 5 * np.std(losses)


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


def test_a_users_scheduler_takes_the_place_of_ours(mixed, quick):
    scheduler = LRScheduler(policy="StepLR", step_size=1, gamma=0.1)
    params = {"callbacks": [scheduler]}
    encoder = CMIMEncoder(**quick, net_params=params, learning_rate_init=0.01).fit(mixed)
    assert not any(isinstance(cb, OneCycle) for _, cb in encoder.net_.callbacks_)
    assert encoder.net_.optimizer_.param_groups[0]["lr"] == pytest.approx(1e-5)


def test_held_out_loss_uses_the_same_noise_each_epoch(mixed, quick):
    encoder = CMIMEncoder(**quick, learning_rate_init=1e-30, tol=0).fit(mixed, X_val=mixed[:50])
    assert encoder.validation_scores_ == pytest.approx([encoder.validation_scores_[0]] * 3)


@pytest.mark.parametrize("patience", [1, 3])
def test_a_gain_below_the_tolerance_counts_as_none(mixed, quick, patience):
    params = quick | {"max_iter": 8, "early_stopping": True, "n_iter_no_change": patience}
    # The first epoch always gains; none after it by as much as this.
    assert CMIMEncoder(**params, tol=1e9).fit(mixed).n_iter_ == 1 + patience
    assert CMIMEncoder(**params, tol=0, learning_rate_init=1e-2).fit(mixed).n_iter_ > 1 + patience


def test_the_best_weights_come_back_though_no_gain_reached_the_tolerance(mixed):
    encoder = CMIMEncoder(
        max_iter=12, hidden_layer_sizes=(16,), n_components=4, random_state=0, batch_size=32,
        early_stopping=True, tol=1e9, n_iter_no_change=50,
    ).fit(mixed)  # fmt: skip
    scores = encoder.validation_scores_
    assert int(np.argmax(scores)) > 0
    longer = encoder.set_params(warm_start=True, learning_rate_init=1e-30, max_iter=1).fit(mixed)
    assert longer.validation_scores_[-1] == pytest.approx(max(scores))


def test_early_stopping_restores_the_best_weights(mixed):
    """A rate so high that held-out loss grows: training stops and the best epoch comes back."""

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


class Interrupt(Callback):
    """What Ctrl-C does, in the second batch of the third epoch."""

    def on_batch_begin(self, net, training=False, **kwargs):
        self.count_ = getattr(self, "count_", 0) + bool(training)
        if self.count_ == 6:
            raise KeyboardInterrupt


def test_an_interrupted_fit_warns_rises_and_leaves_a_fitted_encoder(mixed, quick):
    encoder = CMIMEncoder(**quick | {"max_iter": 9}, batch_size=100)
    encoder.set_params(net_params={"callbacks": [Interrupt()]})
    with (
        pytest.warns(UserWarning, match="interrupted after 2 epochs"),
        pytest.raises(KeyboardInterrupt),
    ):
        encoder.fit(mixed)
    assert encoder.n_iter_ == 2
    assert len(encoder.loss_curve_) == 2
    assert encoder.transform(mixed).shape[0] == len(mixed)
    assert len(encoder.sample(3)) == 3


def test_skorchs_early_stopping_ends_training_and_is_no_interruption(mixed, quick):
    stop = EarlyStopping(monitor="train_loss", patience=2, threshold=1e9, threshold_mode="abs")
    params = quick | {"max_iter": 9, "net_params": {"callbacks": [stop]}}
    assert CMIMEncoder(**params).fit(mixed).n_iter_ == 3


def test_ctrl_c_at_the_end_of_an_epoch_rises_too(mixed, quick):
    # A test run in the background of a shell ignores the signal unless told otherwise.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    class Slow(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 2:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.1)

    encoder = CMIMEncoder(**quick, net_params={"callbacks": [Slow()]})
    try:
        with pytest.warns(UserWarning, match="interrupted"), pytest.raises(KeyboardInterrupt):
            encoder.fit(mixed)
    finally:
        signal.signal(signal.SIGINT, before)
    assert encoder.n_iter_ == 2


def test_ctrl_c_rises_where_warnings_are_errors(mixed, quick):
    params = {"net_params": {"callbacks": [Interrupt()]}, "batch_size": 100}
    encoder = CMIMEncoder(**quick | {"max_iter": 9}, **params)
    with pytest.raises(KeyboardInterrupt):  # setup.cfg makes errors of warnings
        encoder.fit(mixed)
    assert encoder.transform(mixed).shape == (200, 32)


def test_ctrl_c_while_the_mixture_is_fitted_rises_and_leaves_a_fitted_encoder(
    mixed, quick, monkeypatch
):
    calls = []

    def interrupted_once(*args):
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return mixture_prior(*args)

    monkeypatch.setitem(LATENT_PRIORS, "mixture", interrupted_once)
    encoder = CMIMEncoder(**quick)
    with pytest.warns(UserWarning, match="interrupted"), pytest.raises(KeyboardInterrupt):
        encoder.fit(mixed)
    assert len(encoder.sample(4)) == 4


def test_skorchs_own_callbacks_work(mixed, quick, tmp_path, capsys):
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


def test_a_loss_that_is_not_finite_says_what_to_do(mixed, quick):
    encoder = CMIMEncoder(**quick, learning_rate_init=1e30)
    with pytest.raises(
        FloatingPointError, match=r"epoch \d.*Lower learning_rate_init \(now 1e\+30\)"
    ):
        encoder.fit(mixed)


def test_progress_prints_plain_lines_where_nothing_can_be_rewritten(mixed, quick, capsys):
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


def test_silence_is_the_default(mixed, quick, capsys):
    CMIMEncoder(**quick).fit(mixed)
    assert capsys.readouterr().out == ""


def test_mixed_precision_trains(mixed, quick, monkeypatch):
    seen, autocast = [], torch.autocast
    monkeypatch.setattr(
        torch, "autocast", lambda *args, **kw: seen.append(kw) or autocast(*args, **kw)
    )
    encoder = CMIMEncoder(**quick, net_params={"autocast": "bfloat16"}).fit(mixed)
    assert np.isfinite(encoder.loss_curve_).all()
    assert next(encoder.net_.module.parameters()).dtype == torch.float32
    on = [kw for kw in seen if kw["enabled"]]  # the contrastive term turns it off
    assert {kw["dtype"] for kw in on} == {torch.bfloat16}


def test_objective_loss_passes_its_options_on():
    seen = {}
    loss = ObjectiveLoss(lambda batch, **options: seen.update(options, batch=batch), a=1)
    loss("rows")
    assert seen == {"a": 1, "batch": "rows"}


def test_progress_without_verbosity_is_silent(capsys):
    class Net:
        verbose, history, max_epochs = 0, [{}], 1

    progress = Progress("x")
    progress.on_train_begin(Net())
    progress.on_epoch_end(Net())
    assert capsys.readouterr().out == ""


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_training_on_a_gpu_opens_on_the_cpu():
    import pickle

    X = make_mixed()
    encoder = CMIMEncoder(max_iter=3, random_state=0, device="cuda").fit(X)
    on_gpu = encoder.transform(X)
    again = pickle.loads(pickle.dumps(encoder)).set_params(device="cpu")
    np.testing.assert_allclose(again.transform(X), on_gpu, atol=1e-3)
