"""Texts in figures: names that matplotlib would misread, long and equal ones."""

import io
from xml.dom import minidom

import numpy as np
import pandas as pd
import pytest

import cmim_sklearn.display
from cmim_sklearn import CMIMEncoder
from cmim_sklearn.display import LatentSpaceDisplay, TrainingDisplay
from cmim_sklearn.display._texts import labels, numbered
from tests.display.conftest import QUICK, draw, texts, written

mpl = pytest.importorskip("matplotlib")
import matplotlib.pyplot as plt  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:Column .* which are equal and count as one level")

DISPLAYS = [getattr(cmim_sklearn.display, name) for name in cmim_sklearn.display.__all__]
LONG = "a level that takes a whole line " * 4
HOSTILE = {
    "$ price": ["$", "$$", "$$$", r"\$", "$20_000-$30_000", r"$\frac{", "x^2_{%s}", "_hidden"],
    LONG + "1": [LONG + str(k) for k in range(12)],
    LONG + "2": ["other", "missing", "\x00", "\ud800", "", " ", "a\nb", "a\tb", "עברית"],
    "": [1, "1", 2.5, 1e300, 10**30, True, "True", "None"],
}


@pytest.fixture(scope="module")
def hostile():
    """Encoder and table with names that are hard to draw."""
    rng = np.random.RandomState(0)
    table = pd.DataFrame(
        {
            name: pd.Series([levels[k % len(levels)] for k in rng.permutation(96)], dtype=object)
            for name, levels in HOSTILE.items()
        }
    )
    table["_{$}"] = rng.randn(96)
    table.loc[::7, [LONG + "2", "_{$}"]] = None
    return CMIMEncoder(2, **QUICK).fit(table), table


def save(figure):
    """Save a figure as pixels and as text, which must be valid XML."""
    figure.savefig(io.BytesIO(), format="png")
    with mpl.rc_context({"svg.fonttype": "none"}):
        figure.savefig(svg := io.BytesIO(), format="svg")
    minidom.parseString(svg.getvalue())


@pytest.mark.parametrize("display", DISPLAYS)
def test_every_display_draws_any_name(hostile, display):
    encoder, table = hostile
    options = {"columns": list(table)}
    if display is LatentSpaceDisplay:
        options = {"color": "$ price", "grid": True}
    elif display is TrainingDisplay:
        options = {}
    figure = draw(display, encoder, table, **options).figure_
    save(figure)
    assert not any(map(mpl.cbook.is_math_text, written(figure)))
    assert max(len(line) for text in written(figure) for line in text.split("\n")) < 45
    plt.close(figure)  # laid out twice already


def test_displays_draw_names_that_they_are_given():
    names = ["loss", "$$", "_" * 200, "x\x00"]
    terms = {name: np.arange(3.0) for name in names}
    display = TrainingDisplay(terms, terms).plot()
    shown = [axis.get_ylabel().split("\n")[0] for axis in display.axes_]
    assert shown == ["loss", r"\$\$", " " + "_" * 13 + "…", r"'x\x00'"]
    save(display.figure_)
    map_of = {
        "levels": ["_", "_", LONG + "3"],
        "color_name": ("$$", 1),
        "axis_labels": ("$$", LONG + "3"),
    }
    color = np.array([0, 1, 2, np.nan])
    display = LatentSpaceDisplay(np.zeros((4, 2)), color=color, **map_of).plot()
    shown = texts(display.legend_.get_texts())
    assert shown == [" _", " _ (2)", LONG[:19] + "…", "missing"]
    assert display.legend_.get_title().get_text() == r"('\$\$', 1)"
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == (r"\$\$", LONG[:39] + "…")
    save(display.figure_)
    numbers = LatentSpaceDisplay(np.zeros((4, 2)), color=color, color_name=0).plot()
    assert numbers.colorbar_.ax.get_ylabel() == "0"


@pytest.mark.parametrize("column", HOSTILE)
def test_a_legend_has_one_entry_per_level(hostile, column):
    encoder, table = hostile
    display = LatentSpaceDisplay.from_estimator(encoder, table, color=column)
    n_levels = len(set(table[column]) - {None, np.nan})
    n_entries = min(n_levels, 9) + table[column].isna().any()
    shown = texts(display.legend_.get_texts())
    assert len(set(shown)) == len(shown) == len(display.scatters_) == n_entries
    assert sum(len(points.get_offsets()) for points in display.scatters_.values()) == 96
    again = display.ax_.legend()  # users move a legend by making it again
    assert texts(again.get_texts()) == shown


def test_names_are_drawn_literally():
    assert labels(["$", r"\$", "a_b^{2}", "50 %", "_x", "é"]) == [
        r"\$", r"\\$", "a_b^{2}", "50 %", " _x", "é"
    ]  # fmt: skip
    for name in HOSTILE["$ price"]:
        figure = plt.figure()
        text = figure.text(0, 0, labels([name])[0])
        plain = figure.text(0, 0, name, parse_math=False)
        widths = [t.get_window_extent().width for t in (text, plain)]
        space = figure.text(0, 0, " x").get_window_extent().width
        space -= figure.text(0, 0, "x").get_window_extent().width
        assert widths[0] == pytest.approx(widths[1] + name.startswith("_") * space, abs=1)
        plt.close(figure)


def test_names_that_are_invisible_are_quoted():
    assert labels(["", " ", "\u200b", "x ", "\x00", "\ud800"]) == [
        "''", "' '", r"'\u200b'", "'x '", r"'\x00'", r"'\ud800'"
    ]  # fmt: skip
    assert labels(["a\nb", "a\r\n\tc", "a\u2028d"]) == ["a b", "a c", "a d"]


def test_long_names_are_cut_so_that_they_differ():
    assert labels(["a" * 20, "b" * 21]) == ["a" * 20, "b" * 19 + "…"]
    one, other = labels([LONG + "1", LONG + "2"])
    assert (one, other) == ("a level t…ole line 1", "a level t…ole line 2")
    middle = "x" * 30
    assert labels([f"{middle}{k}{middle}" for k in "123"], 9) == ["xxxx…xxxx"] + [
        f"xxxx…xxxx ({k})" for k in (2, 3)
    ]
    assert labels(["中" * 10, "中" * 11]) == ["中" * 10, "中" * 9 + "…"]
    assert labels(["e\u0301" * 20]) == ["e\u0301" * 20]
    assert len(labels(["e" + "\u0301" * 10**6])[0]) < 100


def test_equal_names_get_numbers():
    assert numbered(["a", "b", "a", "a (2)", "a"]) == ["a", "b", "a (2)", "a (2) (2)", "a (3)"]
    assert labels([1, "1", True]) == ["1", "1 (2)", "True"]


def test_characters_that_the_font_lacks_are_left_to_matplotlib():
    display = TrainingDisplay({"損失": np.arange(3.0)}).plot()
    with pytest.warns(UserWarning, match="missing from"):
        display.figure_.draw_without_rendering()
    assert display.axes_[0].get_ylabel().startswith("損失")
    plt.close(display.figure_)


@pytest.mark.parametrize("style", ["axes.unicode_minus", "axes.formatter.use_mathtext"])
def test_texts_do_not_depend_on_the_style_of_numbers(style):
    display = LatentSpaceDisplay(-np.eye(2) * 1e9, color=np.eye(2)[0], color_name="$-1_a")
    with mpl.rc_context({style: not mpl.rcParams[style]}):
        figure = display.plot().figure_
        save(figure)
    assert r"\$-1_a" in written(figure)
