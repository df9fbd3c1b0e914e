"""Studies: each runs with --quick; some of their parts on tables with known answers."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.studies import (
    anomalies,
    beyond_memory,
    dates,
    generation,
    imputation,
    labels,
    mutual_information,
)
from tests.helpers import make_mixed


@pytest.fixture
def data_dir(tmp_path):
    table = make_mixed(250).drop(columns=["member", "word"])
    target = np.where(table["age"] > 40, "old", "young")
    table.assign(target=pd.Categorical(target)).to_parquet(tmp_path / "mixed.parquet")
    return tmp_path


def test_mutual_information(tmp_path):
    mutual_information.main(["--quick", "--out", str(tmp_path)])
    [row] = pd.read_csv(tmp_path / "mutual_information.csv").to_dict("records")
    assert 0 < row["estimate"] < row["truth"] == pytest.approx(-np.log(1 - 0.9**2), abs=1e-3)


def test_beyond_memory(tmp_path):
    beyond_memory.main(["--quick", "--out", str(tmp_path)])
    found = pd.read_csv(tmp_path / "beyond_memory.csv").set_index("case")
    assert found["rows"].to_dict() == {"memory": 1000, "part": 1000, "whole": 3000}
    assert found["loss"]["memory"] == pytest.approx(found["loss"]["part"], abs=3)


def test_dates(tmp_path):
    orders = dates.make_orders(500, 0, has_times=True)
    scores = dates.generated(orders, orders)
    assert scores == {"shape": 1, "closed": 0, "day_of_week": 0, "hour": 0, "order": 1}
    shifted = orders.assign(order=orders["order"] + pd.Timedelta(days=1))
    scores = dates.generated(orders, shifted)
    assert scores["closed"] == pytest.approx((orders["order"].dt.day_of_week == 4).mean())
    assert scores["order"] == (orders["ship"] >= shifted["order"]).mean()
    dates.main(["--quick", "--out", str(tmp_path)])
    found = pd.read_csv(tmp_path / "dates.csv").set_index("case")
    assert list(found.index) == ["days", "times"]
    assert (found["order"] == 1).all()


def test_imputation(data_dir, tmp_path):
    folders = ["--data-dir", str(data_dir), "--out", str(tmp_path)]
    imputation.main(["--quick", "--tables", "mixed", *folders])
    found = pd.read_csv(tmp_path / "imputation.csv").set_index("imputer")
    assert list(found.index) == list(imputation.imputers({}))
    assert found["rmse"].between(0, 2).all()
    assert found["accuracy"].between(0, 1).all()


def test_labels(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(labels.rule, "MIN_LABELLED", labels.rule.MIN_LABELLED)
    folders = ["--data-dir", str(data_dir), "--out", str(tmp_path)]
    labels.main(["--quick", "--tables", "mixed", *folders])
    found = pd.read_csv(tmp_path / "labels.csv").set_index("arm")
    assert list(found.index) == list(labels.ARMS)
    assert (found["epochs"] == 0).all()  # fewer than 300 labels
    assert found["score"].nunique() == 1
    assert found.loc["with", "log_likelihood"] == found.loc["without", "log_likelihood"]
    labels.main(["--quick", "--tables", "mixed", "--counts", "160", *folders])
    found = pd.read_csv(tmp_path / "labels.csv").set_index("arm")
    assert found.loc["without", "epochs"] == 0 < found.loc["with", "epochs"]
    assert (found["labels"] == 160).all()


def test_imputers_of_matrices_keep_observed_cells():
    X = make_mixed(60).drop(columns=["member", "flag"])
    imputed = imputation.imputers({})["marginal"].fit(X).impute(X)
    assert imputed.notna().all(axis=None)
    seen = X["score"].notna()
    assert (imputed["score"][seen] == X["score"][seen]).all()
    assert imputed["score"][~seen].to_numpy() == pytest.approx(X["score"].mean())
    assert (imputed["city"][X["city"].isna()] == X["city"].mode()[0]).all()


def test_anomalies(data_dir, tmp_path):
    folders = ["--data-dir", str(data_dir), "--out", str(tmp_path)]
    anomalies.main(["--quick", "--tables", "mixed", *folders])
    found = pd.read_csv(tmp_path / "anomalies.csv")
    scores = ["score_samples", "score_dependence", "score_columns"]
    halves = ["score_samples, halves", "score_dependence, halves"]
    assert list(found["detector"].unique()) == [*scores, *anomalies.RIVALS, *halves]
    known = found.set_index(["rows", "detector"])[anomalies.KINDS].notna()
    assert known.eq(known.any(axis=1), axis=0).all(axis=None)
    assert list(known.index[~known.any(axis=1)]) == [
        ("train", "score_columns"), *(("test", name) for name in halves)
    ]  # fmt: skip
    assert found[anomalies.KINDS].stack().dropna().between(0, 1).all()


def test_anomalous_rows_have_the_cells_that_their_kind_says():
    X = make_mixed(60).drop(columns=["member", "flag"]).astype({"age": float, "visits": float})
    rng = np.random.RandomState(0)
    made = {kind: anomalies.anomalous(X[:40], X, kind, rng) for kind in anomalies.KINDS}
    differ = {k: (rows != X[:40]) & (rows.notna() | X[:40].notna()) for k, rows in made.items()}
    assert (made["shuffled"].dtypes == X.dtypes).all()
    assert differ["shuffled"].mean(axis=None) > 0.6
    for name in X:
        assert set(made["shuffled"][name].dropna()) <= set(X[name].dropna())
        assert set(made["swapped"][name].dropna()) <= set(X[name].dropna())
    assert (differ["swapped"].sum(axis=1) == 1).all()
    assert (differ["extreme"].sum(axis=1) == 1).all()
    for name in ("income", "age", "score", "visits"):
        moved = made["extreme"][name][differ["extreme"][name]]
        assert len(moved)
        assert (~moved.between(X[name].min(), X[name].max())).all()


@pytest.mark.parametrize("name", anomalies.RIVALS)
def test_detectors_find_rows_that_are_far_off(name):
    rng = np.random.RandomState(0)
    x = rng.randn(150)
    X = pd.DataFrame({"a": x, "b": x + 0.1 * rng.randn(150), "c": np.where(x > 0, "u", "v")})
    train, test = X[:100], X[100:].reset_index(drop=True)
    odd = test.assign(a=-test["b"])
    own, other = anomalies.RIVALS[name](train, pd.concat([test, odd], ignore_index=True))
    assert own.shape == (100,)
    far = np.abs(test["b"]) > 0.5
    assert np.median(other[50:][far]) > np.median(other[:50])


def test_generation(data_dir, tmp_path):
    folders = ["--data-dir", str(data_dir), "--out", str(tmp_path)]
    generation.main(["--quick", "--tables", "mixed", *folders])
    found = pd.read_csv(tmp_path / "quick" / "generation.csv").set_index("model")
    assert list(found.index) == ["real", "cmim", "independent"]
    assert found["detection"].between(0.3, 1).all()
    # Real rows are training rows, and trees trained on them are the reference.
    assert found.loc["real", ["utility", "nearer_to_train"]].tolist() == [1, 1]


def test_detection_is_certain_for_rows_of_another_table():
    rng = np.random.RandomState(0)
    real = pd.DataFrame({"a": rng.randn(200), "b": rng.choice(["x", "y"], 200)})
    assert generation.detection(real[:100], real[100:].assign(a=9.0)) > 0.99
    assert abs(generation.detection(real[:100], real[100:]) - 0.5) < 0.15
    assert generation.nearer_to_train(real[:100], real[100:], real[:100]) == 1
