"""Baselines of `benchmarks.speed.run`: the same network in plain PyTorch."""

import torch
from torch import nn

from cmim_sklearn._models.inference import CHUNK_ROWS
from cmim_sklearn.objectives import cmim


def bare_loop(model, x, encoder, n_epochs):
    """Training in plain PyTorch: no callbacks, schedule or history."""
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
    """Matrix products of the linear layers: the least that an epoch can cost.

    Forward, and backward to the weights and, except for the first layer, to the input.
    """
    layers = [part for part in model.modules() if isinstance(part, nn.Linear)]
    batch = [(layer.weight, torch.randn(batch_size, layer.in_features)) for layer in layers]
    for _ in range(n_epochs * n_rows // batch_size):
        for i, (weight, x) in enumerate(batch):
            out = x @ weight.T
            out.T @ x
            if i:
                out @ weight


@torch.no_grad()
def bare_pass(model, inputs, out):
    """Write the hidden layers of encoder and decoder into an array."""
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
