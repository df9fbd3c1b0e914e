"""Steps of `fit` that concern labels: read y, plan their use, put the head, keep attributes."""

import warnings

import numpy as np
import torch

from cmim_sklearn._models.labels import make_head
from cmim_sklearn._tables.target import MAX_CLASSES, UNLABELLED, read_like, read_target
from cmim_sklearn._training.labels import StopLabels, plan_labels
from cmim_sklearn._utils.messages import listed
from cmim_sklearn._utils.stacklevel import user_stacklevel

LABEL_ATTRIBUTES = ("classes_", "target_mean_", "target_scale_", "label_n_iter_", "label_scores_")
"""Fitted attributes of encoders with labels; each encoder has some of them, or none."""


class LabelSteps:
    """Steps of `fit` for encoders that can learn from labels."""

    _label_weight = 0.0
    """Weight of the label term; 0: y is not looked at."""

    def _check_labels(self, y, X_val=None, y_val=None):
        """Raise if labels that are needed are missing."""
        if not self._label_weight:
            return
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} has label_weight={self._label_weight!r}, and requires "
                "y to be passed, but the target y is None. Pass y, or set label_weight=0."
            )
        if y_val is not None and X_val is None:
            raise ValueError("y_val must be given with X_val; got y_val without rows. Pass X_val.")

    def _read_labels(self, y, n_rows):
        """`Target` of the rows; None if labels are not used."""
        if not self._label_weight:
            return None
        target = read_target(y, self.target_type, n_rows)
        if target.n_minus_one:
            warnings.warn(
                f"{target.n_minus_one} of {n_rows} rows have the label {UNLABELLED}, and count as "
                f"unlabelled. If {UNLABELLED} is a class, give it another number, or convert y to "
                "strings.",
                UserWarning,
                stacklevel=user_stacklevel(),
            )
        n_labelled = int(target.is_labelled.sum())
        if target.n_classes > MAX_CLASSES and n_labelled < 2 * target.n_classes:
            warnings.warn(
                f"y has {target.n_classes} classes in {n_labelled} labelled rows, such as "
                f"{listed(target.classes[:3].tolist())}. If they are names or texts, choose "
                "another y; if they are numbers, set target_type='regression'.",
                UserWarning,
                stacklevel=user_stacklevel(),
            )
        return target

    def _plan_labels(self, target, positions, encoded, held_out, y_val, seed):
        """`Labels` of a fit, or None.

        Parameters
        ----------
        target : Target or None
            Of all rows in memory.
        positions : pair of arrays
            Positions of the training rows, and of the rows held out from them.
        encoded, held_out : arrays
            Both encoded; `held_out` may be None.
        y_val : array-like or None
            Target of other held-out rows.
        seed : int
        """
        if target is None:
            return None
        codes = target.standardised
        train, left_out = (codes[rows] for rows in positions)
        of_held_out = self._labels_of_held_out(target, left_out, held_out, y_val)
        return plan_labels(
            target.n_classes, train, of_held_out, lambda rows: encoded[rows], held_out, seed
        )

    def _labels_of_held_out(self, target, left_out, held_out, y_val):
        """Codes (n_held_out,) of the held-out rows: of `y_val`, or those left out in training."""
        if held_out is None:
            return None
        if y_val is not None:
            return read_like(target, y_val, len(held_out)).standardised
        return left_out if len(left_out) else np.full(len(held_out), np.nan)

    def _put_head(self, model, rows):
        """Give a model the label head for its rows; with the same classes, it stays."""

    def _label_callbacks(self, rows):
        return [] if rows.labels is None else [StopLabels(rows.labels.check_x, rows.labels.check_y)]

    def _label_attributes(self, net, rows):
        """Fitted attributes of the labels of a net and its rows."""
        target = rows.target
        if target is None:
            return {}
        found = {"label_n_iter_": 0, "label_scores_": []}
        for _, callback in net.callbacks_:
            if isinstance(callback, StopLabels):
                found["label_n_iter_"] = callback.n_iter_
                found["label_scores_"] = list(callback.scores_)
        if target.classes is not None:
            return found | {"classes_": target.classes}
        return found | {"target_mean_": target.mean, "target_scale_": target.scale}


def put_head(model, rows, classes, weight):
    """Give a model the label head for its rows, or none; that of the same classes stays."""
    if rows.labels is None:
        model.labels = None
        return
    wanted, head = rows.target.classes, model.labels
    is_same = head is not None and (
        wanted is classes
        or (wanted is not None and classes is not None and np.array_equal(wanted, classes))
    )
    if not is_same:
        seed = int(np.random.RandomState([rows.seed, 1]).randint(2**31 - 1))
        generator = torch.Generator().manual_seed(seed)
        model.labels = make_head(model, rows.labels.n_classes, generator)
    model.labels.set(weight=weight)
