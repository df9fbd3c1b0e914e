"""Studies: each runs with --quick; some of their parts on tables with known answers."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.studies import (
    anomalies,
    beyond_memory,
    dates,
    few_labels,
    generation,
    imputation,
    labels,
    mutual_information,
)
from benchmarks.tools import numeric_columns
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
    found = pd.read_csv(tmp_path / "imputation.csv").set_index(["protocol", "imputer"])
    assert list(found.loc["both"].index) == list(found.loc["test"].index)
    assert list(found.loc["both"].index) == list(imputation.imputers({}))
    assert found["rmse"].between(0, 2).all()
    assert found["accuracy"].between(0, 1).all()
    assert list(found["crps"].dropna().loc["both"].index) == list(imputation.WITH_DRAWS)
    # Trained on complete rows or not, means of columns are almost the same.
    marginal = found.xs("marginal", level="imputer")
    assert marginal["rmse"]["both"] == pytest.approx(marginal["rmse"]["test"], rel=0.05)


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


@pytest.mark.parametrize("name", ["linear", "marginal"])
def test_imputers_keep_observed_cells(name):
    X = make_mixed(60).drop(columns=["member", "flag"])
    imputed = imputation.imputers({})[name].fit(X).impute(X)
    assert imputed.notna().all(axis=None)
    for c in X:
        seen = X[c].notna()
        assert (imputed[c][seen].astype(X[c].dtype) == X[c][seen]).all()
    if name == "marginal":
        unseen = X["score"].isna()
        assert imputed["score"][unseen].to_numpy() == pytest.approx(X["score"].mean())
        assert (imputed["city"][X["city"].isna()] == X["city"].mode()[0]).all()


@pytest.mark.parametrize("complete", [True, False])
def test_chained_models_impute_what_other_columns_determine(complete):
    rng = np.random.RandomState(0)
    a = rng.rand(300)
    X = pd.DataFrame({"a": a, "b": 2 * a, "c": np.where(a > 0.5, "high", "low")})
    masked, hidden = imputation.remove(X, 0.2, rng)
    masked.loc[hidden[:, :2].all(1), "b"] = X["b"]  # a or b is there, so that all is known
    for name in ("MissForest", "chained boosting"):
        imputer = imputation.imputers({})[name].fit(X if complete else masked)
        found = imputation.scores(X, imputer.impute(masked), masked.isna().to_numpy(), X)
        assert found["rmse"] < 0.2
        assert found["accuracy"] > 0.95


def test_draws_of_chained_boosting_have_the_spread_of_the_data():
    rng = np.random.RandomState(0)
    X = pd.DataFrame({"a": rng.randn(400), "b": rng.randn(400), "c": rng.choice(["x", "y"], 400)})
    masked = X[:200].assign(b=np.nan, c=None)
    imputer = imputation.imputers({})["chained boosting"].fit(X)
    draws = pd.concat(imputer.impute(masked, n_draws=5))
    assert imputer.impute(masked)["b"].std() < 0.9 < draws["b"].std() < 1.4
    assert 0.35 < (draws["c"] == "x").mean() < 0.65
    np.testing.assert_array_equal(draws["a"], np.tile(X["a"][:200], 5))


def test_crps_is_that_of_the_empirical_distribution():
    test = pd.DataFrame({"a": [0.0, 1.0, 7.0]})
    X, hidden = pd.DataFrame({"a": [-1.0, 0.0, 1.0]}), np.array([[True], [True], [False]])
    draws = [test + 1, test + 3, test + 1]  # distances 1, 3, 1; to each other 2, 0, 2
    assert imputation.crps(test, draws, hidden, X) == pytest.approx(5 / 3 - (4 / 3) / 2)
    assert imputation.crps(test, [test, test], hidden, X) == 0


def test_few_labels(data_dir, tmp_path):
    folders = ["--data-dir", str(data_dir), "--out", str(tmp_path)]
    few_labels.main(["--quick", "--tables", "mixed", *folders])
    found = pd.read_csv(tmp_path / "few_labels.csv")
    assert found[["accuracy", "auc"]].stack().between(0, 1).all()
    assert set(found["model"].dropna()) == set(few_labels.MODELS)
    assert set(found["chosen"].dropna()) == {"random", "raw", "codes"}


def test_medoids_are_one_row_of_each_cluster():
    rng = np.random.RandomState(0)
    clusters = np.repeat([0.0, 10.0, 20.0], 30)
    rows = few_labels.medoids(clusters[:, None] + rng.randn(90, 2), 3, seed=0)
    assert sorted(clusters[rows]) == [0, 10, 20]


def test_scores_use_only_the_labels_of_the_given_rows():
    rng = np.random.RandomState(0)
    y = rng.randint(3, size=90)
    Z, rows = np.eye(3)[y] + 0.01 * rng.randn(90, 3), np.arange(60)
    other = np.where(np.arange(90) < 60, y, 0)
    for model in few_labels.MODELS.values():
        found = few_labels.scores(model, Z, y, rows, Z, y)
        assert found["accuracy"] == found["auc"] == 1
        assert few_labels.scores(model, Z, other, rows, Z, y) == found
    without = few_labels.scores(few_labels.LINEAR, Z, y, rows[y[:60] < 2], Z, y)
    assert without["accuracy"] == pytest.approx((y < 2).mean())


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
    assert list(found.index) == list(generation.MODELS)
    assert found["detection"].between(0.3, 1).all()
    assert found["distance_ratio"]["training rows"] == pytest.approx(0, abs=1e-6)
    assert found["nearer_to_train"]["training rows"] > 0.65
    assert found["distance_ratio"]["independent"] > found["distance_ratio"]["sequential CART"]


def test_tables_of_scikit_learn_are_read_by_name(tmp_path):
    for name in generation.SCIKIT_LEARN:
        table = generation.read_table(name, tmp_path)
        assert ("target" in numeric_columns(table)) == (name == "diabetes")


def test_no_set_has_a_training_row_twice():
    rows = generation.training_rows(pd.DataFrame({"a": range(70)}), 8 * 30)["a"].to_numpy()
    assert all(len(set(part)) == 30 for part in rows.reshape(8, 30))


def test_detection_is_certain_for_rows_of_another_table():
    rng = np.random.RandomState(0)
    real = pd.DataFrame({"a": rng.randn(200), "b": rng.choice(["x", "y"], 200)})
    assert generation.detection(real[:100], real[100:].assign(a=9.0)) > 0.99
    assert abs(generation.detection(real[:100], real[100:]) - 0.5) < 0.15
    assert np.isnan(generation.detection(real[:100], real[100:].assign(a=np.nan)))


def test_nearness_of_copies_and_of_other_rows():
    rng = np.random.RandomState(0)
    real = pd.DataFrame({"a": rng.randn(300), "b": rng.choice(["x", "y"], 300)})
    train, test, other = real[:100], real[100:200], real[200:]
    copies = generation.nearness(train, test, train)
    assert copies == pytest.approx({"distance_ratio": 0, "nearer_to_train": 1}, abs=1e-6)
    assert generation.nearness(train, test, test)["distance_ratio"] == pytest.approx(1)
    found = generation.nearness(train, test, other)
    assert found["distance_ratio"] == pytest.approx(1, abs=0.4)
    assert found["nearer_to_train"] == pytest.approx(0.5, abs=0.15)


def test_sequential_cart_keeps_values_and_dependence():
    rng = np.random.RandomState(0)
    a = rng.randn(500)
    city = pd.Categorical(np.where(a > 0, "up", "down"), ["up", "down", "unused"])
    train = pd.DataFrame({"city": city, "a": a, "b": a**2}).assign(
        c=np.where(rng.rand(500) < 0.2, np.nan, a)
    )
    made = generation.sequential_cart(train, 400)
    assert (made.dtypes == train.dtypes).all()
    assert all(made[c].isin(train[c]).all() for c in train)
    assert (made["city"] == np.where(made["a"] > 0, "up", "down")).all()
    assert np.abs(made["b"] - made["a"] ** 2).mean() < 0.1 * np.abs(made["b"]).mean()
    assert made["c"].isna().mean() == pytest.approx(0.2, abs=0.06)


def test_the_published_comparison_uses_all_training_rows(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(generation, "PUBLISHED", {"mixed": 60})
    monkeypatch.setattr(generation.rivals, "install", lambda env, env_dir: "python")
    compared = []

    def detect(python, verb, real, generated):
        compared.append((verb, len(pd.read_parquet(real)), len(pd.read_parquet(generated))))
        return {"auc": 0.5}

    monkeypatch.setattr(generation, "in_environment", detect)
    folders = ["--data-dir", str(data_dir), "--out", str(tmp_path)]
    generation.main(["--quick", "--published", *folders])
    assert compared == [("detect", 60, 60)] * 2
    assert (pd.read_csv(tmp_path / "quick" / "published.csv")["auc"] == 0.5).all()
