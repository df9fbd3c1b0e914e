"""Callbacks: learning-rate schedule, early stopping, progress, scikit-learn's callbacks."""

import math
import shutil
import sys
import time

from skorch.callbacks import Callback, EpochTimer, LRScheduler

from cmim_sklearn._training.batches import count_batches
from cmim_sklearn._training.state import copy_tensors


class StopTraining(Exception):
    """Exception by which a callback ends training without an error."""


BATCH_HOOKS = ("on_batch_begin", "on_batch_end", "on_grad_computed")


class OneCycle(Callback):
    """Learning-rate schedule: a cosine rise, then a cosine decay to 0.

    Replace it by a callback of the same name, "schedule", or turn it off with
    ``net_params={"callbacks__schedule": None}``.

    Parameters
    ----------
    warm_up : float, default=0.3
        Fraction of all updates in which the rate rises, from 1/25 of its peak.
    """

    def __init__(self, warm_up=0.3):
        self.warm_up = warm_up

    def on_train_begin(self, net, X=None, **kwargs):
        """Count the updates and store the peak rate of each parameter group."""
        n_batches = count_batches(len(X), net.batch_size)
        self.n_updates_ = net.max_epochs * n_batches
        self.update_ = 0
        self.peaks_ = [float(group["lr"]) for group in net.optimizer_.param_groups]

    def on_batch_begin(self, net, training=False, **kwargs):
        """Set the learning rate of this update."""
        if training:
            self.set_rates(net)

    def set_rates(self, net):
        """Set the learning rates of the next update, and count it; return the first of them."""
        rise = max(1.0, self.warm_up * self.n_updates_)
        if self.update_ < rise:
            level = 0.04 + 0.96 * (1 - math.cos(math.pi * self.update_ / rise)) / 2
        else:
            progress = (self.update_ - rise) / max(1.0, self.n_updates_ - rise)
            level = (1 + math.cos(math.pi * min(1.0, progress))) / 2
        for group, peak in zip(net.optimizer_.param_groups, self.peaks_, strict=True):
            group["lr"] = peak * level
        self.update_ += 1
        return net.optimizer_.param_groups[0]["lr"]

    def scale_learning_rate(self, factor):
        """Multiply the peak rates."""
        self.peaks_ = [peak * factor for peak in self.peaks_]

    def state_dict(self):
        """Number of updates so far, and peak rates."""
        return {"update": self.update_, "peaks": list(self.peaks_)}

    def load_state_dict(self, state):
        """Restore the position in the schedule.

        Raises
        ------
        ValueError
            If the state is not one of this schedule.
        """
        update, peaks = state["update"], list(state["peaks"])
        is_sound = type(update) is int and update >= 0 and len(peaks) == len(self.peaks_)
        if not is_sound or not all(isinstance(peak, float) for peak in peaks):
            raise ValueError(
                f"expected the schedule to have an update count and {len(self.peaks_)} peak rates; "
                f"got {update!r} and {peaks!r}."
            )
        self.update_, self.peaks_ = update, peaks


class KeepBest(Callback):
    """Early stopping on the held-out loss; restores the weights of the best epoch.

    skorch's `EarlyStopping` keeps only weights that improved the loss by more than the tolerance.

    Parameters
    ----------
    patience : int
        Number of epochs in a row without an improvement of `tol` before training stops.
    tol : float
        Minimum improvement, in the unit of the loss.
    """

    _kept = ("misses", "best", "mark", "weights")
    _kinds = (int, float, float, dict | None)

    def __init__(self, patience, tol):
        self.patience, self.tol = patience, tol

    def on_train_begin(self, net, **kwargs):
        """Reset the state."""
        self.reset()
        self.shapes_ = shapes_of(net.module_.state_dict())

    def reset(self, loss=math.inf, weights=None):
        """Begin again, at weights with a held-out loss that are the best so far."""
        self.misses_, self.best_, self.mark_, self.weights_ = 0, loss, loss, weights

    def on_epoch_end(self, net, **kwargs):
        """Keep the weights if they are the best so far; count epochs without improvement."""
        loss = net.history[-1, "valid_loss"]
        if loss < self.best_:
            self.best_, self.weights_ = loss, copy_tensors(net.module_.state_dict())
        if loss < self.mark_ - self.tol:
            self.mark_, self.misses_ = loss, 0
        else:
            self.misses_ += 1
        if self.misses_ >= self.patience:
            raise StopTraining

    def on_train_end(self, net, **kwargs):
        """Restore the best weights."""
        if self.weights_ is not None:
            net.module_.load_state_dict(self.weights_)
            self.weights_ = None

    def state_dict(self):
        """Best loss and weights, and number of epochs without improvement."""
        return {name: getattr(self, f"{name}_") for name in self._kept}

    def load_state_dict(self, state):
        """Restore the state.

        Raises
        ------
        ValueError
            If the state does not fit the network. It is checked here, because the best weights are
            used only when training ends.
        """
        for name, kind in zip(self._kept, self._kinds, strict=True):
            if not isinstance(state[name], kind):
                raise ValueError(
                    f"expected {name!r} of early stopping to be of type {kind}; got "
                    f"{type(state[name])}."
                )
        if state["weights"] is not None and shapes_of(state["weights"]) != self.shapes_:
            raise ValueError("the best weights of early stopping belong to another network.")
        for name in self._kept:
            setattr(self, f"{name}_", state[name])


def shapes_of(weights):
    """Shape of each weight of a state, by name; None for entries that are no tensors."""
    return {name: getattr(weight, "shape", None) for name, weight in weights.items()}


class Progress(Callback):
    """Progress line: epoch, seconds left and loss terms.

    In a terminal or notebook one line is rewritten, cut to the width of the window. A file or pipe
    gets about ten lines in total, or one per epoch with ``verbose=2``.
    """

    def __init__(self, title):
        self.title = title

    def on_train_begin(self, net, **kwargs):
        """Start the clock."""
        self.start_, self.first_, self.shown_ = time.monotonic(), len(net.history), ""
        self.in_place_ = sys.stdout.isatty() or "ipykernel" in sys.modules
        self.line_ = None

    def on_epoch_end(self, net, **kwargs):
        """Show the epoch; if lines are not rewritten, only after each tenth of training."""
        if not net.verbose:
            return
        done, planned = len(net.history) - self.first_, net.max_epochs
        row = net.history[-1]
        terms = [
            f"{name.removeprefix('train_')} {value:.2f}"
            for name, value in row.items()
            if name.startswith("train_") and isinstance(value, float)
        ]
        if "valid_loss" in row:
            terms.insert(1, f"held out {row['valid_loss']:.2f}")
        # Epochs that a checkpoint restored took no time here.
        n_trained = max(1, done - net.n_resumed_)
        left = (time.monotonic() - self.start_) / n_trained * (planned - done)
        self.line_ = f"[{self.title}] {done}/{planned}, {left:.0f} s left: {', '.join(terms)}"
        if self.in_place_ or net.verbose > 1 or done == 1 or done % max(1, planned // 10) == 0:
            self._show()

    def on_train_end(self, net, **kwargs):
        """Show the last epoch, unless it was shown, and start a new line."""
        if net.verbose and self.line_:
            self._show()
        if self.in_place_ and self.shown_:
            print(flush=True)

    def _show(self):
        if self.line_ == self.shown_:
            return
        if self.in_place_:
            width = shutil.get_terminal_size().columns - 1
            print("\r" + self.line_[:width].ljust(len(self.shown_[:width])), end="", flush=True)
        else:
            print(self.line_, flush=True)
        self.shown_ = self.line_


class EpochTasks(Callback):
    """Report the fit and each epoch to scikit-learn's callbacks (1.9 and later).

    Parameters
    ----------
    context : sklearn.callback.CallbackContext
        Context of the whole fit.
    arguments : dict
        Arguments of scikit-learn's hooks: the estimator, X and y.
    fitted : callable
        From the net to the attributes of an encoder fitted so far. Only called if a callback asks
        for them.
    """

    def __init__(self, context, arguments, fitted):
        self.context, self.arguments, self.fitted = context, arguments, fitted
        self.task_ = None

    def on_train_begin(self, net, **kwargs):
        """Begin the task of the fit."""
        self.context.call_on_fit_task_begin(**self.arguments)

    def end(self, net):
        """End the task of the fit, once the estimator is fitted."""
        self.context.call_on_fit_task_end(
            **self.arguments, reconstruction_attributes=lambda: self.fitted(net)
        )

    def on_epoch_begin(self, net, **kwargs):
        """Begin a subtask, unless the epoch is repeated after a non-finite loss."""
        if self.task_ is None:
            self.task_ = self.context.subcontext(task_name="epoch")
            self.task_.call_on_fit_task_begin(**self.arguments)

    def on_epoch_end(self, net, **kwargs):
        """End the subtask; end training if a callback asks for it."""
        task, self.task_ = self.task_, None
        if task.call_on_fit_task_end(
            **self.arguments, reconstruction_attributes=lambda: self.fitted(net)
        ):
            raise StopTraining


PLAIN_CALLBACKS = EpochTimer, OneCycle, Progress, KeepBest
"""Callbacks of a net without `net_params`."""


def needs_batches(callback):
    """Whether a callback may use each batch or its gradients, and not only the end of epochs."""
    if isinstance(callback, OneCycle):  # which sets a rate, and that is a tensor of a graph
        return False
    if type(callback) is LRScheduler:
        return callback.step_every == "batch"
    hooks = [(getattr(type(callback), name, None), getattr(Callback, name)) for name in BATCH_HOOKS]
    return any(own is not default for own, default in hooks)
