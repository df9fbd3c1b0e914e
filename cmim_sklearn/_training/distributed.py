"""Several processes that train one model together, by torch.distributed.

NOTE: skorch's AccelerateMixin is not used. What it overrides (`train_step_single`, `get_iterator`,
printing) `LatentNet` overrides as well; it shards torch DataLoaders alone; and it puts the module
into a wrapper that has no ``draw_noise``, names weights otherwise and cannot be pickled, to let the
sum of gradients overlap with the backward pass. Here it is of a few hundred thousand numbers: one
sum after it is all there is to do, and the module stays what it was. ``accelerate launch`` starts
such processes all the same.
"""

import warnings
from typing import NamedTuple

import numpy as np
import torch
from torch import distributed

from cmim_sklearn._utils.hashing import hash_of
from cmim_sklearn._utils.stacklevel import user_stacklevel

OF_EACH_PROCESS = {"device", "verbose", "max_iter", "random_state"}
"""Parameters that may differ, or that are told of by themselves."""

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
        """What a function returns in the first process, which alone calls it.

        Raises
        ------
        Exception
            What the function raised; in the other processes a RuntimeError that tells it.
        """
        if self.size == 1:
            return function()
        found, error = None, None
        if self.rank == 0:
            try:
                found = function()
            except Exception as failure:  # the others wait: told first, raised then
                error = failure
        shared = [(found, None if error is None else f"{type(error).__name__}: {error}")]
        distributed.broadcast_object_list(shared)
        if error is not None:
            raise error
        found, told = shared[0]
        if told is not None:
            raise RuntimeError(f"The first process failed: {told}")
        return found

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
        differing = self._differing(
            {
                **_plain_parameters(net),
                "random_state (give an int)": net.seed,
                "max_iter": net.max_epochs,
                "X (each takes its part of the same rows by itself)": _hash_of_rows(tables[0]),
                "the rows held out": _hash_of_rows(tables[1]),
                "the network": hash_of(net.module_.state_dict()),
            }
        )
        if differing:
            raise ValueError(
                "Processes that train together must call fit with the same parameters and rows. "
                f"They differ in {'; '.join(differing)}."
            )
        # After the exchange, so that all of them raise.
        for table, what in zip(tables, ("train on", "hold out"), strict=True):
            if table is not None and len(table) < LEAST_ROWS * self.size:
                raise ValueError(
                    f"{len(table)} rows to {what} are too few for {self.size} processes, which "
                    f"take {LEAST_ROWS} each. Start fewer, or leave 'data_parallel' out."
                )

    def warn_if_apart(self, net):
        """Warn, in every process, where they ended with other weights."""
        # Not buffers: those of batch normalisation are of each process's own rows.
        weights = dict(net.module_.named_parameters())
        if self.size > 1 and self._differing({"weights": hash_of(weights)}):
            warnings.warn(
                "Processes that trained together ended with different weights: their machines "
                "compute differently, or a callback or parameter of net_params differed. Use the "
                "first process's encoder.",
                UserWarning,
                stacklevel=user_stacklevel(),
            )

    def _differing(self, own):
        """Names of values that are not the same in all processes; all get the same answer."""
        everyone = [None] * self.size
        distributed.all_gather_object(everyone, own)
        names = {name: None for other in everyone for name in other}
        return [name for name in names if len({other.get(name) for other in everyone}) > 1]


def _plain_parameters(net):
    """What a fit was asked for, as far as it is plain: names and how Python writes the values."""
    asked = dict(net.origin["parameters"])
    own = asked.pop("net_params", None) or {}
    asked |= {f"net_params: {name}": value for name, value in own.items()}
    return {
        name: repr(value)
        for name, value in asked.items()
        if name not in OF_EACH_PROCESS and _is_plain(value)
    }


def _is_plain(value):
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return isinstance(value, bool | int | float | str | None)


def _hash_of_rows(table):
    return hash_of({} if table is None else table.identity())
