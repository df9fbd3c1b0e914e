"""Columns of a table in ONNX, which has no integers or Decimals that mix with doubles.

Levels that doubles cannot hold are strings. Numbers are counted from the origin of their column.
"""

import numpy as np

from cmim_sklearn._likelihoods.bernoulli import Bernoulli
from cmim_sklearn._likelihoods.scaling import MAX_SIZE
from cmim_sklearn._tables.moments import MOMENTS
from cmim_sklearn._tables.origins import Origin
from cmim_sklearn._tables.read import CATEGORY, column_name
from cmim_sklearn._tables.wide import decimals_of
from cmim_sklearn._utils.messages import listed

TOLERANCE = 1e-6
"""Largest distance of doubles, as a share of the range of a column that is exported."""


def tensor_types(table):
    """Type of each column of a table in ONNX: category for strings.

    Raises
    ------
    NotImplementedError
        If a column holds dates: ONNX has no operators for months and time zones.
    """
    types = list(table.types)
    dates = [column_name(table.layout.names, p) for p, kind in enumerate(types) if kind in MOMENTS]
    if dates:
        raise NotImplementedError(
            f"Columns to export must not hold dates, times or durations; got {listed(dates)}. "
            "Convert them to numbers, such as days since a date, and fit again."
        )
    for block, kind in zip(table.blocks, table.likelihood.blocks, strict=True):
        for c, p in enumerate(block.positions):
            if kind.has_levels and types[p] != CATEGORY:
                levels = [level for level in kind.levels_of(c) if level is not None]
                is_large = max(map(abs, levels), default=0) > MAX_SIZE
                if is_large or Origin.fit(levels, decimals_of(levels)) is not None:
                    types[p] = CATEGORY
    return types


def code_of_string(graph, pair, cells):
    """Code 0 or 1 of one of two strings as a double (n, 1); NaN for other strings."""
    codes = graph.add(
        "LabelEncoder",
        cells,
        domain="ai.onnx.ml",
        keys_strings=[str(value) for value in pair],
        values_floats=[0.0, 1.0],
        default_float=np.nan,
    )
    return graph.cast(codes, np.float64)


def with_codes(kind, is_string):
    """Likelihood of columns with two values, which are codes where they are strings in ONNX."""
    pairs = zip(kind.values, is_string, strict=True)
    return Bernoulli([(0.0, 1.0) if of_string else pair for pair, of_string in pairs], kind.n_seen)


def origins_of(table, block, kind):
    """Numbers (C,) from which the numeric columns of a block are counted, 0 for most.

    Raises
    ------
    ValueError
        If doubles cannot tell the numbers of a column apart.
    """
    out = np.zeros(len(block.positions))
    for c, p in enumerate(block.positions):
        if p in table.origins and not kind.has_levels:
            origin = table.origins[p]
            out[c] = origin.low / 10**origin.scale
            if np.spacing(abs(out[c])) > TOLERANCE * origin.span > 0:
                name = column_name(table.layout.names, p)
                raise ValueError(
                    f"Numbers to export must differ as doubles; column {name!r} has numbers from "
                    f"{out[c]:g} in a range of {origin.span:g}. Subtract its minimum, or name it "
                    "in categorical_features, and fit again."
                )
    return out
