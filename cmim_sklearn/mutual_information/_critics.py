"""Critics, and the base of the estimators that train one.

A critic f(x, z) is a network that scores how well x and z match. A new one is one class and one
line in `CRITICS`.

Axes: n rows of x, m of z. Score matrices F (b, b) are those of `_bounds`.
"""

import copy
import math
from abc import abstractmethod
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import nn

from cmim_sklearn._utils.device import exact_device, resolve_device
from cmim_sklearn._utils.isolation import isolated
from cmim_sklearn.mutual_information._base import SCORE_ROWS, NormalScores, PairEstimator
from cmim_sklearn.networks import ACTIVATIONS, MLP

MIN_HELD_OUT = 30
MAX_HELD_OUT = {"separable": SCORE_ROWS, "concat": 256}
"""Maximum number of pairs that `fit` holds out, whose rows are scored in all combinations."""

PAIRS_AT_ONCE = 2**16
CHECK_EVERY = 50
"""Updates between two evaluations on the held-out pairs."""

SEPARABLE_WIDTH = 32
"""Width of g(x) and h(z); a Gaussian pair in d dimensions needs d + 2."""


class SeparableCritic(nn.Module):
    """Critic f(x, z) = <g(x), h(z)>: one network per side, each run once per row.

    ``shape`` holds the hidden layer sizes, activation and generator of an `MLP`.
    """

    def __init__(self, n_x, n_z, *shape):
        super().__init__()
        self.g = MLP(n_x, SEPARABLE_WIDTH, *shape)
        self.h = MLP(n_z, SEPARABLE_WIDTH, *shape)

    def forward(self, x, z):
        """Score all pairs (n, m) of x (n, n_x) and z (m, n_z)."""
        return self.g(x) @ self.h(z).T


class ConcatCritic(nn.Module):
    """Critic f(x, z) = g([x; z]): one network for both sides, run once per pair.

    ``shape`` is as for `SeparableCritic`.
    """

    def __init__(self, n_x, n_z, *shape):
        super().__init__()
        self.g = MLP(n_x + n_z, 1, *shape)

    def forward(self, x, z):
        """Score all pairs (n, m) of x (n, n_x) and z (m, n_z)."""
        n, m = len(x), len(z)
        pairs = torch.cat([x.repeat_interleave(m, 0), z.repeat(n, 1)], 1)
        return self.g(pairs).view(n, m)


CRITICS = {"separable": SeparableCritic, "concat": ConcatCritic}


class NeuralEstimator(PairEstimator):
    """Base class of estimators that train a critic. A subclass defines objective and estimate."""

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
        """Return a new function of a score matrix, which training maximises."""

    @abstractmethod
    def _value(self, F):
        """Compute the estimate, Tensor of shape (), from a score matrix."""

    @isolated
    def fit(self, X, y):
        """Train the critic.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples,) or (n_samples, n_features_z)
            Z; row i is paired with row i of X.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If X and y differ in their number of rows, have fewer than ten, or contain NaN or
            infinity; or if a parameter is invalid.
        """
        sizes = np.asarray(self.hidden_layer_sizes, dtype=object).ravel().tolist()
        if any(not isinstance(n, Integral) or isinstance(n, bool) or n < 1 for n in sizes):
            raise ValueError(
                "hidden_layer_sizes must contain integers of at least 1, one per layer, or be "
                f"empty; got {self.hidden_layer_sizes!r}."
            )
        X, Z = self._read(X, y, reset=True)
        self._seed = check_random_state(self.random_state).randint(2**31 - 1)
        generator = torch.Generator().manual_seed(self._seed)
        self._scalings = NormalScores(X), NormalScores(Z)
        shape = tuple(sizes), self.activation, generator
        critic = CRITICS[self.critic](X.shape[1], Z.shape[1], *shape)
        vars(self).pop("n_iter_", None)  # not fitted until training ends
        self.critic_ = critic.to(resolve_device(self.device))
        order = torch.randperm(len(X), generator=generator)
        x, z = self._tensors(X, Z)
        # Few pairs give a noisy objective. The pairs of many rows cost more than the training.
        wanted = max(round(self.validation_fraction * len(X)), min(MIN_HELD_OUT, len(X) // 3))
        n_held_out = min(wanted, MAX_HELD_OUT[self.critic], len(X) - 2)
        held_out, rows = order[:n_held_out], order[n_held_out:]
        self._train(x[rows], z[rows], x[held_out], z[held_out], generator)
        self.critic_.cpu()
        return self

    def _train(self, x, z, x_held_out, z_held_out, generator):
        """Update until the held-out objective stops improving, then restore the best weights."""
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
        """Normal scores as float32 tensors on the critic's device."""
        device = next(self.critic_.parameters()).device
        scaled = (scaling(part) for scaling, part in zip(self._scalings, (X, Z), strict=True))
        return tuple(torch.from_numpy(part.astype(np.float32)).to(device) for part in scaled)

    def _mean_over_batches(self, function, x, z, generator):
        """Average a function of score matrices over random batches of at most SCORE_ROWS rows."""
        total = 0.0
        with torch.no_grad():
            for rows in _split(len(x), SCORE_ROWS, generator):
                some_x, some_z = x[rows], z[rows]
                at_once = max(1, PAIRS_AT_ONCE // len(rows))
                F = torch.cat([self.critic_(part, some_z) for part in some_x.split(at_once)])
                total += (
                    len(rows)
                    / len(x)
                    * float(function(F.to(exact_device(F.device), torch.float64)))
                )
        return total

    def _estimate(self, X, Z):
        check_is_fitted(self, "n_iter_")
        expected = len(self._scalings[1].maps)
        if Z.shape[1] != expected:
            raise ValueError(f"y must have {expected} features, as in fit; got {Z.shape[1]}.")
        self.critic_.to(resolve_device(self.device))
        generator = torch.Generator().manual_seed(self._seed)
        value = self._mean_over_batches(self._value, *self._tensors(X, Z), generator)
        self.critic_.cpu()
        return value

    def _cap(self, n_rows):
        # The log of the number of rows that are scored together.
        return math.log(n_rows // math.ceil(n_rows / SCORE_ROWS))


def _batches(n, batch_size, generator):
    """Yield indices of random batches of n rows, epoch after epoch, without end."""
    while True:
        yield from _split(n, batch_size, generator)


def _split(n, batch_size, generator):
    """Split n rows in random order into near-equal batches of at most `batch_size`."""
    # A batch of one row has no mismatched pair.
    n_batches = min(math.ceil(n / batch_size), n // 2)
    return torch.randperm(n, generator=generator).tensor_split(n_batches)
