"""Stand-in for CUDA graphs: records the operations of a function, and replays them.

Like a CUDA graph, a record writes to the memory that it had when it was made, keeps numbers from
Python, and draws from its generators. Recording changes no tensor and no generator. Operations for
which a GPU would have to wait raise an error, with ``pytest --device standin`` also copies between
devices.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WAITS = {
    "_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "_unique2", "unique",
    "unique_dim", "lift_fresh", "bincount", "repeat_interleave.Tensor",
}  # fmt: skip


class Recorder:
    """Captures with the interface of `CudaCapture`; the class counts them."""

    n_records = n_replays = n_drops = 0

    def __init__(self, device, generator):
        self.generators = [generator, torch.default_generator]

    def run(self, function):
        return function()

    def record(self, function):
        type(self).n_records += 1
        states = [generator.get_state() for generator in self.generators]
        recording = Recording()
        try:
            with recording:
                result = function()
        finally:
            recording.undo()
            for generator, state in zip(self.generators, states, strict=True):
                generator.set_state(state)

        def replay():
            type(self).n_replays += 1
            recording.replay()

        return result, replay

    def drop(self):
        type(self).n_drops += 1


class Recording(TorchDispatchMode):
    """Operations below autograd, with the tensors that they read and write."""

    def __init__(self):
        super().__init__()
        self.calls, self.before, self.created = [], {}, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        inputs = tensors([args, kwargs])
        self.check(func, args)
        for t in inputs:
            # Any of them: batch norm writes to inputs that its schema does not name as written.
            if place(t) not in self.created and place(t) not in self.before:
                whole = t.detach().as_strided(
                    (t.untyped_storage().nbytes() // t.itemsize,), (1,), 0
                )
                self.before[place(t)] = whole, whole.clone()
        result = func(*args, **kwargs)
        devices = {t.device for t in [*inputs, *tensors(result)]}
        if len(devices) > 1:
            raise RuntimeError(f"{func} copies between {devices}")
        self.created |= {place(t) for t in tensors(result)} - {place(t) for t in inputs}
        self.calls.append((func, args, kwargs, result))
        return result

    def check(self, func, args):
        name = func._schema.name.removeprefix("aten::")
        has_mask = "index" in name and any(t.dtype == torch.bool for t in tensors(args[1:2]))
        if {name, f"{name}.{func._overloadname}"} & WAITS or has_mask:
            raise RuntimeError(f"{func} waits for the device")

    @torch.no_grad()
    def undo(self):
        for t, value in self.before.values():
            t.copy_(value)

    @torch.no_grad()
    def replay(self):
        for func, args, kwargs, fixed in self.calls:
            for t, value in zip(tensors(fixed), tensors(func(*args, **kwargs)), strict=True):
                if place(t) != place(value):  # not written in place, nor a view
                    t.copy_(value)


def tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def place(t):
    return t.untyped_storage().data_ptr()
