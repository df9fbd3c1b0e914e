"""Runs of the quality benchmark: each piece is fitted once, stored and resumed."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits, load_wine

from benchmarks import plan as planned
from benchmarks import rivals
from benchmarks.arms import COSTS, FAMILY, OTHERS
from benchmarks.measure import ask, measure, n_epochs
from benchmarks.plan import (
    ABLATIONS,
    LENGTH,
    TARGETS,
    TREES,
    Experiment,
    Piece,
    experiments,
    pieces,
)
from benchmarks.rivals import RIVALS
from benchmarks.run import context, gather, quick, run
from cmim_sklearn import CMIMEncoder

TABLES = tuple(sorted({*planned.ABLATION_TABLES, *planned.CHOSEN_ON, *TARGETS}))
SMALL = {"a": Experiment("a", {("cMIM", ""): {}, ("PCA", ""): {}}, ("one", "two"))}


def piece(**changes):
    made = Piece(
        "wine", 0, "cMIM", {"n_updates": 10}, 120, ("layers", "mean"), ("linear",), ("all",)
    )
    return made._replace(**changes)


def test_every_arm_of_the_plan_is_known_and_takes_its_parameters():
    arms = {*FAMILY, *OTHERS, *RIVALS, *TREES, "raw"}
    for one in pieces(experiments(TABLES), [0]):
        assert one.arm in arms
        assert set(one.params) <= {*CMIMEncoder().get_params(), *LENGTH}
        assert one.table in TABLES


def test_every_ablation_includes_the_default_which_is_fitted_once():
    defaults = CMIMEncoder().get_params()
    for name, values in ABLATIONS.items():
        assert defaults[name] in values
    found = pieces(experiments(TABLES), [0], list(ABLATIONS))
    at_default = [one for one in found if not one.params]
    assert sorted(one.table for one in at_default) == sorted(planned.ABLATION_TABLES)
    for one in at_default:
        assert {experiment for experiment, _ in one.labels} == set(ABLATIONS)
        assert ("n_components", str(defaults["n_components"])) in one.labels
    assert len(found) == 5 * (1 + sum(len(values) - 1 for values in ABLATIONS.values()))


def test_keys_depend_on_everything_that_changes_scores(monkeypatch):
    keys = [
        made.key
        for made in (
            piece(),
            piece(seed=1),
            piece(table="iris"),
            piece(arm="MIM"),
            piece(params={}),
            piece(max_rows=121),
            piece(embeddings=("mean",)),
            piece(regimes=("few",)),
        )
    ]
    assert len(set(keys)) == len(keys)
    assert piece(labels=(("a", ""),)).key == piece().key
    before = piece().key
    monkeypatch.setattr(CMIMEncoder.__init__, "__kwdefaults__", {
        **CMIMEncoder.__init__.__kwdefaults__, "temperature": 0.7
    })  # fmt: skip
    assert piece().key != before


def test_seeds_run_one_after_the_other():
    seeds = [one.seed for one in pieces(experiments(TABLES), [0, 1])]
    assert seeds == sorted(seeds)
    assert seeds.count(0) == seeds.count(1)


@pytest.mark.parametrize(
    ("params", "epochs"),
    [
        ({}, 400),
        ({"n_updates": 100}, 100),
        ({"n_updates": 100, "batch_size": 100}, 50),
        ({"n_updates": 1, "batch_size": 10}, 1),
        ({"times": 10}, 4000),
        ({"n_updates": 100, "times": 10}, 1000),
    ],
)
def test_length_of_a_fit(params, epochs):
    assert n_epochs(piece(params=params), np.zeros((200, 3))) == epochs


def fake(made):
    """Replacement of `measure` that fails for one arm, and kills the process for another."""
    if made.arm == "PCA" and made.table == "two":
        raise ValueError("no such luck")
    if made.arm == "raw":
        os._exit(9)
    scores = {"embedding": "mean", "probe": "linear", "regime": "all", "score": made.seed + 0.5}
    costs = dict.fromkeys([*COSTS, "loss", "contrast"], 1.0)
    return [scores | costs | {"seed": made.seed, "n_labels": 3, "n_features": 2, "n_rows": 4}]


def never(made):
    raise AssertionError("nothing was left to do")


def test_scores_are_kept_failures_reported_and_runs_resumed(tmp_path):
    todo = pieces(SMALL, [0, 1])
    failed = run(todo, tmp_path, 2, fake)
    assert sorted(failed) == ["PCA on two, seed 0", "PCA on two, seed 1"]
    texts = [path.read_text() for path in (tmp_path / "failed").glob("*.txt")]
    assert len(texts) == 2
    assert all("no such luck" in text and "table='two'" in text for text in texts)
    results = gather(SMALL, tmp_path)
    assert len(results) == 6
    assert set(results["seed"]) == {0, 1}
    assert (results["score"] == results["seed"] + 0.5).all()
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "results.parquet"), results)
    # From the file only, as in a fresh clone.
    shutil.rmtree(tmp_path / "scores")
    done = [one for one in todo if one.table == "one"]
    assert run(done, tmp_path, 1, never) == []
    pd.testing.assert_frame_equal(gather(SMALL, tmp_path), results)


def lost_once(folder, made):
    """Replacement of `measure` that fails once as if the process server had been lost."""
    mark = folder / f"{made.key}.mark"
    if not mark.exists():
        mark.touch()
        os._exit(255)
    return fake(made)


def test_a_piece_restarts_if_the_process_server_was_lost(tmp_path):
    plan = {"a": SMALL["a"]._replace(arms={("cMIM", ""): {}})}
    assert run(pieces(plan, [0]), tmp_path, 2, partial(lost_once, tmp_path)) == []
    assert len(list(tmp_path.glob("*.mark"))) == len(gather(plan, tmp_path)) == 2


def test_a_process_that_dies_stops_no_other(tmp_path):
    plan = {"a": SMALL["a"]._replace(arms={("raw", ""): {}, ("cMIM", ""): {}})}
    failed = run(pieces(plan, [0]), tmp_path, 2, fake)
    assert sorted(failed) == ["raw on one, seed 0", "raw on two, seed 0"]
    (text, _) = [path.read_text() for path in (tmp_path / "failed").glob("*.txt")]
    assert "ended with code 9" in text
    assert gather(plan, tmp_path)["arm"].tolist() == ["cMIM", "cMIM"]


def test_scores_that_are_no_longer_planned_are_kept_but_not_reported(tmp_path):
    run(pieces(SMALL, [0]), tmp_path, 1, fake)
    whole = gather(SMALL, tmp_path)
    other = {"b": SMALL["a"]._replace(section="b", arms={("cMIM", "here"): {}}, tables=("one",))}
    results = gather(other, tmp_path)
    assert results[["experiment", "arm", "setting"]].to_numpy().tolist() == [["b", "cMIM", "here"]]
    pd.testing.assert_frame_equal(gather(SMALL, tmp_path), whole)


def test_a_piece_under_two_labels_has_its_scores_under_both(tmp_path):
    both = {
        name: SMALL["a"]._replace(section=name, arms={("cMIM", "x"): {}}, tables=("one",))
        for name in ("a", "b")
    }
    todo = pieces(both, [0])
    assert len(todo) == 1
    run(todo, tmp_path, 1, fake)
    for _ in range(2):
        assert gather(both, tmp_path)["experiment"].tolist() == ["a", "b"]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    X, y = load_wine(return_X_y=True, as_frame=True)
    X["cut"] = pd.cut(X.pop("alcohol"), 4, labels=list("abcd"))
    X.loc[::7, ["hue", "cut"]] = np.nan
    X.assign(target=y.map(lambda k: f"kind {k}").astype("category")).to_parquet(
        folder / "wine.parquet"
    )
    return folder


@pytest.mark.parametrize("arm", ["cMIM", "InfoNCE", "raw", *OTHERS, *TREES])
def test_measured_scores_are_finite_and_complete(data_dir, arm):
    params = {"n_updates": 10} if arm in FAMILY else {}
    one = piece(arm=arm, params=params, regimes=("all", "few"))
    rows = pd.DataFrame(measure(data_dir, None, 1, one))
    json.dumps(rows.to_dict("records"))
    expected = ["layers", "mean"] if arm in FAMILY else [""]
    linear = rows[rows["probe"] == "linear"]
    assert linear[["embedding", "regime"]].to_numpy().tolist() == [
        [embedding, regime] for regime in ("all", "few") for embedding in expected
    ]
    assert rows["score"].between(0, 1).all()
    assert (linear.loc[linear["regime"] == "few", "n_labels"] == 60).all()
    assert (linear.loc[linear["regime"] == "all", "n_labels"] == 84).all()
    assert (rows["probe"] == "reconstruction").sum() == (arm == "cMIM")
    assert rows[list(COSTS)].notna().all(axis=None)


def test_the_encoder_does_not_see_target_columns(data_dir, monkeypatch):
    monkeypatch.setitem(TARGETS, "wine", ("cut", "hue"))
    one = piece(arm="raw", params={}, regimes=("targets",))
    rows = pd.DataFrame(measure(data_dir, None, 1, one))
    assert rows["regime"].tolist() == ["target:target", "target:cut", "target:hue"]
    assert (rows["n_features"] == 11).all()
    known = rows.set_index("regime")["n_labels"]
    # Rows with a missing target are dropped for that target.
    assert known["target:target"] == 84
    assert known["target:cut"] < 80
    assert known["target:hue"] < 80
    assert one.key != piece(arm="raw", params={}, regimes=("targets",), table="adult").key


def test_features_of_rivals_count_at_the_better_of_two_scales():
    rng = np.random.RandomState(0)
    X = rng.randn(300, 2)
    y = np.where(X[:, 0] > 0, "a", "b")
    X[:, 0] *= 1e-4  # too small for a penalised model without scaling
    data = "linear", X[:200], y[:200], X[200:], y[200:], False
    theirs, _ = ask(piece(arm="PCA"), *data)
    ours, _ = ask(piece(arm="cMIM"), *data)
    assert theirs > 0.95
    assert ours < 0.7


def test_rivals_get_the_same_number_of_threads(data_dir, monkeypatch):
    asked = {}

    def embed(name, X_train, X_test, raw_train, raw_test, seed, env_dir, threads):
        asked.update(threads=threads, env_dir=env_dir, rows=(len(raw_train), len(raw_test)))
        return rivals.Embedded(raw_train[:, :3], raw_test[:, :3], 1.0, 2.0, 3.0, 4)

    monkeypatch.setattr(rivals, "embed", embed)
    rows = measure(data_dir, "there", 7, piece(arm="UMAP", params={}))
    assert asked == {"threads": 7, "env_dir": "there", "rows": (84, 36)}
    assert [row["n_features"] for row in rows] == [3]
    assert {name: rows[0][name] for name in COSTS} == {
        "fit_s": 1.0, "transform_rows_s": 2.0, "peak_mb": 3.0, "bytes": 4
    }  # fmt: skip
    torch.set_num_threads(1)


def test_the_report_knows_tables_for_selection_and_confirmation():
    args = argparse.Namespace(threads=1, jobs=2)
    about = context(TABLES, args)
    assert set(about["chosen_on"]) == set(planned.CHOSEN_ON)
    assert sorted(about["chosen_on"] + about["confirmed_on"]) == list(TABLES)
    for name, values in ABLATIONS.items():
        assert about["defaults"][name] in map(planned.shown, values)


def test_the_quick_plan_is_a_part_of_the_plan():
    plan = quick(experiments(TABLES))
    found = pieces(plan, [0])
    assert len({one.table for one in found}) <= 6
    assert all(one.params["n_updates"] == 100 for one in found if one.arm in FAMILY)
    assert len(found) < 200


@pytest.mark.slow
def test_the_quick_run_ends_in_a_report(tmp_path):
    root = Path(__file__).parents[2]
    houses = pd.read_csv(root / "examples" / "data" / "california_housing.csv")
    houses = houses.rename(columns={"median_house_value": "target"})
    tables = {"california_housing": houses.astype({"ocean_proximity": "category"})}
    for name, load in (("wine", load_wine), ("digits", load_digits)):
        X, y = load(return_X_y=True, as_frame=True)
        tables[name] = X.assign(target=y.astype(str).astype("category"))
    for name, table in tables.items():
        table.to_parquet(tmp_path / f"{name}.parquet")
    command = [sys.executable, "-m", "benchmarks.run", "--quick", "--without-rivals"]
    command += ["--data-dir", str(tmp_path), "--out", str(tmp_path), "--jobs", "2"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    results = pd.read_parquet(tmp_path / "quick" / "results.parquet")
    assert results["score"].notna().all()
    assert set(results["table"]) == set(tables)
    assert set(results["experiment"]) == {
        "rivals", "family", "temperature", "batch", "targets", "time"
    }  # fmt: skip
    report = (tmp_path / "quick" / "RESULTS.md").read_text()
    assert "## Findings" in report
    for figure in (tmp_path / "quick" / "figures").iterdir():
        assert f"figures/{figure.name}" in report
