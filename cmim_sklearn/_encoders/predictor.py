"""Base of classifier and regressor: an encoder with labels, and a linear model on its features."""

import inspect
import re
from abc import ABCMeta, abstractmethod
from dataclasses import make_dataclass
from typing import ClassVar

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils._param_validation import validate_parameter_constraints
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from cmim_sklearn._encoders import predictor_files
from cmim_sklearn._encoders.base.fitted import custom_networks
from cmim_sklearn._encoders.base.parameters import Hidden, isolated
from cmim_sklearn._encoders.cmim import CMIMEncoder
from cmim_sklearn._tables.target import read_target
from cmim_sklearn._utils import isolation
from cmim_sklearn._utils.archive import clear_parts, read_bytes, reading, write_bytes

PREDICTORS: dict[str, type] = {}
"""Classifier and regressor by the name of the class."""
OUTPUT_CONFIG = "_sklearn_output_config"
"""Attribute in which scikit-learn stores the setting of `set_output`."""

OF_ENCODER = {
    name: parameter
    for name, parameter in inspect.signature(CMIMEncoder).parameters.items()
    if name != "target_type"  # the class decides it
}
_Parameters = make_dataclass(
    "_Parameters",
    [(name, p.annotation, p.default) for name, p in OF_ENCODER.items()],
    kw_only=True,
    eq=False,
    repr=False,
)

ATTRIBUTES = """\
encoder_ : CMIMEncoder
    Fitted encoder. It also decodes, generates, imputes and scores rows.
transduction_ : array of shape (n_samples,)
    Labels of the training rows: as given, or predicted for rows without one.
n_iter_ : int
    Number of epochs that the encoder was trained.
n_features_in_ : int
    Number of columns seen in fit.
feature_names_in_ : array of shape (n_features,)
    Names of the columns, if all are strings."""


def predictor(cls):
    """Complete a final class, and register it in `PREDICTORS`.

    ``%(encoder)s`` in its docstring becomes the documentation of the parameters of `CMIMEncoder`
    that the class does not list in `_parameter_constraints`, whose constraints are added, too.
    ``%(attributes)s`` becomes the documentation of the shared attributes.
    """
    own = cls._parameter_constraints
    shared = [name for name in OF_ENCODER if name not in own]
    of_encoder = CMIMEncoder._parameter_constraints
    cls._parameter_constraints = own | {name: of_encoder[name] for name in shared}
    section = (CMIMEncoder.__doc__ or "").partition("----------\n")[2].partition("\n\n")[0]
    entries = {entry.split(" ")[0]: entry for entry in re.split(r"\n(?=\w+ : )", section)}
    text = "\n".join(entries.get(name, "") for name in shared)
    doc = inspect.cleandoc(cls.__doc__ or "").replace("%(encoder)s", text)
    cls.__doc__ = doc.replace("%(attributes)s", ATTRIBUTES)
    signature = inspect.signature(cls.__init__)
    parameters = [signature.parameters[name] for name in ("self", *own, *shared)]
    cls.__init__.__signature__ = signature.replace(parameters=parameters)
    cls.__dataclass_fields__ = Hidden()
    PREDICTORS[cls.__name__] = cls
    return cls


class Predictor(_Parameters, ClassNamePrefixFeaturesOutMixin, TransformerMixin, metaclass=ABCMeta):
    """Encoder with labels, and a linear model on the features of the labelled rows.

    A final subclass names the type of its target, the attribute that holds its linear model and
    the attributes of that model in a file.
    """

    _parameter_constraints: ClassVar[dict] = {}
    _target_type: ClassVar[str]
    _model_name: ClassVar[str]
    _model_attributes: ClassVar[tuple]

    @abstractmethod
    def _new_model(self):
        """Linear model to fit."""

    @abstractmethod
    def _check_model(self, attributes, n_features):
        """Check the attributes of a linear model that a file holds."""

    # -- fit ---------------------------------------------------------------------------------------

    @isolated()
    def fit(self, X, y):
        """Train the encoder on all rows, and the linear model on the rows with a label.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
            A pandas, polars or pyarrow DataFrame, an array or a list of rows. Columns may be
            numbers, booleans, strings or categories; values may be missing.
        y : array-like of shape (n_samples,)
            Labels. A row has none if its value is None, NaN or pd.NA. In a classifier -1 means the
            same, unless other labels are negative as well, or the classes are exactly -1 and 1.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        ValueError
            If y has no label, several columns or another length than X; if a label of a classifier
            is not a class, or all are of one class; if a label of a regressor is not a finite
            number. Also as `CMIMEncoder.fit` does.
        TypeError, FloatingPointError, KeyboardInterrupt
            As `CMIMEncoder.fit` does.

        Warns
        -----
        UserWarning
            As `CMIMEncoder.fit` does.
        """
        name = type(self).__name__
        parameters = {name: getattr(self, name) for name in self._get_param_names()}
        validate_parameter_constraints(self._parameter_constraints, parameters, caller_name=name)
        if y is None:
            raise ValueError(f"{name} requires y to be passed, but the target y is None.")
        if getattr(getattr(y, "dtype", None), "kind", None) == "c":
            raise ValueError("Complex data not supported: y must hold labels; got complex numbers.")
        target = read_target(y, self._target_type)
        check_consistent_length(X, target.codes)
        known, labels = target.is_labelled, self._labels(target)
        given = np.full(len(known), None, dtype=object)
        given[known] = labels
        encoder = self._encoder_to_fit().fit(X, given)
        features = _features(encoder, X)
        model = self._new_model().fit(features[known], labels)
        transduction = np.empty(len(known), labels.dtype)
        transduction[known] = labels
        if not known.all():
            transduction[~known] = model.predict(features[~known])
        self._keep(encoder, model)
        self.transduction_ = transduction
        return self

    def _encoder_to_fit(self):
        """Encoder with the current parameters; with `warm_start`, that of the last fit."""
        parameters = {name: getattr(self, name) for name in OF_ENCODER}
        parameters["target_type"] = self._target_type
        if self.warm_start and hasattr(self, "encoder_"):
            return self.encoder_.set_params(**parameters)
        return CMIMEncoder(**parameters)

    def _labels(self, target):
        """Labels of the labelled rows of a target."""
        return target.codes[target.is_labelled]

    def _keep(self, encoder, model):
        """Set the fitted attributes but `transduction_`."""
        for name in ("n_features_in_", "feature_names_in_", "n_iter_"):
            vars(self).pop(name, None)
            if hasattr(encoder, name):
                setattr(self, name, getattr(encoder, name))
        self.encoder_ = encoder
        setattr(self, self._model_name, model)

    # -- use ---------------------------------------------------------------------------------------

    def _fitted_encoder(self):
        """Fitted encoder, on the device that `device` names now."""
        check_is_fitted(self, "encoder_")
        if self.encoder_.device != self.device:
            self.encoder_.set_params(device=self.device)
        return self.encoder_

    def _apply(self, method, X):
        """Output of a method of the linear model for rows."""
        features = _features(self._fitted_encoder(), X)
        return getattr(getattr(self, self._model_name), method)(features)

    @property
    def _n_features_out(self):
        return len(self._fitted_encoder().get_feature_names_out())

    @isolated()
    def transform(self, X):
        """Features of rows, as the encoder computes them.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
            With the columns of fit. Levels not seen in fit count as missing, with a warning.

        Returns
        -------
        array of shape (n_samples, n_features_out), float32
            A pandas or polars DataFrame after ``set_output``.
        """
        return np.asarray(self._fitted_encoder().transform(X))

    @isolated()
    def predict(self, X):
        """Predict the labels of rows.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
            With the columns of fit. Levels not seen in fit count as missing, with a warning.

        Returns
        -------
        array of shape (n_samples,)
        """
        return self._apply("predict", X)

    def _labelled(self, X, y, sample_weight):
        """Labels, predictions and weights of the rows of y that have a label."""
        predicted, values = self.predict(X), np.asarray(y, dtype=object)
        check_consistent_length(predicted, values, sample_weight)
        values = values.ravel().tolist()
        known = np.array([not self._is_unlabelled(value) for value in values], dtype=bool)
        if not known.any():
            raise ValueError("y must have a label in at least one row, to score; got none.")
        labels = np.array([value for value, keep in zip(values, known, strict=True) if keep])
        if sample_weight is not None:
            sample_weight = np.asarray(sample_weight)[known]
        return labels, predicted[known], sample_weight

    def _is_unlabelled(self, value):
        """Whether a value of y means that its row has no label."""
        is_nan = isinstance(value, float) and value != value
        return value is None or is_nan or type(value).__name__ in ("NAType", "NaTType")

    # -- files -------------------------------------------------------------------------------------

    @isolated()
    def save(self, path):
        """Write the fitted estimator to one file that holds no code.

        The file has the parameters and everything that was learned, but neither a row nor a label
        of the training data: a loaded estimator has no `transduction_`. It is written completely or
        not at all. `CMIMEncoder.save` lists the values that are left out with a warning.

        Parameters
        ----------
        path : str or path-like
            File to write, with any extension. An existing file is replaced.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        TypeError
            If the class is not part of this library, or a parameter holds a value that JSON and
            numpy arrays cannot hold.
        EncoderFileError
            If `load` would not accept the file, for example because it is too large.
        OSError
            If the file cannot be written. An existing file is unchanged.

        See Also
        --------
        load : Read the file.
        """
        self._check_class("save")
        encoder, name = self._fitted_encoder(), type(self).__name__
        model = getattr(self, self._model_name)
        values = {
            "parameters": {name: getattr(self, name) for name in self._own_parameters()},
            "model": {name: getattr(model, name) for name in self._model_attributes},
            "output": vars(self).get(OUTPUT_CONFIG, {}),
        }
        data = predictor_files.pack_predictor(name, encoder, values)
        with reading(path):  # a file that could not be loaded is not written
            self._from_bytes(data, self.device, custom_networks(encoder))
        clear_parts(path)
        write_bytes(path, data)

    @classmethod
    @isolation.isolated
    def load(cls, path, device="auto", encoder=None, decoder=None):
        """Read a fitted estimator of this class from a file that `save` wrote.

        Files are safe to load from untrusted sources, as those of `CMIMEncoder` are.

        Parameters
        ----------
        path : str or path-like
            File to read.
        device : str, default="auto"
            The `device` of the loaded estimator; that of the saved one is not used.
        encoder, decoder : callable, default=None
            Functions that made the networks of the saved encoder, if those were custom functions.

        Returns
        -------
        estimator : object
            Fitted estimator of this class.

        Raises
        ------
        EncoderFileError
            A ValueError that names the path, as in `CMIMEncoder.load`.
        TypeError
            If the class is not part of this library.
        OSError
            If the file cannot be read.

        See Also
        --------
        save : Write the file.
        """
        cls._check_class("load")
        data, networks = read_bytes(path), {"encoder": encoder, "decoder": decoder}
        with reading(path):
            return cls._from_bytes(data, device, networks)

    @classmethod
    def _from_bytes(cls, data, device, networks):
        """Estimator in the content of a file, after all checks."""
        encoder, values = predictor_files.unpack_predictor(data, cls.__name__, device, networks)
        own, attributes = values["parameters"], values["model"]
        predictor_files.check_names(own, cls._own_parameters(), "parameters")
        predictor_files.check_names(attributes, cls._model_attributes, "linear model")
        constraints = {name: cls._parameter_constraints[name] for name in own}
        validate_parameter_constraints(constraints, own, caller_name=cls.__name__)
        estimator = cls(**{name: getattr(encoder, name) for name in OF_ENCODER}, **own)
        n_features = len(encoder.get_feature_names_out())
        estimator._check_model(attributes, n_features)
        model = estimator._new_model()
        # The order in memory is that of scikit-learn's fit: products round by it.
        attributes["coef_"] = np.asfortranarray(attributes["coef_"])
        vars(model).update(attributes, n_features_in_=n_features)
        estimator._keep(encoder, model)
        if output := values["output"]:
            estimator.set_output(**output)
        return estimator

    @classmethod
    def _own_parameters(cls):
        return sorted(set(cls._get_param_names()) - set(OF_ENCODER))

    @classmethod
    def _check_class(cls, method):
        if PREDICTORS.get(cls.__name__) is not cls:
            raise TypeError(
                f"{method} is for {' and '.join(sorted(PREDICTORS))}; got "
                f"{cls.__module__}.{cls.__qualname__}. Use pickle for a custom class."
            )

    @isolated()
    def to_onnx(self, path):
        """Write an ONNX model of the fitted estimator, with the encoding of its columns.

        The inputs are those of `CMIMEncoder.to_onnx` for features. The outputs are "label", of
        shape (n,), and for a classifier "probabilities", float32 of shape (n, n_classes) in the
        order of `classes_`. Booleans are returned as booleans, and the value of a regressor, called
        "value", as float32.

        Parameters
        ----------
        path : str or path-like
            File to write.

        Raises
        ------
        ImportError, ValueError
            As `CMIMEncoder.to_onnx` does.

        Notes
        -----
        Probabilities equal those of `predict_proba` up to rounding, about 1e-6.
        """
        from cmim_sklearn.onnx._predictors import export

        model = export(self)
        with open(path, "wb") as file:
            file.write(model.SerializeToString())

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def _features(encoder, X):
    """Features of rows as the linear model reads them.

    Double precision, so that predictions for a row do not depend on the other rows.
    """
    return np.asarray(encoder.transform(X), dtype=np.float64)
