"""What the estimator's training costs beside a bare PyTorch loop of the same network.

    python benchmarks/training_speed.py [--rows 20000] [--columns 30] [--epochs 3] [--repeats 7]

Both train the same `LatentModel` on the same encoded rows, with the same batches, objective and
AdamW; the bare loop has no skorch, no callbacks, no schedule object and no history. Runs are
interleaved in one process, and the figure is the median ratio of CPU times of neighbouring runs.
"""

import argparse
import time

import numpy as np
import torch

from cmim_sklearn import CMIMEncoder
from cmim_sklearn.frames import read
from cmim_sklearn.net import EncodedTable
from cmim_sklearn.objectives import cmim


def bare_loop(model, x, encoder, n_epochs):
    """Train as anyone would in twenty lines."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=encoder.learning_rate_init, weight_decay=encoder.alpha, fused=True
    )
    generator = torch.Generator().manual_seed(0)
    model.train()
    for _ in range(n_epochs):
        n_batches = -(-len(x) // encoder.batch_size)
        for index in torch.randperm(len(x), generator=generator).tensor_split(n_batches):
            batch = x[index]
            terms = cmim(model(batch, model.draw_noise(batch, generator)))
            loss = sum(terms.values()).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def cpu_seconds(function, *args):
    start = time.process_time(), time.perf_counter()
    function(*args)
    return time.process_time() - start[0], time.perf_counter() - start[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--columns", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    X = np.random.RandomState(0).randn(args.rows, args.columns)
    encoder = CMIMEncoder(max_iter=args.epochs, random_state=0)
    table = encoder._fit_table(read(X))
    x = table.encode(read(X))

    def model():
        return encoder._build_model(table.likelihood, encoder._architecture(), 0)

    def ours():
        encoder._make_net(model(), args.epochs, 0).partial_fit(EncodedTable(x))

    def bare():
        bare_loop(model(), torch.from_numpy(x), encoder, args.epochs)

    ours(), bare()  # warm up
    rows = []
    for _ in range(args.repeats):
        (a_cpu, a_wall), (b_cpu, b_wall) = cpu_seconds(ours), cpu_seconds(bare)
        rows.append((a_cpu / b_cpu, a_wall / b_wall, args.rows * args.epochs / a_wall))
    cpu, wall, rate = np.array(rows).T
    print(f"{args.rows} x {args.columns}, {args.epochs} epochs, {torch.get_num_threads()} threads")
    for name, values in {"CPU time": cpu, "wall time": wall}.items():
        print(
            f"{name}, ours / bare loop: median {np.median(values):.3f} "
            f"({values.min():.3f} to {values.max():.3f})"
        )
    print(f"rows per second: {np.median(rate):,.0f}")


if __name__ == "__main__":
    main()
