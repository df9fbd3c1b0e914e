"""Comparisons of the quality benchmark, on scores with known answers."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.comparisons import (
    BETTER,
    FAILS,
    HOLDS,
    MARGIN,
    NO_WORSE,
    NOT_RUN,
    OPEN,
    TOO_FEW,
    WORSE,
    against_others,
    at_embedding,
    batch_dependence,
    cliques,
    complete,
    contrast_sizes,
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
from tests.helpers import arm_scores, frame_of


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
    assert paired(frame, "cMIM", "absent").tables == 0
    assert verdict(paired(frame, "cMIM", "absent")) == NOT_RUN
    assert verdict(paired(frame[:1], "cMIM", "MIM")) == TOO_FEW


@pytest.mark.parametrize(
    ("differences", "word"),
    [
        ([0.1, 0.11, 0.09], BETTER),
        ([0, 0, 0], NO_WORSE),
        ([-0.1, -0.11, -0.09], WORSE),
        ([0.1, -0.1, 0.02], OPEN),
        # More than two standard errors, but on three tables the interval is wider than that.
        ([0.01, 0.03, 0.06], OPEN),
        # Student's t of 97.5 % with two degrees of freedom is 4.303: ± 0.0025, and twice that.
        ([0.001, 0, -0.001], NO_WORSE),
        ([-0.001, -0.002, -0.003], NO_WORSE),
        ([0.002, 0, -0.002], NO_WORSE),
        ([0.0019, -0.0001, -0.0021], OPEN),
        ([0.0026, 0.0016, 0.0036], BETTER),
        # Below zero, but within the margin.
        ([-0.003, -0.003, -0.003], WORSE),
    ],
)
def test_verdict(differences, word):
    frame = arm_scores([[d, 0] for d in differences], ["cMIM", "MIM"])
    assert MARGIN == 0.005
    assert verdict(paired(frame, "cMIM", "MIM")) == word


def test_a_claim_holds_only_if_all_planned_comparisons_ran():
    frame = arm_scores(
        [[1, 0, 2, 0.9, 1], [1.1, 0, 2, 1.2, 1.1], [0.9, 0, 2, 1.0, 0.9]], list("abcde")
    )
    better, worse, open_, same = (paired(frame, "a", other) for other in "bcde")
    lacking = paired(frame, "a", "absent")
    assert [verdict(c) for c in (better, worse, open_, same)] == [BETTER, WORSE, OPEN, NO_WORSE]
    assert [overall([c]) for c in (better, same, worse, open_)] == [HOLDS, HOLDS, FAILS, "is open"]
    assert overall([better, same]) == HOLDS
    assert overall([better, same, open_]) == "is open in 1 of 3"
    assert overall([better, same, lacking]) == "is open in 1 of 3"
    assert overall([better, open_, worse, lacking]) == "does not hold in 1 of 4"
    assert overall([better, better], (BETTER,)) == HOLDS
    assert overall([better, same], (BETTER,)) == "is open in 1 of 2"
    assert overall([]) == overall([lacking]) == NOT_RUN
    assert overall([paired(frame[:1], "a", "b"), lacking]) == TOO_FEW


def test_planned_comparisons_are_not_dropped():
    others = against_others(arm_scores([[1, 0]] * 2, ["cMIM", "raw"]), ["untrained", "cMIM"])
    assert {label: c.tables for label, c in others.items()} == {
        "cMIM over untrained": 0,
        "cMIM over raw": 2,
    }


@pytest.mark.parametrize(("n_arms", "constant"), [(2, 1.960), (5, 2.728), (10, 3.164)])
def test_nemenyi_constants(n_arms, constant):
    """Table 5 of Demsar (2006)."""
    factor = np.sqrt(n_arms * (n_arms + 1) / (6 * 14))
    assert nemenyi(n_arms, 14) / factor == pytest.approx(constant, abs=5e-4)


def test_ranks():
    found = rank(arm_scores([[3, 2, 1], [3, 2, 2], [1, 2, 3], [9, 8, 7]], ["a", "b", "c"]))
    assert found.ranks.to_dict() == {"a": 1.5, "b": 2.125, "c": 2.375}
    assert found.tables == 4
    # For tables without ties: 12 / (n k (k + 1)) * sum of squared rank sums - 3 n (k + 1).
    untied = rank(arm_scores([[3, 2, 1], [3, 2, 1], [1, 2, 3], [9, 8, 7]], ["a", "b", "c"]))
    statistic = 12 / (4 * 3 * 4) * (6**2 + 8**2 + 10**2) - 3 * 4 * 4
    assert untied.p_value == pytest.approx(np.exp(-statistic / 2))


def test_ranks_without_significant_differences():
    ranking = rank(arm_scores([[3, 2, 1]] * 5, ["a", "b", "c"]))
    # Five tables of the same order: exp(-5) of a chi squared variable.
    assert ranking.p_value == pytest.approx(np.exp(-5))
    assert ranking.told_apart
    assert not rank(arm_scores([[3, 2, 1], [1, 2, 3]], ["a", "b", "c"])).told_apart
    assert not rank(arm_scores([[1, 1, 1]] * 3, ["a", "b", "c"])).told_apart
    # Nine arms on five tables: 3.102 * sqrt(9 * 10 / (6 * 5)) of 8 ranks.
    many = rank(arm_scores(np.random.RandomState(0).rand(5, 9), list("abcdefghi")))
    assert many.difference == pytest.approx(5.373, abs=1e-3)
    assert many.weak
    assert not rank(arm_scores(np.random.RandomState(0).rand(40, 9), list("abcdefghi"))).weak


def test_ranks_without_a_difference():
    assert np.isnan(rank(arm_scores([[1, 1, 1]] * 3, ["a", "b", "c"])).p_value)
    assert rank(arm_scores([[1, 2]] * 3, ["a", "b"])) is None
    assert rank(arm_scores([[1, 2, 3]], ["a", "b", "c"])) is None


def test_an_incomplete_arm_is_not_ranked():
    frame = arm_scores([[3, 2, 1, 0]] * 4, ["a", "b", "c", "d"])
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
        [0.7, 0.6, np.nan, 0.8],  # the better tree is unknown
    ]
    found = way(arm_scores(rows, arms))
    assert found["way"].tolist() == pytest.approx([0.5, -1, 1.5, np.nan], nan_ok=True)
    assert found["trees"].tolist() == [0.7, 0.8, 0.7, 0.615]
    assert len(way(arm_scores(rows, arms).drop(columns="HistGradientBoosting"))) == 5
    assert len(way(arm_scores(rows, arms)[["cMIM", "raw"]])) == 0


def test_way_takes_the_better_trees_of_each_seed():
    arms = ["cMIM", "raw", "HistGradientBoosting", "ExtraTrees"]
    frame = arm_scores([[0.6, 0.5, 0.7, 0.5], [0.6, 0.5, 0.5, 0.9]], arms)
    frame.index = pd.MultiIndex.from_tuples([("a", 0), ("a", 1)], names=["table", "seed"])
    assert way(frame).loc["a", "trees"] == pytest.approx(0.8)


def test_embedding_of_each_arm():
    rows = frame_of(
        [
            *({"arm": "cMIM", "embedding": e, "score": 1} for e in ("layers", "mean")),
            {"arm": "InfoNCE", "embedding": "mean", "score": 1},
            {"arm": "raw", "embedding": "", "score": 1},
            {"arm": "untrained", "embedding": "informative", "score": 1},
        ]
    )
    chosen = at_embedding(rows, "layers").set_index("arm")["embedding"]
    assert chosen.to_dict() == {
        "cMIM": "layers",
        "InfoNCE": "mean",
        "raw": "",
        "untrained": "informative",
    }
    assert set(at_embedding(rows, "mean")["embedding"]) == {"mean", "", "informative"}


def test_batch_dependence():
    rows = [
        {"arm": arm, "setting": str(2**power), "table": name, "score": level + slope * power}
        for arm, slope in (("cMIM", 0.0), ("InfoNCE", 0.01))
        for name, level in (("a", 0.5), ("b", 0.7))
        for power in range(4, 11)
    ]
    # A batch size that only one arm has is not compared.
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
    # A table whose longest fit scores below zero has no share.
    assert set(found["table"]) == {"a"}
    shares = found.set_index(["variant", "updates"])["relative"].to_dict()
    assert shares == {("", 100): 0.5, ("", 1000): 1, ("lr 0.001", 100): 0.25}
    assert found.loc[found["variant"] == "lr 0.001", "fit_s"].tolist() == [2]
    assert time_curves(rows[rows["setting"] == "default"]).empty


def test_default_reached():
    rows = frame_of(
        {"table": name, "setting": setting, "score": score, "fit_s": seconds, "threads": 2}
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
        "late": True,
        "negative": True,
        "lower": False,
    }
    assert found.index[~found["in_time"]].tolist() == ["late"]
    assert set(found["threads"]) == {2}
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
    found = contrast_sizes(rows, "arm")
    assert found["contrast"].to_dict() == pytest.approx({"cMIM": 0.4, "InfoNCE": 2})
    # 2 % and 4 %; a loss of zero has no shares.
    assert found["share"].to_dict() == pytest.approx({"cMIM": 0.03, "InfoNCE": 1})
    assert found["tables"].to_dict() == {"cMIM": 3, "InfoNCE": 1}
    assert found["seeds"].to_dict() == {"cMIM": (1, 2), "InfoNCE": (1, 1)}
    assert contrast_sizes(rows.drop(columns=["contrast", "loss"]), "arm").empty
    assert contrast_sizes(rows[:0], "arm").empty
