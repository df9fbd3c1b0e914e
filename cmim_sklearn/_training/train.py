"""Train a net on the rows of one fit, and report how training ended."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from cmim_sklearn._tables.schema import Table
from cmim_sklearn._tables.target import Target
from cmim_sklearn._training.batched import train_batched
from cmim_sklearn._training.diagnosis import describe_suspect_column
from cmim_sklearn._training.heads import completed, fill_memory
from cmim_sklearn._training.labels import Labels
from cmim_sklearn._training.net import LatentNet, NotFinite

READ_TOGETHER = 5_000
"""Number of rows that methods of `Rows` copy at a time."""


class Rows(NamedTuple):
    """Rows of one fit.

    Attributes
    ----------
    table : Table
        Schema of the rows.
    data : Dataset
        All rows to train on, as `LatentNet` takes them.
    encoded : array of shape (n, C)
        Training rows in memory, encoded: all of them, or a sample.
    take : callable
        From positions in `encoded` to the `Frame` of these rows.
    held_out : array of shape (n_held_out, C) or None
        Encoded rows for early stopping.
    seed : int
        Seed of the fit.
    target : Target or None
        Target of the rows, if labels are used.
    labels : Labels or None
        Labels in training; None also if there are too few. `data` then has their columns.
    """

    table: Table
    data: Dataset
    encoded: np.ndarray
    take: Callable
    held_out: np.ndarray | None
    seed: int
    target: Target | None = None
    labels: Labels | None = None

    def measure(self, some):
        """Measured cells of the rows at some positions in `encoded`, see `Table.measure`."""
        parts = [self.table.measure(self.take(part)) for part in _parts(some)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def missing_shares(self):
        """Share of missing cells in each column of the rows in `encoded`, (n_columns,)."""
        n = len(self.encoded)
        return sum(self.take(part).missing().sum(0) for part in _parts(np.arange(n))) / n

    @property
    def held_out_data(self):
        """Held-out rows as the net takes them, with the columns of labels."""
        if self.held_out is None or self.labels is None:
            return self.held_out
        return np.hstack([self.held_out, self.labels.held_out])


def _parts(positions):
    """Positions in arrays of at most `READ_TOGETHER`."""
    return np.array_split(positions, -(-len(positions) // READ_TOGETHER))


class Trained(NamedTuple):
    """Outcome of training.

    Attributes
    ----------
    net : LatentNet
    summary : dict
        Fitted attributes, by name, that were read from the trained net, with its heads.
    interruption : KeyboardInterrupt or None
        Interruption that ended training early.
    """

    net: LatentNet
    summary: dict
    interruption: KeyboardInterrupt | None


def train(net: LatentNet, rows: Rows, summarise: Callable, *, keep_interrupted=True) -> Trained:
    """Train a net on rows, then summarise it, and train its heads.

    Parameters
    ----------
    net : LatentNet
        Initialised.
    rows : Rows
    summarise : callable
        From net and rows to the `Summary` of the net.
    keep_interrupted : bool, default=True
        Whether to return a KeyboardInterrupt instead of raising it, so that the caller can keep
        what was learnt before.

    Returns
    -------
    Trained

    Raises
    ------
    FloatingPointError
        If the loss is not finite, even at lower learning rates; the message names a column.
    """
    try:
        try:
            net.partial_fit(rows.data)
        except NotFinite as error:
            raise _with_column(error, net, rows) from None
        return Trained(net, *completed([summarise(net, rows)], net), None)
    except KeyboardInterrupt as interruption:
        if not keep_interrupted:
            raise
        return Trained(net, *completed([summarise(net, rows)], net), interruption)


def train_one(nets, rows, summaries) -> list[Trained]:
    """Train a net, with the arguments of `train_at_once`: lists of one."""
    (net,), (of_net,), (summarise,) = nets, rows, summaries
    return [train(net, of_net, summarise)]


def train_at_once(nets, rows, summaries) -> list[Trained | Exception]:
    """Train nets of one structure at once, summarise each, and train heads; see `train`.

    Heads train at once, too, as long as their rows fit into memory.

    Parameters
    ----------
    nets : list of LatentNet
        As `train_batched` takes them.
    rows : list of Rows
    summaries : list of callable

    Returns
    -------
    list of Trained or Exception
        Outcome of each net: a FloatingPointError, or an error after training. A KeyboardInterrupt
        in training is part of the outcome.

    Raises
    ------
    torch.cuda.OutOfMemoryError
        If fewer nets may fit into memory.
    """
    errors = train_batched(nets, [of_net.data for of_net in rows])
    outcomes = [
        _with_column(error, net, of_net) if isinstance(error, NotFinite) else None
        for net, of_net, error in zip(nets, rows, errors, strict=True)
    ]
    good, waiting = [i for i, outcome in enumerate(outcomes) if outcome is None], {}
    for i in good:
        found = _result_or_error(summaries[i], nets[i], rows[i])
        if isinstance(found, Exception):
            outcomes[i] = found
        else:
            waiting[i] = found
        if waiting and (i == good[-1] or fill_memory(waiting.values(), nets[0])):
            values = _result_or_error(completed, list(waiting.values()), nets[0])
            for k, j in enumerate(waiting):
                is_error = isinstance(values, Exception)
                outcomes[j] = values if is_error else Trained(nets[j], values[k], errors[j])
            waiting = {}
    return outcomes


def _result_or_error(function, *args):
    """Result of a function, or the error that it raised; a lack of memory of a GPU is raised."""
    try:
        return function(*args)
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # which is not one of the other members
        return error


def _with_column(error, net, rows):
    """Error about a non-finite loss that names the column that probably caused it."""
    encoded = rows.encoded if error.training else rows.held_out
    column = describe_suspect_column(net.module, rows.table, encoded)
    return FloatingPointError(f"{error} {column}".strip())
