"""Checkpoints: interrupted fits end with the weights of fits that were not interrupted."""

import errno
import json
import os
import pickle
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from joblib import parallel_config
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback, EarlyStopping, Freezer, GradientNormClipping, LRScheduler

from cmim_sklearn import Checkpoint, CMIMEncoder
from cmim_sklearn._training import checkpoint, fingerprint
from cmim_sklearn._training.net import LatentNet
from cmim_sklearn._utils import archive
from cmim_sklearn._utils.archive import EncoderFileError, from_json, to_json
from tests.helpers import make_mixed
from tests.training.helpers import ENCODERS, KILL, small, weights, whole

ROOT = Path(__file__).parents[2]
STOPPING = {"early_stopping": True, "tol": 1e9, "n_iter_no_change": 5, "max_iter": 50}
"""Five epochs without an improvement of tol, after a first epoch that always improves."""


@pytest.fixture
def kill(monkeypatch):
    """Function from an epoch, or None, to set when and how the next fits end."""

    def at(epoch, error=RuntimeError):
        monkeypatch.setitem(KILL, "epoch", epoch)
        monkeypatch.setitem(KILL, "error", error)

    return at


@pytest.fixture
def fit_killed(kill):
    """Function that kills the fit of an encoder in an epoch."""

    def fit(encoder, X, epoch=4):
        kill(epoch)
        with pytest.raises(RuntimeError, match="killed"):
            encoder.fit(X)
        kill(None)

    return fit


def the_file(folder):
    """Path of the only file in a directory, a checkpoint."""
    (path,) = folder.iterdir()
    assert re.fullmatch("checkpoint-[0-9a-f]{16}.cmim", path.name)
    return path


def assert_same_fit(one, other, X):
    assert weights(one) == weights(other)
    assert one.loss_curve_ == other.loss_curve_
    assert one.validation_scores_ == other.validation_scores_
    assert np.asarray(one.transform(X)).tobytes() == np.asarray(other.transform(X)).tobytes()


# -- resuming --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_resumes_to_the_bit(name, mixed, tmp_path, fit_killed):
    for epoch in (2, 5):
        fit_killed(small(name, tmp_path), mixed, epoch)
    resumed = small(name, tmp_path).fit(mixed)
    assert resumed.net_.n_resumed_ == 4
    assert_same_fit(resumed, whole(name), mixed)


@pytest.mark.parametrize(
    "parameters",
    [
        {"early_stopping": True, "max_iter": 30, "n_iter_no_change": 3, "tol": 0.05},
        {"net_params__optimizer": torch.optim.SGD, "learning_rate_init": 1e-3},
        {"net_params__callbacks__schedule": None},
        {"posterior": "learned", "hidden_layer_sizes": ()},
    ],
    ids=["early stopping", "another optimizer", "no schedule", "linear"],
)
def test_every_way_of_training_resumes_to_the_bit(parameters, mixed, tmp_path, fit_killed):
    def make(folder=None):
        encoder = small(folder=folder, every_epochs=2)
        for name, value in parameters.items():
            if name.startswith("net_params__"):
                encoder.net_params[name.removeprefix("net_params__")] = value
            else:
                encoder.set_params(**{name: value})
        return encoder

    fit_killed(make(tmp_path), mixed, 6)
    resumed = make(tmp_path).fit(mixed)
    assert resumed.net_.n_resumed_ == 4
    assert_same_fit(resumed, make().fit(mixed), mixed)


def test_early_stopping_counts_epochs_before_and_after(mixed, tmp_path, fit_killed):
    for epoch in (3, 5):
        fit_killed(small(folder=tmp_path, **STOPPING), mixed, epoch)
    resumed = small(folder=tmp_path, **STOPPING).fit(mixed)
    assert (resumed.net_.n_resumed_, resumed.n_iter_) == (4, 6)


def test_only_the_remaining_epochs_are_trained_and_shown(
    mixed, tmp_path, fit_killed, capsys, monkeypatch
):
    fit_killed(small(folder=tmp_path, every_epochs=3), mixed, 5)
    begun, on_epoch_begin = [], LatentNet.on_epoch_begin

    def noting(self, net, **kwargs):
        on_epoch_begin(self, net, **kwargs)
        begun.append(len(net.history))

    monkeypatch.setattr(LatentNet, "on_epoch_begin", noting)
    encoder = small(folder=tmp_path, every_epochs=3, verbose=2).fit(mixed)
    assert begun == [4, 5, 6]
    assert encoder.n_iter_ == 6
    out = capsys.readouterr().out
    assert f"resumes from {the_file(tmp_path)}, after 3 epochs" in out
    assert re.findall(r"\] (\d)/6", out) == ["4", "5", "6"]


def test_a_complete_fit_is_not_trained_again(mixed, tmp_path, kill):
    first = small(folder=tmp_path, early_stopping=True).fit(mixed)
    for epoch in (1, len(first.loss_curve_) + 1):  # no batch is trained
        kill(epoch)
        assert_same_fit(small(folder=tmp_path, early_stopping=True).fit(mixed), first, mixed)


def test_fits_in_one_directory_do_not_touch_each_other(mixed, tmp_path, fit_killed, capsys):
    """One is killed, others start and end; files that other processes write stay."""
    fit_killed(small(folder=tmp_path), mixed)
    path = the_file(tmp_path)
    before = path.read_bytes()
    part = tmp_path / archive._part_name(path, "0123abcd")
    part.write_bytes(b"of another process")
    other = small(folder=tmp_path, alpha=0.1, verbose=1).fit(mixed)
    assert "starts from the beginning: none of the 1 checkpoints in" in capsys.readouterr().out
    assert_same_fit(other, small(alpha=0.1).fit(mixed), mixed)
    assert path.read_bytes() == before
    assert_same_fit(small(folder=tmp_path).fit(mixed), whole(), mixed)
    assert len(list(tmp_path.glob("checkpoint-*.cmim"))) == 2
    assert part.exists()
    os.utime(part, (0, 0))  # too old to be in use
    small(folder=tmp_path).fit(mixed)
    assert not part.exists()


@pytest.mark.parametrize("backend", ["threading", pytest.param("loky", marks=pytest.mark.slow)])
def test_a_search_shares_a_directory_and_resumes(backend, mixed, tmp_path, kill):
    def search(folder, n_jobs=2):
        grid = {"contrastive_weight": [0, 1], "alpha": [1e-4, 1e-2]}
        encoder = small(folder=folder, max_iter=2)
        return GridSearchCV(encoder, grid, cv=2, n_jobs=n_jobs, scoring=scored, refit=False)

    with parallel_config(backend):
        expected = search(None).fit(mixed).cv_results_["mean_test_score"]
        found = search(tmp_path).fit(mixed).cv_results_["mean_test_score"]
        np.testing.assert_array_equal(found, expected)
        assert len(list(tmp_path.iterdir())) == 8
    kill(1)  # no batch is trained
    again = search(tmp_path, n_jobs=1).fit(mixed)
    np.testing.assert_array_equal(again.cv_results_["mean_test_score"], expected)


def scored(encoder, X, y=None):
    return float(encoder.transform(X).mean())


def test_a_warm_start_resumes_too(mixed, tmp_path, kill):
    continued = pickle.loads(pickle.dumps(whole())).set_params(warm_start=True).fit(mixed)
    net_params = small(folder=tmp_path).net_params
    parts = pickle.loads(pickle.dumps(whole())).set_params(warm_start=True, net_params=net_params)
    kill(9)
    with pytest.raises(RuntimeError, match="killed"):
        parts.fit(mixed)
    assert weights(parts) == weights(whole())
    kill(None)
    assert_same_fit(parts.fit(mixed), continued, mixed)
    assert parts.net_.n_resumed_ == 2
    assert parts.n_iter_ == 12


class Counts(Callback):
    def initialize(self):
        self.n_ = 0
        return self

    def on_epoch_end(self, net, **kwargs):
        self.n_ += 1

    def state_dict(self):
        return {"n": self.n_}

    def load_state_dict(self, state):
        self.n_ = state["n"]


def test_a_custom_callback_with_a_state_takes_part(mixed, tmp_path, fit_killed):
    def make():
        encoder = small(folder=tmp_path)
        encoder.net_params["callbacks"].append(Counts())
        return encoder

    fit_killed(make(), mixed)
    assert make().fit(mixed).net_params["callbacks"][-1].n_ == 6


CLOCK = {"seconds": 0.0}


class Slow(Callback):
    """Let each epoch take a minute on the tests' clock."""

    def on_epoch_begin(self, net, **kwargs):
        CLOCK["seconds"] += 60


def test_checkpoints_are_written_after_some_minutes(mixed, tmp_path, monkeypatch):
    monkeypatch.setitem(CLOCK, "seconds", 0.0)
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: CLOCK["seconds"])
    written, write_bytes = [], checkpoint.write_bytes

    def noting(*args):
        written.append(CLOCK["seconds"])
        write_bytes(*args)

    monkeypatch.setattr(checkpoint, "write_bytes", noting)
    callbacks = [Slow(), Checkpoint(tmp_path, every_minutes=2)]
    small(net_params={"callbacks": callbacks}).fit(mixed)
    assert written == [0, 120, 240, 360, 360]  # start, 2, 4 and 6 minutes, end


# -- other fits and corrupted files ----------------------------------------------------------------


@pytest.fixture(scope="module")
def file_of_killed(tmp_path_factory):
    """Functions from parameters to name and content of the file of a fit killed in epoch 4."""
    found = {}

    def make(**parameters):
        key = json.dumps(parameters)
        if key not in found:
            folder = tmp_path_factory.mktemp("killed")
            with pytest.MonkeyPatch.context() as patch:
                patch.setitem(KILL, "epoch", 4)
                with pytest.raises(RuntimeError, match="killed"):
                    small(folder=folder, **parameters).fit(make_mixed())
            found[key] = the_file(folder).name, the_file(folder).read_bytes()
        return found[key]

    return make


@pytest.fixture
def unfinished(file_of_killed, tmp_path):
    """Path of the checkpoint of a fit that was killed in its fourth epoch."""
    name, data = file_of_killed()
    (tmp_path / name).write_bytes(data)
    return tmp_path / name


def forge(path, edit):
    """Change a checkpoint, with valid checksums."""
    manifest, arrays = archive.unpack(path.read_bytes(), checkpoint.KIND)
    edit(manifest, arrays)
    own = {k: v for k, v in manifest.items() if k not in ("format", "version", "arrays", "sha256")}
    path.write_bytes(archive.pack(own, arrays, checkpoint.KIND))


@pytest.mark.parametrize(
    "change",
    [
        {"alpha": 0.1}, {"max_iter": 7}, {"random_state": 1}, {"hidden_layer_sizes": (9,)},
        {"early_stopping": True}, {"net_params": {"callbacks": [GradientNormClipping(1.0)]}},
    ],
)  # fmt: skip
def test_a_fit_with_other_parameters_starts_from_the_beginning(change, mixed, unfinished):
    before = unfinished.read_bytes()
    encoder = small(**change)
    expected = clone(encoder).fit(mixed)
    callbacks = [Checkpoint(unfinished.parent), *encoder.net_params["callbacks"]]
    encoder.set_params(net_params={"callbacks": callbacks}).fit(mixed)
    assert_same_fit(encoder, expected, mixed)
    assert encoder.net_.n_resumed_ == 0
    assert unfinished.read_bytes() == before
    assert len(list(unfinished.parent.iterdir())) == 2


def one_cell(X):
    X.loc[7, "income"] *= 1.001
    return {"X": X}


@pytest.mark.parametrize(
    "rows",
    [
        lambda X: {"X": X[:150]}, lambda X: {"X": X[::-1]}, one_cell,
        lambda X: {"X": X, "X_val": X[:20]},
    ],
    ids=["fewer", "another order", "one cell", "held out"],
)  # fmt: skip
def test_a_fit_to_other_rows_starts_from_the_beginning(rows, mixed, unfinished):
    before, rows = unfinished.read_bytes(), rows(mixed)
    encoder = small(folder=unfinished.parent).fit(**rows)
    assert encoder.net_.n_resumed_ == 0
    assert weights(encoder) == weights(small().fit(**rows))
    assert unfinished.read_bytes() == before


def test_a_complete_fit_with_other_versions_starts_from_the_beginning_with_a_message(
    mixed, tmp_path, monkeypatch, capsys
):
    first = small(folder=tmp_path).fit(mixed)
    path = the_file(tmp_path)
    before = path.read_bytes()
    monkeypatch.setattr(fingerprint.np, "__version__", "999")
    again = small(folder=tmp_path, verbose=1).fit(mixed)
    message = capsys.readouterr().out
    assert f"starts from the beginning: {path} is complete, but versions differ:" in message
    assert "is now '999'" in message
    assert "none of the" not in message
    assert_same_fit(again, first, mixed)
    assert the_file(tmp_path).read_bytes() != before


def test_an_incomplete_fit_does_not_resume_with_other_versions_or_devices(
    mixed, unfinished, monkeypatch
):
    before = unfinished.read_bytes()
    monkeypatch.setattr(fingerprint, "__version__", "999")
    with pytest.raises(ValueError, match=r"after 3 epochs: .*: cmim_sklearn was .*, is now '999'"):
        small(folder=unfinished.parent).fit(mixed)
    assert unfinished.read_bytes() == before
    monkeypatch.undo()
    forge(unfinished, lambda manifest, arrays: manifest["fingerprint"].update(device="tpu"))
    with pytest.raises(ValueError, match=r"device was 'tpu', is now 'cpu'.*delete the file"):
        small(folder=unfinished.parent).fit(mixed)


@pytest.mark.parametrize("library", ["torch", "skorch", "numpy", "python"])
def test_each_version_must_be_equal(library, mixed, unfinished):
    def edit(manifest, arrays):
        manifest["fingerprint"]["versions"][library] = "0.1"

    forge(unfinished, edit)
    with pytest.raises(ValueError, match=f"versions differ: {library} was '0.1', is now '"):
        small(folder=unfinished.parent).fit(mixed)


def test_a_file_with_the_name_of_another_fit_raises(mixed, unfinished):
    small(folder=unfinished.parent / "other", alpha=0.1).fit(mixed)
    os.replace(unfinished, the_file(unfinished.parent / "other"))
    with pytest.raises(ValueError, match="was renamed, and belongs to other rows or parameters"):
        small(folder=unfinished.parent / "other", alpha=0.1).fit(mixed)


def test_other_initial_weights_raise(mixed, unfinished):
    encoder = pickle.loads(pickle.dumps(whole())).set_params(warm_start=True)
    encoder.net_params["callbacks"].insert(0, Checkpoint(unfinished.parent, every_epochs=1))
    with pytest.raises(ValueError, match=r"initial weights differ"):
        encoder.fit(mixed)


def test_parameters_without_effect_on_training_may_change(mixed, unfinished):
    changed = {"embedding": "mean", "latent_prior": "normal"}
    resumed = small(folder=unfinished.parent, **changed).fit(mixed)
    assert resumed.net_.n_resumed_ == 3
    assert weights(resumed) == weights(small(**changed).fit(mixed))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("cut", "it is truncated, or"),
        ("flipped", "Bad CRC-32"),
        ("encoder", "must have the format 'cmim_sklearn checkpoint'; got"),
        ("newer", f"it has format version {archive.VERSION + 1}, but"),
        ("empty", "it is truncated, or"),
    ],
)
def test_a_corrupted_file_raises_and_is_kept(damage, message, mixed, unfinished):
    data = unfinished.read_bytes()
    if damage == "cut":
        unfinished.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        place = len(data) // 2
        unfinished.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    elif damage == "encoder":
        small(net_params=None).fit(mixed).save(unfinished)
    elif damage == "newer":
        unfinished.write_bytes(archive.pack({"version": archive.VERSION + 1}, {}, checkpoint.KIND))
    else:
        unfinished.write_bytes(b"")
    before = unfinished.read_bytes()
    with pytest.raises(EncoderFileError, match=rf"[0-9a-f]+\.cmim cannot be loaded: .*({message})"):
        small(folder=unfinished.parent).fit(mixed)
    assert unfinished.read_bytes() == before


def best(state):
    return state["callbacks"]["early_stopping"]


FORGED = {
    "best weights of another shape": (
        lambda state: best(state)["weights"].popitem(), "belong to another network"),
    "no best weights": (lambda state: best(state).update(weights=[]), "'weights' of early stop"),
    "misses": (lambda state: best(state).update(misses="many"), "'misses' of early stop.*'str'"),
    "mark": (lambda state: best(state).update(mark=None), "'mark' of early stopping.*NoneType"),
    "no early stopping": (lambda state: state["callbacks"].pop("early_stopping"), "KeyError"),
    "schedule": (lambda state: state["callbacks"]["schedule"].update(peaks=[]), r"rates.*\[\]"),
    "update": (lambda state: state["callbacks"]["schedule"].update(update=-1), "got -1 and"),
    "peaks": (lambda state: state["callbacks"]["schedule"].update(peaks=["a"]), r"and \['a'\]"),
    "moments": (lambda state: state["optimizer"]["state"][0].update(exp_avg=np.zeros(1)),
                "'exp_avg' of weight 0"),
    "generator": (lambda state: state.update(generator=[1]), "RNG|TypeError"),
    "epochs": (lambda state: state["history"].pop(), "history of 3 epochs; got 2"),
    "history": (lambda state: state.update(history=[1, 2, 3]), "not a mapping"),
    "losses": (lambda state: state["history"][0].update(train_loss="a"), "train_loss .* a float"),
    "epochs that were repeated": (
        lambda state: state.update(nonfinite_epochs=["a"]), r"to be ints; got \['a'\]"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_state_raises_before_anything_is_trained(
    kind, mixed, tmp_path, file_of_killed, kill
):
    name, data = file_of_killed(early_stopping=True)
    (tmp_path / name).write_bytes(data)
    change, message = FORGED[kind]

    def edit(manifest, arrays):
        state = from_json(manifest["state"], arrays)
        change(state)
        arrays.clear()
        manifest["state"] = to_json(state, "state", arrays)

    forge(tmp_path / name, edit)
    kill(1)  # no batch is trained
    with pytest.raises(EncoderFileError, match=f"cannot be loaded: .*{message}"):
        small(folder=tmp_path, early_stopping=True).fit(mixed)


def test_messages_quote_little_of_a_file(mixed, unfinished):
    def edit(manifest, arrays):
        manifest["fingerprint"]["versions"]["torch"] = "9" * 10**6

    forge(unfinished, edit)
    with pytest.raises(ValueError, match="torch was '9999") as caught:
        small(folder=unfinished.parent).fit(mixed)
    assert len(str(caught.value)) < 1000


def test_a_checkpoint_is_json_and_arrays_without_rows(mixed, unfinished):
    manifest, arrays = archive.unpack(unfinished.read_bytes(), checkpoint.KIND)
    json.dumps(manifest)
    assert all(array.dtype != object for array in arrays.values())
    assert not any(len(mixed) in array.shape for array in arrays.values())
    with pytest.raises(EncoderFileError, match="must have the format 'cmim_sklearn encoder'"):
        CMIMEncoder.load(unfinished)


# -- parameters ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every_minutes": None}, "both are None"),
        ({"every_epochs": 0}, "every_epochs of Checkpoint must be an int of at least 1.* got 0"),
        ({"every_epochs": 1.5}, "every_epochs of Checkpoint must be an int of .* got 1.5"),
        ({"every_minutes": -1}, "every_minutes of Checkpoint must be a number above 0.* got -1"),
    ],
)
def test_arguments_are_checked_in_fit(arguments, message, mixed, tmp_path):
    callbacks = [Checkpoint(tmp_path, **arguments)]
    with pytest.raises(ValueError, match=message):
        small(net_params={"callbacks": callbacks}).fit(mixed)


def test_a_fit_that_cannot_be_resumed_raises(mixed, tmp_path):
    with pytest.raises(ValueError, match="needs an encoder with a random_state; got None"):
        small(folder=tmp_path, random_state=None).fit(mixed)
    for callback in (LRScheduler(), EarlyStopping(monitor="train_loss"), Freezer("encoder*")):
        encoder = small(folder=tmp_path)
        encoder.net_params["callbacks"].append(callback)
        with pytest.raises(ValueError, match=f"the callback .*, a {type(callback).__name__}. Use"):
            encoder.fit(mixed)
    encoder.net_params["callbacks"][-1] = Checkpoint(tmp_path / "other")
    with pytest.raises(ValueError, match="at most one Checkpoint"):
        encoder.fit(mixed)
    with pytest.raises(ValueError, match="does not work with partial_fit"):
        small(folder=tmp_path).partial_fit(mixed)
    assert not list(tmp_path.iterdir())


def test_clones_and_pickled_encoders_have_checkpoints_too(mixed, tmp_path):
    encoder = clone(small(folder=tmp_path)).fit(mixed)
    again = pickle.loads(pickle.dumps(encoder))
    assert_same_fit(again, encoder, mixed)
    assert again.net_params["callbacks"][0].dirname == tmp_path


# -- failures --------------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_last_checkpoint_and_the_fit(mixed, tmp_path, monkeypatch):
    calls, fsync = [], os.fsync

    def full(descriptor):
        calls.append(1)
        if len(calls) > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(archive.os, "fsync", full)
    with pytest.warns(UserWarning, match="checkpoint of epoch 3 could not be .* epoch 2") as caught:
        encoder = small(folder=tmp_path).fit(mixed)
    assert len(caught) == 1
    assert_same_fit(encoder, whole(), mixed)
    monkeypatch.undo()
    resumed = small(folder=tmp_path).fit(mixed)
    assert resumed.net_.n_resumed_ == 2
    assert_same_fit(resumed, whole(), mixed)


def test_a_directory_that_is_not_writable_raises_at_once(mixed, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        small(folder=tmp_path / "file").fit(mixed)
    opened = open

    def read_only(path, mode="r", *args, **kwargs):
        if "x" in mode:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, mode, *args, **kwargs)

    monkeypatch.setattr(archive, "open", read_only, raising=False)  # root may write anywhere
    encoder = small(folder=tmp_path / "new")
    with pytest.raises(PermissionError):
        encoder.fit(mixed)
    assert not hasattr(encoder, "n_iter_")
    assert not list((tmp_path / "new").iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_ctrl_c_and_sigterm_leave_the_last_checkpoint(error, mixed, tmp_path, kill):
    kill(4, error)
    encoder = small(folder=tmp_path)
    if error is KeyboardInterrupt:
        with pytest.warns(UserWarning, match="after 3 epochs"), pytest.raises(error):
            encoder.fit(mixed)
        assert encoder.transform(mixed).shape[0] == len(mixed)
    else:
        with pytest.raises(error):
            encoder.fit(mixed)
    kill(None)
    assert_same_fit(encoder.fit(mixed), whole(), mixed)
    assert encoder.net_.n_resumed_ == 3


class Notes(Callback):
    """Write a value to the history that a file cannot hold."""

    def on_epoch_end(self, net, **kwargs):
        net.history.record("odd", {1, 2})


def test_a_history_that_cannot_be_saved_is_a_warning(mixed, tmp_path):
    encoder = small(folder=tmp_path)
    encoder.net_params["callbacks"].insert(0, Notes())
    with pytest.warns(UserWarning, match="could not be written"):
        encoder.fit(mixed)
    assert encoder.n_iter_ == encoder.max_iter


def test_without_the_critic_a_resumed_fit_would_differ(mixed, tmp_path, fit_killed, monkeypatch):
    fit_killed(small("InfoMaxVAEEncoder", tmp_path), mixed)
    monkeypatch.setattr(
        "cmim_sklearn._training.critic.TrainCritic.load_state_dict", lambda self, state: None
    )
    resumed = small("InfoMaxVAEEncoder", tmp_path).fit(mixed)
    assert weights(resumed) != weights(whole("InfoMaxVAEEncoder"))


# -- killed processes ------------------------------------------------------------------------------

SCRIPT = """
import glob, json, os, signal, sys, time
import torch
from cmim_sklearn._utils import archive
from cmim_sklearn._training.net import LatentNet
from tests.training.helpers import small
from tests.helpers import make_mixed

name, folder, out, kills = sys.argv[1:]
torch.set_num_threads(1)
archive.PART_SECONDS = 0
X = make_mixed()

def fit(folder, out, point=None, count=0):
    def die(*args, **kwargs):
        nonlocal count
        count -= 1
        if count == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    if point == "batch":
        LatentNet.on_batch_begin = die
    elif point is not None:
        whole = getattr(os, point)
        setattr(os, point, lambda *args: (die(), whole(*args))[1])
    encoder = small(name, folder, max_iter=40).fit(X)
    torch.save(encoder.net_.module.state_dict(), out)

def in_a_process(*args, seconds=None):
    # A fork is quick: everything is imported. This process has no threads.
    child = os.fork()
    if child == 0:
        try:
            fit(*args)
        finally:
            os._exit(0 if os.path.exists(args[1]) else 1)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

codes = [in_a_process(None, out + ".whole")]
for point, value in json.loads(kills):
    at = {"seconds": value} if point == "seconds" else {}
    codes.append(in_a_process(folder, out, *(() if at else (point, value)), **at))
    if names := glob.glob(folder + "/checkpoint-*.cmim"):  # none if killed before the first
        archive.unpack(open(*names, "rb").read(), "cmim_sklearn checkpoint")
    if codes[-1] == 0:
        break
else:
    codes.append(in_a_process(folder, out))
print(json.dumps(codes))
"""


def killed(name, folder, kills):
    """Fit with kills, each ("fsync", "replace" or "batch", number of the call) or ("seconds", s).

    Returns the exit codes, first of an uninterrupted fit, and whether the weights are equal.
    """
    out = folder / "out"
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, name, str(folder / "files"), str(out), json.dumps(kills)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    one, other = (torch.load(path) for path in (out, folder / "out.whole"))
    is_same = all(one[k].numpy().tobytes() == other[k].numpy().tobytes() for k in one | other)
    the_file(folder / "files")
    return json.loads(process.stdout.splitlines()[-1]), is_same


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_fit_killed_while_it_writes_and_trains_ends_with_the_same_weights(tmp_path):
    rng = np.random.RandomState()
    points = {"fsync": (2, 12), "replace": (2, 12), "batch": (1, 60)}
    kills = [(point, int(rng.randint(*ends))) for point, ends in points.items()]
    codes, is_same = killed("CMIMEncoder", tmp_path, kills)
    assert codes == [0, *[-signal.SIGKILL] * 3, 0], kills
    assert is_same, kills


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("name", ENCODERS)
def test_fits_killed_at_many_moments_end_with_the_same_weights(name, tmp_path):
    rng = np.random.RandomState()
    kills = [("replace", 2), *(("seconds", s) for s in rng.uniform(0.02, 0.6, 9))]
    codes, is_same = killed(name, tmp_path, kills)
    assert set(codes[1:-1]) == {-signal.SIGKILL}
    assert codes[0] == codes[-1] == 0
    assert is_same, kills
