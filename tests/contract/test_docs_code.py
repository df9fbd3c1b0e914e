"""Code in README and the guide: blocks of Python run in order, commands and links are valid."""

import re
import warnings
from pathlib import Path

import pytest

from cmim_sklearn._encoders.base import fit, generative

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S)


def check_readme(names):
    """Check values that README's blocks leave behind; names is their namespace."""
    assert names["search"].best_params_.keys() == {"cmim__contrastive_weight"}
    assert list(names["back"].columns) == list(names["houses"].columns)
    assert names["z"].shape == (600, 2)
    assert len(names["new"]) == 1000
    assert names["new"].notna().all(axis=None)
    assert (names["coast"]["ocean_proximity"] == "NEAR OCEAN").all()
    assert names["full"].notna().all(axis=None)
    assert len(names["several"]) == 5
    some = names["table"][:9]
    assert names["again"].score(some) == names["model"].score(some)
    assert names["culprit"] in names["table"].columns
    assert names["encoder"].mutual_information(names["houses"], noise=0.3).estimate > 0
    wanted = names["encoder"].transform(names["houses"])
    assert abs(names["features"] - wanted).max() < 1e-4
    assert names["features_by_id"]["id"].tolist() == list(range(600))
    assert names["features_by_part"].npartitions == 3
    assert names["digits"][0].layer_ == "decoder.2"


CHECKS = {"README.md": check_readme}


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: p.stem)
@pytest.mark.parametrize("is_short", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_python_blocks_run(page, is_short, request, monkeypatch, tmp_path):
    """Blocks of a page share one namespace. Short: fits of 3 epochs, 16 latent samples per row."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    for library in ("onnx", "onnxruntime", "pyarrow", "dask.dataframe"):
        pytest.importorskip(library)
    if is_short:
        monkeypatch.setattr(fit, "n_epochs", lambda *args, **kwargs: 3)
        monkeypatch.setattr(generative, "SCORE_DRAWS", 16)
        request.getfixturevalue("short_calibration")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)  # blocks write files
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: matplotlib.pyplot.close("all"))
    namespace = {}
    for block in blocks(page, "python"):
        with warnings.catch_warnings():
            exec(block, namespace)
    CHECKS.get(page.name, lambda names: None)(namespace)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "py")], ids=lambda p: p.stem)
def test_sketches_are_valid_python(page):
    """Blocks marked `py` are not run here: the tests of clusters run the examples they show."""
    for block in blocks(page, "py"):
        compile(block, page.name, "exec")


def test_setup_is_two_commands_of_one_line():
    commands = [block.strip() for block in blocks(README, "bash")]
    assert len(commands) == 2
    for command in commands:
        assert command.startswith("pip install")
        assert "\n" not in command
    assert "pytest" in commands[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_links_and_scripts_exist(page):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (page.parent / link).exists(), link
    for script in re.findall(r"(?:examples|benchmarks|tests)/[\w/]+\.py", text):
        assert (ROOT / script).exists(), script
