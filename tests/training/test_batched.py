"""Batched training against the training of each net alone: weights, histories, ends and errors."""

import itertools
from contextlib import suppress

import numpy as np
import pytest
import torch
from sklearn.base import clone

from cmim_sklearn import (
    AEEncoder,
    CMIMEncoder,
    MIMEncoder,
    VAEEncoder,
)
from cmim_sklearn._encoders.base.joint_fit import start_fit
from cmim_sklearn._training import batched, capture
from cmim_sklearn._training.batchable import obstacle, structure
from cmim_sklearn._training.batched import train_batched
from cmim_sklearn._training.callbacks import KeepBest
from cmim_sklearn._training.net import MAX_BACK_OFFS, NotFinite
from tests.helpers import make_mixed
from tests.training.recorder import Recorder

SMALL = {
    "max_iter": 8, "hidden_layer_sizes": (8,), "n_components": 3, "batch_size": 25,
    "random_state": 0, "device": "cpu",
}  # fmt: skip
TOLERANCE = 1e-4


def mixed(n_rows=100):
    return make_mixed(n_rows).drop(columns="visits")


def nets_and_data(encoders, tables, targets=None):
    """Initialised nets of encoders, and the rows of each."""
    fits = zip(encoders, tables, targets or [None] * len(encoders), strict=True)
    starts = [start_fit(clone(e), lambda table=table: table, {}, y) for e, table, y in fits]
    return [start.net for start in starts], [start.rows.data for start in starts]


def both(encoders, tables, prepare=lambda nets: None, targets=None):
    """Nets trained alone, the same nets trained together, and the errors of the latter."""
    alone, data = nets_and_data(encoders, tables, targets)
    prepare(alone)
    for net, rows in zip(alone, data, strict=True):
        with suppress(NotFinite):
            net.partial_fit(rows)
    together, data = nets_and_data(encoders, tables, targets)
    prepare(together)
    assert len({structure(net) for net in together}) == 1
    assert {obstacle(net, rows) for net, rows in zip(together, data, strict=True)} == {None}
    return alone, together, train_batched(together, data)


def assert_equal_training(alone, together):
    """Compare everything that training sets in a net."""
    ours, theirs = together.module_.state_dict(), alone.module_.state_dict()
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, atol=TOLERANCE, rtol=0)
        assert ours[name].untyped_storage().nbytes() == weight.nbytes, "no view of the group"
    ours, theirs = together.optimizer_.state_dict(), alone.optimizer_.state_dict()
    assert ours["param_groups"] == theirs["param_groups"]
    assert ours["state"].keys() == theirs["state"].keys()
    for i, values in theirs["state"].items():
        assert ours["state"][i].keys() == values.keys()
        assert ours["state"][i]["step"] == values["step"]
        for name, value in values.items():
            found = ours["state"][i][name]
            assert (found.dtype, found.shape) == (value.dtype, value.shape)
            torch.testing.assert_close(found, value, atol=1e-3, rtol=1e-3)
    assert len(together.history) == len(alone.history)
    for ours, theirs in zip(together.history, alone.history, strict=True):
        assert list(ours) == list(theirs)
        for name in ours.keys() - {"dur", "batches"}:
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4, abs=1e-4), name
    for name in ("has_ended_", "nonfinite_epochs_", "n_resumed_"):
        assert getattr(together, name) == getattr(alone, name)
    assert not hasattr(together, "generator_")


@pytest.mark.parametrize("parameters", [
    {"contrastive_weight": [0, 1, 20]},
    {"temperature": [0.05, 0.1, 1.0], "random_state": [0, 1, 2]},
    {"learning_rate_init": [1e-3, 3e-3, 1e-2], "alpha": [0.0, 1e-3, 1.0]},
    {"input_masking": [0, 0.1, 0.5], "numeric_scaling": ["quantile", "standard", None]},
    {"max_iter": [3, 8, 5]},
], ids=lambda parameters: "-".join(parameters))  # fmt: skip
def test_nets_trained_together_equal_those_trained_alone(parameters):
    table = mixed()
    folds = [table[::2], table[1::2][:-1]]  # 50 and 49 rows
    n = len(next(iter(parameters.values())))
    encoders = [
        CMIMEncoder(**SMALL | {name: values[i] for name, values in parameters.items()})
        for i, _ in itertools.product(range(n), folds)
    ]
    nets = both(encoders, folds * n)
    assert nets[2] == [None] * 2 * n
    for alone, together in zip(*nets[:2], strict=True):
        assert_equal_training(alone, together)


@pytest.mark.parametrize("encoder", [
    MIMEncoder(posterior="learned"),
    MIMEncoder(posterior="fixed"),
    AEEncoder(),
    VAEEncoder(beta=0.5),
    VAEEncoder(mmd_weight=3.0),
    CMIMEncoder(hidden_layer_sizes=()),
    CMIMEncoder(likelihoods={"age": "poisson"}),
    CMIMEncoder(activation="tanh", embedding="mean", encoder="mlp"),
], ids=str)  # fmt: skip
def test_every_loss_posterior_and_kind_of_column(encoder):
    own = {k: v for k, v in SMALL.items() if k not in ("hidden_layer_sizes",)} | {"max_iter": 5}
    one = clone(encoder).set_params(**own)
    if encoder.hidden_layer_sizes != ():
        one.set_params(hidden_layer_sizes=(8,))
    other = clone(one).set_params(random_state=7, learning_rate_init=0.01)
    table = mixed(60)
    for alone, together in zip(*both([one, other], [table, table[:49]])[:2], strict=True):
        assert_equal_training(alone, together)


def test_members_with_other_numbers_of_rows_and_batches():
    table = np.random.RandomState(0).randn(100, 3)
    encoders = [CMIMEncoder(**SMALL, contrastive_weight=w) for w in (1, 5, 5, 0)]
    tables = [table[:10], table[:51], table[:3], table]
    for alone, together in zip(*both(encoders, tables)[:2], strict=True):
        assert_equal_training(alone, together)


def test_labels_end_in_each_net_at_its_own_time():
    X = np.random.RandomState(0).randn(420, 4)
    y = (X[:, 0] + X[:, 1] > 0).astype(int)
    targets = [y, np.random.RandomState(1).permutation(y), y[:400], y, 1 - y]
    tables = [X, X, X[:400], X, X]
    own = [{}, {}, {"early_stopping": True}, {"label_weight": 1.0}, {"max_iter": 12}]
    shared = SMALL | {"max_iter": 15, "batch_size": 70, "label_weight": 10.0}
    encoders = [CMIMEncoder(**shared | parameters) for parameters in own]
    alone, together, errors = both(encoders, tables, targets=targets)
    assert errors == [None] * 5
    for one, other in zip(alone, together, strict=True):
        assert_equal_training(one, other)
    assert [net.history[-1]["uses_labels"] for net in together[:2]] == [True, False]


def test_one_hundred_steps():
    table = mixed(120)
    folds = [table[::2], table[1::2][:-1]]
    encoders = [
        CMIMEncoder(**SMALL | {"max_iter": 34}, contrastive_weight=w)
        for w in (0, 1, 10)
        for _ in folds
    ]
    alone, together, _ = both(encoders, folds * 3)
    for one, other in zip(alone, together, strict=True):
        assert one.optimizer_.state_dict()["state"][0]["step"] >= 100
        assert_equal_training(one, other)


def graph_cases():
    """Encoders that differ in everything a graph must read from tensors, and their tables."""
    table = mixed()
    folds = [table[::2], table[1::2][:-1]] * 2
    ends = [{"max_iter": 3}, {"early_stopping": True}, {"input_masking": 0.5}, {"alpha": 0.1}]
    encoders = [
        CMIMEncoder(**SMALL | {"random_state": i, "learning_rate_init": 1e-3 * (i + 1)} | own)
        for i, own in enumerate(ends)
    ]
    return encoders, folds


def trained_weights():
    nets, data = nets_and_data(*graph_cases())
    assert train_batched(nets, data) == [None] * len(nets)
    return [weight.detach() for net in nets for weight in net.module_.parameters()]


@pytest.mark.parametrize("fails", [None, "record", "replay"])
def test_a_captured_step_trains_as_the_plain_one(monkeypatch, fails):
    """A member that ends replaces the tensors, so the step is captured again."""
    plain = trained_weights()

    class Counting(Recorder):
        def record(self, function):
            if fails == "record":
                raise RuntimeError("no capture")
            result, replay = super().record(function)
            return (result, lambda: None) if fails == "replay" else (result, replay)

    monkeypatch.setitem(capture.CAPTURES, "cpu", Counting)
    captured = trained_weights()
    for ours, theirs in zip(captured, plain, strict=True):
        assert torch.equal(ours, theirs)
    if fails is None:
        assert Counting.n_records >= 2
        assert Counting.n_drops >= 2
        assert Counting.n_replays > 10
    else:
        assert Counting.n_drops == 1


@pytest.mark.parametrize("sizes", [(60, 60), (60, 150, 150)])
def test_a_step_is_captured_at_the_last_batch_of_an_epoch(monkeypatch, sizes):
    """The steps before a capture must not read batches beyond the epoch."""

    class Counting(Recorder):
        pass

    monkeypatch.setitem(capture.CAPTURES, "cpu", Counting)
    monkeypatch.setattr(capture, "agree", must_agree)
    table, shared = mixed(150), SMALL | {"batch_size": 64}
    encoders = [CMIMEncoder(**shared | {"max_iter": 2 + (n > 60)}) for n in sizes]
    alone, together, errors = both(encoders, [table[:n] for n in sizes])
    assert errors == [None] * len(sizes)
    for one, other in zip(alone, together, strict=True):
        assert_equal_training(one, other)
    assert Counting.n_records == len(set(sizes))
    assert Counting.n_drops == Counting.n_records


def must_agree(wanted, found, before):
    torch.testing.assert_close(found, wanted)
    return True


def test_a_failed_capture_says_why(monkeypatch, capsys):
    monkeypatch.setitem(capture.CAPTURES, "cpu", Recorder)
    monkeypatch.setattr(Recorder, "record", lambda self, function: 1 / 0)
    nets, data = nets_and_data([CMIMEncoder(**SMALL, verbose=1)] * 2, [mixed()] * 2)
    train_batched(nets, data)
    expected = "[CMIMEncoder] trains without a CUDA graph: the capture failed, ZeroDivisionError: "
    assert capsys.readouterr().out.count(expected) == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_trains_nets_together_as_alone():
    table = mixed()
    folds = [table[::2], table[1::2][:-1]] * 2
    encoders = [
        CMIMEncoder(**SMALL | {"device": "cuda", "random_state": i, "early_stopping": i > 1})
        for i in range(4)
    ]
    alone, together, errors = both(encoders, folds)
    assert errors == [None] * 4
    for one, other in zip(alone, together, strict=True):
        assert next(other.module_.parameters()).is_cuda
        assert_equal_training(one, other)


# -- early ends ------------------------------------------------------------------------------------


def test_early_stopping_of_some_members():
    table = mixed()
    shared = SMALL | {"max_iter": 12, "n_iter_no_change": 2, "tol": 0.01}
    encoders = [
        CMIMEncoder(**shared | {"learning_rate_init": rate, "early_stopping": stops})
        for rate, stops in ((0.3, True), (3e-3, True), (3e-3, False), (0.1, True))
    ]
    encoders[1].set_params(validation_fraction=0.01)  # a single row
    encoders[3].set_params(validation_fraction=0.6, batch_size=25)  # several batches
    alone, together, errors = both(encoders, [table] * 4)
    assert errors == [None] * 4
    lengths = [len(net.history) for net in together]
    assert lengths[2] == 12
    assert min(lengths) < 12
    for one, other in zip(alone, together, strict=True):
        assert len(one.history) == len(other.history)
        assert_equal_training(one, other)


def breaks(at, times):
    """Function that lets a net meet a non-finite loss in an epoch, some number of times."""

    def prepare(nets):
        net, left = nets[1], [times]
        record = net.record_losses

        def broken(prefix, sums, *numbers):
            if len(net.history) == at and left[0]:
                left[0] -= 1
                sums = dict.fromkeys(sums, np.nan)
            record(prefix, sums, *numbers)

        net.record_losses = broken

    return prepare


@pytest.mark.parametrize("times", [1, MAX_BACK_OFFS])
def test_a_member_that_backs_off_does_so_alone(times):
    encoders = [CMIMEncoder(**SMALL, contrastive_weight=w) for w in (0, 1, 2)]
    alone, together, errors = both(encoders, [mixed()] * 3, breaks(4, times))
    assert errors == [None] * 3
    assert [net.nonfinite_epochs_ for net in together] == [[], [4] * times, []]
    for one, other in zip(alone, together, strict=True):
        assert_equal_training(one, other)


def test_a_member_that_diverges_ends_alone_with_its_last_finite_weights():
    encoders = [CMIMEncoder(**SMALL, early_stopping=i == 0) for i in range(3)]
    alone, together, errors = both(encoders, [mixed()] * 3, breaks(4, MAX_BACK_OFFS + 1))
    assert [type(error) for error in errors] == [type(None), NotFinite, type(None)]
    assert errors[1].training
    assert "The training loss is nan in epoch 4" in str(errors[1])
    assert [net.has_ended_ for net in together] == [True, False, True]
    for one, other in zip(alone, together, strict=True):
        assert len(one.history) == len(other.history)
        if one is not alone[1]:  # its optimizer is scaled once more than ours
            assert_equal_training(one, other)
    ours, theirs = (net[1].module_.state_dict() for net in (together, alone))
    torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)


def test_weights_that_are_not_finite_concern_one_member():
    encoders = [CMIMEncoder(**SMALL | {"learning_rate_init": r}) for r in (1e-3, 1e30, 1e-2)]
    alone, together, errors = both(encoders, [mixed()] * 3)
    assert [type(error) for error in errors] == [type(None), NotFinite, type(None)]
    for i in (0, 2):
        assert_equal_training(alone[i], together[i])
    assert all(weight.isfinite().all() for weight in together[1].module_.parameters())


def test_an_interruption_ends_all_members_with_finite_weights():
    encoders = [CMIMEncoder(**SMALL | {"max_iter": n}) for n in (2, 8, 8)]
    nets, data = nets_and_data(encoders, [mixed()] * 3)
    notify, net = nets[1].notify_callbacks, nets[1]

    def interrupt(hook, **kwargs):
        if hook == "on_epoch_begin" and len(net.history) == 5:
            next(nets[2].module_.parameters()).data.fill_(torch.nan)
            raise KeyboardInterrupt
        notify(hook, **kwargs)

    net.notify_callbacks = interrupt
    errors = train_batched(nets, data)
    assert errors[0] is None
    assert [type(error) for error in errors[1:]] == [KeyboardInterrupt] * 2
    assert [net.has_ended_ for net in nets] == [True, False, False]
    for net in nets:
        assert all(weight.isfinite().all() for weight in net.module_.parameters())
        assert not hasattr(net, "generator_")


def test_other_errors_end_training_and_leave_usable_nets():
    nets, data = nets_and_data([CMIMEncoder(**SMALL)] * 2, [mixed()] * 2)
    nets[1].criterion_.objective = nets[0].criterion_.objective = lambda batch, **options: 1 / 0
    with pytest.raises(ZeroDivisionError):
        train_batched(nets, data)
    for net in nets:
        for weight in net.module_.parameters():
            assert weight.untyped_storage().nbytes() == weight.nbytes


# -- the step --------------------------------------------------------------------------------------


def test_steps_read_and_change_tensors_in_place(monkeypatch):
    """A CUDA graph needs this."""
    places = []

    def step(group, plain=batched._Group.step):
        plain(group)
        kept = group.tensors | group.noise | group.buffers | group.options
        places.append({name: tensor.data_ptr() for name, tensor in kept.items()})

    monkeypatch.setattr(batched._Group, "step", step)
    encoders = [CMIMEncoder(**SMALL | {"contrastive_weight": w, "max_iter": 3}) for w in (1, 2)]
    nets, data = nets_and_data(encoders, [mixed(51)] * 2)
    train_batched(nets, data)
    assert len(places) == 9
    assert all(of_step == places[0] for of_step in places)


def test_equal_rows_are_in_memory_once():
    x = torch.randn(7, 3)
    joined, starts = batched._joined([x, x[:2], x.clone(), x[:2]], "cpu")
    assert starts == [0, 7, 0, 7]
    assert torch.equal(joined, torch.cat([x, x[:2]]))


def test_early_stopping_keeps_weights_of_its_own():
    """A copy of a view of the group's weights, not of the whole group."""
    kept = []

    class Keep(KeepBest):
        def on_epoch_end(self, net, **kwargs):
            super().on_epoch_end(net, **kwargs)
            kept.append(self.weights_)

    encoders = [CMIMEncoder(**SMALL | {"max_iter": 2}, early_stopping=True) for _ in range(2)]
    nets, data = nets_and_data(encoders, [mixed()] * 2)
    for net in nets:
        for _, callback in net.callbacks_:
            if isinstance(callback, KeepBest):
                callback.__class__ = Keep
    train_batched(nets, data)
    weights = [weight for state in kept for weight in state.values()]
    assert weights
    assert all(weight.untyped_storage().nbytes() == weight.nbytes for weight in weights)
