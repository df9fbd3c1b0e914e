"""Labels in training: which are held back, and when they stop to train the model."""

import math
from typing import NamedTuple

import numpy as np
import torch
from skorch.callbacks import Callback

from cmim_sklearn._models.labels import label_losses
from cmim_sklearn._training.callbacks import KeepBest, shapes_of
from cmim_sklearn._training.state import copy_tensors, restore_optimizer_in_place

MIN_LABELLED = 300
"""Number of labelled rows below which labels do not train the model."""
MIN_HELD_BACK, MAX_HELD_BACK = 30, 1000
HELD_BACK_SHARE, MAX_HELD_BACK_SHARE = 0.1, 0.2
"""Share of the labelled rows whose labels are held back, and its maximum in small tables."""
N_CHECKS, PATIENCE = 30, 8
"""Number of checks in a fit, and number of them in a row without a new best that ends labels."""
SHARE_BEFORE_ALL = 2 / 3
"""Share of the epochs after which labels that still train the model are all used."""
MAX_LOSS = 10.0
"""Largest loss of a row in a check, in nats: one wrong row does not decide."""


class Labels(NamedTuple):
    """Labels of the rows of a fit, for a model with a head.

    Attributes
    ----------
    n_classes : int
        0 for numbers.
    train, held_out : array of shape (n, 2), float32; held_out may be None
        Columns to add to the rows: labels, NaN where missing, and 1 where they are held back.
    check_x, check_y : arrays of shape (m, C) and (m,), float32
        Encoded rows and their labels, for the checks.
    """

    n_classes: int
    train: np.ndarray
    held_out: np.ndarray | None
    check_x: np.ndarray
    check_y: np.ndarray


def plan_labels(n_classes, train, held_out, rows_at, x_held_out, seed, candidates=None):
    """Choose the labels that are held back from training, and make the columns of the rows.

    Held-out rows of early stopping serve for the checks if enough of them are labelled.

    Parameters
    ----------
    n_classes : int
        0 for numbers.
    train, held_out : array of shape (n,)
        Codes of classes or standardised numbers, NaN where missing; `held_out` may be None.
    rows_at : callable
        From positions of training rows to the encoded rows.
    x_held_out : array of shape (m, C) or None
    seed : int
    candidates : array of int, default=None
        Positions of the training rows that may be held back; None: all.

    Returns
    -------
    Labels or None
        None if there are too few labels, or they are all equal: labels then are not used.
    """
    known = train[~np.isnan(train)]
    if len(known) < MIN_LABELLED or (known == known[0]).all():
        return None
    of_held_out = None if held_out is None else _columns(held_out, np.arange(len(held_out)))
    found = np.empty(0, int) if held_out is None else np.flatnonzero(~np.isnan(held_out))
    if len(found) >= MIN_HELD_BACK:
        some = found[:MAX_HELD_BACK]
        return Labels(
            n_classes,
            _columns(train, some[:0]),
            of_held_out,
            x_held_out[some],
            held_out[some].astype(np.float32),
        )
    candidates = np.arange(len(train)) if candidates is None else candidates
    held_back = candidates[choose_held_back(train[candidates], n_classes, seed)]
    if len(held_back) < MIN_HELD_BACK:
        return None
    columns = _columns(train, held_back)
    return Labels(n_classes, columns, of_held_out, rows_at(held_back), columns[held_back, 0])


def _columns(labels, held_back):
    columns = np.zeros((len(labels), 2), np.float32)
    columns[:, 0] = labels
    columns[held_back, 1] = 1
    return columns


def choose_held_back(labels, n_classes, seed):
    """Sorted positions of the rows whose labels are held back, in equal shares of all labels.

    The only row of a class is never held back.
    """
    known = np.flatnonzero(~np.isnan(labels))
    n = max(HELD_BACK_SHARE * len(known), min(MAX_HELD_BACK_SHARE * len(known), MIN_HELD_BACK))
    n = min(round(n), MAX_HELD_BACK)
    if n_classes:
        counts = np.bincount(labels[known].astype(int), minlength=n_classes)
        known = known[counts[labels[known].astype(int)] > 1]
    rng = np.random.RandomState(seed)
    order = known[np.lexsort((rng.random_sample(len(known)), labels[known]))]
    n = min(n, len(order))
    places = (np.arange(n) + rng.random_sample()) * len(order) / max(1, n)
    return np.sort(order[places.astype(int)])


class StopLabels(Callback):
    """Early stopping of the label term, by the labels of rows that do not train the model.

    Some 30 times in a fit, the losses of these labels are compared with those at the best check so
    far. A check is a new best if the mean improvement exceeds its standard error. After eight
    checks in a row without one, weights and optimizer return to the best, and training goes on
    without labels; the learning-rate schedule does not return. If labels still train the model
    after two thirds of the epochs, all do, also those held back.

    Parameters
    ----------
    x : array of shape (m, C)
        Encoded rows.
    labels : array of shape (m,)
        Their labels, as `LabelHead` takes them.

    Attributes
    ----------
    phase_ : {"on", "off", "all"}
        Labels that train the model: all but those held back ("on"), none, or all.
    scores_ : list of float
        Negative mean loss of each check, in nats.
    n_iter_ : int
        Number of epochs with labels, up to the weights that training returned to if labels ended.
    """

    comes_last = True  # early stopping keeps the weights that had the held-out loss of the epoch

    _kept = ("epoch", "phase", "n_iter", "misses", "scores", "best", "state")
    _kinds = (int, str, int, int, list, torch.Tensor | None, dict | None)

    def __init__(self, x, labels):
        self.x, self.labels = x, labels

    def on_train_begin(self, net, **kwargs):
        """Turn labels on, and reset the state."""
        self.every_ = max(1, round(net.max_epochs / N_CHECKS))
        self.patience_ = math.ceil(net.max_epochs // self.every_ * PATIENCE / N_CHECKS)
        self.last_ = SHARE_BEFORE_ALL * net.max_epochs
        self.x_ = torch.as_tensor(self.x, device=net.device)
        self.labels_ = torch.as_tensor(self.labels, device=net.device)
        self.epoch_ = self.n_iter_ = self.misses_ = 0
        self.scores_, self.head_ = [], net.module_.labels
        self.shapes_ = shapes_of(net.module_.state_dict())
        self._enter("on")

    def _enter(self, phase):
        """Begin a phase, without a best check."""
        self.phase_, self.best_, self.state_ = phase, None, None
        self.head_.set(is_on=float(phase != "off"), uses_all=float(phase == "all"))

    def on_epoch_begin(self, net, **kwargs):
        """Count the epoch. Early stopping may end training before `on_epoch_end`."""
        net.history.record("uses_labels", self.phase_ != "off")
        self.epoch_ += 1
        self.n_iter_ += self.phase_ != "off"

    def on_epoch_end(self, net, **kwargs):
        """Check the labels if it is time, and end or extend their use."""
        if self.phase_ != "on":
            return
        if self.epoch_ % self.every_ == 0:
            self._check(net)
        if self.phase_ == "on" and self.epoch_ >= self.last_:
            self._enter("all")

    def _check(self, net):
        losses = self._losses(net)
        self.scores_.append(-float(losses.mean()))
        if self.best_ is None or _is_better(losses, self.best_):
            self.misses_, self.best_ = 0, losses
            state = {"weights": net.module_.state_dict(), "optimizer": _moments(net)}
            self.state_ = copy_tensors(state | {"n_iter": self.n_iter_})
            return
        self.misses_ += 1
        if self.misses_ >= self.patience_:
            self._stop(net)

    def _losses(self, net):
        model = net.module_
        was_training = model.training
        model.eval()
        with torch.no_grad():
            losses = label_losses(model, self.x_, self.labels_)
        model.train(was_training)
        return losses.nan_to_num(MAX_LOSS).clamp(max=MAX_LOSS).cpu()

    def _stop(self, net):
        """Return to the best weights, and turn labels off."""
        weights = self.state_["weights"]
        net.module_.load_state_dict(weights)
        restore_optimizer_in_place(net.optimizer_, self.state_["optimizer"])
        for _, callback in net.callbacks_:
            if isinstance(callback, KeepBest):  # its best weights may be some that were given up
                then = net.history[self.state_["n_iter"] - self.n_iter_ - 1]
                callback.reset(then["valid_loss"], weights)
        self.n_iter_ = self.state_["n_iter"]
        self._enter("off")

    def on_train_end(self, net, **kwargs):
        """Drop what only training needs."""
        self.x_ = self.labels_ = self.best_ = self.state_ = self.head_ = None

    def state_dict(self):
        """Position in the fit, and state of the best check."""
        state = {name: getattr(self, f"{name}_") for name in self._kept}
        return state | {"scores": list(self.scores_)}

    def load_state_dict(self, state):
        """Restore the state; that of the head is part of the model's.

        Raises
        ------
        ValueError
            If a value has another type, or the best weights belong to another network.
        """
        for name, kind in zip(self._kept, self._kinds, strict=True):
            if not isinstance(state[name], kind):
                raise ValueError(
                    f"expected {name!r} of the labels to be of type {kind}; got "
                    f"{type(state[name])}."
                )
        best = state["state"]
        if best is not None and shapes_of(best["weights"]) != self.shapes_:
            raise ValueError("the best weights of the labels belong to another network.")
        for name in self._kept:
            setattr(self, f"{name}_", state[name])


def _is_better(losses, best):
    gains = (best - losses).double()
    return bool(gains.mean() > gains.std() / math.sqrt(len(gains)))


def _moments(net):
    return net.optimizer_.state_dict()["state"]
