"""Checkpoints: fits that were killed end with the weights of fits that were not."""

import errno
import json
import logging
import os
import pickle
import random
import re
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from joblib import parallel_config
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback, EarlyStopping, Freezer, GradientNormClipping, LRScheduler

import cmim_sklearn
from cmim_sklearn import Checkpoint, CMIMEncoder, InfoMaxVAEEncoder
from cmim_sklearn._training import checkpoint
from cmim_sklearn._training import fingerprint as origin
from cmim_sklearn._training.net import LatentNet
from cmim_sklearn._training.state import copied, restore, training_state
from cmim_sklearn._utils import archive
from cmim_sklearn._utils.archive import EncoderFileError, from_json, to_json
from cmim_sklearn.networks import MLP

ROOT = Path(__file__).parents[2]
ENCODERS = [name for name in cmim_sklearn.__all__ if name.endswith("Encoder")]
SMALL = {
    "max_iter": 6, "hidden_layer_sizes": (8,), "n_components": 3, "batch_size": 50,
    "random_state": 0, "device": "cpu",
}  # fmt: skip


DEATH = {"epoch": None, "error": RuntimeError}
"""Of the fits to come. No attribute of a callback, by which they would be other fits."""


class Dies(Callback):
    """Ends training in the second batch of an epoch, as a kill would, if told so."""

    def on_batch_begin(self, net, training=False, **kwargs):
        self.count_ = getattr(self, "count_", 0) + 1
        if len(net.history) == DEATH["epoch"] and self.count_ % 2 == 0:
            raise DEATH["error"]("killed")


@pytest.fixture
def dies(monkeypatch):
    """Whether and how the next fits die: call it with an epoch, or None."""

    def at(epoch, error=RuntimeError):
        monkeypatch.setitem(DEATH, "epoch", epoch)
        monkeypatch.setitem(DEATH, "error", error)

    return at


def small(name="CMIMEncoder", folder=None, every_epochs=1, **parameters):
    cls = getattr(cmim_sklearn, name)
    own = {"projector_layer_sizes": (5, 4), "critic_hidden_layer_sizes": (7,)}
    own = {k: v for k, v in own.items() if k in cls._get_param_names()}
    callbacks = [Dies()]
    if folder is not None:
        # Not the last in the list: it is called last all the same.
        callbacks.insert(0, Checkpoint(folder, every_epochs=every_epochs))
    return cls(**SMALL | own | {"net_params": {"callbacks": callbacks}} | parameters)


def the_file(folder):
    """The one checkpoint in a directory, which has nothing else."""
    (path,) = folder.iterdir()
    assert re.fullmatch("checkpoint-[0-9a-f]{16}.cmim", path.name)
    return path


def weights(encoder):
    return {k: v.numpy().tobytes() for k, v in encoder.net_.module.state_dict().items()}


def assert_same_fit(one, other, X):
    assert weights(one) == weights(other)
    assert one.loss_curve_ == other.loss_curve_
    assert one.validation_scores_ == other.validation_scores_
    assert np.asarray(one.transform(X)).tobytes() == np.asarray(other.transform(X)).tobytes()


# -- resuming --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_resumes_to_the_bit(name, mixed, tmp_path, dies):
    whole = small(name).fit(mixed)
    for epoch in (2, 5):
        dies(epoch)
        with pytest.raises(RuntimeError, match="killed"):
            small(name, tmp_path).fit(mixed)
    dies(None)
    resumed = small(name, tmp_path).fit(mixed)
    assert resumed.net_.n_resumed_ == 4
    assert_same_fit(resumed, whole, mixed)


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
def test_every_way_of_training_resumes_to_the_bit(parameters, mixed, tmp_path, dies):
    def make(folder=None):
        encoder = small(folder=folder, every_epochs=2)
        for name, value in parameters.items():
            if name.startswith("net_params__"):
                encoder.net_params[name.removeprefix("net_params__")] = value
            else:
                encoder.set_params(**{name: value})
        return encoder

    whole = make().fit(mixed)
    dies(6)
    with pytest.raises(RuntimeError, match="killed"):
        make(tmp_path).fit(mixed)
    dies(None)
    resumed = make(tmp_path).fit(mixed)
    assert resumed.net_.n_resumed_ == 4
    assert_same_fit(resumed, whole, mixed)


def test_early_stopping_counts_misses_before_and_after(mixed, tmp_path, dies):
    """No epoch after the first gains as much as tol: five misses, whenever it was killed."""
    parameters = {"early_stopping": True, "tol": 1e9, "n_iter_no_change": 5, "max_iter": 50}
    for epoch in (3, 5):
        dies(epoch)
        with pytest.raises(RuntimeError, match="killed"):
            small(folder=tmp_path, **parameters).fit(mixed)
    dies(None)
    resumed = small(folder=tmp_path, **parameters).fit(mixed)
    assert (resumed.net_.n_resumed_, resumed.n_iter_) == (4, 6)


def test_a_fit_that_goes_on_trains_what_is_left_and_no_more(
    mixed, tmp_path, dies, capsys, monkeypatch
):
    dies(5)
    with pytest.raises(RuntimeError, match="killed"):
        small(folder=tmp_path, every_epochs=3).fit(mixed)
    dies(None)
    begun, whole = [], LatentNet.on_epoch_begin

    def on_epoch_begin(self, net, **kwargs):
        whole(self, net, **kwargs)
        begun.append(len(net.history))

    monkeypatch.setattr(LatentNet, "on_epoch_begin", on_epoch_begin)
    encoder = small(folder=tmp_path, every_epochs=3, verbose=2).fit(mixed)
    assert begun == [4, 5, 6]
    assert encoder.n_iter_ == 6
    out = capsys.readouterr().out
    assert f"goes on from {the_file(tmp_path)}, after 3 epochs" in out
    assert re.findall(r"\] (\d)/6", out) == ["4", "5", "6"]


def test_a_fit_at_its_end_is_taken_as_it_is(mixed, tmp_path, dies):
    first = small(folder=tmp_path, early_stopping=True).fit(mixed)
    for epoch in (1, len(first.loss_curve_) + 1):  # no batch is trained
        dies(epoch)
        assert_same_fit(small(folder=tmp_path, early_stopping=True).fit(mixed), first, mixed)


def test_fits_that_share_a_directory_leave_each_other_alone(mixed, tmp_path, dies, capsys):
    """One killed, one that has ended, one begun anew; and what others are writing stays."""
    dies(4)
    with pytest.raises(RuntimeError, match="killed"):
        small(folder=tmp_path).fit(mixed)
    dies(None)
    path = the_file(tmp_path)
    before = path.read_bytes()
    part = tmp_path / archive._part_name(path, "0123abcd")
    part.write_bytes(b"of another process")
    other = small(folder=tmp_path, alpha=0.1, verbose=1).fit(mixed)
    assert "begins anew: none of the 1 checkpoints in" in capsys.readouterr().out
    assert_same_fit(other, small(alpha=0.1).fit(mixed), mixed)
    assert_same_fit(
        small(folder=tmp_path, random_state=1).fit(mixed[:150]),
        small(random_state=1).fit(mixed[:150]),
        mixed,
    )
    assert path.read_bytes() == before
    assert_same_fit(small(folder=tmp_path).fit(mixed), small().fit(mixed), mixed)
    assert len(list(tmp_path.glob("checkpoint-*.cmim"))) == 3
    assert part.exists()
    os.utime(part, (0, 0))  # none writes for so long
    small(folder=tmp_path).fit(mixed)
    assert not part.exists()


@pytest.mark.parametrize("backend", ["threading", pytest.param("loky", marks=pytest.mark.slow)])
def test_a_search_shares_a_directory_and_goes_on(backend, mixed, tmp_path, dies):
    def search(folder, n_jobs=2):
        grid = {"contrastive_weight": [0, 1], "alpha": [1e-4, 1e-2]}
        encoder = small(folder=folder, max_iter=2)
        return GridSearchCV(encoder, grid, cv=2, n_jobs=n_jobs, scoring=scored, refit=False)

    with parallel_config(backend):
        whole = search(None).fit(mixed).cv_results_["mean_test_score"]
        found = search(tmp_path).fit(mixed).cv_results_["mean_test_score"]
        np.testing.assert_array_equal(found, whole)
        assert len(list(tmp_path.iterdir())) == 8
    dies(1)  # no batch is trained
    again = search(tmp_path, n_jobs=1).fit(mixed)
    np.testing.assert_array_equal(again.cv_results_["mean_test_score"], whole)


def scored(encoder, X, y=None):
    return float(encoder.transform(X).mean())


def test_a_warm_start_resumes_too(mixed, tmp_path, dies):
    first = small().fit(mixed)
    whole = pickle.loads(pickle.dumps(first)).set_params(warm_start=True).fit(mixed)
    callbacks = {"callbacks": [Checkpoint(tmp_path, every_epochs=1), Dies()]}
    parts = pickle.loads(pickle.dumps(first)).set_params(warm_start=True, net_params=callbacks)
    dies(9)
    with pytest.raises(RuntimeError, match="killed"):
        parts.fit(mixed)
    assert weights(parts) == weights(first)
    dies(None)
    assert_same_fit(parts.fit(mixed), whole, mixed)
    assert parts.net_.n_resumed_ == 2
    assert parts.n_iter_ == 12


def test_a_callback_of_ones_own_takes_part(mixed, tmp_path, dies):
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

    def fit():
        encoder, counts = small(folder=tmp_path), Counts()
        encoder.net_params["callbacks"].append(counts)
        encoder.fit(mixed)
        return counts

    dies(4)
    with pytest.raises(RuntimeError, match="killed"):
        fit()
    dies(None)
    assert fit().n_ == 6


def test_by_the_clock(mixed, tmp_path, monkeypatch):
    now, written = [0.0], []
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    whole = checkpoint.write_bytes
    monkeypatch.setattr(
        checkpoint, "write_bytes", lambda *args: written.append(now[0]) or whole(*args)
    )

    class Slow(Callback):
        def on_epoch_begin(self, net, **kwargs):
            now[0] += 60

    callbacks = [Slow(), Checkpoint(tmp_path, every_minutes=2)]
    small(net_params={"callbacks": callbacks}).fit(mixed)
    assert written == [0, 120, 240, 360, 360]  # begin, 2, 4 and 6 minutes, end


# -- refusals --------------------------------------------------------------------------------------


@pytest.fixture
def unfinished(mixed, tmp_path, dies):
    dies(4)
    with pytest.raises(RuntimeError, match="killed"):
        small(folder=tmp_path).fit(mixed)
    dies(None)
    return the_file(tmp_path)


def forge(path, edit):
    """Change a checkpoint as someone would who knows the format."""
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
def test_a_fit_with_other_parameters_begins_anew(change, mixed, unfinished):
    before = unfinished.read_bytes()
    encoder = small(**change)
    whole = clone(encoder).fit(mixed)
    callbacks = [Checkpoint(unfinished.parent), *encoder.net_params["callbacks"]]
    assert_same_fit(
        encoder.set_params(net_params={"callbacks": callbacks}).fit(mixed), whole, mixed
    )
    assert unfinished.read_bytes() == before
    assert len(list(unfinished.parent.iterdir())) == 2


def test_an_encoder_with_another_activation_is_not_the_one_that_had_ended(mixed, tmp_path):
    """It has the same weights at the beginning, and code that reads the same."""

    def network(act):
        class Net(MLP):
            def forward(self, x):
                return act(super().forward(x))

        return lambda *sizes: Net(*sizes)

    for act in (torch.tanh, torch.relu):
        found = small(folder=tmp_path, encoder=network(act)).fit(mixed)
        assert weights(found) == weights(small(encoder=network(act)).fit(mixed))
    assert len(list(tmp_path.iterdir())) == 2


def test_a_fit_that_had_ended_with_other_versions_begins_anew_and_says_so(
    mixed, tmp_path, monkeypatch, capsys
):
    first = small(folder=tmp_path).fit(mixed)
    path = the_file(tmp_path)
    before = path.read_bytes()
    monkeypatch.setattr(origin.np, "__version__", "999")
    again = small(folder=tmp_path, verbose=1).fit(mixed)
    told = capsys.readouterr().out
    assert f"begins anew: {path} is of this fit, which had ended, but its versions differ:" in told
    assert "is '999' now" in told
    assert "none of the" not in told
    assert_same_fit(again, first, mixed)
    assert the_file(tmp_path).read_bytes() != before


def test_other_versions_and_devices_are_refused(mixed, unfinished, monkeypatch):
    before = unfinished.read_bytes()
    monkeypatch.setattr(origin, "__version__", "999")
    with pytest.raises(ValueError, match=r"after 3 epochs, .*: cmim_sklearn was .*, is '999' now"):
        small(folder=unfinished.parent).fit(mixed)
    assert unfinished.read_bytes() == before
    monkeypatch.undo()
    forge(unfinished, lambda manifest, arrays: manifest["origin"].update(device="tpu"))
    with pytest.raises(ValueError, match=r"device was 'tpu', is 'cpu' now.*delete the file"):
        small(folder=unfinished.parent).fit(mixed)


def test_a_file_under_the_name_of_another_fit_is_refused(mixed, unfinished):
    small(folder=unfinished.parent / "other", alpha=0.1).fit(mixed)
    os.replace(unfinished, the_file(unfinished.parent / "other"))
    with pytest.raises(ValueError, match="other rows or parameters, under this one's name"):
        small(folder=unfinished.parent / "other", alpha=0.1).fit(mixed)


def test_other_initial_weights_are_refused(mixed, unfinished):
    encoder = small().fit(mixed).set_params(warm_start=True)
    encoder.net_params["callbacks"].insert(0, Checkpoint(unfinished.parent, every_epochs=1))
    with pytest.raises(ValueError, match=r"began with other weights"):
        encoder.fit(mixed)


def test_what_shows_in_nothing_trained_may_change(mixed, unfinished):
    changed = small(folder=unfinished.parent, embedding="mean", latent_prior="normal").fit(mixed)
    own = {"embedding": "mean", "latent_prior": "normal"}
    assert changed.net_.n_resumed_ == 3
    assert weights(changed) == weights(small(**own).fit(mixed))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("cut", "it is truncated, or"),
        ("flipped", "Bad CRC-32"),
        ("encoder", "must have the format 'cmim_sklearn checkpoint'; got"),
        ("newer", f"it has format version {archive.VERSION + 1}, but"),
        ("empty", "it is truncated, or"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused(damage, told, mixed, unfinished):
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
    with pytest.raises(EncoderFileError, match=rf"[0-9a-f]+\.cmim cannot be loaded: .*({told})"):
        small(folder=unfinished.parent).fit(mixed)
    assert unfinished.read_bytes() == before


def best(state):
    return state["callbacks"]["early_stopping"]


FORGED = {
    "best weights of another shape": lambda state: best(state)["weights"].popitem(),
    "no best weights": lambda state: best(state).update(weights=[]),
    "misses": lambda state: best(state).update(misses="many"),
    "mark": lambda state: best(state).update(mark=None),
    "no early stopping": lambda state: state["callbacks"].pop("early_stopping"),
    "schedule": lambda state: state["callbacks"]["schedule"].update(peaks=[]),
    "update": lambda state: state["callbacks"]["schedule"].update(update=-1),
    "peaks": lambda state: state["callbacks"]["schedule"].update(peaks=["a"]),
    "moments": lambda state: state["optimizer"]["state"][0].update(exp_avg=np.zeros(1)),
    "generator": lambda state: state.update(generator=[1]),
    "epochs": lambda state: state["history"].pop(),
    "history": lambda state: state.update(history=[1, 2, 3]),
    "losses": lambda state: state["history"][0].update(train_loss="a"),
    "faults": lambda state: state.update(faults=["a"]),
}


@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_state_is_refused_before_anything_is_trained(kind, mixed, tmp_path, dies):
    parameters = {"folder": tmp_path, "early_stopping": True}
    dies(4)
    with pytest.raises(RuntimeError, match="killed"):
        small(**parameters).fit(mixed)
    dies(1)  # no batch is trained

    def edit(manifest, arrays):
        state = from_json(manifest["state"], arrays)
        FORGED[kind](state)
        arrays.clear()
        manifest["state"] = to_json(state, "state", arrays)

    forge(the_file(tmp_path), edit)
    with pytest.raises(EncoderFileError, match="cannot be loaded"):
        small(**parameters).fit(mixed)


def test_what_is_quoted_of_a_file_is_short(mixed, unfinished):
    def edit(manifest, arrays):
        manifest["origin"]["versions"]["torch"] = "9" * 10**6

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


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"every_minutes": None}, "both are None"),
        ({"every_epochs": 0}, "every_epochs of Checkpoint must be an int of at least 1"),
        ({"every_epochs": 1.5}, "every_epochs of Checkpoint must be an int of at least 1"),
        ({"every_minutes": -1}, "every_minutes of Checkpoint must be a number above 0"),
    ],
)
def test_arguments_are_checked_in_fit(arguments, told, mixed, tmp_path):
    callbacks = [Checkpoint(tmp_path, **arguments)]
    with pytest.raises(ValueError, match=told):
        small(net_params={"callbacks": callbacks}).fit(mixed)


def test_a_fit_that_cannot_be_repeated_is_refused(mixed, tmp_path):
    with pytest.raises(ValueError, match="needs an encoder with random_state"):
        small(folder=tmp_path, random_state=None).fit(mixed)
    for callback in (LRScheduler(), EarlyStopping(monitor="train_loss")):
        encoder = small(folder=tmp_path)
        encoder.net_params["callbacks"].append(callback)
        with pytest.raises(ValueError, match=f"skorch's {type(callback).__name__}"):
            encoder.fit(mixed)


# -- what goes wrong -------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_last_checkpoint_and_the_fit(mixed, tmp_path, monkeypatch):
    whole = small().fit(mixed)
    calls, fsync = [], os.fsync

    def full(descriptor):
        calls.append(1)
        if len(calls) > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(archive.os, "fsync", full)
    with pytest.warns(UserWarning, match="checkpoint of epoch 3 could not be .* epoch 2") as told:
        encoder = small(folder=tmp_path).fit(mixed)
    assert len(told) == 1
    assert_same_fit(encoder, whole, mixed)
    monkeypatch.undo()
    resumed = small(folder=tmp_path).fit(mixed)
    assert resumed.net_.n_resumed_ == 2
    assert_same_fit(resumed, whole, mixed)


def test_a_directory_that_cannot_be_written_to_is_an_error_at_once(mixed, tmp_path, monkeypatch):
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
def test_ctrl_c_and_sigterm_leave_the_last_checkpoint(error, mixed, tmp_path, dies):
    dies(4, error)
    encoder = small(folder=tmp_path)
    if error is KeyboardInterrupt:
        with pytest.warns(UserWarning, match="after 3 epochs"), pytest.raises(error):
            encoder.fit(mixed)
        assert encoder.transform(mixed).shape[0] == len(mixed)
    else:
        with pytest.raises(error):
            encoder.fit(mixed)
    dies(None)
    assert_same_fit(encoder.fit(mixed), small().fit(mixed), mixed)
    assert encoder.net_.n_resumed_ == 3


def test_clones_and_pickles_have_checkpoints_too(mixed, tmp_path):
    encoder = clone(small(folder=tmp_path)).fit(mixed)
    again = pickle.loads(pickle.dumps(encoder))
    assert_same_fit(again, encoder, mixed)
    assert again.net_params["callbacks"][0].dirname == tmp_path


# -- killed processes ------------------------------------------------------------------------------

LONG = 40

SCRIPT = """
import glob, json, os, signal, sys, time
import torch
from cmim_sklearn._utils import archive
from tests.training import test_checkpoint as t
from tests.conftest import make_mixed

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
        t.LatentNet.on_batch_begin = die
    elif point is not None:
        whole = getattr(os, point)
        setattr(os, point, lambda *args: (die(), whole(*args))[1])
    encoder = t.small(name, folder, max_iter=t.LONG).fit(X)
    torch.save(encoder.net_.module.state_dict(), out)

def in_a_process(*args, seconds=None):
    # A fork has all that was imported, and this process has no threads.
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
    if names := glob.glob(folder + "/checkpoint-*.cmim"):  # or killed before the first
        archive.unpack(open(*names, "rb").read(), "cmim_sklearn checkpoint")
    if codes[-1] == 0:
        break
else:
    codes.append(in_a_process(folder, out))
print(json.dumps(codes))
"""


def killed(name, folder, kills):
    """Fit with kills, each ("fsync", "replace" or "batch", at which call) or ("seconds", s).

    Returns the exit codes, that of an uninterrupted fit first, and whether weights are the same.
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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_fit_that_is_killed_while_it_writes_and_trains_ends_the_same(tmp_path):
    rng = np.random.RandomState()
    points = {"fsync": (2, 12), "replace": (2, 12), "batch": (1, 60)}
    kills = [(point, int(rng.randint(*ends))) for point, ends in points.items()]
    codes, is_same = killed("CMIMEncoder", tmp_path, kills)
    assert codes == [0, *[-signal.SIGKILL] * 3, 0], kills
    assert is_same, kills


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("name", ENCODERS)
def test_fits_killed_at_many_moments_end_the_same(name, tmp_path):
    rng = np.random.RandomState()
    kills = [("replace", 2), *(("seconds", s) for s in rng.uniform(0.02, 0.6, 9))]
    codes, is_same = killed(name, tmp_path, kills)
    assert set(codes[1:-1]) == {-signal.SIGKILL}
    assert codes[0] == codes[-1] == 0
    assert is_same, kills


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state: state["state"][0].update(exp_avg=torch.zeros(1)), "'exp_avg' of weight 0"),
        (lambda state: state["state"][1].update(step=torch.zeros(3)), "'step' of weight 1"),
        (lambda state: state["state"][1].update(exp_avg_sq=0.5), "'exp_avg_sq' of weight 1"),
        (lambda state: state["state"].update({99: {}}), "of [0-9]+ weights"),
        (lambda state: state["param_groups"][0]["params"].pop(), "weights, not of"),
    ],
)
def test_moments_that_do_not_fit_are_refused_before_the_kernels_trust_them(change, told, mixed):
    net = small().fit(mixed).net_
    state = copied(training_state(net))
    restore(net, state)
    change(state["optimizer"])
    with pytest.raises(ValueError, match=told):
        restore(net, state)


class Halves:
    def __init__(self, rate):
        self.rate = rate

    def __call__(self, x, generator):
        return x, self.rate * x


def other_class():
    class Halves(Other):
        pass

    Halves.__module__, Halves.__qualname__ = Other.__module__, "Halves"
    return Halves


class Other(Halves):
    def __call__(self, x, generator):
        return x, x


def shifted(by):
    return lambda x, generator: (x, x + by)


def of_a_loop():
    return [lambda x, generator: (x, x + 1), lambda x, generator: (x, x - 1)]


def callback_of(held, k=1):
    class Acts(Callback):
        kind = k

        def on_epoch_begin(self, net, by=k, **kwargs):
            return held, by

    return Acts()


def network_class(act):
    """A class with weights that are always the same, whose code is too."""

    class Net(torch.nn.Module):
        def __init__(self, k=1):
            super().__init__()
            self.k, self.scale = k, torch.nn.Parameter(torch.ones(1))

        def forward(self, x):
            return act(self.scale * x)

    return Net


def network(act=torch.tanh, k=1):
    return network_class(act)(k)


def with_private(k):
    made = network()
    made._k = k
    return made


def with_hook(by):
    made = network()
    made.register_forward_hook(lambda part, given, out: by * out)
    return made


class Noted(torch.nn.Module, ABC):
    """A network whose hook is a method of its own, and that keeps the handle."""

    def __init__(self, k=1):
        super().__init__()
        self.inner = torch.nn.Linear(1, 1)
        self._k, self._handle = k, self.inner.register_forward_hook(self._note)
        self.register_forward_hook(self._note)

    def _note(self, part, given, out):
        return self._k * out


class Recurrent(torch.nn.LSTM):
    """Of a library, which keeps what cannot be told under private names."""


class Kinds(Enum):
    ONE, TWO = 1, 2


def pattern(end):
    return re.compile("a" * 300 + end)


LARGE = np.arange(10**6)

APART = {
    "partials": lambda: [partial(torch.optim.SGD, momentum=m) for m in (0.9, 0.1)],
    "modules": lambda: [torch.nn.Dropout(p) for p in (0.1, 0.5)],
    "weights": lambda: [torch.nn.Linear(2, 2) for _ in range(2)],
    "infinities": lambda: [{"tol": float("inf")}, {"tol": -float("inf")}],
    "lambdas": of_a_loop,
    "closures": lambda: [shifted(1), shifted(2)],
    "defaults": lambda: [lambda x, by=1: x, lambda x, by=2: x],
    "instances": lambda: [Halves(0.5), Halves(0.25)],
    "methods": lambda: [Halves(0.5).__call__, Halves(0.25).__call__],
    "classes of one name": lambda: [Halves(0.5), other_class()(0.5)],
    "large arrays": lambda: [LARGE, np.append(LARGE[:-1], -1)],
    "arrays in callbacks": lambda: [EpochScoringOn(LARGE), EpochScoringOn(LARGE + 1)],
    "dtypes": lambda: [np.zeros(2), np.zeros(2, np.float32)],
    "sets": lambda: [{"a", "b"}, {"a", "c"}],
    "torch's": lambda: [torch.float32, torch.float64],
    "callbacks' closures": lambda: [callback_of(1), callback_of(2)],
    "class attributes": lambda: [local_class(k=k) for k in (1, 2)],
    "defaults of methods": lambda: [local_class(by=by) for by in (1, 2)],
    "class attributes of instances": lambda: [callback_of(1, k) for k in (1, 2)],
    "networks' classes": lambda: [network_class(act) for act in (torch.tanh, torch.relu)],
    "networks' code": lambda: [network(torch.tanh), network(torch.relu)],
    "networks' attributes": lambda: [network(k=1), network(k=2)],
    "networks' private attributes": lambda: [with_private(k) for k in (1, 2)],
    "networks' hooks": lambda: [with_hook(by) for by in (1, 2)],
    "hooks that are methods": lambda: [zeroed(Noted(k)) for k in (1, 2)],
    "a hook or none": lambda: [with_hook(1), network()],
    "parts of networks": lambda: [torch.nn.Sequential(network(k=k)) for k in (1, 2)],
    "frozen networks": lambda: [network(), network().requires_grad_(False)],
    "generators": lambda: [random.Random(0), random.Random(1)],
    "patterns": lambda: [pattern("b"), pattern("c")],
    "loggers": lambda: [logging.getLogger(name) for name in "ab"],
    "flags of patterns": lambda: [re.compile("a"), re.compile("a", re.IGNORECASE)],
    "enumerations": lambda: list(Kinds),
    "views": lambda: [cmim_sklearn.Corruption(0.2), cmim_sklearn.Corruption(0.3)],
    "types": lambda: [1, True],
}


def local_class(k=1, by=1):
    class Local:
        kind = k

        def __call__(self, x, by=by):
            return x

    return Local


class EpochScoringOn(Callback):
    def __init__(self, values):
        self.values = values


@pytest.mark.parametrize("kind", APART)
def test_parameters_of_one_name_are_told_apart(kind):
    one, other = (
        json.dumps(origin.plain(value, "view"), allow_nan=False) for value in APART[kind]()
    )
    assert one != other
    assert len(one) < 20_000


class Abstract(ABC):
    @abstractmethod
    def norm(self):
        pass


def refers_to_itself():
    class Local:
        def __eq__(self, other):
            return isinstance(other, Local)

        def count(self, n):
            return count(n - 1)

    def count(n):
        return count(n - 1) + len(vars(Local))

    return [Local, Local(), count]


class Described(Abstract):
    __slots__ = ("weight",)

    @property
    def half(self):
        return self.weight / 2

    @cached_property
    def double(self):
        return self.weight * 2

    @torch.no_grad()
    def norm(self):
        return super().__hash__()

    @classmethod
    def make(cls):
        return cls()


@dataclass
class Dropped:
    shares: list = field(default_factory=list)

    def __call__(self, x, generator):
        return x, x


def zeroed(network):
    for weight in network.parameters():
        torch.nn.init.zeros_(weight)
    return network


def with_weight_norm():
    layer = zeroed(torch.nn.LSTM(2, 2))
    return torch.nn.utils.parametrizations.weight_norm(layer, "weight_hh_l0")


@pytest.mark.parametrize(
    "make",
    [
        lambda: shifted(1), lambda: Halves(0.5), lambda: {"a": 1, "b": float("nan")},
        lambda: {"b": float("nan"), "a": 1}, lambda: Checkpoint("here"), lambda: LARGE.copy(),
        network, lambda: network_class(torch.tanh), lambda: callback_of(1), lambda: Kinds.ONE,
        refers_to_itself, lambda: random.Random(0), lambda: with_weight_norm(), lambda: Described,
        Dropped, lambda: np, lambda: with_private(1), lambda: with_hook(1),
        lambda: zeroed(Recurrent(2, 2)), lambda: zeroed(Noted()),
    ],
)  # fmt: skip
def test_equal_parameters_are_told_alike(make):
    assert origin.plain(make(), "view") == origin.plain(make(), "view")
    if isinstance(make(), dict):
        assert origin.plain(make(), "") == origin.plain({"a": 1, "b": float("nan")}, "")


def test_where_a_checkpoint_is_does_not_count():
    assert origin.plain(Checkpoint("a"), "") == origin.plain(Checkpoint("b", every_epochs=3), "")


def as_in_each_process():
    made = [make() for kind, make in APART.items() if kind != "weights"]
    return json.dumps([origin.plain(value, "") for pair in made for value in pair])


def test_the_next_process_tells_them_alike():
    code = "from tests.training.test_checkpoint import *; print(as_in_each_process())"
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONHASHSEED": "1"},
    ).stdout  # fmt: skip
    assert out.strip() == as_in_each_process()


def test_what_cannot_be_told_from_others_is_refused(mixed, tmp_path):
    view = Halves(0.5)
    view.me = view
    for given in (view, Halves(object()), Halves(np.random.RandomState(0))):
        encoder = small("InfoNCEEncoder", tmp_path, view=given)
        with pytest.raises(
            ValueError, match=r"cannot tell whether view is the same when .* it holds"
        ):
            encoder.fit(mixed)
    assert not list(tmp_path.iterdir())


def test_what_would_not_resume_is_refused(mixed, tmp_path):
    encoder = small(folder=tmp_path)
    encoder.net_params["callbacks"].append(Freezer("encoder*"))
    with pytest.raises(ValueError, match="Freezer: a fit that goes on would be another"):
        encoder.fit(mixed)
    encoder.net_params["callbacks"][-1] = Checkpoint(tmp_path / "other")
    with pytest.raises(ValueError, match="takes one Checkpoint"):
        encoder.fit(mixed)
    with pytest.raises(ValueError, match="Checkpoint is for fit"):
        small(folder=tmp_path).partial_fit(mixed)


def test_a_history_that_no_file_can_hold_is_a_warning(mixed, tmp_path):
    class Notes(Callback):
        def on_epoch_end(self, net, **kwargs):
            net.history.record("odd", {1, 2})

    encoder = small(folder=tmp_path)
    encoder.net_params["callbacks"].insert(0, Notes())
    with pytest.warns(UserWarning, match="could not be written"):
        encoder.fit(mixed)
    assert encoder.n_iter_ == encoder.max_iter


def test_the_critic_is_part_of_it(mixed, tmp_path, dies, monkeypatch):
    """Without the critic's state the fit that goes on is another one."""
    whole = small("InfoMaxVAEEncoder").fit(mixed)
    assert isinstance(whole, InfoMaxVAEEncoder)
    dies(4)
    with pytest.raises(RuntimeError, match="killed"):
        small("InfoMaxVAEEncoder", tmp_path).fit(mixed)
    dies(None)
    monkeypatch.setattr(
        "cmim_sklearn._training.critic.TrainCritic.load_state_dict", lambda self, state: None
    )
    assert weights(small("InfoMaxVAEEncoder", tmp_path).fit(mixed)) != weights(whole)
