"""Bounded runs of the fault injector and of the fuzzer of encoder files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX"),
]


def run(*arguments, seconds):
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True,
        timeout=seconds, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_faults_are_survived():
    done = run("tests.robustness.faults", "--times", "1", seconds=600)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()[2:]]
    assert len(rows) == 16
    for name, injected, survived, lost in rows:
        assert (injected, lost) == (survived, "0"), name
        # Filling a disk mounts one, which needs rights.
        assert int(injected) > 0 or name.startswith("disk full"), name


def test_fuzzed_files_load_or_raise(tmp_path):
    pytest.importorskip("atheris")
    done = run(
        "tests.robustness.fuzz_loader", "--out", str(tmp_path), "--seconds", "30", seconds=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert '"raised": ' in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]
