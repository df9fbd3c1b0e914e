"""Scores of rows and of cells, by an encoder with a decoder."""

import numpy as np

from cmim_sklearn._encoders.base import given_cells
from cmim_sklearn._encoders.base.parameters import isolated
from cmim_sklearn._tables.read import read

USUAL_ROWS = 50
"""Number of generated rows that `score_columns` takes the usual scores from."""


class Scores:
    """Scores that all encoders with a decoder share."""

    @isolated()
    def score_samples(self, X, *, return_error=False, with_missing=False):
        """Log-likelihood of each row under the model that `sample` generates from.

        Integers contribute the probability of their bin [k - 1/2, k + 1/2] (if all training values
        differ by multiples of a step s, [k - s/2, k + s/2], and others are unlikely), levels their
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
        with_missing : bool, default=False
            Whether the score includes the probability that just these cells are missing, for the
            columns in which values were missing in fit (in the last chunk of `partial_fit`).

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
        frame, missing = self._read(X, reset=False, min_rows=1), self._missing_cells(with_missing)
        cells = given_cells.measure(self.table_, frame, missing)
        score, error = given_cells.log_density(self._row_posterior(missing), cells)
        return (score, error) if return_error else score

    @isolated()
    def score_dependence(self, X):
        """Log-likelihood of each row, less that of its cells as if they were independent.

        It is log p(x) - sum_c log p(x_c), under the model of `score_samples`. Rows whose cells do
        not fit together have the lowest scores, even if each value is common. A rare value lowers
        both terms, so an extreme value alone does not lower the score.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
            With the columns of fit.

        Returns
        -------
        array of shape (n_samples,), float64
            Scores in nats. Independent columns score about 0, and missing cells add nothing.

        Notes
        -----
        p(x_c) is a mean over 1,024 codes from `latent_prior`, the same for all rows and calls: the
        score of a row does not depend on the other rows. In the tails of a column few codes count,
        and p(x_c) is too small: extreme values raise the score rather than lower it.
        """
        self._check_use()
        cells = self.table_.measure(self._read(X, reset=False, min_rows=1))
        return given_cells.dependence(self._row_posterior(), cells)

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
        return np.where(frame.missing(), 0.0, scores)
