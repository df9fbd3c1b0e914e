"""Search over several processes, one of which is killed."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import chain
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline
from skorch.callbacks import Callback

from cmim_sklearn import CMIMEncoder
from tests.helpers import make_mixed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # the clusters warn
]
ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def cluster():
    pytest.importorskip("distributed")
    from dask.distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def one_thread():
    """One torch thread, as in Dask's workers, so that sums are rounded equally."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def grid_search(folder, splits, n_before=None):
    """Search that logs the process of each fit; one is killed as fit n_before + 1 starts."""
    log, killed = folder / "log", folder / "killed"

    class Log(Callback):  # local, since workers cannot import this file
        def on_train_begin(self, net, **kwargs):
            with log.open("a") as file:
                file.write(f"{os.getpid()}\n")
            if n_before is not None and len(log.read_text().split()) > n_before:
                with suppress(FileExistsError):
                    killed.touch(exist_ok=False)
                    os.kill(os.getpid(), signal.SIGKILL)

    folder.mkdir()
    encoder = CMIMEncoder(
        hidden_layer_sizes=(32,), max_iter=60, random_state=0,
        net_params={"callbacks": [Log()]},
    )  # fmt: skip
    pipe = Pipeline([("cmim", encoder), ("clf", LogisticRegression(max_iter=200))])
    grid = {"cmim__contrastive_weight": [0, 10]}
    return GridSearchCV(pipe, grid, cv=splits, refit=False, error_score="raise")


def scores(search):
    return {k: v for k, v in search.cv_results_.items() if k.endswith("_test_score")}


@pytest.mark.parametrize("n_before", [1, 6])
def test_dask_gives_the_local_scores_after_a_killed_worker(n_before, cluster, one_thread, tmp_path):
    X = make_mixed(400)
    y = X.pop("member")
    # With six splits, rows are always in transit. A search would fail if the killed worker had
    # the only copy of some rows.
    splits = list(StratifiedKFold(6).split(X, y))
    local = grid_search(tmp_path / "local", splits).fit(X, y)
    search = grid_search(tmp_path / "dask", splits, n_before)
    cluster.amm.stop()
    with joblib.parallel_config("dask", scatter=[X, y, *chain(*splits)]):
        search.fit(X, y)
    for name, values in scores(local).items():
        np.testing.assert_array_equal(scores(search)[name], values, err_msg=name)
    started = (tmp_path / "dask" / "log").read_text().split()
    assert os.getpid() not in map(int, started)
    assert len(set(started)) > 1  # and a third one, if it replaces the killed one in time
    # Repeated: the fit that was killed, and finished ones whose scores had not been fetched.
    assert 12 < len(started) <= 12 + n_before + 1
    assert len((tmp_path / "local" / "log").read_text().split()) == 12


WAITS = """
import sys, time
from pathlib import Path
from examples.clusters import search_with_optuna as example

url, begun, go = sys.argv[1:]
whole = example.cross_val_score

def waits(*args, **kwargs):
    Path(begun).touch()
    while not Path(go).exists():
        time.sleep(0.05)
    return whole(*args, **kwargs)

example.cross_val_score = waits
example.main(url)
"""
"""The example, whose trials wait for a file."""


def test_optuna_repeats_the_trial_of_a_killed_process(tmp_path):
    optuna = pytest.importorskip("optuna")
    pytest.importorskip("sqlalchemy")
    from examples.clusters import search_with_optuna as example

    state = optuna.trial.TrialState
    url, go = f"sqlite:///{tmp_path / 'search.db'}", tmp_path / "go"
    processes = []
    try:
        for begun in (tmp_path / "one", tmp_path / "other"):
            command = [sys.executable, "-c", WAITS, url, str(begun), str(go)]
            processes.append(subprocess.Popen(command, env=ENVIRONMENT))
            wait_for(begun.exists)
        processes[0].kill()
        time.sleep(example.GRACE_S + 2)  # until its heartbeat is outdated
        go.touch()
        assert processes[1].wait(timeout=240) == 0
    finally:
        for process in processes:
            process.kill()
            process.wait()
    found = optuna.load_study(study_name="cmim", storage=url).trials
    done = [t for t in found if t.state == state.COMPLETE]
    failed = [t for t in found if t.state == state.FAIL]
    assert len(done) >= 8
    assert len(failed) == 1
    retried = optuna.storages.RetryHeartbeatStaleTrialCallback.retried_trial_number
    again = [t for t in done if retried(t) == failed[0].number]
    assert [t.params for t in again] == [failed[0].params]


def wait_for(condition, timeout_s=240):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_dask_example_runs(tmp_path):
    pytest.importorskip("distributed")
    ran = subprocess.run(
        [sys.executable, str(ROOT / "examples/clusters/search_on_dask.py")],
        cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.count("{'cmim__n_components': 64} 0.") == 1
