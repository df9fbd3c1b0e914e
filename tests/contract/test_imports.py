"""Imports: folders import downward only, and `import cmim_sklearn` stays light."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "cmim_sklearn"

FLOORS = [
    {"_version"},
    {"_utils"},
    {"_likelihoods"},
    {"_tables", "latents", "networks"},
    {"_models"},
    {"_training", "mutual_information", "objectives"},
    {"_encoders"},
    {"__init__", "archive", "display", "geometry", "model_selection", "onnx"},
]
"""Folders and modules at the top of the package; each imports only from floors above it here."""

ONLY_THERE = {
    "skorch": {"_training"},
    "narwhals": {"_tables"},
    "pandas": {"_tables"},
    "polars": {"_tables"},
    "pyarrow": {"_tables"},
    "safetensors": {"_utils/archive"},
    "zipfile": {"_utils/archive"},
    "matplotlib": {"display"},
    "onnx": {"onnx"},
    "skl2onnx": {"onnx"},
    "onnxscript": {"onnx"},
    "onnxruntime": set(),
    "transformers": set(),
    "pythae": set(),
}
"""Folders or modules that may import a library, and do."""

LATE = {
    ("_encoders/base/fitted", "onnx"),
    ("_encoders/predictor", "onnx"),
}
"""Imports from a higher floor, within a function."""


def module_of(path):
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


MODULES = {module_of(path): path for path in PACKAGE.rglob("*.py")}


@functools.cache
def imported(path):
    """Return the modules that a file imports, also within functions."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports are not read here"
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def own_imports(name):
    """Yield the modules of the package that one of its modules imports."""
    for target in imported(MODULES[name]):
        path = target.replace(".", "/").removeprefix("cmim_sklearn/")
        if target == "cmim_sklearn":
            yield "__init__"
        elif target.startswith("cmim_sklearn.") and path in MODULES:
            yield path
        elif target.startswith("cmim_sklearn.") and f"{path}/__init__" in MODULES:
            yield f"{path}/__init__"


def floor(name):
    (number,) = [i for i, names in enumerate(FLOORS) if name.split("/")[0] in names]
    return number


def test_every_module_has_a_floor():
    assert {name.split("/")[0] for name in MODULES} == set().union(*FLOORS)


@pytest.mark.parametrize("name", MODULES)
def test_modules_import_from_lower_floors_or_their_own_folder(name):
    folder = name.split("/")[0]
    upward = {
        other
        for other in own_imports(name)
        if other.split("/")[0] != folder
        and floor(other) >= floor(name)
        and (name, other.split("/")[0]) not in LATE
    }
    assert not upward


def test_there_are_no_circular_imports():
    below = {name: set(own_imports(name)) for name in MODULES}
    for name, folder in LATE:
        below[name] = {other for other in below[name] if other.split("/")[0] != folder}
    while below:
        leaves = {name for name, others in below.items() if not others & set(below)}
        assert leaves, f"a circle among {sorted(below)}"
        below = {name: others for name, others in below.items() if name not in leaves}


@pytest.mark.parametrize("library", ONLY_THERE)
def test_a_library_is_imported_only_where_it_may_be(library):
    users = {
        name
        for name, path in MODULES.items()
        if any(target.split(".")[0] == library for target in imported(path))
    }
    places = {place for place in ONLY_THERE[library] for name in users if name.startswith(place)}
    assert places == ONLY_THERE[library]
    assert all(name.startswith(tuple(places)) for name in users)


def test_import_is_light_and_makes_no_cuda_context():
    """scikit-learn and skorch import some optional libraries; the package adds none to them."""
    optional = ["matplotlib", "onnx", "pandas", "polars", "pyarrow", "rich", "safetensors"]
    optional += ["skl2onnx", "sklearn.cluster", "transformers"]
    code = (
        "import sys, sklearn.base, skorch, torch\n"
        f"before = {{m for m in {optional} if m in sys.modules}}\n"
        "import cmim_sklearn.display\n"
        "cmim_sklearn.CMIMEncoder()\n"
        f"added = {{m for m in {optional} if m in sys.modules}} - before\n"
        "assert not added, added\n"
        "assert 'matplotlib' not in before\n"
        "assert not torch.cuda.is_initialized()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
