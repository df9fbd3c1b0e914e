"""Columns of pandas, polars and pyarrow as numpy arrays."""

import narwhals.stable.v2 as nw
import numpy as np

from cmim_sklearn._tables.wide import is_wide


def integers(series):
    """Integers of a narwhals series: float64 with NaN, or objects with None if one is wide."""
    if series.dtype in (nw.Int128, nw.UInt128):  # numpy has no 128-bit integers
        values = series.cast(nw.Float64).to_numpy().astype(np.float64)
        return listed(series) if is_wide(values) else values
    # No cast in Arrow, which raises for integers above 2^53.
    exact, missing = series.fill_null(0).to_numpy(), series.is_null().to_numpy()
    values = exact.astype(np.float64)
    if is_wide(values):
        values = exact.astype(object)
    values[missing] = None if values.dtype == object else np.nan
    return values


def listed(series):
    """Values of a narwhals series as Python objects, with None where missing."""
    missing = series.is_null().to_list()
    values = np.empty(len(missing), dtype=object)
    values[:] = [None if m else v for v, m in zip(series.to_list(), missing, strict=True)]
    return values


def levels_and_codes(column, library):
    """Levels that occur in a column, and codes (n,), -1 where missing.

    This is ten times as fast as a list for long columns with few levels. None for columns that are
    not stored in this form.
    """
    return _CODED[library](column) if library in _CODED else None


def _coded_pandas(series):
    """Levels and codes (n,) of categories, -1 where missing; None for other dtypes."""
    if not hasattr(series, "cat"):
        return None
    used, codes = _used(series.cat.codes.to_numpy(), len(series.cat.categories))
    return series.cat.categories.take(used).tolist(), codes


def _coded_pyarrow(column):
    """Levels and codes (n,) of strings or a dictionary, -1 where missing; None for other dtypes."""
    if str(column.type) in ("string", "large_string"):
        column = column.dictionary_encode()  # one Python string per level, not per row
    if not hasattr(column.type, "index_type"):
        return None
    levels, codes = [], [np.empty(0, dtype=np.int64)]
    for chunk in column.chunks:  # each chunk has its dictionary
        indices = chunk.indices.cast("int64").fill_null(-1).to_numpy()
        used, indices = _used(indices, len(chunk.dictionary))
        codes.append(np.where(indices < 0, -1, indices + len(levels)))
        levels += chunk.dictionary.take(used).to_pylist()
    return levels, np.concatenate(codes)


def _used(codes, n_levels):
    """Levels that occur in codes (n,), and the codes renumbered among them; -1 stays -1."""
    is_used = np.zeros(n_levels, dtype=bool)
    is_used[codes[codes >= 0]] = True
    place = np.append(np.cumsum(is_used) - 1, -1)
    return np.flatnonzero(is_used), place[codes]


_CODED = {"pandas": _coded_pandas, "pyarrow": _coded_pyarrow}
