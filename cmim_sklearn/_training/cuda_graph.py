"""CUDA graphs of training steps: each step is captured once per batch size, and then replayed.

On a GPU, a step of a small network takes the time of its kernel launches, about 700. A graph
launches them as one. `StepGraphs` captures the same `train_step` that a net takes without a graph,
with the critic's step in `InfoMaxVAEEncoder`; all encoders go through it.

A graph repeats its kernels on the same memory, with the same numbers from Python. Therefore:

- batches are copied into a fixed tensor, and learning rates into tensors, before each replay;
- random numbers come from generators that are registered with the graph;
- three steps before the capture, which load kernels, allocate memory and find operations that wait
  for the device, are undone in place;
- a graph is dropped if tensors were replaced, or settings changed, since its capture;
- the first replay must agree with a step without a graph, else it is undone.

If anything fails, training continues without a graph, from the state that it had.
"""

from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import Adam, AdamW

from cmim_sklearn._training.callbacks import needs_batches
from cmim_sklearn._training.capture import (
    CAPTURES,
    CAPTURING,
    NoWaiting,
    StepState,
    agree,
    optimizer_tensors,
)
from cmim_sklearn._training.critic import TrainCritic

MIN_CAPTURED_STEPS = 20
"""Number of steps below which a capture, which costs some five steps, does not pay."""
MAX_SIZES = 2
"""Number of batch sizes that are captured; batches of a table differ by at most one row."""
MAX_CHEAP_DROPS = 4
"""Number of times that graphs are dropped, as after a non-finite loss, before it must pay."""


class Sums(NamedTuple):
    """Loss terms of a batch, summed over its rows, (n_terms,); with generated rows, if any."""

    names: tuple
    n_rows: int
    values: Tensor

    @classmethod
    def of(cls, terms):
        """Sums of named terms, each (n,)."""
        values = torch.stack([term.detach().sum() for term in terms.values()])
        return cls(tuple(terms), len(next(iter(terms.values()))), values)


class StepGraphs:
    """Training steps of a net by graphs, one for each batch size.

    Parameters
    ----------
    net : LatentNet
        Initialised, with its generator.
    n_steps : int
        Number of steps that are left to train.
    """

    _capture = None

    def __init__(self, net, n_steps):
        device = torch.device(net.device)
        if device.type not in CAPTURES or not n_steps:
            return
        self._net, self._graphs, self._n_replays, self._n_drops = net, {}, 0, 0
        self._critics = [part for _, part in net.callbacks_ if isinstance(part, TrainCritic)]
        self._nets = [net, *(part.critic for part in self._critics)]
        reason = _reason_against(self._nets, n_steps)
        if reason:
            self._give_up(reason)
            return
        self._rates = list(torch.zeros(len(self._groups()), dtype=torch.float32, device=device))
        self._capture = CAPTURES[device.type](device, [net.generator_])

    def __getstate__(self):
        return {}  # a copy of a net in training has no graphs

    def begin_epoch(self):
        """Drop the graphs if tensors or settings that they keep were replaced since."""
        if self._capture is None or not self._graphs or self._signature() == self._captured:
            return
        self._drop_graphs()
        self._n_drops += 1
        if self._n_drops > MAX_CHEAP_DROPS and self._n_drops * MIN_CAPTURED_STEPS > self._n_replays:
            self._give_up("settings or tensors change too often")

    def step(self, batch):
        """Take a training step on a batch (n, C): its `Sums`, or None if no graph can take it.

        The next step overwrites the values.
        """
        if self._capture is None:
            return None
        if len(batch) not in self._graphs:
            return self._capture_step(batch) if len(self._graphs) < MAX_SIZES else None
        fixed, sums, replay = self._graphs[len(batch)]
        fixed.copy_(batch)
        self._fill_rates()
        replay()
        self._n_replays += 1
        return sums

    def close(self):
        """End the use of graphs, and free their memory."""
        if self._capture is not None:
            self._drop_graphs()
            self._capture = None

    def _drop_graphs(self):
        """Free the graphs and their memory, in which the last gradients are."""
        self._graphs.clear()
        for net in self._nets:
            net.optimizer_.zero_grad(set_to_none=True)
        with CAPTURING:
            self._capture.drop()

    def _give_up(self, reason):
        """Train without graphs from here on, and say why."""
        self.close()
        if self._net.verbose:
            print(f"[{self._net.title}] trains without a CUDA graph: {reason}", flush=True)

    def _capture_step(self, batch):
        """Capture the step for the size of a batch, and take it; None if that fails."""
        with CAPTURING:
            before = StepState(self._nets, self._net.generator_)
            try:
                return self._captured_step(batch, before)
            except BaseException as error:
                before.restore()
                if not isinstance(error, Exception):
                    raise
                message = (str(error).splitlines() or [""])[0]
                reason = f"the capture failed, {type(error).__name__}: {message}"
        self._give_up(reason)
        return None

    def _captured_step(self, batch, before):
        fixed = batch.clone()

        def train():
            step = self._net.train_step(fixed)
            for critic in self._critics:
                critic.on_batch_end(self._net, training=True, **step)
            return Sums.of(step["y_pred"])

        self._fill_rates()
        with self._rates_from_tensors(capturable=False):
            wanted = self._capture.run(train).values.clone(), before.weights_now()
            with NoWaiting():
                self._capture.run(train)
            self._capture.run(train)
        before.restore()
        with self._rates_from_tensors(capturable=True):
            sums, replay = self._capture.record(train)
        if not before.has_same_tensors():
            raise ValueError("the network replaces tensors in each step")
        replay()
        if not agree(wanted, (sums.values, before.weights_now()), before.weights()):
            raise ValueError("its result differs from that of a plain step")
        self._graphs[len(batch)], self._captured = (fixed, sums, replay), self._signature()
        return sums

    @contextmanager
    def _rates_from_tensors(self, capturable):
        """Let optimizers read their rates from tensors; elsewhere, rates are plain numbers."""
        groups = self._groups()
        before = [(group["lr"], group["capturable"]) for group in groups]
        try:
            for group, rate in zip(groups, self._rates, strict=True):
                group["lr"], group["capturable"] = rate, capturable
            yield
        finally:
            for group, values in zip(groups, before, strict=True):
                group["lr"], group["capturable"] = values

    def _groups(self):
        """Parameter groups of all optimizers, which are new ones after a state was restored."""
        return [group for net in self._nets for group in net.optimizer_.param_groups]

    def _fill_rates(self):
        for group, rate in zip(self._groups(), self._rates, strict=True):
            rate.fill_(float(group["lr"]))

    def _signature(self):
        """Everything that a graph keeps: places of tensors, and plain values of settings."""
        settings, tensors = [id(self._net.generator_), self._net.autocast], []
        for net in self._nets:
            for whole in (net.module_, net.criterion_):
                settings += [_plain(vars(module)) for module in whole.modules()]
                tensors += [*whole.parameters(), *whole.buffers()]
            settings += [_plain(group) for group in net.optimizer_.param_groups]
            tensors += optimizer_tensors(net)
        return settings, [(t.data_ptr(), t.shape, t.requires_grad) for t in tensors]


def _reason_against(nets, n_steps):
    """Reason to train without graphs, or None."""
    net = nets[0]
    if not net.cuda_graph:
        return "net_params['cuda_graph'] is False"
    if net.compile:
        return "net_params['compile'] is True"
    for part in nets:
        if part.optimizer not in (Adam, AdamW) or type(part.optimizer_) is not part.optimizer:
            return "net_params['optimizer'] is set"
        if not all(group["fused"] for group in part.optimizer_.param_groups):
            return "net_params['optimizer__fused'] is not True"
    for _, callback in net.callbacks_:
        if not isinstance(callback, TrainCritic) and needs_batches(callback):
            return f"the callback {type(callback).__name__} may use each batch or its gradients"
    if n_steps < MIN_CAPTURED_STEPS:
        return f"a capture does not pay for {n_steps} steps"
    return None


def _plain(values, depth=1):
    """Plain values among those of a dict, and in tuples and dicts in it; without the rate."""
    out = {}
    for name, value in values.items():
        parts = value if isinstance(value, tuple) else [value]
        if name != "lr" and all(isinstance(v, bool | int | float | str | None) for v in parts):
            out[name] = value
        elif isinstance(value, dict) and depth:
            out[name] = _plain(value, depth - 1)
    return out
