"""Speed benchmark: its arithmetic, its baselines, and that it runs; times are not tested."""

import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed import bare, busy, report, run, score_samples
from benchmarks.speed.stopwatch import Cost, interleave, quotients, timed
from benchmarks.tools import memory
from cmim_sklearn.objectives import cmim, mim
from tests.helpers import make_mixed


def test_a_ratio_is_the_median_of_ratios():
    ours = [Cost(1, 10), Cost(30, 20), Cost(4, 60)]
    theirs = [Cost(1, 5), Cost(10, 5), Cost(2, 20)]
    assert quotients(ours, theirs) == [1, 3, 2]
    found = run.row("training", run.Value("ours / theirs", quotients(ours, theirs), "ratio", 2))
    assert (found["value"], found["low"], found["high"]) == (2, 1, 3)
    assert (found["target"], found["met"]) == ("at most 2", True)
    assert run.row("", run.Value("", [2.1], "", 2))["met"] is False
    assert run.row("", run.Value("", [2.1], ""))["met"] == ""


def test_contestants_take_turns_after_a_warm_up():
    calls = []
    contestants = {name: lambda name=name: calls.append(name) for name in "ab"}
    costs = interleave(contestants, repeats=2)
    assert "".join(calls) == "ab" + "ba" + "ab"
    assert [len(own) for own in costs.values()] == [2, 2]


def test_a_cost_excludes_waiting_and_includes_subprocesses():
    waiting = timed(lambda: time.sleep(0.1))
    assert waiting.wall >= 0.1
    assert waiting.cpu < waiting.wall
    code = "import time\nwhile time.process_time() < 0.2: pass"
    assert timed(lambda: subprocess.run([sys.executable, "-c", code], check=True)).cpu >= 0.2


def test_memory_is_that_of_this_process():
    before = memory("VmRSS")
    held = np.ones(100_000_000 // 8)
    assert memory("VmRSS") - before > 90
    del held
    assert memory("VmHWM") >= before + 90


def test_the_bare_pass_gives_the_layers_that_transform_scales():
    X = run.numbers(100, 5)
    encoder = run.fitted(X, hidden_layer_sizes=(8, 7), n_components=3)
    out = np.full((100, 30), np.nan, np.float32)
    bare.bare_pass(encoder.net_.module, run.encoder_inputs(encoder, X), out)
    centre, scale = encoder._scales["layers"]
    np.testing.assert_allclose((out - centre) / scale, encoder.transform(X), atol=1e-4)


def test_the_bare_loop_trains_on_the_same_loss():
    encoder = run.CMIMEncoder(random_state=0, batch_size=50)
    table, x = run.encoded(encoder, run.numbers(200, 4))
    rows, model = torch.from_numpy(x), run.new_model(encoder, table)

    @torch.no_grad()
    def loss():
        noise = model.eval().draw_noise(rows, torch.Generator().manual_seed(0))
        return float(sum(cmim(model(rows, noise)).values()).mean())

    before = loss()
    bare.bare_loop(model, rows, encoder, 5)
    assert loss() < before - 0.5


def test_bare_products_are_all_matrix_products_of_a_step():
    """Except those of the contrastive term, which is not a layer."""
    encoder = run.CMIMEncoder(random_state=0, hidden_layer_sizes=(16, 8), n_components=3)
    table, x = run.encoded(encoder, run.numbers(40, 4))
    rows, model = torch.from_numpy(x), run.new_model(encoder, table).train()
    with FlopCounterMode(display=False) as step:
        sum(mim(model(rows, model.draw_noise(rows, None))).values()).mean().backward()
    with FlopCounterMode(display=False) as products:
        bare.bare_products(model, 40, 40, 1)
    assert products.get_total_flops() == step.get_total_flops() > 0


def test_the_quick_command_runs_every_measurement(tmp_path):
    run.main(["--quick", "--out", str(tmp_path)])
    frame = pd.read_csv(tmp_path / "speed.csv", keep_default_na=False)
    assert list(frame) == run.CELLS
    assert set(frame["measurement"]) == set(run.MEASUREMENTS)
    assert np.isfinite(frame[["value", "low", "high"]].astype(float)).all(axis=None)
    assert (frame["met"].isin(["True", "False"]) == (frame["target"] != "")).all()
    text = (tmp_path / "SPEED.md").read_text()
    assert "| sizes | toy |" in text
    assert all(f"| {setting} |" in text for setting in frame["setting"])


def test_the_stored_measurements_give_the_stored_tables(tmp_path):
    for name in ("speed.csv", "context.json"):
        (tmp_path / name).write_text((report.HERE / name).read_text())
    report.write_report(tmp_path)
    assert (tmp_path / "SPEED.md").read_text() == (report.HERE / "SPEED.md").read_text()


def test_busy_processes(tmp_path, capsys):
    busy.main(["--quick", "--out", str(tmp_path)])
    found = pd.read_csv(tmp_path / "busy.csv")
    assert found["busy processes"].max() == busy.joblib.cpu_count()
    assert found["x idle on one thread"][0] == 1
    assert (found["seconds"] > 0).all()
    assert capsys.readouterr().out.count("\n") == len(found) + 2


def test_the_quick_command_scores_and_imputes(tmp_path, capsys):
    make_mixed(150).rename(columns={"flag": "target"}).to_parquet(tmp_path / "mixed.parquet")
    score_samples.main(["--quick", "--data-dir", str(tmp_path), "--tables", "mixed"])
    header, _, scores, imputation = capsys.readouterr().out.splitlines()
    assert header == "| table | cpu, first | cpu | wall | error | mean score |"
    assert scores.startswith("| mixed | ")
    assert "-" not in scores.replace(" -", "")
    assert imputation.startswith("| impute, 20 columns | ")
    assert imputation.endswith("| - | - |")


def test_unknown_measurements_raise(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run.main(["--out", str(tmp_path), "--only", "looks"])
    assert "looks" in capsys.readouterr().err
