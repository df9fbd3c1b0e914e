"""Search over several processes, with one of them killed on the way."""

import os
import signal
import subprocess
import sys
import threading
import time
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
from tests.conftest import make_mixed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of the clusters' own
]
ROOT = Path(__file__).parent.parent
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
    """As many as Dask gives torch in its workers: sums are then rounded alike."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def grid_search(log, splits):
    class Log(Callback):  # local, so that workers need not find this file
        def on_train_begin(self, net, **kwargs):
            with open(log, "a") as file:
                file.write(f"{os.getpid()}\n")

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
def test_dask_gives_the_local_scores_and_a_killed_worker_costs_a_retry(
    n_before, cluster, one_thread, tmp_path
):
    X = make_mixed(400)
    y = X.pop("member")
    # Six splits, so that at each moment some rows were sent and not yet asked for: with one copy of
    # them alone, which the killed worker had, the search would end.
    splits = list(StratifiedKFold(6).split(X, y))
    local = grid_search(tmp_path / "local", splits).fit(X, y)
    log = tmp_path / "dask"
    search = grid_search(log, splits)
    killed = []

    def kill_one():
        while not killed:
            started = log.read_text().split() if log.exists() else []
            if len(started) > n_before:
                killed.append(int(started[-1]))
                os.kill(killed[0], signal.SIGKILL)
            time.sleep(0.02)

    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    cluster.amm.stop()
    with joblib.parallel_config("dask", scatter=[X, y, *chain(*splits)]):
        search.fit(X, y)
    killer.join(timeout=10)
    for name, values in scores(local).items():
        np.testing.assert_array_equal(scores(search)[name], values, err_msg=name)
    started = log.read_text().split()
    assert os.getpid() not in map(int, started)
    assert len(set(started)) > 1  # a third, in the killed one's place, where it comes in time
    # The fit that it was at, and one more at most, whose scores nobody had fetched yet.
    assert 12 < len(started) <= 12 + 2
    assert len((tmp_path / "local").read_text().split()) == 12


def test_optuna_with_shared_storage_does_a_killed_ones_trial_again(tmp_path):
    optuna = pytest.importorskip("optuna")
    pytest.importorskip("sqlalchemy")
    state = optuna.trial.TrialState
    url = f"sqlite:///{tmp_path / 'search.db'}"
    command = [sys.executable, str(ROOT / "examples" / "clusters" / "search_with_optuna.py"), url]
    processes = [subprocess.Popen(command, env=ENVIRONMENT)]
    try:
        wait_for(lambda: len(trials(optuna, url)) > 0)
        processes.append(subprocess.Popen(command, env=ENVIRONMENT))
        # The trial with two at work is one of each.
        wait_for(lambda: sum(t.state == state.RUNNING for t in trials(optuna, url)) == 2)
        processes[0].kill()
        assert processes[1].wait(timeout=150) == 0
    finally:
        for process in processes:
            process.kill()
            process.wait()
    found = trials(optuna, url)
    done = [t for t in found if t.state == state.COMPLETE]
    failed = [t for t in found if t.state == state.FAIL]
    assert len(done) >= 8
    assert len(failed) == 1
    retried = optuna.storages.RetryHeartbeatStaleTrialCallback.retried_trial_number
    again = [t for t in done if retried(t) == failed[0].number]
    assert [t.params for t in again] == [failed[0].params]


def trials(optuna, url):
    try:
        return optuna.load_study(study_name="cmim", storage=url).trials
    except KeyError:  # not yet made
        return []


def wait_for(condition, timeout_s=90):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.mark.parametrize(
    ("needs", "command", "told"),
    [
        ("distributed", ["examples/clusters/search_on_dask.py"], "{'cmim__n_components': 64} 0."),
        ("torch", [*TORCHRUN, "examples/clusters/train_together.py"], "[CMIMEncoder] 10/10"),
    ],
)
def test_examples_run(needs, command, told, tmp_path):
    pytest.importorskip(needs)
    command = [str(ROOT / part) if part.endswith(".py") else part for part in command]
    ran = subprocess.run(
        [sys.executable, *command],
        cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.count(told) == 1
