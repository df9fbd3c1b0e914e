"""Fork safety: locks and torch threads in forked processes."""

import os
import threading

import torch

_is_forked = False


def fork_safe_lock():
    """Return a lock that is free in a forked process, even if another thread holds it."""
    lock = threading.Lock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lock._at_fork_reinit)
    return lock


def use_one_thread_after_fork():
    """Set torch to one thread, at the first call in a forked process.

    A forked process does not have the threads of its parent, so a thread pool that the parent has
    used would wait for them without end.
    """
    global _is_forked
    if _is_forked:
        _is_forked = False
        torch.set_num_threads(1)


def _set_forked():
    global _is_forked
    _is_forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_set_forked)
