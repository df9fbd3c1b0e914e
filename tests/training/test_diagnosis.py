"""Losses that are not finite: back to the last good epoch, at half the rate, or an error."""

import numpy as np
import pytest
import sklearn
import torch
from sklearn.utils.fixes import parse_version
from skorch.callbacks import Callback, LRScheduler, WarmRestartLR
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    MultiStepLR,
    OneCycleLR,
    SequentialLR,
    StepLR,
)

import cmim_sklearn
from cmim_sklearn import AEEncoder, Checkpoint, CMIMEncoder, InfoMaxVAEEncoder, InfoNCEEncoder
from cmim_sklearn._training import diagnosis as faults
from cmim_sklearn._training.critic import TrainCritic
from cmim_sklearn._training.net import MAX_BACK_OFFS
from tests.conftest import make_mixed

WARNING = "The loss was not finite in epoch"
SMALL = {
    "max_iter": 6, "hidden_layer_sizes": (8,), "n_components": 3, "batch_size": 50,
    "random_state": 0, "device": "cpu",
}  # fmt: skip


def in_sequence(optimizer, last_epoch=-1):
    parts = [ConstantLR(optimizer, 0.5, 10), ExponentialLR(optimizer, 0.8)]
    return SequentialLR(optimizer, parts, milestones=[3])


def rates_of_last_attempts(poison):
    """By epoch, the rates of its four updates when it was trained to its end."""
    return {
        epoch: [rate for at, rate in poison.rates_ if at == epoch][-4:] for epoch in range(1, 7)
    }


class Poison(Callback):
    """Breaks the weights in the second batch of some epochs, and keeps an eye on all of them."""

    def __init__(self, *epochs, training=True, critic=False):
        self.epochs, self.training, self.critic = list(epochs), training, critic

    def initialize(self):
        self.left_, self.rates_, self.begin_, self.end_ = list(self.epochs), [], {}, {}
        return self

    def on_epoch_begin(self, net, **kwargs):
        self.batch_, self.broken_ = 0, False
        self.begin_[len(net.history)] = copies(net.module_)

    def on_batch_begin(self, net, training=False, **kwargs):
        if training:
            self.rates_.append((len(net.history), net.optimizer_.param_groups[0]["lr"]))
        self.batch_ += training == self.training
        if self.batch_ == 2 and self.left_[:1] == [len(net.history)] and not self.broken_:
            self.left_.pop(0)
            self.broken_ = True
            module = net.module_
            if self.critic:
                (beside,) = (c for _, c in net.callbacks_ if isinstance(c, TrainCritic))
                module = beside.critic.module_
            with torch.no_grad():
                next(module.parameters()).fill_(torch.nan)

    def on_epoch_end(self, net, **kwargs):
        self.end_[len(net.history)] = copies(net.module_)


def copies(module):
    return {name: weight.clone() for name, weight in module.state_dict().items()}


def assert_equal_weights(one, other):
    for name, weight in one.items():
        assert torch.equal(weight, other[name]), name


def fit(poison, X, cls=CMIMEncoder, callbacks=(), **parameters):
    net_params = {"callbacks": [poison, *callbacks], **parameters.pop("net_params", {})}
    return cls(**SMALL | parameters, net_params=net_params).fit(X)


@pytest.mark.parametrize("schedule", [{}, {"callbacks__schedule": None}], ids=["cycle", "none"])
def test_a_broken_epoch_is_begun_anew_at_half_the_rate(schedule, mixed):
    untouched, poison = Poison(), Poison(3, 3, 5)
    whole = fit(untouched, mixed, net_params=schedule)
    with pytest.warns(UserWarning, match=f"{WARNING} 3, 3, 5.*half.*now 0.003") as told:
        encoder = fit(poison, mixed, net_params=schedule)
    assert len(told) == 1
    assert encoder.net_.faults_ == [3, 3, 5]
    assert encoder.n_iter_ == len(encoder.net_.history) == 6
    assert np.isfinite(encoder.loss_curve_).all()
    assert encoder.loss_curve_[:2] == whole.loss_curve_[:2]
    for epoch in (3, 5):
        assert_equal_weights(poison.begin_[epoch], poison.end_[epoch - 1])
    factors = {1: 1, 2: 1, 3: 1 / 4, 4: 1 / 4, 5: 1 / 8, 6: 1 / 8}
    wanted = dict(untouched.rates_[::-1])  # of each epoch's first update
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
        encoder = fit(Poison(3), mixed, learning_rate_init=rate)
    assert encoder.net_.faults_ == [3]


def test_after_some_attempts_the_fit_fails_and_leaves_the_encoder_as_it_was(mixed):
    encoder = fit(Poison(), mixed)
    before = encoder.transform(mixed)
    poison = Poison(*[2] * (MAX_BACK_OFFS + 1))
    encoder.set_params(net_params={"callbacks": [poison]})
    with pytest.raises(FloatingPointError, match=r"loss is nan in epoch 2, also .* halved 3 times"):
        encoder.fit(mixed)
    assert not poison.left_
    np.testing.assert_array_equal(encoder.transform(mixed), before)


def test_a_held_out_loss_that_is_not_finite_counts_too(mixed):
    with pytest.warns(UserWarning, match=f"{WARNING} 4"):
        encoder = fit(Poison(4, training=False), mixed, early_stopping=True, batch_size=10)
    assert np.isfinite(encoder.validation_scores_).all()
    poison = Poison(*[1] * 4, training=False)
    with pytest.raises(FloatingPointError, match=r"held-out loss is nan in epoch 1.*column '"):
        fit(poison, mixed, early_stopping=True, batch_size=10)


def test_a_critic_goes_back_too(mixed):
    own = {"cls": InfoMaxVAEEncoder, "critic_hidden_layer_sizes": (7,)}
    with pytest.warns(UserWarning, match=f"{WARNING} 3"):
        encoder = fit(Poison(3, critic=True), mixed, **own)
    assert np.isfinite(encoder.loss_curve_).all()


def test_what_early_stopping_knows_is_kept(mixed):
    """Five epochs without a gain of tol, those begun anew not counted."""
    own = {"early_stopping": True, "tol": 1e9, "n_iter_no_change": 5, "max_iter": 50}
    with pytest.warns(UserWarning, match=f"{WARNING} 2, 4"):
        assert fit(Poison(2, 4), mixed, **own).n_iter_ == 6


def test_a_last_step_that_breaks_the_weights_is_seen_in_its_epoch(mixed):
    class BreaksLast(Callback):
        def on_grad_computed(self, net, **kwargs):
            self.n_ = getattr(self, "n_", 0) + 1
            if self.n_ == 8:  # the last of the four of the second epoch
                for weight in net.module_.parameters():
                    weight.grad.fill_(torch.nan)

    with pytest.warns(UserWarning, match=f"{WARNING} 2"):
        encoder = fit(BreaksLast(), mixed)
    assert np.isfinite(encoder.loss_curve_).all()


def test_a_checkpoint_keeps_what_was_halved(mixed, tmp_path):
    class Dies(Callback):
        dies_ = False  # no parameter: it is the same fit

        def on_epoch_begin(self, net, **kwargs):
            if self.dies_ and len(net.history) == 5:
                raise RuntimeError

    def run(folder=None):
        keep = [] if folder is None else [Checkpoint(folder, every_epochs=1)]
        with pytest.warns(UserWarning, match=f"{WARNING} 3."):
            return fit(Poison(3), mixed, callbacks=[Dies(), *keep])

    whole, dies = run(), Dies()
    dies.dies_ = True
    with pytest.raises(RuntimeError):
        fit(Poison(3), mixed, callbacks=[dies, Checkpoint(tmp_path, every_epochs=1)])
    again = run(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    assert_equal_weights(again.net_.module.state_dict(), whole.net_.module.state_dict())
    assert again.loss_curve_ == whole.loss_curve_


def test_ctrl_c_in_a_broken_epoch_leaves_the_weights_before_it(mixed):
    class Interrupts(Callback):
        def on_batch_end(self, net, training=False, **kwargs):
            if len(net.history) == 3 and not next(net.module_.parameters()).isfinite().all():
                raise KeyboardInterrupt

    poison = Poison(3)
    encoder = CMIMEncoder(**SMALL, net_params={"callbacks": [poison, Interrupts()]})
    with pytest.warns(UserWarning, match="interrupted"), pytest.raises(KeyboardInterrupt):
        encoder.fit(mixed)
    weights = dict(encoder.net_.module.named_parameters())
    for name, weight in weights.items():
        assert torch.equal(weight, poison.end_[2][name])


@pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.9"), reason="callbacks came with 1.9"
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
    encoder = CMIMEncoder(**SMALL, net_params={"callbacks": [Poison(3, 3)]}).set_callbacks(count)
    with pytest.warns(UserWarning, match=f"{WARNING} 3, 3"):
        encoder.fit(mixed)
    assert count.events == ["begin fit", *["begin epoch", "end epoch"] * 6, "end fit"]


POLICIES = {
    "step": (StepLR, {"step_size": 2, "gamma": 0.5}),
    "milestones": (MultiStepLR, {"milestones": [2, 3, 5], "gamma": 0.3}),
    "lambda": (LambdaLR, {"lr_lambda": lambda epoch: 0.9**epoch}),
    "cosine": (CosineAnnealingLR, {"T_max": 6}),
    "restarts": (CosineAnnealingWarmRestarts, {"T_0": 2}),
    "skorch": (WarmRestartLR, {"max_lr": 0.01, "min_lr": 1e-4, "base_period": 3}),
    "exponential": ("ExponentialLR", {"gamma": 0.8}),
    "one cycle": (OneCycleLR, {"max_lr": 0.01, "total_steps": 24, "step_every": "batch"}),
    "cyclic": (CyclicLR, {"base_lr": 1e-3, "max_lr": 0.01, "step_size_up": 5, "step_every": "batch",
                          "cycle_momentum": False}),
    "sequence": (in_sequence, {}),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:The epoch parameter in")  # of torch 2.6's own SequentialLR
@pytest.mark.parametrize("kind", POLICIES)
def test_the_users_own_schedule_goes_back_and_on_at_half_the_rate(kind, mixed):
    policy, options = POLICIES[kind]
    untouched, poison = Poison(), Poison(3, 5)
    fit(untouched, mixed, callbacks=[LRScheduler(policy, **options)])
    with pytest.warns(UserWarning, match=f"{WARNING} 3, 5"):
        fit(poison, mixed, callbacks=[LRScheduler(policy, **options)])
    wanted, found = rates_of_last_attempts(untouched), rates_of_last_attempts(poison)
    for epoch, factor in {1: 1, 2: 1, 3: 1 / 2, 4: 1 / 2, 5: 1 / 4, 6: 1 / 4}.items():
        assert found[epoch] == pytest.approx([rate * factor for rate in wanted[epoch]]), epoch


# -- which column ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [CMIMEncoder, AEEncoder])
@pytest.mark.parametrize("as_array", [False, True])
def test_the_column_that_broke_the_likelihood_is_named(cls, as_array):
    """Steps in the gradient's own size, on numbers as they come: one of 1e15 is too much."""
    X = make_mixed()[["visits", "age", "score"]].astype(float)
    X["age"] *= 1e14
    told = "column 1 has" if as_array else "column 'age' has"
    parameters = {"numeric_scaling": None, "net_params": {"optimizer": torch.optim.SGD}}
    with pytest.raises(FloatingPointError, match=rf"{told} the least likely cell, of -.* nats"):
        cls(**SMALL | parameters).fit(X.to_numpy() if as_array else X)


@pytest.mark.parametrize("cls", [CMIMEncoder, InfoNCEEncoder])
def test_the_row_to_blame_is_found_wherever_it_is(cls, monkeypatch):
    """One cell, in the last of several parts."""
    X = make_mixed(1000)[["visits", "age", "score"]].astype(float)
    X.loc[997, "age"] = 1e12
    monkeypatch.setattr(faults, "PART_ROWS", 100)
    poison = Poison(*[1] * (MAX_BACK_OFFS + 1))
    with pytest.raises(FloatingPointError, match=r"olumn 'age' has the l(east likely|argest)"):
        fit(poison, X, cls, numeric_scaling=None)


def test_without_a_decoder_the_largest_numbers_are_named(mixed):
    mixed["age"] = mixed["age"] * 10**9
    poison = Poison(*[2] * (MAX_BACK_OFFS + 1))
    with pytest.raises(FloatingPointError, match=r"Column 'age' has the largest numbers, up to 7"):
        fit(poison, mixed, InfoNCEEncoder, numeric_scaling=None)
    poison = Poison(*[2] * (MAX_BACK_OFFS + 1))
    with pytest.raises(FloatingPointError, match=r"numeric_scaling='quantile'.$"):
        fit(poison, mixed[["city", "word"]], InfoNCEEncoder)


@pytest.mark.parametrize("name", [n for n in cmim_sklearn.__all__ if n.endswith("Encoder")])
def test_every_encoder_goes_back_and_on(name, mixed):
    with pytest.warns(UserWarning, match=f"{WARNING} 2"):
        encoder = fit(Poison(2), mixed, getattr(cmim_sklearn, name), max_iter=3)
    assert np.isfinite(encoder.transform(mixed)).all()
    assert np.isfinite(encoder.loss_curve_).all()
