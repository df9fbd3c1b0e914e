"""Steps of fits that are trained together, and prepared fits, which a later `fit` takes."""

import copy
import os
import threading

import joblib
import numpy as np

from cmim_sklearn._encoders.base.fit import COLUMN_PARAMETERS, Start
from cmim_sklearn._encoders.base.parameters import isolated
from cmim_sklearn._tables.read import read
from cmim_sklearn._training.net import net_state
from cmim_sklearn._utils.sklearn_compat import has_callbacks

CONFIGURATION = "_sklearn_output_config", "_metadata_request"
"""Attributes of scikit-learn that configure an encoder, and are neither parameters nor fitted."""


def names_restored_on_error(encoder):
    """Context that restores the column names of an encoder that was not fitted in it."""
    return encoder._names_restored_on_error()


@isolated()
def start_fit(encoder, take, known, y=None) -> Start:
    """Check, read and learn the schema as `fit` does, up to the initialised net.

    Parameters
    ----------
    encoder : encoder
    take : callable
        Without arguments, to the table.
    known : dict
        What was learned from this table for other encoders, which is not repeated; filled here.
    y : array-like of shape (n,), default=None
        Target, which an encoder with `label_weight` uses.
    """
    encoder._check_params()
    encoder._check_labels(y)
    encoder._warn_of_parameters()
    if encoder._is_warm():
        return encoder._start(encoder._learn(take()), y)
    built = encoder._architecture()
    key = repr([built[name] for name in COLUMN_PARAMETERS])
    if key in known:
        encoder._checked(known[key].frame, reset=True, min_rows=2)
        encoder._check_table(known[key].table, known[key].frame)
    else:
        known[key] = encoder._learn(take())
    # Training changes the schema's likelihoods.
    return encoder._start(known[key]._replace(table=copy.deepcopy(known[key].table)), y)


def schema_weights(start):
    """Copy of the weights of a started fit that belong to its schema, in main memory."""
    weights = start.table.likelihood.state_dict()
    return {name: weight.detach().cpu().clone() for name, weight in weights.items()}


@isolated()
def restart(encoder, start, weights) -> Start:
    """A started fit with a new net, after a training that failed; see `schema_weights`."""
    start.table.likelihood.load_state_dict(weights)
    return start._replace(net=encoder._make_net(start.built, start.rows))


@isolated()
def leave_device(encoder):
    """Keep the weights of a fitted encoder in main memory; its network is built at first use."""
    encoder._net = net_state(encoder._net)
    encoder.table_.likelihood.to("cpu")


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
    summaries = [e._summarise_for_features if features_only else e._summarise for e in encoders]
    outcomes = train([start.net for start in starts], [s.rows for s in starts], summaries)
    errors, interruption = [], None
    for encoder, start, outcome in zip(encoders, starts, outcomes, strict=True):
        errors.append(outcome if isinstance(outcome, Exception) else None)
        if errors[-1] is not None:
            continue
        try:
            encoder._keep(start.table, start.built, outcome)
        except KeyboardInterrupt as error:
            interruption = error
        except Exception as error:  # a warning, where the user turns warnings into errors
            errors[-1] = error
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
        """Remove and return the encoder of a key, or None."""
        return self._fits.pop(key, None)

    def __bool__(self):
        return bool(self._fits)


class _Offered(threading.local):
    fits = None


_offered = _Offered()


def withdraw_prepared():
    """End the offer of prepared fits in this thread."""
    _offered.fits = None


def hash_of_values(values):
    """Hash of values, equal in any process; None if they cannot be pickled."""
    try:
        return joblib.hash(values, coerce_mmap=True)
    except Exception:  # any, from an object of the user
        return None


def hash_of_table(X):
    """Hash of a table as an encoder reads it; None if it cannot be read."""
    try:
        frame = read(X)
    except (TypeError, ValueError):
        return None
    # joblib hashes the memory layout, too.
    columns = [np.ascontiguousarray(column) for column in frame.columns]
    return hash_of_values([columns, frame.types, frame.layout])


def fit_key(encoder, of_table, y=None):
    """Hash of the class and the parameters of an encoder, of its table, and of y if it is used.

    `of_table` is that of `hash_of_table`. None if a value cannot be pickled.
    """
    y = y if encoder._label_weight else None
    return hash_of_values([type(encoder), encoder.get_params(deep=False), of_table, y])


def take_prepared(encoder, X, y=None):
    """Set the fitted attributes of a prepared encoder, if there is one; return whether."""
    fits = _offered.fits
    if not fits or has_callbacks(encoder):
        return False
    of_table = hash_of_table(X)
    found = None if of_table is None else fits.take(fit_key(encoder, of_table, y))
    if found is None:
        return False
    own = {*encoder.get_params(deep=False), *CONFIGURATION}
    vars(encoder).update({k: v for k, v in vars(found).items() if k not in own})
    if os.getpid() != fits.process:
        # Each process that uses a GPU takes seconds to start, and half a gigabyte of the GPU.
        encoder.device = "cpu"
    return True
