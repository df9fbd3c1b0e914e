"""What all encoders share: their public face, what a subclass provides, and what a fitted one is.

How they train stands in `.fit`, on a whole table, in `.streaming`, on
chunks, and in `.out_of_core`, on files. Those with a decoder go on in
`.generative`.
"""

import copy
import math
import warnings
from abc import ABCMeta, abstractmethod
from itertools import chain
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import validate_parameter_constraints
from sklearn.utils.validation import check_is_fitted, validate_data

from cmim_sklearn._encoders.base.fit import (
    SUMMARY_ROWS,
    as_before_on_error,
    make_net,
    some_rows,
    train_on_table,
    warn_of_one_component,
)
from cmim_sklearn._encoders.base.out_of_core import (
    check_buffer,
    fit_on_parquet,
    open_table,
    write_features,
)
from cmim_sklearn._encoders.base.persistence import load_encoder, save_encoder
from cmim_sklearn._encoders.base.streaming import learn_columns, train_on
from cmim_sklearn._models.features import TOTAL_VARIANCE, feature_scale
from cmim_sklearn._models.inference import on_rows
from cmim_sklearn._tables.read import read, read_in_parts
from cmim_sklearn._tables.schema import Table, warn_of_unseen
from cmim_sklearn._training.net import ObjectiveLoss, check_net_params, net_state
from cmim_sklearn._utils.device import resolve_device
from cmim_sklearn._utils.forking import begin_alone, new_lock
from cmim_sklearn._utils.sklearn_compat import CallbackSupportMixin, with_callbacks
from cmim_sklearn.mutual_information import MutualInformation
from cmim_sklearn.mutual_information._codes import index_information
from cmim_sklearn.networks import build as build_network

LEAST_NOISE = 1e-6

# One thread at a time builds a loaded network, moves it or sets its mode.
_NETWORK = new_lock()


class _LatentEncoder(
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
    metaclass=ABCMeta,
):
    """Fit and transform, for encoders with a latent code.

    A subclass is final, or `_GenerativeEncoder`. A final one has a constructor that stores, its
    `_parameter_constraints`, and what is abstract here.
    """

    _embedding = "mean"
    _min_held_out = 1

    def _store(self, parameters):
        """Store a constructor's parameters, its ``locals()``, and nothing else."""
        vars(self).update({k: v for k, v in parameters.items() if k not in ("self", "__class__")})

    @abstractmethod
    def _objective(self, model, seed) -> ObjectiveLoss:
        """The loss to train a model with, from the parameters."""

    @abstractmethod
    def _build_model(self, likelihood, architecture, seed):
        """The module to train, for columns and an `_architecture`; weights by a local generator.

        It has ``draw_noise``, ``forward``, ``encode``, ``posterior_mean`` and ``device`` as
        `LatentModel` does.
        """

    def _build_encoder(self, likelihood, architecture, n_outputs, generator):
        """The encoder of such a model, with its weights drawn."""
        return build_network(
            architecture["encoder"],
            likelihood.n_inputs,
            n_outputs,
            architecture["hidden_layer_sizes"],
            architecture["activation"],
            generator,
            is_decoder=False,
        )

    def _layers(self, model, x, *names):
        """Layers (n, w) of the named embeddings of encoded rows x (n, C), or all: lists by name."""
        return {"mean": [model.posterior_mean(x)]}

    def _configure(self, model):
        """Set what may change between fits of one network; called before each."""

    def _check_table(self, table, frame):
        """Raise where the columns are not such as this encoder can learn from."""

    def _trained_beside(self, objective):
        """Callbacks that train what an objective needs beside the model, in the same steps."""
        return []

    # -- fit ---------------------------------------------------------------------------------------

    @with_callbacks
    def fit(self, X, y=None, *, X_val=None):
        """Learn the columns and train the model.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
            A pandas, polars or pyarrow frame, an array or a list of rows. Numbers, booleans,
            strings and categories; missing cells stay missing.
        y : None
            Ignored; here by convention.
        X_val : table of shape (n_held_out, n_features), default=None
            Rows to watch for early stopping, whatever `early_stopping` says.

        Returns
        -------
        self : object
            The fitted encoder.

        Raises
        ------
        ValueError
            If a parameter is out of range, X has fewer than two rows or no column, or a column
            holds infinity, numbers beyond 1e305 or complex numbers.
        TypeError
            If a column holds dates, times or nested values.
        FloatingPointError
            If the loss is not finite, also after the learning rate was halved three times; it names
            the column that has the least likely cell.
        KeyboardInterrupt
            After Ctrl-C; the encoder is fitted all the same, with a warning.

        Warns
        -----
        UserWarning
            If the loss was not finite in some epoch, after which the fit went back to the epoch
            before and on at half the rate.
        """
        self._check_params()
        warn_of_one_component(self)
        with as_before_on_error(self):
            train_on_table(self, X, y, X_val)
        return self

    @with_callbacks
    def fit_parquet(self, source, *, columns=None, X_val=None, buffer_rows=200_000):
        """Fit to the rows of Parquet files, in memory that does not grow with their number.

        A table of at most `buffer_rows` rows is read and fitted as by `fit`. Of a larger one the
        columns are learnt in one pass over the files, and each epoch is another.

        Parameters
        ----------
        source : str or path-like, or list of them
            Local Parquet files of the same columns, one below the other; a directory stands for
            the ``*.parquet`` in and below it, also behind links, by name (part.10 after part.2).
            What the names of folders in it say, as ``year=2020``, are columns, too, and those of
            folders that it is in, where `columns` asks for them. Files may not change meanwhile.
        columns : list of str, default=None
            The columns to fit to; no other is read. None is all, but for the row index of a pandas
            frame.
        X_val : table of shape (n_held_out, n_features), default=None
            Rows to watch for early stopping, whatever `early_stopping` says; in memory.
        buffer_rows : int, default=200_000
            How many rows are held at a time to be shuffled, and how many are sampled for the
            statistics; at least 10. At the peak a cell of them takes some 50 bytes: of wide tables
            hold fewer.

        Returns
        -------
        self : object
            The fitted encoder. Tables that it makes are pyarrow's.

        Raises
        ------
        ImportError
            Without pyarrow (``pip install "cmim-sklearn[parquet]"``).
        FileNotFoundError
            If there is no such file, or none in a directory.
        ValueError
            If a file is no Parquet, lacks a column, has one twice, or in a type that does not go
            with the others', or changes while it is read; if a column of categories has more than
            1,048,576 levels, as an id has; and as in `fit`.
        TypeError, FloatingPointError, KeyboardInterrupt
            As in `fit`.

        Notes
        -----
        Taken from all rows are the kinds of the columns, levels and their frequencies, the range
        and decimals of numbers, and means of counts. Taken from a uniform sample of `buffer_rows`
        rows are numeric scalings and, after training, the scale of features, the distribution of
        the codes and the noise that is left. With `early_stopping` rows are held out from this
        sample, at most half of it.

        An epoch goes through the row groups in random order, four side by side, and shuffles what
        the buffer holds at a time. Where a file is sorted and its row groups, of which it should
        have many, are larger than the buffer, batches are less mixed than those of `fit`. The next
        rows are read and encoded in a thread beside training.

        ``max_iter="auto"`` means what it means in `fit`: 10 epochs of any table beyond some 77,000
        rows. Of tens of millions one or two may do, with a larger `batch_size`.
        """
        self._check_params()
        check_buffer(buffer_rows)
        warn_of_one_component(self)
        source = open_table(self, source, columns)
        with as_before_on_error(self):
            if source.n_rows <= buffer_rows:
                train_on_table(self, source.read(), None, X_val)
            else:
                fit_on_parquet(self, source, X_val, buffer_rows)
        return self

    def fit_schema(self, X):
        """Learn the columns from a sample, and nothing else; `partial_fit` then goes by them.

        Kinds of columns, scalings, levels and ranges are those of the sample: numbers that decode
        stay inside its range, and levels that it lacks will count as missing. What was fitted
        before is forgotten. `fit` and its like learn the columns from their own rows.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
            As for `fit`; some thousands of rows, drawn from all over the table.

        Returns
        -------
        self : object
            Not fitted: there are columns, but no network.

        Raises
        ------
        ValueError, TypeError
            As `fit` does.
        """
        self._check_params()
        with as_before_on_error(self):
            learn_columns(self, X)
        return self

    def partial_fit(self, X, y=None):
        """Train in one pass over a chunk of rows, on from what was learnt before.

        The first call, after no `fit`, learns the columns from its chunk, unless `fit_schema` has
        learnt them from a sample. They are fixed from then on.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
            A chunk of two rows or more, better of thousands in random order. Levels that the
            columns do not have count as missing, with a warning.
        y : None
            Ignored; here by convention.

        Returns
        -------
        self : object
            Fitted. If the chunk fails, or is interrupted, as it was before.

        Raises
        ------
        ValueError
            If the chunk has other columns, in number, name or order, or holds infinity; if a
            parameter is out of range, or one that made the network was changed.
        FloatingPointError
            As in `fit`.

        Notes
        -----
        The learning rate is constant, at `learning_rate_init`, where that of `fit` rises and falls:
        something below its default may serve long streams. `max_iter`, `early_stopping` and
        `warm_start` have no part in it. With an int as `random_state` the same chunks in the same
        order give the same encoder.

        What is read off a trained network is read off the last chunk alone: the centre and scale of
        the features, so that those of two calls differ a little in scale; the distribution of the
        codes, and the noise that is left in each column, by which rows are drawn, filled and
        scored. If the chunks are not alike, end with one that is drawn from all.

        The optimizer and the critic of InfoMax-VAE go on from chunk to chunk, but are no part of
        what is pickled or saved: there they begin anew, with the weights as they were.
        """
        self._check_params()
        if "table_" not in vars(self):
            warn_of_one_component(self)
        with as_before_on_error(self):
            train_on(self, X)
        return self

    def _check_params(self):
        parameters = self.get_params(deep=False)
        validate_parameter_constraints(
            self._parameter_constraints, parameters, caller_name=type(self).__name__
        )
        for name in (name for name in parameters if name.endswith("layer_sizes")):
            sizes = np.atleast_1d(np.asarray(parameters[name], dtype=object)).tolist()
            if any(not isinstance(n, Integral) or isinstance(n, bool) or n < 1 for n in sizes):
                raise ValueError(
                    f"The {name!r} parameter must hold ints of at least 1, one for each layer, or "
                    f"be (). Got {parameters[name]!r} instead."
                )
        check_net_params(self.net_params or {}, type(self).__name__)
        resolve_device(self.device)

    def _check_use(self):
        """Check what a fitted encoder goes by, and nothing that only fit does."""
        check_is_fitted(self, "_net")
        used = {
            name: getattr(self, name)
            for name in ("embedding", "device")
            if name in self._parameter_constraints
        }
        validate_parameter_constraints(
            self._parameter_constraints, used, caller_name=type(self).__name__
        )

    def _read(self, X, *, reset, min_rows, table=None):
        begin_alone()
        types = None if reset else (table or self.table_).types
        return self._checked(read(X, types), reset=reset, min_rows=min_rows)

    def _checked(self, frame, *, reset, min_rows):
        for count, least, what in (
            (len(frame.columns[0]) if frame.columns else min_rows, min_rows, "sample"),
            (len(frame.columns), 1, "feature"),
        ):
            if count < least:
                shape = (len(frame.native), len(frame.columns))
                raise ValueError(
                    f"Found array with {count} {what}(s) (shape={shape}) while a minimum of "
                    f"{least} is required by {type(self).__name__}."
                )
        validate_data(self, frame.native, reset=reset, skip_check_array=True)
        return frame

    def _fit_table(self, frame, summaries=None):
        return Table.fit(
            frame,
            categorical_features=self.categorical_features,
            numeric_scaling=self.numeric_scaling,
            max_categories=self.max_categories,
            likelihoods=getattr(self, "likelihoods", None),
            summaries=summaries,
        )

    def _architecture(self):
        """What the network was built from: kept, since parameters may be set after fit."""
        sizes = np.atleast_1d(np.asarray(self.hidden_layer_sizes, dtype=int)).tolist()
        return {
            "n_components": int(self.n_components),
            "hidden_layer_sizes": sizes,
            "activation": self.activation,
            "encoder": self.encoder,
            "columns": repr(
                [
                    np.asarray(self.categorical_features).tolist(),
                    self.numeric_scaling,
                    self.max_categories,
                    getattr(self, "likelihoods", None),
                ]
            ),
        }

    # -- after training ----------------------------------------------------------------------------

    def _read_off(self, net, encoded, seed, measure=None):
        """The attributes that are read off a trained net, on 5,000 rows at most; none is kept.

        ``measure`` gives the measured cells of rows of `encoded`; without it, only what costs
        little is read.
        """
        epochs = [row for row in net.history if "train_loss" in row]
        validation = [-row["valid_loss"] for row in epochs if "valid_loss" in row]
        model = net.module.eval()
        some = encoded[some_rows(encoded, seed)]

        def by_layer(x):
            parts = self._layers(model, x)
            return {(name, i): part for name in parts for i, part in enumerate(parts[name])}

        values = on_rows(model, by_layer, some)
        names = dict.fromkeys(name for name, _ in values)
        return {
            "n_iter_": len(epochs),
            "loss_curve_": [row["train_loss"] for row in epochs],
            "validation_scores_": validation or None,
            "_scales": {
                name: feature_scale([part for (of, _), part in values.items() if of == name])
                for name in names
            },
        }

    @property
    def net_(self):
        """The skorch net: its history, callbacks and module."""
        check_is_fitted(self, "_net")
        if isinstance(self._net, dict):
            with _NETWORK:
                if isinstance(self._net, dict):
                    self._net = self._rebuild(self._net)
        return self._net

    def _rebuild(self, state):
        model = self._build_model(self.table_.likelihood, self._built, 0)
        weights = {name: torch.from_numpy(np.array(w)) for name, w in state["weights"].items()}
        model.load_state_dict(weights)
        net = make_net(self, model, 1, 0)
        net.history.extend(state["history"])
        return net

    def _model(self):
        """The module in evaluation mode, on the device that `device` means now."""
        begin_alone()
        model, device = self.net_.module, resolve_device(self.device)

        def is_there(tensor):
            own = tensor.device
            return own.type == device.type and device.index in (None, own.index)

        # To look, once over all modules, is quicker than to do it again for each row; another
        # thread may be half done.
        with _NETWORK:
            modules = list(model.modules())
            tensors = chain.from_iterable(
                (*m._parameters.values(), *m._buffers.values()) for m in modules
            )
            if not all(tensor is None or is_there(tensor) for tensor in tensors):
                model.to(device)
            if any(module.training for module in modules):
                model.eval()
        return model

    # -- use ---------------------------------------------------------------------------------------

    @property
    def _n_features_out(self):
        self._check_use()
        return len(self._scales[self._embedding][0])

    def transform(self, X):
        """Embed rows; the same row gives the same features whatever stands beside it.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
            With the columns of fit. Values never seen in fit count as missing, with a warning.

        Returns
        -------
        array of shape (n_samples, n_features_out), float32
            The `embedding` chosen (the code, where there is no choice), each feature centred and
            each layer brought to a common scale by one factor; pandas or polars after
            ``set_output``.

        Notes
        -----
        A long array or frame is read in parts, so that no memory is needed beyond that of the
        result.
        """
        self._check_use()
        unseen = {}
        n_rows, frames = read_in_parts(X, self.table_.types)
        features = self._embed(n_rows, frames, unseen)
        warn_of_unseen(unseen)
        return features

    def _embed(self, n_rows, frames, unseen):
        """Features (n_rows, n_features_out) of frames together; values unseen in fit are noted."""
        name, model = self._embedding, self._model()
        centre, scale = (torch.from_numpy(part).to(model.device) for part in self._scales[name])
        factor, shift = 1 / scale, -centre / scale

        def embed(x):
            layers = self._layers(model, x, name)[name]
            widths = [layer.shape[1] for layer in layers]
            scales = zip(shift.split(widths), layers, factor.split(widths), strict=True)
            return {name: [torch.addcmul(*parts) for parts in scales]}

        encoded = (
            self.table_.encode(self._checked(frame, reset=False, min_rows=1), unseen)
            for frame in frames
        )
        return on_rows(model, embed, encoded, n_rows)[name]

    def transform_parquet(self, source, destination, *, keep=None):
        """Embed the rows of Parquet files into a directory of such, part by part.

        Each row group with rows becomes one file, ``part-000000.parquet`` and so on, in the rows'
        order: the directory is read as one table. Where the call was killed, the same call again
        goes on: files that are there are whole, and are left as they are. ``_SUCCESS`` is written
        last: without it, files are lacking.

        Parameters
        ----------
        source : str or path-like, or list of them
            As for `fit_parquet`; only columns of fit and `keep` are read.
        destination : str or path-like
            Directory, made where there is none; for one call at a time.
        keep : list of str, default=None
            Columns to pass on, such as an id, before the features.

        Returns
        -------
        destination : Path

        Raises
        ------
        ImportError
            Without pyarrow (``pip install "cmim-sklearn[parquet]"``).
        FileNotFoundError
            If there is no such file, or none in a directory.
        ValueError
            If the directory holds anything but features of the same encoder, `embedding`, files
            (by name, size and time of their last change), `keep` and release, or lies where its
            files would be taken for rows; if the encoder was fitted on an array; if a file is no
            Parquet, lacks a column, or changes while it is read; and as in `transform`.

        Notes
        -----
        Features are float32, named by `get_feature_names_out`, and those of `transform` up to
        rounding, some 1e-6, as rows come in other parts; whatever ``set_output`` says.
        """
        self._check_use()
        return write_features(self, source, destination, keep)

    def mutual_information(self, X, *, noise=0.3, n_draws=8, random_state=0):
        """Information that codes hold of their rows, in nats: I(x; z) of z ~ q(z | x) + noise.

        A code without noise tells every row from any other, so that its information is infinite,
        or the logarithm of the number of rows, whatever the encoder. What withstands a stated noise
        can be compared: the same noise in every direction, as a share of the code's whole
        deviation, and so whatever its scale and width. The noise of q(z | x) itself comes on top:
        codes that drown in it hold nothing.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
            With the columns of fit; better not the rows of fit. Of more than 5,000 rows, as many
            are drawn.
        noise : float, default=0.3
            Standard deviation of the Gaussian noise in each component, as a share of the root of
            the components' total variance in fit. 0 is q(z | x) alone.
        n_draws : int, default=8
            Draws for each row.
        random_state : int, RandomState instance or None, default=0
            Of the draws, and of the rows where there are too many.

        Returns
        -------
        MutualInformation
            ``estimate``, its Monte-Carlo ``error`` from how the draws differ, the draws' estimates
            as ``folds``, and ``cap``, the logarithm of the number of rows.

        Raises
        ------
        ValueError
            If there is no noise at all: ``noise=0`` where q(z | x) has no variance.

        Warns
        -----
        UserWarning
            Within a tenth, or 0.3 nats, of the cap: more noise, or more rows, are needed.

        Notes
        -----
        With q(z | x) known, as it is here, no critic is needed: the mean of log q(z_i | x_i) less
        the log of the mean of q(z_i | x_j) over all rows. It is a lower bound on the information
        about the rows of the whole population (M. Hoffman, M. Johnson, "ELBO surgery", 2016).
        """
        self._check_use()
        check_at_least_one("n_draws", n_draws)
        is_number = isinstance(noise, Real) and not isinstance(noise, bool)
        if not is_number or not (noise == 0 or LEAST_NOISE <= noise < math.inf):
            raise ValueError(
                f"noise must be 0, or a number of at least {LEAST_NOISE}. Got {noise!r} instead."
            )
        rng = check_random_state(random_state)
        frame = self._read(X, reset=False, min_rows=2)
        frame = frame.take(rng.permutation(frame.n_rows)[:SUMMARY_ROWS])
        model = self._model()

        def encode(x):
            mean, log_variance = model.encode(x)
            return {"mean": mean, "variance": log_variance.exp().expand_as(mean)}

        codes = on_rows(model, encode, self.table_.encode(frame))
        mean, own = codes["mean"].astype(float), codes["variance"].astype(float)
        spread = self._scales["mean"][1] * math.sqrt(TOTAL_VARIANCE / mean.shape[1])
        variance = own + noise**2 * float(np.sum(spread**2))
        if not variance.all():
            raise ValueError(
                f"Codes of {type(self).__name__} have no noise of their own: noise must be above "
                f"0. Got {noise!r}."
            )
        draws = tuple(
            index_information(mean, variance, rng.standard_normal(mean.shape))
            for _ in range(n_draws)
        )
        estimate, cap = float(np.mean(draws)), math.log(len(mean))
        if estimate > cap - max(0.1 * cap, 0.3):
            warnings.warn(
                f"{type(self).__name__}.mutual_information gives {estimate:.2f} nats at noise="
                f"{noise:g}, where {len(mean)} rows can tell {cap:.2f} at most: it says how many "
                "rows there were. Raise noise, or give more rows.",
                UserWarning,
                stacklevel=2,
            )
        error = float(np.std(draws, ddof=1) / math.sqrt(n_draws)) if n_draws > 1 else math.nan
        return MutualInformation(estimate, error, draws, cap)

    def to_onnx(self, path, output="embedding"):
        """Write an ONNX model of the fitted encoder, with all that comes before and after its net.

        It runs by ``onnxruntime.InferenceSession(path)`` and its like, without this library. Rows
        are its first axis, of any length.

        - "embedding" is `transform`. Each column is an input by its name, of shape (n, 1): doubles
          in its own unit for numbers and booleans, strings for strings and categories (levels that
          are no strings, as ``str`` writes them). The output "embedding" is float32
          (n, n_features_out).
        - "decode" is `inverse_transform`: it takes "embedding" and gives the columns. Booleans come
          as such.

        Columns without names are called x0, x1 and so on; an array of numbers alone is a single
        tensor X (n, n_features) of doubles.

        Missing numbers are NaN. A missing string is "", or, where "" is a level, any string that is
        no level: these all count as missing, without a warning. Columns that were all missing in
        fit decode to NaN or "".

        Parameters
        ----------
        path : str or path
            File to write.
        output : {"embedding", "decode"}, default="embedding"
            Whether features are to be computed from rows, or rows from features. Both are those of
            `embedding` as it now is.

        Raises
        ------
        ImportError
            Without the package onnx (``pip install "cmim-sklearn[onnx]"``), or onnxscript, by which
            torch exports a network of your own.
        ValueError
            If `output` is neither, or "decode" where there is no decoder; if two levels of a column
            are one string, as 1 and "1".

        Notes
        -----
        Features are those of `transform` up to rounding, some 1e-6; decoded levels are the same,
        and so are numbers but for rounding. Values are not checked: what `transform` refuses or
        warns of goes through. For whole pipelines see `cmim_sklearn.onnx.register`.
        """
        from cmim_sklearn.onnx._export import export

        model = export(self, output)
        with open(path, "wb") as file:
            file.write(model.SerializeToString())

    # -- state -------------------------------------------------------------------------------------

    def save(self, path):
        """Write the fitted encoder to one file that holds no code.

        The file has the parameters and all that was learnt, no training row, and is written whole
        or not at all. What only training needs and is no plain value is left out with a warning: a
        `view` of your own, `net_params` with objects in them (then all of them), a RandomState
        instance, scikit-learn's callbacks and metadata requests. Functions given as `encoder` and
        `decoder` are written by name alone, for the message of `load`, which asks for them.

        Parameters
        ----------
        path : str or path-like
            Of the file, whatever its ending; what is there is replaced, but for its access rights.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before fit.
        TypeError
            If the class is not the library's own, or a parameter or an attribute that you have set
            holds something that JSON and numpy arrays cannot.
        EncoderFileError
            If the file would not load, as one that is too large.
        OSError
            If the file cannot be written; what was there is there still.

        See Also
        --------
        load : Read it.
        """
        save_encoder(self, path)

    @classmethod
    def load(cls, path, device="auto", encoder=None, decoder=None):
        """Read a fitted encoder of this class from a file that `save` wrote.

        Loading runs no code from the file: nothing is unpickled, nothing that it names is imported
        or called, and all sizes are checked against the bytes that are there before anything is
        allocated. A file of a stranger can so give wrong features, no more. The loaded encoder does
        on the same machine's CPU, with the same libraries, what the saved one did to the bit. Files
        of this release will load in later ones.

        Parameters
        ----------
        path : str or path-like
            Of the file.
        device : str, default="auto"
            The `device` of the loaded encoder, whatever the saved one's was; looked for when it is
            used, not now.
        encoder, decoder : callable, default=None
            What made the saved encoder's networks, where those were functions of your own; else
            None.

        Returns
        -------
        encoder : object
            Of this class, fitted.

        Raises
        ------
        cmim_sklearn.archive.EncoderFileError
            A ValueError, with the path and what is wrong: the file is none of an encoder, or one of
            another class, is cut short, damaged or tampered with, has a format that this release
            does not know, or asks for `encoder` or `decoder`.
        TypeError
            If the class is not the library's own.
        OSError
            If the file cannot be read.

        See Also
        --------
        save : Write it.
        """
        return load_encoder(cls, path, device, {"encoder": encoder, "decoder": decoder})

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def __getstate__(self):
        """All that the encoder is, as JSON values and numpy arrays."""
        state = dict(super().__getstate__())
        if "table_" in state:
            state["table_"] = self.table_.state()
        if not isinstance(state.get("_net", {}), dict):
            state["_net"] = net_state(self._net)
        if isinstance(state.get("net_params"), dict) and state["net_params"].get("callbacks"):
            # As they were given: a scheduler that has trained holds the optimizer.
            callbacks = [_as_given(callback) for callback in state["net_params"]["callbacks"]]
            state["net_params"] = state["net_params"] | {"callbacks": callbacks}
        return state

    def __sklearn_is_fitted__(self):
        return hasattr(self, "_net")  # fit_schema alone makes no features

    def __setstate__(self, state):
        state = dict(state)
        if "table_" in state:
            state["table_"] = Table.from_state(state["table_"])
        super().__setstate__(state)


def _as_given(callback):
    """A callback, or a pair of name and callback, without what it has learnt."""
    if isinstance(callback, tuple):
        return tuple(_as_given(part) for part in callback)
    if isinstance(callback, type) or not hasattr(callback, "get_params"):
        return callback
    given = copy.copy(callback)
    for name in [name for name in vars(given) if name.endswith("_") and name[0] != "_"]:
        delattr(given, name)
    return given


def check_at_least_one(name, value):
    """Raise where a count is no int of at least 1."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be an int of at least 1. Got {value!r} instead.")
