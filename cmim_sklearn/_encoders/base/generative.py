"""What encoders with a decoder share besides: decode, sample, impute and score.

Names become objects here.
"""

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array

from cmim_sklearn._encoders.base.encoder import _LatentEncoder, check_at_least_one
from cmim_sklearn._encoders.base.fit import some_rows
from cmim_sklearn._models.features import EMBEDDINGS, decode, layers
from cmim_sklearn._models.inference import on_rows
from cmim_sklearn._models.latent_model import LatentModel
from cmim_sklearn._models.latent_prior import LATENT_PRIORS, LatentPrior
from cmim_sklearn._models.row_posterior import (
    CALIBRATION_ROWS,
    SCORE_DRAWS,
    RowPosterior,
    calibrate,
)
from cmim_sklearn._tables.read import is_missing, read
from cmim_sklearn._tables.write import fill, write
from cmim_sklearn.latents import POSTERIORS
from cmim_sklearn.networks import build as build_network

DRAWS_PER_COPY = 32
USUAL_ROWS = 50
ENCODER_TRUST = 0.7


class _GenerativeEncoder(_LatentEncoder):
    """Decode, sample, impute and score, for encoders with a decoder.

    A subclass is final: it has a constructor that stores, its `_parameter_constraints`,
    `_objective`, and `_posterior` or `_latent_prior` where it has no parameter of that name.
    """

    @property
    def _embedding(self):
        return self.embedding

    @property
    def _posterior(self):
        return self.posterior

    @property
    def _latent_prior(self):
        return self.latent_prior

    def _architecture(self):
        own = {"posterior": self._posterior, "decoder": self.decoder}
        return {**super()._architecture(), **own}

    def _build_model(self, likelihood, architecture, seed):
        n_codes = architecture["n_components"]
        shape = architecture["hidden_layer_sizes"], architecture["activation"]
        posterior = POSTERIORS[architecture["posterior"]](n_codes)
        n_outputs = n_codes * posterior.outputs_per_component
        generator = torch.Generator().manual_seed(seed)
        encoder = self._build_encoder(likelihood, architecture, n_outputs, generator)
        decoder = build_network(
            architecture["decoder"],
            n_codes,
            likelihood.n_params,
            *shape,
            generator,
            is_decoder=True,
        )
        return LatentModel(encoder, posterior, decoder, likelihood, self.input_masking)

    def _configure(self, model):
        model.input_masking = self.input_masking

    def _layers(self, model, x, *names):
        return layers(model, x, names or EMBEDDINGS)

    def _read_off(self, net, encoded, seed, measure=None):
        """See `_LatentEncoder._read_off`: the latents too, and the noise of p(x | z) refitted."""
        attributes = super()._read_off(net, encoded, seed, measure)
        model, order = net.module, some_rows(encoded, seed)

        def codes_and_noise(x):
            posterior = model.encode(x)
            noise = posterior.log_variance.exp().expand_as(posterior.mean)
            return {"codes": posterior.mean, "noise": noise}

        values = on_rows(model, codes_and_noise, encoded[order])
        codes, noise = values["codes"], values["noise"].mean(0)
        latent_prior = "normal" if measure is None else self._latent_prior
        latents = LATENT_PRIORS[latent_prior](codes, noise, seed)
        if measure is not None:
            some = order[:CALIBRATION_ROWS]
            calibrate(model, latents, codes[: len(some)], measure(some), len(encoded))
        return {**attributes, "_latents": latents}

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
        model, name = self._model(), self.embedding
        centre, scale = self._scales[name]
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
        check_at_least_one("n_samples", n_samples)
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
            check_at_least_one("n_draws", n_draws)
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

    def __getstate__(self):
        state = super().__getstate__()
        if "_net" in state:
            state["_latents"] = self._latents.state()
        return state

    def __setstate__(self, state):
        state = dict(state)
        if "_net" in state:
            state["_latents"] = LatentPrior(**state["_latents"])
        super().__setstate__(state)


def _score(draws, rows):
    return {"score": draws.log_density(), "error": draws.error()}
