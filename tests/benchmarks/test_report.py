"""Report and figures of the quality benchmark, on synthetic scores with known answers."""

import numpy as np
import pandas as pd
import pytest

from benchmarks import figures, sections
from benchmarks.comparisons import cliques, default_reached, paired, rank, select, time_curves, wide
from benchmarks.report import main, write_report
from benchmarks.sections import length_findings
from benchmarks.wording import claim, elsewhere, rounded
from tests.helpers import arm_scores, frame_of

PROBES = ("linear", "knn_cosine", "knn_euclidean", "mlp")
TABLES = [f"table {letter}" for letter in "ABCDEFGH"]
DECODERS = {"AE": 0, "cAE": 0.005, "VAE": 0.005, "cVAE": 0.01, "MIM": 0.015, "cMIM": 0.03}
OTHERS = {"InfoNCE": 0.01, "VICReg": 0, "BarlowTwins": -0.01, "untrained": -0.03}
RIVALS = {
    **{"cMIM": 0.05, "raw": 0, "HistGradientBoosting": 0.1, "ExtraTrees": 0.08, "PCA": -0.02},
    **{"TruncatedSVD": -0.03, "RandomTreesEmbedding": 0.02, "UMAP": -0.1, "SCARF": 0.01},
    **{"untrained": 0.03},
    **{"VIME": 0, "SubTab": -0.01, "DAE": 0.015, "pythae VAE": -0.05},
}


def everything(seeds=2):
    """Scores of every experiment; noise is small compared with the differences of arms."""
    rng = np.random.RandomState(0)
    rows = []

    def add(experiment, score, seed_noise=0.004, **values):
        for t, name in enumerate(TABLES):
            for seed in range(seeds):
                value = 0.6 + 0.04 * t + score + seed_noise * rng.randn()
                cell = {"experiment": experiment, "table": name, "seed": seed, "score": value}
                rows.append({**cell, **values})

    places = {"layers": 0.02, "informative": 0.01, "mean": 0, "control": -0.05}
    for arm, lead in {**DECODERS, **OTHERS}.items():
        loss = {"contrast": 0.004 if arm.startswith("c") else np.nan, "loss": -8.0}
        for place, more in places.items():
            if place in ("informative", "control") and arm in ("InfoNCE", "VICReg", "BarlowTwins"):
                continue
            cell = {"arm": arm, "embedding": place, **loss}
            for probe in PROBES:
                add("family", lead + more, probe=probe, **cell)
            add("family", lead + more - 0.1, regime="few", n_labels=40, **cell)
        if arm in DECODERS:
            add("family", lead, arm=arm, embedding="mean", probe="reconstruction", **loss)
    for arm, slope in {"cMIM": 0.0, "MIM": 0.001, "InfoNCE": 0.02}.items():
        for size in (16, 64, 256, 1024):
            for place in ("layers", "mean"):
                change = slope * np.log2(size / 16)
                add("batch", change, 1e-4, arm=arm, setting=str(size), embedding=place)
    settings = {
        "temperature": {"0.01": -0.03, "0.1": 0, "1": 0.002, "10": -0.05},
        "hidden_layer_sizes": {"(128,)": -0.01, "(256, 256)": 0, "(512, 512, 512)": 0.01},
        "positive": {"self": 0, "second sample": 0.001},
        "contrastive_weight": {"0": -0.01, "1": 0, "100": 0.002},
    }
    for experiment, choices in settings.items():
        for setting, change in choices.items():
            loss = {}
            if experiment == "contrastive_weight":
                loss = {"contrast": 0.004 * float(setting), "loss": 4.0}
            for place in ("layers", "informative", "mean"):
                for probe in PROBES:
                    add(experiment, change, setting=setting, embedding=place, probe=probe, **loss)
    for i, (arm, lead) in enumerate(RIVALS.items()):
        place = "layers" if arm in ("cMIM", "untrained") else ""
        for regime, share in (("all", 1), ("few", 1.2)):
            cost = {"fit_s": 0.0 if arm == "raw" else 0.01 * 3.0**i, "n_labels": int(100 / share)}
            add("rivals", share * lead, arm=arm, embedding=place, regime=regime, **cost)
        if arm in ("cMIM", "raw", "ExtraTrees", "untrained"):
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
    "jobs": 2,
    "failed": ["UMAP on table A, 1", "SubTab on table B, 0"],
    "cpu": "a processor",
    "versions": {"numpy": "1.2.3"},
    "command": "python -m benchmarks.run --data-dir DIR --out DIR",
    "defaults": {"temperature": "0.1", "hidden_layer_sizes": "(256, 256)", "positive": "self"}
    | {"contrastive_weight": "1"},
    "chosen_on": TABLES[:4],
    "confirmed_on": TABLES[4:],
    "chosen_note": "Halves were drawn by a fair coin.",
}


@pytest.fixture(scope="module")
def tidy():
    return everything()


@pytest.fixture(scope="module")
def folder(tidy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_report(tidy, folder, context=CONTEXT)
    return folder


# Figures


def test_critical_difference_joins_arms_without_significant_differences():
    frame = arm_scores([[4, 3, 2, 1], [4, 3, 2, 1], [3, 4, 1, 2]] * 8, ["a", "b", "c", "d"])
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


def test_no_bars_without_significant_differences():
    found = rank(arm_scores([[3, 2, 1], [1, 2, 3]], ["a", "b", "c"]))
    [ax] = figures.critical_difference(found).axes
    assert not [line for line in ax.lines if line.get_gid() in ("clique", "ruler")]
    assert "ranks are not told apart" in [text.get_text() for text in ax.texts]


def test_differences_show_means_and_intervals():
    frame = arm_scores([[0.3, 0.1], [0.4, 0.1], [0.5, 0.1]], ["cMIM", "MIM"])
    found = paired(frame, "cMIM", "MIM")
    [ax] = figures.differences({("mean", "linear"): found}, "cMIM minus MIM").axes
    [bar] = ax.containers
    assert bar.lines[0].get_xdata() == pytest.approx([0.3])
    # Student's t of 97.5 % with two degrees of freedom is 4.303.
    [[left, right]] = [segment[:, 0] for segment in bar.lines[2][0].get_segments()]
    assert (left, right) == pytest.approx((0.3 - 0.2484, 0.3 + 0.2484), abs=1e-4)
    assert ax.get_yticklabels()[0].get_text() == "mean, linear"


def test_lines_and_points_show_the_scores():
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


def test_ablation_shows_differences_in_order():
    frame = arm_scores([[0.2, 0.1, 0.5], [0.3, 0.1, 0.5]], ["10", "9", "100"])
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


def test_styles_are_distinct_and_that_of_cmim_is_fixed():
    styles = figures.styles(["raw", "cMIM", *map(str, range(40))])
    assert len({tuple(style.values()) for style in styles.values()}) == 42
    assert styles["cMIM"] == figures.styles(["cMIM"])["cMIM"]
    assert list(styles)[:2] == ["raw", "cMIM"]


# Words


def test_numbers_of_any_size():
    values = [0.00412, 0.0, 1.0, 99.6, 1234.0, -0.0511, np.nan]
    assert [rounded(value) for value in values] == [
        *("0.0041", "0", "1", "100", "1200", "-0.051", "-"),
    ]


def test_claim_of_one_comparison():
    frame = arm_scores([[0.1, 0, 0.1], [0.11, 0, 0.11], [0.09, 0, 0.09]], ["a", "b", "c"])
    better, same = paired(frame, "a", "b"), paired(frame, "a", "c")
    numbers = "+0.100 ± 0.006 (3 wins, 0 losses; 3 tables, 1 seed)."
    assert claim("It adds", {"b": better}, ("better",)) == f"**It adds: holds (better).** {numbers}"
    assert claim("It adds", {"c": same}, ("better",)).startswith("**It adds: is open (no worse).**")
    assert claim("It is fine", {"c": same}).startswith("**It is fine: holds (no worse).**")
    assert claim("It is fine", {"b": paired(frame, "b", "a")}).startswith(
        "**It is fine: does not hold (worse).** -0.100"
    )
    assert claim("It is fine", {"d": paired(frame, "a", "d")}) == "**It is fine: not run.**"


def test_claim_of_several_comparisons():
    frame = arm_scores([[0.1, 0, 0.1], [0.11, 0, 0.11], [0.09, 0, 0.09]], ["a", "b", "c"])
    made = {other: paired(frame, "a", other) for other in "bcd"}
    text = claim("It is fine", made)
    assert text.startswith(
        "**It is fine: 1 better, 1 no worse, 0 worse, 0 open and 1 lacking of 3 comparisons; "
        "it is open in 1 of 3.** "
        "Run: b; c; lacking are those not run or on too few tables. Lowest: c +0.000"
    )
    del made["d"]
    assert "of 2 comparisons; it holds.** Lowest: c +0.000" in claim("It is fine", made)


def test_arms_at_another_embedding_are_named():
    rows = frame_of(
        {"arm": arm, "embedding": place, "score": 1}
        for arm, place in [("cMIM", "layers"), ("cMIM", "mean"), ("InfoNCE", "mean"), ("raw", "")]
    )
    assert elsewhere(rows, "mean") == ""
    assert elsewhere(rows, "layers") == (
        "Without a layers embedding, and shown at another: InfoNCE (mean)."
    )


# The report


def test_the_report_states_the_computed_numbers(tidy, folder):
    text = (folder / "RESULTS.md").read_text()
    assert text.startswith("*Generated by `python -m benchmarks.run --data-dir DIR --out DIR`")
    assert "nan" not in text
    rows = tidy[(tidy["experiment"] == "rivals") & (tidy["regime"] == "all")]
    means = rows.groupby(["arm", "table"])["score"].mean()
    gain = means["cMIM"] - means["raw"]
    assert (
        "**cMIM's features are at least as good as raw columns (all labels): holds (better).** "
        f"{gain.mean():+.3f} ± {gain.std() / np.sqrt(8):.3f} (8 wins, 0 losses; 8 tables, 2 seeds)"
    ) in text
    assert "Above raw on 8 of 8 tables, above both raw and trees on 0 of 8" in text
    # Trees are not ranked among features.
    assert "cMIM's mean rank is 1.00, place 1 of 12" in text
    for half in (slice(0, 4), slice(4, 8)):
        assert f"| 4 of 4 | {gain.iloc[half].mean():+.3f} ± " in text
    assert "chosen on: table A, table B, table C and table D; confirmed on: table E" in text
    assert ". Halves were drawn by a fair coin.\n" in text
    assert (
        "**The default reaches 99 % of the score of a fit ten times as long: holds.** It does on "
        "8 of 8 tables." in text
    )
    assert (
        "**A default fit takes 30 s at most, with 1 thread: holds.** It does on 8 of 8 tables. "
        "The median is 12.0 s." in text
    )
    assert "Run on a processor with 1 thread for each fit. Versions: numpy 1.2.3." in text
    assert "Failed pieces: UMAP on table A, 1; SubTab on table B, 0." in text
    assert "Seconds: 1 thread for each fit, 2 fits at a time, to fit includes preparing" in text
    for name in ("UMAP", "SCARF", "SubTab"):
        assert f" {name}: {sections.NOTES[name]}." in text
    assert "second sample" in text
    assert "hidden_layer_sizes**, default (256, 256): (512, 512, 512) +0.0" in text


def test_the_report_compares_with_untrained_features(tidy, folder):
    text = (folder / "RESULTS.md").read_text()
    for regime, label in (("all", "all labels"), ("few", "few labels")):
        rows = select(tidy, experiment="rivals", regime=regime)
        gain = paired(wide(rows), "cMIM", "untrained")
        assert (
            f"- **Training adds to the features of an untrained network ({label}): holds "
            f"(better).** {gain.mean:+.3f} ± {gain.error:.3f} (8 wins, 0 losses;"
        ) in text
    assert (
        "- **Training MIM adds to the features of an untrained network: 12 better, 0 no worse, "
        "0 worse and 0 open of 12 comparisons; it holds.**"
    ) in text
    assert "| MIM, informative, linear, few labels |" in text
    assert "| cMIM over untrained |" in text[text.index("## Several targets") :]


def test_the_report_states_a_missing_comparison_with_untrained_features(tidy, tmp_path):
    rows = tidy[tidy["experiment"].isin(["rivals", "family", "targets"])]
    write_report(rows[rows["arm"] != "untrained"], tmp_path, context={})
    text = (tmp_path / "RESULTS.md").read_text()
    for label in ("all labels", "few labels"):
        assert f"untrained network ({label}): not run.**" in text
    assert text.count("untrained network: not run.**") == 2
    assert "update.\n\nNot run." in text
    assert text.count("| cMIM over untrained | - | - | - | 0-0 | 0 tables, 0 seeds | not run |") > 2


def test_the_report_states_the_size_of_the_contrastive_term(folder):
    text = (folder / "RESULTS.md").read_text()
    assert (
        "- The contrastive term ends at a median of 0.004 nats a row for cAE (0.05 % of the loss), "
        "0.004 nats a row for cVAE (0.05 % of the loss) and 0.004 nats a row for cMIM"
    ) in text
    assert "and 0.4 nats a row at weight 100 (10 % of the loss)." in text
    assert "| 100 | 0.4 | 10 | 8 tables, 2 seeds |" in text


def test_batch_is_decided_by_slopes_at_the_mean_first(tidy, folder, tmp_path):
    text = (folder / "RESULTS.md").read_text()
    findings = [line for line in text.splitlines() if line.startswith("- **(d)")]
    for finding, place in zip(findings, ("mean", "layers"), strict=True):
        assert f"the control ({place}, linear): 2 better, 0 no worse, 0 worse and 0" in finding
        # Slopes of 0.001 and 0.02 over 6 doublings.
        assert "Lowest: MIM's slope less cMIM's, times 6 doublings +0.006" in finding
        assert "Highest: InfoNCE's slope less cMIM's, times 6 doublings +0.120" in finding
        assert "InfoNCE +0.0200 ± 0.0000" in finding
    old = tidy[(tidy["arm"] != "InfoNCE") | (tidy["embedding"] == "mean")]
    said = "Without a layers embedding, and shown at another: InfoNCE (mean)."
    assert said not in text
    write_report(old[old["experiment"] == "batch"], tmp_path, context={})
    assert (tmp_path / "RESULTS.md").read_text().count(said) == 1


def test_few_tables_and_many_arms_have_little_power(tidy, tmp_path):
    rows = tidy[(tidy["experiment"] == "family") & tidy["table"].isin(TABLES[:5])].copy()
    rows["score"] = np.random.RandomState(0).rand(len(rows))
    write_report(rows, tmp_path, context={})
    [finding, _] = [
        line
        for line in (tmp_path / "RESULTS.md").read_text().splitlines()
        if line.startswith("- **(e) cMIM is at least")
    ]
    assert "Ranks are not told apart at all (Friedman p = 0." in finding
    assert "A critical difference of 6.06 ranks, 9 being the largest possible, " in finding
    assert "Not told apart from it" not in finding


def test_the_report_shows_every_figure(folder):
    text = (folder / "RESULTS.md").read_text()
    drawn = sorted(path.name for path in (folder / "figures").iterdir())
    assert len(drawn) == 16
    for name in drawn:
        assert text.count(f"](figures/{name})") == 1
        assert (folder / "figures" / name).read_bytes().startswith(b"\x89PNG")


def test_a_failing_claim_is_reported(tidy, tmp_path):
    rows = tidy[tidy["experiment"] == "family"].copy()
    worse = (rows["arm"] == "cMIM") & (rows["probe"] == "mlp") & (rows["embedding"] == "mean")
    rows.loc[worse, "score"] -= 0.1
    write_report(rows, tmp_path, context={})
    text = (tmp_path / "RESULTS.md").read_text()
    [finding] = [line for line in text.splitlines() if line.startswith("- **(a)")]
    assert "7 better, 0 no worse, 1 worse and 0 open of 8 comparisons" in finding
    assert "; it does not hold in 1 of 8.**" in finding
    assert "Worse: mean, MLP -0.08" in finding


def test_a_claim_that_was_run_in_part_does_not_hold(tidy, tmp_path):
    rows = tidy[(tidy["experiment"] == "family") & (tidy["probe"] == "linear")]
    write_report(rows, tmp_path, context={})
    text = (tmp_path / "RESULTS.md").read_text()
    [finding] = [line for line in text.splitlines() if line.startswith("- **(a)")]
    assert "2 better, 0 no worse, 0 worse, 0 open and 6 lacking of 8 comparisons; " in finding
    assert "it is open in 6 of 8.** Run: mean, linear; layers, linear; lacking are" in finding


@pytest.mark.parametrize(
    "experiment",
    [
        "rivals",
        "positive",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("family", "batch", "targets", "time")),
    ],
)
def test_partial_results(tidy, tmp_path, experiment):
    """One incomplete experiment; the report states that the others did not run."""
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
    assert "Run on an abacus with 1 thread for each fit." in text
    assert "`python -m benchmarks.report --results FILE --out DIR`" in text


def test_an_ablation_of_one_setting_is_not_reported(tidy, tmp_path):
    rows = tidy.query("experiment == 'temperature' and setting == '0.1'")
    write_report(rows, tmp_path, context={})
    text = (tmp_path / "RESULTS.md").read_text()
    assert "**temperature**: not run beyond 0.1." in text
    assert not (tmp_path / "figures" / "ablation_temperature.png").exists()


def test_the_length_of_a_fit_is_judged_by_score_and_by_seconds():
    rows = frame_of(
        {"table": name, "setting": setting, "score": score, "fit_s": seconds, "threads": threads}
        for name, default, seconds, threads in [("a", 0.80, 31.0, 1), ("b", 0.70, 9.0, 2)]
        for setting, score in (("default", default), ("ten times", 0.8))
    )
    of_score, of_seconds = length_findings(default_reached(rows))
    assert of_score.startswith(
        "**The default reaches 99 % of the score of a fit ten times as long: does not hold.** It "
        "does on 1 of 2 tables, not on b (0.875). The mean share is 0.938"
    )
    assert of_seconds == (
        "**A default fit takes 30 s at most, with 1 or 2 threads: does not hold.** It does on 1 "
        "of 2 tables, not on a (31.0 s). The median is 20.0 s."
    )
    unknown = default_reached(rows.assign(threads=np.nan))
    assert "with threads unknown" in length_findings(unknown)[1]
    assert all("not run" in text for text in length_findings(default_reached(rows[:1])))
