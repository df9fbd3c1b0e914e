"""Encoded rows as training takes them: whole batches, each one a single lookup."""

import math
from concurrent.futures import ThreadPoolExecutor

import torch
from torch.utils.data import Dataset


class EncodedTable(Dataset):
    """An encoded table, float32 (n, C), as the data set that skorch passes around."""

    def __init__(self, encoded):
        self.x = torch.as_tensor(encoded)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], torch.zeros(())

    def identity(self):
        """Arrays by which another process tells whether it has the same rows."""
        return {"x": self.x}


class StreamedTable(Dataset):
    """An encoded table that is read anew at each pass, a part of its rows at a time.

    Parameters
    ----------
    n_rows : int
    parts : callable
        From a seed to an iterator over encoded parts, tensors (m, C), in an order of that seed;
        all rows together. It is run in a thread of its own.
    buffer_rows : int
        How many rows are shuffled at a time.
    identity : dict of Tensor
        By which another process tells whether it has the same rows.
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
    """How many near-equal batches rows make, of two rows or more."""
    return max(1, min(math.ceil(n_rows / batch_size), n_rows // 2))


class WholeBatches:
    """Iterate over near-equal batches, each one `index_select` from a contiguous tensor.

    n rows make ceil(n / batch_size) batches whose sizes differ by one at most, so that no row's
    contrastive term depends on how many rows the last batch happened to get; none has a single
    row, unless there is only one.

    Parameters
    ----------
    x : Tensor of shape (n, C)
    batch_size : int
        The most rows of a batch (3 where 2 is asked for and n is odd).
    generator : torch.Generator or None
        Shuffles the rows anew at each pass; None keeps their order.
    device : torch.device or str
        Where batches go.
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
    """Iterate over a `StreamedTable` in near-equal batches, as `WholeBatches` are, from a buffer.

    Rows come in an order of parts, and are shuffled among those that the buffer holds at the same
    time; half of them go before the next are read, so that each meets rows of before and after.

    Parameters
    ----------
    table : StreamedTable
    batch_size, generator, device
        As in `WholeBatches`; the generator gives each pass its seed.
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
        parts = ahead(self.table.parts(seed))
        small, n_larger = divmod(len(self.table), self.n_batches)
        rows, is_all = None, False
        for i in range(self.n_batches):
            size = small + (i < n_larger)
            if not is_all and (rows is None or len(rows) < max(size, self.table.buffer_rows // 2)):
                rows, is_all = _filled(rows, parts, max(size, self.table.buffer_rows))
                rows = rows[torch.randperm(len(rows), generator=generator)]
            yield rows[:size].to(self.device)
            rows = rows[size:]


def _filled(rows, parts, n_wanted):
    """Rows and those of the parts that follow, until there are enough; whether these are all."""
    held, n = ([], 0) if rows is None else ([rows], len(rows))
    for part in parts:
        held.append(part)
        n += len(part)
        if n >= n_wanted:
            return torch.cat(held), False
    return torch.cat(held), True


def ahead(parts):
    """Each of an iterator's parts, with the next one worked out in a thread meanwhile."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, parts, None)
        while (part := coming.result()) is not None:
            coming = thread.submit(next, parts, None)
            yield part
