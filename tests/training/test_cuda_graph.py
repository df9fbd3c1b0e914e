"""CUDA graphs of training steps, on a CPU with a stand-in that records operations, and on a GPU."""

import copy
import gc
import math
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, EpochScoring, GradientNormClipping, LRScheduler
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, CyclicLR

from cmim_sklearn import Checkpoint
from cmim_sklearn._training import capture, cuda_graph, heads
from cmim_sklearn._training.callbacks import OneCycle
from cmim_sklearn._training.cuda_graph import StepGraphs
from cmim_sklearn._training.state import copy_tensors, training_state
from cmim_sklearn._utils.device import resolve_device
from cmim_sklearn.networks import MLP
from tests.helpers import ENCODERS, make_mixed, small_encoder, weights
from tests.training.recorder import Recorder

DEVICE = "cpu" if torch.cuda.is_available() else "auto"
"""Device of the tests with a stand-in for capture: the CPU, or that of ``pytest --device``."""

SINGLE = {"critic_learning_rate_init": float(np.float32(1e-4))}


class Schedule(OneCycle):
    """Schedule with rates that single precision holds, as a graph reads them."""

    def on_batch_begin(self, net, training=False, **kwargs):
        super().on_batch_begin(net, training=training, **kwargs)
        for group in net.optimizer_.param_groups:
            group["lr"] = float(np.float32(group["lr"]))


@pytest.fixture
def recorder(monkeypatch):
    """Class that captures steps without CUDA, and counts them."""

    class Counting(Recorder):
        pass

    for kind in {"cpu", resolve_device(DEVICE).type}:
        monkeypatch.setitem(capture.CAPTURES, kind, Counting)
    monkeypatch.setattr(heads, "MIN_CAPTURED_STEPS", math.inf)  # their steps would be counted, too
    return Counting


def encoder_of(name="CMIMEncoder", *, cuda_graph=True, callbacks=(), net_params=(), **parameters):
    """Small encoder with 5 batches of 40 rows in an epoch, 30 steps in all."""
    options = {"callbacks__schedule": Schedule(), "callbacks": list(callbacks)}
    options |= {"cuda_graph": cuda_graph, **dict(net_params)}
    own = SINGLE if name == "InfoMaxVAEEncoder" else {}
    defaults = {"max_iter": 6, "batch_size": 40, "device": DEVICE, "hidden_layer_sizes": (8,)}
    return small_encoder(name, **defaults | own | parameters, net_params=options)


def assert_same_fit(one, other):
    assert weights(one) == weights(other)
    assert one.loss_curve_ == other.loss_curve_
    assert one.validation_scores_ == other.validation_scores_


# -- the same weights as plain steps ---------------------------------------------------------------


@pytest.mark.parametrize("name", ENCODERS)
def test_replays_train_as_plain_steps_do(name, mixed, recorder, short_calibration):
    encoder = encoder_of(name, max_iter=10).fit(mixed)
    assert (recorder.n_records, recorder.n_replays) == (1, 50)
    assert_same_fit(encoder, encoder_of(name, max_iter=10, cuda_graph=False).fit(mixed))


@pytest.mark.parametrize(
    "parameters",
    [
        {"early_stopping": True, "n_iter_no_change": 2, "tol": 10.0},
        {"batch_size": 45, "early_stopping": True, "validation_fraction": 0.2},
        {"net_params": {"autocast": "bfloat16"}, "device": "cpu"},
        {"net_params": {"optimizer__betas": (0.5, 0.9), "optimizer__amsgrad": True}},
        {"posterior": "learned", "likelihoods": {"visits": "poisson"}, "input_masking": 0},
    ],
    ids=["early stopping", "held-out rows", "autocast", "optimizer", "other model"],
)
def test_options_of_a_fit_are_kept(parameters, mixed, recorder, short_calibration):
    encoder = encoder_of(**parameters).fit(mixed)
    assert recorder.n_replays == 5 * encoder.n_iter_ or parameters.get("batch_size") == 45
    assert_same_fit(encoder, encoder_of(**parameters, cuda_graph=False).fit(mixed))


@pytest.mark.parametrize("learnable", [True, False])
def test_labels_end_as_in_plain_steps(learnable, recorder, short_calibration):
    X = np.random.RandomState(0).randn(320, 4)
    y = (X[:, 0] + X[:, 1] > 0).astype(int)
    y = y if learnable else np.random.RandomState(1).permutation(y)
    parameters = {"label_weight": 10.0, "max_iter": 15, "batch_size": 64}
    encoder = encoder_of(**parameters).fit(X, y)
    assert (recorder.n_records, recorder.n_replays) == (1, 75)
    assert encoder.net_.history[-1]["uses_labels"] == learnable
    plain = encoder_of(**parameters, cuda_graph=False).fit(X, y)
    assert_same_fit(encoder, plain)
    assert encoder.label_scores_ == plain.label_scores_


def test_generated_rows_of_symmetric_mim_are_counted(recorder, short_calibration):
    X = np.random.default_rng(0).normal(size=(120, 3))
    parameters = {"symmetric": True, "posterior": "learned", "batch_size": 30}
    encoder = encoder_of("MIMEncoder", **parameters).fit(X)
    assert recorder.n_replays == 24
    assert_same_fit(encoder, encoder_of("MIMEncoder", **parameters, cuda_graph=False).fit(X))


def test_each_of_two_batch_sizes_has_a_graph(recorder, short_calibration):
    X = make_mixed(203)  # batches of 34 and 33 rows
    encoder = encoder_of().fit(X)
    assert (recorder.n_records, recorder.n_replays) == (2, 36)
    assert_same_fit(encoder, encoder_of(cuda_graph=False).fit(X))


def test_further_batch_sizes_train_by_plain_steps(recorder, monkeypatch, short_calibration):
    monkeypatch.setattr(cuda_graph, "MAX_SIZES", 1)
    X = make_mixed(203)
    encoder = encoder_of().fit(X)
    assert recorder.n_records == 1
    assert 0 < recorder.n_replays < 36
    plain = encoder_of(cuda_graph=False).fit(X)
    assert np.allclose(encoder.loss_curve_, plain.loss_curve_, rtol=1e-4)


def test_each_replay_has_the_rate_of_its_update(mixed, recorder, short_calibration):
    """With a rate of 0 from the second update on, weights stay as the first update left them."""

    class Once(Schedule):
        def on_batch_begin(self, net, training=False, **kwargs):
            super().on_batch_begin(net, training=training, **kwargs)
            if self.update_ > 1:
                net.optimizer_.param_groups[0]["lr"] = 0.0

    class Keep(Callback):
        def on_epoch_end(self, net, **kwargs):
            self.kept_ = [*getattr(self, "kept_", ()), copy_tensors(net.module_.state_dict())]

    keep = Keep()
    encoder_of(callbacks=[keep], net_params={"callbacks__schedule": Once()}).fit(mixed)
    assert recorder.n_replays == 30
    for name, weight in keep.kept_[0].items():
        assert torch.equal(weight, keep.kept_[-1][name]), name


def test_a_fit_repeats_to_the_bit(mixed, recorder, short_calibration):
    assert_same_fit(encoder_of().fit(mixed), encoder_of().fit(mixed))


def test_warm_start_and_partial_fit_continue(mixed, recorder, short_calibration):
    encoder, plain = (
        encoder_of(warm_start=True, batch_size=10, cuda_graph=on).fit(mixed) for on in (True, False)
    )
    assert_same_fit(encoder.fit(mixed), plain.fit(mixed))
    assert recorder.n_replays == 240
    rate = float(np.float32(1e-3))
    encoder, plain = (
        encoder_of(batch_size=10, cuda_graph=on, learning_rate_init=rate) for on in (True, False)
    )
    for chunk in (mixed, mixed[:195]):
        assert_same_fit(encoder.partial_fit(chunk), plain.partial_fit(chunk))
    assert recorder.n_records == 5  # the last chunk has two batch sizes


def test_batches_from_files_are_copied(recorder, tmp_path, short_calibration):
    make_mixed(300).to_parquet(tmp_path / "rows.parquet", row_group_size=50)
    encoder, plain = (
        encoder_of(cuda_graph=on, max_iter=4).fit_parquet(tmp_path, buffer_rows=100)
        for on in (True, False)
    )
    assert recorder.n_replays == 32
    assert_same_fit(encoder, plain)


# -- the state of training -------------------------------------------------------------------------


class Inspect(Callback):
    """Keep the state of training as an epoch begins; call a function in some epochs."""

    def __init__(self, act=None, epochs=()):
        self.act, self.epochs = act, epochs

    def on_epoch_begin(self, net, **kwargs):
        state = copy_tensors(training_state(net)), net.generator_.get_state()
        self.states_ = [*getattr(self, "states_", ()), state]
        if len(net.history) in self.epochs:
            self.act(net)


def test_the_steps_before_a_capture_are_undone(mixed, recorder, monkeypatch, short_calibration):
    """A capture that fails right after them leaves weights, moments and generators as they were."""

    def fail(self, function):
        for before, tensor in zip(seen[0], tensors_of(seen[1]), strict=True):
            assert torch.equal(before, tensor)
        assert torch.equal(seen[1].generator_.get_state(), seen[2])
        assert not any(moment.any() for moment in capture.optimizer_tensors(seen[1]))
        assert all(weight.grad is None for weight in seen[1].module_.parameters())
        raise MemoryError("full")

    def tensors_of(net):
        return [*net.module_.parameters(), *net.module_.buffers()]

    seen, step = [], StepGraphs.step

    def watched(self, batch):
        if not seen:
            net = self._net
            copies = [t.detach().clone() for t in tensors_of(net)]
            seen.extend([copies, net, net.generator_.get_state()])
        return step(self, batch)

    monkeypatch.setattr(StepGraphs, "step", watched)
    monkeypatch.setattr(recorder, "record", fail)
    encoder = encoder_of().fit(mixed)
    assert len(seen) == 3
    assert_same_fit(encoder, encoder_of(cuda_graph=False).fit(mixed))


def test_moments_of_an_earlier_fit_are_restored(mixed, recorder, monkeypatch, short_calibration):
    monkeypatch.setattr(recorder, "record", lambda self, function: 1 / 0)
    encoder, plain = (encoder_of(batch_size=8, cuda_graph=on) for on in (True, False))
    for chunk in (mixed, mixed[::-1], mixed):
        assert_same_fit(encoder.partial_fit(chunk), plain.partial_fit(chunk))


class Stop(Callback):
    """Raise an error as an epoch begins."""

    epoch = None

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise ZeroDivisionError


@pytest.mark.parametrize("name", ["CMIMEncoder", "InfoMaxVAEEncoder"])
def test_a_non_finite_loss_is_undone_in_a_graph(name, mixed, recorder, short_calibration):
    def poison(net):
        callback.epochs = ()
        with torch.no_grad():
            next(net.module_.parameters()).fill_(torch.nan)

    fits = []
    for on in (True, False):
        callback = Inspect(poison, (3,))
        encoder = encoder_of(name, cuda_graph=on, callbacks=[callback], max_iter=8)
        with pytest.warns(UserWarning, match="The loss was not finite in epoch 3"):
            fits.append(encoder.fit(mixed))
    # The restored optimizer has other tensors, so there is a second graph.
    assert (recorder.n_records, recorder.n_replays) == (2, 45)
    assert_same_fit(*fits)


@pytest.mark.parametrize("name", ["CMIMEncoder", "InfoMaxVAEEncoder"])
def test_a_fit_resumes_to_the_same_weights(
    name, mixed, recorder, tmp_path, monkeypatch, short_calibration
):
    whole = encoder_of(name, max_iter=10).fit(mixed)
    encoder = encoder_of(
        name, max_iter=10, callbacks=[Checkpoint(tmp_path, every_epochs=1), Stop()]
    )
    monkeypatch.setattr(Stop, "epoch", 7)
    with pytest.raises(ZeroDivisionError):
        encoder.fit(mixed)
    monkeypatch.setattr(Stop, "epoch", None)
    recorder.n_replays = 0
    assert_same_fit(encoder.fit(mixed), whole)
    assert recorder.n_replays == 20  # of four epochs


def test_ctrl_c_leaves_a_fitted_encoder_and_plain_rates(mixed, recorder, short_calibration):
    def interrupt(net):
        raise KeyboardInterrupt

    encoder = encoder_of(callbacks=[Inspect(interrupt, (3,))])
    with pytest.warns(UserWarning, match="after 2 epochs"), pytest.raises(KeyboardInterrupt):
        encoder.fit(mixed)
    group = encoder.net_.optimizer_.param_groups[0]
    assert isinstance(group["lr"], float)
    assert not group["capturable"]
    assert recorder.n_replays == 10


def test_ctrl_c_during_a_capture_undoes_its_steps(mixed, recorder, monkeypatch, short_calibration):
    def interrupt(self, function):
        raise KeyboardInterrupt

    monkeypatch.setattr(recorder, "record", interrupt)
    inspect = Inspect()
    encoder = encoder_of(callbacks=[inspect])
    with pytest.warns(UserWarning, match="after 0 epochs"), pytest.raises(KeyboardInterrupt):
        encoder.fit(mixed)
    for name, weight in inspect.states_[0][0]["weights"].items():
        if not name.endswith("deviation"):  # fitted after training
            assert torch.equal(weight, encoder.net_.module.state_dict()[name]), name


def test_graphs_are_dropped_after_training_and_not_copied(mixed, recorder, short_calibration):
    def copy_net(net):
        copies.append(pickle.loads(pickle.dumps(net.graphs_)))
        copies.append(copy.deepcopy(net.graphs_))

    copies = []
    encoder = encoder_of(callbacks=[Inspect(copy_net, (3,))]).fit(mixed)
    assert not hasattr(encoder.net_, "graphs_")
    assert recorder.n_drops == 1
    assert all(weight.grad is None for weight in encoder.net_.module.parameters())
    for graphs in copies:
        assert graphs.step(torch.zeros(40, 8)) is None
        graphs.begin_epoch()
        graphs.close()


# -- settings that a graph keeps -------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda net: setattr(net.module_, "input_masking", 0.5),
        lambda net: net.criterion_.options.update(contrastive_weight=9.0),
        lambda net: net.optimizer_.param_groups[0].update(betas=(0.1, 0.9)),
        lambda net: net.optimizer_.load_state_dict(copy_tensors(net.optimizer_.state_dict())),
        lambda net: next(net.module_.parameters()).requires_grad_(False),
    ],
    ids=["model", "loss", "optimizer", "tensors", "frozen"],
)
def test_a_change_between_epochs_is_captured(change, mixed, recorder, short_calibration):
    encoder, plain = (
        encoder_of(max_iter=8, cuda_graph=on, callbacks=[Inspect(change, (5,))]).fit(mixed)
        for on in (True, False)
    )
    assert recorder.n_records == 2
    assert_same_fit(encoder, plain)


def test_changes_in_each_epoch_end_the_use_of_graphs(mixed, recorder, capsys, short_calibration):
    def anneal(net):
        net.criterion_.options["contrastive_weight"] *= 0.9

    encoder, plain = (
        encoder_of(
            max_iter=8, cuda_graph=on, verbose=1, callbacks=[Inspect(anneal, range(99))]
        ).fit(mixed)
        for on in (True, False)
    )
    assert "without a CUDA graph: settings or tensors change too often" in capsys.readouterr().out
    assert_same_fit(encoder, plain)


# -- plain steps, and why --------------------------------------------------------------------------


class EachBatch(Callback):
    def on_batch_end(self, net, **kwargs):
        pass


class Scaled(MLP):
    """Network that reads a number from the device in each step."""

    def forward(self, x):
        return super().forward(x) / max(1.0, float(x.detach().abs().max()))


class Noisy(MLP):
    """Network with random numbers from Python, which a graph would repeat."""

    def forward(self, x):
        return super().forward(x) + float(np.random.default_rng().normal())


class Averaging(MLP):
    """Network that replaces a buffer in each step."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + x.detach().mean()
        return super().forward(x)


class Normed(MLP):
    """Network with batch norm, dropout and their state."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.norm, self.drop = nn.BatchNorm1d(args[1]), nn.Dropout(0.2)

    def forward(self, x):
        return self.drop(self.norm(super().forward(x)))


def sgd(parameters, lr, weight_decay):
    return torch.optim.SGD(parameters, lr=lr, weight_decay=weight_decay)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"cuda_graph": False}, "net_params['cuda_graph'] is False"),
        ({"net_params": {"optimizer": torch.optim.SGD}}, "net_params['optimizer'] is set"),
        ({"net_params": {"optimizer": sgd}}, "net_params['optimizer'] is set"),
        ({"net_params": {"optimizer": torch.optim.Adam}}, "net_params['optimizer__fused'] is not"),
        ({"net_params": {"optimizer__fused": False}}, "net_params['optimizer__fused'] is not"),
        ({"callbacks": [EachBatch()]}, "the callback EachBatch may use each batch"),
        ({"callbacks": [GradientNormClipping(1.0)]}, "the callback GradientNormClipping may use"),
        (
            {"callbacks": [LRScheduler(CyclicLR, base_lr=1e-3, max_lr=1e-2, step_every="batch")]},
            "the callback LRScheduler may use",
        ),
        ({"max_iter": 3}, "a capture does not pay for 15 steps"),
        ({"encoder": Scaled}, "the capture failed, RuntimeError: aten._local_scalar_dense"),
        ({"encoder": Averaging}, "the capture failed, ValueError: the network replaces tensors"),
    ],
)  # fmt: skip
def test_plain_steps_say_why(parameters, reason, mixed, recorder, capsys, short_calibration):
    encoder = encoder_of(verbose=1, **parameters).fit(mixed)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "CUDA" in line]
    assert line.startswith(f"[CMIMEncoder] trains without a CUDA graph: {reason}")
    assert recorder.n_replays == 0
    plain = encoder_of(**parameters | {"cuda_graph": False}).fit(mixed)
    assert_same_fit(encoder, plain)


def test_a_replay_that_differs_from_a_plain_step_is_undone(
    mixed, recorder, capsys, short_calibration
):
    encoder_of(verbose=1, encoder=Noisy).fit(mixed)
    assert "ValueError: its result differs from that of a plain step" in capsys.readouterr().out
    assert (recorder.n_records, recorder.n_replays) == (1, 1)


def test_compiled_networks_train_by_plain_steps(mixed, recorder, monkeypatch, capsys):
    monkeypatch.setattr(torch, "compile", lambda module, **options: module)
    encoder_of(verbose=1, net_params={"compile": True}).fit(mixed)
    assert "without a CUDA graph: net_params['compile'] is True" in capsys.readouterr().out
    assert recorder.n_records == 0


def test_a_view_that_synchronises_trains_by_plain_steps(mixed, recorder, capsys):
    fits = [
        encoder_of("InfoNCEEncoder", view=first_rows_shuffled, verbose=1, cuda_graph=on).fit(mixed)
        for on in (True, False)
    ]
    assert "aten.nonzero.default waits for the device" in capsys.readouterr().out
    assert_same_fit(*fits)


def first_rows_shuffled(x, generator):
    chosen = torch.rand(len(x), generator=generator, device=x.device) < 0.5
    return x, torch.cat([x[chosen.nonzero().squeeze(1)], x[(~chosen).nonzero().squeeze(1)]])


@pytest.mark.parametrize("callback", [EpochScoring, LRScheduler])
def test_nothing_is_printed_without_verbose(callback, mixed, recorder, capsys, short_calibration):
    own = {
        EpochScoring: lambda: EachBatch(),
        LRScheduler: lambda: LRScheduler(CosineAnnealingLR, T_max=6),
    }
    encoder_of(callbacks=[own[callback]()]).fit(mixed)
    assert capsys.readouterr().out == ""
    assert recorder.n_replays == (30 if callback is LRScheduler else 0)


def test_networks_with_buffers_and_global_noise_are_captured(mixed, recorder, short_calibration):
    fits = []
    for on in (True, False):
        torch.manual_seed(0)
        fits.append(encoder_of(encoder=Normed, cuda_graph=on).fit(mixed))
    assert recorder.n_replays == 30
    assert_same_fit(*fits)


def test_on_a_cpu_there_is_no_graph_and_no_message(mixed, capsys, short_calibration):
    encoder_of(verbose=1).fit(mixed)
    assert "CUDA" not in capsys.readouterr().out


# -- on a GPU --------------------------------------------------------------------------------------


def on_gpu(test):
    """Mark a test that needs a GPU."""
    has_none = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    return pytest.mark.gpu(has_none(test))


@pytest.fixture
def steps(monkeypatch):
    """List with an entry for each training step: whether a graph took it."""
    found, step = [], StepGraphs.step

    def counted(self, batch):
        sums = step(self, batch)
        found.append(sums is not None)
        return sums

    monkeypatch.setattr(StepGraphs, "step", counted)
    return found


def fits_on_gpu(X, name="CMIMEncoder", **parameters):
    """Encoders trained on the GPU by graphs and by plain steps."""
    return [
        encoder_of(name, device="cuda", cuda_graph=on, **parameters).fit(X) for on in (True, False)
    ]


def assert_close_weights(one, other, rtol=1e-5):
    for name, weight in one.net_.module.state_dict().items():
        apart = weight.double() - other.net_.module.state_dict()[name].double()
        assert apart.norm() <= rtol * weight.double().norm(), name


@on_gpu
@pytest.mark.parametrize("name", ENCODERS)
def test_on_a_gpu_each_encoder_trains_as_by_plain_steps(name, mixed, steps):
    encoder, plain = fits_on_gpu(mixed, name, max_iter=10)
    assert steps == [True] * 50 + [False] * 50
    np.testing.assert_allclose(encoder.loss_curve_, plain.loss_curve_, rtol=1e-5, atol=1e-5)
    assert_close_weights(encoder, plain)


@on_gpu
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("CMIMEncoder", {"likelihoods": {"visits": "poisson"}, "posterior": "learned"}),
        ("VAEEncoder", {"mmd_weight": 1.0}),
        ("CMIMEncoder", {"net_params": {"autocast": "bfloat16"}}),
        ("CMIMEncoder", {"encoder": Normed}),
        ("CMIMEncoder", {"batch_size": 37}),
        ("CMIMEncoder", {"early_stopping": True, "n_iter_no_change": 2, "tol": 10.0}),
    ],
)
def test_on_a_gpu_options_of_a_fit_are_kept(name, parameters, mixed, steps):
    torch.manual_seed(0)
    encoder = encoder_of(name, device="cuda", **parameters).fit(mixed)
    assert all(steps)
    torch.manual_seed(0)
    plain = encoder_of(name, device="cuda", cuda_graph=False, **parameters).fit(mixed)
    assert encoder.n_iter_ == plain.n_iter_
    np.testing.assert_allclose(encoder.loss_curve_, plain.loss_curve_, rtol=1e-3)
    assert_close_weights(encoder, plain, rtol=1e-3)


@on_gpu
def test_on_a_gpu_batches_from_files_are_copied(steps, tmp_path):
    make_mixed(300).to_parquet(tmp_path / "rows.parquet", row_group_size=50)
    encoder, plain = (
        encoder_of(device="cuda", cuda_graph=on, max_iter=4).fit_parquet(tmp_path, buffer_rows=100)
        for on in (True, False)
    )
    assert steps == [True] * 32 + [False] * 32
    assert_close_weights(encoder, plain)


@on_gpu
def test_on_a_gpu_generated_rows_are_captured(steps):
    X = np.random.default_rng(0).normal(size=(120, 3))
    parameters = {"symmetric": True, "posterior": "learned", "batch_size": 30}
    encoder, plain = fits_on_gpu(X, "MIMEncoder", **parameters)
    assert steps == [True] * 24 + [False] * 24
    assert_close_weights(encoder, plain)


@on_gpu
@pytest.mark.parametrize("name", ENCODERS)
def test_on_a_gpu_a_fit_repeats_to_the_bit(name, mixed, steps):
    one, other = (encoder_of(name, device="cuda").fit(mixed) for _ in range(2))
    assert all(steps)
    assert_same_fit(one, other)


@on_gpu
@pytest.mark.parametrize("name", ["CMIMEncoder", "InfoMaxVAEEncoder"])
def test_on_a_gpu_a_fit_resumes_to_the_same_weights(name, mixed, steps, tmp_path, monkeypatch):
    whole = encoder_of(name, device="cuda", max_iter=10).fit(mixed)
    callbacks = [Checkpoint(tmp_path, every_epochs=1), Stop()]
    encoder = encoder_of(name, device="cuda", max_iter=10, callbacks=callbacks)
    monkeypatch.setattr(Stop, "epoch", 7)
    with pytest.raises(ZeroDivisionError):
        encoder.fit(mixed)
    monkeypatch.setattr(Stop, "epoch", None)
    assert_same_fit(encoder.fit(mixed), whole)
    assert steps == [True] * 100


@on_gpu
@pytest.mark.parametrize("name", ["CMIMEncoder", "InfoMaxVAEEncoder"])
def test_on_a_gpu_a_non_finite_loss_is_undone(name, mixed, steps):
    def poison(net):
        callback.epochs = ()
        with torch.no_grad():
            next(net.module_.parameters()).fill_(torch.nan)

    fits = []
    for on in (True, False):
        callback = Inspect(poison, (3,))
        encoder = encoder_of(name, device="cuda", cuda_graph=on, callbacks=[callback], max_iter=8)
        with pytest.warns(UserWarning, match="The loss was not finite in epoch 3"):
            fits.append(encoder.fit(mixed))
    assert steps == [True] * 45 + [False] * 45
    assert_close_weights(*fits)


@on_gpu
def test_on_a_gpu_a_network_that_synchronises_trains_by_plain_steps(mixed, steps, capsys):
    encoder, plain = fits_on_gpu(mixed, encoder=Scaled, verbose=1)
    assert "without a CUDA graph: the capture failed" in capsys.readouterr().out
    assert not any(steps)
    assert_close_weights(encoder, plain)
    torch.rand(2, device="cuda")  # the default generator still works, and so do later captures
    encoder_of(device="cuda").fit(mixed)
    assert steps[-30:] == [True] * 30


def break_a_capture():
    """Let a capture fail that is usually not begun, then use torch and fit again."""
    cuda_graph.NoWaiting = nullcontext
    encoder, plain = fits_on_gpu(make_mixed(), encoder=Scaled)
    assert_close_weights(encoder, plain)
    torch.rand(2, device="cuda")
    torch.cuda.empty_cache()
    again, plain = fits_on_gpu(make_mixed())
    assert_close_weights(again, plain)


@on_gpu
def test_on_a_gpu_a_failed_capture_leaves_torch_in_order():
    code = "from tests.training.test_cuda_graph import break_a_capture; break_a_capture()"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


@on_gpu
def test_on_a_gpu_fits_in_two_threads_do_not_disturb_each_other(mixed):
    alone = encoder_of(device="cuda", max_iter=20).fit(mixed)
    with ThreadPoolExecutor(2) as pool:
        fits = [pool.submit(encoder_of(device="cuda", max_iter=20).fit, mixed) for _ in range(4)]
    for fit in fits:
        assert_close_weights(fit.result(), alone)


@on_gpu
def test_on_a_gpu_no_memory_is_kept_after_a_fit(mixed):
    used = []
    for _ in range(4):
        encoder_of(device="cuda").fit(mixed)
        gc.collect()
        used.append(torch.cuda.memory_allocated())
    assert used[-1] - used[1] < 2**20


# -- the stand-in ----------------------------------------------------------------------------------


def test_a_record_repeats_operations_on_its_memory():
    weight, factor = torch.ones(3), 2.0

    def step():
        weight.mul_(factor)
        return weight + torch.rand(3, generator=generator)

    generator = torch.Generator().manual_seed(0)
    result, replay = Recorder("cpu", [generator]).record(step)
    assert torch.equal(weight, torch.ones(3))
    expected = torch.rand(3, generator=torch.Generator().manual_seed(0))
    factor = 5.0  # the record keeps 2
    replay()
    assert torch.equal(result, 2 + expected)
    replay()
    assert torch.equal(weight, torch.full((3,), 4.0))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.sum().item(), lambda x: x[x > 0], lambda x: x.nonzero(), torch.unique,
        lambda x: x + torch.tensor(3.0), lambda x: x if x.sum() > 0 else -x,
        lambda x: torch.autograd.grad(Waiting.apply(x).sum(), x),
    ],
)  # fmt: skip
def test_operations_that_wait_for_a_gpu_are_found(function):
    x = torch.arange(3.0, requires_grad=True)
    with capture.NoWaiting(), pytest.raises(RuntimeError, match="waits for the device"):
        function(x)


class Waiting(torch.autograd.Function):
    """Identity whose gradient reads a value from the device."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float(gradient.max())


def test_other_operations_pass():
    x, mask = torch.arange(6.0).view(2, 3), torch.arange(3) > 0
    with capture.NoWaiting():
        found = torch.where(mask, x, 0.0) + 2 * x[:, torch.ones(3, dtype=torch.long)] + x[1]
    assert torch.equal(found, torch.tensor([[5.0, 7.0, 9.0], [11.0, 16.0, 18.0]]))


def test_operations_on_several_devices_are_found():
    with capture.NoWaiting(), pytest.raises(RuntimeError, match="uses tensors on cpu and meta"):
        torch.ones(3).to("meta")
