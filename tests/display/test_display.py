"""Displays: what they draw, on which axes, and what they refuse."""

import gc
import io
import itertools
import re
import weakref

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from cmim_sklearn import BarlowTwinsEncoder, CMIMEncoder, InfoNCEEncoder
from cmim_sklearn.display import (
    LatentSpaceDisplay,
    ReconstructionDisplay,
    SampleQualityDisplay,
    TrainingDisplay,
)
from cmim_sklearn.display._panels import association
from tests.conftest import make_mixed

mpl = pytest.importorskip("matplotlib")
mpl.use("agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.colors import to_rgba  # noqa: E402

QUICK = {"max_iter": 3, "hidden_layer_sizes": (16,), "random_state": 0, "device": "cpu"}
ALL = [LatentSpaceDisplay, ReconstructionDisplay, SampleQualityDisplay]


@pytest.fixture(scope="module")
def table():
    return make_mixed(150)


@pytest.fixture(scope="module")
def flat(table):
    return CMIMEncoder(n_components=2, early_stopping=True, **QUICK).fit(table)


@pytest.fixture(scope="module")
def wide(table):
    return CMIMEncoder(n_components=4, **QUICK).fit(table)


@pytest.fixture(scope="module")
def contrastive(table):
    return InfoNCEEncoder(n_components=2, **QUICK).fit(table)


@pytest.fixture(autouse=True)
def _close():
    yield
    for number in plt.get_fignums():  # whatever was drawn can be laid out, without a warning
        plt.figure(number).draw_without_rendering()
    plt.close("all")


def codes(encoder, table):
    return clone(encoder).set_params(embedding="mean").fit(table).transform(table)


def texts(ticks):
    return [tick.get_text() for tick in ticks]


# -- training --------------------------------------------------------------------------------------


def test_training_draws_each_term_of_the_history(flat):
    display = TrainingDisplay.from_estimator(flat)
    names = ["loss", "distortion", "latent", "contrast"]
    assert [axis.get_ylabel() for axis in display.axes_] == [f"{n}\nnats a row" for n in names]
    for name, line, held_out in zip(names, display.lines_, display.held_out_lines_, strict=True):
        x, y = line.get_data()
        np.testing.assert_array_equal(x, [1, 2, 3])
        np.testing.assert_array_equal(y, [row[f"train_{name}"] for row in flat.net_.history])
        expected = [row[f"valid_{name}"] for row in flat.net_.history]
        np.testing.assert_array_equal(held_out.get_ydata(), expected)
    parts = sum(line.get_ydata() for line in display.lines_[1:])
    np.testing.assert_allclose(display.lines_[0].get_ydata(), parts, rtol=1e-6)
    assert texts(display.axes_[0].get_legend().get_texts()) == ["training", "held out"]
    assert display.axes_[-1].get_xlabel() == "epoch"
    assert display.axes_[0].get_shared_x_axes().joined(display.axes_[0], display.axes_[-1])
    assert not display.axes_[0].xaxis.get_tick_params()["labelbottom"]
    assert display.axes_[-1].xaxis.get_tick_params()["labelbottom"]


def test_held_out_lines_are_dashed_whatever_the_colour(flat):
    display = TrainingDisplay.from_estimator(flat, c="red", lw=3)
    for lines, style in ((display.lines_, "-"), (display.held_out_lines_, "--")):
        assert {line.get_color() for line in lines} == {"red"}
        assert {line.get_linestyle() for line in lines} == {style}
        assert {line.get_linewidth() for line in lines} == {3}
    assert texts(display.axes_[0].get_legend().get_texts()) == ["training", "held out"]
    display.plot(ls=":")
    assert {line.get_linestyle() for line in display.held_out_lines_} == {":"}
    assert display.lines_[0].get_color() != display.held_out_lines_[0].get_color()
    with pytest.raises(TypeError, match=r"plot takes no label. Got label='loss'. It tells train"):
        display.plot(label="loss")


def test_training_without_held_out_rows_has_no_line_of_them(wide):
    display = TrainingDisplay.from_estimator(wide, color="red")
    assert display.held_out_lines_ is None
    assert display.axes_[0].get_legend() is None
    assert {line.get_color() for line in display.lines_} == {"red"}
    assert [len(axis.lines) for axis in display.axes_] == [1, 1, 1, 1]


def test_training_shows_a_term_that_came_with_a_warm_start(table):
    encoder = CMIMEncoder(2, contrastive_weight=0, warm_start=True, **QUICK).fit(table)
    encoder.set_params(contrastive_weight=1).fit(table, X_val=table)
    display = TrainingDisplay.from_estimator(encoder)
    assert list(display.terms) == ["loss", "distortion", "latent", "contrast"]
    np.testing.assert_array_equal(np.isnan(display.terms["loss"]), False)
    missing = [True] * 3 + [False] * 3
    np.testing.assert_array_equal(np.isnan(display.held_out["loss"]), missing)


def test_training_of_a_single_epoch_is_seen(table):
    encoder = CMIMEncoder(2, **{**QUICK, "max_iter": 1}).fit(table)
    assert TrainingDisplay.from_estimator(encoder).lines_[0].get_marker() == "."


def test_losses_that_are_no_nats_are_not_called_so(table):
    encoder = BarlowTwinsEncoder(n_components=2, **QUICK).fit(table)
    label = TrainingDisplay.from_estimator(encoder).axes_[0].get_ylabel()
    assert label == "loss\nmean of rows"


# -- latent space ----------------------------------------------------------------------------------


def test_map_of_two_components_shows_them_as_they_are(flat, table):
    display = LatentSpaceDisplay.from_estimator(flat, table, s=5)
    (points,) = display.scatters_.values()
    shown, expected = np.asarray(points.get_offsets()), codes(flat, table)
    for k in range(2):
        assert np.corrcoef(shown[:, k], expected[:, k])[0, 1] > 1 - 1e-9
    assert display.ax_.get_xlabel() == "latent component 1"
    assert display.ax_.get_ylabel() == "latent component 2"
    assert display.legend_ is None
    assert display.colorbar_ is None
    assert points.get_sizes() == [5]


def test_map_of_more_components_shows_principal_ones(wide, table):
    display = LatentSpaceDisplay.from_estimator(wide, table)
    pca = PCA(2).fit(codes(wide, table))
    one, two = pca.explained_variance_ratio_
    assert display.ax_.get_xlabel() == f"principal component 1 ({one:.0%})"
    assert display.ax_.get_ylabel() == f"principal component 2 ({two:.0%})"
    shown = np.asarray(display.scatters_["rows"].get_offsets())
    assert abs(np.corrcoef(shown.T)[0, 1]) < 1e-5


@pytest.mark.parametrize("kind", ["labels", "series", "column"])
def test_classes_have_a_colour_and_an_entry_each_and_missing_is_grey(flat, table, kind):
    color = {"labels": table["city"].tolist(), "series": table["city"], "column": "city"}[kind]
    display = LatentSpaceDisplay.from_estimator(flat, table, color=color)
    names = ["Oslo", "Rome", "Lima"] if kind == "column" else ["Lima", "Oslo", "Rome"]
    assert list(display.scatters_) == [*names, "missing"]
    assert texts(display.legend_.get_texts()) == [*names, "missing"]
    assert display.legend_.get_title().get_text() == ("" if kind == "labels" else "city")
    for name, points in display.scatters_.items():
        rows = table["city"].isna() if name == "missing" else table["city"] == name
        np.testing.assert_array_equal(points.get_offsets(), display.codes[rows])
    colours = [tuple(points.get_facecolor()[0]) for points in display.scatters_.values()]
    assert len(set(colours)) == 4
    assert colours[-1] == to_rgba("lightgrey")


def test_at_most_eight_classes_then_other(flat, table):
    color = np.repeat(np.arange(10), 15).astype(str)
    color[:5] = color[40:45] = "9"  # of 0 and 2 ten rows each are left, the fewest
    display = LatentSpaceDisplay.from_estimator(flat, table, color=color)
    assert list(display.scatters_) == ["1", "3", "4", "5", "6", "7", "8", "9", "other"]
    assert len(display.scatters_["other"].get_offsets()) == 20
    grey = display.scatters_["other"].get_facecolor()[0]
    assert grey[0] == grey[1] == grey[2] != to_rgba("lightgrey")[0]


def test_few_whole_numbers_and_booleans_are_labels(flat, table):
    display = LatentSpaceDisplay.from_estimator(flat, table, color=np.arange(150) % 3)
    assert list(display.scatters_) == ["0", "1", "2"]
    display = LatentSpaceDisplay.from_estimator(flat, table, color=np.arange(150) % 2 == 0)
    assert list(display.scatters_) == ["False", "True"]
    display = LatentSpaceDisplay.from_estimator(flat, table, color=np.arange(150) % 9)
    assert display.colorbar_ is not None
    display = LatentSpaceDisplay.from_estimator(flat, table, color=np.arange(150) % 2 / 2)
    assert display.colorbar_ is not None


def test_numbers_have_a_colour_bar_and_missing_is_grey(flat, table):
    display = LatentSpaceDisplay.from_estimator(flat, table, color="income")
    known = table["income"].dropna()
    points = display.scatters_["rows"]
    np.testing.assert_array_equal(points.get_array(), known)
    assert points.get_clim() == tuple(np.percentile(known, [0.5, 99.5]))
    assert display.colorbar_.extend == "both"
    assert display.colorbar_.ax.get_ylabel() == "income"
    assert texts(display.legend_.get_texts()) == ["missing"]
    missing = display.scatters_["missing"]
    np.testing.assert_array_equal(missing.get_facecolor(), [to_rgba("lightgrey")])
    np.testing.assert_array_equal(missing.get_offsets(), display.codes[table["income"].isna()])


def test_the_colour_bar_points_to_where_values_lie_outside_it(flat, table):
    color = np.maximum(0, np.arange(150) - 9.5)
    for sign, extend in ((1, "max"), (-1, "min")):
        display = LatentSpaceDisplay.from_estimator(flat, table, color=sign * color)
        assert display.colorbar_.extend == extend
    display = LatentSpaceDisplay.from_estimator(flat, table, color=np.full(150, 0.5))
    assert display.colorbar_.extend == "neither"


def test_color_of_nothing_but_missing_values(flat, table):
    display = LatentSpaceDisplay.from_estimator(flat, table, color=np.full(150, np.nan))
    assert list(display.scatters_) == ["missing"]
    assert texts(display.legend_.get_texts()) == ["missing"]


@pytest.mark.parametrize("style", [{"color": "red"}, {"c": "red"}, {"facecolors": "red"}])
def test_a_map_without_color_takes_any(style):
    display = LatentSpaceDisplay(np.zeros((3, 2))).plot(**style, label="mine")
    np.testing.assert_array_equal(display.scatters_["rows"].get_facecolor(), [to_rgba("red")])
    assert display.scatters_["rows"].get_label() == "mine"


def test_a_map_takes_numbers_of_a_callers_own():
    points = LatentSpaceDisplay(np.zeros((3, 2))).plot(c=[0, 1, 2], cmap="magma").scatters_["rows"]
    np.testing.assert_array_equal(points.get_array(), [0, 1, 2])
    assert points.get_cmap().name == "magma"


@pytest.mark.parametrize("levels", [None, ["a", "b"]])
@pytest.mark.parametrize("name", ["c", "color", "facecolor", "facecolors", "fc", "label"])
def test_what_color_sets_is_refused_before_a_figure_is_made(levels, name):
    display = LatentSpaceDisplay(np.zeros((2, 2)), color=np.array([0.0, 1]), levels=levels)
    with pytest.raises(TypeError, match=f"Display.plot takes no {name}. Got {name}='red'.*by cmap"):
        display.plot(**{name: "red"})
    assert not plt.get_fignums()
    display.plot(alpha=0.3, ec="black", marker="s", cmap="magma", vmin=0)
    for points in display.scatters_.values():
        assert points.get_alpha() == 0.3
        np.testing.assert_array_equal(points.get_edgecolor()[:, :3], [to_rgba("black")[:3]])


def test_a_norm_takes_the_place_of_limits():
    norm = mpl.colors.LogNorm(2, 5)
    image = np.array([[1.0, 2], [3, 4]])
    display = LatentSpaceDisplay(
        np.zeros((4, 2)), color=np.array([1.0, 2, 3, 4]), image=image, extent=(-1, 1, -1, 1)
    ).plot(norm=norm)
    assert display.scatters_["rows"].norm is display.image_.norm is norm
    assert display.colorbar_.extend == "min"


def test_a_class_of_few_rows_lies_above_one_of_many():
    color = np.repeat([0.0, 1, 2, np.nan], [2, 20, 8, 30])
    display = LatentSpaceDisplay(np.zeros((60, 2)), color=color, levels=list("abc")).plot()
    order = sorted(display.scatters_, key=lambda name: display.scatters_[name].get_zorder())
    assert order == ["missing", "b", "c", "a"]
    assert {display.scatters_[name].get_alpha() for name in "abc"} == {0.7}
    assert {handle.get_alpha() for handle in display.legend_.legend_handles} == {1}


@pytest.mark.parametrize("corner", [(1, 1), (0, 1), (0, 0), (1, 0)])
def test_the_legend_in_axes_that_are_given_hides_no_point(corner):
    codes = 0.1 * np.random.RandomState(0).rand(50, 2) + corner
    codes[0] = 1 - np.array(corner)
    display = LatentSpaceDisplay(codes, color=np.arange(50) % 2, levels=["a", "b"])
    figure, ax = plt.subplots()
    display.plot(ax)
    figure.draw_without_rendering()
    box = display.legend_.get_window_extent()
    assert not any(box.contains(*point) for point in ax.transData.transform(codes))


def test_grid_is_what_the_decoder_makes_of_the_plane(flat, table):
    display = LatentSpaceDisplay.from_estimator(flat, table, color="income", grid=True)
    left, right, bottom, top = display.image_.get_extent()
    low, high = display.codes.min(0), display.codes.max(0)
    assert left < low[0] < high[0] < right
    assert bottom < low[1] < high[1] < top
    assert display.image_.get_clim() == display.scatters_["rows"].get_clim()
    flat = clone(flat).set_params(embedding="mean").fit(table)
    centre, scale = flat._scales["mean"]
    corners = np.array([[left, bottom], [right, bottom], [left, top], [right, top]])
    expected = flat.inverse_transform((corners - centre) / scale)["income"]
    image = np.asarray(display.image_.get_array())
    np.testing.assert_allclose(image[[0, 0, -1, -1], [0, -1, 0, -1]], expected, rtol=1e-4)
    assert display.ax_.get_title().startswith("income: plane as decoded")
    assert display.ax_.get_xlim() == (left, right)
    assert display.image_.origin == "lower"
    display.plot(cmap="magma", vmin=0, vmax=2e4)
    for artist in (display.image_, display.scatters_["rows"]):
        assert artist.get_cmap().name == "magma"
        assert artist.get_clim() == (0, 2e4)
    assert display.colorbar_.extend == "max"


def test_grid_of_classes_has_their_colours(flat, table):
    display = LatentSpaceDisplay.from_estimator(flat, table, color="member", grid=True)
    image = display.image_
    assert set(np.unique(image.get_array())) <= {0.0, 1.0}
    for code, points in enumerate(display.scatters_.values()):
        colour = image.cmap(image.norm(code))
        np.testing.assert_allclose(colour[:3], points.get_facecolor()[0, :3])
    assert list(display.scatters_) == ["False", "True"]


def test_a_class_that_only_the_plane_has_is_in_the_legend():
    codes, plane = np.zeros((3, 2)), np.array([[0.0, 0], [1, 1]])
    display = LatentSpaceDisplay(
        codes, color=np.zeros(3), levels=["a", "b", "c"], image=plane, extent=(-1, 1, -1, 1)
    )
    assert texts(display.plot().legend_.get_texts()) == ["a", "b"]


# -- reconstructions -------------------------------------------------------------------------------


def test_numbers_are_points_beside_the_line_of_identity(flat, table):
    display = ReconstructionDisplay.from_estimator(flat, table, columns=["income"])
    known = table["income"].notna()
    rebuilt = flat.reconstruct(table)["income"]
    shown = np.asarray(display.artists_["income"].get_offsets())
    np.testing.assert_allclose(shown, np.column_stack([rebuilt, table["income"]])[known])
    x, y = display.identity_["income"].get_data()
    np.testing.assert_array_equal(x, y)
    assert x[0] == shown.min()
    assert x[1] == shown.max()
    (axis,) = display.axes_
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("reconstructed", "real")
    error = np.mean((rebuilt - table["income"])[known] ** 2) / table["income"].var(ddof=0)
    assert axis.get_title() == f"income\nR² {1 - error:.2f}"


@pytest.mark.parametrize("column", ["city", "member", "flag"])
def test_levels_are_a_confusion_matrix_whose_rows_sum_to_one(flat, table, column):
    display = ReconstructionDisplay.from_estimator(flat, table, columns=column)
    (axis,) = display.axes_
    names = {"city": ["Oslo", "Rome", "Lima"], "member": ["False", "True"], "flag": ["3", "7"]}
    assert texts(axis.get_yticklabels()) == texts(axis.get_xticklabels()) == names[column]
    real, rebuilt = table[column], flat.reconstruct(table)[column]
    known = real.notna()
    cross = pd.crosstab(real.astype(str)[known], rebuilt.astype(str)[known], normalize="index")
    cross = cross.reindex(index=names[column], columns=names[column], fill_value=0)
    np.testing.assert_allclose(display.artists_[column].get_array(), cross)
    assert [t.get_text() for t in axis.texts] == [f"{v:.2f}" for v in cross.to_numpy().ravel()]
    accuracy = np.mean((real == rebuilt)[known])
    assert axis.get_title() == f"{column}\naccuracy {accuracy:.2f}"


def test_twelve_columns_at_most_unless_asked_for():
    X = np.random.RandomState(0).randn(40, 14)
    encoder = CMIMEncoder(2, **QUICK).fit(X)
    display = ReconstructionDisplay.from_estimator(encoder, X)
    assert list(display.real) == [f"x{k}" for k in range(12)]
    assert written(display.figure_).count("the first 12 of 14 columns") == 1
    display = ReconstructionDisplay.from_estimator(encoder, X, columns=range(14))
    assert len(display.axes_) == len(display.artists_) == 14


def written(figure):
    return [artist.get_text() for artist in figure.findobj(mpl.text.Text)]


@pytest.mark.parametrize("display", [ReconstructionDisplay, SampleQualityDisplay])
def test_the_figure_says_how_many_columns_it_leaves_out(flat, table, display, monkeypatch):
    monkeypatch.setattr("cmim_sklearn.display._columns.MAX_PANELS", 2)
    note = "the first 2 of 8 columns"
    first = display.from_estimator(flat, table)
    assert written(first.figure_).count(note) == 1
    figure, ax = plt.subplots(layout="constrained")
    for _ in range(2):
        first.plot(ax)
    assert written(figure).count(note) == 1
    asked = display.from_estimator(flat, table, columns=["income", "age", "score"])
    assert not any("columns" in text for text in written(asked.figure_))
    monkeypatch.setattr("cmim_sklearn.display._columns.MAX_PANELS", 8)
    whole = display.from_estimator(flat, table)
    assert not any("columns" in text for text in written(whole.figure_))
    plt.close(whole.figure_)


def test_outer_axes_have_labels_and_given_ones_all(flat, table):
    columns = list(table.columns[:5])
    display = ReconstructionDisplay.from_estimator(flat, table, columns=columns)
    assert [bool(axis.get_xlabel()) for axis in display.axes_] == [False, False, False, True, True]
    assert [bool(axis.get_ylabel()) for axis in display.axes_] == [True, False, True, False, True]
    numbers = ReconstructionDisplay.from_estimator(flat, table, columns=columns[:3])
    assert [bool(axis.get_ylabel()) for axis in numbers.axes_] == [True, False, False]
    assert all(axis.get_xlabel() for axis in numbers.axes_)
    _, axes = plt.subplots(1, 5, figsize=(20, 4))
    display.plot(axes)
    assert {axis.get_xlabel() for axis in axes} == {"reconstructed"}
    assert {axis.get_ylabel() for axis in axes} == {"real"}


def test_rare_levels_are_one():
    letters = np.array(list("abcdefghijklmn"))
    frame = pd.DataFrame({"letter": np.repeat(letters, np.arange(14, 0, -1))})
    frame["number"] = np.arange(len(frame)) / 7
    encoder = CMIMEncoder(2, **QUICK).fit(frame)
    display = ReconstructionDisplay.from_estimator(encoder, frame, columns=["letter"])
    assert texts(display.axes_[0].get_yticklabels()) == [*"abcdefghij", "other"]
    np.testing.assert_allclose(np.sum(display.artists_["letter"].get_array(), axis=1), 1)
    assert not display.axes_[0].texts
    display = SampleQualityDisplay.from_estimator(encoder, frame, columns=["letter"])
    real, _ = display.marginals_["letter"]
    expected = np.append(np.arange(14, 4, -1), 10) / 105
    np.testing.assert_allclose([bar.get_height() for bar in real], expected)
    assert texts(display.axes_[0].get_xticklabels()) == [*"abcdefghij", "other"]


# -- samples ---------------------------------------------------------------------------------------


def test_marginals_are_those_of_real_and_of_sampled_rows(flat, table):
    display = SampleQualityDisplay.from_estimator(flat, table, n_samples=70, random_state=3)
    synthetic = flat.sample(70, random_state=3)
    assert list(display.marginals_) == list(table.columns)
    for artists, rows in zip(
        zip(*display.marginals_.values(), strict=True), (table, synthetic), strict=True
    ):
        by_name = dict(zip(table.columns, artists, strict=True))
        shares, edges, _ = by_name["score"].get_data()
        values = rows["score"].dropna()
        np.testing.assert_allclose(shares, np.histogram(values, edges)[0] / len(values))
        assert 0.95 < shares.sum() <= 1
        shares = [bar.get_height() for bar in by_name["city"]]
        expected = rows["city"].value_counts(normalize=True)[["Oslo", "Rome", "Lima"]]
        np.testing.assert_allclose(shares, expected)
    assert texts(display.legend_.get_texts()) == ["real", "synthetic"]
    assert [axis.get_title() for axis in display.axes_] == [*table.columns, "real", "synthetic"]
    real, drawn = display.marginals_["city"]
    assert real[0].get_x() + real[0].get_width() == pytest.approx(drawn[0].get_x())


def test_bins_of_whole_numbers_hold_as_many_of_them(flat, table):
    display = SampleQualityDisplay.from_estimator(flat, table, columns=["age", "visits"])
    for steps, _ in display.marginals_.values():
        _, edges, _ = steps.get_data()
        assert len(set(np.diff(edges))) == 1
        assert (edges % 1 == 0.5).all()


def test_heat_maps_show_how_pairs_depend(flat, table):
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
    assert display.colorbar_.ax.get_ylabel() == "dependence of pairs"


def test_association_of_known_pairs():
    table = {  # the last row is one to leave out: each pair has a hole there
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
    for known in ({}, {"a": two["a"]}, two):  # 0.6 for all three of the measures
        assert association(halves, known)[0, 1] == pytest.approx(0.6)
    rng = np.random.RandomState(0)
    few = (rng.rand(60) < 0.2) * 1.0
    pair = {"few": few, "number": few + rng.randn(60)}
    plain = association(pair, {})[0, 1]
    assert 0.2 < plain < 0.8
    assert association(pair, {"few": ["no", "yes"]})[0, 1] == pytest.approx(plain)


# -- all of them -----------------------------------------------------------------------------------


def draw(display, encoder, table, ax=None, **options):
    tables = () if display is TrainingDisplay else (table,)
    return display.from_estimator(encoder, *tables, ax=ax, **options)


@pytest.mark.parametrize("layout", [None, "constrained"])
@pytest.mark.parametrize("display", [TrainingDisplay, *ALL])
def test_drawing_twice_in_axes_that_are_given(flat, table, display, layout):
    figure, (left, right) = plt.subplots(1, 2, figsize=(30, 20), layout=layout)
    display = draw(display, flat, table, ax=left)
    assert display.figure_ is figure
    panels = getattr(display, "axes_", [display.__dict__.get("ax_")])
    n_axes = len(figure.axes)
    assert display.plot(left) is display
    assert len(figure.axes) == n_axes  # panels are drawn anew, and no colour bar is left over
    assert figure.axes[1] is right
    assert not right.has_data()
    again = getattr(display, "axes_", [display.__dict__.get("ax_")])
    assert len(again) == len(panels)
    box = left.get_subplotspec().get_position(figure)
    for axis in again if layout is None else []:
        assert axis.get_position().x1 <= box.x1 + 1e-9
        assert axis.get_position().y1 <= box.y1 + 1e-9


@pytest.mark.parametrize("layout", [None, "constrained"])
@pytest.mark.parametrize("is_cleared", [False, True])
def test_a_map_drawn_again_leaves_nothing_of_the_last(flat, table, layout, is_cleared):
    figure, (ax, other) = plt.subplots(1, 2, layout=layout)
    color = {"income": 3, "city": 2}  # a colour bar beside the two axes, or none
    display = {name: LatentSpaceDisplay.from_estimator(flat, table, color=name) for name in color}
    for name in ("income", "income", "city", "city", "income"):
        if is_cleared:
            ax.clear()
        display[name].plot(ax)
        figure.draw_without_rendering()
        assert len(figure.axes) == color[name]
        assert list(ax.collections) == list(display[name].scatters_.values())
        assert not other.has_data()
        if name == "income" and layout is None:  # the bar's room is taken once
            assert ax.get_position().width == pytest.approx(0.8 * other.get_position().width)


def test_drawing_elsewhere_leaves_the_first_picture(flat, table):
    display = LatentSpaceDisplay.from_estimator(flat, table, color="income")
    first, points = display.ax_, display.scatters_["rows"]
    assert display.plot().ax_ is not first
    assert points in first.collections
    assert len(first.figure.axes) == 2


def test_what_was_drawn_in_closed_figures_is_let_go(flat, table):
    figure, ax = plt.subplots()
    TrainingDisplay.from_estimator(flat, ax=ax)
    gone = weakref.ref(ax)
    del figure, ax
    plt.close("all")
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("display", [TrainingDisplay, *ALL])
def test_the_same_picture_is_the_same_file(flat, table, display):
    has_columns = display in (ReconstructionDisplay, SampleQualityDisplay)
    options = {"columns": ["age", "city"]} if has_columns else {}
    files = []
    with mpl.rc_context({"svg.hashsalt": "cmim"}):
        for _ in range(2):
            figure, ax = plt.subplots(layout="constrained")
            draw(display, flat, table, ax=ax, **options)
            files.append(io.StringIO())
            figure.savefig(files[-1], format="svg", metadata={"Date": None})
            plt.close(figure)
    first, second = (file.getvalue() for file in files)
    assert first == second
    ids = re.findall(r'<g id="([^"]*)"', first)
    assert len(set(ids)) == len(ids)
    assert not any(" " in one for one in ids)


def test_figures_are_read_at_600_pixels(flat):
    rng = np.random.RandomState(0)
    real = {f"column {k}": rng.randint(9, size=100) * 1.0 for k in range(5)}
    levels = {name: [f"level number {k}" for k in range(9)] for name in real}
    for display in (SampleQualityDisplay, ReconstructionDisplay):
        figure = display(real, real, levels).plot().figure_
        figure.draw_without_rendering()
        for axis in figure.axes[:5]:
            boxes = [label.get_window_extent() for label in axis.get_xticklabels()]
            assert len(boxes) == 9
            assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))
    TrainingDisplay.from_estimator(flat)
    LatentSpaceDisplay(np.zeros((9, 2))).plot()
    assert all(plt.figure(number).get_figwidth() <= 6.6 for number in plt.get_fignums())


@pytest.mark.parametrize("is_own", [False, True])
def test_heat_maps_stand_side_by_side(is_own):
    real = {name: np.random.RandomState(0).randn(20) for name in "ab"}
    ax = None if is_own else plt.subplots(figsize=(12, 5), layout="constrained")[1]
    display = SampleQualityDisplay(real, real, {}).plot(ax)
    display.figure_.draw_without_rendering()
    left, right = (axis.get_position() for axis in display.axes_[-2:])
    assert 0 < right.x0 - left.x1 < 0.05
    np.testing.assert_allclose(left.size, right.size)
    (bar,) = display.axes_[-1].child_axes
    assert bar.get_position().height == pytest.approx(right.height)


@pytest.mark.parametrize("display", [TrainingDisplay, ReconstructionDisplay, SampleQualityDisplay])
def test_an_array_of_axes_takes_the_panels(flat, table, display):
    display = draw(display, flat, table)
    figure, axes = plt.subplots(3, 4, figsize=(20, 15))
    n = len(display.axes_)
    display.plot(axes.ravel()[:n])
    assert list(display.axes_) == list(axes.ravel()[:n])
    assert all(axis.has_data() for axis in axes.ravel()[:n])
    assert display.figure_ is figure
    display.plot(display.axes_)
    assert sum(len(axis.child_axes) for axis in figure.axes) == (
        display.axes_[-1].get_title() == "synthetic"
    )
    with pytest.raises(ValueError, match=f"ax holds 2 axes, and there are {n} to draw"):
        display.plot(axes[0, :2])


def test_axes_that_stand_free_are_divided_too(flat):
    figure = plt.figure()
    ax = figure.add_axes((0.5, 0.5, 0.4, 0.4))
    display = TrainingDisplay.from_estimator(flat, ax=ax)
    assert not ax.axison
    for axis in display.axes_:
        assert axis.get_position().x0 == pytest.approx(0.5)
        assert axis.get_position().y0 > 0.5 - 1e-9


@pytest.mark.parametrize("library", ["polars", "pyarrow", "numpy"])
def test_tables_of_other_libraries(table, library):
    frame = table.astype({"city": object})
    if library == "numpy":
        X = frame.astype(object).where(frame.notna(), None).to_numpy()
    elif library == "polars":
        X = pytest.importorskip("polars").from_pandas(frame)
    else:
        X = pytest.importorskip("pyarrow").Table.from_pandas(frame)
    encoder = CMIMEncoder(2, **QUICK).fit(X)
    position, name = (6, "x6") if library == "numpy" else ("city", "city")
    display = LatentSpaceDisplay.from_estimator(encoder, X, color=position)
    assert list(display.scatters_) == ["Lima", "Oslo", "Rome", "missing"]
    assert display.legend_.get_title().get_text() == name
    display = ReconstructionDisplay.from_estimator(encoder, X)
    assert display.levels[name] == ["Lima", "Oslo", "Rome"]
    member = "x4" if library == "numpy" else "member"
    assert display.levels[member] == ["False", "True"]
    assert SampleQualityDisplay.from_estimator(encoder, X).levels == display.levels


def test_columns_without_a_value_and_with_a_single_one():
    frame = pd.DataFrame({"a": np.arange(40) / 7, "one": "x", "three": 3, "hole": np.nan})
    frame["none"] = pd.Series([None] * 40, dtype=object)
    encoder = CMIMEncoder(2, **QUICK).fit(frame)
    display = ReconstructionDisplay.from_estimator(encoder, frame)
    words = [axis.get_title().split("\n")[1] for axis in display.axes_[1:]]
    assert words == ["accuracy 1.00", "constant", "no value", "no value"]
    display = SampleQualityDisplay.from_estimator(encoder, frame)
    known = np.isfinite(np.asarray(display.images_[0].get_array().filled(np.nan)))
    assert known.sum() == known[0, 0] == 1
    for column in frame:
        display = LatentSpaceDisplay.from_estimator(encoder, frame, color=column, grid=True)
        assert ("missing" in display.scatters_) == (column in ("hole", "none"))


def test_the_encoder_is_left_as_it_is(flat, table):
    before = flat.transform(table)
    for display in [TrainingDisplay, *ALL]:
        draw(display, flat, table)
    np.testing.assert_array_equal(flat.transform(table), before)


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("display", [TrainingDisplay, *ALL])
def test_not_fitted(table, display):
    with pytest.raises(NotFittedError, match="CMIMEncoder instance is not fitted"):
        draw(display, CMIMEncoder(), table)


@pytest.mark.parametrize("display", [TrainingDisplay, *ALL])
def test_what_is_no_encoder(flat, table, display):
    with pytest.raises(TypeError, match=f"{display.__name__} draws encoders.*Got Pipeline; of a"):
        draw(display, make_pipeline(flat), table)


def test_without_a_decoder(contrastive, table):
    assert len(LatentSpaceDisplay.from_estimator(contrastive, table).codes) == 150
    for display in (ReconstructionDisplay, SampleQualityDisplay):
        with pytest.raises(ValueError, match="needs a decoder, and InfoNCEEncoder has none"):
            draw(display, contrastive, table)
    with pytest.raises(ValueError, match="needs a decoder, and InfoNCEEncoder has none"):
        LatentSpaceDisplay.from_estimator(contrastive, table, color="age", grid=True)


def test_a_column_that_is_not_there(flat, table):
    match = r"X has no column 'rent'\. Columns of X: \['income', 'age'"
    with pytest.raises(ValueError, match="`color`: " + match):
        LatentSpaceDisplay.from_estimator(flat, table, color="rent")
    for display in (ReconstructionDisplay, SampleQualityDisplay):
        with pytest.raises(ValueError, match="`columns`: " + match):
            display.from_estimator(flat, table, columns=["income", "rent"])
        with pytest.raises(ValueError, match=r"`columns` names no column. Got \[\]"):
            display.from_estimator(flat, table, columns=[])


def test_color_of_another_length(flat, table):
    with pytest.raises(ValueError, match=r"color has shape \(149,\), and X 150 rows"):
        LatentSpaceDisplay.from_estimator(flat, table, color=np.zeros(149))


def test_color_of_dates_is_refused_by_its_own_name(flat, table):
    dates = pd.date_range("2020", periods=150)
    with pytest.raises(TypeError, match="'color' holds Timestamp values"):
        LatentSpaceDisplay.from_estimator(flat, table, color=dates)


def test_grid_wants_two_components_and_a_column(flat, wide, table):
    with pytest.raises(ValueError, match="takes n_components=2; the encoder has 4"):
        LatentSpaceDisplay.from_estimator(wide, table, color="age", grid=True)
    with pytest.raises(ValueError, match=r"column as color\. Got None"):
        LatentSpaceDisplay.from_estimator(flat, table, grid=True)
    with pytest.raises(ValueError, match=r"column as color\. Got labels or numbers instead"):
        LatentSpaceDisplay.from_estimator(flat, table, color=table["age"], grid=True)


@pytest.mark.filterwarnings("ignore:With n_components=1")
def test_a_map_wants_two_components(table):
    encoder = CMIMEncoder(1, **QUICK).fit(table)
    with pytest.raises(ValueError, match="2 components or more; n_components is 1"):
        LatentSpaceDisplay.from_estimator(encoder, table)


@pytest.mark.parametrize("display", [TrainingDisplay, *ALL])
def test_without_matplotlib(flat, table, display, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(ImportError, match=rf"{display.__name__}.from_estimator requires matplot"):
        draw(display, flat, table)
