"""`CMIMRegressor`: an encoder with labels, and a ridge regression on its features."""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.utils._param_validation import Interval

from cmim_sklearn._encoders.base.parameters import isolated
from cmim_sklearn._encoders.cmim import CMIMEncoder
from cmim_sklearn._encoders.predictor import Predictor, predictor
from cmim_sklearn._encoders.predictor_files import check_numbers


@predictor
@dataclass(eq=False, repr=False, kw_only=True)
class CMIMRegressor(Predictor, RegressorMixin, BaseEstimator):
    """Predict a number for rows of mixed tables by cMIM features that were trained with the labels.

    A `CMIMEncoder` is trained on all rows, with labels where they exist, and a ridge regression on
    the features of the rows with labels. Rows without a label help to learn the features: give them
    the label NaN or None.

    Parameters
    ----------
    label_weight : float, default=30.0
        Weight of the labels in the training of the encoder. 0: the features are learned without
        labels. See `CMIMEncoder`.
    alphas : sequence of float, default=(0.01, 0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0)
        Strengths of the penalty of the ridge regression. The best one is chosen by leave-one-out
        cross-validation of the rows with a label.
    %(encoder)s

    Attributes
    ----------
    regressor_ : RidgeCV
        Regressor of features, fitted to the rows with a label.
    %(attributes)s

    See Also
    --------
    CMIMEncoder : The encoder, for pipelines with other regressors.

    Notes
    -----
    There is no ``sample_weight`` in `fit`, since the encoder has none.

    Examples
    --------
    >>> from cmim_sklearn import CMIMRegressor
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> y[::2] = None
    >>> regressor = CMIMRegressor(max_iter=20, random_state=0).fit(X, y)
    >>> regressor.predict(X).shape
    (442,)
    """

    label_weight: float = 30.0
    alphas: Sequence[float] | np.ndarray = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0)

    _parameter_constraints: ClassVar[dict] = {
        "label_weight": CMIMEncoder._parameter_constraints["label_weight"],
        "alphas": ["array-like", Interval(Real, 0, None, closed="neither")],
    }
    _target_type = "regression"
    _model_name = "regressor_"
    _model_attributes = ("alpha_", "best_score_", "coef_", "intercept_")

    def _new_model(self):
        return RidgeCV(self.alphas)

    def _check_model(self, attributes, n_features):
        shapes = {"alpha_": (), "best_score_": (), "coef_": (n_features,), "intercept_": ()}
        check_numbers(attributes, shapes)

    @isolated()
    def score(self, X, y, sample_weight=None):
        """R² of the predictions for the rows with a label; other rows do not count.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
            With the columns of fit.
        y : array-like of shape (n_samples,)
            Labels; NaN or None for rows without one.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            If no row has a label.
        """
        labels, predicted, weight = self._labelled(X, y, sample_weight)
        return r2_score(labels, predicted, sample_weight=weight)
