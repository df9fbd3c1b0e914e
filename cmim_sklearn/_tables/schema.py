"""Table schema: column kinds, and encoding of a table to a float32 array (n, C) and back."""

import warnings
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from cmim_sklearn._likelihoods import LIKELIHOODS
from cmim_sklearn._likelihoods.clock import ClockSummary
from cmim_sklearn._likelihoods.joint import Joint
from cmim_sklearn._tables.date_texts import warn_of_texts
from cmim_sklearn._tables.dtypes import Layout, is_same_name
from cmim_sklearn._tables.kinds import (
    HELD,
    choose_kinds,
    new_summaries,
    unparsed_dates,
    with_constants,
)
from cmim_sklearn._tables.links import Link, apart, find_links, together
from cmim_sklearn._tables.moments import MOMENTS, as_moments, form_of
from cmim_sklearn._tables.origins import Origin, find_origins
from cmim_sklearn._tables.read import (
    BOOLEAN,
    CATEGORY,
    NUMBER,
    Frame,
    as_numbers,
    as_objects,
    column_name,
    is_missing,
)
from cmim_sklearn._tables.wide import is_exact_object
from cmim_sklearn._tables.write import write
from cmim_sklearn._utils.messages import listed, number_text, shown
from cmim_sklearn._utils.stacklevel import user_stacklevel

MAX_WARNED = 10
"""Maximum number of columns that a warning names."""


@dataclass(frozen=True)
class Block:
    """Columns of one kind.

    Attributes
    ----------
    kind : str
        A key of `LIKELIHOODS`.
    positions : list of int
        Positions of the columns in the raw table, ascending.
    """

    kind: str
    positions: list


class Table:
    """Schema of a table, learned in fit.

    The encoded table has one float32 per cell, NaN where missing. Its columns are grouped into
    blocks of one kind each.

    Attributes
    ----------
    layout : Layout
        Library, names and dtypes of the table seen in fit.
    types : list of {"number", "boolean", "category", "datetime", "duration"}
        Type of the values of each column.
    blocks : list of Block
    likelihood : Joint
        p(x | z) of all encoded columns, one block per entry of ``blocks``.
    origins : dict of int to Origin
        Origins, by position, of the columns of numbers that float64 cannot hold exactly.
    links : list of Link
        Columns of dates that are encoded as the duration since another date.
    positions : list of int
        Position in the raw table of each encoded column.
    """

    def __init__(self, layout, types, blocks, likelihood, origins, links=()):
        self.layout = layout
        self.types = types
        self.blocks = blocks
        self.likelihood = likelihood
        self.origins = origins
        self.links = list(links)
        self.positions = [p for block in blocks for p in block.positions]

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
        """Choose a kind for each column and learn its encoding.

        Parameters
        ----------
        frame : Frame
        categorical_features, numeric_scaling, max_categories, likelihoods
            As in `CMIMEncoder`.
        summaries : list of ColumnSummary, default=None
            One per column, over all rows; needed if the frame is a sample of them.

        Raises
        ------
        ValueError
            If `categorical_features` or `likelihoods` names an unknown column or kind, or a kind
            that does not suit the column's values.
        """
        kinds = choose_kinds(frame, categorical_features, likelihoods, summaries)
        kinds, summaries = with_constants(frame, kinds, summaries)
        dates = unparsed_dates(frame, categorical_features, likelihoods)
        warn_of_texts(dates, frame.layout.library)
        origins = find_origins(frame, kinds, summaries)
        if summaries is None and origins:
            pairs = zip(frame.columns, new_summaries(frame, kinds), strict=True)
            summaries = [summary.add(column) for column, summary in pairs]
        links = find_links(frame, kinds, summaries)
        linked = apart(frame, links, frame.layout, guess=False)
        children = [link.child for link in links]
        kinds = ["duration" if p in children else kind for p, kind in enumerate(kinds)]
        if summaries is not None:
            summaries = [
                ClockSummary().add(linked[p]) if p in children else summary
                for p, summary in enumerate(summaries)
            ]
        blocks, parts = [], []
        for kind, likelihood in LIKELIHOODS.items():
            positions = [p for p, k in enumerate(kinds) if k == kind]
            if positions:
                columns = [
                    linked[p]
                    if p in linked
                    else as_kind(frame, p, likelihood, origins, frame.layout.dtype_of(p))
                    for p in positions
                ]
                labels = [frame.name(p) for p in positions]
                options = {"numeric_scaling": numeric_scaling, "max_categories": max_categories}
                options["zones"] = [None if p in children else frame.zone(p) for p in positions]
                options["known"] = dates
                if summaries is not None:
                    options["summaries"] = [
                        summaries[p]
                        if likelihood.has_levels or p not in origins
                        else origins[p].summary(summaries[p])
                        for p in positions
                    ]
                blocks.append(Block(kind, positions))
                parts.append(likelihood.fit(columns, labels, **options))
        return cls(frame.layout, list(frame.types), blocks, Joint(parts), origins, links)

    def state(self):
        """Return everything learned, as JSON values and arrays, for `from_state`."""
        return {
            "layout": self.layout.state(),
            "types": list(self.types),
            "blocks": [
                {"kind": block.kind, "positions": list(block.positions), "fitted": part.state()}
                for block, part in zip(self.blocks, self.likelihood.blocks, strict=True)
            ],
            "origins": [[p, origin.state()] for p, origin in self.origins.items()],
            "links": [list(link) for link in self.links],
        }

    @classmethod
    def from_state(cls, state):
        """Create a schema from the result of `state`."""
        blocks = [Block(b["kind"], b["positions"]) for b in state["blocks"]]
        parts = [LIKELIHOODS[b["kind"]](**b["fitted"]) for b in state["blocks"]]
        origins = {p: Origin(**of) for p, of in state.get("origins", [])}
        links = [Link(*of) for of in state.get("links", [])]
        return cls(Layout(**state["layout"]), state["types"], blocks, Joint(parts), origins, links)

    def raw_parts(self, frame: Frame):
        """Yield each block, its likelihood, and its raw columns as the likelihood takes them."""
        linked = apart(frame, self.links, self.layout)
        for block, likelihood in zip(self.blocks, self.likelihood.blocks, strict=True):
            columns = [
                linked[p]
                if p in linked
                else as_kind(
                    frame, p, likelihood, self.origins, self.layout.dtype_of(p), self.types[p]
                )
                for p in block.positions
            ]
            yield block, likelihood, columns

    @cached_property
    def empty(self):
        """Positions of the columns without any value in fit. They have no kind yet."""
        parts = zip(self.blocks, self.likelihood.blocks, strict=True)
        return sorted(
            p
            for block, part in parts
            for p, n in zip(block.positions, part.n_seen, strict=True)
            if not n
        )

    def known(self, frame: Frame, unseen):
        """Frame in which columns without any value in fit are missing, whatever they hold.

        Their values are added to the dict `unseen`, by column position, for `warn_of_unseen`.
        """
        columns = list(frame.columns)
        for p in self.empty:
            held = columns[p][~is_missing(columns[p])]
            if len(held):
                _add_unseen(unseen, p, frame.name(p), held)
                columns[p] = np.full(len(columns[p]), np.nan)
        return replace(frame, columns=columns)

    def incomplete(self, frame: Frame):
        """Positions of the rows that lack a value in a column that held values in fit."""
        is_incomplete = np.zeros(frame.n_rows, dtype=bool)
        for p, values in enumerate(frame.columns):
            if p not in self.empty:
                is_incomplete |= is_missing(values)
        return np.flatnonzero(is_incomplete)

    def check_names(self, frame: Frame):
        """Raise unless columns have the names of fit, in their order.

        scikit-learn checks the names of tables whose column names are all strings.
        """
        fitted, names = self.layout.names, frame.layout.names
        if any(of is None or all(isinstance(name, str) for name in of) for of in (fitted, names)):
            return
        for p, (name, expected) in enumerate(zip(names, fitted, strict=True)):
            if not is_same_name(name, expected):
                raise ValueError(
                    "The feature names should match those that were passed during fit, in the same "
                    f"order: [{listed(fitted)}]. Got [{listed(names)}], with {shown(name)} in "
                    f"place of {shown(expected)} at position {p}. Select the columns of fit by "
                    "name, for example with X[names]."
                )

    def encode(self, frame: Frame, unseen=None):
        """Encode a table as float32 (n, C), C-contiguous.

        Levels and values not seen in fit are treated as missing, with one warning. If a dict
        `unseen` is given, they are collected there by column position, for `warn_of_unseen`.
        """
        parts, found = [], {} if unseen is None else unseen
        for block, likelihood, columns in self.raw_parts(self.known(frame, found)):
            encoded = likelihood.encode(columns)
            parts.append(encoded)
            if likelihood.has_levels:
                for c in np.flatnonzero((encoded == -1).any(0)):
                    p = block.positions[c]
                    values = columns[c][encoded[:, c] == -1]
                    _add_unseen(found, p, frame.name(p), values, self.types[p])
        if unseen is None:
            warn_of_unseen(found)
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def measure(self, frame: Frame):
        """Encode a table for densities, as float32 (n, n_cells).

        Unlike in `encode`, a level not seen in fit is not missing: it has a small probability.
        """
        parts = []
        for _, likelihood, columns in self.raw_parts(self.known(frame, {})):
            cells = likelihood.measure(columns)
            parts.append(cells.reshape(len(cells), -1))
        return np.ascontiguousarray(np.concatenate(parts, axis=1))

    def cells_of(self, position):
        """Slice of the columns that `measure` returns for the raw column at a position."""
        start = 0
        for block, likelihood in zip(self.blocks, self.likelihood.blocks, strict=True):
            if position in block.positions:
                start += block.positions.index(position) * likelihood.cell_width
                return slice(start, start + likelihood.cell_width)
            start += len(block.positions) * likelihood.cell_width
        raise IndexError(position)

    def encoded_names(self):
        """Names of the columns that `encode` returns; positions if the table has no names."""
        return [column_name(self.layout.names, p) for p in self.positions]

    def to_decode(self, missing):
        """Positions of the encoded columns that give the missing cells (n_columns, n), ascending.

        Linked dates are decoded together.
        """
        is_needed, linked = missing.any(1), [p for link in self.links for p in link[:2]]
        is_needed[linked] = is_needed[linked].any()
        return np.flatnonzero(is_needed[self.positions])

    def in_order(self, decoded, given=None):
        """Reorder decoded columns, or None, from block order to the order of the raw table.

        ``given`` is the frame of the same rows, if some of their cells are observed.
        """
        columns = [None] * len(self.types)
        for position, values in zip(self.positions, decoded, strict=True):
            if values is None:
                continue
            if self.types[position] in MOMENTS:
                columns[position] = values
                continue
            has_objects = values.dtype == object
            if position in self.origins and not has_objects:
                values = self.origins[position].absolute(values)
            elif self.types[position] != CATEGORY and not any(map(is_exact_object, values)):
                values = as_numbers(values, position)
            columns[position] = values
        return together(columns, self.links, self.layout, given)

    def raw_columns(self, encoded, given=None, *, drawn=False):
        """Decode cells (n, C) to raw columns (n,).

        ``drawn`` as in `Likelihood.decode`, ``given`` as in `in_order`.
        """
        decoded, start = [], 0
        for likelihood in self.likelihood.blocks:
            stop = start + likelihood.n_columns
            decoded += likelihood.decode(encoded[:, start:stop], drawn=drawn)
            start = stop
        return self.in_order(decoded, given)

    def decode(self, encoded, index=None, *, drawn=False):
        """Decode cells (n, C) to a table with the library, names and dtypes seen in fit."""
        return write(self.layout, self.raw_columns(encoded, drawn=drawn), self.types, index)

    def __repr__(self):
        counts = ", ".join(f"{len(b.positions)} {b.kind}" for b in self.blocks)
        return f"Table({len(self.types)} columns: {counts})"


def level_text(value, column_type):
    """Text of a level in messages; booleans and numbers are encoded as floats."""
    if column_type == BOOLEAN and value in (0, 1):
        return str(bool(value))
    return shown(value) if column_type == CATEGORY else number_text(value)


def _add_unseen(unseen, position, name, values, column_type=CATEGORY):
    """Add values of a column to those that `warn_of_unseen` names, at most three of a column."""
    _, before = unseen.get(position, (name, ()))
    held = values.astype(str) if values.dtype.kind in "Mm" else values
    few = {level_text(value, column_type) for value in held.tolist()}
    unseen[position] = name, sorted(few.union(before))[:3]


def warn_of_unseen(unseen):
    """Warn of values not seen in fit, with their columns and up to three values of each."""
    if unseen:
        columns = [f"{name!r} ({', '.join(few)})" for _, (name, few) in sorted(unseen.items())]
        warnings.warn(
            f"Values not seen in fit are treated as missing. Columns: {_first(columns)}.",
            UserWarning,
            stacklevel=user_stacklevel(),
        )


def warn_of_empty(table):
    """Warn of the columns without any value in fit."""
    if table.empty:
        names = [repr(column_name(table.layout.names, p)) for p in table.empty]
        warnings.warn(
            f"Columns without any value in fit: {_first(names)}. They stay missing in generated "
            "and imputed tables, and values that they hold later are treated as missing. Drop "
            "them, or fit to rows in which they hold values.",
            UserWarning,
            stacklevel=user_stacklevel(),
        )


def _first(columns):
    """Text of the first columns of a list, and the number of the others."""
    more = f" and {len(columns) - MAX_WARNED} more" if len(columns) > MAX_WARNED else ""
    return ", ".join(columns[:MAX_WARNED]) + more


def as_kind(frame, position, likelihood, origins, fitted, column_type=NUMBER):
    """Raw values of a column in the form its kind takes, see `Likelihood.takes`.

    `fitted` is the description of the column's dtype in fit, and `column_type` its type in fit.
    """
    values, name = frame.columns[position], frame.name(position)
    if likelihood.takes in MOMENTS:
        held = form_of(frame.layout.dtype_of(position))
        return as_moments(values, form_of(fitted), name, frame.first_row, held)
    if likelihood.takes == CATEGORY and values.dtype.kind not in "Mm":
        return as_objects(values)
    numbers = as_numbers(values, name, frame.first_row, HELD[column_type])
    if likelihood.takes == CATEGORY:
        return as_objects(numbers)
    if position not in origins:
        return numbers
    return values if likelihood.has_levels else origins[position].relative(values)
