"""Base of all estimators of mutual information: input checks, normal scores, warnings."""

import warnings
from abc import ABCMeta, abstractmethod

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import validate_parameter_constraints
from sklearn.utils.validation import check_array, validate_data

from cmim_sklearn._likelihoods.scaling import quantile_map
from cmim_sklearn._utils.isolation import isolated
from cmim_sklearn._utils.stacklevel import user_stacklevel

MIN_ROWS = 10
SCORE_ROWS = 2048
"""Maximum number of rows that a critic scores together, in all pairs."""

CAP_SHARE, CAP_NATS = 0.1, 0.3
"""An estimate is near its cap if the gap is below a share of the cap, or a number of nats."""


class PairEstimator(BaseEstimator, metaclass=ABCMeta):
    """Base class of estimators of mutual information from pairs of rows."""

    @abstractmethod
    def _cap(self, n_rows):
        """Largest value, in nats, that an estimate from n rows can show."""

    @abstractmethod
    def _estimate(self, X, Z):
        """Estimate the information, a float in nats, from checked arrays."""

    @isolated
    def score(self, X, y):
        """Estimate the mutual information of X and y, in nats.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples,) or (n_samples, n_features_z)
            Z; row i is paired with row i of X. Pass pairs that were not used in `fit`, unless the
            estimator trains nothing.

        Returns
        -------
        float
            It may be slightly negative: it is not clipped at 0, so that means over folds are
            unbiased.

        Raises
        ------
        ValueError
            If X and y differ in their number of rows, have fewer than ten, or contain NaN or
            infinity.

        Warns
        -----
        UserWarning
            If the estimate is within a tenth, or 0.3 nats, of the largest value that so many rows
            can show: the true value may be larger. Also if it is below -0.3 nats, which
            means that a critic overfits.
        """
        X, Z = self._read(X, y, reset=False)
        value = self._estimate(X, Z)
        warn_if_unreliable(type(self).__name__, value, self._cap(len(X)))
        return value

    def _read(self, X, y, *, reset):
        """Check parameters and pairs; return float64 arrays (n, n_x) and (n, n_z)."""
        name = type(self).__name__
        validate_parameter_constraints(
            self._parameter_constraints, self.get_params(deep=False), name
        )
        X = validate_data(self, X, reset=reset, dtype=np.float64, ensure_min_samples=MIN_ROWS)
        return X, read_paired(y, "y", len(X), name)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        return tags


class NormalScores:
    """Strictly increasing maps of the columns of an array (n, d) to normal scores.

    Values outside the range of the fitted rows are clipped to it. A critic has no training pairs
    there, and its arbitrary scores would dominate a bound. Clipping only loses information, so a
    lower bound remains one.
    """

    def __init__(self, values):
        self.maps = [quantile_map(column).without_atoms() for column in values.T]
        self.low, self.high = values.min(0), values.max(0)

    def __call__(self, values):
        """Map an array (n, d)."""
        columns = zip(self.maps, values.clip(self.low, self.high).T, strict=True)
        return np.stack([scaling.forward(column) for scaling, column in columns], 1)


def read_paired(values, name, n_rows, estimator):
    """Check the array that is paired with X; return it as float64 (n, n_z)."""
    if values is None:
        raise ValueError(
            f"Expected array-like (array or non-string sequence), got None for {name}. {estimator} "
            f"needs pairs: pass one row of {name} for each row of X."
        )
    values = check_array(
        values, dtype=np.float64, ensure_2d=False, input_name=name, estimator=estimator
    )
    if len(values) != n_rows:
        raise ValueError(
            f"X and {name} must have the same number of rows, because row i of X is paired with "
            f"row i of {name}; got {n_rows} rows of X and {len(values)} of {name}."
        )
    return values.reshape(n_rows, -1)


def is_near_cap(value, cap):
    """Whether an estimate is near the largest value that its rows can show."""
    return value > cap - max(CAP_SHARE * cap, CAP_NATS)


def warn_if_unreliable(name, value, cap):
    """Warn if an estimate is near the largest value its rows can show, or far below 0."""
    if value < -CAP_NATS:
        warnings.warn(
            f"{name}: the estimate of {value:.2f} nats is negative, although mutual information "
            "never is: the critic overfits. Train on more rows, use smaller hidden_layer_sizes, or "
            "use KSG if there are few columns.",
            stacklevel=user_stacklevel(),
        )
    if is_near_cap(value, cap):
        warnings.warn(
            f"{name}: the estimate of {value:.2f} nats is close to {cap:.2f}, the largest value "
            "that the rows scored together can show. Treat it as a lower bound. Score more rows (a "
            f"critic scores up to {SCORE_ROWS} together), or add noise of a known size to X or Z.",
            stacklevel=user_stacklevel(),
        )
