"""`CMIMClassifier`: an encoder with labels, and a logistic regression on its features."""

from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.utils._param_validation import Interval

from cmim_sklearn._encoders.base.parameters import isolated
from cmim_sklearn._encoders.cmim import CMIMEncoder
from cmim_sklearn._encoders.predictor import Predictor, predictor
from cmim_sklearn._encoders.predictor_files import check_classes, check_numbers
from cmim_sklearn._tables.target import UNLABELLED
from cmim_sklearn._utils.messages import shown

MAX_ITER = 1000
"""Maximum number of iterations of the logistic regression."""


@predictor
@dataclass(eq=False, repr=False, kw_only=True)
class CMIMClassifier(Predictor, ClassifierMixin, BaseEstimator):
    """Classify rows of mixed tables by cMIM features that were trained with the labels.

    A `CMIMEncoder` is trained on all rows, with labels where they exist, and a logistic regression
    on the features of the rows with labels. Rows without a label help to learn the features: give
    them the label -1, or NaN or None.

    Parameters
    ----------
    label_weight : float, default=30.0
        Weight of the labels in the training of the encoder. 0: the features are learned without
        labels. See `CMIMEncoder`.
    C : float, default=1.0
        Inverse strength of the penalty of the logistic regression.
    %(encoder)s

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
        Classes, sorted, in the dtype of y.
    classifier_ : LogisticRegression
        Classifier of features, fitted to the rows with a label.
    %(attributes)s

    See Also
    --------
    CMIMEncoder : The encoder, for pipelines with other classifiers.
    sklearn.semi_supervised.SelfTrainingClassifier : Any classifier, with predicted labels.

    Notes
    -----
    There is no ``sample_weight`` in `fit`, since the encoder has none.

    Examples
    --------
    >>> import numpy as np
    >>> from cmim_sklearn import CMIMClassifier
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> some = np.where(np.arange(150) % 5, -1, y)  # 30 labels
    >>> classifier = CMIMClassifier(max_iter=20, random_state=0).fit(X, some)
    >>> classifier.predict_proba(X).shape
    (150, 3)
    """

    label_weight: float = 30.0
    C: float = 1.0

    _parameter_constraints: ClassVar[dict] = {
        "label_weight": CMIMEncoder._parameter_constraints["label_weight"],
        "C": [Interval(Real, 0, None, closed="neither")],
    }
    _target_type = "classification"
    _model_name = "classifier_"
    _model_attributes = ("classes_", "coef_", "intercept_", "n_iter_")

    def _new_model(self):
        return LogisticRegression(C=self.C, max_iter=MAX_ITER)

    def _labels(self, target):
        if len(target.classes) < 2:
            raise ValueError(
                "y must have labels of at least 2 classes; got one class, "
                f"{shown(target.classes.tolist()[0])}. Label rows of another class, too."
            )
        return target.classes[target.codes[target.is_labelled].astype(int)]

    def _keep(self, encoder, model):
        super()._keep(encoder, model)
        self.classes_ = model.classes_

    def _is_unlabelled(self, value):
        if super()._is_unlabelled(value):
            return True
        is_minus_one = not isinstance(value, str) and value == UNLABELLED
        return is_minus_one and UNLABELLED not in self.classes_.tolist()

    def _check_model(self, attributes, n_features):
        check_classes(attributes["classes_"])
        n_classes = len(attributes["classes_"])
        n_rows = 1 if n_classes == 2 else n_classes
        shapes = {"coef_": (n_rows, n_features), "intercept_": (n_rows,), "n_iter_": (1,)}
        check_numbers(attributes, shapes)

    @isolated()
    def predict_proba(self, X):
        """Probabilities of the classes.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
            With the columns of fit.

        Returns
        -------
        array of shape (n_samples, n_classes)
            In the order of `classes_`.
        """
        return self._apply("predict_proba", X)

    @isolated()
    def predict_log_proba(self, X):
        """Logarithms of the probabilities of the classes.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
            With the columns of fit.

        Returns
        -------
        array of shape (n_samples, n_classes)
            In the order of `classes_`.
        """
        return self._apply("predict_log_proba", X)

    @isolated()
    def decision_function(self, X):
        """Confidence scores of the classes: log-odds, or unnormalised log-probabilities.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
            With the columns of fit.

        Returns
        -------
        array of shape (n_samples,), or (n_samples, n_classes) for three or more classes
            In the order of `classes_`. For two classes, the log-odds of the second one.
        """
        return self._apply("decision_function", X)

    @isolated()
    def score(self, X, y, sample_weight=None):
        """Accuracy of the predictions for the rows with a label; other rows do not count.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
            With the columns of fit.
        y : array-like of shape (n_samples,)
            Labels; rows without a label are marked as in `fit`.
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
        return accuracy_score(labels, predicted, sample_weight=weight)
