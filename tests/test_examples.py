"""Examples: each states a finding, holds it, and stands beside a notebook of the same cells."""

import ast
import json
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
TOOLS = runpy.run_path(str(EXAMPLES / "notebooks.py"))
SCRIPTS = pytest.mark.parametrize("script", TOOLS["SCRIPTS"], ids=lambda path: path.stem)

# What must hold at the end of each, in the names that it has then.
FINDINGS = {
    "quickstart": """
assert accuracy["cMIM + LR"] > accuracy["raw columns + LR"] + 0.02
""",
    "plot_map": """
from sklearn.linear_model import LinearRegression, LogisticRegression
size = houses["households"].rank()
assert z.shape == (2000, 2)
assert LinearRegression().fit(z, size).score(z, size) > 0.5
by_place = LogisticRegression().fit(z, houses["ocean_proximity"])
most_common = houses["ocean_proximity"].value_counts(normalize=True).max()
assert by_place.score(z, houses["ocean_proximity"]) > most_common + 0.1
""",
    "plot_anomalies": """
auc = {name: roc_auc_score(is_odd, values) for name, values in oddness.items()}
assert auc["cMIM log-likelihood"] > auc["isolation forest"] + 0.08
assert np.mean(named == swapped[is_odd]) > 0.4
""",
    "plot_molecules": """
assert (scores.loc[["code (posterior mean)", "informative embedding"], "esol"] > 0.6).all()
assert (scores["lipophilicity"] > 0.2).all()
""",
    "plot_contrastive_weight": """
assert np.ptp(mean) < 0.02 < 0.78 < mean.min()
assert np.ptp(mean) < (accuracy.max(axis=1) - accuracy.min(axis=1)).min()
""",
    "plot_few_labels": """
houses, adults = (a["cMIM + linear"] - a["raw columns + linear"] for a in curves.values())
assert houses[20] < 0.01 < houses[300] < houses[1000]
assert adults.max() < 0.01
""",
    "plot_mixed_types": """
assert (accuracy["cMIM + linear"] > accuracy["by hand + linear"] - 0.02).all()
assert accuracy["cMIM + linear"][0] > 0.78
""",
    "plot_imputation": """
mean = errors.mean()
assert mean["cMIM"] < mean["IterativeImputer"] - 0.03
assert mean["cMIM"] < mean["KNNImputer"] + 0.02
assert right > common.mean() + 0.2
assert 0.84 < inside[asked].mean() < 0.94
""",
    "plot_synthetic": """
assert auc["real"] - 0.06 < auc["drawn"] < auc["real"]
assert apart["cMIM"] < 0.75 < 0.95 < apart["columns drawn alone"]
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
assert mean["skrub + cMIM"] > mean["cMIM alone"] - 0.01
assert mean["skrub + cMIM"] > mean["skrub alone"]
""",
}


def shipped(script):
    return json.loads(script.with_suffix(".ipynb").read_text(encoding="utf-8"))


def test_every_example_has_a_finding_to_hold_and_no_notebook_is_left_over():
    names = {script.stem for script in TOOLS["SCRIPTS"]}
    assert set(FINDINGS) == names == {path.stem for path in EXAMPLES.glob("*.ipynb")}
    assert all(name.startswith("plot_") for name in names - {"quickstart"})
    size = sum(path.stat().st_size for path in EXAMPLES.glob("*.ipynb"))
    assert size < 3e6


@SCRIPTS
def test_first_lines_state_what_was_found(script):
    title, line, empty, *finding = ast.get_docstring(ast.parse(script.read_text())).split("\n")
    assert line == "=" * len(title)
    assert not empty
    assert len(" ".join(finding).split()) > 20


@SCRIPTS
def test_a_notebook_has_the_cells_of_its_script_and_their_outputs(script):
    cells = shipped(script)["cells"]
    found = [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    assert found == TOOLS["cells"](script), f"run python examples/notebooks.py {script.stem}"
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    kinds = {output.get("name", output["output_type"]) for output in outputs}
    assert kinds <= {"stdout", "display_data", "execute_result"}  # no error, nothing on stderr
    drawn = any("image/png" in output.get("data", {}) for output in outputs)
    assert drawn == script.stem.startswith("plot_")


def test_cells_are_a_docstring_then_comments_and_code(tmp_path):
    script = tmp_path / "script.py"
    script.write_text('"""\nA\n=\n"""\n\nx = 1\n\n# %%\n# Text,\n# more.\n\ny = 2\n\n# no text\n')
    assert TOOLS["cells"](script) == [
        ("markdown", "A\n="),
        ("code", "x = 1"),
        ("markdown", "Text,\nmore."),
        ("code", "y = 2\n\n# no text"),
    ]


def test_what_openml_refuses_is_said_and_made_do_without(monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    from urllib.error import URLError

    def refuse(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setattr("sklearn.datasets.fetch_openml", refuse)
    monkeypatch.setattr("sys.argv", ["plot_few_labels.py", "--full"])
    monkeypatch.chdir(EXAMPLES)
    sources = [source for kind, source in TOOLS["cells"](EXAMPLES / "plot_few_labels.py")]
    namespace = {}
    exec(sources[1], namespace)
    exec(sources[3], namespace)
    assert len(namespace["adult"]) == len(namespace["income"]) == 4000
    assert "OpenML is out of reach" in capsys.readouterr().out


@pytest.mark.slow
@SCRIPTS
def test_a_notebook_runs_from_top_to_bottom_and_finds_what_it_says(script):
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    if script.stem == "plot_dirty_table":
        pytest.importorskip("skrub")
    nb = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    nb.cells.append(nbformat.v4.new_code_cell(FINDINGS[script.stem]))  # which asserts
    TOOLS["execute"](nb)
