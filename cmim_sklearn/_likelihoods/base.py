"""What a kind of column must do: p(x | z) of a block of columns, and its cells as numbers.

Axes: n rows, C columns of the block, P decoder outputs, W encoder inputs.
"""

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import nn


class Likelihood(nn.Module, ABC):
    """p(x | z) of all the columns of one kind, given the decoder's outputs.

    A subclass is final. Its constructor takes what `state` returns: plain lists and arrays, so that
    a fitted kind can be written as JSON and numpy arrays. What is learnt by gradient (a Gaussian's
    standard deviation) is an ordinary module parameter and belongs to the network's weights.

    Encoded values are float32, one a cell; NaN is unobserved, and -1 a level never seen in fit (for
    the kinds that have levels).

    Attributes
    ----------
    n_columns, n_params, n_inputs : int
        Columns of the block, decoder outputs they need, encoder inputs they make.
    takes : {"number", "category"}
        Whether raw columns come as float64 with NaN or as objects with None.
    has_indicator : bool
        Whether the encoder gets, beside `inputs`, one observed-indicator a column.
    has_levels : bool
        Whether -1 stands for a value never seen in fit.
    cell_width : int
        Numbers a cell in what `measure` returns.
    """

    takes = "number"
    has_indicator = True
    has_levels = False
    cell_width = 1

    def __init__(self, n_columns, n_params, n_inputs):
        super().__init__()
        self.n_columns, self.n_params, self.n_inputs = n_columns, n_params, n_inputs

    @classmethod
    @abstractmethod
    def fit(cls, columns, names, *, summaries=None, **options):
        """Learn encodings from raw columns, as `takes` says.

        Parameters
        ----------
        columns : list of C arrays of shape (n,)
            NaN or None where unobserved.
        names : list of C str
            For messages.
        summaries : list of C ColumnSummary, default=None
            Of all rows, where `columns` are a sample; by default of `columns`.
        **options : dict
            ``numeric_scaling`` and ``max_categories``; a kind ignores what it does not need.
        """

    @abstractmethod
    def state(self):
        """Return the constructor's arguments as a dict of JSON values and arrays."""

    @abstractmethod
    def encode(self, columns):
        """Turn C raw columns of shape (n,) into float32 (n, C)."""

    @abstractmethod
    def decode(self, encoded, *, drawn=False):
        """Turn encoded (n, C) into C raw columns of shape (n,), inside the training range.

        Draws, which are what densities speak of, may pass it where a map is linear throughout.
        """

    def observed(self, x):
        """Which cells of x (n, C) are observed, bool (n, C)."""
        return x >= 0

    @abstractmethod
    def inputs(self, x, observed):
        """Encoder inputs (n, W) of encoded values x (n, C): zeros where unobserved."""

    @abstractmethod
    def log_prob(self, params, x, observed):
        """Log p(x | params) in nats of standardised units, (n, C); 0 where unobserved."""

    @abstractmethod
    def point(self, params):
        """The best single guess, encoded, (n, C): a mean or a mode."""

    @abstractmethod
    def sample(self, params, generator):
        """One draw, encoded, (n, C)."""

    # -- for densities of raw cells ----------------------------------------------------------------

    def measure(self, columns):
        """What `log_density` asks of C raw columns (n,): float32 (n, C, cell_width).

        By default the encoded values.
        """
        return self.encode(columns)[:, :, None]

    @abstractmethod
    def log_density(self, params, cells):
        """Log p(cell | params) in nats of the column's own unit, (n, C), of cells as measured.

        A probability where cells are whole numbers, levels or values held by many rows, else a
        density; 0 where unobserved. It is that of what `sample` then `decode` give.
        """

    @abstractmethod
    def local(self, params, cells):
        """A smooth stand-in for `log_density`, (n, C), and its gradient in params, (n, P)."""

    @abstractmethod
    def whiten(self, jacobian, params, cells):
        """Scale a Jacobian of params (n, P, r) to A (n, P, r): A'A is the information on the code.

        It is the Fisher information of the observed cells, through the Jacobian.
        """

    def refit_noise(self, params, variance, cells, prior_share):
        """Fit what noise is left, given params (n, P) known up to variances (n, P).

        ``prior_share`` is the weight of what training learnt, on a logarithmic scale. A kind whose
        parameters say all, as probabilities do, has nothing to fit.
        """

    @abstractmethod
    def guess(self, params, weights):
        """C raw columns (n,): each cell's mean in the column's own unit, or its likeliest level.

        Parameters
        ----------
        params : Tensor of shape (n, S, P)
            For S codes of each row.
        weights : Tensor of shape (n, S)
            Their shares, summing to one.
        """


def _log_unknown(n_seen, n_levels):
    """Log probability of a level never seen, (C,): one part in n + K + 1."""
    return torch.as_tensor(-np.log(n_seen + n_levels + 1), dtype=torch.float32)
