"""The estimator: its parameters, and the story of fit, transform, inverse_transform and sample.

Names become objects here, and only here.
"""

import copy
import threading
import warnings
from abc import ABCMeta, abstractmethod
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from cmim_sklearn.embedding import EMBEDDINGS, decode, embed, feature_scale
from cmim_sklearn.frames import read
from cmim_sklearn.latents import LATENT_PRIORS, POSTERIORS
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
from cmim_sklearn.networks import ACTIVATIONS, NETWORKS
from cmim_sklearn.networks import build as build_network
from cmim_sklearn.objectives import OBJECTIVES
from cmim_sklearn.scaling import SCALINGS
from cmim_sklearn.table import Table

AUTO_UPDATES, AUTO_MIN_EPOCHS, AUTO_MAX_EPOCHS = 3000, 10, 400
SUMMARY_ROWS = 5000

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
        encoded, encoded_val = table.encode(frame), None
        if X_val is not None:
            encoded_val = table.encode(self._read(X_val, reset=False, min_rows=1))
        elif self.early_stopping:
            encoded, encoded_val = self._split(encoded, np.random.RandomState(seed))
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

        tasks = self._callback_tasks(n_epochs, X, y, so_far)
        net = self._make_net(model, n_epochs, seed, encoded_val, tasks)
        if warm:
            net.history.extend(self.net_.history)
        interrupted = None
        try:
            net.partial_fit(EncodedTable(encoded))
            attributes = self._read_off(net, encoded, seed, self.latent_prior)
        except KeyboardInterrupt as stop:
            interrupted = stop
            attributes = self._read_off(net, encoded, seed, self.latent_prior)
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

    def _split(self, encoded, rng):
        n_held_out = max(1, round(self.validation_fraction * len(encoded)))
        if len(encoded) - n_held_out < 2:
            raise ValueError(
                f"validation_fraction={self.validation_fraction} of {len(encoded)} rows leaves "
                f"{len(encoded) - n_held_out} to train on; 2 are needed. Lower it, give more rows "
                "or set early_stopping=False."
            )
        order = rng.permutation(len(encoded))
        return encoded[order[n_held_out:]], encoded[order[:n_held_out]]

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

    def _read_off(self, net, encoded, seed, latent_prior):
        """The attributes that are read off a trained net, on 5,000 rows at most; none is kept."""
        epochs = [row for row in net.history if "train_loss" in row]
        validation = [-row["valid_loss"] for row in epochs if "valid_loss" in row]
        model = net.module.eval()
        order = np.random.RandomState(seed).permutation(len(encoded))
        some = encoded[order[:SUMMARY_ROWS]]
        generator = torch.Generator(model.device).manual_seed(seed)

        def codes_and_features(x):
            codes, _ = model.draw_codes(x, model.draw_noise(x, generator))
            return {"codes": codes, **embed(model, x)}

        values = on_rows(model, codes_and_features, some)
        latents = LATENT_PRIORS[latent_prior].fit(values.pop("codes"), seed)
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

    def sample(self, n_samples=1, *, random_state=None):
        """Draw new rows: a code from `latent_prior`, then each column from p(x | z).

        Parameters
        ----------
        n_samples : int, default=1
        random_state : int, RandomState instance or None, default=None
            An int repeats the draw.

        Returns
        -------
        table of shape (n_samples, n_features)
            Of the library, names, order, dtypes and categories of the table fitted, without holes.
        """
        self._check_use()
        if not isinstance(n_samples, Integral) or isinstance(n_samples, bool) or n_samples < 1:
            raise ValueError(f"n_samples must be an int of at least 1. Got {n_samples!r} instead.")
        seed = int(check_random_state(random_state).randint(2**31 - 1))
        codes = self._latents.sample(n_samples, np.random.default_rng(seed))
        model = self._model()
        generator = torch.Generator(model.device).manual_seed(seed)
        drawn = on_rows(
            model, lambda z: {"x": model.likelihood.sample(model.decoder(z), generator)}, codes
        )
        return self.table_.decode(drawn["x"])

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
            state["_latents"] = {
                "prior": next(k for k, v in LATENT_PRIORS.items() if isinstance(self._latents, v)),
                "fitted": self._latents.state(),
            }
            if not isinstance(self._net, dict):
                state["_net"] = net_state(self._net)
        return state

    def __setstate__(self, state):
        state = dict(state)
        if "_net" in state:
            latents = state["_latents"]
            state["table_"] = Table.from_state(state["table_"])
            state["_latents"] = LATENT_PRIORS[latents["prior"]](**latents["fitted"])
        super().__setstate__(state)


class CMIMEncoder(_LatentEncoder):
    """Embed mixed tables by cMIM: `n_components` is the latent width, `embedding` the output's.

    cMIM is the contrastive Mutual Information Machine. By default `transform` returns the decoder's
    hidden layers side by side, 512 features; `n_components` is the width of the code behind them.

    A probabilistic auto-encoder for tables of any column types, with holes, trained without labels
    on the A-MIM loss plus a contrastive term that needs no augmented views. Being generative, it
    also decodes (`inverse_transform`) and draws new rows (`sample`).

    Parameters
    ----------
    n_components : int, default=64
        Width d of the latent code. For a map, take ``n_components=2, embedding="mean"``.
    contrastive_weight : float, default=1.0
        Factor of the contrastive term, which spreads the directions of codes; 0 gives A-MIM. The
        term is at most 0.69 nats a row.
    temperature : float, default=0.1
        Of the cosine similarity in the contrastive term. Fixed, not learnt.
    embedding : {"informative", "hidden", "mean"}, default="hidden"
        What `transform` returns. "informative" is the decoder's last hidden activation at the
        posterior mean, before the map to the parameters of p(x | z); "hidden" is all its hidden
        activations side by side; "mean" is the posterior mean itself, `n_components` wide. All
        three have an `inverse_transform`. Takes effect at once when set after fit.
    posterior : {"sampled", "learned", "fixed"}, default="sampled"
        The variance of q(z | x): drawn per row in training, log-variance uniform on [-6, 0];
        learnt, above a soft floor of -6 for the log-variance; or a fixed log-variance of -2.
        Nothing in the loss keeps a learnt variance from running to its floor.
    latent_prior : {"mixture", "normal"}, default="mixture"
        Where `sample` draws codes: a Gaussian mixture fitted after training to codes drawn as in
        training, its size chosen by held-out likelihood; or N(0, I), which A-MIM does not make
        the codes match. Takes effect in fit.
    hidden_layer_sizes : int or sequence of int, default=(256, 256)
        Widths of the hidden layers, in this order in both encoder and decoder. With ``()`` both
        are linear and the hidden activation is the code itself.
    activation : {"silu", "relu", "gelu", "elu", "tanh", "identity"}, default="silu"
        Of the hidden layers.
    encoder, decoder : {"mlp"} or callable, default="mlp"
        A callable ``(n_in, n_out, hidden_layer_sizes, activation) -> nn.Module`` that maps
        (n, n_in) to (n, n_out). A decoder's module has two submodules: ``body``, up to its last
        hidden activation, and ``output``, the map from there. A function at a module's top level
        can be pickled. Dropout and the like draw from torch's global random state in training:
        with them fits no longer leave it alone, and repeat only if you seed it.
    categorical_features : "from_dtype" or array-like of {str, int, bool}, default="from_dtype"
        Columns to treat as categories besides those whose dtype or values say so (category, enum,
        string, and object columns that are not all numbers or all booleans).
    numeric_scaling : {"quantile", "standard"} or None, default="quantile"
        How numbers become inputs: through a monotone map to normal scores, by mean and standard
        deviation, or as they are.
    max_categories : int, default=256
        The most classes of a categorical column. Rarer levels share one of them, which decodes to
        the most frequent of them and samples them by frequency.
    likelihoods : dict, default=None
        Kinds to impose, as ``{"visits": "poisson"}``; by name, or by position in an array. Kinds
        are "gaussian", "bernoulli", "categorical" and "poisson".
    input_masking : float, default=0.1
        Share of the observed cells hidden from the encoder, not from the likelihood, at each step.
    batch_size : int, default=256
        The most rows of a training batch; all have nearly the same size, and 2 rows at least.
    learning_rate_init : float, default=3e-3
        Peak learning rate of AdamW; the rate rises to it and falls to 0 over the fit.
    alpha : float, default=1e-4
        Weight decay, decoupled from the gradient.
    max_iter : int or "auto", default="auto"
        Epochs. "auto" makes about 3,000 updates, in 10 to 400 epochs.
    early_stopping : bool, default=False
        Hold out `validation_fraction` of the rows and stop when their loss no longer falls; the
        best weights are kept. ``fit(X, X_val=...)`` does the same with rows of your own.
    validation_fraction : float, default=0.1
        Share of rows held out by `early_stopping`. Columns are learnt from all rows.
    n_iter_no_change : int, default=10
        Epochs without improvement before stopping early.
    tol : float, default=1e-4
        Improvement that counts, in nats a row.
    warm_start : bool, default=False
        Go on from the last fit's columns and weights; the schedule of the learning rate restarts.
    device : str, default="auto"
        "auto" is a CUDA GPU where there is one, else the CPU; or "cpu", "cuda", "cuda:1", "mps".
        Resolved when used: a fitted encoder moves to where it is set, and a file made on a GPU
        opens without.
    net_params : dict, default=None
        More parameters of the skorch net: ``callbacks``, ``compile``, ``optimizer``,
        ``autocast="bfloat16"`` for mixed precision. What this class has a parameter for is
        refused.
    random_state : int, RandomState instance or None, default=None
        Seeds initial weights, shuffling and noise. With an int, fits on one machine's CPU are
        identical to the bit. No global random state is touched.
    verbose : int, default=0
        1 shows epoch, loss terms and seconds left, in place in a terminal and in a notebook; 2
        prints every epoch where lines cannot be rewritten.

    Attributes
    ----------
    table_ : Table
        The columns, their kinds and encodings.
    net_ : skorch.NeuralNet
        The net, with its history, callbacks and module.
    n_iter_ : int
        Epochs trained, with `warm_start` those of earlier fits included.
    loss_curve_ : list of float
        Training loss of each epoch, in nats a row. Negative values are normal.
    validation_scores_ : list of float or None
        Minus the held-out loss of each epoch.
    n_features_in_ : int
        Columns seen in fit.
    feature_names_in_ : array of shape (n_features_in_,)
        Their names, where all are strings.

    See Also
    --------
    sklearn.decomposition.PCA : Linear, for complete numeric tables.

    Notes
    -----
    There is no ``sample_weight``: in mini-batch training a weight is not the same as a repetition.

    References
    ----------
    M. Livne, "cMIM: A Contrastive Mutual Information Framework for Unified Generative and
    Discriminative Representation Learning" (2025), arXiv 2502.19642 and 2509.21511.

    Examples
    --------
    >>> from cmim_sklearn import CMIMEncoder
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> encoder = CMIMEncoder(max_iter=5, random_state=0).fit(X)
    >>> encoder.transform(X).shape
    (150, 512)
    >>> list(encoder.sample(3, random_state=0).columns) == list(X.columns)
    True
    """

    _parameter_constraints: ClassVar[dict] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "contrastive_weight": [Interval(Real, 0, None, closed="left")],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "embedding": [StrOptions(set(EMBEDDINGS))],
        "posterior": [StrOptions(set(POSTERIORS))],
        "latent_prior": [StrOptions(set(LATENT_PRIORS))],
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "encoder": [StrOptions(set(NETWORKS)), callable],
        "decoder": [StrOptions(set(NETWORKS)), callable],
        "categorical_features": [StrOptions({"from_dtype"}), "array-like", None],
        "numeric_scaling": [StrOptions({name for name in SCALINGS if name}), None],
        "max_categories": [Interval(Integral, 2, None, closed="left")],
        "likelihoods": [dict, None],
        "input_masking": [Interval(Real, 0, 1, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "warm_start": ["boolean"],
        "device": [str],
        "net_params": [dict, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_components=64,
        *,
        contrastive_weight=1.0,
        temperature=0.1,
        embedding="hidden",
        posterior="sampled",
        latent_prior="mixture",
        hidden_layer_sizes=(256, 256),
        activation="silu",
        encoder="mlp",
        decoder="mlp",
        categorical_features="from_dtype",
        numeric_scaling="quantile",
        max_categories=256,
        likelihoods=None,
        input_masking=0.1,
        batch_size=256,
        learning_rate_init=3e-3,
        alpha=1e-4,
        max_iter="auto",
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        tol=1e-4,
        warm_start=False,
        device="auto",
        net_params=None,
        random_state=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.contrastive_weight = contrastive_weight
        self.temperature = temperature
        self.embedding = embedding
        self.posterior = posterior
        self.latent_prior = latent_prior
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.encoder = encoder
        self.decoder = decoder
        self.categorical_features = categorical_features
        self.numeric_scaling = numeric_scaling
        self.max_categories = max_categories
        self.likelihoods = likelihoods
        self.input_masking = input_masking
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.alpha = alpha
        self.max_iter = max_iter
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.device = device
        self.net_params = net_params
        self.random_state = random_state
        self.verbose = verbose

    def _objective(self):
        return ObjectiveLoss(
            OBJECTIVES["cmim"],
            contrastive_weight=self.contrastive_weight,
            temperature=self.temperature,
        )


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
