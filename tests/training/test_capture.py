"""Captures as CUDA graphs, with a stand-in for the calls of `torch.cuda`."""

from contextlib import contextmanager

import pytest
import torch

from cmim_sklearn._training import capture
from cmim_sklearn._training.capture import CudaCapture


class Generator:
    """Generator whose state a failed capture breaks."""

    def __init__(self, state="good"):
        self.state = state

    def clone_state(self):
        return Generator(self.state)

    def graphsafe_set_state(self, other):
        self.state = other.state


class Stream:
    def __init__(self, name, log):
        self.name, self.log = name, log

    def wait_stream(self, other):
        self.log.append(f"{self.name} waits for {other.name}")

    def synchronize(self):
        pass


@pytest.fixture
def log(monkeypatch):
    """Calls of `torch.cuda`, in their order."""
    calls, current = [], []

    class Graph:
        def __init__(self):
            self.generators = [default]

        def register_generator_state(self, generator):
            self.generators.append(generator)

        def capture_begin(self, pool, capture_error_mode):
            calls.append(f"begin on {current[-1].name}, {pool}, {capture_error_mode}")
            for generator in self.generators:
                generator.state = "capturing"

        def capture_end(self):
            calls.append("end")
            if "broken" in calls:
                raise RuntimeError("invalidated")
            for generator in self.generators:
                generator.state = "good"

        def replay(self):
            calls.append("replay")

        def reset(self):
            calls.append("reset")

    @contextmanager
    def stream(new):
        current.append(new)
        try:
            yield
        finally:
            current.pop()

    default = Generator()
    current.append(Stream("default", calls))
    fakes = {
        "CUDAGraph": Graph,
        "Stream": lambda device: Stream("side", calls),
        "stream": stream,
        "current_stream": lambda device: current[-1],
        "current_device": lambda: 0,
        "graph_pool_handle": lambda: (0, 7),
        "default_generators": (default,),
        "empty_cache": lambda: calls.append("empty cache"),
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(capture, "_of_thread", type(capture._of_thread)())
    monkeypatch.setattr(
        torch._C, "_cuda_endAllocateToPool", lambda *ends: calls.append(ends), raising=False
    )
    return calls


def test_a_function_is_captured_on_a_side_stream_and_replayed(log):
    generators = [Generator(), Generator()]
    captures = CudaCapture(torch.device("cuda"), generators)
    assert captures.run(lambda: log.append("warm up") or 3) == 3
    assert log == ["side waits for default", "warm up", "default waits for side"]
    log.clear()
    for _ in range(2):
        result, replay = captures.record(lambda: log.append("step") or "result")
        assert result == "result"
        assert log == ["begin on side, (0, 7), thread_local", "step", "end"]
        log.clear()
    for graph in captures.graphs:
        assert graph.generators[1:] == generators, "all are registered; the default one always is"
    replay()
    captures.drop()
    captures.drop()
    assert log == ["replay", "reset", "reset", "empty cache", "empty cache"]
    assert captures.pool is None


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_capture_repairs_generators_and_allocator(error, log):
    def fail():
        log.append("broken")
        raise error("first")

    generators = [Generator(), Generator()]
    captures = CudaCapture(torch.device("cuda", 0), generators)
    with pytest.raises(error, match="first"):
        captures.record(fail)
    assert log[-3:] == ["broken", "end", (0, (0, 7))]
    assert [each.state for each in captures.generators] == ["good"] * 3
    assert torch.cuda.current_stream(0).name == "default"
    captures.drop()
    assert log[-1] == "empty cache"


def test_captures_of_a_thread_share_a_stream(log):
    one, other = (CudaCapture(torch.device("cuda", 0), [Generator()]) for _ in range(2))
    assert one.stream is other.stream
