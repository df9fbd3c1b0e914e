"""Capture of functions as CUDA graphs, and copies of what a training step changes."""

import threading
from contextlib import suppress

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cmim_sklearn._utils.forking import fork_safe_lock

CAPTURING = fork_safe_lock()
"""Held during a capture: one at a time in a process."""
WAITING = {
    "_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique_dim",
    "_unique2", "unique_consecutive", "bincount", "lift_fresh",
}  # fmt: skip
"""Operations of torch for which the program waits for the GPU, or that move data to it."""

MAX_KEYS = 32
"""Number of graphs of a `TensorStep`; there are as many as combinations of batch sizes."""

_of_thread = threading.local()


class CudaCapture:
    """Captures of functions as CUDA graphs that share one memory pool.

    Parameters
    ----------
    device : torch.device
    generators : list of torch.Generator
        Generators on the device that the functions use, in addition to the default one.
    """

    def __init__(self, device, generators):
        index = torch.cuda.current_device() if device.index is None else device.index
        self.device, self.graphs = torch.device("cuda", index), []
        self.generators = [*generators, default_generator(self.device)]
        self.pool, self.stream = None, _side_stream(self.device)

    def run(self, function):
        """Call a function on the stream of the captures."""
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            result = function()
        torch.cuda.current_stream(self.device).wait_stream(self.stream)
        return result

    def record(self, function):
        """Capture a function; returns its result, and a function that replays it.

        The result is valid after a replay, until the next one of any of the captures.
        """
        graph, states = torch.cuda.CUDAGraph(), [g.clone_state() for g in self.generators]
        self.pool = self.pool or torch.cuda.graph_pool_handle()
        self._wait()
        try:
            with torch.cuda.stream(self.stream):  # which makes its device the current one
                for generator in self.generators[:-1]:  # the default one always is
                    graph.register_generator_state(generator)
                # Other threads may allocate memory, as for their own fits, during the capture.
                graph.capture_begin(pool=self.pool, capture_error_mode="thread_local")
                try:
                    result = function()
                except BaseException:
                    with suppress(RuntimeError):  # the error to raise is the one before
                        graph.capture_end()
                    raise
                graph.capture_end()
        except BaseException:
            # The generators of a failed capture cannot be used again, and the allocator believes
            # that it goes on: `empty_cache` would fail in the whole process.
            for generator, state in zip(self.generators, states, strict=True):
                generator.graphsafe_set_state(state)
            with suppress(Exception):
                torch._C._cuda_endAllocateToPool(self.device.index, self.pool)
            raise
        self.graphs.append(graph)
        return result, graph.replay

    def drop(self):
        """Free all graphs and their memory."""
        self._wait()
        for graph in self.graphs:
            graph.reset()
        self.graphs.clear()
        self.pool = None  # a pool without graphs cannot be used again
        with suppress(RuntimeError):  # during a capture of the host program
            torch.cuda.empty_cache()

    def _wait(self):
        # Not for the whole device, which would break captures in other threads.
        for stream in (torch.cuda.current_stream(self.device), self.stream):
            stream.synchronize()


def _side_stream(device):
    """Stream for captures: one for each thread and device, since each has a large workspace."""
    streams = vars(_of_thread).setdefault("streams", {})
    if device not in streams:
        streams[device] = torch.cuda.Stream(device)
    return streams[device]


def default_generator(device):
    """Torch's default generator of a device."""
    if device.type != "cuda":
        return torch.default_generator
    index = torch.cuda.current_device() if device.index is None else device.index
    return torch.cuda.default_generators[index]


CAPTURES = {"cuda": CudaCapture}
"""Classes that capture functions, by type of device."""


class NoWaiting(TorchDispatchMode):
    """Context in which operations for which a GPU must wait raise an error.

    In a capture such an operation fails, too, but leaves torch in a bad state.

    Raises
    ------
    RuntimeError
        In an operation whose result decides what Python does, such as ``tensor.item()``, whose
        result has a shape that depends on values, such as ``x[mask]``, or that has tensors on
        several devices. Only this thread, and gradients that it computes, are checked.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        inputs = tensors_in([args, kwargs])
        name = func._schema.name.removeprefix("aten::")
        has_mask = "index" in name and any(t.dtype == torch.bool for t in tensors_in(args[1:2]))
        if name in WAITING or has_mask:
            raise RuntimeError(f"{func} waits for the device")
        result = func(*args, **(kwargs or {}))
        devices = {str(t.device) for t in [*inputs, *tensors_in(result)]}
        if len(devices) > 1:
            raise RuntimeError(f"{func} uses tensors on {' and '.join(sorted(devices))}")
        return result


def tensors_in(tree):
    """Tensors in nested lists, tuples and dicts."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


class StepState:
    """Copy of what a training step changes, to restore it in place.

    Parameters
    ----------
    nets : list of NeuralNet
    generator : torch.Generator
    """

    def __init__(self, nets, generator):
        self._nets = nets
        self._modules = [
            (module, name, tensor, tensor.detach().clone())
            for net in nets
            for whole in (net.module_, net.criterion_)
            for module in whole.modules()
            for named in (module.named_parameters, module.named_buffers)
            for name, tensor in named(recurse=False)
        ]
        self._moments = {
            id(tensor): tensor.detach().clone() for net in nets for tensor in optimizer_tensors(net)
        }
        # Layers such as dropout draw from the default generator of the device.
        generators = generator, default_generator(generator.device)
        self._random = [(each, each.get_state()) for each in generators]

    @torch.no_grad()
    def restore(self):
        """Restore all values; an optimizer that had no state begins again at its first step."""
        for module, name, tensor, value in self._modules:
            if getattr(module, name) is not tensor:
                setattr(module, name, tensor)
            tensor.copy_(value)
        for net in self._nets:
            net.optimizer_.zero_grad(set_to_none=True)
            for tensor in optimizer_tensors(net):
                tensor.copy_(self._moments.get(id(tensor), torch.zeros_like(tensor)))
        for generator, state in self._random:
            if not torch.equal(generator.get_state(), state):
                generator.set_state(state)

    def has_same_tensors(self):
        """Whether the modules still hold the tensors that were copied."""
        return all(getattr(module, name) is tensor for module, name, tensor, _ in self._modules)

    def weights(self):
        """All copied weights and buffers in one tensor."""
        return torch.cat([value.flatten().double() for *_, value in self._modules])

    def weights_now(self):
        """Their current values in one tensor."""
        now = [getattr(module, name).detach() for module, name, *_ in self._modules]
        return torch.cat([value.flatten().double() for value in now])


def optimizer_tensors(net):
    """Tensors of the optimizer's state: moments and numbers of steps."""
    values = [v for state in net.optimizer_.state.values() for v in state.values()]
    return [v for v in values if isinstance(v, Tensor)]


def agree(wanted, found, before):
    """Whether two steps from the same weights had the same losses, and moved to the same place.

    A step that is not finite agrees with anything: it will be undone.
    """
    (wanted_sums, wanted_weights), (sums, weights) = wanted, found
    error, scale = (sums - wanted_sums).abs().max(), wanted_sums.abs().max()
    apart, moved = (weights - wanted_weights).norm(), (wanted_weights - before).norm()
    # Adam moves a weight whose gradient is nearly zero up or down, depending on rounding.
    differs = (error > 1e-3 * scale) | (apart > 0.1 * moved + 1e-6 * before.norm())
    return not bool(differs)


class TensorStep:
    """Training steps that change tensors in place: on a GPU they are captured, and then replayed.

    There is one graph for each key. If a capture fails, the function is called instead, from the
    state that there was.

    Parameters
    ----------
    device : torch.device

    Attributes
    ----------
    reason : str or None
        Reason why a capture failed, after which there is none.
    """

    reason = None

    def __init__(self, device):
        self._device, self._replays, self._capture = device, {}, None

    def __call__(self, function, key, tensors, generators):
        """Take the step ``function(key)``.

        Parameters
        ----------
        function : callable
            It changes some of the tensors, and draws from the generators.
        key : hashable
        tensors : dict of str to Tensor
            With ``weights`` and ``sums``. These and the generators are the same until `drop`.
        generators : list of torch.Generator
        """
        if key in self._replays:
            self._replays[key]()
        elif not self._can_record() or not self._record(function, key, tensors, generators):
            function(key)

    def drop(self):
        """Free the graphs, because tensors or generators are replaced."""
        self._replays.clear()
        if self._capture is not None:
            with CAPTURING:
                self._capture.drop()
            self._capture = None

    def _can_record(self):
        is_possible = self._device.type in CAPTURES and self.reason is None
        return is_possible and len(self._replays) < MAX_KEYS

    def _record(self, function, key, tensors, generators):
        """Capture the function, and take the step; returns whether that was possible."""
        before = {name: tensor.clone() for name, tensor in tensors.items()}
        states = [generator.get_state() for generator in generators]

        def go_back():
            _copy(before, tensors)
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)

        with CAPTURING:
            try:
                self._capture = self._capture or CAPTURES[self._device.type](
                    self._device, generators
                )
                with NoWaiting():
                    self._capture.run(lambda: function(key))
                wanted = _result(tensors)
                go_back()  # a second step from there may be beyond the epoch
                self._capture.run(lambda: function(key))
                go_back()
                _, replay = self._capture.record(lambda: function(key))
                replay()
                if not agree(wanted, _result(tensors), _result(before)[1]):
                    raise ValueError("the replay differs from the step")
            except BaseException as error:
                go_back()
                if not isinstance(error, Exception):
                    raise
                message = (str(error).splitlines() or [""])[0]
                self.reason = f"the capture failed, {type(error).__name__}: {message}"
        if self.reason:
            self.drop()
            return False
        self._replays[key] = replay
        return True


def _result(tensors):
    return tensors["sums"].clone(), tensors["weights"].flatten().double()


def _copy(values, tensors):
    for name, value in values.items():
        tensors[name].copy_(value)
