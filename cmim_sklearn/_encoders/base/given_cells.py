"""Samples, estimates and densities of cells, given the observed cells of their rows.

Cells are those that `Table.measure` returns. Rows have the order of the table.
"""

import numpy as np
import torch

from cmim_sklearn._models.inference import on_rows
from cmim_sklearn._models.row_posterior import RowPosterior
from cmim_sklearn._tables.read import erased
from cmim_sklearn._tables.schema import Table

DRAWS_PER_COPY = 32
ENCODER_TRUST = 0.7
"""Weight of the encoder's reconstruction in an imputed value, for a row without missing values."""


def measure(table: Table, frame, missing=None):
    """Measured cells of a frame, and which cells are missing, for the columns of `MissingCells`."""
    cells = table.measure(frame)
    if missing is None:
        return cells
    gone = frame.missing()[:, missing.columns].astype(np.float32)
    return np.hstack([cells, gone])


def decode(table: Table, drawn, missing=None, given=None):
    """Raw columns of generated cells "cells", and "is_missing" if there are `MissingCells`."""
    columns = table.raw_columns(drawn["cells"], given, drawn=True)
    if missing is None:
        return columns
    return erased(columns, missing.columns, drawn["is_missing"] > 0.5)


def draw(table: Table, posterior: RowPosterior, frame, n_samples, seed, missing=None):
    """Raw columns of n_samples rows for each row of a frame, adjacent.

    With `MissingCells`, some cells are missing; the others are the same as without.
    """
    cells, likelihood = table.measure(frame), posterior.likelihood
    gaps = None if missing is None else missing.sampler(posterior.model, seed)
    generator = torch.Generator(posterior.device).manual_seed(seed)
    # More than 32 samples of a row come from copies of it, each with a new set of codes.
    n_rows, each = len(cells), min(n_samples, DRAWS_PER_COPY)
    n_copies = -(-n_samples // each)

    def sample(draws, rows):
        params, codes = draws.resample(each, generator)
        drawn = likelihood.sample(params.flatten(0, 1), generator)
        drawn = {"cells": drawn.view(len(params), each, -1)}
        if gaps is None:
            return drawn
        return drawn | {"is_missing": posterior.proposal.apply(gaps, codes)}

    drawn = posterior.map(sample, np.repeat(cells, n_copies, axis=0), generator=generator)
    for name, part in drawn.items():
        part = part.reshape(n_rows, n_copies * each, -1)[:, :n_samples]
        drawn[name] = part.reshape(n_rows * n_samples, -1)
    return decode(table, drawn, missing, frame.take(np.repeat(np.arange(n_rows), n_samples)))


def guess(table: Table, posterior: RowPosterior, frame):
    """Raw columns of expected values and most likely levels for the rows of a frame.

    Columns without missing values are None.

    There are two estimates of a missing value: the expectation over codes, which is exact for
    the model but not for the data, and the reconstruction by the encoder, which was trained to
    reconstruct masked rows. Their errors differ, so a weighted mean is better than either. The
    fewer cells are observed, the smaller is the weight of the encoder; without any it is 0.
    """
    model, encoded = posterior.model, table.encode(frame)
    own = on_rows(model, lambda x: {"params": model.decoder(model.posterior_mean(x))}, encoded)
    missing = frame.missing()
    own, trust = (
        torch.as_tensor(part, dtype=torch.float32, device=posterior.device)
        for part in (own["params"], ENCODER_TRUST * np.mean(~missing, axis=1))
    )
    incomplete, needed = table.to_decode(missing.T), np.isnan(encoded)

    def expect(draws, rows):
        shares = draws.shares().float()
        params = posterior.likelihood.moved(draws.params, shares, own[rows], trust[rows])
        expected = posterior.likelihood.expected(
            params, draws.shares(), incomplete, needed[rows.numpy()]
        )
        return dict(zip(incomplete, expected, strict=True))

    guessed = posterior.map(expect, table.measure(frame))
    return table.in_order([guessed.get(c) for c in range(len(table.positions))], frame)


def log_density(posterior: RowPosterior, cells):
    """Log p of the observed cells of each row, in nats, (n,), and its Monte-Carlo error, (n,)."""

    def score(draws, rows):
        return {"score": draws.log_density(), "error": draws.error()}

    found = posterior.map(score, cells)
    return found["score"], found["error"]


def dependence(posterior: RowPosterior, cells):
    """Log p of the observed cells less that of each cell alone, in nats, (n,)."""
    return log_density(posterior, cells)[0] - posterior.log_marginals(cells).sum(1)


def log_density_of_each(table: Table, posterior: RowPosterior, cells):
    """Log p(cell | other cells of its row), in nats, (n, n_features)."""
    whole, _ = log_density(posterior, cells)
    out = np.empty((len(cells), len(table.positions)))
    for p in range(out.shape[1]):
        rest = cells.copy()
        rest[:, table.cells_of(p)] = np.nan
        out[:, p] = whole - log_density(posterior, rest)[0]
    return out
