"""Which columns a table has and of which kind; a raw table in, one float32 (n, C) out, and back."""

import warnings
from dataclasses import dataclass
from numbers import Integral

import numpy as np

from cmim_sklearn.frames import (
    BOOLEAN,
    CATEGORY,
    Frame,
    Layout,
    as_numbers,
    as_objects,
    column_name,
    write,
)
from cmim_sklearn.likelihoods import LIKELIHOODS, Joint


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
    ):
        """Choose a kind for each column and learn its encoding; the parameters are CMIMEncoder's.

        Raises
        ------
        ValueError
            If `categorical_features` or `likelihoods` names what is not there, or a kind that does
            not fit a column's values.
        """
        n_columns, names = len(frame.columns), frame.layout.names
        pairs = zip(frame.columns, frame.types, strict=True)
        kinds = [_default_kind(values, t) for values, t in pairs]
        for position in _named_positions(categorical_features, names, n_columns):
            kinds[position] = "categorical"
        for key, kind in (likelihoods or {}).items():
            position = _position(key, names, n_columns, "likelihoods")
            _check_kind(kind, key, frame.types[position])
            kinds[position] = kind
        blocks, parts = [], []
        for kind, likelihood in LIKELIHOODS.items():
            positions = [p for p, k in enumerate(kinds) if k == kind]
            if positions:
                columns = [_as_kind(frame, p, likelihood) for p in positions]
                labels = [frame.name(p) for p in positions]
                options = {"numeric_scaling": numeric_scaling, "max_categories": max_categories}
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

    def encode(self, frame: Frame):
        """Turn a table that was read into float32 (n, C), C-contiguous.

        A level or value never seen in fit is treated as unobserved, with one warning for all.
        """
        parts, unseen = [], []
        for block, likelihood in zip(self.blocks, self.likelihood.blocks, strict=True):
            columns = [_as_kind(frame, p, likelihood) for p in block.positions]
            encoded = likelihood.encode(columns)
            parts.append(encoded)
            if likelihood.has_levels:
                for c in np.flatnonzero((encoded == -1).any(0)):
                    values = columns[c][encoded[:, c] == -1]
                    shown = ", ".join(sorted({repr(v) for v in values.tolist()})[:3])
                    unseen.append(f"{frame.name(block.positions[c])!r} ({shown})")
        if unseen:
            warnings.warn(
                f"Values not seen in fit are treated as missing, in column {', '.join(unseen)}.",
                UserWarning,
                stacklevel=4,  # the caller of transform, above scikit-learn's wrapper
            )
        return np.ascontiguousarray(np.concatenate(parts, axis=1))

    def decode(self, encoded, index=None):
        """Turn encoded cells (n, C) into a table like the one fitted, inside its ranges."""
        columns = [None] * len(self.types)
        start = 0
        for block, likelihood in zip(self.blocks, self.likelihood.blocks, strict=True):
            stop = start + likelihood.n_columns
            decoded = likelihood.decode(encoded[:, start:stop])
            for position, values in zip(block.positions, decoded, strict=True):
                is_category = self.types[position] == CATEGORY
                columns[position] = values if is_category else as_numbers(values, position)
            start = stop
        return write(self.layout, columns, self.types, index)

    def describe(self):
        """One line a kind: how many columns, and their names."""
        names = self.layout.names
        return {b.kind: [column_name(names, p) for p in b.positions] for b in self.blocks}

    def __repr__(self):
        counts = ", ".join(f"{len(b.positions)} {b.kind}" for b in self.blocks)
        return f"Table({len(self.types)} columns: {counts})"


def _default_kind(values, kind):
    if kind == CATEGORY:
        return "categorical"
    if kind == BOOLEAN or len(np.unique(values[~np.isnan(values)])) == 2:
        return "bernoulli"
    return "gaussian"


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
    return as_numbers(values, name)


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
    known = names if names is not None else f"positions 0 to {n_columns - 1}"
    raise ValueError(f"`{parameter}` names column {key!r}, which X lacks. X has: {known}.")
