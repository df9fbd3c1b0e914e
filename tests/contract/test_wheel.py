"""Wheel: contents, and imports of every public path from a fresh environment."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]

IMPORTS = """
import importlib, sys
import cmim_sklearn
for name in cmim_sklearn.__all__:
    getattr(cmim_sklearn, name)
for module in sys.argv[1:]:
    importlib.import_module(module)
print(cmim_sklearn.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Wheel built from a copy, so that leftovers of earlier builds do not get into it."""
    pytest.importorskip("build")
    source, out = (tmp_path_factory.mktemp(name) for name in ("source", "wheel"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("cmim_sklearn", "tests", "examples", "benchmarks"):
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(source)],
        check=True, capture_output=True,
    )  # fmt: skip
    (path,) = out.glob("cmim_sklearn-*.whl")
    return path


def test_the_wheel_has_every_module_and_nothing_else(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "cmim_sklearn").rglob("*.py")}
    assert names == {*files, "cmim_sklearn/py.typed"}


def test_every_public_path_imports_from_the_installed_wheel(wheel, tmp_path):
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", str(venv)], check=True)
    # A virtual environment of a virtual environment sees only the packages of the base interpreter.
    (site,) = venv.glob("lib/python*/site-packages")
    own = [path for path in sys.path if path.endswith("site-packages")]
    (site / "parent.pth").write_text("\n".join(own))
    python = str(venv / "bin" / "python")
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", str(wheel)],
        check=True,
    )
    modules = [
        "cmim_sklearn." + ".".join(path.relative_to(ROOT / "cmim_sklearn").with_suffix("").parts)
        for path in (ROOT / "cmim_sklearn").rglob("*.py")
        if path.name != "__init__.py"
    ]
    ran = subprocess.run(
        [python, "-c", IMPORTS, *modules], cwd=tmp_path, env={"PATH": ""},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(ran.stdout.strip()).is_relative_to(venv)
