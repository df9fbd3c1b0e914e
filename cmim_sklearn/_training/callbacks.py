"""What goes on beside the steps of a fit: schedule, early stopping, progress, tasks."""

import copy
import math
import shutil
import sys
import time

from skorch.callbacks import Callback

from cmim_sklearn._training.batches import count_batches


class StopTraining(Exception):
    """A callback asked for the end of training, which is no interruption by the user."""


class OneCycle(Callback):
    """The learning rate rises for a share of all updates, then falls to nothing, by cosines.

    Replace it by a callback of the same name, "schedule", or turn it off with
    ``net_params={"callbacks__schedule": None}``.

    Parameters
    ----------
    warm_up : float, default=0.3
        The share of updates in which the rate rises, from a 25th.
    """

    def __init__(self, warm_up=0.3):
        self.warm_up = warm_up

    def on_train_begin(self, net, X=None, **kwargs):
        """Count the updates ahead and note the peak rate of each parameter group."""
        n_batches = count_batches(len(X), net.batch_size)
        self.n_updates_ = net.max_epochs * n_batches
        self.update_ = 0
        self.peaks_ = [float(group["lr"]) for group in net.optimizer_.param_groups]

    def on_batch_begin(self, net, training=False, **kwargs):
        """Set the rate of this update."""
        if not training:
            return
        rise = max(1.0, self.warm_up * self.n_updates_)
        if self.update_ < rise:
            level = 0.04 + 0.96 * (1 - math.cos(math.pi * self.update_ / rise)) / 2
        else:
            progress = (self.update_ - rise) / max(1.0, self.n_updates_ - rise)
            level = (1 + math.cos(math.pi * min(1.0, progress))) / 2
        for group, peak in zip(net.optimizer_.param_groups, self.peaks_, strict=True):
            group["lr"] = peak * level
        self.update_ += 1

    def slow_down(self, factor):
        """Multiply the peak rates."""
        self.peaks_ = [peak * factor for peak in self.peaks_]

    def state_dict(self):
        """The position in the schedule."""
        return {"update": self.update_, "peaks": list(self.peaks_)}

    def load_state_dict(self, state):
        """Go to a position."""
        update, peaks = state["update"], list(state["peaks"])
        is_sound = type(update) is int and update >= 0 and len(peaks) == len(self.peaks_)
        if not is_sound or not all(isinstance(peak, float) for peak in peaks):
            raise ValueError(f"the schedule is said to stand at {update!r}, with rates {peaks!r}.")
        self.update_, self.peaks_ = update, peaks


class KeepBest(Callback):
    """Stop when the held-out loss no longer falls, and bring the best epoch's weights back.

    skorch's own `EarlyStopping` takes for best only what gained more than the tolerance.

    Parameters
    ----------
    patience : int
        Epochs in a row without a gain of `tol` before stopping.
    tol : float
        In nats a row.
    """

    _kept = ("misses", "best", "mark", "weights")
    _kinds = (int, float, float, dict | None)

    def __init__(self, patience, tol):
        self.patience, self.tol = patience, tol

    def on_train_begin(self, net, **kwargs):
        """Forget earlier fits."""
        self.misses_, self.best_, self.mark_, self.weights_ = 0, math.inf, math.inf, None
        self.shapes_ = _shapes(net.module_.state_dict())

    def on_epoch_end(self, net, **kwargs):
        """Keep the weights if they are the best so far; count epochs without gain."""
        loss = net.history[-1, "valid_loss"]
        if loss < self.best_:
            self.best_, self.weights_ = loss, copy.deepcopy(net.module_.state_dict())
        if loss < self.mark_ - self.tol:
            self.mark_, self.misses_ = loss, 0
        else:
            self.misses_ += 1
        if self.misses_ >= self.patience:
            raise StopTraining

    def on_train_end(self, net, **kwargs):
        """Bring the best weights back."""
        if self.weights_ is not None:
            net.module_.load_state_dict(self.weights_)
            self.weights_ = None

    def state_dict(self):
        """What the best epoch was, and how long ago."""
        return {name: getattr(self, f"{name}_") for name in self._kept}

    def load_state_dict(self, state):
        """Take up from there.

        Raises
        ------
        ValueError
            If the state is none of this network's, of which the weights are needed at the end only.
        """
        for name, kind in zip(self._kept, self._kinds, strict=True):
            if not isinstance(state[name], kind):
                raise ValueError(f"early stopping's {name} is a {type(state[name]).__name__}.")
        if state["weights"] is not None and _shapes(state["weights"]) != self.shapes_:
            raise ValueError("early stopping's best weights are those of another network.")
        for name in self._kept:
            setattr(self, f"{name}_", state[name])


def _shapes(weights):
    return {name: getattr(weight, "shape", None) for name, weight in weights.items()}


class Progress(Callback):
    """Epoch, seconds left and loss terms: one line in place where that works, else plain lines.

    A terminal and a notebook get a line that is rewritten, cut to the width there is; a file or a
    pipe gets some ten lines in all (each epoch at ``verbose=2``).
    """

    def __init__(self, title):
        self.title = title

    def on_train_begin(self, net, **kwargs):
        """Start the clock."""
        self.start_, self.first_, self.shown_ = time.monotonic(), len(net.history), ""
        self.in_place_ = sys.stdout.isatty() or "ipykernel" in sys.modules
        self.line_ = None

    def on_epoch_end(self, net, **kwargs):
        """Show the epoch that ended, or every tenth of the way where lines add up."""
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
        # Epochs before a resumed fit's start took none of its time.
        here = max(1, done - net.n_resumed_)
        left = (time.monotonic() - self.start_) / here * (planned - done)
        self.line_ = f"[{self.title}] {done}/{planned}, {left:.0f} s left: {', '.join(terms)}"
        if self.in_place_ or net.verbose > 1 or done == 1 or done % max(1, planned // 10) == 0:
            self._show()

    def on_train_end(self, net, **kwargs):
        """Show the last epoch, if that is still to be done, and leave the cursor on a new line."""
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
    """Pass the fit and each epoch on to scikit-learn's callbacks (1.9 and later).

    Parameters
    ----------
    context : sklearn.callback.CallbackContext
        Of the whole fit.
    arguments : dict
        What scikit-learn's hooks take: the estimator, X and y.
    fitted : callable
        Makes the attributes of an encoder fitted so far from the net; called only for a callback
        that asks for one.
    """

    def __init__(self, context, arguments, fitted):
        self.context, self.arguments, self.fitted = context, arguments, fitted
        self.task_ = None

    def on_train_begin(self, net, **kwargs):
        """Open the task of the fit."""
        self.context.call_on_fit_task_begin(**self.arguments)

    def end(self, net):
        """Close the task of the fit, once the estimator is fitted."""
        self.context.call_on_fit_task_end(
            **self.arguments, reconstruction_attributes=lambda: self.fitted(net)
        )

    def on_epoch_begin(self, net, **kwargs):
        """Open a sub-task, unless that of an epoch which is begun anew is open."""
        if self.task_ is None:
            self.task_ = self.context.subcontext(task_name="epoch")
            self.task_.call_on_fit_task_begin(**self.arguments)

    def on_epoch_end(self, net, **kwargs):
        """Close it, and stop where a callback says so."""
        task, self.task_ = self.task_, None
        if task.call_on_fit_task_end(
            **self.arguments, reconstruction_attributes=lambda: self.fitted(net)
        ):
            raise StopTraining
