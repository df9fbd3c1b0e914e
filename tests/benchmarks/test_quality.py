"""Quality benchmark: arms, probes, plan, and runs that store and resume."""

import json
import os
import shutil
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.datasets import load_wine

from benchmarks import rivals
from benchmarks.quality import plan as planned
from benchmarks.quality.arms import (
    COSTS,
    FAMILY,
    OTHERS,
    WITHOUT_DECODER,
    embed_family,
    make_encoder,
    reconstruction,
    with_contrast,
)
from benchmarks.quality.measure import (
    PROBES,
    calibration_error,
    measure,
    n_epochs,
    score,
    with_labels,
)
from benchmarks.quality.plan import ABLATIONS, LENGTH, TARGETS, TREES, Experiment, Piece
from benchmarks.quality.run import context, gather, main, run
from benchmarks.quality.tables import few_rows
from cmim_sklearn import CMIMEncoder
from cmim_sklearn._encoders.base import fit as fitting
from cmim_sklearn._models.latent_model import Pass
from cmim_sklearn._training.net import ObjectiveLoss
from cmim_sklearn.latents import DiagonalNormal, standard_normal
from cmim_sklearn.objectives import contrast, mim

SHORT = {"max_iter": 2, "hidden_layer_sizes": (16,), "n_components": 4}
TABLES = tuple(sorted({*planned.ABLATION_TABLES, *planned.CHOSEN_ON, *TARGETS}))
SMALL = {"a": Experiment("a", {("cMIM", ""): {}, ("PCA", ""): {}}, ("one", "two"))}


def piece(**changes):
    made = Piece(
        "wine", 0, "cMIM", {"n_updates": 10}, 120, ("layers", "mean"), ("linear",), ("all",)
    )
    return made._replace(**changes)


# -- arms and probes -------------------------------------------------------------------------------


def make_pass(log_variance):
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(20, 3, generator=generator)
    posterior = DiagonalNormal(mean, torch.full((20, 1), log_variance))
    z = posterior.rsample(torch.randn(20, 3, generator=generator))
    log_px = torch.randn(20, 5, generator=generator)
    return Pass(z, posterior, standard_normal(z), log_px)


def test_with_contrast_adds_only_the_contrastive_term():
    batch = make_pass(-1.0)
    terms = with_contrast(ObjectiveLoss(mim))(batch)
    plain = mim(batch)
    assert set(terms) == {*plain, "contrast"}
    for name in plain:
        assert_allclose(terms[name], plain[name])
    assert_allclose(terms["contrast"], contrast(batch.z, 0.1))


def test_reconstruction_scores_one_for_the_table_and_zero_for_its_means():
    rng = np.random.RandomState(0)
    X = pd.DataFrame(
        {
            "number": rng.randn(300),
            "city": pd.Categorical(rng.choice(["a", "b", "c"], 300, p=[0.5, 0.3, 0.2])),
            "flag": rng.rand(300) < 0.25,
        }
    )
    X.loc[:20, "number"] = np.nan
    assert reconstruction(X, X, X.fillna({"number": 99.0})) == 1.0
    blind = X.assign(number=X["number"].median(), city="a", flag=False)
    shares = [0.0, (X["city"] == "a").mean(), (~X["flag"]).mean()]
    assert_allclose(reconstruction(X, X, blind), np.mean(shares), atol=1e-3)


@pytest.mark.parametrize("arm", FAMILY)
def test_every_arm_of_the_family_gives_scaled_features(mixed, arm):
    names = ["layers", "mean", "control"]
    features = embed_family(arm, 0, mixed[:150], mixed[150:], embeddings=names, **SHORT)
    has_decoder = arm not in WITHOUT_DECODER
    # Without a decoder, the layers are the hidden layer and the code of the encoder.
    widths = {"layers": 32, "mean": 4, "control": 16} if has_decoder else {"layers": 20, "mean": 4}
    shapes = {name: part.shape for name, (part, _) in features.matrices.items()}
    assert shapes == {name: (150, width) for name, width in widths.items()}
    for train, test in features.matrices.values():
        assert_allclose(train.var(0).sum(), 20, rtol=0.01)
        assert_allclose(train.mean(0), 0, atol=1e-3)
        assert test.shape == (50, train.shape[1])
    assert np.isfinite(features.loss)
    assert np.isfinite(features.contrast) == arm.startswith(("c", "untrained", "InfoNCE"))
    assert np.isfinite(features.reconstruction) == has_decoder


def test_the_untrained_network_is_cmim_before_its_first_step(mixed):
    encoder = make_encoder("untrained", 0, hidden_layer_sizes=(16,)).fit(mixed)
    seed = int(np.random.RandomState(0).randint(2**31 - 1))
    fresh = encoder._build_model(encoder.table_.likelihood, encoder._built, seed)
    for name, weights in fresh.encoder.state_dict().items():
        assert_allclose(encoder.net_.module.encoder.state_dict()[name], weights, atol=1e-6)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("regression", [False, True])
def test_probes_find_a_signal_and_none_in_noise(probe, regression):
    rng = np.random.RandomState(0)
    angle = rng.rand(400) * np.pi
    X = np.column_stack([np.cos(angle), np.sin(angle)]) * 5
    y = angle if regression else (angle > np.pi / 2).astype(int)
    for features, low, high in ((X, 0.9, 1), (rng.randn(400, 2), -9, 0.65)):
        data = features[:300], y[:300], features[300:], y[300:]
        assert low < score(piece(), probe, *data, regression)[0][probe] <= high


def test_features_of_rivals_count_at_the_better_of_two_scales():
    rng = np.random.RandomState(0)
    X = rng.randn(300, 2)
    y = np.where(X[:, 0] > 0, "a", "b")
    X[:, 0] *= 1e-4  # too small for a penalised model without scaling
    data = "linear", X[:200], y[:200], X[200:], y[200:], False
    assert score(piece(arm="PCA"), *data)[0]["linear"] > 0.95
    assert score(piece(arm="cMIM"), *data)[0]["linear"] < 0.7


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    p = np.array([[0.9, 0.1]] * 10 + [[0.4, 0.6]] * 10)
    is_right = np.array([True] * 8 + [False] * 2 + [True] * 5 + [False] * 5)
    assert_allclose(calibration_error(p, is_right), 0.1)
    assert_allclose(calibration_error(p, np.repeat([0.9, 0.6], 10)), 0, atol=1e-12)


def test_labels_of_the_regime_reach_the_encoder():
    one, y = piece(params={"label_weight": 10.0}), np.arange(200) % 2 * 1.5
    assert with_labels(one, y) is y
    few = with_labels(one._replace(regimes=("few",)), y)
    assert np.isfinite(few).sum() == 60
    named = with_labels(one._replace(regimes=("few",)), y.astype(str))
    assert sum(isinstance(label, str) for label in named) == 60


def test_few_labels_have_two_of_every_class():
    y = np.array(["a"] * 500 + ["b"] * 3 + ["c"] * 2)
    some = few_rows(y, seed=0)
    assert len(some) == len(set(some)) == 60
    assert min(pd.Series(y[some]).value_counts()[["b", "c"]]) >= 2


# -- plan ------------------------------------------------------------------------------------------


def test_every_arm_of_the_plan_is_known_and_takes_its_parameters():
    arms = {*FAMILY, *OTHERS, *rivals.RIVALS, *TREES, "raw"}
    for one in planned.pieces(planned.experiments(TABLES), [0]):
        assert one.arm in arms
        assert set(one.params) <= {*CMIMEncoder().get_params(), *LENGTH}
        assert one.table in TABLES


def test_every_ablation_includes_the_default_which_is_fitted_once():
    defaults = CMIMEncoder().get_params()
    assert all(defaults[name] in values for name, values in ABLATIONS.items())
    found = planned.pieces(planned.experiments(TABLES), [0], list(ABLATIONS))
    at_default = [one for one in found if set(one.params) <= {"updates"}]
    assert sorted(one.table for one in at_default) == sorted(planned.ABLATION_TABLES)
    for one in at_default:
        assert {experiment for experiment, _ in one.labels} == set(ABLATIONS)
    assert len(found) == 5 * (1 + sum(len(values) - 1 for values in ABLATIONS.values()))


def test_keys_depend_on_everything_that_changes_scores(monkeypatch):
    changes = [
        {}, {"seed": 1}, {"table": "iris"}, {"arm": "MIM"}, {"params": {}}, {"max_rows": 121},
        {"embeddings": ("mean",)}, {"regimes": ("few",)},
    ]  # fmt: skip
    keys = {piece(**change).key for change in changes}
    assert len(keys) == len(changes)
    assert piece(labels=(("a", ""),)).key == piece().key
    before = piece().key
    monkeypatch.setattr(CMIMEncoder.__init__, "__kwdefaults__", {
        **CMIMEncoder.__init__.__kwdefaults__, "temperature": 0.7
    })  # fmt: skip
    assert piece().key != before


def test_a_length_counts_where_a_fit_has_the_default_length(monkeypatch):
    short, exact, long = {"updates": 7}, {"n_updates": 10}, {"times": 10}
    kinds = [{}, short, exact, long]
    untrained = piece(arm="untrained", params={}).key
    before = [piece(params=params).key for params in kinds]
    assert len(set(before)) == 4
    monkeypatch.setattr(fitting, "AUTO_UPDATES", 7)
    after = [piece(params=params).key for params in kinds]
    assert after[0] == after[1] == before[1], "the same fit, now by default"
    assert after[2] == before[2]
    assert after[3] != before[3]
    assert piece(arm="untrained", params={}).key == untrained
    arms = {("cMIM", "7"): short, ("cMIM", "8"): {"updates": 8}}
    found = planned.pieces({"length": Experiment("length", arms, ("wine",))}, [0])
    assert [one.params for one in found] == [{}, {"updates": 8}]


def test_a_length_is_that_of_a_default_fit(data_dir):
    one = piece(params={"updates": 6, "n_components": 2}, embeddings=("mean",))
    before = planned.limits()
    with patch.object(fitting, "AUTO_MIN_UPDATES", 2), patch.object(fitting, "AUTO_MIN_EPOCHS", 2):
        short, long = (
            measure(data_dir, None, 1, one._replace(params=one.params | {"updates": n}))
            for n in (6, 60)
        )
    assert planned.limits() == before
    assert short[0]["loss"] > long[0]["loss"] + 0.1


@pytest.mark.parametrize(
    ("params", "epochs"),
    [
        ({}, 400),
        ({"n_updates": 100}, 100),
        ({"n_updates": 100, "batch_size": 100}, 50),
        ({"n_updates": 1, "batch_size": 10}, 1),
        ({"times": 10}, 4000),
    ],
)
def test_length_of_a_fit(params, epochs):
    assert n_epochs(piece(params=params), np.zeros((200, 3))) == epochs


def test_the_context_has_tables_for_selection_and_confirmation():
    about = context(TABLES, jobs=2)
    assert set(about["chosen_on"]) == set(planned.CHOSEN_ON)
    assert sorted(about["chosen_on"] + about["confirmed_on"]) == list(TABLES)
    for name, values in ABLATIONS.items():
        assert about["defaults"][name] in map(planned.shown, values)


# -- runs ------------------------------------------------------------------------------------------


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


def test_scores_are_stored_failures_reported_and_runs_resumed(tmp_path):
    arms = {**SMALL["a"].arms, ("raw", ""): {}}
    plan = {"a": SMALL["a"]._replace(arms=arms)}
    todo = planned.pieces(plan, [0])
    assert sorted(run(todo, tmp_path, 2, fake)) == [
        "PCA on two, seed 0, code 1",
        "raw on one, seed 0, code 9",
        "raw on two, seed 0, code 9",
    ]
    [text] = [path.read_text() for path in (tmp_path / "failed").glob("*.txt")]
    assert "no such luck" in text
    assert "table='two'" in text
    results = gather(plan, tmp_path)
    assert results["arm"].tolist() == ["cMIM", "cMIM", "PCA"]
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "results.parquet"), results)
    # From the file only, as in a fresh clone.
    shutil.rmtree(tmp_path / "scores")
    assert run([one for one in todo if one.arm == "cMIM"], tmp_path, 1, never) == []
    pd.testing.assert_frame_equal(gather(plan, tmp_path), results)
    # Scores that are no longer planned are kept, but not reported.
    other = {"b": SMALL["a"]._replace(section="b", arms={("cMIM", "here"): {}}, tables=("one",))}
    labels = gather(other, tmp_path)[["experiment", "arm", "setting"]]
    assert labels.to_numpy().tolist() == [["b", "cMIM", "here"]]
    pd.testing.assert_frame_equal(gather(plan, tmp_path), results)


def test_a_piece_under_two_labels_has_its_scores_under_both(tmp_path):
    arms = {("cMIM", "x"): {}}
    both = {n: SMALL["a"]._replace(section=n, arms=arms, tables=("one",)) for n in ("a", "b")}
    todo = planned.pieces(both, [0])
    assert len(todo) == 1
    run(todo, tmp_path, 1, fake)
    assert gather(both, tmp_path)["experiment"].tolist() == ["a", "b"]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Folder with two small tables; one has columns that serve as further targets."""
    folder = tmp_path_factory.mktemp("tables")
    X, y = load_wine(return_X_y=True, as_frame=True)
    X["cut"] = pd.cut(X.pop("alcohol"), 4, labels=list("abcd"))
    X.loc[::7, ["hue", "cut"]] = np.nan
    target = y.map(lambda k: f"kind {k}").astype("category")
    X.assign(target=target).to_parquet(folder / "wine.parquet")
    number = X["proline"].rename("target")
    X = X.drop(columns="proline").rename(columns={"cut": "pclass", "hue": "fare"})
    X.assign(target=number).to_parquet(folder / "titanic.parquet")
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


def test_the_encoder_does_not_see_target_columns(data_dir):
    one = piece(table="titanic", arm="raw", params={}, regimes=("targets",))
    rows = pd.DataFrame(measure(data_dir, None, 1, one)).set_index("regime")
    assert rows.index.tolist() == ["target:target", "target:pclass", "target:fare"]
    assert (rows["n_features"] == 10).all()
    # Rows with a missing target are dropped for that target.
    assert rows["n_labels"].tolist() == [84, *[rows["n_labels"].iloc[1]] * 2]
    assert rows["n_labels"].iloc[1] < 80


def test_rivals_get_the_same_number_of_threads(data_dir, monkeypatch):
    asked = {}

    def embed(name, frames, matrices, seed, env_dir, threads):
        asked.update(threads=threads, env_dir=env_dir, rows=[len(part) for part in matrices])
        return [part[:, :3] for part in matrices], dict(zip(COSTS, (1.0, 2.0, 3.0, 4), strict=True))

    monkeypatch.setattr(rivals, "embed", embed)
    [row] = measure(data_dir, "there", 1, piece(arm="UMAP", params={}))
    assert asked == {"threads": 1, "env_dir": "there", "rows": [84, 36]}
    assert (row["n_features"], *(row[name] for name in COSTS)) == (3, 1.0, 2.0, 3.0, 4)


def test_the_quick_run_ends_in_a_report(data_dir, tmp_path):
    main(["--quick", "--without-rivals", "--data-dir", str(data_dir), "--out", str(tmp_path)])
    results = pd.read_parquet(tmp_path / "quick" / "results.parquet")
    assert results["score"].notna().all()
    assert set(results["table"]) == {"titanic", "wine"}
    sections = {"rivals", "family", "temperature", "batch", "targets", "time", "labels"}
    assert set(results["experiment"]) == sections
    report = (tmp_path / "quick" / "RESULTS.md").read_text()
    assert report.count("\n## ") == len(sections)
    for figure in (tmp_path / "quick" / "figures").iterdir():
        assert f"figures/{figure.name}" in report
