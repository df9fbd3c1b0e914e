"""A process that was forked: locks are free, and torch has one thread once an encoder is used."""

import os
import threading

import pytest
import torch

from cmim_sklearn._utils.forking import begin_alone, new_lock

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


def in_child(function):
    """What a function returns, as an exit status, in a process that was forked here."""
    child = os.fork()
    if not child:
        os._exit(function())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_lock_that_another_thread_holds_is_free_in_the_child():
    lock, inherited = new_lock(), threading.Lock()
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


def test_torch_has_one_thread_in_the_child_from_the_first_use_on():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert in_child(torch.get_num_threads) == 3
        assert in_child(lambda: begin_alone() or torch.get_num_threads()) == 1
        begin_alone()
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
