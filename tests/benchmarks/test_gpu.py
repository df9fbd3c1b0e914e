"""Benchmark on a GPU: its quick command runs on a CPU."""

from benchmarks import gpu
from tests.helpers import make_mixed


def test_the_quick_command_runs_every_measurement(tmp_path, capfd):
    for name in gpu.TABLES:
        frame = make_mixed(400).drop(columns="flag").assign(target=lambda f: f["member"])
        frame.to_parquet(tmp_path / f"{name}.parquet")
    assert gpu.main(["--quick", "--device", "cpu", "--data-dir", str(tmp_path)]) == 0
    printed = capfd.readouterr().out
    for quantity in ("step, graph, 256 rows", "default fit", "score_samples", "50 steps"):
        assert quantity in printed
    assert "| a second fit is identical | True | True |" in printed
    assert "test_on_a_gpu" in printed
