"""Several processes that train one model together, by torch.distributed.

NOTE: skorch's AccelerateMixin is not used. What it overrides (`train_step_single`, `get_iterator`,
printing) `LatentNet` overrides as well; it shards torch DataLoaders alone; and it puts the module
into a wrapper that has no ``draw_noise``, names weights otherwise and cannot be pickled, to let the
sum of gradients overlap with the backward pass. Here it is of a few hundred thousand numbers: one
sum after it is all there is to do, and the module stays what it was. ``accelerate launch`` starts
such processes all the same.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import distributed

from cmim_sklearn.hashing import hash_of

LEAST_ROWS = 2
"""Of a batch, for each process: one row has nothing to be told from."""


class World(NamedTuple):
    """The processes of a fit, as one of them sees them; by default there is no other.

    Attributes
    ----------
    rank : int
        Of this process.
    size : int
        How many there are.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def initialized(cls) -> "World":
        """The world of torch.distributed.

        Raises
        ------
        ValueError
            Where there is none.
        """
        if not (distributed.is_available() and distributed.is_initialized()):
            raise ValueError(
                "net_params={'data_parallel': True} needs the processes of torch.distributed, and "
                "there are none. Start the script by torchrun or 'accelerate launch', and call "
                "torch.distributed.init_process_group() before fit; or leave 'data_parallel' out, "
                "to train in this process alone."
            )
        return cls(distributed.get_rank(), distributed.get_world_size())

    def part(self, index):
        """What this process has of an index (n,); parts are disjoint, near-equal and complete."""
        return index.tensor_split(self.size)[self.rank]

    def seed(self, shared) -> int:
        """A seed of this process's own, from one that all share."""
        if self.size == 1:
            return shared
        return int(np.random.RandomState([shared, self.rank]).randint(2**31 - 1))

    def total(self, values, device) -> list[float]:
        """Sums of numbers over all processes, the same everywhere to the bit."""
        if self.size == 1:
            return values
        values = torch.tensor(values, dtype=torch.float64, device=device)
        distributed.all_reduce(values)
        return values.tolist()

    def average_gradients(self, module, n_rows):
        """Put the mean over all rows in the place of gradients that are means over n_rows here."""
        if self.size == 1:
            return
        gradients = [w.grad for w in module.parameters() if w.grad is not None]
        flat = torch.cat([*(g.flatten() for g in gradients), gradients[0].new_ones(1)])
        flat *= n_rows
        distributed.all_reduce(flat)
        means = (flat[:-1] / flat[-1]).split([g.numel() for g in gradients])
        for gradient, mean in zip(gradients, means, strict=True):
            gradient.copy_(mean.view_as(gradient))

    def from_first(self, function):
        """What a function returns in the first process, which alone calls it."""
        if self.size == 1:
            return function()
        found = [function() if self.rank == 0 else None]
        distributed.broadcast_object_list(found)
        return found[0]

    def check_alike(self, net, *tables):
        """Raise, in every process, where they did not come with the same fit to the same rows.

        Parameters
        ----------
        net : LatentNet
        *tables : EncodedTable or None
            Rows to train on and rows held out.

        Raises
        ------
        ValueError
            With what differs, or if there are too few rows for so many processes.
        """
        if self.size == 1:
            return
        for table, what in zip(tables, ("train on", "hold out"), strict=True):
            if table is not None and len(table) < LEAST_ROWS * self.size:
                raise ValueError(
                    f"{len(table)} rows to {what} are too few for {self.size} processes, which "
                    f"take {LEAST_ROWS} each. Start fewer, or leave 'data_parallel' out."
                )
        own = {
            "random_state (give an int)": net.seed,
            "max_iter": net.max_epochs,
            "batch_size": net.batch_size,
            "X (each takes its part of the same rows by itself)": _hash_of_rows(tables[0]),
            "the rows held out": _hash_of_rows(tables[1]),
            "the network": hash_of(net.module_.state_dict()),
        }
        everyone = [None] * self.size
        distributed.all_gather_object(everyone, own)
        differing = [name for name in own if len({other[name] for other in everyone}) > 1]
        if differing:
            raise ValueError(
                "Processes that train together must call fit with the same parameters and rows. "
                f"They differ in {'; '.join(differing)}."
            )


def _hash_of_rows(table):
    return hash_of({} if table is None else table.identity())
