"""README: its Python blocks run in their order, and its set-up commands are as told."""

import re
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)


def test_python_blocks_run(monkeypatch, tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("pyarrow")
    pytest.importorskip("dask.dataframe")
    (tmp_path / "examples").symlink_to(ROOT / "examples")  # blocks write files, too
    monkeypatch.chdir(tmp_path)
    namespace = {}
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: matplotlib.pyplot.close("all"))
    for block in blocks("python"):
        with warnings.catch_warnings():
            exec(block, namespace)
    assert namespace["search"].best_params_.keys() == {"cmim__contrastive_weight"}
    assert list(namespace["back"].columns) == list(namespace["houses"].columns)
    assert namespace["z"].shape == (600, 2)
    assert len(namespace["new"]) == 1000
    assert namespace["new"].notna().all(axis=None)
    assert (namespace["coast"]["ocean_proximity"] == "NEAR OCEAN").all()
    assert namespace["full"].notna().all(axis=None)
    assert len(namespace["several"]) == 5
    some = namespace["table"][:9]
    assert namespace["again"].score(some) == namespace["model"].score(some)
    assert namespace["culprit"] in namespace["table"].columns
    assert namespace["encoder"].mutual_information(namespace["houses"], noise=0.3).estimate > 0
    wanted = namespace["encoder"].transform(namespace["houses"])
    assert abs(namespace["features"] - wanted).max() < 1e-4
    assert namespace["features_by_id"]["id"].tolist() == list(range(600))
    assert namespace["features_by_part"].npartitions == 3
    assert namespace["digits"][0].layer_ == "decoder.2"


def test_the_sketch_for_clusters_is_python():
    """A search on a cluster is run by the tests of clusters, from `examples`."""
    (block,) = blocks("py")
    compile(block, "README.md", "exec")


def test_set_up_is_two_commands_of_one_line():
    commands = [block.strip() for block in blocks("bash")]
    assert len(commands) == 2
    for command in commands:
        assert command.startswith("pip install")
        assert "\n" not in command
    assert "pytest" in commands[1]
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
    for script in re.findall(r"(?:examples|benchmarks|tests)/[\w/]+\.py", README):
        assert (ROOT / script).exists()
