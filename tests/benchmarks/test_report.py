"""Quality report: statistics with known answers, and the stored tables and figures."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.quality import compare, figures
from benchmarks.quality.compare import MARGIN, at_embedding, complete, paired, rank, way, wide
from benchmarks.quality.report import HERE, main, write_report
from benchmarks.speed.report import HERE as SPEED
from benchmarks.tools import markdown, number, significant
from tests.helpers import arm_scores, frame_of

EVIDENCE = Path(__file__).parents[2] / "docs" / "evidence"


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


def test_paired_uses_only_shared_pairs():
    frame = arm_scores([[1, 0], [2, np.nan], [np.nan, 5], [4, 3]], ["cMIM", "MIM"])
    found = paired(frame, "cMIM", "MIM")
    assert (found.mean, found.tables) == (1, 2)
    assert paired(frame, "cMIM", "absent").verdict == "not run"
    assert paired(frame[:1], "cMIM", "MIM").verdict == "too few tables"


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([0.1, 0.11, 0.09], "better"),
        ([0, 0, 0], "no worse"),
        ([-0.1, -0.11, -0.09], "worse"),
        ([0.1, -0.1, 0.02], "open"),
        # Student's t of 97.5 % with two degrees of freedom is 4.303: ± 0.0025, and twice that.
        ([-0.001, -0.002, -0.003], "no worse"),
        ([0.002, 0, -0.002], "no worse"),
        ([0.0019, -0.0001, -0.0021], "open"),
        ([0.0026, 0.0016, 0.0036], "better"),
        # Below zero, but within the margin.
        ([-0.003, -0.003, -0.003], "worse"),
    ],
)
def test_verdict(differences, verdict):
    frame = arm_scores([[d, 0] for d in differences], ["cMIM", "MIM"])
    assert MARGIN == 0.005
    assert paired(frame, "cMIM", "MIM").verdict == verdict


@pytest.mark.parametrize(("n_arms", "constant"), [(2, 1.960), (5, 2.728), (10, 3.164)])
def test_nemenyi_constants(n_arms, constant):
    """Table 5 of Demsar (2006)."""
    factor = np.sqrt(n_arms * (n_arms + 1) / (6 * 14))
    assert compare.nemenyi(n_arms, 14) / factor == pytest.approx(constant, abs=5e-4)


def test_ranks():
    found = rank(arm_scores([[3, 2, 1], [3, 2, 2], [1, 2, 3], [9, 8, 7]], ["a", "b", "c"]))
    assert found.ranks.to_dict() == {"a": 1.5, "b": 2.125, "c": 2.375}
    assert found.tables == 4
    # Without ties: 12 / (n k (k + 1)) * sum of squared rank sums - 3 n (k + 1).
    untied = rank(arm_scores([[3, 2, 1], [3, 2, 1], [1, 2, 3], [9, 8, 7]], ["a", "b", "c"]))
    statistic = 12 / (4 * 3 * 4) * (6**2 + 8**2 + 10**2) - 3 * 4 * 4
    assert untied.p_value == pytest.approx(np.exp(-statistic / 2))
    assert np.isnan(rank(arm_scores([[1, 1, 1]] * 3, ["a", "b", "c"])).p_value)
    assert rank(arm_scores([[1, 2]] * 3, ["a", "b"])) is None
    assert rank(arm_scores([[1, 2, 3]], ["a", "b", "c"])) is None


def test_an_incomplete_arm_is_not_ranked():
    frame = arm_scores([[3, 2, 1, 0]] * 4, ["a", "b", "c", "d"])
    frame.iloc[1:, 3] = np.nan
    frame.iloc[0, 0] = np.nan
    assert list(rank(frame).ranks.index) == ["a", "b", "c"]
    assert complete(frame).shape == (3, 3)


def test_way():
    arms = ["cMIM", "raw", "HistGradientBoosting", "ExtraTrees"]
    rows = [
        [0.65, 0.6, 0.7, 0.5],  # halfway
        [0.2, 0.6, 0.7, 0.8],  # clipped from below
        [0.95, 0.6, 0.5, 0.7],  # clipped from above
        [0.7, 0.6, 0.615, 0.5],  # trees lead by too little
        [0.7, 0.6, np.nan, 0.8],  # the better tree is unknown
    ]
    found = way(arm_scores(rows, arms))
    assert found["way"].tolist() == pytest.approx([0.5, -1, 1.5, np.nan], nan_ok=True)
    assert found["trees"].tolist() == [0.7, 0.8, 0.7, 0.615]
    frame = arm_scores([[0.6, 0.5, 0.7, 0.5], [0.6, 0.5, 0.5, 0.9]], arms)
    frame.index = pd.MultiIndex.from_tuples([("a", 0), ("a", 1)], names=["table", "seed"])
    assert way(frame).loc["a", "trees"] == pytest.approx(0.8)  # the better of each seed


def test_embedding_of_each_arm():
    pairs = [("cMIM", "layers"), ("cMIM", "mean"), ("InfoNCE", "mean"), ("raw", "")]
    rows = frame_of({"arm": arm, "embedding": place, "score": 1} for arm, place in pairs)
    chosen = at_embedding(rows, "layers").set_index("arm")["embedding"]
    assert chosen.to_dict() == {"cMIM": "layers", "InfoNCE": "mean", "raw": ""}


def test_slopes_are_for_each_doubling():
    scores = pd.DataFrame([[0.5, 0.6, 0.7], [0.3, 0.3, 0.3]], columns=[16, 32, 64])
    assert compare.slopes(scores) == pytest.approx([0.1, 0])


def test_costs():
    rows = frame_of(
        {"arm": arm, "table": name, "fit_s": seconds, "score": score}
        for arm, score in (("cMIM", 0.8), ("raw", 0.6))
        for name, seconds in (("a", 1.0), ("b", 2.0), ("c", 9.0))
    )
    found = compare.costs(rows[:-1])
    assert found["fit_s"].to_dict() == {"cMIM": 2, "raw": 1.5}
    assert found["score"].to_dict() == pytest.approx({"cMIM": 0.8, "raw": 0.6})
    assert found["fits"].to_dict() == {"cMIM": 3, "raw": 2}


def test_contrast_sizes():
    rows = frame_of(
        {"arm": arm, "table": name, "seed": seed, "probe": probe, "contrast": c, "loss": loss}
        for arm, name, seed, c, loss in [
            ("cMIM", "a", 0, 0.1, 10.0),
            ("cMIM", "a", 1, 0.3, -10.0),
            ("cMIM", "b", 0, 0.4, 10.0),
            ("cMIM", "c", 0, 1.0, 0.0),
            ("InfoNCE", "a", 0, 2.0, 2.0),
            ("MIM", "a", 0, np.nan, 5.0),
        ]
        for probe in ("linear", "mlp")
    )
    found = compare.contrast_sizes(rows, "arm")
    assert found["contrast"].to_dict() == pytest.approx({"cMIM": 0.4, "InfoNCE": 2})
    # 2 % and 4 %; a loss of zero has no shares.
    assert found["share"].to_dict() == pytest.approx({"cMIM": 0.03, "InfoNCE": 1})
    assert found["tables"].to_dict() == {"cMIM": 3, "InfoNCE": 1}
    assert found["seeds"].to_dict() == {"cMIM": (1, 2), "InfoNCE": (1, 1)}


def test_numbers_in_tables():
    values = [0.00412, 0.0, 1.0, 99.6, 1234.0, -0.0511, np.nan]
    assert [significant(value) for value in values] == [
        *("0.0041", "0", "1", "100", "1200", "-0.051", "-"),
    ]
    assert [number(v) for v in (-0.0001, 2, np.nan)] == ["0.000", "2.000", "-"]
    frame = pd.DataFrame({"a|b": [0.5], "n": [3]}, index=["x"])
    assert markdown(frame) == "|  | a\\|b | n |\n| --- | --- | --- |\n| x | 0.500 | 3 |"


def test_differences_show_means_and_intervals():
    frame = arm_scores([[0.3, 0.1], [0.4, 0.1], [0.5, 0.1]], ["cMIM", "MIM"])
    found = paired(frame, "cMIM", "MIM")
    [ax] = figures.differences({("mean,", "linear"): found}, "cMIM minus MIM").axes
    [bar] = ax.containers
    assert bar.lines[0].get_xdata() == pytest.approx([0.3])
    [[left, right]] = [segment[:, 0] for segment in bar.lines[2][0].get_segments()]
    assert (left, right) == pytest.approx((0.3 - 0.2484, 0.3 + 0.2484), abs=1e-4)
    assert ax.get_yticklabels()[0].get_text() == "mean, linear"


def test_the_band_of_ranks_is_as_wide_as_the_critical_difference():
    found = rank(arm_scores([[4, 3, 2, 1], [4, 3, 2, 1], [3, 4, 1, 2]] * 8, ["a", "b", "c", "d"]))
    [ax] = figures.ranks(found, "ranks").axes
    assert ax.patches[0].get_width() == pytest.approx(found.difference)
    drawn = [line.get_xdata()[0] for line in ax.lines]
    assert drawn == found.ranks.tolist()


def test_styles_are_distinct_and_that_of_cmim_is_fixed():
    styles = figures.styles(["raw", "cMIM", *map(str, range(40))])
    assert len({tuple(style.values()) for style in styles.values()}) == 42
    assert styles["cMIM"] == figures.styles(["cMIM"])["cMIM"]


@pytest.fixture
def undrawn(monkeypatch):
    """Save no figures, but list their names."""
    names = []
    monkeypatch.setattr(
        "matplotlib.figure.Figure.savefig", lambda self, path, **_: names.append(path.name)
    )
    return names


def test_the_stored_scores_give_the_stored_tables(tmp_path, undrawn, monkeypatch):
    monkeypatch.setattr("sys.argv", ["report", "--out", str(tmp_path)])
    main()
    stored = (HERE / "RESULTS.md").read_text()
    assert (tmp_path / "RESULTS.md").read_text() == stored
    assert sorted(undrawn) == sorted(path.name for path in (HERE / "figures").iterdir())
    assert all(stored.count(f"](figures/{name})") == 1 for name in undrawn)


def cells(text, name):
    """Cells of the rows of Markdown tables that begin with a name, without emphasis."""
    rows = re.findall(rf"^\| {re.escape(name)} \|(.*)\|$", text, flags=re.M)
    return [[cell.strip(" *") for cell in row.split("|")] for row in rows]


def test_the_page_on_quality_has_the_stored_scores_of_every_table():
    page, stored = (EVIDENCE / "quality.md").read_text(), (HERE / "RESULTS.md").read_text()
    names = [*pd.read_parquet(HERE / "results.parquet")["table"].unique(), "mean"]
    assert len(names) == 15
    for name in names:
        both = [row[:3] for row in cells(stored, name) if len(row) == 4]  # without the way
        found = cells(page, "*mean*" if name == "mean" else name)[0]
        assert found == [row[i] for row in both for i in (1, 0, 2)]


@pytest.mark.parametrize(
    ("page", "stored"), [("quality", HERE / "RESULTS.md"), ("speed", SPEED / "SPEED.md")]
)
def test_every_decimal_of_a_page_is_in_the_stored_tables(page, stored):
    """Sections about studies and busy machines, at the ends of the pages, have no stored tables."""
    text = re.split("## Synthetic data|## Busy machines", (EVIDENCE / f"{page}.md").read_text())[0]
    missing = set(re.findall(r"\d+\.\d+", text)) - set(re.findall(r"\d+\.\d+", stored.read_text()))
    assert not missing


def test_partial_results(tmp_path, undrawn):
    """Incomplete experiments still give a report."""
    results = pd.read_parquet(HERE / "results.parquet")
    context = json.loads((HERE / "context.json").read_text())
    for experiment, rows in results.groupby("experiment"):
        one_table = rows[rows["table"] == rows["table"].iloc[0]]
        for part in (one_table, rows.sample(frac=0.3, random_state=0)):
            write_report(part, tmp_path, context)
            assert experiment in (tmp_path / "RESULTS.md").read_text().lower()
