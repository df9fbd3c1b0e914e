"""Examples: each states a finding that holds, and has a notebook with the same cells."""

import ast
import json
import re
import runpy
from pathlib import Path

import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier

from cmim_sklearn._encoders.base import fit

EXAMPLES = Path(__file__).parents[2] / "examples"
TOOLS = runpy.run_path(str(EXAMPLES / "notebooks.py"))
SCRIPTS = pytest.mark.parametrize("script", TOOLS["SCRIPTS"], ids=lambda path: path.stem)

# Assertions on the variables at the end of each example.
FINDINGS = {
    "quickstart": """
assert accuracy["cMIM + LR"] > accuracy["raw columns + LR"] + 0.02
""",
    "plot_map": """
assert z.shape == (2000, 2)
assert r2 > 0.8
assert accuracy > majority + 0.1
""",
    "plot_anomalies": """
auc = {name: roc_auc_score(is_anomaly, values) for name, values in anomaly.items()}
assert auc["cMIM log-likelihood"] > auc["isolation forest"] + 0.08
assert auc["cMIM log-likelihood"] > auc["auto-encoder error"] - 0.02
assert auc["cMIM dependence"] > auc["cMIM log-likelihood"] - 0.02
assert by_column.loc["housing_median_age"].max() < 0.65
is_named, is_largest = named == swapped[is_anomaly], largest == swapped[is_anomaly]
assert np.mean(is_named) > max(0.45, np.mean(is_largest) + 0.03)
""",
    "plot_molecules": """
code, informative, untrained, counts = scores.to_numpy()
assert informative[0] > code[0] + 0.01
assert informative[1] > code[1] - 0.02
assert (untrained > informative - 0.01).all()
assert abs(counts[0] - informative[0]) < 0.03
assert counts[1] > max(code[1], informative[1], untrained[1]) + 0.08
""",
    "plot_contrastive_weight": """
assert np.ptp(mean) < 0.02 < 0.78 < mean.min()
assert np.ptp(mean) < table["std over folds"].min() / 2
""",
    "plot_few_labels": """
houses, adults = (a["cMIM + linear"] - a["raw columns + linear"] for a in curves.values())
assert houses[[20, 50]].max() < 0.01
assert 0.005 < houses[300] < houses[1000] - 0.01
assert adults.max() < 0.005
for accuracy in curves.values():
    ahead = accuracy["cMIM + linear"] - accuracy["raw columns + trees"]
    assert ahead[[20, 50, 100, 300]].min() > 0
    assert abs(ahead[1000]) < 0.015
""",
    "plot_label_first": """
leads = [auc["clusters of codes"] - auc["random rows"] for auc in curves.values()]
raw_leads = [auc["clusters of raw columns"] - auc["random rows"] for auc in curves.values()]
for lead, raw_lead in zip(leads, raw_leads, strict=True):
    assert lead[[20, 50]].min() > 0.005
    assert raw_lead[[20, 50]].min() > 0.002
assert np.mean([lead[[20, 50]].mean() for lead in leads]) > 0.02
assert abs(np.mean([lead[200] for lead in leads])) < 0.015
""",
    "plot_semi_supervised": """
noisy, houses = accuracy.to_numpy().T
assert noisy[2] > noisy[1] + 0.02
assert noisy[5] > noisy[4] + 0.01
assert noisy[3] > noisy[5] + 0.005
assert abs(houses[2] - houses[1]) < 0.02
assert houses[5] > houses[4] + 0.005
assert houses[0] < houses[2] - 0.01
assert houses[3] > houses[5] + 0.015
""",
    "plot_mixed_types": """
ahead = accuracy["cMIM + linear"] - accuracy["by hand + linear"]
assert ahead[0] > 0.005
assert ahead.min() > -0.005
assert ahead.mean() > 0.005
""",
    "plot_imputation": """
mean = errors.mean()
assert mean["cMIM"] < mean["IterativeImputer"] - 0.03
assert mean["cMIM"] < mean["KNNImputer"] + 0.02
assert accuracy > majority + 0.2
assert 0.84 < inside[asked].mean() < 0.94
""",
    "plot_synthetic": """
assert auc["real"] - 0.06 < auc["generated"] < auc["real"]
assert abs(separation["other real rows"] - 0.5) < 0.05
assert 0.55 < separation["rows of cMIM"] < 0.75 < 0.95 < separation["independent columns"]
assert len(some) == 500 and (some["income"] == ">50K").all()
""",
    "plot_n_components": """
assert nats[2] < nats[4] < nats[8] - 0.1
assert abs(nats[16] - nats[8]) < 0.3
assert np.ptp(r2["default features"]) < 0.04
assert r2["code"].is_monotonic_increasing
""",
    "plot_own_model": """
assert table.loc["informative", "all labels"] > table.loc["code", "all labels"] + 0.02
assert abs(table.loc["informative"] - table.loc["random decoder"]).max() < 0.03
""",
    "plot_dirty_table": """
mean = {name: values.mean() for name, values in accuracy.items()}
assert mean["cMIM alone, clean table"] > mean["cMIM alone"] + 0.01
assert mean["skrub + cMIM"] > mean["cMIM alone"] + 0.005
assert mean["skrub + cMIM"] > mean["skrub alone"] + 0.01
""",
}


def notebook_of(script):
    return json.loads(script.with_suffix(".ipynb").read_text(encoding="utf-8"))


def test_every_example_has_a_finding_and_every_notebook_a_script():
    names = {script.stem for script in TOOLS["SCRIPTS"]}
    assert set(FINDINGS) == names == {path.stem for path in EXAMPLES.glob("*.ipynb")}
    assert all(name.startswith("plot_") for name in names - {"quickstart"})
    size = sum(path.stat().st_size for path in EXAMPLES.glob("*.ipynb"))
    assert size < 3e6


@SCRIPTS
def test_docstring_has_a_title_and_a_finding(script):
    title, line, empty, *finding = ast.get_docstring(ast.parse(script.read_text())).split("\n")
    assert line == "=" * len(title)
    assert not empty
    assert finding[0].startswith("This example shows how to ")
    assert quoted(" ".join(finding)) or "%" in " ".join(finding)


@SCRIPTS
def test_notebook_has_the_cells_of_its_script_and_their_outputs(script):
    cells = notebook_of(script)["cells"]
    found = [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    assert found == TOOLS["cells"](script), f"run python examples/notebooks.py {script.stem}"
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    kinds = {output.get("name", output["output_type"]) for output in outputs}
    assert kinds <= {"stdout", "display_data", "execute_result"}  # no error, nothing on stderr
    assert any("image/png" in output.get("data", {}) for output in outputs)


def quoted(text):
    """Decimal numbers and percentages of a text as pairs of value and rounding error."""
    found = []
    for whole, decimals, percent in re.findall(r"(\d+)(?:\.(\d+))?( ?%)?", text):
        if decimals or percent:
            unit = 0.01 if percent else 1.0
            value = float(f"{whole}.{decimals or 0}") * unit
            found.append((value, 0.5 * 10.0 ** -len(decimals) * unit))
    return found


def test_quoted_finds_decimals_and_percentages():
    text = "At 8 of 1,128 parts 63.5 % and 0.83, 52% in Python 3."
    found = [(0.635, 0.0005), (0.83, 0.005), (0.52, 0.005)]
    assert quoted(text) == [pytest.approx(pair) for pair in found]


@SCRIPTS
def test_docstring_quotes_numbers_that_the_notebook_printed(script):
    """Signs are ignored, because a text may put them into words."""
    outputs = [o for cell in notebook_of(script)["cells"] for o in cell.get("outputs", [])]
    stdout = "".join("".join(o["text"]) for o in outputs if o.get("name") == "stdout")
    printed = [value for value, _ in quoted(stdout)]
    for value, rounding in quoted(ast.get_docstring(ast.parse(script.read_text()))):
        nearest = min(printed, key=lambda other: abs(other - value), default=float("nan"))
        assert abs(nearest - value) <= rounding + 1e-9, f"{value:g} is not printed"


def test_cells_of_a_script_are_its_docstring_comments_and_code(tmp_path):
    script = tmp_path / "script.py"
    script.write_text('"""\nA\n=\n"""\n\nx = 1\n\n# %%\n# Text,\n# more.\n\ny = 2\n\n# no text\n')
    assert TOOLS["cells"](script) == [
        ("markdown", "A\n="),
        ("code", "x = 1"),
        ("markdown", "Text,\nmore."),
        ("code", "y = 2\n\n# no text"),
    ]


def test_quickstart_reports_progress_in_a_few_lines(monkeypatch, capsys):
    """Not in a notebook, whose cells have no `__file__`."""
    pytest.importorskip("matplotlib").use("agg")
    monkeypatch.setattr(fit, "n_epochs", lambda *args, **kwargs: 30)
    read_csv = pd.read_csv
    monkeypatch.setattr(pd, "read_csv", lambda path: read_csv(path)[:300])
    monkeypatch.setattr(
        "sklearn.linear_model.LogisticRegression", lambda max_iter: DummyClassifier()
    )
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    runpy.run_path(str(EXAMPLES / "quickstart.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    progress = [line for line in lines if line.startswith("[CMIMEncoder] ")]
    assert [line.split()[1].rstrip(",") for line in progress[:2]] == ["1/30", "3/30"]
    assert len(progress) == 11
    assert len(lines) < 25


def test_few_labels_uses_the_shipped_table_without_openml(monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    from urllib.error import URLError

    def fail(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fail)
    monkeypatch.setattr("sys.argv", ["plot_few_labels.py", "--full"])
    monkeypatch.chdir(EXAMPLES)
    sources = [source for kind, source in TOOLS["cells"](EXAMPLES / "plot_few_labels.py")]
    namespace = {}
    exec(sources[1], namespace)
    exec(sources[3], namespace)
    assert len(namespace["adult"]) == len(namespace["income"]) == 4000
    assert "OpenML is not reachable" in capsys.readouterr().out


def test_text_option_keeps_the_outputs_of_unchanged_code():
    v4 = pytest.importorskip("nbformat").v4
    old = v4.new_notebook(cells=[v4.new_markdown_cell("Old."), v4.new_code_cell("x = 1  # old")])
    old.cells[1].update(outputs=[v4.new_output("stream", text="1")], execution_count=1)
    new = v4.new_notebook(cells=[v4.new_markdown_cell("New."), v4.new_code_cell("x = 1")])
    kept = TOOLS["with_outputs_of"](new, old)
    assert [cell.source for cell in kept.cells] == ["New.", "x = 1"]
    assert (kept.cells[1].outputs, kept.cells[1].execution_count) == (old.cells[1].outputs, 1)
    new.cells[1].source = "x = 2"
    with pytest.raises(ValueError, match="code has changed"):
        TOOLS["with_outputs_of"](new, old)


@pytest.mark.slow
@SCRIPTS
def test_notebook_runs_and_its_finding_holds(script):
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    if script.stem == "plot_dirty_table":
        pytest.importorskip("skrub")
    nb = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    nb.cells.append(nbformat.v4.new_code_cell(FINDINGS[script.stem]))  # assertions
    TOOLS["execute"](nb)
