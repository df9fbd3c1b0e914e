"""Time of a fit beside busy processes, on one thread and on several.

    python -m benchmarks.speed.busy [--quick] [--repeats 5] [--max-iter auto]

Each fit runs beside 0, 1, ... busy processes, up to one per core. Rounds are interleaved, so that
other load on the machine meets all cases. Prints the median seconds of each case, and its ratio to
the idle fit on one thread.
"""

import argparse
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

import joblib
import numpy as np

from cmim_sklearn import CMIMEncoder

SPIN = "while True: pass"


@contextmanager
def busy_processes(n):
    """Run n processes that each keep one core busy."""
    processes = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(n)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def seconds(X, n_threads, max_iter):
    """Seconds of one fit."""
    encoder = CMIMEncoder(max_iter=max_iter, random_state=0, net_params={"n_threads": n_threads})
    start = time.perf_counter()
    encoder.fit(X)
    return time.perf_counter() - start


def measure(X, threads, max_iter, repeats):
    """Seconds (repeats,) for each pair of a number of busy processes and a number of threads."""
    cases = [(n_busy, n) for n_busy in range(joblib.cpu_count() + 1) for n in threads]
    found = {case: [] for case in cases}
    for _ in range(repeats):
        for n_busy, n_threads in cases:
            with ExitStack() as stack:
                stack.enter_context(busy_processes(n_busy))
                found[n_busy, n_threads].append(seconds(X, n_threads, max_iter))
    return found


def main():
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small table, one short fit a case")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--max-iter", default="auto", type=lambda n: n if n == "auto" else int(n))
    args = parser.parse_args()
    n_rows, repeats, max_iter = 3000, args.repeats, args.max_iter
    if args.quick:
        n_rows, repeats, max_iter = 300, 1, 2
    X = np.random.default_rng(0).normal(size=(n_rows, 16))
    threads = sorted({1, min(2, joblib.cpu_count())})
    seconds(X[:300], 1, 1)  # imports
    found = {
        case: np.median(times) for case, times in measure(X, threads, max_iter, repeats).items()
    }
    idle = found[0, 1]
    print(f"| busy processes | threads | seconds | x idle on one thread |\n|{4 * '---|'}")
    for (n_busy, n_threads), times in found.items():
        value = np.median(times)
        print(f"| {n_busy} | {n_threads} | {value:.2f} | {value / idle:.2f} |")


if __name__ == "__main__":
    main()
