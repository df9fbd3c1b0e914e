"""Steps of fits that are trained together, and prepared fits, which a later `fit` takes."""

import os
import threading

import joblib

from cmim_sklearn._encoders.base.fit import Start
from cmim_sklearn._encoders.base.parameters import isolated
from cmim_sklearn._utils.sklearn_compat import has_callbacks


def names_restored_on_error(encoder):
    """Context that restores the column names of an encoder that was not fitted in it."""
    return encoder._names_restored_on_error()


@isolated()
def start_fit(encoder, X) -> Start:
    """Check, read and learn the schema as `fit` does, up to the initialised net."""
    encoder._check_params()
    encoder._warn_of_parameters()
    return encoder._start(X, reports=False)


@isolated()
def finish_fits(first, encoders, starts, train, *, features_only=False):
    """Train started fits and set the fitted attributes.

    Parameters
    ----------
    first : encoder
        One of the encoders; its number of threads is used.
    encoders, starts : list
    train : callable
        From nets, rows and functions that summarise, each a list, to `Trained` or an error of each.
    features_only : bool, default=False
        Whether to leave out everything that only generation, imputation and scores need.

    Returns
    -------
    list of Exception or None
        Error in the training of each encoder. A KeyboardInterrupt is raised once all are fitted.
    """
    summaries = [e._summarise_quickly if features_only else e._summarise for e in encoders]
    outcomes = train([start.net for start in starts], [s.rows for s in starts], summaries)
    errors, interruption = [], None
    for encoder, start, outcome in zip(encoders, starts, outcomes, strict=True):
        errors.append(outcome if isinstance(outcome, Exception) else None)
        if errors[-1] is None:
            try:
                encoder._keep(start.table, start.built, outcome)
            except KeyboardInterrupt as error:
                interruption = error
    if interruption is not None:
        raise interruption
    return errors


# -- prepared fits ---------------------------------------------------------------------------------


class PreparedFits:
    """Fitted encoders by class, parameters and rows; each can be taken once.

    A search trains the encoders of all candidates at once, then scores each candidate as usual.
    There `fit` looks for a prepared encoder; without one, it trains.
    """

    def __init__(self):
        self.process, self._fits = os.getpid(), {}

    def add(self, key, encoder):
        """Add a fitted encoder under its `fit_key`."""
        self._fits[key] = encoder

    def offer(self):
        """Let fits in this thread take these encoders, instead of any that were offered before."""
        _offered.fits = self

    def take(self, key):
        """Remove and return an encoder, or None."""
        return self._fits.pop(key, None)

    def __bool__(self):
        return bool(self._fits)


class _Offered(threading.local):
    fits = None


_offered = _Offered()


def withdraw_prepared():
    """End the offer of prepared fits in this thread."""
    _offered.fits = None


def content_hash(values):
    """Hash of a table, or of any values that can be pickled; None for others."""
    try:
        return joblib.hash(values, coerce_mmap=True)
    except Exception:  # any, from an object of the user
        return None


def fit_key(encoder, content):
    """Hash of the class and the parameters of an encoder, and of a table's `content_hash`."""
    return content_hash([type(encoder).__qualname__, encoder.get_params(deep=False), content])


def take_prepared(encoder, X):
    """Set the fitted attributes of a prepared encoder, if there is one; return whether."""
    fits = _offered.fits
    if not fits or has_callbacks(encoder):
        return False
    key = fit_key(encoder, content_hash(X))
    found = None if key is None else fits.take(key)
    if found is None:
        return False
    parameters = encoder.get_params(deep=False)
    vars(encoder).update({k: v for k, v in vars(found).items() if k not in parameters})
    if os.getpid() != fits.process:
        # Each process that uses a GPU takes seconds to start, and half a gigabyte of the GPU.
        encoder.device = "cpu"
    return True
