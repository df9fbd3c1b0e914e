"""Base of the encoders with a decoder: decode, generate, impute and score rows."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array

from cmim_sklearn._encoders.base import given_cells
from cmim_sklearn._encoders.base.encoder import _LatentEncoder
from cmim_sklearn._encoders.base.fit import summary_rows
from cmim_sklearn._encoders.base.labels import put_head
from cmim_sklearn._encoders.base.parameters import isolated
from cmim_sklearn._encoders.base.scores import Scores
from cmim_sklearn._models.encoding_model import exact_model
from cmim_sklearn._models.features import EMBEDDINGS, decode, layers
from cmim_sklearn._models.generator import (
    Generator,
    MixtureHeads,
    code_log_variance,
    heads_shape,
    n_mixture_steps,
    n_numeric,
)
from cmim_sklearn._models.inference import on_rows
from cmim_sklearn._models.labels import make_head
from cmim_sklearn._models.latent_model import LatentModel
from cmim_sklearn._models.latent_prior import LATENT_PRIORS, LatentPrior, NoisyCodes
from cmim_sklearn._models.missing import MissingCells, MissingHeads, sometimes_missing
from cmim_sklearn._models.row_posterior import CALIBRATION_ROWS, calibrate, row_posterior
from cmim_sklearn._tables.conditions import impose_conditions, read_conditions
from cmim_sklearn._tables.write import fill, write
from cmim_sklearn._training.batches import count_batches
from cmim_sklearn._training.heads import HeadFit, Summary
from cmim_sklearn._utils import isolation
from cmim_sklearn._utils.messages import shown
from cmim_sklearn._utils.validation import check_at_least_one
from cmim_sklearn.latents import POSTERIORS
from cmim_sklearn.networks import build as build_network

GENERATOR_ROWS = 20_000
"""Maximum number of training rows that latent prior and heads are fitted to."""


@dataclass(eq=False, repr=False, kw_only=True)
class _GenerativeEncoder(_LatentEncoder, Scores):
    """Encoder with a decoder: it decodes, generates, imputes and scores rows.

    A final subclass adds its fields with their `_parameter_constraints`, `_objective`, and
    `_posterior` and `_latent_prior` if these are not parameters.
    """

    embedding: str = "layers"
    decoder: str | Callable = "mlp"
    likelihoods: dict | None = None
    input_masking: float = 0.1
    label_weight: float = 0.0
    target_type: str = "auto"

    _network_parameters = ("encoder", "decoder")
    _parameters_after_fit = ("embedding", "device")

    @property
    def _embedding(self):
        return self.embedding

    @property
    def _posterior(self):
        return self.posterior

    @property
    def _latent_prior(self):
        return self.latent_prior

    @property
    def _imposed_likelihoods(self):
        return self.likelihoods

    @property
    def _label_weight(self):
        return self.label_weight

    def _architecture(self):
        own = {"posterior": self._posterior, "decoder": self.decoder}
        return super()._architecture() | own

    def _build_model(self, likelihood, architecture, seed):
        n_codes = architecture["n_components"]
        posterior = POSTERIORS[architecture["posterior"]](n_codes)
        n_outputs = n_codes * posterior.outputs_per_component
        generator = torch.Generator().manual_seed(seed)
        encoder = self._build_encoder(likelihood, architecture, n_outputs, generator)
        decoder = build_network(
            architecture["decoder"],
            n_codes,
            likelihood.n_params,
            architecture["hidden_layer_sizes"],
            architecture["activation"],
            generator,
            is_decoder=True,
        )
        return LatentModel(encoder, posterior, decoder, likelihood)

    def _layer_chains(self, likelihood, architecture):
        d, hidden = architecture["n_components"], architecture["hidden_layer_sizes"]
        return [[likelihood.n_inputs, *hidden, d], [d, *hidden, likelihood.n_params]]

    def _n_units(self, likelihood):
        return likelihood.n_inputs + likelihood.n_params

    def _update_model(self, model):
        model.input_masking = self.input_masking

    def _put_head(self, model, rows):
        put_head(model, rows, getattr(self, "classes_", None), self.label_weight)

    def _add_saved_head(self, model, weights):
        weight = weights.get("labels.linear.weight")
        if weight is not None:
            n_classes = len(weight) if hasattr(self, "classes_") else 0
            model.labels = make_head(model, n_classes)

    def _layers(self, model, x, *names):
        return layers(model, x, names or EMBEDDINGS)

    def _summarise(self, net, rows):
        summary = super()._summarise_quickly(net, rows)
        n_rows, model = len(rows.encoded), net.module
        order = summary_rows(n_rows, rows.seed, GENERATOR_ROWS)
        log_variance = code_log_variance(n_rows)

        def codes_and_noise(x):
            outputs = model.encoder(model.likelihood.inputs(x))
            posterior = model.posterior.generation(outputs, log_variance)
            noise = posterior.log_variance.exp().expand_as(posterior.mean)
            return {"codes": posterior.mean, "noise": noise}

        values = on_rows(model, codes_and_noise, rows.encoded[order])
        codes, noise = values["codes"], values["noise"].mean(0)
        if not noise.any():  # of a point posterior, whose codes have any scale
            noise += np.exp(log_variance) * codes.var(0).mean()
        prior = LATENT_PRIORS[self._latent_prior](codes, noise, rows.seed, model.device)
        # Cells of wide tables take much memory.
        some = order[: CALIBRATION_ROWS if heads_shape(model) is None else None]
        cells, heads = rows.measure(some), {}
        calibrate(model, prior, codes[: len(some)], cells, n_rows)
        model = exact_model(model)
        n_updates = len(net.history) * count_batches(len(rows.data), self.batch_size)
        if heads_shape(model) is not None:
            n_steps = n_mixture_steps(n_rows, n_updates, n_numeric(model.likelihood))
            heads["_heads"] = MixtureHeads(model, cells, n_steps)
        is_missing, share = rows.take(order).missing(), rows.missing_shares()
        if len(columns := sometimes_missing(share)):
            heads["_missing"] = MissingHeads(
                model, prior, columns, is_missing, share, n_updates, rows.seed
            )
        batches = NoisyCodes(prior, codes, noise, model.device, rows.seed)
        values = summary | {"_latents": prior, "_heads": None, "_missing": None}
        return Summary(values, HeadFit(model.decoder, batches, heads) if heads else None)

    def _summarise_quickly(self, net, rows):
        no_codes = np.empty((0, net.module.posterior.n_components))
        prior = LATENT_PRIORS["normal"](no_codes, None, rows.seed)
        generator = {"_latents": prior, "_heads": None, "_missing": None}
        return super()._summarise_quickly(net, rows) | generator

    def _check_model(self, model):
        heads, shape = self._heads, heads_shape(model)
        if heads is None:
            return
        if (heads.shape, heads.dtype) != (shape, np.float16):
            raise ValueError(
                f"its heads have shape {heads.shape} and dtype {heads.dtype}; expected shape "
                f"{shape} and dtype float16."
            )
        _check_finite("heads", heads)

    def _check_loaded(self):
        super()._check_loaded()
        prior, d = self._latents, self._built["n_components"]
        k, r = prior.means.shape
        for name, shape in {"weights": (k,), "centre": (d,), "basis": (d, r)}.items():
            found = getattr(prior, name).shape
            if found != shape:
                raise ValueError(f"the {name} of its latent prior have shape {found}, not {shape}.")
        if self._missing is not None:
            columns, weights = self._missing.columns, self._missing.weights
            known = [p for p in columns if p in self.table_.positions]
            expected = np.float16, (len(columns), len(self._scales["informative"][0]) + 1)
            if not columns or sorted(set(known)) != columns:
                raise ValueError(f"its columns with missing cells are {shown(columns)}.")
            if (weights.dtype, weights.shape) != expected:
                raise ValueError(
                    f"the weights of its missing cells are {weights.dtype} of shape "
                    f"{weights.shape}, not float16 of shape {expected[1]}."
                )
            _check_finite("weights of missing cells", weights)

    @isolated()
    def inverse_transform(self, X):
        """Decode features to the most likely rows.

        Parameters
        ----------
        X : array of shape (n_samples, n_features_out)
            Features as `transform` returns them, for the same `embedding`.

        Returns
        -------
        table of shape (n_samples, n_features)
            Table of the library that was fitted, with the same names, order, dtypes and
            categories. Numbers are in raw units, within the training range. No value is missing,
            except in columns that were entirely missing in fit. The index of a pandas X is kept.

        Raises
        ------
        ValueError
            If X has another number of features.
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
        model, name = self._model(), self.embedding
        centre, scale = self._scales[name]
        decoded = on_rows(
            model,
            lambda h: {"x": model.likelihood.point(decode(model, h, name))},
            X * scale + centre,
        )
        return self.table_.decode(decoded["x"], index)

    @isolated()
    def reconstruct(self, X):
        """Encode rows and decode them again, without missing values.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
            With the columns of fit.

        Returns
        -------
        table of shape (n_samples, n_features)
            The most likely row for the code of each row, as `inverse_transform` returns rows, for
            any `embedding`. The index of a pandas X is kept.
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

    @isolated()
    def sample(self, n_samples=1, *, conditions=None, with_missing=False, random_state=None):
        """Generate rows: a code from `latent_prior`, then each column from p(x | z).

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows. With a table of conditions: number of rows for each of its rows.
        conditions : dict or table, default=None
            Values to hold fixed. A dict has one value for each column, by name (by position if an
            array was fitted), such as ``{"sex": "Female", "age": 40}``. A table may have any of
            the columns; its missing values are not conditions. Dates may be strings in ISO form;
            without a time zone they are in that of the column. Codes are resampled by the
            likelihood of the fixed cells (importance resampling), and give the other columns.
        with_missing : bool, default=False
            Whether values are missing in generated rows as often as in those of fit, and in similar
            rows; after `partial_fit`, as in the last chunk. Fixed cells are not missing. The other
            values are the same as without.
        random_state : int, RandomState instance or None, default=None
            Seed. An int gives the same rows each time.

        Returns
        -------
        table of shape (n_samples, n_features), or n_samples for each row of `conditions`
            As `inverse_transform` returns it, with fixed cells as given. With
            ``numeric_scaling="standard"`` or None, non-integers may lie outside the training range.
            Rows for the same row of conditions are adjacent, and keep its index in pandas.

        Raises
        ------
        ValueError
            If conditions name a column or a level that was not seen in fit, a new value for a
            column that held one value or none in fit, or a value that its dtype cannot hold.

        Notes
        -----
        Nearly exact for plausible conditions. For values far from the training data few codes
        qualify, and the generated rows become similar.
        """
        self._check_use()
        check_at_least_one("n_samples", n_samples)
        seed = int(check_random_state(random_state).randint(2**31 - 1))
        table, missing, index = self.table_, self._missing_cells(with_missing), None
        if conditions is None:
            model = self._model(exact=True)
            generator = torch.Generator(model.device).manual_seed(seed)
            codes = self._latents.sample(n_samples, np.random.default_rng(seed))
            made = Generator(model, self._heads)
            gaps = None if missing is None else missing.sampler(model, seed)

            def make(z):
                drawn = {"cells": made.likelihood.sample(made.decoder(z), generator)}
                return drawn if gaps is None else drawn | {"is_missing": gaps(z)}

            columns = given_cells.decode(table, on_rows(model, make, codes), missing)
        else:
            given = read_conditions(table, conditions)
            rows, posterior = (
                np.repeat(np.arange(given.n_rows), n_samples),
                self._row_posterior(),
            )
            columns = given_cells.draw(table, posterior, given, n_samples, seed, missing)
            columns = impose_conditions(columns, given, rows)
            if given.index is not None and table.layout.library == "pandas":
                index = given.index[rows]
        return write(table.layout, columns, table.types, index)

    @isolated()
    def impute(self, X, *, n_draws=None, random_state=None):
        """Impute missing values from the observed cells of each row.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
            With the columns of fit.
        n_draws : int, default=None
            None: impute the best single estimate, which is the expected value, in the raw unit of
            the column, or the most likely level. An int: return that many tables, each with values
            sampled from the model (multiple imputation), so that results show the uncertainty.
        random_state : int, RandomState instance or None, default=None
            Seed for `n_draws`. Without `n_draws` the same X always gives the same table.

        Returns
        -------
        table like X, or a list of n_draws of them
            Observed cells, dtypes and index are those of X. Expected values in a column of integer
            dtype are rounded; pandas holds integers with missing values as floats, which are not
            rounded. A row without any observed cell gets the means, or a sample, of the whole
            table. A column without any value in fit is returned unchanged. Dates that follow others
            in nearly all rows are imputed in this order.

        Notes
        -----
        The single estimate is a weighted mean of two: the expectation under the model of
        `score_samples`, and the encoder's reconstruction of the row. The more cells are observed,
        the larger the weight of the latter. Samples come from the model alone. The first call after
        a fit takes longer, see `score_samples`.
        """
        self._check_use()
        if n_draws is not None:
            check_at_least_one("n_draws", n_draws)
        frame = self._read(X, reset=False, min_rows=1)
        table = self.table_
        rows = table.incomplete(frame)
        incomplete, columns = frame.take(rows), []
        if n_draws is None:
            if len(rows):
                columns = given_cells.guess(table, self._row_posterior(), incomplete)
            return fill(X, frame, table.layout, table.types, rows, columns)
        seed = int(check_random_state(random_state).randint(2**31 - 1))
        if len(rows):
            columns = given_cells.draw(table, self._row_posterior(), incomplete, n_draws, seed)
        return [
            fill(X, frame, table.layout, table.types, rows, [v[k::n_draws] for v in columns])
            for k in range(n_draws)
        ]

    def _missing_cells(self, with_missing):
        """`MissingCells` of the fit if they are asked for; None if no cells were missing in fit."""
        return self._missing if with_missing else None

    def _row_posterior(self, missing=None):
        return row_posterior(self._model(), self._latents, self._heads, missing)

    def __getstate__(self):
        state = super().__getstate__()
        if "_net" in state:
            state["_latents"] = self._latents.state()
            state["_missing"] = None if self._missing is None else self._missing.state()
        return state

    @isolation.isolated
    def __setstate__(self, state):
        super().__setstate__(state)
        if "_net" in state:
            self._latents = LatentPrior(**self._latents)
            vars(self).setdefault("_heads", None)  # files of earlier releases have none
            kept = vars(self).get("_missing")  # files of earlier releases have none
            self._missing = None if kept is None else MissingCells(**kept)


def _check_finite(name, numbers):
    """Raise a ValueError if an array of a file has a number that is not finite."""
    wrong = numbers[~np.isfinite(numbers)]
    if len(wrong):
        raise ValueError(f"its {name} must be finite numbers; got {wrong[0]}.")
