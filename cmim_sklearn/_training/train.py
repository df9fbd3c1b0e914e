"""Train a net on the rows of one fit, and report how training ended."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from torch.utils.data import Dataset

from cmim_sklearn._tables.schema import Table
from cmim_sklearn._tables.target import Target
from cmim_sklearn._training.batched import train_batched
from cmim_sklearn._training.diagnosis import describe_suspect_column
from cmim_sklearn._training.heads import completed
from cmim_sklearn._training.labels import Labels
from cmim_sklearn._training.net import LatentNet, NotFinite

READ_TOGETHER = 10_000
"""Number of rows that `Rows.missing_shares` copies at a time."""


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
        return self.table.measure(self.take(some))

    def missing_shares(self):
        """Share of missing cells in each column of the rows in `encoded`, (n_columns,)."""
        n = len(self.encoded)
        parts = np.array_split(np.arange(n), -(-n // READ_TOGETHER))
        return sum(self.take(part).missing().sum(0) for part in parts) / n

    @property
    def held_out_data(self):
        """Held-out rows as the net takes them, with the columns of labels."""
        if self.held_out is None or self.labels is None:
            return self.held_out
        return np.hstack([self.held_out, self.labels.held_out])


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


def train_at_once(nets, rows, summaries) -> list[Trained | FloatingPointError]:
    """Train nets of one structure at once, summarise each, and train all heads; see `train`.

    Parameters
    ----------
    nets : list of LatentNet
        As `train_batched` takes them.
    rows : list of Rows
    summaries : list of callable

    Returns
    -------
    list of Trained or FloatingPointError
        Outcome of each net. A KeyboardInterrupt is part of the outcome.
    """
    errors = train_batched(nets, [of_net.data for of_net in rows])
    outcomes = [
        _with_column(error, net, of_net) if isinstance(error, NotFinite) else None
        for net, of_net, error in zip(nets, rows, errors, strict=True)
    ]
    good = [i for i, outcome in enumerate(outcomes) if outcome is None]
    found = [summaries[i](nets[i], rows[i]) for i in good]
    for i, values in zip(good, completed(found, nets[0]), strict=True):
        outcomes[i] = Trained(nets[i], values, errors[i])
    return outcomes


def _with_column(error, net, rows):
    """Error about a non-finite loss that names the column that probably caused it."""
    encoded = rows.encoded if error.training else rows.held_out
    column = describe_suspect_column(net.module, rows.table, encoded)
    return FloatingPointError(f"{error} {column}".strip())
