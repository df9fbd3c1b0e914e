"""Forked processes: locks are free, and torch uses one thread."""

import os
import threading

import pytest
import torch

from cmim_sklearn._utils.forking import fork_safe_lock, use_one_thread_after_fork

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


def test_torch_uses_one_thread_in_the_child_after_the_first_call():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert in_child(torch.get_num_threads) == 3
        assert in_child(lambda: use_one_thread_after_fork() or torch.get_num_threads()) == 1
        use_one_thread_after_fork()
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
