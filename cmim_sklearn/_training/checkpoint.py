"""Checkpoint: a callback that saves training state periodically and resumes from it.

Files have the format of `cmim_sklearn.archive`: JSON and arrays, replaced atomically, and read
without executing anything.
"""

import time
import warnings
from numbers import Integral, Real
from pathlib import Path

import torch
from skorch.callbacks import Callback, EarlyStopping, LRScheduler, ParamMapper

from cmim_sklearn._training.fingerprint import fit_fingerprint
from cmim_sklearn._training.state import (
    arrays_to_tensors,
    restore,
    tensors_to_arrays,
    training_state,
)
from cmim_sklearn._utils.archive import (
    clear_parts,
    from_json,
    pack,
    read_bytes,
    reading,
    to_json,
    unpack,
    write_bytes,
)
from cmim_sklearn._utils.messages import shown as short
from cmim_sklearn._utils.stacklevel import user_stacklevel

KIND = "cmim_sklearn checkpoint"
NAME_DIGITS = 16
"""Digits of the fit's hash in a file's name."""


class Checkpoint(Callback):
    """Save training state periodically, so that an interrupted fit can be resumed.

    Run the same fit again, with the same rows and parameters, and it resumes from the last
    checkpoint. On the same machine's CPU, with the same number of threads, it then ends with the
    weights of a fit that was never interrupted, to the bit. Each fit has a separate file, so all
    fits of a search can share a directory: a search that runs again reuses complete fits.

    Parameters
    ----------
    dirname : str or path-like
        Directory of the files ``checkpoint-HASH.cmim``, one per fit. It is created if needed.
    every_epochs : int or None, default=None
        Number of epochs between checkpoints; None counts minutes only.
    every_minutes : float or None, default=5.0
        Minutes between checkpoints, which are written at the end of an epoch; None counts epochs
        only.

    Raises
    ------
    ValueError
        In fit, if

        - a parameter is out of range, or both intervals are None;
        - `random_state` of the encoder is None;
        - a parameter of the encoder holds a lambda, a local function or class, or an object that
          cannot be pickled;
        - the saved fit is incomplete, and its versions (this library, torch, skorch, numpy,
          Python), type of device or initial weights are different;
        - another callback is a `Checkpoint`, or a skorch callback whose state is not saved
          (`LRScheduler`, `EarlyStopping`, `Freezer` and other `ParamMapper`).

        In `partial_fit`, always.
    cmim_sklearn.archive.EncoderFileError
        In fit, if the file is corrupted or not a checkpoint. It is a ValueError.
    OSError
        In fit, if the directory cannot be created or written to when training begins.

    Warns
    -----
    UserWarning
        If a later checkpoint cannot be written, as on a full disk; once per fit. Training
        continues, the last checkpoint stays, and the next one is tried when it is due.

    Notes
    -----
    A file holds weights, optimizer, learning-rate schedule, random state, history, state of early
    stopping, the critic of `InfoMaxVAEEncoder`, and a hash of the rows, but no row. It is three to
    five times as large as the weights. It is replaced atomically: a kill at any time leaves the
    previous checkpoint. Ctrl-C, SIGTERM and errors do not change the last checkpoint.

    The file of a complete fit stays. The same fit then loads its weights and does not train. If
    versions, device or initial weights differ, it starts from the beginning and replaces the file.
    Delete the directory when it is no longer needed.

    A fit resumes only if its rows, seed and parameters are equal. Arrays and tensors are compared
    by their bytes; functions and classes by their qualified name; networks by class, weights and
    attributes; callbacks by class and parameters; other objects by what pickle would save. The
    *code* of functions and classes is not compared: if you change it, delete the file or use
    another directory. With ``verbose=1`` a message says why a fit starts from the beginning.
    scikit-learn's callbacks see only the epochs that are trained after resuming.

    The state of custom callbacks is saved if they have ``state_dict()`` and
    ``load_state_dict(state)``, with plain values and tensors; other callbacks start without state.
    Custom networks that use torch's global random state, as dropout does, do not repeat to the bit.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn.datasets import load_iris
    >>> from cmim_sklearn import Checkpoint, CMIMEncoder
    >>> X = load_iris().data
    >>> with TemporaryDirectory() as folder:
    ...     callbacks = [Checkpoint(folder, every_epochs=2)]
    ...     params = {"max_iter": 5, "random_state": 0, "net_params": {"callbacks": callbacks}}
    ...     first = CMIMEncoder(**params).fit(X)
    ...     again = CMIMEncoder(**params).fit(X)  # reads the file, does not train
    >>> again.loss_curve_ == first.loss_curve_
    True
    """

    comes_last = without_effect = True

    def __init__(self, dirname, *, every_epochs=None, every_minutes=5.0):
        self.dirname, self.every_epochs, self.every_minutes = dirname, every_epochs, every_minutes

    def on_train_begin(self, net, X=None, **kwargs):
        """Resume from the checkpoint of this fit, or write the first one."""
        self._check(net)
        self.has_warned_, self.saved_, self.first_ = False, 0, len(net.history)
        self.fingerprint_ = fit_fingerprint(net, X)
        folder = Path(self.dirname)
        self.path_ = folder / f"checkpoint-{self.fingerprint_['fit'][:NAME_DIGITS]}.cmim"
        folder.mkdir(parents=True, exist_ok=True)
        clear_parts(self.path_)
        found = self._read(net)
        if found is None:
            # Write now: an error about the directory must come at once, not after an hour.
            write_bytes(self.path_, self._packed(net))
        else:
            self._resume(net, found)
        self.clock_ = time.monotonic()

    def on_epoch_end(self, net, **kwargs):
        """Write a checkpoint if it is due."""
        epochs, minutes = self._n_done(net) - self.saved_, (time.monotonic() - self.clock_) / 60
        if (self.every_epochs is not None and epochs >= self.every_epochs) or (
            self.every_minutes is not None and minutes >= self.every_minutes
        ):
            self._write(net)

    def on_train_end(self, net, **kwargs):
        """Write the last checkpoint if training is complete."""
        if net.has_ended_:
            self._write(net, has_ended=True)

    def _check(self, net):
        if self.every_epochs is None and self.every_minutes is None:
            raise ValueError("Checkpoint needs every_epochs or every_minutes; both are None.")
        for name, kind, expected in (
            ("every_epochs", Integral, "an int of at least 1"),
            ("every_minutes", Real, "a number above 0"),
        ):
            value = getattr(self, name)
            is_number = isinstance(value, kind) and not isinstance(value, bool) and value > 0
            if value is not None and not is_number:
                raise ValueError(
                    f"{name} of Checkpoint must be {expected}, or None; got {value!r}."
                )
        if net.fit_spec is None or net.fit_spec["seed"] is None:
            raise ValueError(
                "Checkpoint needs an encoder with a random_state; got None. Set random_state to an "
                "int, so that the fit can be repeated."
            )
        if not net.one_cycle:
            raise ValueError(
                "Checkpoint does not work with partial_fit. Save the encoder between two calls: "
                "encoder.save(path)."
            )
        if sum(isinstance(callback, Checkpoint) for _, callback in net.callbacks_) > 1:
            raise ValueError("net_params['callbacks'] must contain at most one Checkpoint.")
        for name, callback in net.callbacks_:
            if isinstance(callback, LRScheduler | EarlyStopping | ParamMapper):
                raise ValueError(
                    f"Checkpoint cannot save the state of the callback {name!r}, a "
                    f"{type(callback).__name__}. Use the default schedule and early_stopping=True, "
                    "or remove Checkpoint."
                )

    def _n_done(self, net):
        """Number of epochs of this fit."""
        return len(net.history) - self.first_

    # -- writing -----------------------------------------------------------------------------------

    def _write(self, net, has_ended=False):
        try:
            write_bytes(self.path_, self._packed(net, has_ended))
            self.saved_ = self._n_done(net)
        except Exception as error:
            # A failing checkpoint must not end a long fit.
            if not self.has_warned_:
                self.has_warned_ = True
                warnings.warn(
                    f"The checkpoint of epoch {self._n_done(net)} could not be written: {error}. "
                    f"Training continues; {self.path_} still holds epoch {self.saved_}. Further "
                    "checkpoints will be tried without a warning.",
                    UserWarning,
                    stacklevel=user_stacklevel(),
                )
        self.clock_ = time.monotonic()

    def _packed(self, net, has_ended=False):
        state = {
            **tensors_to_arrays(training_state(net)),
            "nonfinite_epochs": list(net.nonfinite_epochs_),
            "generator": net.generator_.get_state().numpy().copy(),
            "history": [{k: v for k, v in row.items() if k != "batches"} for row in net.history],
        }
        arrays = {}
        content = {
            "versions": self.fingerprint_["versions"],
            "fingerprint": self.fingerprint_,
            "n_done": self._n_done(net),
            "has_ended": has_ended,
            "state": to_json(state, "state", arrays),
        }
        return pack(content, arrays, KIND)

    # -- reading -----------------------------------------------------------------------------------

    def _read(self, net):
        """Manifest and state of this fit's checkpoint; None to start from the beginning."""
        try:
            data = read_bytes(self.path_)
        except FileNotFoundError:
            if n_others := len(list(self.path_.parent.glob("checkpoint-*.cmim"))):
                _print_start(
                    net, f"none of the {n_others} checkpoints in {self.dirname} is of this fit"
                )
            return None
        with reading(self.path_):
            manifest, arrays = unpack(data, KIND)
            differences = list(_differences(manifest["fingerprint"], self.fingerprint_))
            n_done, has_ended = manifest["n_done"], manifest["has_ended"]
            if not isinstance(n_done, int) or not 0 <= n_done <= net.max_epochs:
                differences = differences or [f"it has {short(n_done)} of {net.max_epochs} epochs"]
            state = from_json(manifest["state"], arrays)
        if not differences:
            return manifest | {"state": state}
        if has_ended:
            _print_start(net, f"{self.path_} is complete, but {'; '.join(differences)}")
            return None
        raise ValueError(
            f"The fit cannot be resumed from {self.path_}, saved after {n_done} epochs: "
            f"{'; '.join(differences)}. Restore the earlier setting, use another directory or "
            "delete the file."
        )

    def _resume(self, net, found):
        state = found["state"]
        with reading(self.path_):
            parts = {k: state[k] for k in ("weights", "optimizer", "callbacks")}
            restore(net, arrays_to_tensors(parts))
            net.generator_.set_state(torch.tensor(state["generator"]))
            rows = [{**row, "batches": []} for row in state["history"]]
            nonfinite_epochs, n_epochs = state["nonfinite_epochs"], self.first_ + found["n_done"]
            if len(rows) != n_epochs:
                raise ValueError(f"expected a history of {n_epochs} epochs; got {len(rows)}.")
            if not all(isinstance(row.get("train_loss", 0.0), float) for row in rows):
                raise ValueError("expected each train_loss of the history to be a float.")
            if not all(type(epoch) is int for epoch in nonfinite_epochs):
                raise ValueError(
                    f"expected nonfinite_epochs to be ints; got {short(nonfinite_epochs)}."
                )
        net.nonfinite_epochs_ = nonfinite_epochs
        net.history.clear()
        net.history.extend(rows)
        self.saved_ = self._n_done(net)
        net.n_resumed_ = net.max_epochs if found["has_ended"] else found["n_done"]
        if net.verbose:
            print(
                f"[{net.title}] resumes from {self.path_}, after {self.saved_} epochs", flush=True
            )


def _print_start(net, reason):
    if net.verbose:
        print(f"[{net.title}] starts from the beginning: {reason}", flush=True)


def _differences(before, now):
    """Differences between two fingerprints, in words."""
    if before["fit"] != now["fit"]:
        yield "it was renamed, and belongs to other rows or parameters"
    if before["device"] != now["device"]:
        yield f"device was {short(before['device'])}, is now {now['device']!r}"
    versions = [
        f"{name} was {short(was)}, is now {version!r}"
        for name, version in now["versions"].items()
        if (was := before["versions"].get(name)) != version
    ]
    if versions:
        yield f"versions differ: {', '.join(versions)}"
    if before["weights"] != now["weights"] and before | {"weights": now["weights"]} == now:
        yield "initial weights differ, as after a warm start or a change of the network's code"
