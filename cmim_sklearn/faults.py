"""What is told of a fit whose loss was not finite: which column it may be."""

import numpy as np

from cmim_sklearn.model import on_rows


def told_of_columns(model, table, encoded):
    """A sentence with the column that a loss most likely broke at.

    With a decoder that of the worst mean log p(x_c | z), at the codes' means; without one that of
    the largest numbers.

    Parameters
    ----------
    model : nn.Module
        With weights at which the loss was finite.
    table : Table
    encoded : array of shape (n, C)
        Encoded rows, of which some thousands are enough.

    Returns
    -------
    str
        Empty where there is no decoder and no number.
    """
    names = table.encoded_names()
    if hasattr(model, "decoder"):
        model.eval()

        def log_px(x):
            params = model.decoder(model.posterior_mean(x))
            return {"log_px": model.likelihood.log_prob(params, x)}

        values = on_rows(model, log_px, encoded)["log_px"].astype(np.float64)
        n_observed = np.maximum((~np.isnan(encoded)).sum(0), 1)
        means = np.nan_to_num(values.sum(0) / n_observed, nan=-np.inf, posinf=-np.inf)
        c = int(means.argmin())
        return (
            f"At the last weights with a finite loss, column {names[c]!r} is the least likely: "
            f"{means[c]:.3g} nats a cell."
        )
    is_number = np.repeat(
        [not block.has_levels for block in table.likelihood.blocks],
        [block.n_columns for block in table.likelihood.blocks],
    )
    if not is_number.any():
        return ""
    sizes = np.where(is_number, np.nan_to_num(np.abs(encoded)).max(0), -1)
    c = int(sizes.argmax())
    return f"Column {names[c]!r} has the largest numbers, up to {sizes[c]:.3g} as they are scaled."
