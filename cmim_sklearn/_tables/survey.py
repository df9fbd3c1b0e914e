"""Survey of Parquet files larger than memory: column summaries and a sample, in one pass."""

import hashlib
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from cmim_sklearn._tables.kinds import choose_kinds, new_summaries
from cmim_sklearn._tables.read import CATEGORY, as_objects, read
from cmim_sklearn._tables.wide import distinct, is_exact_object

MAX_LEVELS = 2**20
MAX_CHUNKS = 64
"""Number of chunks of the sample after which they are joined, to merge their dictionaries."""


class Survey(NamedTuple):
    """Facts about all rows of a table, and a uniform sample of them.

    Attributes
    ----------
    positions : array of shape (n_sample,)
        Positions of the sampled rows, in order.
    sample : pyarrow.Table
    others : pyarrow.Table
        Rows that were requested by their positions.
    summaries : list of ColumnSummary
        Summaries of all rows, one for each column.
    digest : bytes
        Hash of all rows, in their order.
    n_rows : int
        Number of all rows.
    """

    positions: np.ndarray
    sample: Any
    others: Any
    summaries: list
    digest: bytes
    n_rows: int


def survey(source, n_sample, seed, categorical_features, likelihoods, others=()):
    """Read all rows of a `ParquetTable` once.

    Parameters
    ----------
    source : ParquetTable
    n_sample : int
        Maximum number of rows to sample.
    seed : int
    categorical_features, likelihoods
        See `Table.fit`.
    others : array of int, default=()
        Sorted positions of further rows to return.

    Returns
    -------
    Survey

    Raises
    ------
    ValueError
        If a column of categories has more than 1,048,576 levels.
    """
    rng = np.random.default_rng(seed)
    n_sample = min(n_sample, source.n_rows)
    positions = np.sort(rng.choice(source.n_rows, n_sample, replace=False, shuffle=False))
    sample, further = _Rows(positions), _Rows(others)
    summaries, digest = None, hashlib.sha256()
    for group in source.groups:
        for first, part in source.parts(group):
            frame = read(part, first_row=first)
            if summaries is None:
                kinds = choose_kinds(frame, categorical_features, likelihoods)
                summaries = new_summaries(frame, kinds)
            for p, (values, summary) in enumerate(zip(frame.columns, summaries, strict=True)):
                summary.add(values, first)
                if len(summary.counts) > MAX_LEVELS:
                    raise ValueError(
                        f"Column {frame.name(p)!r} has more than {MAX_LEVELS} levels; it may be an "
                        "ID. Leave it out with columns=[...]."
                    )
                is_object = values.dtype == object
                digest.update(repr(values.tolist()).encode() if is_object else values.tobytes())
            sample.add(first, part)
            further.add(first, part)
    found = sample.table(), further.table()
    return Survey(positions, *found, summaries, digest.digest(), source.n_rows)


class _Rows:
    """Rows at some sorted positions, collected from consecutive parts of a table."""

    def __init__(self, positions):
        self.positions, self.chunks = np.asarray(positions, dtype=int), []

    def add(self, first, part):
        """Take the rows of a part, whose first row is at position `first`."""
        ends = np.searchsorted(self.positions, [first, first + len(part)])
        self.chunks.append(part.take(self.positions[slice(*ends)] - first))
        if len(self.chunks) == MAX_CHUNKS:
            self.chunks = [self.table().unify_dictionaries()]

    def table(self):
        """All rows so far."""
        import pyarrow as pa

        return pa.concat_tables(self.chunks)


def with_extremes(frame, summaries):
    """Sample to fit scalings to; columns constant in it also get the extremes of all rows."""
    columns = [
        values
        if kind == CATEGORY or not summary.n_seen or len(distinct(values)) > 1
        else _with_ends(values, summary.low, summary.high)
        for values, kind, summary in zip(frame.columns, frame.types, summaries, strict=True)
    ]
    return replace(frame, columns=columns)


def _with_ends(values, low, high):
    if values.dtype.kind in "Mm":
        return np.append(values, np.array([low, high], values.dtype))
    if any(map(is_exact_object, (low, high))):
        return np.concatenate([as_objects(values), np.array([low, high], dtype=object)])
    return np.append(values, [low, high])
