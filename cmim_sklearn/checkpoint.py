"""Long fits: a callback that writes down where training stands, and goes on from there.

The file is one of `cmim_sklearn.archive`: JSON and arrays, written whole or not at all, and read
without running anything in it.
"""

import dataclasses
import hashlib
import json
import math
import time
import warnings
from functools import partial
from numbers import Integral, Real
from pathlib import Path

import numpy as np
import torch
from skorch.callbacks import Callback, EarlyStopping, LRScheduler, ParamMapper

from cmim_sklearn._version import __version__
from cmim_sklearn.archive import (
    MAX_FILE_BYTES,
    EncoderFileError,
    from_json,
    pack,
    read_bytes,
    reading,
    to_json,
    unpack,
    write_bytes,
)
from cmim_sklearn.training_state import restore, to_arrays, to_tensors, training_state

KIND, FILE = "cmim_sklearn checkpoint", "checkpoint.cmim"

UNRELATED = {
    "device", "embedding", "latent_prior", "max_iter", "n_jobs", "random_state", "verbose",
    "warm_start",
}  # fmt: skip
"""Parameters that training does not go by, or that show in the parts beside the parameters."""


class Checkpoint(Callback):
    """Write down at times where a fit stands, so that it can go on after its process was killed.

    Start the same fit again, with the same rows and parameters, and it goes on from the last
    checkpoint. On one machine's CPU, with the same number of threads, it then ends with the weights
    of a fit that was never interrupted, to the bit.

    Parameters
    ----------
    dirname : str or path-like
        Directory of the file ``checkpoint.cmim``, made where there is none. It is for one fit at a
        time: give each candidate of a search its own.
    every_epochs : int, default=None
        Epochs between checkpoints; None goes by the time alone.
    every_minutes : float, default=5.0
        Minutes after which the next epoch's end makes a checkpoint; None goes by the epochs alone.

    Raises
    ------
    ValueError
        In fit: if a parameter is out of range or both are None; if `random_state` of the encoder is
        None, as no second fit would be the same; if the file is of another fit that had not
        ended, with what differs: rows, parameters, versions of this library or of torch, type of
        device; if a callback of skorch, LRScheduler, EarlyStopping, Freezer or their kin, keeps a
        state that the file does not; if there are two; or in `partial_fit`.
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
    early stopping, and the critic of `InfoMaxVAEEncoder`; of the rows no more than a hash. It takes
    the space of some three to five times the weights. It is replaced as a whole: a kill at any
    moment leaves the one before. After Ctrl-C, SIGTERM or an error it stays as it was.

    The file of a fit that came to its end remains, too. The same fit then takes its weights at
    once; any other fit replaces it.

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

    comes_last = True

    def __init__(self, dirname, *, every_epochs=None, every_minutes=5.0):
        self.dirname, self.every_epochs, self.every_minutes = dirname, every_epochs, every_minutes

    @property
    def path(self):
        """Of the file."""
        return Path(self.dirname) / FILE

    def on_train_begin(self, net, X=None, **kwargs):
        """Go on from the checkpoint of this fit, or write the first."""
        self._check(net)
        self.has_warned_, self.saved_, self.first_ = False, 0, len(net.history)
        self.origin_ = _origin(net, X)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for part in self.path.parent.glob(f".{'[0-9a-f]' * 16}.part"):  # of one killed as it wrote
            part.unlink(missing_ok=True)
        found = self._read(net)
        if found is None:
            # Also a test of the directory, at once and not after the first hour.
            write_bytes(self.path, self._packed(net))
        else:
            self._resume(net, found)
        self.clock_ = time.monotonic()

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
            write_bytes(self.path, self._packed(net, has_ended))
            self.saved_ = self._n_done(net)
        except Exception as error:
            # A long fit is worth more than its checkpoint.
            if not self.has_warned_:
                self.has_warned_ = True
                warnings.warn(
                    f"The checkpoint of epoch {self._n_done(net)} could not be written: {error}. "
                    f"Training goes on; {self.path} is still that of epoch {self.saved_}, and the "
                    "next is tried in its time.",
                    UserWarning,
                    stacklevel=2,
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
        data = pack(content, arrays, KIND)
        if len(data) > MAX_FILE_BYTES:
            raise EncoderFileError(f"it has {len(data)} bytes, and {MAX_FILE_BYTES} are the most")
        return data

    # -- reading -----------------------------------------------------------------------------------

    def _read(self, net):
        """The manifest of a checkpoint of this fit, with its state; None where another is due."""
        try:
            data = read_bytes(self.path)
        except FileNotFoundError:
            return None
        with reading(self.path):
            manifest, arrays = unpack(data, KIND)
            differences = list(_differences(manifest["origin"], self.origin_))
            n_done, has_ended = manifest["n_done"], manifest["has_ended"]
            if not isinstance(n_done, int) or not 0 <= n_done <= net.max_epochs:
                differences = differences or [f"it has {n_done} epochs of {net.max_epochs}"]
            state = from_json(manifest["state"], arrays)
        if not differences:
            return manifest | {"state": state}
        if has_ended:
            return None
        raise ValueError(
            f"{self.path} is of another fit that has not ended, after {n_done} epochs: "
            f"{'; '.join(differences)}. Start that fit again as it was, give this one another "
            "directory, or delete the file."
        )

    def _resume(self, net, found):
        state = found["state"]
        with reading(self.path):
            restore(net, to_tensors({k: state[k] for k in ("weights", "optimizer", "callbacks")}))
            net.generator_.set_state(torch.tensor(state["generator"]))
            rows = [{**row, "batches": []} for row in state["history"]]
            if len(rows) != self.first_ + found["n_done"] and not found["has_ended"]:
                raise ValueError(f"its history has {len(rows)} epochs.")
        net.faults_ = list(state["faults"])
        net.history.clear()
        net.history.extend(rows)
        self.saved_ = self._n_done(net)
        net.n_resumed_ = net.max_epochs if found["has_ended"] else found["n_done"]
        if net.verbose:
            print(f"[{net.title}] goes on from {self.path}, after {self.saved_} epochs", flush=True)


def _origin(net, X):
    """All that decides what a fit ends with, as plain JSON: rows and weights by their hashes."""
    _, held_out = net.get_split_datasets(X, None)
    parameters = net.origin["parameters"]
    origin = {
        "class": net.origin["class"],
        "versions": {"cmim_sklearn": __version__, "torch": str(torch.__version__)},
        "device": torch.device(net.device).type,
        "seed": net.origin["seed"],
        "epochs": net.max_epochs,
        "parameters": {k: _plain(v) for k, v in parameters.items() if k not in UNRELATED},
        "rows": _hash({"x": X.x}),
        "held_out": None if held_out is None else _hash({"x": held_out.x}),
        "weights": _hash(net.module_.state_dict()),
    }
    return json.loads(json.dumps(origin))


def _hash(tensors):
    sha = hashlib.sha256()
    for name, tensor in tensors.items():
        array = np.ascontiguousarray(tensor.detach().cpu().numpy())
        sha.update(f"{name} {array.dtype} {array.shape}".encode())
        sha.update(array.reshape(-1).view(np.uint8))
    return sha.hexdigest()


def _plain(value):
    """A parameter as JSON that is the same in the next process; objects by the name of a class."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, partial):
        return [_plain(part) for part in (value.func, value.args, value.keywords)]
    if isinstance(value, torch.nn.Module):
        return repr(value)
    if isinstance(value, np.generic | np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return repr(value)
    named = value if hasattr(value, "__qualname__") else type(value)
    name = f"{named.__module__}.{named.__qualname__}"
    if isinstance(value, Callback) and not isinstance(value, Checkpoint):
        return {name: _plain(value.get_params())}
    return name


def _differences(there, here):
    """In what two origins differ, in words."""
    for name in ("class", "device", "epochs"):
        if there[name] != here[name]:
            yield f"{name} was {there[name]}, is {here[name]} now"
    for part in ("versions", "parameters"):
        for name in sorted(there[part].keys() | here[part].keys()):
            was, now = (of[part].get(name, "absent") for of in (there, here))
            if was != now:
                yield f"{name} was {was}, is {now} now"
    if there["seed"] != here["seed"]:
        yield "random_state gave another seed"
    told = {"rows": "X is another table", "held_out": "the rows held out are others"}
    for name, words in told.items():
        if there[name] != here[name]:
            yield words
    if there["weights"] != here["weights"] and there | {"weights": here["weights"]} == here:
        yield "the network began with other weights, as a warm start or a changed function does"
