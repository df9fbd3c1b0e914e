"""Training on a whole table: how long, on which rows, by which net, and what is kept of it."""

import copy
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from sklearn.utils import check_random_state
from torch.utils.data import Dataset

from cmim_sklearn._training.batches import EncodedTable, count_batches
from cmim_sklearn._training.callbacks import EpochTasks, KeepBest
from cmim_sklearn._training.diagnosis import describe_suspect_column
from cmim_sklearn._training.net import LatentNet, NotFinite, hold_out, net_state
from cmim_sklearn._utils.device import resolve_device
from cmim_sklearn._utils.stacklevel import users_level

AUTO_UPDATES, AUTO_MIN_EPOCHS, AUTO_MAX_EPOCHS = 3000, 10, 400
AUTO_WIDTH, AUTO_MIN_UPDATES = 1200, 500
"""The width, encoder inputs and decoder outputs together, beyond which "auto" makes fewer updates,
in proportion, and how many at least."""
SUMMARY_ROWS = 5000
"""How many rows, at most, are looked at after training."""


class Rows(NamedTuple):
    """What a fit goes by, and what is looked at afterwards.

    Attributes
    ----------
    data : Dataset
        All rows to train on, as `LatentNet` takes them.
    encoded : array of shape (n, C)
        Those of them that are at hand, encoded: all, or a sample.
    measure : callable
        From positions in `encoded` to the measured cells of these rows.
    held_out : array of shape (n_held_out, C) or None
        Encoded rows to watch.
    """

    data: Dataset
    encoded: np.ndarray
    measure: Callable
    held_out: np.ndarray | None


def train_on_table(encoder, X, y, X_val):
    """Learn the columns, unless warm, and train; see `_LatentEncoder.fit`."""
    warm = goes_on(encoder)
    frame = encoder._read(X, reset=not warm, min_rows=2)
    seed = draw_seed(encoder)
    check_warm(encoder)
    table = encoder.table_ if warm else encoder._fit_table(frame)
    encoder._check_table(table, frame)
    rows, encoded, held_out = _divided(encoder, table, frame, X_val, seed)
    measure = partial(measured, table, frame, rows)
    rows = Rows(EncodedTable(encoded), encoded, measure, held_out)
    train_on_rows(encoder, table, rows, seed, X, y)


def train_on_rows(encoder, table, rows, seed, X, y=None):
    """Train on rows of known columns, and keep what is read off; X and y are for callbacks."""
    built = encoder._architecture()
    # A copy where it goes on, so that a fit that fails leaves the encoder as it was.
    model = (
        copy.deepcopy(encoder.net_.module)
        if goes_on(encoder)
        else encoder._build_model(table.likelihood, built, seed)
    )
    encoder._configure(model)
    epochs = n_epochs(encoder, len(rows.data), _width(table.likelihood, built))

    def so_far(net):
        # For scikit-learn's callbacks, which may ask at every epoch: in short, and a copy.
        attributes = encoder._read_off(net, rows.encoded, seed)
        return {**attributes, "table_": table, "_built": built, "_net": net_state(net)}

    tasks = _callback_tasks(encoder, epochs, X, y, so_far)
    net = make_net(encoder, model, epochs, seed, rows.held_out, tasks)
    if goes_on(encoder):
        net.history.extend(encoder.net_.history)
    interrupted = None
    try:
        train(net, table, rows.data, rows.encoded, rows.held_out)
        attributes = encoder._read_off(net, rows.encoded, seed, rows.measure)
    except KeyboardInterrupt as stop:
        interrupted = stop
        attributes = encoder._read_off(net, rows.encoded, seed, rows.measure)
    vars(encoder).update(attributes, table_=table, _built=built, _net=net)
    try:
        if interrupted is not None:
            warnings.warn(
                f"Training was interrupted after {encoder.n_iter_} epochs. The encoder is fitted "
                "with the weights it had, the best ones where rows were held out.",
                UserWarning,
                stacklevel=users_level(),
            )
        warn_of_faults(encoder, net)
        for task in tasks:
            task.end(net)
    finally:
        net.forget_data()
        if interrupted is not None:
            raise interrupted


# -- before training -------------------------------------------------------------------------------


def goes_on(encoder):
    """Whether a fit begins with what was learnt before."""
    return encoder.warm_start and hasattr(encoder, "_net")


def draw_seed(encoder):
    """The seed of a fit, drawn from `random_state`."""
    return int(check_random_state(encoder.random_state).randint(2**31 - 1))


def check_warm(encoder):
    """Raise where a warm fit cannot go on with the network that there is."""
    if goes_on(encoder):
        check_as_built(encoder, encoder._architecture(), "warm_start=True", "Set warm_start=False")


def warn_of_one_component(encoder):
    """Warn where there is no direction for the contrastive term to spread codes in."""
    if encoder.n_components == 1 and getattr(encoder, "contrastive_weight", 0):
        warnings.warn(
            "With n_components=1 codes have no direction to spread, and the contrastive term "
            "no gradient: this fit is A-MIM. Take 2 components or more, or "
            "contrastive_weight=0 to say so.",
            UserWarning,
            stacklevel=users_level(),
        )


@contextmanager
def as_before_on_error(encoder):
    """On an error, where nothing was learnt, give columns their names of before."""
    before = dict(vars(encoder))
    try:
        yield
    except BaseException:
        if all(vars(encoder).get(name) is before.get(name) for name in ("_net", "table_")):
            for name in ("n_features_in_", "feature_names_in_"):
                vars(encoder).pop(name, None)
                if name in before:
                    setattr(encoder, name, before[name])
        raise


def check_as_built(encoder, built, what, remedy):
    """Raise where parameters that made the fitted network were set to others since."""
    changed = [name for name, value in built.items() if value != encoder._built[name]]
    learnt = "network", "it was built"
    if not hasattr(encoder, "_net"):  # fit_schema has learnt no more
        learnt = "columns", "they were learnt"
        changed = [name for name in changed if name == "columns"]
    if "columns" in changed:
        changed[changed.index("columns")] = (
            "one of categorical_features, numeric_scaling, max_categories and likelihoods"
        )
    if changed:
        raise ValueError(
            f"{what} goes on with the fitted {learnt[0]}, but {', '.join(changed)} "
            f"changed since {learnt[1]}. {remedy} to begin anew."
        )


def _divided(encoder, table, frame, X_val, seed):
    """Positions of the rows to train on, these encoded, and encoded rows to watch, or None."""
    rows, encoded = np.arange(frame.n_rows), table.encode(frame)
    if X_val is not None:
        return rows, encoded, encoded_to_watch(encoder, table, X_val)
    if encoder.early_stopping:
        rows, held_out = _split(encoder, len(encoded), np.random.RandomState(seed))
        return rows, encoded[rows], encoded[held_out]
    return rows, encoded, None


def encoded_to_watch(encoder, table, X_val):
    """Rows of a user's own to watch, encoded."""
    with told_of_held_out():
        held_out = encoder._read(X_val, reset=False, min_rows=encoder._min_held_out, table=table)
        return table.encode(held_out)


@contextmanager
def told_of_held_out():
    """Say in errors that it is X_val they are about, and not X."""
    try:
        yield
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"X_val: {error}") from error


def _split(encoder, n_rows, rng):
    n_held_out = max(encoder._min_held_out, round(encoder.validation_fraction * n_rows))
    if n_rows - n_held_out < 2:
        raise ValueError(
            f"validation_fraction={encoder.validation_fraction} of {n_rows} rows leaves "
            f"{n_rows - n_held_out} to train on; 2 are needed. Lower it, give more rows "
            "or set early_stopping=False."
        )
    order = rng.permutation(n_rows)
    return order[n_held_out:], order[:n_held_out]


def _width(likelihood, built):
    """Encoder inputs and decoder outputs, as far as there is a decoder."""
    return likelihood.n_inputs + (likelihood.n_params if "decoder" in built else 0)


def n_epochs(encoder, n_rows, width):
    """How many epochs `max_iter` means for a table of some rows, and a network of some width."""
    if encoder.max_iter != "auto":
        return int(encoder.max_iter)
    # An update takes time by the width: what time there is buys fewer of a wide table.
    updates = max(AUTO_MIN_UPDATES, AUTO_UPDATES * min(1, AUTO_WIDTH / width))
    n_batches = count_batches(n_rows, encoder.batch_size)
    return int(np.clip(-(-updates // n_batches), AUTO_MIN_EPOCHS, AUTO_MAX_EPOCHS))


# -- the net ---------------------------------------------------------------------------------------


def _callback_tasks(encoder, epochs, X, y, so_far):
    """What tells scikit-learn's callbacks of the fit: one skorch callback, or none."""
    if not hasattr(encoder, "_init_callback_context"):
        return []
    context = encoder._init_callback_context(max_subtasks=epochs)
    return [EpochTasks(context, {"estimator": encoder, "X": X, "y": y}, so_far)]


def make_net(encoder, model, epochs, seed, encoded_val=None, tasks=(), one_cycle=True):
    """The initialised net that trains a model as an encoder's parameters say."""
    objective = encoder._objective(model, seed)
    callbacks = [*tasks, *encoder._trained_beside(objective)]
    if encoded_val is not None:
        callbacks.append(("early_stopping", KeepBest(encoder.n_iter_no_change, encoder.tol)))
    device = resolve_device(encoder.device)
    own = dict(encoder.net_params or {})
    callbacks += list(own.pop("callbacks", None) or [])
    if not one_cycle:
        own.pop("callbacks__schedule", None)  # there is none to replace
    if "optimizer" not in own:
        fused = device.type in ("cpu", "cuda")
        own = {"optimizer": torch.optim.AdamW, "optimizer__fused": fused, **own}
    net = LatentNet(
        model,
        objective,
        seed=seed,
        title=type(encoder).__name__,
        one_cycle=one_cycle,
        fit_spec={
            "class": type(encoder).__name__,
            "seed": None if encoder.random_state is None else seed,
            "parameters": encoder.get_params(deep=False),
        },
        callbacks=callbacks,
        max_epochs=epochs,
        batch_size=encoder.batch_size,
        train_split=None if encoded_val is None else hold_out(encoded_val),
        device=device,
        verbose=int(encoder.verbose),
        optimizer__lr=encoder.learning_rate_init,
        optimizer__weight_decay=encoder.alpha,
        **own,
    )
    return net.initialize()


def train(net, table, data, encoded, encoded_val=None):
    """Train a net on a data set; name the column of encoded rows (n, C) that its loss broke at."""
    try:
        net.partial_fit(data)
    except NotFinite as fault:
        told = describe_suspect_column(
            net.module, table, encoded if fault.training else encoded_val
        )
        raise FloatingPointError(f"{fault} {told}".strip()) from None


# -- after training --------------------------------------------------------------------------------


def warn_of_faults(encoder, net):
    """Warn of epochs that a net began anew, since the loss was not finite."""
    if net.nonfinite_epochs_:
        epochs = ", ".join(map(str, net.nonfinite_epochs_))
        warnings.warn(
            f"The loss was not finite in epoch {epochs}. Each time "
            "the fit went back to the epoch before, and on at half the learning rate. "
            f"Lower learning_rate_init (now {encoder.learning_rate_init:g}), or look for columns "
            "with extreme values.",
            UserWarning,
            stacklevel=users_level(),
        )


def some_rows(encoded, seed):
    """Rows to look at after training, in random order."""
    return np.random.RandomState(seed).permutation(len(encoded))[:SUMMARY_ROWS]


def measured(table, frame, rows, some):
    """Measured cells of some of the rows that a model was trained on."""
    return table.measure(frame.take(rows[some]))
