"""Costs of contestants that run in turn, and their quotients."""

import gc
import resource
import time
from typing import NamedTuple


class Cost(NamedTuple):
    """Seconds of processors, and of the clock."""

    cpu: float
    wall: float


def cpu_clock():
    """Processor seconds so far, of all threads here and of subprocesses that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def timed(function) -> Cost:
    """Cost of a call."""
    gc.collect()
    cpu, wall = cpu_clock(), time.perf_counter()
    function()
    return Cost(cpu_clock() - cpu, time.perf_counter() - wall)


def interleave(contestants, repeats):
    """Costs of contestants, by name, each run in turn: other work slows all of them.

    Every second turn runs backwards. A first turn does not count, unless it is the only one.
    """
    names, costs = list(contestants), {name: [] for name in contestants}
    for turn in range(repeats + (repeats > 1)):
        for name in names[:: -1 if turn % 2 else 1]:
            costs[name].append(timed(contestants[name]))
    return {name: own[-repeats:] for name, own in costs.items()}


def quotients(ours, theirs, clock="cpu"):
    """Our cost over theirs, turn by turn; use their median, not a quotient of medians."""
    return [getattr(a, clock) / getattr(b, clock) for a, b in zip(ours, theirs, strict=True)]
