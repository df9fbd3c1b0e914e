"""Synthetic scores with known answers."""

import numpy as np
import pandas as pd
import pytest

from benchmarks import figures
from benchmarks.comparisons import (
    FAILS,
    HOLDS,
    NOISE,
    NOT_RUN,
    TOO_FEW,
    at_embedding,
    batch_dependence,
    cliques,
    complete,
    costs,
    default_reached,
    nemenyi,
    overall,
    paired,
    rank,
    time_curves,
    verdict,
    way,
    wide,
)
from benchmarks.report import main, write_report

PROBES = ("linear", "knn_cosine", "knn_euclidean", "mlp")
TABLES = [f"table {letter}" for letter in "ABCDEFGH"]
DECODERS = {"AE": 0, "cAE": 0.005, "VAE": 0.005, "cVAE": 0.01, "MIM": 0.015, "cMIM": 0.03}
RIVALS = {
    **{"cMIM": 0.05, "raw": 0, "HistGradientBoosting": 0.1, "ExtraTrees": 0.08, "PCA": -0.02},
    **{"TruncatedSVD": -0.03, "RandomTreesEmbedding": 0.02, "UMAP": -0.1, "SCARF": 0.01},
    **{"VIME": 0, "SubTab": -0.01, "DAE": 0.015, "pythae VAE": -0.05},
}


def frame_of(rows):
    """Rows of the tidy schema, most of its columns at a default."""
    default = {"experiment": "x", "table": "t", "seed": 0, "arm": "cMIM", "setting": ""}
    default |= {"embedding": "layers", "probe": "linear", "regime": "all", "n_labels": 100}
    default |= {"n_features": 64, "fit_s": 1.0, "transform_rows_s": 1e4, "peak_mb": 50.0}
    default |= {"bytes": 1000, "n_rows": 1000}
    return pd.DataFrame([{**default, **row} for row in rows])


def scores(matrix, arms):
    """What `wide` returns, from a matrix of tables and arms, with one seed."""
    index = pd.MultiIndex.from_product([range(len(matrix)), [0]], names=["table", "seed"])
    return pd.DataFrame(np.array(matrix, float), index, pd.Index(arms, name="arm"))


def everything(seeds=2):
    """Scores of every experiment; noise is small beside the differences of arms."""
    rng = np.random.RandomState(0)
    rows = []

    def add(experiment, score, seed_noise=0.004, **values):
        for t, name in enumerate(TABLES):
            for seed in range(seeds):
                value = 0.6 + 0.04 * t + score + seed_noise * rng.randn()
                cell = {"experiment": experiment, "table": name, "seed": seed, "score": value}
                rows.append({**cell, **values})

    places = {"layers": 0.02, "informative": 0.01, "mean": 0, "control": -0.05}
    for arm, lead in {**DECODERS, "InfoNCE": 0.01, "VICReg": 0, "BarlowTwins": -0.01}.items():
        for place, more in places.items() if arm in DECODERS else [("mean", 0)]:
            for probe in PROBES:
                add("family", lead + more, arm=arm, embedding=place, probe=probe)
            add("family", lead + more - 0.1, arm=arm, embedding=place, regime="few", n_labels=40)
        if arm in DECODERS:
            add("family", lead, arm=arm, embedding="mean", probe="reconstruction")
    for arm, slope in {"cMIM": 0.0, "MIM": 0.001, "InfoNCE": 0.02}.items():
        for size in (16, 64, 256, 1024):
            for place in ("mean",) if arm == "InfoNCE" else ("layers", "mean"):
                change = slope * np.log2(size / 16)
                add("batch", change, 1e-4, arm=arm, setting=str(size), embedding=place)
    settings = {
        "temperature": {"0.01": -0.03, "0.1": 0, "1": 0.002, "10": -0.05},
        "hidden_layer_sizes": {"(128,)": -0.01, "(256, 256)": 0, "(512, 512, 512)": 0.01},
        "positive": {"self": 0, "second sample": 0.001},
    }
    for experiment, choices in settings.items():
        for setting, change in choices.items():
            for place in ("layers", "informative", "mean"):
                for probe in PROBES:
                    add(experiment, change, setting=setting, embedding=place, probe=probe)
    for i, (arm, lead) in enumerate(RIVALS.items()):
        place = "layers" if arm == "cMIM" else ""
        for regime, share in (("all", 1), ("few", 1.2)):
            cost = {"fit_s": 0.0 if arm == "raw" else 0.01 * 3.0**i, "n_labels": int(100 / share)}
            add("rivals", share * lead, arm=arm, embedding=place, regime=regime, **cost)
        if arm in ("cMIM", "raw", "ExtraTrees"):
            for target in ("age", "income"):
                add("targets", lead, arm=arm, embedding=place, regime=f"target:{target}")
    for n in (100, 300, 1000, 3000, 10000):
        lag = -0.3 * 0.3 ** np.log10(n / 10)
        add("time", lag, 0.002, setting=str(n), fit_s=n / 100)
        add("time", 1.2 * lag, 0.002, setting=f"batch 64, {n}", fit_s=n / 160)
    add("time", -0.001, 1e-4, setting="default", fit_s=12.0)
    add("time", 0, 1e-4, setting="ten times", fit_s=120.0)
    return frame_of(rows)


CONTEXT = {
    "threads": 1,
    "cpu": "a processor",
    "versions": {"numpy": "1.2.3"},
    "command": "python -m benchmarks.run --data-dir DIR --out DIR",
    "defaults": {"temperature": "0.1", "hidden_layer_sizes": "(256, 256)", "positive": "self"},
    "chosen_on": TABLES[:4],
    "confirmed_on": TABLES[4:],
}


@pytest.fixture(scope="module")
def tidy():
    return everything()


@pytest.fixture(scope="module")
def folder(tidy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_report(tidy, folder, context=CONTEXT)
    return folder


# Comparisons


def test_paired_difference_is_over_tables_after_seeds():
    frame = frame_of(
        {"table": name, "seed": seed, "arm": arm, "score": score}
        for name, ours, theirs in [("a", (0.5, 0.7), (0.5, 0.5)), ("b", (0.8, 0.8), (0.9, 0.6))]
        for arm, both in (("cMIM", ours), ("MIM", theirs))
        for seed, score in enumerate(both)
    )
    found = paired(wide(frame), "cMIM", "MIM")
    # Tables differ by 0.1 and 0.05.
    assert found.mean == pytest.approx(0.075)
    assert found.error == pytest.approx(0.025)
    assert (found.wins, found.losses, found.tables, found.seeds) == (2, 0, 2, (2, 2))
    assert (found.ours, found.theirs) == pytest.approx((0.7, 0.625))


def test_paired_uses_shared_pairs_alone():
    frame = scores([[1, 0], [2, np.nan], [np.nan, 5], [4, 3]], ["cMIM", "MIM"])
    found = paired(frame, "cMIM", "MIM")
    assert (found.mean, found.tables) == (1, 2)
    assert paired(frame, "cMIM", "absent").tables == 0
    assert verdict(paired(frame, "cMIM", "absent")) == NOT_RUN
    assert verdict(paired(frame[:1], "cMIM", "MIM")) == TOO_FEW


@pytest.mark.parametrize(
    ("differences", "word"),
    [
        ([0.1, 0.11, 0.09], HOLDS),
        ([0, 0, 0], HOLDS),
        ([-0.1, -0.11, -0.09], FAILS),
        ([0.1, -0.1, 0.02], NOISE),
        # More than two standard errors, but on three tables the interval is wider than that.
        ([0.01, 0.03, 0.06], NOISE),
    ],
)
def test_verdict(differences, word):
    frame = scores([[d, 0] for d in differences], ["cMIM", "MIM"])
    assert verdict(paired(frame, "cMIM", "MIM")) == word


def test_one_failure_fails_a_claim():
    frame = scores([[1, 0, 2, 0.9], [1.1, 0, 2, 1.2], [0.9, 0, 2, 1.0]], list("abcd"))
    holds, fails, noise = (paired(frame, "a", other) for other in "bcd")
    assert [verdict(c) for c in (holds, fails, noise)] == [HOLDS, FAILS, NOISE]
    assert overall([holds, noise]) == HOLDS
    assert overall([holds, noise, noise]) == NOISE
    assert overall([holds, holds, fails]) == FAILS
    assert overall([]) == NOT_RUN


@pytest.mark.parametrize(("n_arms", "constant"), [(2, 1.960), (5, 2.728), (10, 3.164)])
def test_nemenyi_constants(n_arms, constant):
    """Table 5 of Demsar (2006)."""
    factor = np.sqrt(n_arms * (n_arms + 1) / (6 * 14))
    assert nemenyi(n_arms, 14) / factor == pytest.approx(constant, abs=5e-4)


def test_ranks():
    found = rank(scores([[3, 2, 1], [3, 2, 2], [1, 2, 3], [9, 8, 7]], ["a", "b", "c"]))
    assert found.ranks.to_dict() == {"a": 1.5, "b": 2.125, "c": 2.375}
    assert found.tables == 4
    # Of tables without the tie: 12 / (n k (k + 1)) * sum of squared rank sums - 3 n (k + 1).
    untied = rank(scores([[3, 2, 1], [3, 2, 1], [1, 2, 3], [9, 8, 7]], ["a", "b", "c"]))
    statistic = 12 / (4 * 3 * 4) * (6**2 + 8**2 + 10**2) - 3 * 4 * 4
    assert untied.p_value == pytest.approx(np.exp(-statistic / 2))


def test_ranks_without_a_difference():
    assert np.isnan(rank(scores([[1, 1, 1]] * 3, ["a", "b", "c"])).p_value)
    assert rank(scores([[1, 2]] * 3, ["a", "b"])) is None
    assert rank(scores([[1, 2, 3]], ["a", "b", "c"])) is None


def test_an_arm_cut_short_is_left_out_of_the_ranking():
    frame = scores([[3, 2, 1, 0]] * 4, ["a", "b", "c", "d"])
    frame.iloc[1:, 3] = np.nan
    frame.iloc[0, 0] = np.nan
    found = rank(frame)
    assert found.left_out == ["d"]
    assert found.tables == 3
    assert complete(frame).shape == (3, 3)


def test_cliques():
    assert cliques([1, 1.5, 3, 3.2, 9], 1.8) == [(0, 1), (1, 3)]
    assert cliques([1, 3, 5], 1) == []
    assert cliques([1, 2, 3], 5) == [(0, 2)]


def test_way():
    arms = ["cMIM", "raw", "HistGradientBoosting", "ExtraTrees"]
    rows = [
        [0.65, 0.6, 0.7, 0.5],  # halfway
        [0.2, 0.6, 0.7, 0.8],  # clipped from below
        [0.95, 0.6, 0.5, 0.7],  # clipped from above
        [0.7, 0.6, 0.615, 0.5],  # trees lead by too little
        [0.7, 0.6, np.nan, 0.8],  # which is the better tree?
    ]
    found = way(scores(rows, arms))
    assert found["way"].tolist() == pytest.approx([0.5, -1, 1.5, np.nan], nan_ok=True)
    assert found["trees"].tolist() == [0.7, 0.8, 0.7, 0.615]
    assert len(way(scores(rows, arms).drop(columns="HistGradientBoosting"))) == 5
    assert len(way(scores(rows, arms)[["cMIM", "raw"]])) == 0


def test_way_takes_the_better_trees_of_each_seed():
    arms = ["cMIM", "raw", "HistGradientBoosting", "ExtraTrees"]
    frame = scores([[0.6, 0.5, 0.7, 0.5], [0.6, 0.5, 0.5, 0.9]], arms)
    frame.index = pd.MultiIndex.from_tuples([("a", 0), ("a", 1)], names=["table", "seed"])
    assert way(frame).loc["a", "trees"] == pytest.approx(0.8)


def test_embedding_of_each_arm():
    rows = frame_of(
        [
            *({"arm": "cMIM", "embedding": e, "score": 1} for e in ("layers", "mean")),
            {"arm": "InfoNCE", "embedding": "mean", "score": 1},
            {"arm": "raw", "embedding": "", "score": 1},
        ]
    )
    chosen = at_embedding(rows, "layers").set_index("arm")["embedding"]
    assert chosen.to_dict() == {"cMIM": "layers", "InfoNCE": "mean", "raw": ""}
    assert set(at_embedding(rows, "mean")["embedding"]) == {"mean", ""}


def test_batch_dependence():
    rows = [
        {"arm": arm, "setting": str(2**power), "table": name, "score": level + slope * power}
        for arm, slope in (("cMIM", 0.0), ("InfoNCE", 0.01))
        for name, level in (("a", 0.5), ("b", 0.7))
        for power in range(4, 11)
    ]
    # A batch size that one arm alone has is not compared.
    rows += [{"arm": "cMIM", "setting": "2048", "table": name, "score": 9.0} for name in ("a", "b")]
    found = batch_dependence(frame_of(rows))
    assert found.means.index.tolist() == [2**power for power in range(4, 11)]
    assert found.slopes["InfoNCE"].tolist() == pytest.approx([0.01, 0.01])
    assert found.ranges["InfoNCE"].tolist() == pytest.approx([0.06, 0.06])
    assert found.ranges["cMIM"].tolist() == [0, 0]
    assert found.means.loc[16, "InfoNCE"] == pytest.approx(0.64)
    assert batch_dependence(frame_of(rows[:1])) is None


def test_time_curves():
    rows = frame_of(
        {"table": name, "setting": setting, "score": score, "fit_s": seconds}
        for name in ("a", "b")
        for setting, score, seconds in (
            ("100", 0.4, 1),
            ("1000", 0.8, 10),
            ("lr 0.001, 100", 0.2, 2),
            ("default", 0.7, 5),
        )
    )
    rows.loc[rows["table"] == "b", "score"] *= -1
    found = time_curves(rows)
    # A table with a longest fit below zero has no share of it.
    assert set(found["table"]) == {"a"}
    shares = found.set_index(["variant", "updates"])["relative"].to_dict()
    assert shares == {("", 100): 0.5, ("", 1000): 1, ("lr 0.001", 100): 0.25}
    assert found.loc[found["variant"] == "lr 0.001", "fit_s"].tolist() == [2]
    assert time_curves(rows[rows["setting"] == "default"]).empty


def test_default_reached():
    rows = frame_of(
        {"table": name, "setting": setting, "score": score, "fit_s": seconds}
        for name, default, longer, seconds in [
            ("close", 0.792, 0.8, 10),
            ("far", 0.79, 0.8, 10),
            ("late", 0.8, 0.8, 31),
            ("negative", -0.1005, -0.1, 10),
            ("lower", -0.102, -0.1, 10),
        ]
        for setting, score in (("default", default), ("ten times", longer))
    )
    found = default_reached(rows)
    assert found["reached"].to_dict() == {
        "close": True,
        "far": False,
        "late": False,
        "negative": True,
        "lower": False,
    }
    assert found.loc["close", "share"] == pytest.approx(0.99)
    assert np.isnan(found.loc["negative", "share"])


def test_costs():
    rows = frame_of(
        {"arm": arm, "table": name, "fit_s": seconds, "score": score}
        for arm, score in (("cMIM", 0.8), ("raw", 0.6))
        for name, seconds in (("a", 1.0), ("b", 2.0), ("c", 9.0))
    )
    found = costs(rows[:-1])
    assert found["fit_s"].to_dict() == {"cMIM": 2, "raw": 1.5}
    assert found["score"].to_dict() == pytest.approx({"cMIM": 0.8, "raw": 0.6})
    assert found["fits"].to_dict() == {"cMIM": 3, "raw": 2}


# Figures


def test_critical_difference_joins_what_is_not_told_apart():
    frame = scores([[4, 3, 2, 1], [4, 3, 2, 1], [3, 4, 1, 2]] * 8, ["a", "b", "c", "d"])
    found = rank(frame)
    [ax] = figures.critical_difference(found).axes
    lines = {gid: [x for x in ax.lines if x.get_gid() == gid] for gid in ("clique", "leader")}
    assert [line.get_xdata()[0] for line in lines["leader"]] == found.ranks.tolist()
    groups = cliques(found.ranks, found.difference)
    assert groups == [(0, 1), (2, 3)]
    for line, (first, last) in zip(lines["clique"], groups, strict=True):
        assert line.get_xdata() == pytest.approx(found.ranks.iloc[[first, last]], abs=0.06)
    [ruler] = [line for line in ax.lines if line.get_gid() == "ruler"]
    assert np.ptp(ruler.get_xdata()) == pytest.approx(found.difference)
    assert any(f"{found.difference:.2f}" in text.get_text() for text in ax.texts)


def test_differences_hold_means_and_intervals():
    frame = scores([[0.3, 0.1], [0.4, 0.1], [0.5, 0.1]], ["cMIM", "MIM"])
    found = paired(frame, "cMIM", "MIM")
    [ax] = figures.differences({("mean", "linear"): found}, "cMIM minus MIM").axes
    [bar] = ax.containers
    assert bar.lines[0].get_xdata() == pytest.approx([0.3])
    # Student's t of 97.5 % with two degrees of freedom is 4.303.
    [[left, right]] = [segment[:, 0] for segment in bar.lines[2][0].get_segments()]
    assert (left, right) == pytest.approx((0.3 - 0.2484, 0.3 + 0.2484), abs=1e-4)
    assert ax.get_yticklabels()[0].get_text() == "mean, linear"


def test_lines_and_points_hold_the_scores():
    means = pd.DataFrame({"cMIM": [0.5, 0.6], "MIM": [0.4, 0.3]}, index=[16, 32])
    [ax] = figures.batch_lines(means).axes
    drawn = {line.get_label(): list(line.get_ydata()) for line in ax.lines}
    assert drawn == {"cMIM": [0.5, 0.6], "MIM": [0.4, 0.3]}

    [ax] = figures.table_scores(means).axes
    assert {line.get_label(): list(line.get_xdata()) for line in ax.lines} == drawn

    table = pd.DataFrame({"score": [0.5, 0.4], "fit_s": [20.0, 0.0]}, index=["cMIM", "raw"])
    [ax] = figures.cost(table).axes
    points = {line.get_label(): line.get_xydata().tolist() for line in ax.lines}
    assert points == {"cMIM": [[20, 0.5]], "raw": [[figures.LEAST_SECONDS, 0.4]]}


def test_ablation_holds_differences_in_order():
    frame = scores([[0.2, 0.1, 0.5], [0.3, 0.1, 0.5]], ["10", "9", "100"])
    against = {setting: paired(frame, setting, "9") for setting in frame}
    [ax] = figures.ablation({"layers": against}, "9").axes
    assert [label.get_text() for label in ax.get_xticklabels()] == ["9\n(default)", "10", "100"]
    [bar] = ax.containers
    heights = dict(zip(bar.lines[0].get_xdata(), bar.lines[0].get_ydata(), strict=True))
    assert heights == pytest.approx({0: 0, 1: 0.15, 2: 0.4})


def test_time_to_quality_draws_tables_and_means(tidy):
    rows = tidy[(tidy["experiment"] == "time")]
    curves = time_curves(rows)
    [ax] = figures.time_to_quality(curves).axes
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["each table", "mean of tables", "mean, batch 64"]
    mean = next(line for line in ax.lines if line.get_label() == "mean of tables")
    assert mean.get_xdata() == pytest.approx([1, 3, 10, 30, 100])
    assert mean.get_ydata()[-1] == 1


def test_styles_are_distinct_and_cmim_keeps_its_own():
    styles = figures.styles(["raw", "cMIM", *map(str, range(40))])
    assert len({tuple(style.values()) for style in styles.values()}) == 42
    assert styles["cMIM"] == figures.styles(["cMIM"])["cMIM"]
    assert list(styles)[:2] == ["raw", "cMIM"]


# The report


def test_report_says_what_it_computed(tidy, folder):
    text = (folder / "RESULTS.md").read_text()
    assert text.startswith("*Generated by `python -m benchmarks.run --data-dir DIR --out DIR`")
    assert "nan" not in text
    rows = tidy[(tidy["experiment"] == "rivals") & (tidy["regime"] == "all")]
    means = rows.groupby(["arm", "table"])["score"].mean()
    gain = means["cMIM"] - means["raw"]
    assert (
        "**cMIM's features are at least as good as raw columns (all labels): holds.** "
        f"{gain.mean():+.3f} ± {gain.std() / np.sqrt(8):.3f} (8 wins, 0 losses; 8 tables, 2 seeds)"
    ) in text
    assert "Above raw on 8 of 8 tables, above both raw and trees on 0 of 8" in text
    # Trees, which are above it, have no rank among features.
    assert "cMIM's mean rank is 1.00, place 1 of 11" in text
    for half in (slice(0, 4), slice(4, 8)):
        assert f"| 4 of 4 | {gain.iloc[half].mean():+.3f} ± " in text
    assert "chosen on: table A, table B, table C and table D; confirmed on: table E" in text
    assert "Run on a processor with 1 thread. Versions: numpy 1.2.3." in text
    assert "second sample" in text
    assert "hidden_layer_sizes**, default (256, 256): (512, 512, 512) +0.0" in text


def test_report_shows_every_figure_that_it_draws(folder):
    text = (folder / "RESULTS.md").read_text()
    drawn = sorted(path.name for path in (folder / "figures").iterdir())
    assert len(drawn) == 14
    for name in drawn:
        assert text.count(f"](figures/{name})") == 1
        assert (folder / "figures" / name).read_bytes().startswith(b"\x89PNG")


def test_a_failing_claim_is_said_to_fail(tidy, tmp_path):
    rows = tidy[tidy["experiment"] == "family"].copy()
    worse = (rows["arm"] == "cMIM") & (rows["probe"] == "mlp") & (rows["embedding"] == "mean")
    rows.loc[worse, "score"] -= 0.1
    write_report(rows, tmp_path, context={})
    text = (tmp_path / "RESULTS.md").read_text()
    [finding] = [line for line in text.splitlines() if line.startswith("- **(a)")]
    assert "under every probe: does not hold.**" in finding
    assert "holds in 7, is within noise in 0 and fails in 1 of 8 comparisons" in finding
    assert "Failing: mean, MLP -0.08" in finding


@pytest.mark.parametrize("experiment", ["family", "batch", "rivals", "targets", "time", "positive"])
def test_partial_results(tidy, tmp_path, experiment):
    """One experiment alone, cut ever shorter; the others are said not to have run."""
    rows = tidy[tidy["experiment"] == experiment]
    two_arms = rows[rows["arm"].isin(rows["arm"].unique()[:2])]
    one_table = rows[rows["table"] == "table A"]
    ragged = rows.sample(frac=0.3, random_state=0)
    for i, part in enumerate((two_arms, one_table, ragged, rows[:1], rows[:0])):
        write_report(part, tmp_path / str(i), context={})
        text = (tmp_path / str(i) / "RESULTS.md").read_text()
        assert "not run" in text
        assert "nan" not in text


def test_ablation_without_a_default_has_a_reference(tidy, tmp_path):
    rows = tidy[(tidy["experiment"] == "temperature") & (tidy["probe"] == "linear")]
    write_report(rows, tmp_path, context={"defaults": {"temperature": "7"}})
    text = (tmp_path / "RESULTS.md").read_text()
    assert "**temperature**, reference 0.01: 0.1 +0.0" in text
    assert "(default)" not in text


def test_missing_scores_are_counted(tidy, tmp_path):
    rows = tidy[tidy["experiment"] == "targets"].copy()
    rows.loc[rows.index[:3], "score"] = np.nan
    write_report(rows, tmp_path, context={})
    assert "3 scores missing (NaN) left out." in (tmp_path / "RESULTS.md").read_text()


def test_command(tidy, tmp_path, monkeypatch):
    rows = tidy[tidy["experiment"] == "targets"]
    rows.to_parquet(tmp_path / "results.parquet")
    (tmp_path / "context.json").write_text('{"cpu": "an abacus"}')
    out = tmp_path / "out"
    arguments = ["report", "--results", str(tmp_path / "results.parquet"), "--out", str(out)]
    monkeypatch.setattr("sys.argv", arguments)
    main()
    text = (out / "RESULTS.md").read_text()
    assert "Run on an abacus." in text
    assert "`python -m benchmarks.report --results FILE --out DIR`" in text
