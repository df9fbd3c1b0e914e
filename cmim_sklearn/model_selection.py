"""Hyper-parameter searches of scikit-learn that train the encoders of candidates at once.

Each class has the signature, the methods and the attributes of the class in
`sklearn.model_selection` with the same name. If the estimator is an encoder with a decoder, or a
`Pipeline` with one among its steps, also nested, and trains on a CUDA GPU, then `fit` trains the
encoders of all candidates and folds as `cmim_sklearn.fit_together` does. Scikit-learn then fits and
scores everything else, with `n_jobs` processes. Elsewhere, the searches are those of scikit-learn.

Scores then equal those of scikit-learn up to rounding; ``mean_fit_time`` lacks the training of the
encoders. An encoder that cannot be trained with others is fitted as in scikit-learn, and so are all
if the search has callbacks. Steps before an encoder are fitted twice.

>>> from cmim_sklearn import CMIMEncoder
>>> from cmim_sklearn.model_selection import GridSearchCV
>>> from sklearn.datasets import load_iris
>>> from sklearn.linear_model import LogisticRegression
>>> from sklearn.pipeline import make_pipeline
>>> X, y = load_iris(return_X_y=True)
>>> pipe = make_pipeline(CMIMEncoder(max_iter=5, random_state=0), LogisticRegression())
>>> search = GridSearchCV(pipe, {"cmimencoder__contrastive_weight": [0, 1]}, cv=2).fit(X, y)
>>> len(search.cv_results_["params"])
2
"""

from numbers import Integral

from sklearn import model_selection
from sklearn.base import clone, is_classifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing

from cmim_sklearn._encoders.base.encoder import _LatentEncoder
from cmim_sklearn._encoders.base.joint_fit import (
    PreparedFits,
    fit_key,
    hash_of_table,
    hash_of_values,
    withdraw_prepared,
)
from cmim_sklearn._encoders.together import fit_for_features, is_fitted_together
from cmim_sklearn._utils.sklearn_compat import has_callbacks

__all__ = ["GridSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV", "RandomizedSearchCV"]


class _TrainsTogether:
    """Search that trains the encoders of all candidates at once before it scores the candidates.

    Scikit-learn evaluates candidates by a function, which splits the rows, then fits and scores
    each candidate on each split. Here that function gets a splitter that also trains the encoders,
    and candidates that hold them. `fit` of an encoder takes what was trained, see `PreparedFits`;
    what was not trained, for any reason, it trains itself.
    """

    _batched = "auto"  # see `fit_together`

    def _run_search(self, evaluate_candidates, callback_ctx=None):
        def evaluate(candidate_params, cv=None, **others):
            candidates = [_Candidate(params) for params in candidate_params]
            splitter = _TrainingSplitter(self, candidates, cv or checked_cv)
            try:
                return evaluate_candidates(candidates, splitter, **others)
            finally:
                withdraw_prepared()
                for candidate in candidates:
                    candidate.fits = PreparedFits()

        checked_cv = getattr(self, "_checked_cv_orig", None)  # scikit-learn 1.9
        has_been_read = checked_cv is None and hasattr(self.cv, "__next__")
        # Callbacks of the search follow each epoch of each fit.
        is_plain = has_been_read or has_callbacks(self)
        run = evaluate_candidates if is_plain else evaluate
        context = {} if callback_ctx is None else {"callback_ctx": callback_ctx}
        return super()._run_search(run, **context)

    def _format_results(self, candidate_params, *args, **kwargs):
        return super()._format_results([dict(c) for c in candidate_params], *args, **kwargs)


class _Candidate(dict):
    """Parameters of a candidate, with its prepared encoders.

    It is pickled to the process that evaluates the candidate, which clones it just before `fit`.
    """

    def __init__(self, params):
        super().__init__(params)
        self.fits = PreparedFits()

    def __sklearn_clone__(self):
        self.fits.offer()
        return clone(dict(self), safe=False)


class _TrainingSplitter:
    """Splitter that trains the encoders of candidates on the training rows of its splits.

    The splits are those of `splitter`, or of the search if it is None.
    """

    def __init__(self, search, candidates, splitter):
        self.search, self.candidates, self.splitter = search, candidates, splitter

    def split(self, X, y=None, **params):
        """Return the splits, after training."""
        splitter = self.splitter
        if splitter is None:
            is_classification = is_classifier(self.search.estimator)
            splitter = check_cv(self.search.cv, y, classifier=is_classification)
        splits = list(splitter.split(X, y, **params))
        _train(self.search, self.candidates, X, y, splits)
        return splits


def _train(search, candidates, X, y, splits):
    """Train the encoders of candidates on all splits; each candidate gets its own."""
    encoders, tables, targets, users, places = [], [], [], [], {}
    inputs, needs_all = _EncoderInputs(X, y, splits), not _scores_by_name(search.scoring)
    for candidate in candidates:
        found = _find_encoder(_estimator(search.estimator, candidate))
        if found is None or not is_fitted_together(found[1], search._batched):
            continue
        steps, encoder, is_last = found
        needs_all = needs_all or is_last
        for fold in range(len(splits)):
            (table, of_table), y = inputs.of(steps, fold), inputs.y_of(fold)
            key = of_table and fit_key(encoder, of_table, y)
            if key is None:
                continue
            # Equal fits are trained once, if they are repeatable.
            place = key if isinstance(encoder.random_state, Integral) else len(encoders)
            if place not in places:
                places[place] = len(encoders)
                encoders.append(clone(encoder))
                tables.append(table)
                targets.append(y)
                users.append([])
            users[places[place]].append((candidate, key))
    is_fitted = fit_for_features(
        encoders, tables, targets, needs_all=needs_all, verbose=search.verbose
    )
    for encoder, fitted, of_encoder in zip(encoders, is_fitted, users, strict=True):
        for candidate, key in of_encoder if fitted else ():
            candidate.fits.add(key, encoder)


def _estimator(base, candidate):
    """Estimator of a candidate; None if its parameters are not valid, which its `fit` reports."""
    try:
        return clone(base).set_params(**clone(dict(candidate), safe=False))
    except Exception:  # any, from an estimator of the user
        return None


def _find_encoder(estimator):
    """Transformers before the first encoder, the encoder, and whether it is the last step."""
    if isinstance(estimator, _LatentEncoder):
        return [], estimator, True
    if not isinstance(estimator, Pipeline):
        return None
    before = []
    for i, (_, step) in enumerate(estimator.steps):
        if found := _find_encoder(step):
            steps, encoder, is_last = found
            return before + steps, encoder, is_last and i == len(estimator.steps) - 1
        if step is not None and step != "passthrough":
            before.append(step)
    return None


def _scores_by_name(scoring):
    """Whether scores are those of scikit-learn, which see features of the encoder alone."""
    if isinstance(scoring, dict):
        scoring = list(scoring.values())
    names = scoring if isinstance(scoring, list | tuple | set) else [scoring]
    return all(name is None or isinstance(name, str) for name in names)


class _EncoderInputs:
    """Tables that encoders are fitted to: training rows after the steps before the encoder."""

    def __init__(self, X, y, splits):
        self.X, self.y, self.splits, self._known = X, y, splits, {}

    def of(self, steps, fold):
        """Table of a fold and its hash; both None if a step fails, which its `fit` reports."""
        place = hash_of_values(steps), fold
        if place not in self._known or place[0] is None:
            try:
                table = self._transformed(steps, fold)
                self._known[place] = table, hash_of_table(table)
            except Exception:  # any, from a transformer of the user
                self._known[place] = None, None
        return self._known[place]

    def y_of(self, fold):
        """Target of the training rows of a fold, or None."""
        return None if self.y is None else _safe_indexing(self.y, self.splits[fold][0])

    def _transformed(self, steps, fold):
        X, y = _safe_indexing(self.X, self.splits[fold][0]), self.y_of(fold)
        for step in steps:
            X = clone(step).fit_transform(X, y)
        return X


class GridSearchCV(_TrainsTogether, model_selection.GridSearchCV):
    """Search over a grid of parameters; on a GPU, equal networks are trained at once.

    Parameters
    ----------
    estimator : estimator
        Encoder, `Pipeline` with an encoder, or any other estimator.
    param_grid : dict or list of dict
        Values to try, by the name of the parameter.
    scoring, n_jobs, refit, cv, verbose, pre_dispatch, error_score, return_train_score
        As in scikit-learn. `n_jobs` is the number of processes for everything after the encoder;
        with `verbose`, a line says how many encoders are trained at once.

    See Also
    --------
    sklearn.model_selection.GridSearchCV : All parameters, attributes and methods.
    cmim_sklearn.fit_together : Encoders that can be trained at once.
    """


class RandomizedSearchCV(_TrainsTogether, model_selection.RandomizedSearchCV):
    """Search over random parameters; on a GPU, equal networks are trained at once.

    Parameters
    ----------
    estimator : estimator
        Encoder, `Pipeline` with an encoder, or any other estimator.
    param_distributions : dict or list of dict
        Values or distributions to sample from, by the name of the parameter.
    n_iter : int, default=10
        Number of candidates.
    random_state : int, RandomState instance or None, default=None
        Seed of the candidates.
    scoring, n_jobs, refit, cv, verbose, pre_dispatch, error_score, return_train_score
        As in scikit-learn. `n_jobs` is the number of processes for everything after the encoder;
        with `verbose`, a line says how many encoders are trained at once.

    See Also
    --------
    sklearn.model_selection.RandomizedSearchCV : All parameters, attributes and methods.
    cmim_sklearn.fit_together : Encoders that can be trained at once.
    """


class HalvingGridSearchCV(_TrainsTogether, model_selection.HalvingGridSearchCV):
    """Search over a grid with successive halving; on a GPU, equal networks train at once.

    Parameters
    ----------
    estimator : estimator
        Encoder, `Pipeline` with an encoder, or any other estimator.
    param_grid : dict or list of dict
        Values to try, by the name of the parameter.
    factor : float, default=3
        Share of the candidates that remain after each iteration, as 1 / `factor`.
    resource : str, default="n_samples"
        Quantity that grows with each iteration: the number of rows, or an integer parameter.
    max_resources, min_resources, aggressive_elimination, random_state
        As in scikit-learn.
    scoring, n_jobs, refit, cv, verbose, error_score, return_train_score
        As in scikit-learn. `n_jobs` is the number of processes for everything after the encoder;
        with `verbose`, a line says how many encoders are trained at once.

    See Also
    --------
    sklearn.model_selection.HalvingGridSearchCV : All parameters, attributes and methods.
    cmim_sklearn.fit_together : Encoders that can be trained at once.
    """


class HalvingRandomSearchCV(_TrainsTogether, model_selection.HalvingRandomSearchCV):
    """Search over random parameters with successive halving, encoders trained at once.

    Parameters
    ----------
    estimator : estimator
        Encoder, `Pipeline` with an encoder, or any other estimator.
    param_distributions : dict or list of dict
        Values or distributions to sample from, by the name of the parameter.
    n_candidates : int or "exhaust", default="exhaust"
        Number of candidates in the first iteration.
    factor : float, default=3
        Share of the candidates that remain after each iteration, as 1 / `factor`.
    resource : str, default="n_samples"
        Quantity that grows with each iteration: the number of rows, or an integer parameter.
    max_resources, min_resources, aggressive_elimination, random_state
        As in scikit-learn.
    scoring, n_jobs, refit, cv, verbose, error_score, return_train_score
        As in scikit-learn. `n_jobs` is the number of processes for everything after the encoder;
        with `verbose`, a line says how many encoders are trained at once.

    See Also
    --------
    sklearn.model_selection.HalvingRandomSearchCV : All parameters, attributes and methods.
    cmim_sklearn.fit_together : Encoders that can be trained at once.
    """
