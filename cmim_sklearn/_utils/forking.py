"""Locks that are free in a forked process."""

import os
import threading


def fork_safe_lock():
    """Return a lock that is free in a forked process, even if another thread holds it."""
    lock = threading.Lock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lock._at_fork_reinit)
    return lock
