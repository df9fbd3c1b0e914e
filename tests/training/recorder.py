"""Stand-in for CUDA graphs: records the operations of a function, and replays them.

Like a CUDA graph, a record writes to the memory that it had when it was made, keeps numbers from
Python, and draws from its generators. Recording changes no tensor and no generator.
"""

import torch

from cmim_sklearn._training.capture import NoWaiting, tensors_in


class Recorder:
    """Captures with the interface of `CudaCapture`; each subclass counts its own."""

    n_records = n_replays = n_drops = 0

    def __init_subclass__(cls):
        cls.n_records = cls.n_replays = cls.n_drops = 0

    def __init__(self, device, generators):
        self.generators = [*generators, torch.default_generator]

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


class Recording(NoWaiting):
    """Operations below autograd, with the tensors that they read and write."""

    def __init__(self):
        super().__init__()
        self.calls, self.before, self.created = [], {}, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        inputs = tensors_in([args, kwargs])
        for t in inputs:
            # Any of them: batch norm writes to inputs that its schema does not name as written.
            if place(t) not in self.created and place(t) not in self.before:
                n = t.untyped_storage().nbytes() // t.itemsize
                whole = t.detach().as_strided((n,), (1,), 0)
                self.before[place(t)] = whole, whole.clone()
        result = super().__torch_dispatch__(func, types, args, kwargs)
        self.created |= {place(t) for t in tensors_in(result)} - {place(t) for t in inputs}
        self.calls.append((func, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def undo(self):
        for t, value in self.before.values():
            t.copy_(value)

    @torch.no_grad()
    def replay(self):
        for func, args, kwargs, fixed in self.calls:
            values = func(*args, **kwargs)
            for t, value in zip(tensors_in(fixed), tensors_in(values), strict=True):
                if place(t) != place(value):  # not written in place, nor a view
                    t.copy_(value)


def place(t):
    return t.untyped_storage().data_ptr()
