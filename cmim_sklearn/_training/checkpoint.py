"""Long fits: a callback that writes down where training stands, and goes on from there.

The file is one of `cmim_sklearn.archive`: JSON and arrays, written whole or not at all, and read
without running anything in it.
"""

import time
import warnings
from numbers import Integral, Real
from pathlib import Path

import torch
from skorch.callbacks import Callback, EarlyStopping, LRScheduler, ParamMapper

from cmim_sklearn._training.fingerprint import origin_of
from cmim_sklearn._training.state import restore, to_arrays, to_tensors, training_state
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
"""Of the hash that tells a fit from others, in a file's name."""


class Checkpoint(Callback):
    """Write down at times where a fit stands, so that it can go on after its process was killed.

    Start the same fit again, with the same rows and parameters, and it goes on from the last
    checkpoint. On one machine's CPU, with the same number of threads, it then ends with the weights
    of a fit that was never interrupted, to the bit. Each fit has a file of its own, so that those
    of a search can share a directory: started again, it takes what had ended as it is.

    Parameters
    ----------
    dirname : str or path-like
        Directory of the files, one for each fit, ``checkpoint-`` and a hash of its rows and
        parameters; made where there is none.
    every_epochs : int, default=None
        Epochs between checkpoints; None goes by the time alone.
    every_minutes : float, default=5.0
        Minutes after which the next epoch's end makes a checkpoint; None goes by the epochs alone.

    Raises
    ------
    ValueError
        In fit: if a parameter is out of range or both are None; if `random_state` of the encoder is
        None, as no second fit would be the same; if the fit had not ended and would not go on as it
        began, with what differs: versions of this library, torch, skorch, numpy or Python, type of
        device, initial weights; if a parameter is an object that cannot be told from others; if a
        callback of skorch, LRScheduler, EarlyStopping, Freezer or their kin, keeps a state that the
        file does not; if there are two; or in `partial_fit`.
    cmim_sklearn.archive.EncoderFileError
        In fit: a ValueError, if what is there is damaged or no checkpoint.
    OSError
        In fit: if the directory cannot be made, or not written to, as the fit begins.

    Warns
    -----
    UserWarning
        If a checkpoint cannot be written later on, as on a full disk; once a fit. Training goes on,
        the last checkpoint stays, and the next is tried in its time.

    Notes
    -----
    The file holds weights, optimizer, position in the schedule, random state, history, state of
    early stopping, and the critic of `InfoMaxVAEEncoder`; of the rows no more than a hash. It
    takes the space of some three to five times the weights. It is replaced as a whole: a kill at
    any moment leaves the one before. After Ctrl-C, SIGTERM or an error it stays as it was.

    The file of a fit that came to its end remains, too. The same fit then takes its weights at
    once; where versions, device or initial weights differ, it begins anew and its file replaces the
    one before. Delete the directory when you need none of them.

    Parameters are told apart by their values, arrays by a hash, functions and classes of your own
    by their code (not that of what they call), what they close over, defaults and class attributes,
    objects and networks by their attributes. Where one has changed, the fit is another and begins
    at its beginning. With ``verbose=1`` it says why it begins anew. scikit-learn's callbacks see
    the epochs that are trained, and of those before a resumed fit's start nothing.

    A callback of your own takes part if it has ``state_dict()`` and ``load_state_dict(state)``,
    from and to plain values and tensors; one without begins anew. Networks of your own that draw
    from torch's global random state, as dropout does, do not repeat to the bit.

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
    ...     again = CMIMEncoder(**params).fit(X)  # at its end already
    >>> again.loss_curve_ == first.loss_curve_
    True
    """

    comes_last = leaves_no_trace = True

    def __init__(self, dirname, *, every_epochs=None, every_minutes=5.0):
        self.dirname, self.every_epochs, self.every_minutes = dirname, every_epochs, every_minutes

    def on_train_begin(self, net, X=None, **kwargs):
        """Go on from the checkpoint of this fit, or write the first."""
        self._check(net)
        self.has_warned_, self.saved_, self.first_ = False, 0, len(net.history)
        self.origin_ = origin_of(net, X)
        folder = Path(self.dirname)
        self.path_ = folder / f"checkpoint-{self.origin_['fit'][:NAME_DIGITS]}.cmim"
        found = self._begin(net, folder)
        if found is not None:
            self._resume(net, found)
        self.clock_ = time.monotonic()

    def _begin(self, net, folder):
        """What there is to go on from; where there is nothing, write the first."""
        folder.mkdir(parents=True, exist_ok=True)
        clear_parts(self.path_)
        found = self._read(net)
        if found is None:
            # Also a test of the directory, at once and not after the first hour.
            write_bytes(self.path_, self._packed(net))
        return found

    def on_epoch_end(self, net, **kwargs):
        """Write a checkpoint if it is time."""
        epochs, minutes = self._n_done(net) - self.saved_, (time.monotonic() - self.clock_) / 60
        if (self.every_epochs is not None and epochs >= self.every_epochs) or (
            self.every_minutes is not None and minutes >= self.every_minutes
        ):
            self._write(net)

    def on_train_end(self, net, **kwargs):
        """Write the last one, where training came to its end."""
        if net.has_ended_:
            self._write(net, has_ended=True)

    def _check(self, net):
        if self.every_epochs is None and self.every_minutes is None:
            raise ValueError("Checkpoint needs every_epochs or every_minutes; both are None.")
        for name, kind, told in (
            ("every_epochs", Integral, "an int of at least 1"),
            ("every_minutes", Real, "a number above 0"),
        ):
            value = getattr(self, name)
            is_number = isinstance(value, kind) and not isinstance(value, bool) and value > 0
            if value is not None and not is_number:
                raise ValueError(f"{name} of Checkpoint must be {told}, or None. Got {value!r}.")
        if net.origin is None or net.origin["seed"] is None:
            raise ValueError(
                "Checkpoint needs an encoder with random_state, an int: without it the fit that is "
                "started again is another one."
            )
        if not net.one_cycle:
            raise ValueError(
                "Checkpoint is for fit. Between two calls of partial_fit, save the encoder: "
                "encoder.save(path)."
            )
        if sum(isinstance(callback, Checkpoint) for _, callback in net.callbacks_) > 1:
            raise ValueError("A fit takes one Checkpoint; there are several among its callbacks.")
        for name, callback in net.callbacks_:
            if isinstance(callback, LRScheduler | EarlyStopping | ParamMapper):
                raise ValueError(
                    f"Checkpoint does not hold the state of {name!r}, skorch's "
                    f"{type(callback).__name__}: a fit that goes on would be another. Take the "
                    "schedule that there is, and early_stopping=True, or leave Checkpoint out."
                )

    def _n_done(self, net):
        """Epochs of this fit."""
        return len(net.history) - self.first_

    # -- writing -----------------------------------------------------------------------------------

    def _write(self, net, has_ended=False):
        try:
            write_bytes(self.path_, self._packed(net, has_ended))
            self.saved_ = self._n_done(net)
        except Exception as error:
            # A long fit is worth more than its checkpoint.
            if not self.has_warned_:
                self.has_warned_ = True
                warnings.warn(
                    f"The checkpoint of epoch {self._n_done(net)} could not be written: {error}. "
                    f"Training goes on; {self.path_} is still that of epoch {self.saved_}, and the "
                    "next is tried in its time.",
                    UserWarning,
                    stacklevel=user_stacklevel(),
                )
        self.clock_ = time.monotonic()

    def _packed(self, net, has_ended=False):
        state = {
            **to_arrays(training_state(net)),
            "faults": list(net.faults_),
            "generator": net.generator_.get_state().numpy().copy(),
            "history": [{k: v for k, v in row.items() if k != "batches"} for row in net.history],
        }
        arrays = {}
        content = {
            "versions": self.origin_["versions"],
            "origin": self.origin_,
            "n_done": self._n_done(net),
            "has_ended": has_ended,
            "state": to_json(state, "state", arrays),
        }
        return pack(content, arrays, KIND)

    # -- reading -----------------------------------------------------------------------------------

    def _read(self, net):
        """The manifest of a checkpoint of this fit, with its state; None where another is due."""
        try:
            data = read_bytes(self.path_)
        except FileNotFoundError:
            if n_others := len(list(self.path_.parent.glob("checkpoint-*.cmim"))):
                told = f"none of the {n_others} checkpoints in {self.dirname} is of this fit"
                _print_beginning(net, told)
            return None
        with reading(self.path_):
            manifest, arrays = unpack(data, KIND)
            differences = list(_differences(manifest["origin"], self.origin_))
            n_done, has_ended = manifest["n_done"], manifest["has_ended"]
            if not isinstance(n_done, int) or not 0 <= n_done <= net.max_epochs:
                differences = differences or [f"it has {n_done} epochs of {net.max_epochs}"]
            state = from_json(manifest["state"], arrays)
        if not differences:
            return manifest | {"state": state}
        if has_ended:
            told = f"{self.path_} is of this fit, which had ended, but {'; '.join(differences)}"
            _print_beginning(net, told)
            return None
        raise ValueError(
            f"{self.path_} is of a fit that has not ended, after {n_done} epochs, and would not go "
            f"on as it began: {'; '.join(differences)}. Start it as it was, give this one another "
            "directory, or delete the file."
        )

    def _resume(self, net, found):
        state = found["state"]
        with reading(self.path_):
            restore(net, to_tensors({k: state[k] for k in ("weights", "optimizer", "callbacks")}))
            net.generator_.set_state(torch.tensor(state["generator"]))
            rows, faults = [{**row, "batches": []} for row in state["history"]], state["faults"]
            if len(rows) != self.first_ + found["n_done"]:
                raise ValueError(f"its history has {len(rows)} epochs.")
            if not all(isinstance(row.get("train_loss", 0.0), float) for row in rows):
                raise ValueError("its history has losses that are no numbers.")
            if not all(type(epoch) is int for epoch in faults):
                raise ValueError(f"its faults are those of epochs {short(faults)}.")
        net.faults_ = faults
        net.history.clear()
        net.history.extend(rows)
        self.saved_ = self._n_done(net)
        net.n_resumed_ = net.max_epochs if found["has_ended"] else found["n_done"]
        if net.verbose:
            print(
                f"[{net.title}] goes on from {self.path_}, after {self.saved_} epochs", flush=True
            )


def _print_beginning(net, told):
    if net.verbose:
        print(f"[{net.title}] begins anew: {told}", flush=True)


def _differences(there, here):
    """In what two origins differ, in words."""
    if there["fit"] != here["fit"]:
        yield "it is of other rows or parameters, under this one's name"
    if there["device"] != here["device"]:
        yield f"device was {short(there['device'])}, is {here['device']!r} now"
    versions = [
        f"{name} was {short(was)}, is {now!r} now"
        for name, now in here["versions"].items()
        if (was := there["versions"].get(name)) != now
    ]
    if versions:
        yield f"its versions differ: {', '.join(versions)}"
    if there["weights"] != here["weights"] and there | {"weights": here["weights"]} == here:
        yield "the network began with other weights, as a warm start or a changed function does"
