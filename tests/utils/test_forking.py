"""Locks that are free in a forked process."""

import os
import threading

import pytest

from cmim_sklearn._utils.forking import fork_safe_lock

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


def in_child(function):
    """Result of a function, as an exit status, in a forked process."""
    child = os.fork()
    if not child:
        os._exit(function())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_lock_held_by_another_thread_is_free_in_the_child():
    lock, inherited = fork_safe_lock(), threading.Lock()
    held, done = threading.Event(), threading.Event()

    def hold():
        with lock, inherited:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        taken = in_child(lambda: 10 * lock.acquire(timeout=5) + inherited.acquire(timeout=0.01))
    finally:
        done.set()
        thread.join()
    assert taken == 10
