"""Threads and processes: the same results as one after the other, and no deadlock."""

import ast
import io
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch

import cmim_sklearn
from cmim_sklearn import CMIMEncoder
from tests.helpers import ENCODERS, make_mixed

ROOT = Path(__file__).parents[2]
SMALL = {
    "max_iter": 3, "hidden_layer_sizes": (16,), "n_components": 4, "batch_size": 50,
    "device": "cpu",
}  # fmt: skip


def small(seed=0):
    return CMIMEncoder(**SMALL, random_state=seed)


def test_eight_threads_use_one_encoder(mixed):
    encoder = small().fit(mixed)
    loaded = [encoder, joblib.load(_dumped(encoder))]
    calls = [
        lambda e: e.transform(mixed),
        lambda e: e.transform(mixed[:7]),
        lambda e: e.sample(20, random_state=3),
        lambda e: e.sample(5, conditions={"city": "Rome"}, random_state=3),
        lambda e: e.inverse_transform(e.transform(mixed[:50])),
        lambda e: e.score_samples(mixed[:2]),
    ]
    expected = [call(encoder) for call in calls]
    together = threading.Barrier(8)

    def use(i):
        k = i % len(calls)
        together.wait(60)  # all build the network of the loaded encoder at once
        return [[call(e) for call in calls[k:] + calls[:k]] for e in loaded[::-1]]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(use, range(8), timeout=120))
    for i, by_encoder in enumerate(found):
        k = i % len(calls)
        for results in by_encoder:
            for result, wanted in zip(results, expected[k:] + expected[:k], strict=True):
                if isinstance(wanted, pd.DataFrame):
                    pd.testing.assert_frame_equal(result, wanted, check_exact=True)
                else:
                    np.testing.assert_array_equal(result, wanted)


def _dumped(encoder):
    buffer = io.BytesIO()
    joblib.dump(encoder, buffer)
    buffer.seek(0)
    return buffer


@pytest.mark.parametrize("backend", ["threading", pytest.param("loky", marks=pytest.mark.slow)])
def test_parallel_fits_equal_sequential_fits(backend, mixed):
    before, global_state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(1)  # the number of threads changes the last bits of sums
    try:
        expected = [small(seed).fit(mixed).transform(mixed) for seed in range(4)]
        with joblib.parallel_config(
            backend, inner_max_num_threads=1 if backend == "loky" else None
        ):
            found = joblib.Parallel(n_jobs=2, timeout=120)(
                joblib.delayed(fit_and_count)(seed, mixed) for seed in range(4)
            )
    finally:
        torch.set_num_threads(before)
    assert torch.equal(torch.get_rng_state(), global_state)
    for (Z, n_threads), wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(Z, wanted)
        assert n_threads == 1


def fit_and_count(seed, X):
    return small(seed).fit(X).transform(X), torch.get_num_threads()


@pytest.mark.slow
def test_workers_share_the_cores_by_default():
    """The package does not change the number of threads that loky gives to its workers."""
    counts = joblib.Parallel(n_jobs=2, timeout=120)(
        joblib.delayed(fit_and_count)(seed, make_mixed(60)) for seed in range(2)
    )
    assert all(2 * n <= max(2, joblib.cpu_count()) for _, n in counts)


FORKED = """
import multiprocessing, sys
import numpy as np, torch
from tests.robustness.test_concurrency import small
from tests.helpers import make_mixed

torch.set_num_threads(2)
X = make_mixed(3000)
encoder = small().fit(X)
Z, drawn = encoder.transform(X), encoder.sample(50, random_state=0)

def use(queue):
    same = np.array_equal(encoder.transform(X), Z)
    same &= encoder.sample(50, random_state=0).equals(drawn)
    fitted = small().fit(X)
    queue.put((bool(same), float(np.abs(fitted.transform(X) - Z).max())))

context = multiprocessing.get_context("fork")
queue = context.Queue()
children = [context.Process(target=use, args=(queue,), daemon=True) for _ in range(2)]
for child in children:
    child.start()
print([queue.get(timeout=180) for _ in children])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.slow
def test_a_fork_after_torch_used_threads_does_not_deadlock():
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED], cwd=ROOT, capture_output=True, text=True,
        timeout=200,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    for is_same, gap in ast.literal_eval(run.stdout):
        assert is_same
        assert gap < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", ENCODERS)
def test_fits_of_every_encoder_in_threads_equal_sequential_fits(name, mixed):
    cls = getattr(cmim_sklearn, name)

    def fit(seed):
        return cls(**SMALL, random_state=seed).fit(mixed).transform(mixed)

    expected = [fit(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for found, wanted in zip(pool.map(fit, range(4), timeout=120), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)
