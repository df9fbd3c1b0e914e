"""Which columns a table has and of which kind; a raw table in, one float32 (n, C) out, and back."""

import warnings
from dataclasses import dataclass
from numbers import Integral

import numpy as np

from cmim_sklearn._likelihoods.joint import LIKELIHOODS, Joint
from cmim_sklearn._tables.dtypes import Layout, integer_bounds
from cmim_sklearn._tables.read import (
    BOOLEAN,
    CATEGORY,
    Frame,
    as_numbers,
    as_objects,
    column_name,
    is_missing,
    read,
    read_objects,
)
from cmim_sklearn._tables.write import write
from cmim_sklearn._utils.messages import listed, shown
from cmim_sklearn._utils.stacklevel import user_stacklevel

MAX_TOLD = 10
"""Columns that a warning of values never seen names."""


@dataclass(frozen=True)
class Block:
    """The columns of one kind.

    Attributes
    ----------
    kind : str
        A key of `LIKELIHOODS`.
    positions : list of int
        Which columns of the raw table, in their order.
    """

    kind: str
    positions: list


class Table:
    """The schema of a table, learnt in fit.

    The encoded table has one float32 per cell, NaN where unobserved, and its columns stand in
    blocks of one kind each.

    Attributes
    ----------
    layout : Layout
        Names and dtypes, as they came.
    types : list of {"number", "boolean", "category"}
        What the values of each column are.
    blocks : list of Block
    likelihood : Joint
        p(x | z) of all encoded columns.
    """

    def __init__(self, layout, types, blocks, likelihood):
        self.layout = layout
        self.types = types
        self.blocks = blocks
        self.likelihood = likelihood

    @classmethod
    def fit(
        cls,
        frame: Frame,
        *,
        categorical_features="from_dtype",
        numeric_scaling="quantile",
        max_categories=256,
        likelihoods=None,
        summaries=None,
    ):
        """Choose a kind for each column and learn its encoding; the parameters are CMIMEncoder's.

        Where the frame is a sample, ``summaries`` has a `ColumnSummary` of all rows a column.

        Raises
        ------
        ValueError
            If `categorical_features` or `likelihoods` names what is not there, or a kind that does
            not fit a column's values.
        """
        kinds = choose_kinds(frame, categorical_features, likelihoods, summaries)
        blocks, parts = [], []
        for kind, likelihood in LIKELIHOODS.items():
            positions = [p for p, k in enumerate(kinds) if k == kind]
            if positions:
                columns = [_as_kind(frame, p, likelihood) for p in positions]
                labels = [frame.name(p) for p in positions]
                options = {"numeric_scaling": numeric_scaling, "max_categories": max_categories}
                if summaries is not None:
                    options["summaries"] = [summaries[p] for p in positions]
                blocks.append(Block(kind, positions))
                parts.append(likelihood.fit(columns, labels, **options))
        return cls(frame.layout, list(frame.types), blocks, Joint(parts))

    def state(self):
        """Return all that was learnt, as JSON values and arrays; `from_state` reads it."""
        return {
            "layout": self.layout.state(),
            "types": list(self.types),
            "blocks": [
                {"kind": block.kind, "positions": list(block.positions), "fitted": part.state()}
                for block, part in zip(self.blocks, self.likelihood.blocks, strict=True)
            ],
        }

    @classmethod
    def from_state(cls, state):
        """Make a table from what `state` returned."""
        blocks = [Block(b["kind"], b["positions"]) for b in state["blocks"]]
        parts = [LIKELIHOODS[b["kind"]](**b["fitted"]) for b in state["blocks"]]
        return cls(Layout(**state["layout"]), state["types"], blocks, Joint(parts))

    def encode(self, frame: Frame, unseen=None):
        """Turn a table that was read into float32 (n, C), C-contiguous.

        A level or value never seen in fit is treated as unobserved, with one warning for all; or
        it is noted in `unseen`, a dict by position, for `warn_of_unseen`.
        """
        parts, noted = [], {} if unseen is None else unseen
        for block, likelihood in zip(self.blocks, self.likelihood.blocks, strict=True):
            columns = [_as_kind(frame, p, likelihood) for p in block.positions]
            encoded = likelihood.encode(columns)
            parts.append(encoded)
            if likelihood.has_levels:
                for c in np.flatnonzero((encoded == -1).any(0)):
                    values = columns[c][encoded[:, c] == -1]
                    p = block.positions[c]
                    _, before = noted.get(p, ("", ()))
                    few = {shown(v) for v in values.tolist()}.union(before)
                    noted[p] = frame.name(p), sorted(few)[:3]
        if unseen is None:
            warn_of_unseen(noted)
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def measure(self, frame: Frame):
        """Turn a table that was read into what densities need, float32 (n, n_cells).

        A level never seen in fit is no hole here: it has a small probability of its own.
        """
        parts = []
        for block, likelihood in zip(self.blocks, self.likelihood.blocks, strict=True):
            cells = likelihood.measure([_as_kind(frame, p, likelihood) for p in block.positions])
            parts.append(cells.reshape(len(cells), -1))
        return np.ascontiguousarray(np.concatenate(parts, axis=1))

    def cells_of(self, position):
        """Where the cells of the raw column at a position stand in what `measure` returns."""
        start = 0
        for block, likelihood in zip(self.blocks, self.likelihood.blocks, strict=True):
            if position in block.positions:
                start += block.positions.index(position) * likelihood.cell_width
                return slice(start, start + likelihood.cell_width)
            start += len(block.positions) * likelihood.cell_width
        raise IndexError(position)

    def encoded_names(self):
        """Names (positions, where there are none) of the columns of what `encode` returns."""
        names = self.layout.names
        return [column_name(names, p) for block in self.blocks for p in block.positions]

    def in_order(self, decoded):
        """Raw columns in block order, as kinds decode them, in the table's order."""
        columns = [None] * len(self.types)
        positions = [p for block in self.blocks for p in block.positions]
        for position, values in zip(positions, decoded, strict=True):
            is_category = self.types[position] == CATEGORY
            columns[position] = values if is_category else as_numbers(values, position)
        return columns

    def raw_columns(self, encoded, *, drawn=False):
        """Turn encoded cells (n, C) into raw columns (n,); see `Likelihood.decode` for draws."""
        decoded, start = [], 0
        for likelihood in self.likelihood.blocks:
            stop = start + likelihood.n_columns
            decoded += likelihood.decode(encoded[:, start:stop], drawn=drawn)
            start = stop
        return self.in_order(decoded)

    def decode(self, encoded, index=None, *, drawn=False):
        """Turn encoded cells (n, C) into a table like the one fitted."""
        return write(self.layout, self.raw_columns(encoded, drawn=drawn), self.types, index)

    def conditions(self, given) -> Frame:
        """Read what `sample` is to hold fixed: a dict of one value a column, or a partial table.

        Raises
        ------
        ValueError
            If a column is unknown, a level was not seen in fit, or a column of whole numbers is
            asked for what it cannot hold.
        """
        n_columns, names = len(self.types), self.layout.names
        if isinstance(given, dict):
            wide = {key: v for key, v in given.items() if np.ndim(v) > 0}
            if wide:
                raise ValueError(
                    f"conditions[{next(iter(wide))!r}] holds {len(next(iter(wide.values())))} "
                    "values; a dict takes one for each column. For several rows give a frame."
                )
            found = {}
            for key, value in given.items():
                p = _position(key, names, n_columns, "conditions")
                value = value.item() if hasattr(value, "item") else value  # numpy's, or torch's
                # A level is kept as it is: True and 1 may be two levels of one column.
                column, _ = read_objects([value], key)
                is_level = self.types[p] == CATEGORY and not is_missing(column)[0]
                found[p] = np.array([value], dtype=object) if is_level else column
            n, index = 1, None
        else:
            frame = read(given)
            keys = frame.layout.names
            if keys is None and len(frame.columns) != n_columns:
                raise ValueError(
                    f"conditions has {len(frame.columns)} columns; an array needs all {n_columns} "
                    "of the table fitted, with NaN where nothing is known."
                )
            positions = range(n_columns)
            if keys is not None:
                positions = [_position(key, names, n_columns, "conditions") for key in keys]
            found = dict(zip(positions, frame.columns, strict=True))
            n, index = frame.n_rows, frame.index
            if n == 0:
                raise ValueError("conditions has no row; leave it out to sample freely.")
        columns = [found.get(p, np.full(n, np.nan)) for p in range(n_columns)]
        frame = Frame(self.layout, columns, self.types, None, index)
        self._check_conditions(frame)
        return frame

    def _check_conditions(self, frame):
        for block, likelihood in zip(self.blocks, self.likelihood.blocks, strict=True):
            if not likelihood.has_levels:
                continue
            columns = [_as_kind(frame, p, likelihood) for p in block.positions]
            encoded = likelihood.encode(columns)
            for c, p in enumerate(block.positions):
                unknown = np.flatnonzero(encoded[:, c] == -1)
                if len(unknown):
                    known = getattr(likelihood, "levels", None) or likelihood.values
                    value = columns[c][unknown[:1]].tolist()[0]
                    raise ValueError(
                        f"conditions asks for {shown(value)} in column {frame.name(p)!r}, "
                        f"which fit never saw there. It saw: {listed(known[c])}."
                    )
        kinds = {p: block.kind for block in self.blocks for p in block.positions}
        for p, values in enumerate(frame.columns):
            bounds = integer_bounds(self.layout.dtype_of(p))
            if kinds[p] == "poisson":
                bounds = max(0, bounds[0] if bounds else 0), bounds[1] if bounds else np.inf
            if values.dtype == object or bounds is None:
                continue
            outside = (values < bounds[0]) | (values > bounds[1])
            wrong = np.flatnonzero(outside | (~np.isnan(values) & (values != np.round(values))))
            if len(wrong):
                raise ValueError(
                    f"conditions asks for {values[wrong[0]]:g} in column {frame.name(p)!r}, which "
                    f"holds whole numbers from {bounds[0]} to {bounds[1]}."
                )

    def impose(self, columns, frame: Frame, rows):
        """Put observed cells of a frame that was read, at its rows (n,), into raw columns (n,)."""
        out = []
        for p, values in enumerate(columns):
            given = frame.columns[p]
            is_level = values.dtype == object
            given = as_objects(given) if is_level else as_numbers(given, frame.name(p))
            given = given[rows]
            out.append(np.where(is_missing(given), values, given))
        return out

    def describe(self):
        """One line a kind: how many columns, and their names."""
        names = self.layout.names
        return {b.kind: [column_name(names, p) for p in b.positions] for b in self.blocks}

    def __repr__(self):
        counts = ", ".join(f"{len(b.positions)} {b.kind}" for b in self.blocks)
        return f"Table({len(self.types)} columns: {counts})"


def warn_of_unseen(unseen):
    """Warn of values never seen in fit, a few by the name of each column that has some."""
    if unseen:
        columns = [f"{name!r} ({', '.join(few)})" for _, (name, few) in sorted(unseen.items())]
        told = ", ".join(columns[:MAX_TOLD])
        if len(columns) > MAX_TOLD:
            told += f" and {len(columns) - MAX_TOLD} more"
        warnings.warn(
            f"Values not seen in fit are treated as missing, in column {told}.",
            UserWarning,
            stacklevel=user_stacklevel(),
        )


def choose_kinds(frame: Frame, categorical_features="from_dtype", likelihoods=None, summaries=None):
    """The kind of each column, a key of `LIKELIHOODS`; the parameters are `Table.fit`'s."""
    n_columns, names = len(frame.columns), frame.layout.names
    kinds = [
        _default_kind(values, kind, summaries and summaries[p])
        for p, (values, kind) in enumerate(zip(frame.columns, frame.types, strict=True))
    ]
    for position in _named_positions(categorical_features, names, n_columns):
        kinds[position] = "categorical"
    for key, kind in (likelihoods or {}).items():
        position = _position(key, names, n_columns, "likelihoods")
        _check_kind(kind, key, frame.types[position])
        kinds[position] = kind
    return kinds


def _default_kind(values, kind, summary):
    if kind == CATEGORY:
        return "categorical"
    distinct = np.unique(values[~np.isnan(values)]) if summary is None else summary.distinct
    return "bernoulli" if kind == BOOLEAN or len(distinct) == 2 else "gaussian"


def _check_kind(kind, key, values_are):
    if kind not in list(LIKELIHOODS):
        raise ValueError(
            f"`likelihoods` asks for the kind {kind!r} for column {key!r}; there are "
            f"{sorted(LIKELIHOODS)}."
        )
    if values_are == CATEGORY and LIKELIHOODS[kind].takes != CATEGORY:
        raise ValueError(
            f"`likelihoods` asks for the kind {kind!r} for column {key!r}, but {kind!r} takes "
            "numbers and the column holds categories. Convert the column, or leave it out."
        )


def _as_kind(frame, position, likelihood):
    """The raw values of one column, as its kind takes them: float64, or objects."""
    values, name = frame.columns[position], frame.name(position)
    if likelihood.takes == CATEGORY:
        return as_objects(values)
    return as_numbers(values, name, frame.first_row)


def _named_positions(categorical_features, names, n_columns):
    if categorical_features is None or isinstance(categorical_features, str):
        if categorical_features not in (None, "from_dtype"):
            raise ValueError(
                "The 'categorical_features' parameter must be 'from_dtype', None, or an array of "
                f"names, positions or booleans. Got {categorical_features!r} instead."
            )
        return []
    named = [k.item() if isinstance(k, np.generic) else k for k in categorical_features]
    if any(isinstance(key, bool) for key in named):
        if len(named) != n_columns:
            raise ValueError(
                f"A boolean 'categorical_features' needs one entry for each of the {n_columns} "
                f"columns; it has {len(named)}."
            )
        return [p for p, is_named in enumerate(named) if is_named]
    return [_position(key, names, n_columns, "categorical_features") for key in named]


def _position(key, names, n_columns, parameter):
    if names is not None and key in names:
        return names.index(key)
    if isinstance(key, Integral) and -n_columns <= key < n_columns:
        return int(key) % n_columns
    known = f"[{listed(names)}]" if names is not None else f"positions 0 to {n_columns - 1}"
    raise ValueError(f"`{parameter}` names column {key!r}, which X lacks. X has: {known}.")
