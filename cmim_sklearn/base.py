"""What all encoders share: the story of fit, transform, sample, impute and score.

Names become objects here, and only here.
"""

import copy
import threading
import warnings
from abc import ABCMeta, abstractmethod
from numbers import Integral

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import validate_parameter_constraints
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from cmim_sklearn.density import CALIBRATION_ROWS, SCORE_DRAWS, RowPosterior, calibrate
from cmim_sklearn.embedding import decode, embed, feature_scale
from cmim_sklearn.frames import fill, is_missing, read, write
from cmim_sklearn.latents import LATENT_PRIORS, POSTERIORS, Latents
from cmim_sklearn.model import LatentModel, on_rows
from cmim_sklearn.net import (
    CallbackSupportMixin,
    EncodedTable,
    EpochTasks,
    KeepBest,
    LatentNet,
    ObjectiveLoss,
    check_net_params,
    hold_out,
    net_state,
    resolve_device,
    with_callbacks,
)
from cmim_sklearn.networks import build as build_network
from cmim_sklearn.table import Table

AUTO_UPDATES, AUTO_MIN_EPOCHS, AUTO_MAX_EPOCHS = 3000, 10, 400
SUMMARY_ROWS = 5000
DRAWS_PER_COPY = 32
USUAL_ROWS = 50
ENCODER_TRUST = 0.7

_REBUILD = threading.Lock()


class _LatentEncoder(
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
    metaclass=ABCMeta,
):
    """Fit, transform, inverse_transform and sample for encoders with a latent code and a decoder.

    A subclass is final: it has a constructor that stores, its `_parameter_constraints`, and
    `_objective`.
    """

    @abstractmethod
    def _objective(self) -> ObjectiveLoss:
        """The loss to train with, from the parameters."""

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
            holds infinity or complex numbers.
        TypeError
            If a column holds dates, times or nested values.
        FloatingPointError
            If the loss is no longer finite.
        KeyboardInterrupt
            After Ctrl-C; the encoder is fitted all the same, with a warning.
        """
        self._check_params()
        objective = self._objective()
        if self.n_components == 1 and objective.options.get("contrastive_weight"):
            warnings.warn(
                "With n_components=1 codes have no direction to spread, and the contrastive term "
                "no gradient: this fit is A-MIM. Take 2 components or more, or "
                "contrastive_weight=0 to say so.",
                UserWarning,
                stacklevel=3,
            )
        before = dict(vars(self))
        try:
            return self._fit(X, y, X_val)
        except BaseException:
            if vars(self).get("_net") is before.get("_net"):
                # Not fitted anew: names and number of columns are again those of the last fit.
                for name in ("n_features_in_", "feature_names_in_"):
                    vars(self).pop(name, None)
                    if name in before:
                        setattr(self, name, before[name])
            raise

    def _fit(self, X, y, X_val):
        warm = self.warm_start and hasattr(self, "_net")
        frame = self._read(X, reset=not warm, min_rows=2)
        rng = check_random_state(self.random_state)
        seed = int(rng.randint(2**31 - 1))
        built = self._architecture()
        if warm:
            self._check_as_built(built)
        table = self.table_ if warm else self._fit_table(frame)
        encoded, encoded_val, rows = table.encode(frame), None, np.arange(frame.n_rows)
        if X_val is not None:
            encoded_val = table.encode(self._read(X_val, reset=False, min_rows=1))
        elif self.early_stopping:
            rows, held_out = self._split(len(encoded), np.random.RandomState(seed))
            encoded, encoded_val = encoded[rows], encoded[held_out]
        # A copy where it goes on, so that a fit that fails leaves the encoder as it was.
        model = (
            copy.deepcopy(self.net_.module)
            if warm
            else _build_model(table.likelihood, built, self.input_masking, seed)
        )
        model.input_masking = self.input_masking
        n_epochs = self._n_epochs(len(encoded))

        def so_far(net):
            # For scikit-learn's callbacks, which may ask at every epoch: no mixture, and a copy.
            attributes = self._read_off(net, encoded, seed, latent_prior="normal")
            return {**attributes, "table_": table, "_built": built, "_net": net_state(net)}

        def read_off(net):
            return self._read_off(
                net,
                encoded,
                seed,
                self.latent_prior,
                lambda some: table.measure(frame.take(rows[some])),
            )

        tasks = self._callback_tasks(n_epochs, X, y, so_far)
        net = self._make_net(model, n_epochs, seed, encoded_val, tasks)
        if warm:
            net.history.extend(self.net_.history)
        interrupted = None
        try:
            net.partial_fit(EncodedTable(encoded))
            attributes = read_off(net)
        except KeyboardInterrupt as stop:
            interrupted = stop
            attributes = read_off(net)
        vars(self).update(attributes, table_=table, _built=built, _net=net)
        try:
            if interrupted is not None:
                warnings.warn(
                    f"Training was interrupted after {self.n_iter_} epochs. The encoder is fitted "
                    "with the weights it had, the best ones where rows were held out.",
                    UserWarning,
                    stacklevel=4,
                )
            for task in tasks:
                task.end(net)
        finally:
            net.forget_data()
            if interrupted is not None:
                raise interrupted
        return self

    def _check_params(self):
        parameters = self.get_params(deep=False)
        validate_parameter_constraints(
            self._parameter_constraints, parameters, caller_name=type(self).__name__
        )
        sizes = np.atleast_1d(np.asarray(self.hidden_layer_sizes, dtype=object)).tolist()
        if any(not isinstance(n, Integral) or isinstance(n, bool) or n < 1 for n in sizes):
            raise ValueError(
                "The 'hidden_layer_sizes' parameter must hold ints of at least 1, one for each "
                f"hidden layer, or be (). Got {self.hidden_layer_sizes!r} instead."
            )
        check_net_params(self.net_params or {}, type(self).__name__)
        resolve_device(self.device)

    def _check_use(self):
        """Check what a fitted encoder goes by, and nothing that only fit does."""
        check_is_fitted(self, "_net")
        used = {name: getattr(self, name) for name in ("embedding", "device")}
        validate_parameter_constraints(
            self._parameter_constraints, used, caller_name=type(self).__name__
        )

    def _read(self, X, *, reset, min_rows):
        frame = read(X)
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

    def _fit_table(self, frame):
        return Table.fit(
            frame,
            categorical_features=self.categorical_features,
            numeric_scaling=self.numeric_scaling,
            max_categories=self.max_categories,
            likelihoods=self.likelihoods,
        )

    def _split(self, n_rows, rng):
        n_held_out = max(1, round(self.validation_fraction * n_rows))
        if n_rows - n_held_out < 2:
            raise ValueError(
                f"validation_fraction={self.validation_fraction} of {n_rows} rows leaves "
                f"{n_rows - n_held_out} to train on; 2 are needed. Lower it, give more rows "
                "or set early_stopping=False."
            )
        order = rng.permutation(n_rows)
        return order[n_held_out:], order[:n_held_out]

    def _architecture(self):
        """What the network was built from: kept, since parameters may be set after fit."""
        sizes = np.atleast_1d(np.asarray(self.hidden_layer_sizes, dtype=int)).tolist()
        return {
            "n_components": int(self.n_components),
            "posterior": self.posterior,
            "hidden_layer_sizes": sizes,
            "activation": self.activation,
            "encoder": self.encoder,
            "decoder": self.decoder,
            "columns": repr(
                [
                    np.asarray(self.categorical_features).tolist(),
                    self.numeric_scaling,
                    self.max_categories,
                    self.likelihoods,
                ]
            ),
        }

    def _check_as_built(self, built):
        changed = [name for name, value in built.items() if value != self._built[name]]
        if "columns" in changed:
            changed[changed.index("columns")] = (
                "one of categorical_features, numeric_scaling, max_categories and likelihoods"
            )
        if changed:
            raise ValueError(
                f"warm_start=True goes on with the fitted network, but {', '.join(changed)} "
                "changed since it was built. Set warm_start=False to begin anew."
            )

    def _n_epochs(self, n_rows):
        if self.max_iter != "auto":
            return int(self.max_iter)
        n_batches = max(1, -(-n_rows // self.batch_size))
        return int(np.clip(-(-AUTO_UPDATES // n_batches), AUTO_MIN_EPOCHS, AUTO_MAX_EPOCHS))

    def _callback_tasks(self, n_epochs, X, y, so_far):
        """What tells scikit-learn's callbacks of the fit: one skorch callback, or none."""
        if not hasattr(self, "_init_callback_context"):
            return []
        context = self._init_callback_context(max_subtasks=n_epochs)
        return [EpochTasks(context, {"estimator": self, "X": X, "y": y}, so_far)]

    def _make_net(self, model, n_epochs, seed, encoded_val=None, tasks=()):
        callbacks = list(tasks)
        if encoded_val is not None:
            callbacks.append(("early_stopping", KeepBest(self.n_iter_no_change, self.tol)))
        device = resolve_device(self.device)
        own = dict(self.net_params or {})
        callbacks += list(own.pop("callbacks", None) or [])
        if "optimizer" not in own:
            fused = device.type in ("cpu", "cuda")
            own = {"optimizer": torch.optim.AdamW, "optimizer__fused": fused, **own}
        net = LatentNet(
            model,
            self._objective(),
            seed=seed,
            title=type(self).__name__,
            callbacks=callbacks,
            max_epochs=n_epochs,
            batch_size=self.batch_size,
            train_split=None if encoded_val is None else hold_out(encoded_val),
            device=device,
            verbose=int(self.verbose),
            optimizer__lr=self.learning_rate_init,
            optimizer__weight_decay=self.alpha,
            **own,
        )
        return net.initialize()

    # -- after training ----------------------------------------------------------------------------

    def _read_off(self, net, encoded, seed, latent_prior, measure=None):
        """The attributes that are read off a trained net, on 5,000 rows at most; none is kept.

        ``measure`` gives the measured cells of rows of `encoded`; without it the noise of p(x | z)
        stays as it is.
        """
        epochs = [row for row in net.history if "train_loss" in row]
        validation = [-row["valid_loss"] for row in epochs if "valid_loss" in row]
        model = net.module.eval()
        order = np.random.RandomState(seed).permutation(len(encoded))[:SUMMARY_ROWS]

        def codes_and_features(x):
            posterior = model.encode(x)
            noise = posterior.log_variance.exp().expand_as(posterior.mean)
            return {"codes": posterior.mean, "noise": noise, **embed(model, x)}

        values = on_rows(model, codes_and_features, encoded[order])
        codes, noise = values.pop("codes"), values.pop("noise").mean(0)
        latents = LATENT_PRIORS[latent_prior](codes, noise, seed)
        if measure is not None:
            some = order[:CALIBRATION_ROWS]
            calibrate(model, latents, codes[: len(some)], measure(some), len(encoded))
        return {
            "n_iter_": len(epochs),
            "loss_curve_": [row["train_loss"] for row in epochs],
            "validation_scores_": validation or None,
            "_scales": {name: feature_scale(features) for name, features in values.items()},
            "_latents": latents,
        }

    @property
    def net_(self):
        """The skorch net: its history, callbacks and module."""
        check_is_fitted(self, "_net")
        if isinstance(self._net, dict):
            with _REBUILD:
                if isinstance(self._net, dict):
                    self._net = self._rebuild(self._net)
        return self._net

    def _rebuild(self, state):
        model = _build_model(self.table_.likelihood, self._built, self.input_masking, 0)
        weights = {name: torch.from_numpy(np.array(w)) for name, w in state["weights"].items()}
        model.load_state_dict(weights)
        net = self._make_net(model, 1, 0)
        net.history.extend(state["history"])
        return net

    def _model(self):
        """The module in evaluation mode, on the device that `device` means now."""
        model = self.net_.module
        model.to(resolve_device(self.device))
        return model.eval()

    # -- use ---------------------------------------------------------------------------------------

    @property
    def _n_features_out(self):
        self._check_use()
        return len(self._scales[self.embedding][0])

    def transform(self, X):
        """Embed rows; the same row gives the same features whatever stands beside it.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
            With the columns of fit. Values never seen in fit count as missing, with a warning.

        Returns
        -------
        array of shape (n_samples, n_features_out), float32
            The `embedding` chosen, each feature centred and brought to one common scale; pandas
            or polars after ``set_output``.
        """
        self._check_use()
        encoded = self.table_.encode(self._read(X, reset=False, min_rows=1))
        centre, scale = self._scales[self.embedding]
        name, model = self.embedding, self._model()
        values = on_rows(model, lambda x: embed(model, x, [name]), encoded)[name]
        return (values - centre) / scale

    def inverse_transform(self, X):
        """Decode embedded rows to the likeliest table.

        Parameters
        ----------
        X : array of shape (n_samples, n_features_out)
            As `transform` returns it, for the same `embedding`.

        Returns
        -------
        table of shape (n_samples, n_features)
            Of the library, names, order, dtypes and categories of the table fitted; numbers stay
            inside the training range. Nothing is missing, save in columns that were all missing.
            A pandas X hands on its row index.
        """
        self._check_use()
        is_pandas = type(X).__module__.split(".")[0] == "pandas"
        index = X.index if is_pandas and self.table_.layout.library == "pandas" else None
        X = check_array(X, dtype=np.float32, input_name="X")
        if X.shape[1] != self._n_features_out:
            raise ValueError(
                f"X has {X.shape[1]} features, but {type(self).__name__} with "
                f"embedding={self.embedding!r} expects {self._n_features_out} features as input "
                "of inverse_transform."
            )
        centre, scale = self._scales[self.embedding]
        model, name = self._model(), self.embedding
        decoded = on_rows(
            model,
            lambda h: {"x": model.likelihood.point(decode(model, h, name))},
            X * scale + centre,
        )
        return self.table_.decode(decoded["x"], index)

    def reconstruct(self, X):
        """Decode each row from its own code: the model's idea of it, holes filled.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
            With the columns of fit.

        Returns
        -------
        table of shape (n_samples, n_features)
            As `inverse_transform` gives it, whatever the `embedding`; a pandas X hands on its row
            index.
        """
        self._check_use()
        frame = self._read(X, reset=False, min_rows=1)
        model = self._model()
        decoded = on_rows(
            model,
            lambda x: {"x": model.likelihood.point(model.decoder(model.posterior_mean(x)))},
            self.table_.encode(frame),
        )
        return self.table_.decode(
            decoded["x"], frame.index if self.table_.layout.library == "pandas" else None
        )

    def sample(self, n_samples=1, *, conditions=None, random_state=None):
        """Draw new rows: a code from `latent_prior`, then each column from p(x | z).

        Parameters
        ----------
        n_samples : int, default=1
            How many; with a table of conditions, how many for each of its rows.
        conditions : dict or table, default=None
            What to hold fixed: one value a column, by name (by position where arrays were fitted),
            as ``{"sex": "Female", "age": 40}``; or a frame of partial rows, with any of the columns
            and holes where nothing is known. Codes are then drawn by what they make of these cells
            (importance resampling), the other columns from them.
        random_state : int, RandomState instance or None, default=None
            An int repeats the draw.

        Returns
        -------
        table of shape (n_samples, n_features)
            Of the library, names, order, dtypes and categories of the table fitted, without holes.
            Numbers stay inside the training range, unless ``numeric_scaling`` is "standard" or None
            and they are not whole. Conditioned cells are as given. Draws for one row of conditions
            stand together, and have its index where that is a pandas frame.

        Raises
        ------
        ValueError
            If conditions name a column or a level that fit did not see.

        Notes
        -----
        All but exact where the cells held fixed are at all likely. A value far from any seen
        leaves few codes to choose from, and draws for it will be much alike.
        """
        self._check_use()
        _check_count("n_samples", n_samples)
        seed = int(check_random_state(random_state).randint(2**31 - 1))
        model = self._model()
        generator = torch.Generator(model.device).manual_seed(seed)
        if conditions is None:
            codes = self._latents.sample(n_samples, np.random.default_rng(seed))
            drawn = on_rows(
                model, lambda z: {"x": model.likelihood.sample(model.decoder(z), generator)}, codes
            )
            return self.table_.decode(drawn["x"], drawn=True)
        given = self.table_.conditions(conditions)
        rows = np.repeat(np.arange(given.n_rows), n_samples)
        columns = self._draw_given(model, self.table_.measure(given), n_samples, generator)
        is_pandas = given.index is not None and self.table_.layout.library == "pandas"
        return write(
            self.table_.layout,
            self.table_.impose(columns, given, rows),
            self.table_.types,
            given.index[rows] if is_pandas else None,
        )

    def _draw_given(self, model, cells, n_samples, generator):
        """Raw columns of n_samples draws for each row of measured cells, side by side."""
        # Many draws for a row come from copies of it, each with codes of its own to choose from.
        n_rows, each = len(cells), min(n_samples, DRAWS_PER_COPY)
        n_copies = -(-n_samples // each)

        def draw(draws, rows):
            params = draws.resample(each, generator)
            return {
                "x": model.likelihood.sample(params.flatten(0, 1), generator).view(
                    len(params), each, -1
                )
            }

        posterior = RowPosterior(model, self._latents)
        drawn = posterior.map(draw, np.repeat(cells, n_copies, axis=0), generator=generator)["x"]
        drawn = drawn.reshape(n_rows, n_copies * each, -1)[:, :n_samples]
        return self.table_.raw_columns(drawn.reshape(n_rows * n_samples, -1), drawn=True)

    def impute(self, X, *, n_draws=None, random_state=None):
        """Fill the holes of a table, given what each row shows.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
            With the columns of fit.
        n_draws : int, default=None
            None fills a hole with the mean of what it may be, in the column's own unit, or with the
            likeliest level: the best single guess. A number gives that many tables, each with holes
            drawn from the model: multiple imputation, for results whose spread must show what is
            not known.
        random_state : int, RandomState instance or None, default=None
            For `n_draws`; without it the same X always gives the same table.

        Returns
        -------
        table like X, or a list of n_draws of them
            Observed cells, dtypes and row index are those of X. Means in a column of integer dtype
            are rounded; pandas holds integers with holes as floats, whose means are not. A row
            without any observed cell gets the means of the table, or a draw from it. A column that
            was all missing in fit stays so.

        Notes
        -----
        A single guess lies between the mean under the model of `score_samples` and what the encoder
        makes of the row, which errs otherwise; the more cells a row shows, the nearer to the
        latter. Draws come from the model alone.
        """
        self._check_use()
        if n_draws is not None:
            _check_count("n_draws", n_draws)
        frame = self._read(X, reset=False, min_rows=1)
        table, model = self.table_, self._model()
        rows = np.flatnonzero(np.any([is_missing(values) for values in frame.columns], axis=0))
        holed = frame.take(rows)
        if n_draws is None:
            columns = self._guess(model, holed) if len(rows) else []
            return fill(X, frame, table.layout, table.types, rows, columns)
        seed = int(check_random_state(random_state).randint(2**31 - 1))
        generator = torch.Generator(model.device).manual_seed(seed)
        columns = []
        if len(rows):
            columns = self._draw_given(model, table.measure(holed), n_draws, generator)
        return [
            fill(X, frame, table.layout, table.types, rows, [v[k::n_draws] for v in columns])
            for k in range(n_draws)
        ]

    def _guess(self, model, frame):
        """Raw columns of means and likeliest levels for the rows of a frame.

        There are two estimates of what a row's holes hold: that of the latents, exact for the model
        but not for the data, and what the encoder makes of a row with holes, which it was trained
        to rebuild. They err differently, and a mean between them does so least. The fewer cells a
        row shows, the less the encoder is to be trusted; of none it knows nothing.
        """
        table, posterior = self.table_, RowPosterior(model, self._latents)
        own = on_rows(
            model, lambda x: {"params": model.decoder(model.posterior_mean(x))}, table.encode(frame)
        )["params"]
        shown = np.mean([~is_missing(values) for values in frame.columns], axis=0)
        own, trust = (
            torch.as_tensor(part, dtype=posterior.dtype, device=posterior.device)
            for part in (own, ENCODER_TRUST * shown)
        )

        def guess(draws, rows):
            draws = draws.moved_towards(own[rows], trust[rows])
            return dict(enumerate(posterior.likelihood.guess(draws.params, draws.shares())))

        guessed = posterior.map(guess, table.measure(frame))
        return table.in_order([guessed[c] for c in range(len(guessed))])

    def score_samples(self, X, *, return_error=False):
        """Log-likelihood of each row, under the model that `sample` draws from.

        Whole numbers count by the probability of their bin [k - 1/2, k + 1/2], levels by theirs,
        other numbers by the density in their own unit; values that many rows share, such as the
        zero of a mostly-zero amount, by their probability. Missing cells are left out (integrated
        over). A level never seen in fit has probability 1 / (n + K + 1), after n rows and K levels.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
            With the columns of fit.
        return_error : bool, default=False
            Whether to give the Monte-Carlo standard error besides.

        Returns
        -------
        array of shape (n_samples,), float64
            In nats.
        array of shape (n_samples,), float64
            Standard errors, in nats, if `return_error`. Above 1 or so, the score is a lower bound
            rather than an estimate.

        Notes
        -----
        An integral over codes, by importance sampling with 256 codes a row from Gaussians fitted to
        each row's own posterior. The same noise serves all rows and calls, so that scores repeat
        and a row's does not depend on its neighbours.
        """
        self._check_use()
        cells = self.table_.measure(self._read(X, reset=False, min_rows=1))
        scores = RowPosterior(self._model(), self._latents).map(_score, cells, SCORE_DRAWS)
        scores = {name: values.astype(np.float64) for name, values in scores.items()}
        return (scores["score"], scores["error"]) if return_error else scores["score"]

    def score(self, X, y=None):
        """Mean log-likelihood of the rows, in nats; see `score_samples`.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
        y : None
            Ignored; here by convention.

        Returns
        -------
        float
        """
        return float(self.score_samples(X).mean())

    def score_columns(self, X):
        """How odd each cell is, given the rest of its row: the least of a row is the oddest.

        log p(cell | other cells of the row), minus what it is on average over rows of the model's
        own (50 of them, always the same): 0 is usual, whatever the column's unit and noise.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
            With the columns of fit.

        Returns
        -------
        array of shape (n_samples, n_features), float64
            In nats; 0 where a cell is missing.

        Notes
        -----
        Takes n_features + 1 times as long as `score_samples` does: give it the rows that stood out
        there.
        """
        self._check_use()
        frame = self._read(X, reset=False, min_rows=1)
        usual = read(self.sample(USUAL_ROWS, random_state=0))
        cells = np.concatenate([self.table_.measure(frame), self.table_.measure(usual)])
        posterior = RowPosterior(self._model(), self._latents)
        whole = posterior.map(_score, cells, SCORE_DRAWS)["score"]
        out = np.zeros((frame.n_rows, len(frame.columns)))
        for p, values in enumerate(frame.columns):
            rest = cells.copy()
            rest[:, self.table_.cells_of(p)] = np.nan
            given_rest = (whole - posterior.map(_score, rest, SCORE_DRAWS)["score"]).astype(
                np.float64
            )
            here, there = given_rest[: frame.n_rows], given_rest[frame.n_rows :]
            out[:, p] = np.where(is_missing(values), 0.0, here - there.mean())
        return out

    # -- state -------------------------------------------------------------------------------------

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def __getstate__(self):
        """All that the encoder is, as JSON values and numpy arrays."""
        state = dict(super().__getstate__())
        if "_net" in state:
            state["table_"] = self.table_.state()
            state["_latents"] = self._latents.state()
            if not isinstance(self._net, dict):
                state["_net"] = net_state(self._net)
        return state

    def __setstate__(self, state):
        state = dict(state)
        if "_net" in state:
            state["table_"] = Table.from_state(state["table_"])
            state["_latents"] = Latents(**state["_latents"])
        super().__setstate__(state)


def _check_count(name, value):
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be an int of at least 1. Got {value!r} instead.")


def _score(draws, rows):
    return {"score": draws.log_density(), "error": draws.error()}


def _build_model(likelihood, architecture, input_masking, seed):
    """Put a `LatentModel` together, its parameters drawn from a local generator."""
    n_codes = architecture["n_components"]
    shape = architecture["hidden_layer_sizes"], architecture["activation"]
    posterior = POSTERIORS[architecture["posterior"]](n_codes)
    n_outputs = n_codes * posterior.outputs_per_component
    generator = torch.Generator().manual_seed(seed)
    encoder = build_network(
        architecture["encoder"], likelihood.n_inputs, n_outputs, *shape, generator, is_decoder=False
    )
    decoder = build_network(
        architecture["decoder"], n_codes, likelihood.n_params, *shape, generator, is_decoder=True
    )
    return LatentModel(encoder, posterior, decoder, likelihood, input_masking)
