"""`SampleQualityDisplay`: distributions, and association of pairs."""

import numpy as np
import pytest

from cmim_sklearn.display import SampleQualityDisplay
from cmim_sklearn.display._sample_quality import association
from tests.display.conftest import texts

pytest.importorskip("matplotlib")
import matplotlib.pyplot as plt


def test_marginals_show_shares_of_real_and_of_generated_rows(flat, table):
    display = SampleQualityDisplay.from_estimator(
        flat, table, columns=["score", "city"], n_samples=70, random_state=3
    )
    synthetic = flat.sample(70, random_state=3)
    assert list(display.marginals_) == ["score", "city"]
    for artists, rows in zip(
        zip(*display.marginals_.values(), strict=True), (table, synthetic), strict=True
    ):
        by_name = dict(zip(display.marginals_, artists, strict=True))
        shares, edges, _ = by_name["score"].get_data()
        values = rows["score"].dropna()
        np.testing.assert_allclose(shares, np.histogram(values, edges)[0] / len(values))
        assert 0.95 < shares.sum() <= 1
        shares = [bar.get_height() for bar in by_name["city"]]
        expected = rows["city"].value_counts(normalize=True)[["Oslo", "Rome", "Lima"]]
        np.testing.assert_allclose(shares, expected)
    assert texts(display.legend_.get_texts()) == ["real", "synthetic"]
    assert [axis.get_title() for axis in display.axes_] == ["score", "city", "real", "synthetic"]
    real, drawn = display.marginals_["city"]
    assert real[0].get_x() + real[0].get_width() == pytest.approx(drawn[0].get_x())


def test_bins_of_whole_numbers_hold_equally_many(flat, table):
    display = SampleQualityDisplay.from_estimator(flat, table, columns=["age", "visits"])
    for steps, _ in display.marginals_.values():
        _, edges, _ = steps.get_data()
        assert len(set(np.diff(edges))) == 1
        assert (edges % 1 == 0.5).all()


def test_heat_maps_show_the_association_of_pairs(flat, table):
    columns = ["income", "score", "city"]
    display = SampleQualityDisplay.from_estimator(flat, table, columns=columns)
    synthetic = flat.sample(150, random_state=0)
    for image, axis, rows in zip(
        display.images_, display.axes_[-2:], (table, synthetic), strict=True
    ):
        spearman = rows[["income", "score"]].corr("spearman").iloc[0, 1]
        values = np.asarray(image.get_array())
        assert values[0, 1] == pytest.approx(spearman)
        assert values[0, 1] == values[1, 0]
        assert image.get_clim() == (-1, 1)
        assert texts(axis.get_xticklabels()) == columns
    assert display.colorbar_.ax.get_ylabel() == "association"


def test_association_of_known_pairs():
    table = {  # the last row does not count: each pair has a missing value there
        "level": np.array([0, 0, 1, 1, 2, 2, np.nan]),
        "same": np.array([2, 2, 1, 1, 0, 0, np.nan]),
        "other": np.array([0, 1, 0, 1, 0, 1, np.nan]),
        "number": -(10.0 ** np.array([1, 1, 2, 2, 3, 3, -9])),
        "rising": np.array([1, 1, 2, 2, 3, 3, np.nan]),
        "constant": np.ones(7),
    }
    levels = {"level": list("abc"), "same": list("abc"), "other": list("xy")}
    expected = np.full((6, 6), np.nan)
    expected[:5, :5] = [
        [1, 1, 0, 1, 1],
        [1, 1, 0, 1, 1],
        [0, 0, 1, 0, 0],
        [1, 1, 0, 1, -1],
        [1, 1, 0, -1, 1],
    ]
    np.testing.assert_allclose(association(table, levels), expected, atol=1e-12)
    halves = {"a": np.repeat([0.0, 1], 50), "b": np.repeat([0.0, 1, 0, 1], [40, 10, 10, 40])}
    two = {"a": ["0", "1"], "b": ["0", "1"]}
    for known in ({}, {"a": two["a"]}, two):  # all three measures are 0.6
        assert association(halves, known)[0, 1] == pytest.approx(0.6)
    rng = np.random.RandomState(0)
    few = (rng.rand(60) < 0.2) * 1.0
    pair = {"few": few, "number": few + rng.randn(60)}
    plain = association(pair, {})[0, 1]
    assert 0.2 < plain < 0.8
    assert association(pair, {"few": ["no", "yes"]})[0, 1] == pytest.approx(plain)


def test_rare_levels_become_other():
    code = np.repeat(np.arange(14.0), np.arange(14, 0, -1))
    levels = {"letter": list("abcdefghijklmn")}
    display = SampleQualityDisplay({"letter": code}, {"letter": code}, levels).plot()
    real, _ = display.marginals_["letter"]
    expected = np.append(np.arange(14, 4, -1), 10) / 105
    np.testing.assert_allclose([bar.get_height() for bar in real], expected)
    assert texts(display.axes_[0].get_xticklabels()) == [*"abcdefghij", "other"]


@pytest.mark.parametrize("is_own", [False, True])
def test_heat_maps_are_side_by_side(is_own):
    real = {name: np.random.RandomState(0).randn(20) for name in "ab"}
    ax = None if is_own else plt.subplots(figsize=(12, 5), layout="constrained")[1]
    display = SampleQualityDisplay(real, real, {}).plot(ax)
    display.figure_.draw_without_rendering()
    left, right = (axis.get_position() for axis in display.axes_[-2:])
    assert 0 < right.x0 - left.x1 < 0.05
    np.testing.assert_allclose(left.size, right.size)
    (bar,) = display.axes_[-1].child_axes
    assert bar.get_position().height == pytest.approx(right.height)
