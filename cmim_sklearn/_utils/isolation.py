"""Isolation from the host program: settings of torch and numpy, and numbers of threads.

A host program may have changed settings that torch and numpy keep for a whole process or thread.
`isolated` runs a function under the settings that the library expects, and restores those of the
host afterwards, also after an error. Only torch's default dtype is left alone: it belongs to all
threads of the host, so the library names the dtype of each tensor that it makes.
"""

import functools
import os
import threading
from contextlib import ExitStack, contextmanager

import joblib
import numpy as np
import torch
from threadpoolctl import ThreadpoolController

from cmim_sklearn._utils.forking import fork_safe_lock
from cmim_sklearn._utils.public_names import public_names

AUTOCAST_DEVICES = ("cpu", "cuda")


class _Threads:
    """Number of torch's threads while isolated calls run, in any number of Python threads.

    torch keeps the number for each Python thread that has used it; a new thread starts with the
    number that any thread has set last. A call that starts in a new thread, while another call
    runs, must therefore end with the number of the host, not with the one that it found.
    """

    def __init__(self):
        self.lock = fork_safe_lock()
        self.in_use = []
        self.of_host = None
        self.is_forked = False

    def begin(self, n_threads):
        """Set the number; returns the number to set at the end, and the one in use now."""
        with self.lock:
            before = torch.get_num_threads()
            if self.is_forked:
                # The threads of the parent do not exist here: a parallel loop would wait for them.
                n_threads = before = 1
            if not self.in_use:
                self.of_host = before
            elif before in self.in_use:
                before = self.of_host
            self.in_use.append(n_threads)
            torch.set_num_threads(n_threads)
        return before, n_threads

    def end(self, before, n_threads):
        """Set the number that `begin` returned."""
        with self.lock:
            self.in_use.remove(n_threads)
            torch.set_num_threads(before)

    def after_fork(self):
        """Forget the calls of other threads, which do not run in the forked process."""
        self.is_forked = True
        self.in_use = [_call.n_threads] if _call.is_running else []


class _Call(threading.local):
    """The isolated call that runs in this thread."""

    is_running = False
    n_threads = None


_call = _Call()
_threads = _Threads()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.after_fork)


@contextmanager
def _isolation(n_threads):
    if n_threads > 1:
        n_threads = min(n_threads, joblib.cpu_count())  # affinity and the quota of control groups
    before, n_threads = _threads.begin(n_threads)
    _call.is_running, _call.n_threads = True, n_threads
    try:
        with ExitStack() as stack:
            # This enables gradients, too.
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(
                np.errstate(divide="warn", over="warn", under="ignore", invalid="warn")
            )
            if torch.get_default_device().type != "cpu":
                stack.enter_context(torch.device("cpu"))
            for device in AUTOCAST_DEVICES:
                if torch.is_autocast_enabled(device):
                    stack.enter_context(torch.autocast(device, enabled=False))
            yield
    finally:
        _call.is_running = False
        _threads.end(before, n_threads)


def isolated(function=None, *, n_threads=None):
    """Decorate a function to run under the library's settings instead of those of the host.

    Inside: gradients are on and inference mode is off, the default device is the CPU, autocast is
    off, numpy warns of floating-point errors except underflow, and torch uses one thread.
    A call within an isolated call changes nothing more.

    Parameters
    ----------
    function : callable
    n_threads : callable, default=None
        From the first argument of the function to the number of torch threads. More than the
        process may use are reduced to that number. None: one thread.
    """
    if function is None:
        return functools.partial(isolated, n_threads=n_threads)

    @functools.wraps(function)
    def call(*args, **kwargs):
        if _call.is_running:
            return function(*args, **kwargs)
        n = 1 if n_threads is None or not args else n_threads(args[0])
        with _isolation(n), public_names(function, args):
            return function(*args, **kwargs)

    return call


_BLAS = fork_safe_lock()


@functools.cache
def _blas():
    # Without OpenMP, which torch uses: a limiter restores all libraries of its controller.
    return ThreadpoolController().select(user_api="blas")


@contextmanager
def one_blas_thread():
    """Let numpy's matrix products and decompositions use one thread, so that bits are the same.

    The number belongs to the process: calls in several threads wait for each other.
    """
    with _BLAS, _blas().limit(limits=1):
        yield
