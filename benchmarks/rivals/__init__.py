"""Features of other representation learners, each in a separate virtual environment.

A folder here is an environment: ``requirements.txt`` with exact versions, for Python 3.11 or later
on Linux, and ``embed.py``, which that environment's Python runs as a subprocess. Rows go to it, and
features and costs come back, as files (`exchange.py`). It gets no labels. To add a rival, add a
folder and a line in `RIVALS`. ``synthesis`` serves `benchmarks.studies.generation` instead.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.tools import numeric_columns

HERE = Path(__file__).parent
THREAD_VARIABLES = [f"{name}_NUM_THREADS" for name in ("OMP", "MKL", "OPENBLAS", "NUMBA")]


class Rival(NamedTuple):
    """Environment, method, and whether it takes the frame or prepared numbers."""

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


def install(env, env_dir):
    """Python of an environment, built on first use or if its requirements changed."""
    home, requirements = Path(env_dir).absolute() / env, HERE / env / "requirements.txt"
    python, built = str(home / "bin" / "python"), home / "requirements.txt"
    if not built.exists() or built.read_text() != requirements.read_text():
        print(f"Building the environment {home}", flush=True)
        shutil.rmtree(home, ignore_errors=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([*pip, "-r", str(requirements)], check=True)
        shutil.copy(requirements, built)
    return python


def plain(frame):
    """Frame that Parquet accepts: words and names as strings."""
    frame = frame.rename(columns=str).reset_index(drop=True)
    words = frame.columns.difference(numeric_columns(frame))
    return frame.assign(**{c: frame[c].astype(object).map(str, na_action="ignore") for c in words})


def embed(name, frames, matrices, seed, env_dir, threads=1, timeout_s=1800):
    """Features of training and test rows by a rival that is fitted to the former, and its costs.

    ``frames`` and ``matrices`` are the same training and test rows as frames and as prepared
    numbers. Raises RuntimeError if the subprocess fails or takes longer than ``timeout_s``.
    """
    rival, parts = RIVALS[name], ("train", "test")
    python = install(rival.env, env_dir)
    quiet = {"PYTHONPATH": str(HERE), "TQDM_DISABLE": "1", "CUDA_VISIBLE_DEVICES": ""}
    variables = {**os.environ, **quiet, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for part, frame in zip(parts, frames if rival.takes_frame else (), strict=False):
            plain(frame).to_parquet(folder / f"{part}.parquet")
        np.savez(folder / "raw.npz", **dict(zip(parts, matrices, strict=True)))
        script = HERE / rival.env / "embed.py"
        command = [python, str(script), str(folder), rival.method, str(seed)]
        options = {"cwd": folder, "env": variables, "capture_output": True, "text": True}
        try:
            done = subprocess.run(command, timeout=timeout_s, **options)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{name} took longer than {timeout_s:g} s") from None
        # Lightning exits with code 0 when it is interrupted.
        if done.returncode or not (folder / "costs.json").exists():
            output = "\n".join(done.stderr.strip().splitlines()[-20:])
            raise RuntimeError(f"{name} failed with exit code {done.returncode}:\n{output}")
        with np.load(folder / "features.npz") as features:
            made = features["train"], features["test"]
        return made, json.loads((folder / "costs.json").read_text())
