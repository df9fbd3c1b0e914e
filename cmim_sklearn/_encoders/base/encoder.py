"""Base class of all encoders: parameters, `fit`, `partial_fit` and `transform`.

Other modules of this folder hold its parts: `fit`, the steps of `fit` in order; `fitted`, the state
of a fitted encoder and its files; `out_of_core`, Parquet files larger than memory. Encoders with a
decoder derive from the class in `generative`, encoders without one from that in `two_view`.
"""

import copy
import math
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from numbers import Real
from typing import ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from cmim_sklearn._encoders.base.fit import SUMMARY_ROWS, FitSteps, layer_sizes, plain_columns
from cmim_sklearn._encoders.base.fitted import FittedEncoder
from cmim_sklearn._encoders.base.joint_fit import take_prepared
from cmim_sklearn._encoders.base.out_of_core import OutOfCoreEncoder
from cmim_sklearn._encoders.base.parameters import isolated
from cmim_sklearn._models.features import TOTAL_VARIANCE
from cmim_sklearn._models.inference import on_rows
from cmim_sklearn._tables.read import read_in_parts
from cmim_sklearn._tables.schema import warn_of_unseen
from cmim_sklearn._training.net import ObjectiveLoss
from cmim_sklearn._training.train import train
from cmim_sklearn._utils.sklearn_compat import CallbackSupportMixin, with_callbacks
from cmim_sklearn._utils.validation import check_at_least_one
from cmim_sklearn.mutual_information._codes import code_information
from cmim_sklearn.networks import build as build_network

LEAST_NOISE = 1e-6


@dataclass(eq=False, repr=False)
class _LatentEncoder(
    FitSteps,
    OutOfCoreEncoder,
    FittedEncoder,
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
    metaclass=ABCMeta,
):
    """Encoder with a latent code.

    Fields are the parameters; `shared_parameters` documents them. A final subclass adds its fields
    with their `_parameter_constraints`, and implements the abstract methods.
    """

    n_components: int = 64
    _: KW_ONLY
    hidden_layer_sizes: int | Sequence[int] | np.ndarray = (256, 256)
    activation: str = "silu"
    encoder: str | Callable = "mlp"
    categorical_features: str | Sequence | np.ndarray | None = "from_dtype"
    numeric_scaling: str | None = "quantile"
    max_categories: int = 256
    batch_size: int = 256
    learning_rate_init: float = 3e-3
    alpha: float = 1e-4
    max_iter: int | str = "auto"
    early_stopping: bool = False
    validation_fraction: float = 0.1
    n_iter_no_change: int = 10
    tol: float = 1e-4
    warm_start: bool = False
    device: str = "auto"
    net_params: dict | None = None
    random_state: int | np.random.RandomState | None = None
    verbose: int = 0

    # Constraints, parameters that hold widths of layers, parameters that a fitted encoder uses.
    _parameter_constraints: ClassVar[dict] = {}
    _layer_size_parameters = ("hidden_layer_sizes",)
    _parameters_after_fit = ("device",)
    # Embedding that `transform` returns, likelihoods that the user sets, minimum of held-out rows.
    _embedding = "mean"
    _imposed_likelihoods = None
    _min_held_out = 1

    # -- what a subclass provides ------------------------------------------------------------------

    @abstractmethod
    def _objective(self, model, seed) -> ObjectiveLoss:
        """Loss to train a model with."""

    @abstractmethod
    def _build_model(self, likelihood, architecture, seed):
        """Model for a likelihood and an `_architecture`; initial weights follow from the seed."""

    @abstractmethod
    def _layer_chains(self, likelihood, architecture):
        """Widths of the dense layers of that model, one list for each chain of layers."""

    def _build_encoder(self, likelihood, architecture, n_outputs, generator):
        """Encoder network for `_build_model`, its weights drawn from a torch Generator."""
        return build_network(
            architecture["encoder"],
            likelihood.n_inputs,
            n_outputs,
            architecture["hidden_layer_sizes"],
            architecture["activation"],
            generator,
            is_decoder=False,
        )

    def _update_model(self, model):
        """Set the options of a model that may change between fits of the same weights."""

    def _layers(self, model, x, *names):
        """Layers of the named embeddings, or of all: lists of tensors (n, w) by name."""
        return {"mean": [model.posterior_mean(x)]}

    def _check_table(self, table, frame):
        """Raise if this encoder cannot be trained on the columns of a table."""

    def _warn_of_parameters(self):
        """Warn of valid parameters that cannot have the effect that users expect."""

    def _n_units(self, likelihood):
        """Width of encoder inputs plus decoder outputs."""
        return likelihood.n_inputs

    def _architecture(self):
        """Current values of the parameters that decide the schema and the network."""
        return {
            "n_components": int(self.n_components),
            "hidden_layer_sizes": layer_sizes(self.hidden_layer_sizes),
            "activation": self.activation,
            "encoder": self.encoder,
            "categorical_features": plain_columns(self.categorical_features),
            "numeric_scaling": self.numeric_scaling,
            "max_categories": int(self.max_categories),
            "likelihoods": copy.copy(self._imposed_likelihoods),
        }

    # -- fit ---------------------------------------------------------------------------------------

    @isolated()
    @with_callbacks
    def fit(self, X, y=None, *, X_val=None, y_val=None):
        """Learn the schema of a table and train the network.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
            A pandas, polars or pyarrow DataFrame, an array or a list of rows. Columns may be
            numbers, booleans, strings or categories; values may be missing.
        y : array-like of shape (n_samples,), default=None
            Target; ignored unless the encoder has a `label_weight` above 0. Classes or numbers,
            NaN or None in rows without a label. In classification, -1 or -1.0 also means no label,
            unless other numbers are negative as well, or the classes are exactly -1 and 1. In
            regression, -1 is a number.
        X_val : table of shape (n_held_out, n_features), default=None
            Rows for early stopping. If given, `early_stopping` and `validation_fraction` are
            ignored.
        y_val : array-like of shape (n_held_out,), default=None
            Target of `X_val`, for `label_weight`. If at least 30 of its rows are labelled, they
            decide when label training stops, and no label of y is held back. With fewer, labels of
            y are held back. Rows of classes that are not in y count as unlabelled, with a warning.

        Returns
        -------
        self : object
            Fitted encoder.

        Raises
        ------
        ValueError
            If a parameter is out of range, X has fewer than two rows or no column, or a column
            holds infinity, numbers above 1e305 or complex numbers. With `label_weight`: if y is
            None, has several columns, another length than X, no label, an infinite number, or
            values that do not fit `target_type`; if no label of y_val is a class of y.
        TypeError
            If a column holds periods, intervals or nested values, or mixes dates with others.
        FloatingPointError
            If the loss is not finite, even after the learning rate was halved three times. The
            message names the column that probably caused it.
        KeyboardInterrupt
            After Ctrl-C. The encoder is fitted nevertheless, with a warning.

        Warns
        -----
        UserWarning
            If the loss was not finite in some epoch: training returned to the previous epoch and
            continued at half the learning rate. Also if a column has no value or looks like an
            identifier, if some of its numbers or levels are equal for the model, if rows of y count
            as unlabelled because they hold -1, if y has more than 50 classes with fewer than 2 rows
            each on average, if some labels of y_val are no classes of y, and after Ctrl-C.
        """
        self._check_params()
        self._check_labels(y, X_val, y_val)
        self._warn_of_parameters()
        with self._names_restored_on_error():
            if X_val is not None or self._is_warm() or not take_prepared(self, X, y):
                self._fit_in_memory(X, y, X_val, y_val)
        return self

    def _fit_in_memory(self, X, y, X_val, y_val=None):
        start = self._start(self._learn(X), y, X_val, y_val, X=X)
        trained = train(start.net, start.rows, self._summarise)
        self._keep(start.table, start.built, trained)

    @isolated()
    def fit_schema(self, X):
        """Learn the schema from a sample, without training; `partial_fit` then uses it.

        Kinds of columns, scalings, levels and ranges come from the sample: decoded numbers stay
        within its range, and levels that are not in it count as missing later. An earlier fit is
        discarded. `fit` and `fit_parquet` learn the schema from their own rows.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
            Some thousands of rows, sampled from the whole table; see `fit` for its types.

        Returns
        -------
        self : object
            Not fitted: it has a schema, but no network.

        Raises
        ------
        ValueError, TypeError
            As `fit` does.
        """
        self._check_params()
        with self._names_restored_on_error():
            frame = self._read(X, reset=True, min_rows=2)
            self._keep(self._learn_new_table(frame), self._architecture())
        return self

    @isolated()
    def partial_fit(self, X, y=None):
        """Train in one pass over a chunk of rows, continuing from the current weights.

        If there was no `fit` and no `fit_schema`, the first call learns the schema from its chunk,
        with the step of dates, such as a day, to which later dates are decoded.
        Later calls do not change it.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
            Chunk of rows; thousands of rows in random order are best. A chunk that decides the
            schema has at least two rows. A later chunk may have one; no row changes nothing.
            Levels that are not in the schema count as missing, with a warning.
        y : None
            Ignored; present for API consistency.

        Returns
        -------
        self : object
            Fitted encoder. After an error or Ctrl-C, the encoder is unchanged.

        Raises
        ------
        ValueError
            If the columns of the chunk differ in number, name or order, or hold infinity; if a
            parameter is out of range; if a parameter that decides the schema or the network has
            changed; if `label_weight` is not 0.
        FloatingPointError
            As in `fit`.

        Notes
        -----
        The learning rate is constant, at `learning_rate_init`; in `fit` it rises and falls. A
        smaller value than the default may suit long streams. `max_iter`, `early_stopping` and
        `warm_start` have no effect. With an int as `random_state`, the same chunks in the same
        order give the same encoder.

        Everything that is computed after training uses the last chunk: centre and scale of the
        features, distribution of the codes, and residual noise of each column, which generation,
        imputation and scores use. If the chunks differ, pass a sample of all rows last. A chunk of
        one row keeps those of the chunk before; encoders that compare rows learn nothing from it.

        The optimizer, and the critic of InfoMax-VAE, continue from chunk to chunk, but are not
        pickled or saved: a loaded encoder keeps its weights and starts both from their beginning.
        """
        self._check_params()
        if self._label_weight:
            raise ValueError(
                f"partial_fit cannot learn from labels; got label_weight={self._label_weight!r}. "
                "Set label_weight=0, or use fit."
            )
        is_new = not hasattr(self, "table_")
        if is_new:
            self._warn_of_parameters()
        with self._names_restored_on_error():
            frame = self._read(X, reset=is_new, min_rows=2 if is_new else 0)
            table = self._learn_new_table(frame) if is_new else self._known_table(frame)
            if not frame.n_rows:
                return self
            rows, built = self._chunk(table, frame), self._architecture()
            net = self._make_net_for_chunk(built, rows)
            trained = train(net, rows, self._summarise_chunk, keep_interrupted=False)
            self._keep(table, built, trained)
        return self

    # -- use ---------------------------------------------------------------------------------------

    def _check_use(self):
        """Check that the encoder is fitted, and the parameters that it uses after fit."""
        check_is_fitted(self, "_net")
        self._check_values(self._parameters_after_fit)

    @property
    def _n_features_out(self):
        self._check_use()
        return len(self._scales[self._embedding][0])

    @isolated()
    def transform(self, X):
        """Embed rows as numeric features. A row's features do not depend on the other rows.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
            With the columns of fit. Levels not seen in fit, and values of columns without any
            value in fit, count as missing, with a warning.

        Returns
        -------
        array of shape (n_samples, n_features_out), float32
            The chosen `embedding` (the latent code, if the encoder has no such parameter). Each
            feature is centred, and each layer is scaled by one factor to a common scale. A pandas
            or polars DataFrame after ``set_output``.

        Notes
        -----
        A long array or DataFrame is read in parts, so that little memory is needed in
        addition to the result.
        """
        self._check_use()
        unseen = {}
        n_rows, frames = read_in_parts(X, self.table_.types)
        features = self._embed(n_rows, frames, unseen)
        warn_of_unseen(unseen)
        return features

    def _embed(self, n_rows, frames, unseen):
        """Features (n_rows, n_features_out) of several frames; unseen levels are noted."""
        name, model = self._embedding, self._model()
        centre, scale = (torch.from_numpy(part).to(model.device) for part in self._scales[name])
        factor, shift = 1 / scale, -centre / scale

        def embed(x):
            layers = self._layers(model, x, name)[name]
            widths = [layer.shape[1] for layer in layers]
            scales = zip(shift.split(widths), layers, factor.split(widths), strict=True)
            return {name: [torch.addcmul(*parts) for parts in scales]}

        table = self.table_
        encoded = (
            table.encode(self._checked(frame, reset=False, min_rows=1, table=table), unseen)
            for frame in frames
        )
        return on_rows(model, embed, encoded, n_rows)[name]

    @isolated()
    def mutual_information(self, X, *, noise=0.3, n_draws=8, random_state=0):
        """Estimate the information that noisy codes hold about their rows, I(x; z), in nats.

        Codes without noise identify every row: their information is infinite for any encoder, and
        its estimate is the logarithm of the number of rows. Information that remains after noise
        is added can be compared between encoders. The noise is the same in every direction, and a
        share of the codes' total standard deviation, so the estimate does not depend on their
        scale. The noise of q(z | x) is added, too.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
            With the columns of fit, preferably rows that were not used in fit. If there are more
            than 5,000 rows, 5,000 of them are sampled.
        noise : float, default=0.3
            Standard deviation of the Gaussian noise added to each component, as a share of the
            square root of the components' total variance in fit. With 0, the noise is that of
            q(z | x) alone.
        n_draws : int, default=8
            Number of noisy codes drawn for each row.
        random_state : int, RandomState instance or None, default=0
            Seed of the draws, and of the sample of rows.

        Returns
        -------
        MutualInformation
            ``estimate``, its Monte-Carlo ``error`` over the draws, the estimates of the draws as
            ``folds``, and ``cap``, the logarithm of the number of rows. All in nats.

        Raises
        ------
        ValueError
            If there is no noise: ``noise=0`` for an encoder whose q(z | x) has no variance.

        Warns
        -----
        UserWarning
            If the estimate is within a tenth, or 0.3 nats, of the cap: increase `noise` or pass
            more rows.

        Notes
        -----
        q(z | x) is known, so no critic is needed: the estimate is the mean of log q(z_i | x_i)
        minus the log of the mean of q(z_i | x_j) over all rows. It is a lower bound on the
        information about rows of the population (M. Hoffman, M. Johnson, "ELBO surgery", 2016).
        """
        self._check_use()
        check_at_least_one("n_draws", n_draws)
        rng = check_random_state(random_state)
        is_number = isinstance(noise, Real) and not isinstance(noise, bool)
        if not is_number or not (noise == 0 or LEAST_NOISE <= noise < math.inf):
            raise ValueError(
                f"`noise` must be 0, or a number of at least {LEAST_NOISE}; got {noise!r}."
            )
        frame = self._read(X, reset=False, min_rows=2)
        frame = frame.take(rng.permutation(frame.n_rows)[:SUMMARY_ROWS])
        model = self._model()

        def encode(x):
            mean, log_variance = model.encode(x)
            return {"mean": mean, "variance": log_variance.exp().expand_as(mean)}

        codes = on_rows(model, encode, self.table_.encode(frame))
        spread = self._scales["mean"][1] * math.sqrt(TOTAL_VARIANCE / codes["mean"].shape[1])
        mean, variance = codes["mean"].astype(float), codes["variance"].astype(float)
        return code_information(mean, variance, spread, noise, n_draws, rng)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
