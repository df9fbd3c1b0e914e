"""Net: history, noise, interruptions, non-finite losses, mixed precision."""

import math
import pickle
import signal

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback

from cmim_sklearn import Checkpoint, CMIMEncoder, InfoMaxVAEEncoder
from cmim_sklearn._models.latent_prior import LATENT_PRIORS, mixture_prior
from cmim_sklearn._training.net import MAX_BACK_OFFS, NotFinite, ObjectiveLoss
from cmim_sklearn.objectives import cmim
from tests.helpers import encoded, make_mixed
from tests.training.helpers import (
    ENCODERS,
    KILL,
    WARNING,
    Killed,
    Poison,
    assert_equal_weights,
    fit_with,
    small,
)


def test_history_has_every_term_once_per_epoch_and_they_add_up(mixed, quick):
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
    """At a tiny learning rate the epoch's loss is that of one pass over all rows."""
    encoder = CMIMEncoder(**quick | {"max_iter": 1}, learning_rate_init=1e-30, contrastive_weight=0)
    encoder.set_params(batch_size=16, posterior="fixed", input_masking=0).fit(mixed)
    model = encoder.net_.module
    x = encoded(encoder, mixed)
    losses = []
    for seed in range(40):
        batch = model(x, model.draw_noise(x, torch.Generator(x.device).manual_seed(seed)))
        losses.append(sum(cmim(batch, contrastive_weight=0).values()).mean().item())
    assert abs(encoder.loss_curve_[0] - np.mean(losses)) < 5 * np.std(losses)


def test_the_label_term_is_no_part_of_the_loss_but_must_be_finite(mixed, quick):
    net = CMIMEncoder(**quick | {"max_iter": 1}).fit(mixed).net_
    net.record_losses("train", {"distortion": 6.0, "label": 40.0}, 2, 1)
    row = net.history[-1]
    assert [row[f"train_{name}"] for name in ("loss", "distortion", "label")] == [3, 3, 20]
    with pytest.raises(NotFinite, match="training loss is inf in epoch 1"):
        net.record_losses("train", {"distortion": 6.0, "label": math.inf}, 2, 1)


def test_held_out_loss_uses_the_same_noise_each_epoch(mixed, quick):
    encoder = CMIMEncoder(**quick, learning_rate_init=1e-30, tol=0).fit(mixed, X_val=mixed[:50])
    assert encoder.validation_scores_ == pytest.approx([encoder.validation_scores_[0]] * 3)


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


def test_objective_loss_passes_its_options():
    seen = {}
    loss = ObjectiveLoss(lambda batch, **options: seen.update(options, batch=batch), a=1)
    loss("rows")
    assert seen == {"a": 1, "batch": "rows"}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_an_encoder_trained_on_a_gpu_works_on_the_cpu():
    X = make_mixed()
    encoder = CMIMEncoder(max_iter=3, random_state=0, device="cuda").fit(X)
    on_gpu = encoder.transform(X)
    again = pickle.loads(pickle.dumps(encoder)).set_params(device="cpu")
    np.testing.assert_allclose(again.transform(X), on_gpu, atol=1e-3)


# -- interruptions ---------------------------------------------------------------------------------


class Interrupt(Callback):
    """Raise as Ctrl-C does, in the second batch of the third epoch."""

    def on_batch_begin(self, net, training=False, **kwargs):
        self.count_ = getattr(self, "count_", 0) + bool(training)
        if self.count_ == 6:
            raise KeyboardInterrupt


def test_an_interrupted_fit_warns_raises_and_leaves_a_fitted_encoder(mixed, quick):
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


def test_ctrl_c_at_the_end_of_an_epoch_raises_too(mixed, quick):
    # The shell may have set the signal to be ignored, as for background jobs.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    class Interrupt(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 2:
                signal.raise_signal(signal.SIGINT)

    encoder = CMIMEncoder(**quick, net_params={"callbacks": [Interrupt()]})
    try:
        with pytest.warns(UserWarning, match="interrupted"), pytest.raises(KeyboardInterrupt):
            encoder.fit(mixed)
    finally:
        signal.signal(signal.SIGINT, before)
    assert encoder.n_iter_ == 2


def test_ctrl_c_raises_where_warnings_are_errors(mixed, quick):
    params = {"net_params": {"callbacks": [Interrupt()]}, "batch_size": 100}
    encoder = CMIMEncoder(**quick | {"max_iter": 9}, **params)
    with pytest.raises(KeyboardInterrupt):  # pytest turns warnings into errors
        encoder.fit(mixed)
    assert encoder.transform(mixed).shape == (200, 32)


def test_ctrl_c_while_the_mixture_is_fitted_raises_and_leaves_a_fitted_encoder(
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


def test_ctrl_c_in_an_epoch_with_a_non_finite_loss_restores_the_weights_before_it(mixed):
    class Interrupts(Callback):
        def on_batch_end(self, net, training=False, **kwargs):
            if len(net.history) == 3 and not next(net.module_.parameters()).isfinite().all():
                raise KeyboardInterrupt

    poison = Poison(3)
    encoder = small(net_params={"callbacks": [poison, Interrupts()]})
    with pytest.warns(UserWarning, match="interrupted"), pytest.raises(KeyboardInterrupt):
        encoder.fit(mixed)
    weights = dict(encoder.net_.module.named_parameters())
    for name, weight in weights.items():
        assert torch.equal(weight, poison.end_[2][name])


# -- non-finite losses -----------------------------------------------------------------------------


def test_the_error_for_a_non_finite_loss_says_what_to_do(mixed, quick):
    encoder = CMIMEncoder(**quick, learning_rate_init=1e30)
    with pytest.raises(
        FloatingPointError, match=r"epoch \d.*Lower learning_rate_init \(now 1e\+30\)"
    ):
        encoder.fit(mixed)


@pytest.mark.parametrize("schedule", [{}, {"callbacks__schedule": None}], ids=["cycle", "none"])
def test_an_epoch_with_a_non_finite_loss_is_repeated_at_half_the_rate(schedule, mixed):
    untouched, poison = Poison(), Poison(3, 3, 5)
    whole = fit_with(untouched, mixed, net_params=schedule)
    with pytest.warns(UserWarning, match=f"{WARNING} 3, 3, 5.*half.*now 0.003") as caught:
        encoder = fit_with(poison, mixed, net_params=schedule)
    assert len(caught) == 1
    assert encoder.net_.nonfinite_epochs_ == [3, 3, 5]
    assert encoder.n_iter_ == len(encoder.net_.history) == 6
    assert np.isfinite(encoder.loss_curve_).all()
    assert encoder.loss_curve_[:2] == whole.loss_curve_[:2]
    for epoch in (3, 5):
        assert_equal_weights(poison.begin_[epoch], poison.end_[epoch - 1])
    factors = {1: 1, 2: 1, 3: 1 / 4, 4: 1 / 4, 5: 1 / 8, 6: 1 / 8}
    wanted = dict(untouched.rates_[::-1])  # rate of each epoch's first update
    for epoch, rate in dict(poison.rates_[::-1]).items():
        if epoch not in (3, 5):
            assert rate == pytest.approx(wanted[epoch] * factors[epoch])
    last = [rate for epoch, rate in poison.rates_ if epoch == 3][-4:]
    whole_epoch = [rate / 4 for epoch, rate in untouched.rates_ if epoch == 3]
    assert last == pytest.approx(whole_epoch)
    assert np.isfinite(encoder.transform(mixed)).all()


@pytest.mark.parametrize("rate", [1, np.float32(1e-3)])
def test_a_rate_of_any_kind_of_number_is_halved(rate, mixed):
    with pytest.warns(UserWarning, match=WARNING):
        encoder = fit_with(Poison(3), mixed, learning_rate_init=rate)
    assert encoder.net_.nonfinite_epochs_ == [3]


def test_a_fit_that_fails_after_some_attempts_leaves_the_encoder_unchanged(mixed):
    encoder = fit_with(Poison(), mixed)
    before = encoder.transform(mixed)
    poison = Poison(*[2] * (MAX_BACK_OFFS + 1))
    encoder.set_params(net_params={"callbacks": [poison]})
    with pytest.raises(
        FloatingPointError, match=r"loss is nan in epoch 2, even after halving .* 3 times"
    ):
        encoder.fit(mixed)
    assert not poison.left_
    np.testing.assert_array_equal(encoder.transform(mixed), before)


def test_a_non_finite_held_out_loss_counts_too(mixed):
    with pytest.warns(UserWarning, match=f"{WARNING} 4"):
        encoder = fit_with(Poison(4, training=False), mixed, early_stopping=True, batch_size=10)
    assert np.isfinite(encoder.validation_scores_).all()
    poison = Poison(*[1] * 4, training=False)
    with pytest.raises(FloatingPointError, match=r"held-out loss is nan in epoch 1.*column '"):
        fit_with(poison, mixed, early_stopping=True, batch_size=10)


def test_a_critic_is_restored_too(mixed):
    own = {"cls": InfoMaxVAEEncoder, "critic_hidden_layer_sizes": (7,)}
    with pytest.warns(UserWarning, match=f"{WARNING} 3"):
        encoder = fit_with(Poison(3, critic=True), mixed, **own)
    assert np.isfinite(encoder.loss_curve_).all()


def test_early_stopping_does_not_count_repeated_epochs(mixed):
    """Five epochs without an improvement of tol, repeated ones not counted."""
    own = {"early_stopping": True, "tol": 1e9, "n_iter_no_change": 5, "max_iter": 50}
    with pytest.warns(UserWarning, match=f"{WARNING} 2, 4"):
        assert fit_with(Poison(2, 4), mixed, **own).n_iter_ == 6


def test_non_finite_weights_after_the_last_step_are_found_in_the_same_epoch(mixed):
    class PoisonsLast(Callback):
        def on_grad_computed(self, net, **kwargs):
            self.n_ = getattr(self, "n_", 0) + 1
            if self.n_ == 8:  # the last of the four of the second epoch
                for weight in net.module_.parameters():
                    weight.grad.fill_(torch.nan)

    with pytest.warns(UserWarning, match=f"{WARNING} 2"):
        encoder = fit_with(PoisonsLast(), mixed)
    assert np.isfinite(encoder.loss_curve_).all()


def test_a_checkpoint_keeps_the_halved_rate(mixed, tmp_path, monkeypatch):
    def fit(folder=None):
        keep = [] if folder is None else [Checkpoint(folder, every_epochs=1)]
        with pytest.warns(UserWarning, match=f"{WARNING} 3."):
            return fit_with(Poison(3), mixed, callbacks=[Killed(), *keep])

    monkeypatch.setitem(KILL, "epoch", 5)
    with pytest.raises(RuntimeError, match="killed"):
        fit_with(Poison(3), mixed, callbacks=[Killed(), Checkpoint(tmp_path, every_epochs=1)])
    monkeypatch.undo()
    whole, resumed = fit(), fit(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    assert resumed.net_.n_resumed_ == 4
    assert_equal_weights(resumed.net_.module.state_dict(), whole.net_.module.state_dict())
    assert resumed.loss_curve_ == whole.loss_curve_


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_recovers_from_a_non_finite_loss(name, mixed):
    cls = type(small(name))
    with pytest.warns(UserWarning, match=f"{WARNING} 2"):
        encoder = fit_with(Poison(2), mixed, cls, max_iter=3)
    assert np.isfinite(encoder.transform(mixed)).all()
    assert np.isfinite(encoder.loss_curve_).all()
