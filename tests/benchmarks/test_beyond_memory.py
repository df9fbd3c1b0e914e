"""`benchmarks.beyond_memory`: it runs, on few rows."""

import pytest

pytest.importorskip("pyarrow")

from benchmarks.beyond_memory import make_files, report, run


@pytest.mark.slow
def test_it_measures_the_whole_and_a_part(tmp_path, capsys):
    make_files(tmp_path, 3000, 1000)
    parameters = {"max_iter": 1, "n_components": 2, "embedding": "mean", "random_state": 0}
    results = {name: run(name, tmp_path, parameters, 500) for name in ("memory", "part", "files")}
    assert [found["rows"] for found in results.values()] == [1000, 1000, 3000]
    assert results["memory"]["loss"] == pytest.approx(results["part"]["loss"], abs=3)
    report(results, 10**6)
    assert "times the peak of the whole file" in capsys.readouterr().out
