"""Diagnosis of a non-finite loss: the column that probably caused it."""

import numpy as np

from cmim_sklearn._models.inference import on_rows

PART_ROWS = 2**14


def describe_suspect_column(model, table, encoded):
    """Return a sentence that names the column that probably made the loss non-finite.

    With a decoder: the column with the lowest log p(x_c | z) of any cell, at the posterior means.
    Without: the numeric column with the largest absolute value. All rows are searched, in parts,
    because one row may be the cause.

    Parameters
    ----------
    model : nn.Module
        With weights at which the loss was finite.
    table : Table
    encoded : array of shape (n, C)
        Encoded rows.

    Returns
    -------
    str
        Empty if there is neither a decoder nor a numeric column.
    """
    names = table.encoded_names()
    parts = [encoded[start : start + PART_ROWS] for start in range(0, len(encoded), PART_ROWS)]
    if model.has_decoder:
        model.eval()

        def log_px(x):
            return {"log_px": model.reconstruction_log_prob(x)}

        lowest = np.min([_lowest(on_rows(model, log_px, part)["log_px"]) for part in parts], 0)
        c = int(lowest.argmin())
        return (
            f"At the last weights with a finite loss, column {names[c]!r} has the least likely "
            f"cell, with {lowest[c]:.3g} nats."
        )
    is_number = np.repeat(
        [not block.has_levels for block in table.likelihood.blocks],
        [block.n_columns for block in table.likelihood.blocks],
    )
    if not is_number.any():
        return ""
    largest = np.max([np.nan_to_num(np.abs(part)).max(0) for part in parts], 0)
    c = int(np.where(is_number, largest, -1).argmax())
    return f"Column {names[c]!r} has the largest scaled values, up to {largest[c]:.3g}."


def _lowest(log_px):
    """Minimum of each column of log p (n, C)."""
    return np.nan_to_num(log_px, nan=-np.inf, posinf=-np.inf, neginf=-np.inf).min(0)
