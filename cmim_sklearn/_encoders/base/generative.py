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
from cmim_sklearn._models.features import EMBEDDINGS, decode, layers
from cmim_sklearn._models.generator import (
    Generator,
    code_log_variance,
    fit_heads,
    heads_shape,
    n_steps_for,
)
from cmim_sklearn._models.inference import on_rows
from cmim_sklearn._models.labels import make_head
from cmim_sklearn._models.latent_model import LatentModel
from cmim_sklearn._models.latent_prior import LATENT_PRIORS, LatentPrior
from cmim_sklearn._models.row_posterior import calibrate, row_posterior
from cmim_sklearn._tables.conditions import impose_conditions, read_conditions
from cmim_sklearn._tables.read import is_missing, read
from cmim_sklearn._tables.write import fill, write
from cmim_sklearn._training.batches import count_batches
from cmim_sklearn._utils import isolation
from cmim_sklearn._utils.validation import check_at_least_one
from cmim_sklearn.latents import POSTERIORS
from cmim_sklearn.networks import build as build_network

USUAL_ROWS = 50


@dataclass(eq=False, repr=False, kw_only=True)
class _GenerativeEncoder(_LatentEncoder):
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
        order, model = summary_rows(len(rows.encoded), rows.seed), net.module

        n_rows = len(rows.encoded)
        log_variance = code_log_variance(n_rows)

        def codes_and_noise(x):
            outputs = model.encoder(model.likelihood.inputs(x))
            posterior = model.posterior.generation(outputs, log_variance)
            noise = posterior.log_variance.exp().expand_as(posterior.mean)
            return {"codes": posterior.mean, "noise": noise}

        values = on_rows(model, codes_and_noise, rows.encoded[order])
        codes, noise = values["codes"], values["noise"].mean(0)
        prior = LATENT_PRIORS[self._latent_prior](codes, noise, rows.seed, model.device)
        cells = rows.measure(order)
        calibrate(model, prior, codes, cells, n_rows)
        # An unfinished network does not need more steps than it has made.
        n_updates = len(net.history) * count_batches(len(rows.data), self.batch_size)
        n_steps = min(n_updates, n_steps_for(n_rows))
        heads = fit_heads(model, prior, codes, noise, cells, n_steps, rows.seed)
        return summary | {"_latents": prior, "_heads": heads}

    def _summarise_quickly(self, net, rows):
        no_codes = np.empty((0, net.module.posterior.n_components))
        prior = LATENT_PRIORS["normal"](no_codes, None, rows.seed)
        return super()._summarise_quickly(net, rows) | {"_latents": prior, "_heads": None}

    def _check_model(self, model):
        heads, shape = self._heads, heads_shape(model)
        if heads is not None and (heads.shape, heads.dtype) != (shape, np.float16):
            raise ValueError(
                f"its heads have shape {heads.shape} and dtype {heads.dtype}; expected shape "
                f"{shape} and dtype float16."
            )

    def _check_loaded(self):
        super()._check_loaded()
        prior, d = self._latents, self._built["n_components"]
        k, r = prior.means.shape
        for name, shape in {"weights": (k,), "centre": (d,), "basis": (d, r)}.items():
            found = getattr(prior, name).shape
            if found != shape:
                raise ValueError(f"the {name} of its latent prior have shape {found}, not {shape}.")

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
    def sample(self, n_samples=1, *, conditions=None, random_state=None):
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
        if conditions is None:
            model = self._model(exact=True)
            generator = torch.Generator(model.device).manual_seed(seed)
            codes = self._latents.sample(n_samples, np.random.default_rng(seed))
            made = Generator(model, self._heads)
            drawn = on_rows(
                model, lambda z: {"x": made.likelihood.sample(made.decoder(z), generator)}, codes
            )
            return self.table_.decode(drawn["x"], drawn=True)
        given = read_conditions(self.table_, conditions)
        rows = np.repeat(np.arange(given.n_rows), n_samples)
        columns = given_cells.draw(self.table_, self._row_posterior(), given, n_samples, seed)
        is_pandas = given.index is not None and self.table_.layout.library == "pandas"
        return write(
            self.table_.layout,
            impose_conditions(columns, given, rows),
            self.table_.types,
            given.index[rows] if is_pandas else None,
        )

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

    @isolated()
    def score_samples(self, X, *, return_error=False):
        """Log-likelihood of each row under the model that `sample` generates from.

        Integers contribute the probability of their bin [k - 1/2, k + 1/2], levels their
        probability, other numbers the density in their raw unit. A value that many rows share, such
        as 0 in a column of mostly zeros, contributes its probability. Missing cells are
        integrated out. Dates and durations contribute the probability of their step, such as a
        day, the longest on which all training values lie; a date that follows another one, that of
        the duration between them. A level not seen in fit has probability 1 / (n + K + 1), after n
        rows and K levels.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
            With the columns of fit.
        return_error : bool, default=False
            Whether to return the Monte-Carlo standard errors, too.

        Returns
        -------
        array of shape (n_samples,), float64
            Log-likelihoods in nats.
        array of shape (n_samples,), float64
            Standard errors in nats, if `return_error`. If an error is above about 1, the score is
            a lower bound rather than an estimate.

        Notes
        -----
        The integral over codes is computed by importance sampling, with 128 codes for each row
        from Gaussians fitted to its posterior. All rows and calls use the same noise: scores are
        reproducible, and a row's score does not depend on the other rows.

        The first call after a fit, of this method or another one that searches for the codes of
        rows, takes some tenths of a second more. It computes up to about 100 MB that later calls
        use, until the next fit.
        """
        self._check_use()
        cells = self.table_.measure(self._read(X, reset=False, min_rows=1))
        score, error = given_cells.log_density(self._row_posterior(), cells)
        return (score, error) if return_error else score

    @isolated()
    def score(self, X, y=None):
        """Mean log-likelihood of the rows, in nats; see `score_samples`.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
        y : None
            Ignored; present for API consistency.

        Returns
        -------
        float
        """
        return float(self.score_samples(X).mean())

    @isolated()
    def score_columns(self, X):
        """Score each cell given the rest of its row; the lowest score marks the least likely cell.

        The score is log p(cell | other cells of the row), minus the mean of the same quantity over
        50 generated rows (the same rows in every call). A typical cell therefore scores about 0,
        in any column.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
            With the columns of fit.

        Returns
        -------
        array of shape (n_samples, n_features), float64
            Scores in nats; 0 for missing cells.

        Notes
        -----
        This takes n_features + 1 times as long as `score_samples`. Pass only rows with a low
        score there.
        """
        self._check_use()
        frame = self._read(X, reset=False, min_rows=1)
        usual = read(self.sample(USUAL_ROWS, random_state=0))
        cells = np.concatenate([self.table_.measure(frame), self.table_.measure(usual)])
        scores = given_cells.log_density_of_each(self.table_, self._row_posterior(), cells)
        scores = scores[: frame.n_rows] - scores[frame.n_rows :].mean(0)
        is_absent = np.array([is_missing(values) for values in frame.columns]).T
        return np.where(is_absent, 0.0, scores)

    def _row_posterior(self):
        return row_posterior(self._model(), self._latents, self._heads)

    def __getstate__(self):
        state = super().__getstate__()
        if "_net" in state:
            state["_latents"] = self._latents.state()
        return state

    @isolation.isolated
    def __setstate__(self, state):
        super().__setstate__(state)
        if "_net" in state:
            self._latents = LatentPrior(**self._latents)
            vars(self).setdefault("_heads", None)  # files of earlier releases have none
