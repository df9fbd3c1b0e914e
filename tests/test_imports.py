"""Who may import whom, and what `import cmim_sklearn` must not pull in."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "cmim_sklearn"

ALLOWED = {
    "__init__": {
        "_version", "amdim", "checkpoint", "contrastive", "embedding", "encoder", "siblings",
        "views",
    },
    "amdim": {"contrastive", "latents", "net", "networks", "parameters", "views"},
    "contrastive": {"base", "latents", "net", "networks", "parameters", "views"},
    "views": {"latents"},
    "_version": set(),
    "encoder": {"generative", "net", "objectives", "parameters"},
    "geometry": set(),
    "mutual_information": {"bounds", "critics"},
    "bounds": set(),
    "critics": {"net", "networks", "scaling"},
    "siblings": {
        "critic_net", "generative", "model", "net", "networks", "objectives", "parameters",
    },
    "critic_net": {"data_parallel", "training_state"},
    "parameters": {"embedding", "latents", "networks", "scaling"},
    "base": {
        "callbacks", "embedding", "fitting", "forking", "frames", "model", "mutual_information",
        "net", "networks", "onnx", "parquet", "persistence", "streaming", "table",
    },
    "fitting": {"batches", "callbacks", "callers", "faults", "net"},
    "persistence": {"_version", "archive", "layouts", "model", "views"},
    "archive": {"_version"},
    "checkpoint": {"archive", "callers", "origin", "training_state"},
    "origin": {"_version", "hashing"},
    "hashing": set(),
    "batches": {"data_parallel"},
    "callbacks": {"batches"},
    "callers": set(),
    "data_parallel": {"callers", "hashing"},
    "training_state": set(),
    "faults": {"model"},
    "streaming": {"batches", "fitting", "net"},
    "parquet": {
        "_version", "archive", "batches", "fitting", "frames", "hashing", "parquet_table",
        "summaries", "table",
    },
    "parquet_table": {"frames"},
    "onnx": {"embedding", "frames", "gaussian", "likelihoods", "networks", "onnx_graph"},
    "onnx_graph": {"networks"},
    "generative": {
        "base", "density", "embedding", "fitting", "frame_writers", "frames", "latents", "model",
        "networks",
    },
    "density": {"latents", "model"},
    "display": {"base", "drawing", "frames", "generative", "model", "table"},
    "drawing": set(),
    "net": {"batches", "callbacks", "data_parallel", "model", "objectives", "training_state"},
    "objectives": {"model"},
    "model": {"latents", "likelihoods"},
    "table": {"callers", "frame_writers", "frames", "layouts", "likelihoods"},
    "latents": set(),
    "forking": set(),
    "networks": {"forking"},
    "likelihoods": {"callers", "gaussian", "kinds", "summaries"},
    "gaussian": {"kinds", "scaling", "summaries"},
    "summaries": set(),
    "kinds": set(),
    "scaling": set(),
    "embedding": {"callers", "foreign", "net", "networks"},
    "foreign": {"forking"},
    "frame_writers": {"frames", "layouts"},
    "frames": {"layouts"},
    "layouts": set(),
}  # fmt: skip

ONLY_THERE = {
    "skorch": {"callbacks", "checkpoint", "critic_net", "net"},
    "narwhals": {"frames"},
    "pandas": {"frame_writers", "layouts"},
    "polars": {"frame_writers", "layouts"},
    "pyarrow": {"frame_writers", "layouts", "parquet", "parquet_table"},
    "safetensors": {"archive"},
    "zipfile": {"archive"},
    "matplotlib": {"display", "drawing"},
    "onnx": {"onnx_graph"},
    "skl2onnx": {"onnx"},
    "onnxscript": {"onnx_graph"},
    "onnxruntime": set(),
    "transformers": set(),
    "pythae": set(),
}


def imported(path, top_level_only=False):
    tree = ast.parse(path.read_text())
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports are not read here"
            yield node.module
            if node.module == "cmim_sklearn":
                yield from (f"cmim_sklearn.{alias.name}" for alias in node.names)


def test_every_module_is_in_the_table():
    assert {path.stem for path in PACKAGE.glob("*.py")} == set(ALLOWED)


@pytest.mark.parametrize("name", ALLOWED)
def test_a_module_imports_only_what_it_may(name):
    own = {
        module.split(".")[1]
        for module in imported(PACKAGE / f"{name}.py")
        if module.startswith("cmim_sklearn.")
    }
    assert own <= ALLOWED[name]


@pytest.mark.parametrize("library", ONLY_THERE)
def test_a_library_is_known_to_its_files_alone(library):
    users = {
        path.stem
        for path in PACKAGE.glob("*.py")
        if any(module.split(".")[0] == library for module in imported(path))
    }
    assert users == ONLY_THERE[library]


def test_import_is_light_and_makes_no_cuda_context():
    lazy = ["matplotlib", "onnx", "pandas", "polars", "pyarrow", "rich", "safetensors"]
    lazy += ["skl2onnx", "sklearn.cluster", "transformers"]
    code = (
        "import sys, cmim_sklearn.display, torch; cmim_sklearn.CMIMEncoder();"
        f"found = [m for m in {lazy} if m in sys.modules];"
        "assert not found, found; assert not torch.cuda.is_initialized()"
    )
    # scikit-learn and skorch import some of these where they find them; so do they without us.
    alone = f"import sys, sklearn.base, skorch; print([m for m in {lazy} if m in sys.modules])"
    alone = subprocess.run(
        [sys.executable, "-c", alone], capture_output=True, text=True, check=True
    )
    others = ast.literal_eval(alone.stdout.strip().splitlines()[-1])
    code = code.replace(str(lazy), str([m for m in lazy if m not in others]))
    subprocess.run([sys.executable, "-c", code], check=True)
    assert "matplotlib" not in others
