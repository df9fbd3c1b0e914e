"""Features of other representation learners, each in a virtual environment of its own.

    from benchmarks.rivals import RIVALS, embed
    for name in RIVALS:
        embed(name, X_train, X_test, raw_train, raw_test, seed=0, env_dir="out/envs")

A folder here is an environment: ``requirements.txt`` with exact versions, for Python 3.11 or later
on Linux, and ``embed.py``, which that environment's python runs as a subprocess. Rows go to it, and
features and measurements come back, as files (`exchange.py`). No labels go to it.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

HERE = Path(__file__).parent
STAMP = "requirements.sha256"
LAST_LINES = 20
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)


class Rival(NamedTuple):
    """A method of an environment, and which form of the rows it takes."""

    env: str
    method: str
    takes_frame: bool


RIVALS = {
    "UMAP": Rival("umap", "UMAP", takes_frame=False),
    "SCARF": Rival("ts3l", "SCARF", takes_frame=True),
    "VIME": Rival("ts3l", "VIME", takes_frame=True),
    "SubTab": Rival("ts3l", "SubTab", takes_frame=True),
    "DAE": Rival("ts3l", "DAE", takes_frame=True),
    "pythae VAE": Rival("pythae", "VAE", takes_frame=False),
}


class Embedded(NamedTuple):
    """What a rival made of a table, and what it took.

    Attributes
    ----------
    train, test : ndarray of shape (n, w), float32
        Features, row for row.
    fit_s : float
        Seconds to fit; for a rival that takes frames, with its own preparation of the columns, and
        for UMAP with its compilation, about nine seconds in every process.
    transform_rows_s : float
        Test rows transformed per second, once warm.
    peak_mb : float
        Peak memory of the subprocess, less its memory right before fitting.
    bytes : int
        Size of the fitted model on disk.
    """

    train: np.ndarray
    test: np.ndarray
    fit_s: float
    transform_rows_s: float
    peak_mb: float
    bytes: int


def last_lines(text):
    return "\n".join(text.strip().splitlines()[-LAST_LINES:])


@contextmanager
def locked(path):
    """One process at a time; the lock goes with the process, however that ends."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run_step(name, command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        output = last_lines(done.stdout + done.stderr)
        raise RuntimeError(f"No environment for {name}: {' '.join(command[1:])} failed.\n{output}")


def install(name, env_dir):
    """The python of a rival's environment, which is built on first use.

    It is built anew when its ``requirements.txt`` has changed, or if it wasn't finished.

    Parameters
    ----------
    name : str
        One of `RIVALS`.
    env_dir : path-like
        Folder that holds one environment per folder here.

    Returns
    -------
    pathlib.Path
    """
    env = RIVALS[name].env
    requirements = HERE / env / "requirements.txt"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    home = Path(env_dir).absolute() / env
    python, stamp = home / "bin" / "python", home / STAMP
    home.parent.mkdir(parents=True, exist_ok=True)
    with locked(home.with_name(f"{env}.lock")):
        if stamp.exists() and stamp.read_text() == wanted:
            return python
        verb = "Rebuilding" if home.exists() else "Building"
        print(f"{verb} the environment of {name} in {home}", flush=True)
        shutil.rmtree(home, ignore_errors=True)
        run_step(name, [sys.executable, "-m", "venv", str(home)])
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        # torch first: should the choice of its build fail, it does so before all else.
        torch = [r for r in requirements.read_text().split() if r.startswith("torch==")]
        if torch:
            run_step(name, [*pip, *torch])
        run_step(name, [*pip, "-r", str(requirements)])
        stamp.write_text(wanted)
    return python


def surroundings(threads):
    """The variables that a rival's process gets: few threads, no bars and no GPU."""
    quiet = {"PYTHONPATH": str(HERE), "TQDM_DISABLE": "1", "CUDA_VISIBLE_DEVICES": ""}
    return {**os.environ, **quiet, **dict.fromkeys(THREAD_VARIABLES, str(threads))}


def plain(frame):
    """A frame that parquet takes whatever it holds: categories as strings, names too."""
    frame = frame.rename(columns=str).reset_index(drop=True)
    words = [c for c in frame if not pd.api.types.is_numeric_dtype(frame[c])]
    return frame.assign(**{c: frame[c].astype(object).map(str, na_action="ignore") for c in words})


def embed(
    name, X_train, X_test, raw_train, raw_test, seed, env_dir, threads=1, timeout_s=1800
) -> Embedded:
    """Fit a rival to the training rows, without labels, and get its features of both parts.

    Parameters
    ----------
    name : str
        One of `RIVALS`.
    X_train, X_test : DataFrame
        Numbers, categories and strings, with holes; for rivals that prepare columns themselves.
    raw_train, raw_test : ndarray
        The same rows as floats (`benchmarks.linear_probe.raw_matrices`), for the others.
    seed : int
    env_dir : path-like
        Folder of the environments; see `install`.
    threads : int, default=1
    timeout_s : float, default=1800

    Returns
    -------
    Embedded

    Raises
    ------
    RuntimeError
        If the environment can't be built, or the subprocess fails or takes too long.
    """
    rival = RIVALS[name]
    python = install(name, env_dir)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        if rival.takes_frame:
            plain(X_train).to_parquet(folder / "train.parquet")
            plain(X_test).to_parquet(folder / "test.parquet")
        else:
            np.savez(folder / "raw.npz", train=raw_train, test=raw_test)
        command = [str(python), str(HERE / rival.env / "embed.py"), str(folder), rival.method]
        try:
            done = subprocess.run(
                [*command, str(seed)],
                cwd=folder,
                env=surroundings(threads),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                timeout=timeout_s,
            )
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{name} took longer than {timeout_s:g} s") from None
        # Lightning ends in good order, with exit code 0, when it is told to stop.
        if done.returncode or not (folder / "measured.json").exists():
            raise RuntimeError(
                f"{name} failed with exit code {done.returncode}:\n{last_lines(done.stderr)}"
            )
        with np.load(folder / "features.npz") as features:
            train, test = features["train"], features["test"]
        measured = json.loads((folder / "measured.json").read_text())
    return Embedded(train, test, **measured)
