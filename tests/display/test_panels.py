"""Layout of panels, in new figures and in given axes, and drawing again."""

import gc
import io
import itertools
import re
import weakref

import numpy as np
import pytest

from cmim_sklearn.display import (
    LatentSpaceDisplay,
    ReconstructionDisplay,
    SampleQualityDisplay,
    TrainingDisplay,
)
from tests.display.conftest import draw, written

mpl = pytest.importorskip("matplotlib")
import matplotlib.pyplot as plt  # noqa: E402

ALL = [TrainingDisplay, LatentSpaceDisplay, ReconstructionDisplay, SampleQualityDisplay]


@pytest.mark.parametrize("layout", [None, "constrained"])
@pytest.mark.parametrize("display", ALL)
def test_drawing_again_in_given_axes_replaces_the_panels(flat, table, display, layout):
    figure, (left, right) = plt.subplots(1, 2, figsize=(15, 10), layout=layout)
    display = draw(display, flat, table, ax=left)
    assert display.figure_ is figure
    panels = getattr(display, "axes_", [display.__dict__.get("ax_")])
    n_axes = len(figure.axes)
    assert display.plot(left) is display
    assert len(figure.axes) == n_axes  # old panels and colour bars are gone
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
def test_a_map_drawn_again_replaces_the_last(flat, table, layout, is_cleared):
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


def test_drawing_elsewhere_keeps_the_first_figure(flat, table):
    display = LatentSpaceDisplay.from_estimator(flat, table, color="income")
    first, points = display.ax_, display.scatters_["rows"]
    assert display.plot().ax_ is not first
    assert points in first.collections
    assert len(first.figure.axes) == 2


def test_closed_figures_are_freed(flat, table):
    figure, ax = plt.subplots()
    TrainingDisplay.from_estimator(flat, ax=ax)
    gone = weakref.ref(ax)
    del figure, ax
    plt.close("all")
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("display", ALL)
def test_the_same_figure_is_saved_as_the_same_file(flat, table, display):
    files = []
    with mpl.rc_context({"svg.hashsalt": "cmim"}):
        for _ in range(2):
            figure, ax = plt.subplots(layout="constrained")
            draw(display, flat, table, ax=ax)
            files.append(io.StringIO())
            figure.savefig(files[-1], format="svg", metadata={"Date": None})
            plt.close(figure)
    first, second = (file.getvalue() for file in files)
    assert first == second
    ids = re.findall(r'<g id="([^"]*)"', first)
    assert len(set(ids)) == len(ids)
    assert not any(" " in one for one in ids)


def test_text_does_not_overlap_at_600_pixels(flat):
    rng = np.random.RandomState(0)
    real = {f"column {k}": rng.randint(9, size=100) * 1.0 for k in range(3)}
    levels = {name: [f"level number {k}" for k in range(9)] for name in real}
    for display in (SampleQualityDisplay, ReconstructionDisplay):
        figure = display(real, real, levels).plot().figure_
        figure.draw_without_rendering()
        for axis in figure.axes[:3]:
            boxes = [label.get_window_extent() for label in axis.get_xticklabels()]
            assert len(boxes) == 9
            assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))
    TrainingDisplay.from_estimator(flat)
    LatentSpaceDisplay(np.zeros((9, 2))).plot()
    assert all(plt.figure(number).get_figwidth() <= 6.6 for number in plt.get_fignums())


@pytest.mark.parametrize("display", [TrainingDisplay, ReconstructionDisplay, SampleQualityDisplay])
def test_a_sequence_of_axes_is_used_as_panels(flat, table, display):
    display = draw(display, flat, table)
    figure, axes = plt.subplots(2, 3, figsize=(15, 10))
    n = len(display.axes_)
    display.plot(axes.ravel()[:n])
    assert list(display.axes_) == list(axes.ravel()[:n])
    assert all(axis.has_data() for axis in axes.ravel()[:n])
    assert display.figure_ is figure
    display.plot(display.axes_)
    assert sum(len(axis.child_axes) for axis in figure.axes) == (
        display.axes_[-1].get_title() == "synthetic"
    )
    with pytest.raises(
        ValueError, match=f"`ax` must be .* a sequence of {n}, one per panel; got 1 axes"
    ):
        display.plot(axes[0, :1])


def test_axes_without_a_grid_are_divided_too(flat):
    figure = plt.figure()
    ax = figure.add_axes((0.5, 0.5, 0.4, 0.4))
    display = TrainingDisplay.from_estimator(flat, ax=ax)
    assert not ax.axison
    for axis in display.axes_:
        assert axis.get_position().x0 == pytest.approx(0.5)
        assert axis.get_position().y0 > 0.5 - 1e-9


@pytest.mark.parametrize("display", [ReconstructionDisplay, SampleQualityDisplay])
def test_the_figure_says_how_many_columns_are_drawn(flat, table, display, monkeypatch):
    monkeypatch.setattr("cmim_sklearn.display._columns.MAX_COLUMNS", 2)
    note = "first 2 of 8 columns"
    first = display.from_estimator(flat, table)
    assert written(first.figure_).count(note) == 1
    figure, ax = plt.subplots(layout="constrained")
    for _ in range(2):
        first.plot(ax)
    assert written(figure).count(note) == 1
    asked = display.from_estimator(flat, table, columns=["income", "age", "score"])
    assert not any(" columns" in text for text in written(asked.figure_))
    monkeypatch.setattr("cmim_sklearn.display._columns.MAX_COLUMNS", 8)
    whole = display.from_estimator(flat, table)
    assert not any(" columns" in text for text in written(whole.figure_))
    plt.close(whole.figure_)


def test_outer_panels_are_labelled_and_all_given_axes(flat, table):
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
