"""Batches of encoded rows: near-equal sizes, one lookup each, from memory or from a stream."""

import math
from concurrent.futures import ThreadPoolExecutor

import torch
from torch.utils.data import Dataset


class EncodedTable(Dataset):
    """Encoded table in memory, float32 (n, C), as skorch's data set."""

    def __init__(self, encoded):
        self.x = torch.as_tensor(encoded)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], torch.zeros((), dtype=torch.float32)

    def identity(self):
        """Named tensors to compare data sets: equal in any process if and only if the rows are."""
        return {"x": self.x}


class StreamedTable(Dataset):
    """Encoded table that is read again in each epoch, part by part.

    Parameters
    ----------
    n_rows : int
    parts : callable
        From a seed to an iterator over encoded parts, tensors (m, C), in an order that depends on
        the seed. The parts together hold each row once. It is called in a thread.
    buffer_rows : int
        Number of rows that are shuffled together.
    identity : dict of Tensor
        See `EncodedTable.identity`.
    """

    def __init__(self, n_rows, parts, buffer_rows, identity):
        self.n_rows, self.parts, self.buffer_rows = n_rows, parts, buffer_rows
        self._identity = identity

    def __len__(self):
        return self.n_rows

    def identity(self):
        """See `EncodedTable.identity`."""
        return self._identity


def count_batches(n_rows, batch_size):
    """Number of near-equal batches, each of at least two rows."""
    return max(1, min(math.ceil(n_rows / batch_size), n_rows // 2))


class WholeBatches:
    """Iterate over near-equal batches, each one `index_select` from a contiguous tensor.

    n rows give ceil(n / batch_size) batches, but at most n / 2, whose sizes differ by at most one.
    So no row's contrastive term depends on the size of a small last batch, and no batch has a
    single row unless n is 1.

    Parameters
    ----------
    x : Tensor of shape (n, C)
    batch_size : int
        Maximum number of rows of a batch (2 or 3 if `batch_size` is 1 or 2).
    generator : torch.Generator or None
        Shuffles the rows in each epoch; None keeps their order.
    device : torch.device or str
        Device of the batches.
    """

    def __init__(self, x, batch_size, generator, device):
        self.x, self.generator, self.device = x, generator, device
        self.n_batches = count_batches(len(x), batch_size)

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
            yield self.x.index_select(0, index).to(self.device)


class ShuffledBatches:
    """Iterate over a `StreamedTable` in near-equal batches, shuffled in a buffer.

    Parts come in random order, and the rows in the buffer are shuffled. The buffer is refilled when
    half of it is used, so that rows of neighbouring parts meet in a batch.

    Parameters
    ----------
    table : StreamedTable
    batch_size, device
        See `WholeBatches`.
    generator : torch.Generator
        Gives each epoch its seed.
    """

    def __init__(self, table, batch_size, generator, device):
        self.table, self.generator, self.device = table, generator, device
        self.n_batches = count_batches(len(table), batch_size)

    def __len__(self):
        return self.n_batches

    def __iter__(self):
        device = self.generator.device
        seed = int(torch.randint(2**31 - 1, (), generator=self.generator, device=device))
        generator = torch.Generator().manual_seed(seed)
        parts = _prefetched(self.table.parts(seed))
        small, n_larger = divmod(len(self.table), self.n_batches)
        rows, is_all = None, False
        for i in range(self.n_batches):
            size = small + (i < n_larger)
            if not is_all and (rows is None or len(rows) < max(size, self.table.buffer_rows // 2)):
                rows, is_all = _refilled(rows, parts, max(size, self.table.buffer_rows))
                rows = rows[torch.randperm(len(rows), generator=generator)]
            yield rows[:size].to(self.device)
            rows = rows[size:]


def _refilled(rows, parts, n_wanted):
    """Rows with those of further parts, at least n_wanted if enough; whether all parts are used."""
    held, n = ([], 0) if rows is None else ([rows], len(rows))
    for part in parts:
        held.append(part)
        n += len(part)
        if n >= n_wanted:
            return torch.cat(held), False
    return torch.cat(held), True


def _prefetched(parts):
    """Iterate over parts, while a thread computes the next one."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, parts, None)
        while (part := coming.result()) is not None:
            coming = thread.submit(next, parts, None)
            yield part
