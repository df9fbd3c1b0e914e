"""What a process that was forked must not inherit: locks that are held, threads that are gone."""

import os
import threading

import torch

_is_forked = False


def new_lock():
    """Return a lock that is free in a process forked while another thread held it."""
    lock = threading.Lock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lock._at_fork_reinit)
    return lock


def begin_alone():
    """In a process that was forked, have torch work on one thread, from our first use of it on.

    The parent's threads are not there, and a pool that had begun work would wait for them for ever.
    """
    global _is_forked
    if _is_forked:
        _is_forked = False
        torch.set_num_threads(1)


def _note_the_fork():
    global _is_forked
    _is_forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_the_fork)
