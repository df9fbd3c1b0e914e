"""`fit_together`: fit many encoders at once."""

import gc
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from sklearn.utils import _safe_indexing
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.validation import _num_samples

from cmim_sklearn._encoders.base.encoder import _LatentEncoder
from cmim_sklearn._encoders.base.joint_fit import (
    finish_fits,
    leave_device,
    names_restored_on_error,
    restart,
    schema_weights,
    start_fit,
)
from cmim_sklearn._training.batchable import n_at_once, obstacle, structure
from cmim_sklearn._training.train import train_at_once, train_one
from cmim_sklearn._utils.device import resolve_device
from cmim_sklearn._utils.messages import listed, shown
from cmim_sklearn._utils.sklearn_compat import has_callbacks


def fit_together(encoders, X, y=None, *, rows=None, batched="auto", verbose=0):
    """Fit several encoders at once, each as by its own `fit`.

    In batched training, one step trains all encoders of a group. This is meant for GPUs, where most
    of the time of a step does not depend on the number of encoders. Weights and features equal
    those of separate fits up to rounding.

    Parameters
    ----------
    encoders : list of encoders
        Encoders of this library, which may differ in class and parameters. Each is fitted in place.
    X : table of shape (n_samples, n_features), or list of tables
        Table to fit to, as `fit` takes it; or one table for each encoder.
    y : array-like of shape (n_samples,), or list of them, default=None
        Target of the rows of X, which encoders with `label_weight` use; or a list of one target,
        or None, for each encoder, with as many labels as the encoder has rows.
    rows : list of arrays of int or bool, default=None
        Positions of the rows of X, or a mask, for each encoder. None: all rows.
    batched : {"auto", True, False}, default="auto"
        "auto": batched training on a CUDA GPU, one fit after the other elsewhere. True: batched
        training on any device. False: one fit after the other.
    verbose : int, default=0
        Progress output. 0: none. 1: number of encoders that are trained at once, and for each that
        is fitted alone, the reason, in one line.

    Returns
    -------
    list of encoders
        The fitted encoders, in their order.

    Raises
    ------
    ValueError
        If an encoder is not one of this library or occurs twice; if the number of tables, of
        targets or of entries of `rows` is not that of encoders; if a position is not in X; if y has
        another length than X; or as `fit` does.
    TypeError
        As `fit` does.
    FloatingPointError
        If the loss of an encoder is not finite, as in `fit`. The other encoders are fitted.
    KeyboardInterrupt
        After Ctrl-C. The encoders in training are fitted nevertheless, with a warning.

    Notes
    -----
    A group is trained at once if its encoders have the same class, network, columns, numbers of
    levels and `batch_size`, and with labels, the same number of classes. All other parameters may
    differ: seed, learning rate, weights and temperatures of the loss, `input_masking`, early
    stopping, number of epochs and of rows. An encoder that stops early, ends the use of labels or
    meets a non-finite loss does so without the others. Groups are split if they exceed 2 GiB on a
    CPU, or half of the free memory of a GPU. If that memory does not suffice nevertheless, training
    starts again with half as many.

    Encoders without a decoder, `InfoMaxVAEEncoder`, ``symmetric=True``, custom networks, and
    `net_params` other than ``n_threads`` are fitted one by one.

    Examples
    --------
    >>> from cmim_sklearn import CMIMEncoder, fit_together
    >>> from sklearn.datasets import load_iris
    >>> X = load_iris().data
    >>> encoders = [CMIMEncoder(contrastive_weight=w, max_iter=5) for w in (0, 1, 10)]
    >>> encoders = fit_together(encoders, X)
    >>> [encoder.n_iter_ for encoder in encoders]
    [5, 5, 5]
    """
    encoders = _checked_encoders(encoders)
    if batched not in ("auto", True, False) or not isinstance(batched, str | bool):
        raise ValueError(f"`batched` must be 'auto', True or False; got {shown(batched)}.")
    tables = _tables(encoders, X, rows)
    targets = _targets(encoders, X, y, rows)
    with ExitStack() as stack:
        for encoder in encoders:
            stack.enter_context(names_restored_on_error(encoder))
        errors = _fit(encoders, tables, targets, batched, verbose)
        for error in errors:
            if error is not None:
                raise error
    return encoders


def is_fitted_together(encoder, batched):
    """Whether to try to train an encoder with others; see `fit_together` for `batched`."""
    return _reason_to_fit_alone(encoder, batched) is None


def fit_for_features(encoders, tables, targets, *, needs_all=False, verbose=0):
    """Fit the encoders of a search that can be trained together; leave the others as they are.

    Parameters
    ----------
    encoders, tables, targets : list
        An encoder, its table and its target, or None, for each fit.
    needs_all : bool, default=False
        Whether scores may need more than features. Else what only generation, imputation and
        `score_samples` need is left out.
    verbose : int, default=0

    Returns
    -------
    list of bool
        Whether each encoder was fitted. Where there was an error, its own `fit` raises it.
    """
    starts, alone, errors = {}, {}, [None] * len(encoders)
    known = defaultdict(dict)
    for i, (encoder, table, y) in enumerate(zip(encoders, tables, targets, strict=True)):
        try:
            starts[i] = start_fit(encoder, partial(_itself, table), known[id(table)], y)
        except Exception as error:  # any that `fit` may raise
            errors[i] = error
    groups = _groups(encoders, starts, alone)
    _report(encoders, alone, verbose)
    _train(encoders, starts, groups, errors, verbose, leave_device, features_only=not needs_all)
    fitted = {i for group in groups for i in group if errors[i] is None}
    return [i in fitted for i in range(len(encoders))]


def _fit(encoders, tables, targets, batched, verbose):
    """Fit encoders in place; return the error in the training of each, or None."""
    errors, starts, alone = [None] * len(encoders), {}, {}
    known = defaultdict(dict)
    for i, encoder in enumerate(encoders):
        if reason := _reason_to_fit_alone(encoder, batched):
            alone[i] = reason
        else:
            starts[i] = start_fit(encoder, tables[i].take, known[tables[i].key], targets[i])
    groups = _groups(encoders, starts, alone)
    _report(encoders, alone, verbose)
    _train(encoders, starts, groups, errors, verbose)
    for i in alone:
        try:
            if i in starts:
                finish_fits(encoders[i], [encoders[i]], [starts[i]], train_one)
            else:
                encoders[i].fit(tables[i].take(), targets[i])
        except FloatingPointError as error:  # the other encoders are fitted first
            errors[i] = error
    return errors


def _reason_to_fit_alone(encoder, batched):
    """Reason that is known before the table is read, or None."""
    if batched is False:
        return "batched=False"
    if batched == "auto" and not _is_on_gpu(encoder.device):
        return "batched training pays on a CUDA GPU only"
    if has_callbacks(encoder):
        return "it has callbacks of scikit-learn"
    if type(encoder).fit is not _LatentEncoder.fit:
        return "its class has its own fit"
    return None


def _is_on_gpu(device):
    try:
        return resolve_device(device).type == "cuda"
    except Exception:  # not a device; `fit` raises
        return False


def _groups(encoders, starts, alone):
    """Groups of started fits with one structure; reasons for all others are added to `alone`."""
    by_structure = defaultdict(list)
    for i, start in starts.items():
        if reason := obstacle(start.net, start.rows.data):
            alone[i] = reason
        else:
            n_threads = (encoders[i].net_params or {}).get("n_threads", 1)
            by_structure[structure(start.net), n_threads].append(i)
    for members in by_structure.values():
        if len(members) == 1:
            alone[members[0]] = "no other encoder has its network and columns"
    return [members for members in by_structure.values() if len(members) > 1]


def _train(encoders, starts, groups, errors, verbose, finished=None, *, features_only=False):
    """Train groups, as many members at once as fit into memory; errors are noted.

    `finished` is called with each encoder that was fitted.
    """
    for group in groups:
        left, most, weights = list(group), len(group), {}
        while left:
            if left[0] not in weights:
                most = min(most, n_at_once(starts[left[0]].net, starts[left[0]].rows.data))
            now = left[: -(-len(left) // -(-len(left) // most))]  # of nearly equal sizes
            left = left[len(now) :]
            _restart(encoders, starts, {i: weights[i] for i in now if i in weights}, errors)
            now = [i for i in now if errors[i] is None]
            if not now:
                continue
            if verbose:
                names = sorted({type(encoders[i]).__name__ for i in now})
                print(f"[fit_together] {len(now)} fits of {', '.join(names)} at once", flush=True)
            # The nets hold the rows, so those that are trained are dropped.
            started = [starts.pop(i) for i in now]
            weights |= {i: schema_weights(start) for i, start in zip(now, started, strict=True)}
            found = _outcomes([encoders[i] for i in now], started, features_only)
            if found is None:
                most, left = len(now) // 2, now + left
                # New nets are made just before their training, once the memory of these is free.
                starts |= {
                    i: start._replace(net=None) for i, start in zip(now, started, strict=True)
                }
                del started
                gc.collect()
                continue
            for i, error in zip(now, found, strict=True):
                errors[i] = error
                if error is None and finished:
                    finished(encoders[i])


def _restart(encoders, starts, weights, errors):
    """Give started fits whose training failed new nets; `weights` are those of their schemas."""
    for i, of_schema in weights.items():
        try:
            starts[i] = restart(encoders[i], starts[i], of_schema)
        except Exception as error:  # a lack of memory, or any from the user's classes
            errors[i] = error
            del starts[i]


def _outcomes(encoders, started, features_only):
    """Error in the training of each encoder or None; None alone if fewer may fit into memory."""
    try:
        return finish_fits(
            encoders[0], encoders, started, train_at_once, features_only=features_only
        )
    except torch.cuda.OutOfMemoryError as error:
        return None if len(encoders) > 1 else [error]
    except Exception as error:
        return [error] * len(encoders)


def _report(encoders, alone, verbose):
    if not verbose:
        return
    by_reason = defaultdict(list)
    for i, reason in sorted(alone.items()):
        by_reason[type(encoders[i]).__name__, reason].append(i)
    for (name, reason), members in by_reason.items():
        print(
            f"[fit_together] {len(members)} fits of {name} one by one (positions "
            f"{listed(members)}): {reason}",
            flush=True,
        )


# -- arguments -------------------------------------------------------------------------------------


class _Table(NamedTuple):
    """Table of an encoder: a key that is equal for equal tables, and a function that returns it."""

    key: object
    take: Callable


def _itself(table):
    return table


def _selected(table, positions):
    if type(table).__module__.split(".")[0] == "pyarrow":  # scikit-learn 1.6 does not index it
        return table.take(positions)
    return _safe_indexing(table, positions)


def _checked_encoders(encoders):
    if not isinstance(encoders, list | tuple):
        raise InvalidParameterError(
            f"`encoders` must be a list of encoders; got {shown(encoders)}."
        )
    seen = {}
    for i, encoder in enumerate(encoders):
        if not isinstance(encoder, _LatentEncoder):
            raise InvalidParameterError(
                f"`encoders` must hold encoders of cmim_sklearn; got {shown(encoder)} at position "
                f"{i}."
            )
        if id(encoder) in seen:
            raise ValueError(
                f"`encoders` must hold each encoder once; got {shown(encoder)} at positions "
                f"{seen[id(encoder)]} and {i}. Pass copies, by sklearn.base.clone."
            )
        seen[id(encoder)] = i
    return list(encoders)


def _tables(encoders, X, rows):
    """Check X and rows; return the `_Table` of each encoder."""
    n = len(encoders)
    is_list = isinstance(X, list | tuple) and len(X) > 0 and all(map(_is_table, X))
    if is_list:
        if rows is not None:
            raise ValueError("`rows` must be None if X is a list of tables; select rows of each.")
        if len(X) != n:
            raise ValueError(f"`X` must have one table for each of {n} encoders; got {len(X)}.")
        return [_Table(id(table), partial(_itself, table)) for table in X]
    if rows is None:
        return [_Table(None, partial(_itself, X))] * n
    if not hasattr(rows, "__len__") or len(rows) != n:
        found = len(rows) if hasattr(rows, "__len__") else shown(rows)
        raise ValueError(f"`rows` must have one array for each of {n} encoders; got {found}.")
    n_rows = _num_samples(X)
    positions = [_positions(of, n_rows, f"rows[{i}]") for i, of in enumerate(rows)]
    return [_Table(of.tobytes(), partial(_selected, X, of)) for of in positions]


def _targets(encoders, X, y, rows):
    """Check y; return the target of each encoder, or None."""
    n = len(encoders)
    if _has_one_for_each(y, n):
        if len(y) != n:
            raise ValueError(f"`y` must have one target for each of {n} encoders; got {len(y)}.")
        return list(y)
    if y is None or rows is None:
        return [y] * n
    if not any(getattr(encoder, "label_weight", 0) for encoder in encoders):
        return [None] * n
    n_rows = _num_samples(X)
    if not _is_column(y):
        return [y] * n  # fit raises
    if _num_samples(y) != n_rows:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: `y` must have one label "
            f"for each of {n_rows} rows of `X`; got {_num_samples(y)}."
        )
    positions = [_positions(of, n_rows, f"rows[{i}]") for i, of in enumerate(rows)]
    return [_selected(y, of) for of in positions]


def _has_one_for_each(y, n):
    """Whether y is a list of targets or None, rather than one target or a list of its rows."""
    if not isinstance(y, list | tuple):
        return False
    are_rows = all(_is_column(value) and len(value) == 1 for value in y)
    is_none = len(y) == n and all(value is None for value in y)
    return is_none or (not are_rows and any(map(_is_column, y)))


def _is_column(value):
    is_sized = hasattr(value, "__len__") and getattr(value, "shape", None) != ()
    return is_sized and not isinstance(value, str | bytes)


def _is_table(value):
    return len(getattr(value, "shape", ())) == 2


def _positions(rows, n_rows, name):
    """Positions of rows as an array of ints, from positions or a mask."""
    rows = np.asarray(rows)
    if rows.ndim != 1 or rows.dtype.kind not in "iub" or not rows.size:
        raise ValueError(
            f"`{name}` must be a 1-D array of positions or a mask; got {shown(rows.tolist())}."
        )
    if rows.dtype.kind == "b":
        if len(rows) != n_rows:
            raise ValueError(f"`{name}` must be a mask of {n_rows} rows; got {len(rows)}.")
        return np.flatnonzero(rows).astype(np.int64)
    outside = rows[(rows < 0) | (rows >= n_rows)]
    if outside.size:
        raise ValueError(
            f"`{name}` must hold positions from 0 to {n_rows - 1}; got {int(outside[0])}."
        )
    return rows.astype(np.int64)
