"""Speed benchmark: its arithmetic, its verdicts, and that it runs; times are not tested."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import bare, speed, speed_report, stopwatch
from benchmarks.speed import MEASUREMENTS, QUICK, Measurement, Plan, Target, measured, median
from benchmarks.stopwatch import Cost, exponent, interleave, quotients, timed
from cmim_sklearn.objectives import cmim, mim
from tests.helpers import make_mixed

ROOT = Path(__file__).parents[2]
TOY = Plan(**QUICK)
ABOUT = {"command": "it", "toy": False, "load": 0.1, "machine": {"threads": 1}}


@pytest.fixture
def dummy(monkeypatch):
    """Replace all measurements by dummies."""

    def put(function, targets):
        monkeypatch.setattr(speed, "MEASUREMENTS", {"dummy": Measurement(function, targets)})

    return put


# -- arithmetic ------------------------------------------------------------------------------------


@pytest.mark.parametrize("power", [0, 0.5, 1, 2])
def test_the_exponent_of_a_power_law_is_its_power(power):
    sizes = [3, 10, 200, 5000]
    values = [0.07 * n**power for n in sizes]
    assert exponent(sizes, values) == pytest.approx(power, abs=1e-12)


def test_a_ratio_is_the_median_of_ratios():
    ours = [Cost(1, 10), Cost(30, 20), Cost(4, 60)]
    theirs = [Cost(1, 5), Cost(10, 5), Cost(2, 20)]
    assert quotients(ours, theirs) == [1, 3, 2]
    assert quotients(ours, theirs, "wall") == [2, 4, 3]
    value = median("ours / theirs", quotients(ours, theirs), "ratio")
    assert (value.value, value.low, value.high) == (2, 1, 3)


def test_contestants_take_turns_after_a_warm_up():
    calls = []
    contestants = {name: lambda name=name: calls.append(name) for name in "ab"}
    costs = interleave(contestants, repeats=2)
    assert "".join(calls) == "ab" + "ab" + "ba"
    assert [len(own) for own in costs.values()] == [2, 2]


def test_a_cost_excludes_waiting():
    def work():
        end = time.process_time() + 0.05
        while time.process_time() < end:
            pass

    assert timed(work).cpu >= 0.05
    waiting = timed(lambda: time.sleep(0.1))
    assert waiting.wall >= 0.1
    assert waiting.cpu < waiting.wall


def test_a_cost_includes_subprocesses_and_accepts_a_measured_cost():
    code = "import time\nwhile time.process_time() < 0.2: pass"
    assert timed(lambda: subprocess.run([sys.executable, "-c", code], check=True)).cpu >= 0.2
    assert timed(lambda: Cost(3, 4)) == Cost(3, 4)


def test_allocated_memory_is_the_peak():
    assert 8e6 <= stopwatch.allocated(lambda: np.ones(1_000_000).sum()) < 9e6


# -- verdicts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "value", "met"),
    [
        (Target(1.1), 1.1, True),
        (Target(1.1), 1.2, False),
        (Target(3, at_least=True), 3.0, True),
        (Target(3, at_least=True), 2.9, False),
        (Target(1.1), np.nan, None),
        (None, 1.0, None),
    ],
)
def test_targets_are_met_or_missed(target, value, met):
    assert speed_report.judged("x", speed.single("y", value, "s"), target).met is met


def test_a_missed_target_is_reported(dummy):
    dummy(
        lambda plan: [median("slow", [4, 5, 9], "ratio"), median("quick", [1], "ratio")],
        {"slow": Target(2), "quick": Target(2)},
    )
    rows = measured("dummy", TOY)
    assert [row.met for row in rows] == [False, True]
    text = speed_report.report(rows, ABOUT)
    assert "1 of 2 targets hold, 1 are missed and 0 were not measured." in text
    assert "Missed: dummy, slow: 5 ratio, where at most 2 is aimed at." in text
    assert "| dummy | slow | 5 ratio | 4 to 9 | at most 2 | **missed** |" in text
    assert speed_report.line(rows[0]).endswith("at most 2: missed")


def test_a_busy_machine_is_reported():
    assert speed_report.BUSY not in speed_report.report([], ABOUT)
    assert speed_report.BUSY in speed_report.report([], ABOUT | {"load": 2.0})


def test_a_missing_measurement_is_reported_with_the_reason(dummy):
    dummy(lambda plan: [speed.skipped("far", "no car")], {"far": Target(1), "gone": Target(1)})
    rows = measured("dummy", TOY)
    assert [row.met for row in rows] == [None, None]
    text = speed_report.report(rows, ABOUT)
    assert "0 of 2 targets hold, 0 are missed and 2 were not measured." in text
    assert "- dummy: far (skipped: no car)." in text
    assert "- dummy: gone (no value came)." in text


def test_a_failure_keeps_earlier_measurements(dummy, capsys, tmp_path, monkeypatch):
    def fails(plan):
        yield speed.single("before", 1.0, "s")
        raise RuntimeError("out of ink")

    dummy(fails, {"before": Target(2), "after": Target(1)})
    rows = measured("dummy", TOY)
    assert [(row.setting, row.met) for row in rows] == [
        ("before", True),
        ("all that follows", None),
        ("after", None),
    ]
    assert rows[-1].note == "failed: RuntimeError: out of ink"
    monkeypatch.setattr(speed, "pin", lambda threads: None)
    with pytest.raises(SystemExit, match="failed"):
        speed.main(["--out", str(tmp_path), "--quick"])
    assert (tmp_path / "speed.csv").exists()
    assert (tmp_path / "SPEED.md").exists()
    assert "out of ink" in capsys.readouterr().err


# -- contestants -----------------------------------------------------------------------------------


def test_the_bare_pass_gives_the_layers_that_transform_scales():
    X = speed.numbers(100, 5)
    encoder = speed.fitted(X, hidden_layer_sizes=(8, 7), n_components=3)
    out = np.full((100, 30), np.nan, np.float32)
    bare.bare_pass(encoder.net_.module, speed.encoder_inputs(encoder, X), out)
    centre, scale = encoder._scales["layers"]
    np.testing.assert_allclose((out - centre) / scale, encoder.transform(X), atol=1e-4)


@pytest.mark.parametrize("contestant", ["bare loop", "stock skorch"])
def test_rivals_train_on_the_same_loss(contestant):
    encoder = speed.CMIMEncoder(random_state=0, batch_size=50)
    table, x = speed.encoded(encoder, speed.numbers(200, 4))
    rows, model = torch.from_numpy(x), speed.new_model(encoder, table)

    @torch.no_grad()
    def loss():
        noise = model.eval().draw_noise(rows, torch.Generator().manual_seed(0))
        return float(sum(cmim(model(rows, noise)).values()).mean())

    before = loss()
    if contestant == "bare loop":
        bare.bare_loop(model, rows, encoder, 5)
    else:
        bare.stock_net(model, encoder, 5).partial_fit(rows, None)
    assert loss() < before - 0.5


def test_bare_products_are_all_matrix_products_of_a_step():
    """Except those of the contrastive term, which is not a layer."""
    encoder = speed.CMIMEncoder(random_state=0, hidden_layer_sizes=(16, 8), n_components=3)
    table, x = speed.encoded(encoder, speed.numbers(40, 4))
    rows, model = torch.from_numpy(x), speed.new_model(encoder, table).train()
    with FlopCounterMode(display=False) as step:
        sum(mim(model(rows, model.draw_noise(rows, None))).values()).mean().backward()
    with FlopCounterMode(display=False) as products:
        bare.bare_products(model, 40, 40, 1)
    assert products.get_total_flops() == step.get_total_flops() > 0


def test_mixed_frames_have_missing_values_and_every_level():
    frame = speed.mixed_frame(2000)
    assert frame["few"].isna().any()
    assert frame["holes"].isna().any()
    assert frame.drop(columns=["few", "holes"]).notna().all(axis=None)
    assert frame["many"].nunique() == frame["word"].nunique() == 50


# -- whole runs ------------------------------------------------------------------------------------


def check(rows, name):
    """Check that rows have names, and finite numbers or a reason."""
    assert rows
    settings = [row.setting for row in rows]
    assert len(set(settings)) == len(settings)
    assert set(MEASUREMENTS[name].targets) <= set(settings)
    for row in rows:
        assert row.measurement == name
        assert row.note.startswith("skipped") or np.isfinite([row.value, row.low, row.high]).all()


def adult_folder(folder):
    """Folder with a small table instead of adult."""
    folder.mkdir(exist_ok=True)
    frame = make_mixed().assign(target="x")
    frame["city"] = frame["city"].astype("category")
    frame.to_parquet(folder / "adult.parquet")
    return folder


@pytest.mark.parametrize(
    "name",
    [
        "latency",
        "encoding",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("training", "growth", "files")),
    ],
)
def test_a_measurement_gives_named_finite_values(name, tmp_path):
    rows = measured(name, replace(TOY, data_dir=adult_folder(tmp_path)))
    check(rows, name)
    why = {row.note for row in rows if np.isnan(row.value)}
    assert why <= {"skipped: needs --env-dir", "skipped: too long for --quick"}


@pytest.mark.slow
def test_a_rival_of_pythae_measures_itself():
    pytest.importorskip("pythae")
    encoder = speed.CMIMEncoder(hidden_layer_sizes=(8,), n_components=2)
    x = speed.numbers(100, 3).astype(np.float32)
    cost = bare.pythae_epochs(sys.executable, x, encoder, batch_size=20, n_epochs=2, threads=1)
    assert cost.cpu > 0
    assert cost.wall > 0


@pytest.mark.slow
def test_the_quick_command_runs_every_measurement(tmp_path):
    command = [sys.executable, "-m", "benchmarks.speed", "--quick", "--out", str(tmp_path / "out")]
    command += ["--data-dir", str(adult_folder(tmp_path / "data"))]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    frame = pd.read_csv(tmp_path / "out" / "speed.csv", keep_default_na=False)
    assert list(frame)[:6] == ["measurement", "setting", "value", "unit", "target", "met"]
    assert set(frame["measurement"]) == set(MEASUREMENTS)
    lacking = frame["value"] == ""
    assert frame.loc[lacking, "note"].str.startswith("skipped").all()
    assert np.isfinite(frame.loc[~lacking, "value"].astype(float)).all()
    has_target = frame["target"] != ""
    assert set(frame.loc[has_target & ~lacking, "met"]) <= {"True", "False"}
    assert set(frame.loc[~has_target | lacking, "met"]) == {""}
    text = (tmp_path / "out" / "SPEED.md").read_text()
    assert speed_report.TOY in text
    assert "- threads: 1." in text
    for setting in frame["setting"]:
        assert setting in text
        assert setting in run.stdout


def test_unknown_measurements_raise(tmp_path, capsys):
    with pytest.raises(SystemExit):
        speed.main(["--out", str(tmp_path), "--only", "looks"])
    assert "looks" in capsys.readouterr().err
