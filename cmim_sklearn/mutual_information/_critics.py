"""What the estimators of mutual information share: pairs, critics, and how a critic is trained.

A critic f(x, z) is a network that scores how well a pair belongs together. A new one is one class
and one line in `CRITICS`.

Axes: n rows of x, m of z. Score matrices F (b, b) are those of `bounds`.
"""

import copy
import math
import warnings
from abc import ABCMeta, abstractmethod
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions, validate_parameter_constraints
from sklearn.utils.validation import check_array, check_is_fitted, validate_data
from torch import nn

from cmim_sklearn._likelihoods.scaling import quantile_map
from cmim_sklearn._utils.device import resolve_device
from cmim_sklearn.networks import ACTIVATIONS, MLP

MIN_ROWS = 10
SCORE_ROWS = 2048
LEAST_HELD_OUT = 30
MOST_HELD_OUT = {"separable": SCORE_ROWS, "concat": 256}
"""The most rows of which all pairs are scored together."""

PAIRS_AT_ONCE = 2**16
CHECK_EVERY = 50
"""Updates between two looks at the held-out pairs."""

SEPARABLE_WIDTH = 32
"""Width of g(x) and h(z); a Gaussian pair in d dimensions needs d + 2."""

CAP_SHARE, CAP_NATS = 0.1, 0.3


class SeparableCritic(nn.Module):
    """f(x, z) = <g(x), h(z)>: a network for each side, so all pairs cost as much as the rows.

    ``shape`` is the hidden layer sizes, activation and generator of an `MLP`.
    """

    def __init__(self, n_x, n_z, *shape):
        super().__init__()
        self.g = MLP(n_x, SEPARABLE_WIDTH, *shape)
        self.h = MLP(n_z, SEPARABLE_WIDTH, *shape)

    def forward(self, x, z):
        """Scores (n, m) of all pairs of x (n, n_x) and z (m, n_z)."""
        return self.g(x) @ self.h(z).T


class ConcatCritic(nn.Module):
    """f(x, z) = g([x; z]): one network for both sides, run once for each pair.

    ``shape`` is as for `SeparableCritic`.
    """

    def __init__(self, n_x, n_z, *shape):
        super().__init__()
        self.g = MLP(n_x + n_z, 1, *shape)

    def forward(self, x, z):
        """Scores (n, m) of all pairs of x (n, n_x) and z (m, n_z)."""
        n, m = len(x), len(z)
        pairs = torch.cat([x.repeat_interleave(m, 0), z.repeat(n, 1)], 1)
        return self.g(pairs).view(n, m)


CRITICS = {"separable": SeparableCritic, "concat": ConcatCritic}


class PairEstimator(BaseEstimator, metaclass=ABCMeta):
    """What all estimators share: reading pairs, and a warning near the most they can tell."""

    @abstractmethod
    def _cap(self, n_rows):
        """The most, in nats, that n rows can tell."""

    @abstractmethod
    def _estimate(self, X, Z):
        """The estimate, a float in nats, from checked arrays."""

    def score(self, X, y):
        """Estimate the information from pairs, in nats.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples,) or (n_samples, n_features_z)
            Z: row i goes with row i of X. Where a critic was trained, pairs that it has not seen.

        Returns
        -------
        float
            May be a little below zero: nothing is cut off, so that means over folds are fair.

        Raises
        ------
        ValueError
            If X and y differ in rows, have fewer than ten, or hold NaN or infinity.

        Warns
        -----
        UserWarning
            If the estimate comes within a tenth, or 0.3 nats, of the most that so many rows can
            tell: the truth may then be anything above.
        """
        X, Z = self._read(X, y, reset=False)
        value = self._estimate(X, Z)
        warn_near_cap(type(self).__name__, value, self._cap(len(X)))
        return value

    def _read(self, X, y, *, reset):
        """Check parameters and pairs; both as float64, (n, n_x) and (n, n_z)."""
        name = type(self).__name__
        validate_parameter_constraints(
            self._parameter_constraints, self.get_params(deep=False), name
        )
        X = validate_data(self, X, reset=reset, dtype=np.float64, ensure_min_samples=MIN_ROWS)
        return X, read_side(y, "y", len(X), name)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        return tags


class NeuralEstimator(PairEstimator):
    """Fit and score of an estimator that trains a critic; a subclass is final."""

    _parameter_constraints: ClassVar[dict] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "critic": [StrOptions(set(CRITICS))],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "device": [str],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        hidden_layer_sizes=(256,),
        *,
        critic="separable",
        activation="silu",
        batch_size=128,
        learning_rate_init=1e-3,
        alpha=0.0,
        max_iter=3000,
        validation_fraction=0.1,
        n_iter_no_change=500,
        device="auto",
        random_state=None,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.critic = critic
        self.activation = activation
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.alpha = alpha
        self.max_iter = max_iter
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.device = device
        self.random_state = random_state

    @abstractmethod
    def _objective(self):
        """A function of a score matrix that training increases; made anew for each use."""

    @abstractmethod
    def _value(self, F):
        """The estimate, Tensor of shape (), from a score matrix."""

    def fit(self, X, y):
        """Train the critic.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples,) or (n_samples, n_features_z)
            Z: row i goes with row i of X.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If X and y differ in rows, have fewer than ten, or hold NaN or infinity.
        """
        sizes = np.asarray(self.hidden_layer_sizes, dtype=object).ravel().tolist()
        if any(not isinstance(n, Integral) or isinstance(n, bool) or n < 1 for n in sizes):
            raise ValueError(
                "The 'hidden_layer_sizes' parameter must hold ints of at least 1, one for each "
                f"layer, or be (). Got {self.hidden_layer_sizes!r} instead."
            )
        X, Z = self._read(X, y, reset=True)
        self._seed = check_random_state(self.random_state).randint(2**31 - 1)
        generator = torch.Generator().manual_seed(self._seed)
        self._scalings = Scaling(X), Scaling(Z)
        shape = tuple(sizes), self.activation, generator
        critic = CRITICS[self.critic](X.shape[1], Z.shape[1], *shape)
        vars(self).pop("n_iter_", None)  # not fitted until it is trained
        self.critic_ = critic.to(resolve_device(self.device))
        order = torch.randperm(len(X), generator=generator)
        x, z = self._tensors(X, Z)
        # Few pairs are no mark to go by, and all pairs of many cost more than the training does.
        wanted = max(round(self.validation_fraction * len(X)), min(LEAST_HELD_OUT, len(X) // 3))
        n_held_out = min(wanted, MOST_HELD_OUT[self.critic], len(X) - 2)
        held_out, rows = order[:n_held_out], order[n_held_out:]
        self._train(x[rows], z[rows], x[held_out], z[held_out], generator)
        self.critic_.cpu()
        return self

    def _train(self, x, z, x_held_out, z_held_out, generator):
        """Updates until the objective on held-out pairs stands still; keeps the best weights."""
        objective, criterion = self._objective(), self._objective()
        optimizer = torch.optim.AdamW(
            self.critic_.parameters(), lr=self.learning_rate_init, weight_decay=self.alpha
        )
        batches = _batches(len(x), self.batch_size, generator)
        best, best_update, best_weights = -math.inf, 0, None
        update, self.validation_scores_ = 0, []
        while True:
            is_last = update == self.max_iter
            if is_last or update % CHECK_EVERY == 0:
                value = self._mean_over_batches(criterion, x_held_out, z_held_out, generator)
                self.validation_scores_.append(value)
                if value > best:
                    best, best_update = value, update
                    best_weights = copy.deepcopy(self.critic_.state_dict())
                elif update - best_update >= self.n_iter_no_change:
                    break
            if is_last:
                break
            rows = next(batches)
            loss = -objective(self.critic_(x[rows], z[rows]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            update += 1
        self.n_iter_ = update
        if best_weights is not None:
            self.critic_.load_state_dict(best_weights)

    def _tensors(self, X, Z):
        """Standardised float32 tensors on the critic's device."""
        device = next(self.critic_.parameters()).device
        scaled = (scaling(part) for scaling, part in zip(self._scalings, (X, Z), strict=True))
        return tuple(torch.from_numpy(part.astype(np.float32)).to(device) for part in scaled)

    def _mean_over_batches(self, function, x, z, generator):
        """A function of score matrices, over near-equal random batches of at most SCORE_ROWS."""
        total = 0.0
        with torch.no_grad():
            for rows in _split(len(x), SCORE_ROWS, generator):
                some_x, some_z = x[rows], z[rows]
                at_once = max(1, PAIRS_AT_ONCE // len(rows))
                F = torch.cat([self.critic_(part, some_z) for part in some_x.split(at_once)])
                total += len(rows) / len(x) * float(function(F.double()))
        return total

    def _estimate(self, X, Z):
        """See `PairEstimator._estimate`."""
        check_is_fitted(self, "n_iter_")
        expected = len(self._scalings[1].maps)
        if Z.shape[1] != expected:
            raise ValueError(
                f"y must have the {expected} features that it had in fit. Got {Z.shape[1]}."
            )
        self.critic_.to(resolve_device(self.device))
        generator = torch.Generator().manual_seed(self._seed)
        value = self._mean_over_batches(self._value, *self._tensors(X, Z), generator)
        self.critic_.cpu()
        return value

    def _cap(self, n_rows):
        """Log of the rows that are scored together."""
        return math.log(n_rows // math.ceil(n_rows / SCORE_ROWS))


class Scaling:
    """Maps each column of an array (n, d) to normal scores, strictly increasing in its range.

    What lies beyond the range of the rows it was made from is taken for the end of it: a critic has
    seen nothing there, and what it makes up would drown a bound. What is lost is information of
    those rows alone, so that a lower bound stays one.
    """

    def __init__(self, values):
        self.maps = [quantile_map(column).without_atoms() for column in values.T]
        self.low, self.high = values.min(0), values.max(0)

    def __call__(self, values):
        """Map an array (n, d)."""
        columns = zip(self.maps, values.clip(self.low, self.high).T, strict=True)
        return np.stack([scaling.forward(column) for scaling, column in columns], 1)


def read_side(values, name, n_rows, estimator):
    """Check the rows that go with X; float64 (n, n_z)."""
    if values is None:
        raise ValueError(
            f"Expected array-like (array or non-string sequence), got None for {name}. {estimator} "
            "takes pairs: each row of X with one of Z."
        )
    values = check_array(
        values, dtype=np.float64, ensure_2d=False, input_name=name, estimator=estimator
    )
    if len(values) != n_rows:
        raise ValueError(
            f"X and {name} must have as many rows, since row i of one goes with row i of the "
            f"other. Got {n_rows} rows of X and {len(values)} of {name}."
        )
    return values.reshape(n_rows, -1)


def warn_near_cap(name, value, cap):
    """Warn where an estimate is near the most that its rows can tell, or far below nothing."""
    if value < -CAP_NATS:
        warnings.warn(
            f"{name} gives {value:.2f} nats, where information is never below 0: the critic learnt "
            "its own rows by heart. Train on more rows, take a smaller net, or, with few columns, "
            "KSG.",
            stacklevel=3,
        )
    if value > cap - max(CAP_SHARE * cap, CAP_NATS):
        warnings.warn(
            f"{name} gives {value:.2f} nats, where {cap:.2f} is the most that the rows scored "
            "together can tell. Take it as a lower bound. Score more rows (a critic takes up to "
            f"{SCORE_ROWS} together), or add noise of a known size, so that there is less to tell.",
            stacklevel=3,
        )


def _batches(n, batch_size, generator):
    """Indices of near-equal random batches of n rows, epoch after epoch, without end."""
    while True:
        yield from _split(n, batch_size, generator)


def _split(n, batch_size, generator):
    """Indices of n rows in random order, in near-equal batches of at most `batch_size`."""
    # Never a batch of one row, which has no pair off the diagonal.
    n_batches = min(math.ceil(n / batch_size), n // 2)
    return torch.randperm(n, generator=generator).tensor_split(n_batches)
