"""Time of a fit beside busy processes, on one thread and on two.

    python -m benchmarks.speed.busy [--quick] [--repeats 5] [--out DIR]

Each fit runs beside 0, 1, ... busy processes, up to one per core. Prints the median seconds of each
case, and its ratio to the idle fit on one thread.
"""

import subprocess
import sys
from functools import partial
from itertools import product

import joblib
import numpy as np
import pandas as pd

from benchmarks.speed.stopwatch import interleave
from benchmarks.tools import markdown, parser, save
from cmim_sklearn import CMIMEncoder


def fit(X, max_iter, n_busy, n_threads):
    """Fit beside processes that each keep one core busy."""
    spin = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(spin) for _ in range(n_busy)]
    try:
        params = {"max_iter": max_iter, "net_params": {"n_threads": n_threads}}
        CMIMEncoder(random_state=0, **params).fit(X)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def main(arguments=None):
    options = parser(__doc__)
    options.add_argument("--repeats", type=int, default=5)
    args = options.parse_args(arguments)
    n_rows, repeats, max_iter = (300, 1, 2) if args.quick else (3000, args.repeats, "auto")
    X, n_cores = np.random.default_rng(0).normal(size=(n_rows, 16)), joblib.cpu_count()
    cases = product(range(n_cores + 1), sorted({1, min(2, n_cores)}))
    costs = interleave({case: partial(fit, X, max_iter, *case) for case in cases}, repeats)
    rows = [(*case, np.median([cost.wall for cost in own])) for case, own in costs.items()]
    table = pd.DataFrame(rows, columns=["busy processes", "threads", "seconds"])
    table["x idle on one thread"] = table["seconds"] / table["seconds"][0]
    print(markdown(table.set_index("busy processes"), digits=2))
    save(table, args.out, "busy.csv")


if __name__ == "__main__":
    main()
