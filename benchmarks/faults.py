"""What can go wrong, made to go wrong: faults injected, survived, rows lost.

    python -m benchmarks.faults --times 20

Real signals to real processes, real limits of files, disks and rights. A fault is survived where
what was there before is there still, the fit that is started again ends with the weights of one
that was never disturbed, and what cannot be used is refused by a documented error. Rows are lost
where their features are not those of an undisturbed fit. POSIX only.
"""

import argparse
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import torch
from skorch.callbacks import Callback

from cmim_sklearn import Checkpoint, CMIMEncoder
from cmim_sklearn._utils.archive import EncoderFileError
from tests.conftest import make_mixed

NOBODY, PATIENCE = 65534, 5
EPOCHS = 40
SMALL = {
    "max_iter": EPOCHS, "hidden_layer_sizes": (8,), "n_components": 3, "batch_size": 50,
    "random_state": 0, "device": "cpu",
}  # fmt: skip


class Survived(Exception):
    """What a child process raises to say that all is as it should be."""


class NotHere(Exception):
    """A fault that this machine, or this user, cannot bring about."""


class Bench:
    """An undisturbed fit, and what is needed to disturb others like it."""

    def __init__(self):
        self.X = make_mixed()
        start = time.monotonic()
        self.whole = self.encoder().fit(self.X)
        self.seconds = time.monotonic() - start
        self.Z = self.whole.transform(self.X)
        self.other = CMIMEncoder(**SMALL | {"max_iter": 1, "random_state": 1}).fit(self.X)

    def encoder(self, folder=None, *callbacks):
        """Not fitted; with a checkpoint at each epoch where there is a directory."""
        callbacks = list(callbacks)
        if folder is not None:
            callbacks.append(Checkpoint(folder / "checkpoints", every_epochs=1))
        return CMIMEncoder(**SMALL, net_params={"callbacks": callbacks})

    def lost(self, encoder):
        """How many rows have other features than in the undisturbed fit."""
        return int((encoder.transform(self.X) != self.Z).any(1).sum())

    def lost_in(self, path):
        """The same of a file, which may be that of the other encoder as a whole."""
        encoder = CMIMEncoder.load(path, device="cpu")
        is_other = np.array_equal(encoder.transform(self.X), self.other.transform(self.X))
        return 0 if is_other else self.lost(encoder)


def in_a_child(function, *args):
    """Begin a function in a process of its own, a copy of this one; its id."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with open(os.devnull, "w") as nothing, redirect_stderr(nothing):
                function(*args)
            code = 0
        except Survived:
            code = 0
        except KeyboardInterrupt:
            code = 130
        finally:
            os._exit(code)
    return child


def end_of(child):
    """The exit code of a child, negative if a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def end_of_signalled(child, kind):
    """Send a signal until a child ends: Python drops a Ctrl-C that strikes in a finalizer."""
    for _ in range(PATIENCE):
        os.kill(child, kind)
        for _ in range(100):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    return end_of(child)


def check(condition, told):
    """Raise where a fault was not survived."""
    if not condition:
        raise AssertionError(told)


def names(folder):
    """Of all files, hidden ones too."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


# -- faults: each a function (bench, folder, rng) -> rows lost -------------------------------------


def signalled_in_fit(kind):
    """A signal at a random moment of a fit with a checkpoint, three times over."""

    def fault(bench, folder, rng):
        for _ in range(3):
            child = in_a_child(lambda: bench.encoder(folder).fit(bench.X))
            time.sleep(rng.uniform(0, bench.seconds))
            code = end_of_signalled(child, kind)
            check(code in (0, 130, -kind), f"exit code {code}")
        if kind == signal.SIGINT:
            check(not [n for n in names(folder) if n.endswith(".part")], names(folder))
        return bench.lost(bench.encoder(folder).fit(bench.X))

    return fault


def signalled_in_save(kind):
    """A signal while one encoder after the other is saved to one path."""

    def save(bench, path):
        while True:
            bench.other.save(path)
            bench.whole.save(path)

    def fault(bench, folder, rng):
        path = folder / "model.cmim"
        bench.whole.save(path)
        child = in_a_child(save, bench, path)
        time.sleep(rng.uniform(0.01, 0.3))
        code = end_of_signalled(child, kind)
        check(code in (130, -kind), f"exit code {code}")
        if kind == signal.SIGINT:
            check(names(folder) == ["model.cmim"], names(folder))
        return bench.lost_in(path)

    return fault


def _refused_writes(bench, folder, prepare):
    """Save where it must fail; the file that was there stays, and nothing beside it."""
    path = folder / "model.cmim"
    bench.whole.save(path)

    def save():
        prepare()
        try:
            bench.other.save(path)
        except OSError:
            raise Survived from None

    check(end_of(in_a_child(save)) == 0, "save did not say that it failed")
    check(names(folder) == ["model.cmim"], names(folder))
    check(bench.lost(CMIMEncoder.load(path, device="cpu")) == 0, "another encoder")
    return 0


class FillsUp(Callback):
    """Acts in the middle of a fit; how is no parameter, so that the fit is the same without."""

    act_ = None

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == EPOCHS // 2 and self.act_ is not None:
            self.act_()


def _unwritten_checkpoints(bench, folder, prepare):
    """Fit where checkpoints can no longer be written: it ends as ever, and resumes."""
    fills_up = FillsUp()
    fills_up.act_ = prepare

    def fit():
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            encoder = bench.encoder(folder, fills_up).fit(bench.X)
        is_told = [w for w in told if "could not be written" in str(w.message)]
        if len(is_told) == 1 and bench.lost(encoder) == 0:
            raise Survived

    check(end_of(in_a_child(fit)) == 0, "the fit did not come to its end")
    check(len(names(folder)) == 1, names(folder))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the disk may be as it was
        again = bench.encoder(folder, FillsUp()).fit(bench.X)
    check(len(names(folder)) == 1, "another fit was begun")
    return bench.lost(again)


def limited_files(use):
    """Files may no longer be as large as what is written."""

    def prepare():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    return lambda bench, folder, rng: use(bench, folder, prepare)


def full_disk(use):
    """A small file system of its own, filled to the last byte."""

    def fault(bench, folder, rng):
        disk = folder / "disk"
        disk.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)], capture_output=True
        )
        if mounted.returncode:
            raise NotHere("no rights to mount a file system")
        try:

            def prepare():
                try:
                    with open(disk / "filler", "wb", buffering=0) as file:
                        while True:
                            file.write(b"\0" * 1024)
                except OSError:
                    pass

            (disk / "own").mkdir()
            return use(bench, disk / "own", prepare)
        finally:
            subprocess.run(["umount", str(disk)], check=True)

    return fault


def read_only(use):
    """A directory that the process may read and not write to."""

    def fault(bench, folder, rng):
        own = folder / "own"
        own.mkdir()

        def prepare():
            os.chmod(own, 0o555)
            if (own / "checkpoints").exists():
                os.chmod(own / "checkpoints", 0o555)
            if os.geteuid() == 0:  # who may write anywhere
                os.setuid(NOBODY)

        os.chmod(folder, 0o755)
        return use(bench, own, prepare)

    return fault


def broken_loss(bench, folder, rng):
    """Weights that are not finite in a random epoch."""

    class Breaks(Callback):
        def on_batch_end(self, net, training=False, **kwargs):
            if len(net.history) == epoch and not self.is_done:
                self.is_done = True
                with torch.no_grad():
                    next(net.module_.parameters()).fill_(torch.nan)

    epoch, breaks = rng.randrange(1, EPOCHS), Breaks()
    breaks.is_done = False
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        encoder = bench.encoder(None, breaks).fit(bench.X)
    check(len(told) == 1 and f"not finite in epoch {epoch}" in str(told[0].message), told)
    # Another rate makes other features: rows are lost where there are none.
    return int((~np.isfinite(encoder.transform(bench.X))).any(1).sum())


def damaged_file(bench, folder, rng):
    """Bytes cut off, flipped or put in: refused by name, or what was saved."""
    path = folder / "model.cmim"
    bench.whole.save(path)
    data = bytearray(path.read_bytes())
    place, kind = rng.randrange(len(data)), rng.randrange(3)
    if kind == 0:
        data = data[:place]
    elif kind == 1:
        data[place] ^= 1 << rng.randrange(8)
    else:
        data[place:place] = rng.randbytes(rng.randrange(1, 50))
    path.write_bytes(data)
    try:
        return bench.lost_in(path)
    except EncoderFileError:
        return 0


def damaged_checkpoint(bench, folder, rng):
    """A checkpoint cut short: refused by name, and after it is gone the fit is as ever."""
    end_of(in_a_child(lambda: bench.encoder(folder).fit(bench.X)))
    (path,) = (folder / "checkpoints").iterdir()
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data))])
    try:
        bench.encoder(folder).fit(bench.X)
    except EncoderFileError:
        path.unlink()
        return bench.lost(bench.encoder(folder).fit(bench.X))
    raise AssertionError("it was read")


def bad_chunk(bench, folder, rng):
    """A chunk with infinity in a stream: refused by name, and the stream goes on without it."""
    chunks = [bench.X[:100], bench.X[100:]]
    streams = [CMIMEncoder(**SMALL) for _ in range(2)]
    bad = bench.X[:50].copy()
    bad.iloc[rng.randrange(50), 0] = np.inf
    for chunk in chunks:
        for stream in streams:
            stream.partial_fit(chunk)
        try:
            streams[0].partial_fit(bad)
        except ValueError:
            continue
        raise AssertionError("it was taken")
    one, other = (stream.transform(bench.X) for stream in streams)
    return int((one != other).any(1).sum())


FAULTS = {
    "kill -9 in fit, three times": signalled_in_fit(signal.SIGKILL),
    "SIGTERM in fit, three times": signalled_in_fit(signal.SIGTERM),
    "Ctrl-C in fit, three times": signalled_in_fit(signal.SIGINT),
    "kill -9 in save": signalled_in_save(signal.SIGKILL),
    "SIGTERM in save": signalled_in_save(signal.SIGTERM),
    "Ctrl-C in save": signalled_in_save(signal.SIGINT),
    "limit of file size in save": limited_files(_refused_writes),
    "limit of file size in fit": limited_files(_unwritten_checkpoints),
    "disk full in save": full_disk(_refused_writes),
    "disk full in fit": full_disk(_unwritten_checkpoints),
    "read-only directory in save": read_only(_refused_writes),
    "read-only directory in fit": read_only(_unwritten_checkpoints),
    "loss not finite": broken_loss,
    "damaged file": damaged_file,
    "damaged checkpoint": damaged_checkpoint,
    "infinity in a stream": bad_chunk,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=list(FAULTS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # a process with threads cannot be copied safely
    bench, rng = Bench(), random.Random(arguments.seed)
    print("| fault | injected | survived | rows lost |\n|---|---|---|---|", flush=True)
    is_sound = True
    for name in arguments.only:
        n_injected, n_survived, n_lost = 0, 0, 0
        for _ in range(arguments.times):
            with tempfile.TemporaryDirectory() as folder:
                n_injected += 1
                try:
                    n_lost += FAULTS[name](bench, Path(folder), rng)
                    n_survived += 1
                except NotHere:
                    n_injected -= 1
                except Exception as error:
                    print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
        is_sound &= n_survived == n_injected and n_lost == 0
        print(f"| {name} | {n_injected} | {n_survived} | {n_lost} |", flush=True)
    return 0 if is_sound else 1


if __name__ == "__main__":
    sys.exit(main())
