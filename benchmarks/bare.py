"""What `benchmarks.speed` measures the library against: the same network without it.

Training by a bare loop, by skorch as it comes and by pythae; and the bare forward pass.
"""

import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import skorch
import torch
from torch import nn

from benchmarks import rivals
from benchmarks.stopwatch import Cost
from cmim_sklearn._models.inference import CHUNK_ROWS
from cmim_sklearn.objectives import cmim


def bare_loop(model, x, encoder, n_epochs):
    """Train as anyone would in twenty lines: no callback, no schedule, no history."""
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


@torch.no_grad()
def bare_products(model, n_rows, batch_size, n_epochs):
    """The products of matrices that training cannot do without: nobody's epoch costs less.

    Of each linear layer, forwards, and backwards to its weights and to what came before it, which
    of the first layer nobody needs.
    """
    layers = [part for part in model.modules() if isinstance(part, nn.Linear)]
    batch = [(layer.weight, torch.randn(batch_size, layer.in_features)) for layer in layers]
    for _ in range(n_epochs * n_rows // batch_size):
        for i, (weight, x) in enumerate(batch):
            out = x @ weight.T
            out.T @ x
            if i:
                out @ weight


class DrawsNoise(nn.Module):
    """A model as stock skorch calls one: with a batch alone."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x, self.model.draw_noise(x, None))


class Loss(nn.Module):
    """The loss as stock skorch calls one: with a target, which there is none of."""

    def forward(self, passed, target):
        return sum(cmim(passed).values()).mean()


def stock_net(model, encoder, n_epochs):
    """skorch as it comes, row by row through its data loader."""
    return skorch.NeuralNet(
        DrawsNoise(model),
        Loss,
        max_epochs=n_epochs,
        batch_size=encoder.batch_size,
        iterator_train__shuffle=True,
        train_split=None,
        optimizer=torch.optim.AdamW,
        optimizer__lr=encoder.learning_rate_init,
        optimizer__weight_decay=encoder.alpha,
        optimizer__fused=True,
        verbose=0,
    )


def pythae_epochs(python, x, encoder, batch_size, n_epochs, threads) -> Cost:
    """What as many epochs of a VAE of the same layers take in pythae, under its own python."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "rows.npy", x)
        sizes = {
            "hidden_layer_sizes": encoder.hidden_layer_sizes,
            "n_components": encoder.n_components,
            "batch_size": batch_size,
            "learning_rate": encoder.learning_rate_init,
            "epochs": n_epochs,
            "threads": threads,
        }
        (Path(folder) / "sizes.json").write_text(json.dumps(sizes))
        command = [str(python), str(rivals.HERE / "pythae" / "epochs.py"), folder]
        took = last_json(command, cwd=folder, env=rivals.surroundings(threads))
    return Cost(took["cpu"], took["wall"])


@torch.no_grad()
def bare_pass(model, inputs, out):
    """Write the hidden layers of encoder and decoder into an array, as anyone would."""
    for first in range(0, len(inputs), CHUNK_ROWS):
        h, start = inputs[first : first + CHUNK_ROWS], 0
        rows = torch.from_numpy(out[first : first + CHUNK_ROWS])
        for network in (model.encoder, model.decoder):
            for block in network.body:
                h = block(h)
                rows[:, start : start + h.shape[1]] = h
                start += h.shape[1]
            if network is model.encoder:
                h = model.posterior.inference(network.output(h)).mean


def last_json(command, **options):
    """The last line of what a process prints, which is JSON."""
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode:
        raise RuntimeError(
            f"{Path(command[0]).name} ended with code {done.returncode}:\n"
            f"{rivals.last_lines(done.stderr)}"
        )
    return json.loads(done.stdout.strip().splitlines()[-1])
