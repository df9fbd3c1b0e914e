"""Code in README and the guide: blocks of Python run in order, commands and links are valid."""

import contextlib
import io
import math
import re
import warnings
from pathlib import Path

import joblib
import pytest

from cmim_sklearn._encoders.base import fit, generative, scores

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
GENERATED = ROOT / "docs" / "gallery"
PAGES = [
    README,
    ROOT / "CONTRIBUTING.md",
    *sorted(p for p in (ROOT / "docs").rglob("*.md") if GENERATED not in p.parents),
]
LIBRARIES = ("dask.dataframe", "matplotlib", "onnxruntime", "pyarrow", "skl2onnx")
DECIMAL = re.compile(r"\d+\.\d+")


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S)


def blocks_with_output(page):
    """Blocks of Python, each with the block of text directly below it, or an empty string."""
    pattern = r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?"
    return re.findall(pattern, page.read_text(encoding="utf-8"), flags=re.S)


def check_output(expected, printed, tolerance):
    """Compare words and whole numbers exactly, decimal numbers up to a tolerance."""
    assert DECIMAL.sub("#", printed) == DECIMAL.sub("#", expected)
    for found, wanted in zip(DECIMAL.findall(printed), DECIMAL.findall(expected), strict=True):
        assert float(found) == pytest.approx(float(wanted), abs=tolerance)


def test_check_output_compares_words_and_decimals():
    check_output("accuracy 0.86 of 3\n", "accuracy 0.85 of 3\n", 0.02)
    for printed in ("accuracy 0.82 of 3\n", "accuracy 0.86 of 4\n", "score 0.86 of 3\n"):
        with pytest.raises(AssertionError):
            check_output("accuracy 0.86 of 3\n", printed, 0.02)


def check_readme(names):
    assert list(names["rows"].columns) == list(names["X_train"].columns)
    assert len(names["new"]) == 1000
    assert (names["inland"]["ocean_proximity"] == "INLAND").all()
    assert names["full"].notna().all(axis=None)
    assert names["scores"].shape == (1500,)


def check_generation(names):
    assert names["new"].notna().all(axis=None)
    assert (names["dear_coast"]["ocean_proximity"] == "NEAR OCEAN").all()
    assert names["pairs"]["is_dear"].tolist() == [True, True, False, False]
    assert (names["pairs"]["households"][:2] == 300).all()
    assert names["complete"].notna().all(axis=None)
    assert len(names["several"]) == 5
    assert names["culprit"] in names["houses"].columns


def check_out_of_core(names):
    assert names["features"]["id"].tolist() == list(range(600))
    assert names["features_by_part"].npartitions == 3


CHECKS = {  # of values that the blocks of a page leave behind; names is their namespace
    "README": check_readme,
    "embeddings": lambda names: len(names["similar"]) == 4,
    "generation": check_generation,
    "labels": lambda names: names["probability"].shape == (600,),
    "long_fits": lambda names: names["stream"].n_iter_ == 3,
    "out_of_core": check_out_of_core,
    "saving": lambda names: names["copy"].n_features_in_ == 10,
    "tuning": lambda names: names["search"].best_params_.keys() == {"cmim__contrastive_weight"},
}


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if blocks(page, "python")],
    # pytest-xdist groups tests by the part of their name before the last colons: pages run apart.
    ids=lambda page: f"{page.stem}::code",
)
@pytest.mark.parametrize("is_short", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_python_blocks_run(page, is_short, request, monkeypatch, tmp_path):
    """Blocks of a page share one namespace. Short: fits of 1 epoch."""
    for library in LIBRARIES:
        pytest.importorskip(library)
    import matplotlib

    matplotlib.use("agg")
    if is_short:
        monkeypatch.setattr(fit, "n_epochs", lambda *args, **kwargs: 1)
        monkeypatch.setattr(fit, "SUMMARY_ROWS", 300)
        monkeypatch.setattr(generative, "GENERATOR_ROWS", 300)
        monkeypatch.setattr(scores, "USUAL_ROWS", 5)
        request.getfixturevalue("short_calibration")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)  # blocks write files
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: matplotlib.pyplot.close("all"))
    namespace = {}
    for block, expected in blocks_with_output(page):
        printed = io.StringIO()
        # Threads, because new processes would import everything, and would train for longer.
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(printed),
            joblib.parallel_config("threading"),
        ):
            exec(block, namespace)
        if expected:
            check_output(expected, printed.getvalue(), math.inf if is_short else 0.03)
    assert CHECKS.get(page.stem, lambda names: True)(namespace) in (True, None)


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


def anchors(page):
    """Anchors of the headings of a page, as GitHub and the site name them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.M)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_links_and_scripts_exist(page):
    text = page.read_text(encoding="utf-8")
    markdown = r"\]\((?!https?:)([^)#]*)#?([^)]*)\)"
    for link, anchor in re.findall(markdown, text):
        assert (page.parent / link).exists(), link
        assert not anchor or anchor in anchors(page.parent / link if link else page), anchor
    for link in re.findall(r"""(?:src|srcset)="([^"]+)\"""", text):
        assert (page.parent / link).exists(), link
    for script in re.findall(r"(?:examples|benchmarks|tests)/[\w/]+\.py", text):
        assert (ROOT / script).exists(), script
    for module in re.findall(r"python -m ((?:benchmarks|tests)[\w.]*)", text):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module
