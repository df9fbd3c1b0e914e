"""Wheel: its contents."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_wheel_holds_the_package_and_its_type_marker(tmp_path):
    pytest.importorskip("build")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(ROOT)],
        check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("cmim_sklearn-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "cmim_sklearn/py.typed" in names
    modules = {path.name for path in (ROOT / "cmim_sklearn").glob("*.py")}
    assert modules <= {name.removeprefix("cmim_sklearn/") for name in names}
    assert not [name for name in names if name.startswith(("tests", "examples", "benchmarks"))]
