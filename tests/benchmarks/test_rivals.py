"""Driver of the benchmark's rivals, with a dummy rival and without pip."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import rivals
from benchmarks.quality.arms import COSTS

# Features: position of the row, sum of its numbers, number of its letters, seed.
EMBED = """
import sys
import time

import numpy as np
from exchange import run


def fit(method, X, seed, folder):
    if method == "fails":
        for line in range(30):
            print(f"line {line}", file=sys.stderr)
        sys.exit(3)
    if method == "hangs":
        time.sleep(60)
    if method == "stops":
        sys.exit(0)
    return {"seed": seed, "ballast": bytes(1000)}


def transform(model, X):
    if isinstance(X, np.ndarray):
        numbers, letters = X.sum(1), np.zeros(len(X))
    else:
        numbers = X.select_dtypes("number").sum(axis=1)
        letters = X.select_dtypes(exclude="number").fillna("").sum(axis=1).str.len()
    return np.column_stack([np.arange(len(X)), numbers, letters, np.full(len(X), model["seed"])])


run(fit, transform)
"""


@pytest.fixture
def dummy(tmp_path, monkeypatch):
    """Folder with one environment, and rivals that use it."""
    home = tmp_path / "rivals"
    (home / "dummy").mkdir(parents=True)
    (home / "dummy" / "embed.py").write_text(EMBED)
    (home / "dummy" / "requirements.txt").write_text("other==1.0\ntorch==2.0.0\n")
    (home / "exchange.py").write_text((rivals.HERE / "exchange.py").read_text())
    methods = ("works", "fails", "hangs", "stops")
    table = {name: rivals.Rival("dummy", name, takes_frame=True) for name in methods}
    table["of floats"] = rivals.Rival("dummy", "works", takes_frame=False)
    monkeypatch.setattr(rivals, "HERE", home)
    monkeypatch.setattr(rivals, "RIVALS", table)
    return home / "dummy"


@pytest.fixture
def installed(dummy, monkeypatch):
    monkeypatch.setattr(rivals, "install", lambda env, env_dir: sys.executable)


def frames():
    train = pd.DataFrame(
        {
            0: [1.0, np.nan, 3.0, 4.5],
            "count": np.arange(4),
            "kind": pd.Categorical(["a", "bb", None, "a"], categories=["bb", "a", "c"]),
            "word": np.array(["xyz", None, "", "x"], dtype=object),
        },
        index=[7, 7, 1, 0],
    )
    return train, train.iloc[[3, 1]]


def run(name, **options):
    matrices = np.arange(8.0).reshape(4, 2), np.array([[5.0, 6.0]])
    return rivals.embed(name, frames(), matrices, seed=11, env_dir="unused", **options)


@pytest.mark.usefixtures("installed")
def test_features_of_a_frame_keep_the_order_of_rows():
    (train, test), costs = run("works")
    np.testing.assert_array_equal(
        train, [[0, 1, 4, 11], [1, 1, 2, 11], [2, 5, 0, 11], [3, 7.5, 2, 11]]
    )
    np.testing.assert_array_equal(test, [[0, 7.5, 2, 11], [1, 1, 2, 11]])
    assert train.dtype == test.dtype == np.float32
    assert set(costs) == set(COSTS)
    assert min(costs.values()) >= 0
    assert 1000 < costs["bytes"] < 2000


@pytest.mark.usefixtures("installed")
def test_features_of_a_matrix_keep_the_order_of_rows():
    (train, test), _ = run("of floats")
    np.testing.assert_array_equal(train[:, 1], [1, 5, 9, 13])
    np.testing.assert_array_equal(test, [[0, 11, 0, 11]])


@pytest.mark.usefixtures("installed")
def test_a_failure_names_the_rival_its_exit_code_and_its_last_lines():
    with pytest.raises(RuntimeError, match=r"^fails failed with exit code 3") as caught:
        run("fails")
    assert str(caught.value).splitlines()[1:] == [f"line {i}" for i in range(10, 30)]


@pytest.mark.usefixtures("installed")
def test_an_exit_without_features_is_a_failure():
    with pytest.raises(RuntimeError, match=r"^stops failed with exit code 0"):
        run("stops")


@pytest.mark.usefixtures("installed")
def test_a_timeout_names_the_rival_and_the_seconds():
    with pytest.raises(RuntimeError, match=r"^hangs took longer than 0\.2 s$"):
        run("hangs", timeout_s=0.2)


@pytest.fixture
def commands(dummy, monkeypatch):
    """Commands that would have been run; a command with ``fail`` in it fails."""
    ran = []

    def pretend(command, **options):
        ran.append(command)
        if "venv" in command:
            python = dummy.parent / "envs" / "dummy" / "bin" / "python"
            python.parent.mkdir(parents=True)
            python.touch()
        if "-r" in command and "fail" in (dummy / "requirements.txt").read_text():
            raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(rivals.subprocess, "run", pretend)
    return ran


def install(dummy):
    return rivals.install("dummy", dummy.parent / "envs")


def test_an_environment_is_built_once_and_again_for_new_requirements(dummy, commands, capsys):
    python = install(dummy)
    venv, rest = commands
    assert venv[:3] == [sys.executable, "-m", "venv"]
    assert (rest[0], rest[-2:]) == (python, ["-r", str(dummy / "requirements.txt")])
    assert capsys.readouterr().out.startswith("Building the environment ")
    left = Path(python).with_name("left")
    left.touch()
    assert install(dummy) == python
    assert len(commands) == 2
    assert left.exists()
    (dummy / "requirements.txt").write_text("other==1.1\n")
    install(dummy)
    assert not left.exists()
    assert len(commands) == 4


def test_a_failed_build_is_tried_again(dummy, commands):
    (dummy / "requirements.txt").write_text("fail==1.0\n")
    for _ in range(2):
        with pytest.raises(subprocess.CalledProcessError, match=r"pip.*requirements\.txt"):
            install(dummy)
    assert len(commands) == 4


def test_every_rival_has_a_folder():
    scripts = {rival.env: "embed.py" for rival in rivals.RIVALS.values()}
    for env, script in {**scripts, "synthesis": "synthesise.py"}.items():
        folder = rivals.HERE / env
        assert (folder / script).exists()
        pins = (folder / "requirements.txt").read_text().split()
        assert pins
        assert all("==" in pin for pin in pins)
