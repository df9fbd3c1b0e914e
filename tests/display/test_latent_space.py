"""`LatentSpaceDisplay`: positions, colours, legends and the decoded grid."""

import copy

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA

from cmim_sklearn import CMIMEncoder
from cmim_sklearn.display import LatentSpaceDisplay
from tests.display.conftest import QUICK, texts

mpl = pytest.importorskip("matplotlib")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.colors import to_rgba  # noqa: E402
from matplotlib.dates import ConciseDateFormatter, num2date  # noqa: E402


def latent_codes(encoder, table):
    return copy.deepcopy(encoder).set_params(embedding="mean").transform(table)


def test_two_components_are_drawn_unchanged(flat, table):
    display = LatentSpaceDisplay.from_estimator(flat, table, s=5)
    (points,) = display.scatters_.values()
    shown, expected = np.asarray(points.get_offsets()), latent_codes(flat, table)
    for k in range(2):
        assert np.corrcoef(shown[:, k], expected[:, k])[0, 1] > 1 - 1e-9
    assert display.ax_.get_xlabel() == "latent component 1"
    assert display.ax_.get_ylabel() == "latent component 2"
    assert display.legend_ is None
    assert display.colorbar_ is None
    assert points.get_sizes() == [5]


def test_more_components_are_drawn_as_principal_components(wide, table):
    display = LatentSpaceDisplay.from_estimator(wide, table)
    pca = PCA(2).fit(latent_codes(wide, table))
    one, two = pca.explained_variance_ratio_
    assert display.ax_.get_xlabel() == f"principal component 1 ({one:.0%})"
    assert display.ax_.get_ylabel() == f"principal component 2 ({two:.0%})"
    shown = np.asarray(display.scatters_["rows"].get_offsets())
    assert abs(np.corrcoef(shown.T)[0, 1]) < 1e-5


@pytest.mark.parametrize("kind", ["labels", "series", "column"])
def test_each_class_has_a_colour_and_a_legend_entry_and_missing_is_grey(flat, table, kind):
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
    color[:5] = color[40:45] = "9"  # 0 and 2 keep ten rows each, the smallest number
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


def test_the_colour_bar_has_arrows_where_values_lie_outside_its_range(flat, table):
    color = np.maximum(0, np.arange(150) - 9.5)
    for sign, extend in ((1, "max"), (-1, "min")):
        display = LatentSpaceDisplay.from_estimator(flat, table, color=sign * color)
        assert display.colorbar_.extend == extend
    display = LatentSpaceDisplay.from_estimator(flat, table, color=np.full(150, 0.5))
    assert display.colorbar_.extend == "neither"


def test_color_can_hold_only_missing_values(flat, table):
    display = LatentSpaceDisplay.from_estimator(flat, table, color=np.full(150, np.nan))
    assert list(display.scatters_) == ["missing"]
    assert texts(display.legend_.get_texts()) == ["missing"]


@pytest.mark.parametrize("style", [{"color": "red"}, {"c": "red"}, {"facecolors": "red"}])
def test_a_map_without_color_accepts_any_colour_keyword(style):
    display = LatentSpaceDisplay(np.zeros((3, 2))).plot(**style, label="mine")
    np.testing.assert_array_equal(display.scatters_["rows"].get_facecolor(), [to_rgba("red")])
    assert display.scatters_["rows"].get_label() == "mine"


def test_a_map_without_color_accepts_numbers_as_c():
    points = LatentSpaceDisplay(np.zeros((3, 2))).plot(c=[0, 1, 2], cmap="magma").scatters_["rows"]
    np.testing.assert_array_equal(points.get_array(), [0, 1, 2])
    assert points.get_cmap().name == "magma"


@pytest.mark.parametrize("levels", [None, ["a", "b"]])
@pytest.mark.parametrize("name", ["c", "color", "facecolor", "facecolors", "fc", "label"])
def test_keywords_that_color_sets_raise_before_a_figure_is_made(levels, name):
    display = LatentSpaceDisplay(np.zeros((2, 2)), color=np.array([0.0, 1]), levels=levels)
    with pytest.raises(TypeError, match=f"plot does not accept `{name}`; got 'red'.*by cmap"):
        display.plot(**{name: "red"})
    assert not plt.get_fignums()
    display.plot(alpha=0.3, ec="black", marker="s", cmap="magma", vmin=0)
    for points in display.scatters_.values():
        assert points.get_alpha() == 0.3
        np.testing.assert_array_equal(points.get_edgecolor()[:, :3], [to_rgba("black")[:3]])


def test_a_norm_replaces_the_limits():
    norm = mpl.colors.LogNorm(2, 5)
    image = np.array([[1.0, 2], [3, 4]])
    display = LatentSpaceDisplay(
        np.zeros((4, 2)), color=np.array([1.0, 2, 3, 4]), image=image, extent=(-1, 1, -1, 1)
    ).plot(norm=norm)
    assert display.scatters_["rows"].norm is display.image_.norm is norm
    assert display.colorbar_.extend == "min"


def test_rare_classes_are_drawn_on_top():
    color = np.repeat([0.0, 1, 2, np.nan], [2, 20, 8, 30])
    display = LatentSpaceDisplay(np.zeros((60, 2)), color=color, levels=list("abc")).plot()
    order = sorted(display.scatters_, key=lambda name: display.scatters_[name].get_zorder())
    assert order == ["missing", "b", "c", "a"]
    assert {display.scatters_[name].get_alpha() for name in "abc"} == {0.7}
    assert {handle.get_alpha() for handle in display.legend_.legend_handles} == {1}


@pytest.mark.parametrize("corner", [(1, 1), (0, 1), (0, 0), (1, 0)])
def test_the_legend_in_given_axes_covers_no_point(corner):
    codes = 0.1 * np.random.RandomState(0).rand(50, 2) + corner
    codes[0] = 1 - np.array(corner)
    display = LatentSpaceDisplay(codes, color=np.arange(50) % 2, levels=["a", "b"])
    figure, ax = plt.subplots()
    display.plot(ax)
    figure.draw_without_rendering()
    box = display.legend_.get_window_extent()
    assert not any(box.contains(*point) for point in ax.transData.transform(codes))


def test_the_grid_shows_decoded_values(flat, table):
    display = LatentSpaceDisplay.from_estimator(flat, table, color="income", grid=True)
    left, right, bottom, top = display.image_.get_extent()
    low, high = display.codes.min(0), display.codes.max(0)
    assert left < low[0] < high[0] < right
    assert bottom < low[1] < high[1] < top
    assert display.image_.get_clim() == display.scatters_["rows"].get_clim()
    flat = copy.deepcopy(flat).set_params(embedding="mean")
    centre, scale = flat._scales["mean"]
    corners = np.array([[left, bottom], [right, bottom], [left, top], [right, top]])
    expected = flat.inverse_transform((corners - centre) / scale)["income"]
    image = np.asarray(display.image_.get_array())
    np.testing.assert_allclose(image[[0, 0, -1, -1], [0, -1, 0, -1]], expected, rtol=1e-4)
    assert display.ax_.get_title().startswith("income\ndecoded (background)")
    assert display.ax_.get_xlim() == (left, right)
    assert display.image_.origin == "lower"
    display.plot(cmap="magma", vmin=0, vmax=2e4)
    for artist in (display.image_, display.scatters_["rows"]):
        assert artist.get_cmap().name == "magma"
        assert artist.get_clim() == (0, 2e4)
    assert display.colorbar_.extend == "max"


def test_a_grid_of_classes_has_the_colours_of_the_points(flat, table):
    display = LatentSpaceDisplay.from_estimator(flat, table, color="member", grid=True)
    image = display.image_
    assert set(np.unique(image.get_array())) <= {0.0, 1.0}
    for code, points in enumerate(display.scatters_.values()):
        colour = image.cmap(image.norm(code))
        np.testing.assert_allclose(colour[:3], points.get_facecolor()[0, :3])
    assert list(display.scatters_) == ["False", "True"]


def test_a_class_that_only_the_grid_has_is_in_the_legend():
    codes, plane = np.zeros((3, 2)), np.array([[0.0, 0], [1, 1]])
    display = LatentSpaceDisplay(
        codes, color=np.zeros(3), levels=["a", "b", "c"], image=plane, extent=(-1, 1, -1, 1)
    )
    assert texts(display.plot().legend_.get_texts()) == ["a", "b"]


DAYS = pd.Series(pd.date_range("2020", periods=150)).where(np.arange(150) > 0)


@pytest.mark.parametrize(
    "color",
    [DAYS.to_numpy(), DAYS.tolist(), DAYS.dt.tz_localize("Europe/Paris")],
)
def test_a_color_of_dates_has_a_bar_with_dates(flat, table, color):
    display = LatentSpaceDisplay.from_estimator(flat, table, color=color)
    assert np.isnan(display.color[0])
    np.testing.assert_array_equal(num2date(display.color[1:]), DAYS[1:].dt.tz_localize("UTC"))
    assert display.colorbar_.formatter.__class__ is ConciseDateFormatter
    assert list(display.scatters_) == ["rows", "missing"]


def test_a_color_of_durations_has_a_unit(flat, table):
    for color in ((DAYS - DAYS[1]).rename("age"), (DAYS - DAYS[1]).to_numpy()):
        display = LatentSpaceDisplay.from_estimator(flat, table, color=color)
        np.testing.assert_array_equal(display.color[1:], np.arange(149))
        label = display.colorbar_.ax.get_ylabel()
        assert label == ("age (days)" if isinstance(color, pd.Series) else "(days)")


# -- errors ----------------------------------------------------------------------------------------


def test_color_of_another_length(flat, table):
    with pytest.raises(
        ValueError, match=r"`color` must have shape \(150,\), .*; got shape \(149,\)"
    ):
        LatentSpaceDisplay.from_estimator(flat, table, color=np.zeros(149))


def test_color_of_periods_raises_an_error_that_names_it(flat, table):
    periods = pd.period_range("2020", periods=150, freq="D")
    with pytest.raises(TypeError, match="'color' holds Period values"):
        LatentSpaceDisplay.from_estimator(flat, table, color=periods)


def test_a_grid_needs_two_components_and_a_column(flat, wide, table):
    with pytest.raises(ValueError, match="must have n_components=2 for grid=True; got 4"):
        LatentSpaceDisplay.from_estimator(wide, table, color="age", grid=True)
    with pytest.raises(ValueError, match="`color` must be a column of X for grid=True; got None"):
        LatentSpaceDisplay.from_estimator(flat, table, grid=True)
    with pytest.raises(ValueError, match=r"for grid=True; got labels or numbers \(Series\)"):
        LatentSpaceDisplay.from_estimator(flat, table, color=table["age"], grid=True)


@pytest.mark.filterwarnings("ignore:With n_components=1")
def test_a_map_needs_two_components(table):
    encoder = CMIMEncoder(1, **QUICK).fit(table)
    with pytest.raises(ValueError, match="n_components of at least 2 for a map; got 1"):
        LatentSpaceDisplay.from_estimator(encoder, table)
