"""How `benchmarks.speed` measures: clocks, contestants in turn, quotients, growth and memory."""

import gc
import resource
import time
import tracemalloc
from typing import NamedTuple

import numpy as np


class Cost(NamedTuple):
    """Seconds that something took, of processors and of the clock on the wall."""

    cpu: float
    wall: float


def cpu_clock():
    """Processor seconds so far, of all threads here and of subprocesses that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def timed(function) -> Cost:
    """What a call costs; a function that returns a `Cost` has measured itself, and is believed."""
    gc.collect()
    cpu, wall = cpu_clock(), time.perf_counter()
    own = function()
    cost = Cost(cpu_clock() - cpu, time.perf_counter() - wall)
    return own if isinstance(own, Cost) else cost


def interleave(contestants, repeats, *, warm_up=True):
    """Run contestants in turn, so that whatever else slows the machine slows all of them alike.

    Parameters
    ----------
    contestants : dict of functions without arguments
    repeats : int
        Runs of each that count. Every other turn goes backwards.
    warm_up : bool, default=True
        Whether one that does not count goes before them.

    Returns
    -------
    dict of lists of Cost
        Under the same names; those of one turn stand at one place.
    """
    for function in contestants.values() if warm_up else ():
        function()
    costs = {name: [] for name in contestants}
    for turn in range(repeats):
        for name in list(contestants)[:: -1 if turn % 2 else 1]:
            costs[name].append(timed(contestants[name]))
    return costs


def quotients(ours, theirs, clock="cpu", scale=1.0):
    """Our cost over theirs, turn by turn: their median says more than a quotient of medians."""
    pairs = zip(ours, theirs, strict=True)
    return [scale * getattr(a, clock) / getattr(b, clock) for a, b in pairs]


def exponent(sizes, values):
    """The slope of log value on log size by least squares: 1 where twice as much costs twice."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def allocated(function):
    """Peak of the bytes that a call allocates, as Python and numpy tell it, and arrow does not."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
