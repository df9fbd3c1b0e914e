"""Base classes of column likelihoods: encoding of the columns of one kind, and their p(x | z).

Axes: n rows, C columns of the block, P params, L of their local values, T of them that the trained
decoder outputs, W encoder inputs.
"""

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import nn


class Density(nn.Module, ABC):
    """p(cell | params) of all columns of one kind, given P numbers for each row.

    Attributes
    ----------
    n_columns, n_params, n_local : int
        Number of columns in the block, of params (P), and of `local` (L).
    n_trained : int
        Number of outputs of the trained decoder for the block (T).
    cell_width : int
        Numbers per cell in the result of `Likelihood.measure`.
    """

    cell_width = 1

    def __init__(self, n_columns, n_params, n_local=None, n_trained=None):
        super().__init__()
        self.n_columns, self.n_params = n_columns, n_params
        self.n_local = n_params if n_local is None else n_local
        self.n_trained = n_params if n_trained is None else n_trained

    @abstractmethod
    def sample(self, params, generator):
        """Sample of each cell, encoded, (n, C)."""

    @abstractmethod
    def log_density(self, params, cells):
        """Log p(cell | params) in nats, in the column's raw unit, (..., C), for measured cells.

        A probability for whole numbers, levels and values shared by many rows; a density
        otherwise; 0 where unobserved. It is the distribution of `sample` followed by `decode`.
        Leading axes of params (..., P) and cells (..., C, cell_width) are broadcast, here and in
        `surrogate` and its gradient.
        """

    def local(self, params):
        """Numbers (..., L) that the surrogate needs of params (..., P): all of them by default."""
        return params

    @abstractmethod
    def surrogate(self, local, cells):
        """Smooth surrogate of `log_density`, (..., C), given `local`."""

    @abstractmethod
    def surrogate_gradient(self, local, cells):
        """Gradient (..., T) of the sum of `surrogate` over columns, in the trained outputs."""

    @abstractmethod
    def fisher_factor(self, jacobian, local, cells):
        """Factor A (n, m, r) of the Fisher information A'A of the observed cells on the code.

        ``jacobian`` (n, T, r) is that of the trained outputs in the code.
        """

    def moved(self, params, weights, trained, trust):
        """Params (n, S, P), shifted so that their mean moves towards those of training.

        Parameters
        ----------
        params : Tensor of shape (n, S, P)
        weights : Tensor of shape (n, S)
            Weights of the codes; each row sums to one.
        trained : Tensor of shape (n, T)
            Outputs of the trained decoder.
        trust : Tensor of shape (n,)
            Share of the way that the mean moves.
        """
        mean = (params * weights.unsqueeze(-1)).sum(1)
        return params + (trust.unsqueeze(-1) * (trained - mean)).unsqueeze(1)

    @abstractmethod
    def expected(self, params, weights, columns=None, needed=None):
        """Raw columns (n,): the mean of each cell in the raw unit, or its most likely level.

        Parameters
        ----------
        params : Tensor of shape (n, S, P)
            Decoder outputs for S codes of each row.
        weights : Tensor of shape (n, S)
            Weights of the codes; each row sums to one.
        columns : sequence of int, default=None
            Positions of the columns to return; all C by default.
        needed : array of bool (n, C), default=None
            Cells that are needed; all by default. Instead of others, a column may hold any values.
        """


class Likelihood(Density):
    """p(x | z) of all columns of one kind, given the decoder's outputs.

    The constructor takes the result of `state`: plain lists and arrays, so that a fitted kind can
    be saved as JSON and numpy arrays. Parameters trained by gradient (a Gaussian's standard
    deviation) are ordinary module parameters, saved with the network's weights.

    Encoded values are float32, one per cell. NaN means unobserved; -1 means a level not seen in fit
    (for kinds that have levels).

    `measure` and the methods of `Density` are for use after training, the others for training.

    Attributes
    ----------
    n_inputs : int
        Number of encoder inputs (W).
    n_seen : array of shape (C,)
        Number of observed training values; 0 for a column without any value in fit.
    takes : {"number", "category", "datetime", "duration"}
        Form of raw columns: `"number"`: float64 with NaN; `"category"`: object with None;
        `"datetime"`, `"duration"`: ``datetime64`` or ``timedelta64`` with NaT.
    has_indicator : bool
        Whether the encoder receives an observed-indicator for each column, in addition to `inputs`.
    has_levels : bool
        Whether -1 encodes a value not seen in fit.
    is_count : bool
        Whether the values are whole numbers from 0 upward.
    """

    takes = "number"
    has_indicator = True
    has_levels = False
    is_count = False

    def __init__(self, n_columns, n_params, n_inputs):
        super().__init__(n_columns, n_params)
        self.n_inputs = n_inputs

    @classmethod
    @abstractmethod
    def fit(cls, columns, names, *, summaries=None, **options):
        """Learn the encoding from raw columns.

        Parameters
        ----------
        columns : list of C arrays of shape (n,)
            Raw values in the form that `takes` names; NaN or None where unobserved.
        names : list of C str
            Column names for messages.
        summaries : list of C ColumnSummary, default=None
            Summaries of all rows, if `columns` are a sample of them; computed from `columns` by
            default.
        **options : dict
            ``numeric_scaling``, ``max_categories``, and ``zones``, the names of the columns' time
            zones or None; a kind ignores options it does not use.
        """

    @abstractmethod
    def state(self):
        """Return the constructor's arguments as a dict of JSON values and arrays."""

    def structure(self):
        """Tuple that is equal for blocks that differ in the values of parameters and buffers only.

        Such blocks can be trained together by `torch.vmap`.
        """
        return (type(self), self.n_columns, self.n_params, self.n_inputs)

    @abstractmethod
    def encode(self, columns):
        """Encode C raw columns of shape (n,) as float32 (n, C)."""

    @abstractmethod
    def decode(self, encoded, *, drawn=False):
        """Decode cells (n, C) to C raw columns of shape (n,), clipped to the training range.

        With ``drawn=True``, for samples, values are clipped only as `log_density` assumes.
        """

    def levels_of(self, column):
        """Levels of a column seen in fit; only for kinds that have levels."""
        raise NotImplementedError(f"{type(self).__name__} has no levels.")

    def constant_of(self, column):
        """The number that all training values of a column equal; None if they differ."""
        return None

    def observed(self, x):
        """Return which cells of x (n, C) are observed, bool (n, C)."""
        return x >= 0

    @abstractmethod
    def inputs(self, x, observed):
        """Encoder inputs (n, W) of encoded values x (n, C): zeros where unobserved."""

    @abstractmethod
    def log_prob(self, params, x, observed):
        """Log p(x | params) in nats, in standardised units, (n, C); 0 where unobserved."""

    @abstractmethod
    def point(self, params):
        """Point estimate, encoded, (n, C): the mean or the mode."""

    def measure(self, columns):
        """Encode C raw columns (n,) for `log_density`, as float32 (n, C, cell_width).

        By default the encoded values.
        """
        return self.encode(columns)[:, :, None]

    def refit_noise(self, params, variance, cells, prior_share):
        """Refit the noise, given params (n, P) known up to variances (n, P).

        ``prior_share`` is the weight of the trained value, on a logarithmic scale. Kinds without a
        noise parameter do nothing.
        """


def only(values, columns):
    """Return values, one per column, at the given positions in a list; all of them if None."""
    return list(values) if columns is None else [values[c] for c in columns]


def log_unknown(n_seen, n_levels):
    """Log probability of a level not seen in fit, (C,): 1 / (n + K + 1)."""
    return torch.as_tensor(-np.log(n_seen + n_levels + 1), dtype=torch.float32)


def normal_noise(like, generator):
    """Standard normal noise of the shape and on the device of a tensor, always in float32."""
    return torch.randn(like.shape, generator=generator, dtype=torch.float32, device=like.device)


def uniform_noise(like, generator):
    """Uniform noise on [0, 1) of the shape and on the device of a tensor, always in float32."""
    return torch.rand(like.shape, generator=generator, dtype=torch.float32, device=like.device)
