"""Isolation from the host: settings inside, settings afterwards, numbers of threads."""

import os
import threading
import warnings

import joblib
import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from cmim_sklearn._utils.isolation import isolated, one_blas_thread
from tests.utils.test_forking import in_child


@pytest.fixture(autouse=True)
def _three_threads():
    """Let the host use three threads of torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def blas_threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def settings():
    return {
        "default device": torch.get_default_device().type,
        "inference mode": torch.is_inference_mode_enabled(),
        "gradients": torch.is_grad_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "numpy": np.geterr(),
        "threads": torch.get_num_threads(),
    }


INSIDE = {
    "default device": "cpu",
    "inference mode": False,
    "gradients": True,
    "autocast": False,
    "numpy": {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"},
    "threads": 1,
}


def test_settings_inside_are_the_librarys_and_those_of_the_host_return():
    with (
        torch.device("meta"),
        torch.inference_mode(),
        torch.autocast("cpu", dtype=torch.bfloat16),
        np.errstate(all="raise"),
    ):
        before = settings()
        assert isolated(settings)() == INSIDE
        assert settings() == before
        with pytest.raises(ZeroDivisionError):
            isolated(lambda: 1 / 0)()
        assert settings() == before
    assert before["threads"] == 3


def test_a_call_within_a_call_changes_nothing_more():
    inner = isolated(lambda _: settings(), n_threads=lambda _: 2)

    @isolated
    def outer():
        within = inner(None)
        return within, settings()

    assert outer() == (INSIDE, INSIDE)
    assert torch.get_num_threads() == 3


def test_no_gradients_of_the_host_are_kept_out():
    with torch.no_grad():
        assert isolated(torch.is_grad_enabled)()
        assert not torch.is_grad_enabled()


@pytest.mark.parametrize(("asked", "cores", "given"), [(1, 8, 1), (2, 8, 2), (4, 3, 3), (9, 1, 1)])
def test_more_threads_than_the_process_may_use_are_not_started(asked, cores, given, monkeypatch):
    monkeypatch.setattr(joblib, "cpu_count", lambda: cores)
    count = isolated(lambda _: torch.get_num_threads(), n_threads=lambda n: n)
    assert count(asked) == given
    assert torch.get_num_threads() == 3


def run_overlapping(first_is_last):
    """Numbers of torch threads of two Python threads after calls that overlap.

    The second call starts within the first, and ends before or after it.
    """
    inside, release = threading.Event(), threading.Event()
    second_inside, second_release = threading.Event(), threading.Event()
    after = {}

    def call(name, entered, leave):
        @isolated
        def wait():
            entered.set()
            assert leave.wait(10)

        wait()
        after[name] = torch.get_num_threads()

    first = threading.Thread(target=call, args=("first", inside, release))
    second = threading.Thread(target=call, args=("second", second_inside, second_release))
    first.start()
    assert inside.wait(10)
    second.start()
    assert second_inside.wait(10)
    one, other = (second, first) if first_is_last else (first, second)
    (second_release if first_is_last else release).set()
    one.join()
    (release if first_is_last else second_release).set()
    other.join()
    return after


@pytest.mark.parametrize("first_is_last", [True, False])
def test_overlapping_calls_leave_the_threads_of_the_host(first_is_last):
    assert run_overlapping(first_is_last) == {"first": 3, "second": 3}
    assert torch.get_num_threads() == 3
    started = []
    thread = threading.Thread(target=lambda: started.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert started == [3]


def test_overlapping_uses_of_blas_restore_its_threads():
    seen = []

    def use():
        for _ in range(20):
            with one_blas_thread():
                seen.append(blas_threads())

    with threadpool_limits(3, user_api="blas"):
        before = blas_threads()
    threads = [threading.Thread(target=use) for _ in range(3)]
    host = blas_threads()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert before == {3}
    assert seen == 60 * [{1}]
    assert blas_threads() == host


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
class TestFork:
    def test_torch_uses_one_thread_in_the_child_after_the_first_call(self):
        use = isolated(lambda _: torch.get_num_threads(), n_threads=lambda n: n)
        assert in_child(torch.get_num_threads) == 3
        assert in_child(lambda: 10 * use(2) + torch.get_num_threads()) == 11
        use(1)
        assert torch.get_num_threads() == 3

    def test_a_fork_within_a_call_ends_in_the_child_and_in_the_parent(self):
        @isolated
        def fork():
            child = os.fork()
            return child, torch.get_num_threads()

        child, inside = fork()
        if not child:
            os._exit(torch.get_num_threads() + 10 * isolated(torch.get_num_threads)())
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 13
        assert (inside, torch.get_num_threads()) == (1, 3)

    def test_a_fork_beside_a_call_forgets_it(self):
        entered, leave = threading.Event(), threading.Event()

        @isolated
        def wait():
            entered.set()
            leave.wait(10)

        thread = threading.Thread(target=wait)
        thread.start()
        assert entered.wait(10)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            inside = in_child(lambda: isolated(torch.get_num_threads)())
        leave.set()
        thread.join()
        assert inside == 1
