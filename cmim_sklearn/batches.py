"""Encoded rows as training takes them: whole batches, each one a single lookup."""

import math

import torch
from torch.utils.data import Dataset

from cmim_sklearn.data_parallel import LEAST_ROWS, World


class EncodedTable(Dataset):
    """An encoded table, float32 (n, C), as the data set that skorch passes around."""

    def __init__(self, encoded):
        self.x = torch.as_tensor(encoded)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], torch.zeros(())


class WholeBatches:
    """Iterate over near-equal batches, each one `index_select` from a contiguous tensor.

    n rows make ceil(n / batch_size) batches whose sizes differ by one at most, so that no row's
    contrastive term depends on how many rows the last batch happened to get; none has a single
    row, unless there is only one. Where several processes train together, each takes its part of
    every batch, of two rows or more: their shuffles are the same if their generators are.

    Parameters
    ----------
    x : Tensor of shape (n, C)
    batch_size : int
        The most rows of a batch, of all processes together (3 where 2 is asked for and n is odd).
    generator : torch.Generator or None
        Shuffles the rows anew at each pass; None keeps their order.
    device : torch.device or str
        Where batches go.
    world : World, default=World()
        The processes, and which of them this is.
    """

    def __init__(self, x, batch_size, generator, device, world=World()):  # noqa: B008
        self.x, self.generator, self.device, self.world = x, generator, device, world
        most = len(x) // (LEAST_ROWS * world.size)
        self.n_batches = max(1, min(math.ceil(len(x) / batch_size), most))

    def __len__(self):
        return self.n_batches

    def __iter__(self):
        n = len(self.x)
        if self.generator is None:
            order = torch.arange(n, device=self.x.device)
        else:
            order = torch.randperm(n, generator=self.generator, device=self.generator.device)
            order = order.to(self.x.device)
        for index in order.tensor_split(self.n_batches):
            yield self.x.index_select(0, self.world.part(index)).to(self.device)
