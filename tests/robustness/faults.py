"""Fault injection: a table of faults injected, faults survived and rows lost.

    python -m tests.robustness.faults --times 20
    python -m tests.robustness.faults --seconds 3600

Signals go to real processes; files, disks and permissions have real limits. A fault is survived if
earlier files are kept, a restarted fit ends with the weights of an undisturbed one, and corrupted
input raises a documented error. A row is lost if its features differ from those of an undisturbed
fit. POSIX only.
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
from tests.helpers import make_mixed

NOBODY, PATIENCE = 65534, 5
EPOCHS = 40
SMALL = {
    "max_iter": EPOCHS, "hidden_layer_sizes": (8,), "n_components": 3, "batch_size": 50,
    "random_state": 0, "device": "cpu",
}  # fmt: skip


class Survived(Exception):
    """Raised in a child process when it behaved as documented."""


class NotPossible(Exception):
    """Raised for a fault that this machine or this user cannot inject."""


class Bench:
    """Undisturbed fit, its features, and encoders to disturb."""

    def __init__(self):
        self.X = make_mixed()
        start = time.monotonic()
        self.whole = self.encoder().fit(self.X)
        self.seconds = time.monotonic() - start
        self.Z = self.whole.transform(self.X)
        self.other = CMIMEncoder(**SMALL | {"max_iter": 1, "random_state": 1}).fit(self.X)

    def encoder(self, folder=None, *callbacks):
        """Unfitted encoder; with a directory, it saves a checkpoint after every epoch."""
        callbacks = list(callbacks)
        if folder is not None:
            callbacks.append(Checkpoint(folder / "checkpoints", every_epochs=1))
        return CMIMEncoder(**SMALL, net_params={"callbacks": callbacks})

    def lost(self, encoder):
        """Number of rows whose features differ from the undisturbed fit."""
        return int((encoder.transform(self.X) != self.Z).any(1).sum())

    def lost_in(self, path):
        """Number of rows lost in a file; the complete file of the other encoder is valid, too."""
        encoder = CMIMEncoder.load(path, device="cpu")
        is_other = np.array_equal(encoder.transform(self.X), self.other.transform(self.X))
        return 0 if is_other else self.lost(encoder)


def in_a_child(function, *args):
    """Run a function in a forked process; return its id."""
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
    """Exit code of a child; negative if a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def end_of_signalled(child, kind):
    """Send a signal until a child ends, since Python ignores a Ctrl-C within a finalizer."""
    for _ in range(PATIENCE):
        os.kill(child, kind)
        for _ in range(100):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    return end_of(child)


def check(condition, message):
    """Raise if a fault was not survived."""
    if not condition:
        raise AssertionError(message)


def names(folder):
    """Names of all files, including hidden ones."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


# -- faults: each a function (bench, folder, rng) -> rows lost -------------------------------------


def signalled_in_fit(kind):
    """Send a signal at a random moment of a fit with a checkpoint, three times."""

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
    """Send a signal while two encoders are saved to one path in turn."""

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


def failed_save(bench, folder, prepare):
    """Save where it must fail: the old file stays, and no other file."""
    path = folder / "model.cmim"
    bench.whole.save(path)

    def save():
        prepare()
        try:
            bench.other.save(path)
        except OSError:
            raise Survived from None

    check(end_of(in_a_child(save)) == 0, "save did not raise")
    check(names(folder) == ["model.cmim"], names(folder))
    check(bench.lost(CMIMEncoder.load(path, device="cpu")) == 0, "another encoder")
    return 0


class ActMidway(Callback):
    """Call `act_` in the middle of a fit. It is not a parameter, so fits count as equal."""

    act_ = None

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == EPOCHS // 2 and self.act_ is not None:
            self.act_()


def failed_checkpoints(bench, folder, prepare):
    """Fit where checkpoints can no longer be written: it finishes, and can be resumed."""
    midway = ActMidway()
    midway.act_ = prepare

    def fit():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            encoder = bench.encoder(folder, midway).fit(bench.X)
        about_files = [w for w in caught if "could not be written" in str(w.message)]
        if len(about_files) == 1 and bench.lost(encoder) == 0:
            raise Survived

    check(end_of(in_a_child(fit)) == 0, "the fit did not finish")
    check(len(names(folder)) == 1, names(folder))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the disk may still be full
        again = bench.encoder(folder, ActMidway()).fit(bench.X)
    check(len(names(folder)) == 1, "another fit was started")
    return bench.lost(again)


def limited_files(use):
    """Limit the size of files to less than what is written."""

    def prepare():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    return lambda bench, folder, rng: use(bench, folder, prepare)


def full_disk(use):
    """Fill a small file system to the last byte."""

    def fault(bench, folder, rng):
        disk = folder / "disk"
        disk.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)], capture_output=True
        )
        if mounted.returncode:
            raise NotPossible("mounting a file system needs more rights")
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
    """Make a directory read-only."""

    def fault(bench, folder, rng):
        own = folder / "own"
        own.mkdir()

        def prepare():
            os.chmod(own, 0o555)
            if (own / "checkpoints").exists():
                os.chmod(own / "checkpoints", 0o555)
            if os.geteuid() == 0:  # root may write anywhere
                os.setuid(NOBODY)

        os.chmod(folder, 0o755)
        return use(bench, own, prepare)

    return fault


def broken_loss(bench, folder, rng):
    """Make weights non-finite in a random epoch."""

    class Breaks(Callback):
        def on_batch_end(self, net, training=False, **kwargs):
            if len(net.history) == epoch and not self.is_done:
                self.is_done = True
                with torch.no_grad():
                    next(net.module_.parameters()).fill_(torch.nan)

    epoch, breaks = rng.randrange(1, EPOCHS), Breaks()
    breaks.is_done = False
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        encoder = bench.encoder(None, breaks).fit(bench.X)
    check(len(caught) == 1 and f"not finite in epoch {epoch}" in str(caught[0].message), caught)
    # Another learning rate gives other features: rows are lost only if those are not finite.
    return int((~np.isfinite(encoder.transform(bench.X))).any(1).sum())


def corrupted_file(bench, folder, rng):
    """Truncate a file, flip a bit or insert bytes: loading raises, or gives what was saved."""
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


def truncated_checkpoint(bench, folder, rng):
    """Truncate a checkpoint: the fit raises, and works once the file is deleted."""
    end_of(in_a_child(lambda: bench.encoder(folder).fit(bench.X)))
    (path,) = (folder / "checkpoints").iterdir()
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data))])
    try:
        bench.encoder(folder).fit(bench.X)
    except EncoderFileError:
        path.unlink()
        return bench.lost(bench.encoder(folder).fit(bench.X))
    raise AssertionError("it was loaded")


def bad_chunk(bench, folder, rng):
    """Pass a chunk with infinity to partial_fit: it raises and changes nothing."""
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
        raise AssertionError("it was accepted")
    one, other = (stream.transform(bench.X) for stream in streams)
    return int((one != other).any(1).sum())


FAULTS = {
    "kill -9 in fit, three times": signalled_in_fit(signal.SIGKILL),
    "SIGTERM in fit, three times": signalled_in_fit(signal.SIGTERM),
    "Ctrl-C in fit, three times": signalled_in_fit(signal.SIGINT),
    "kill -9 in save": signalled_in_save(signal.SIGKILL),
    "SIGTERM in save": signalled_in_save(signal.SIGTERM),
    "Ctrl-C in save": signalled_in_save(signal.SIGINT),
    "limit of file size in save": limited_files(failed_save),
    "limit of file size in fit": limited_files(failed_checkpoints),
    "disk full in save": full_disk(failed_save),
    "disk full in fit": full_disk(failed_checkpoints),
    "read-only directory in save": read_only(failed_save),
    "read-only directory in fit": read_only(failed_checkpoints),
    "non-finite loss": broken_loss,
    "corrupted file": corrupted_file,
    "truncated checkpoint": truncated_checkpoint,
    "infinity in a chunk": bad_chunk,
}


def inject(bench, name, rng):
    """Inject one fault; return how often it was injected and survived, and the rows lost."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return np.array([1, 1, FAULTS[name](bench, Path(folder), rng)])
        except NotPossible:
            return np.array([0, 0, 0])
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
            return np.array([1, 0, 0])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=20, help="rounds of all faults")
    parser.add_argument("--seconds", type=float, help="repeat rounds for this long instead")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=list(FAULTS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # forking a process with threads is not safe
    bench, rng = Bench(), random.Random(arguments.seed)
    counts = {name: np.zeros(3, int) for name in arguments.only}
    n_rounds, start = 0, time.monotonic()
    while (
        n_rounds < arguments.times
        if arguments.seconds is None
        else time.monotonic() - start < arguments.seconds
    ):
        n_rounds += 1
        for name in arguments.only:
            counts[name] += inject(bench, name, rng)
    print("| fault | injected | survived | rows lost |\n|---|---|---|---|")
    for name, (n_injected, n_survived, n_lost) in counts.items():
        print(f"| {name} | {n_injected} | {n_survived} | {n_lost} |")
    return int(any(n != m or lost for n, m, lost in counts.values()))


if __name__ == "__main__":
    sys.exit(main())
