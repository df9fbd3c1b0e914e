"""`TrainingDisplay`: curves, labels and style."""

import numpy as np
import pytest

from cmim_sklearn import BarlowTwinsEncoder, CMIMEncoder
from cmim_sklearn.display import TrainingDisplay
from tests.display.conftest import QUICK, texts

pytest.importorskip("matplotlib")


def test_each_term_of_the_history_has_a_panel(flat):
    display = TrainingDisplay.from_estimator(flat)
    names = ["loss", "distortion", "latent", "contrast"]
    assert [axis.get_ylabel() for axis in display.axes_] == [f"{n}\nnats per row" for n in names]
    for name, line, held_out in zip(names, display.lines_, display.held_out_lines_, strict=True):
        x, y = line.get_data()
        np.testing.assert_array_equal(x, [1, 2, 3])
        np.testing.assert_array_equal(y, [row[f"train_{name}"] for row in flat.net_.history])
        expected = [row[f"valid_{name}"] for row in flat.net_.history]
        np.testing.assert_array_equal(held_out.get_ydata(), expected)
    parts = sum(line.get_ydata() for line in display.lines_[1:])
    np.testing.assert_allclose(display.lines_[0].get_ydata(), parts, rtol=1e-6)
    assert texts(display.axes_[0].get_legend().get_texts()) == ["training", "validation"]
    assert display.axes_[-1].get_xlabel() == "epoch"
    display.figure_.draw_without_rendering()
    assert len({axis.yaxis.label.get_window_extent().x1 for axis in display.axes_}) == 1
    assert display.axes_[0].get_shared_x_axes().joined(display.axes_[0], display.axes_[-1])
    assert not display.axes_[0].xaxis.get_tick_params()["labelbottom"]
    assert display.axes_[-1].xaxis.get_tick_params()["labelbottom"]


def test_validation_lines_are_dashed_in_any_colour(flat):
    display = TrainingDisplay.from_estimator(flat, c="red", lw=3)
    for lines, style in ((display.lines_, "-"), (display.held_out_lines_, "--")):
        assert {line.get_color() for line in lines} == {"red"}
        assert {line.get_linestyle() for line in lines} == {style}
        assert {line.get_linewidth() for line in lines} == {3}
    assert texts(display.axes_[0].get_legend().get_texts()) == ["training", "validation"]
    display.plot(ls=":")
    assert {line.get_linestyle() for line in display.held_out_lines_} == {":"}
    assert display.lines_[0].get_color() != display.held_out_lines_[0].get_color()
    with pytest.raises(
        TypeError, match=r"plot does not accept `label`; got 'loss'. The labels name"
    ):
        display.plot(label="loss")


def test_without_validation_rows_there_is_no_validation_line(wide):
    display = TrainingDisplay.from_estimator(wide, color="red")
    assert display.held_out_lines_ is None
    assert display.axes_[0].get_legend() is None
    assert {line.get_color() for line in display.lines_} == {"red"}
    assert [len(axis.lines) for axis in display.axes_] == [1, 1, 1, 1]


def test_a_term_that_starts_in_a_warm_start_is_nan_before_it(table):
    encoder = CMIMEncoder(2, contrastive_weight=0, warm_start=True, **QUICK).fit(table)
    encoder.set_params(contrastive_weight=1).fit(table, X_val=table)
    display = TrainingDisplay.from_estimator(encoder)
    assert list(display.terms) == ["loss", "distortion", "latent", "contrast"]
    np.testing.assert_array_equal(np.isnan(display.terms["loss"]), False)
    missing = [True] * 3 + [False] * 3
    np.testing.assert_array_equal(np.isnan(display.held_out["loss"]), missing)


def test_a_single_epoch_is_drawn_as_a_point(table):
    encoder = CMIMEncoder(2, **{**QUICK, "max_iter": 1}).fit(table)
    assert TrainingDisplay.from_estimator(encoder).lines_[0].get_marker() == "."


def test_losses_that_are_not_in_nats_have_another_unit(table):
    encoder = BarlowTwinsEncoder(n_components=2, **QUICK).fit(table)
    label = TrainingDisplay.from_estimator(encoder).axes_[0].get_ylabel()
    assert label == "loss\nmean per row"


def test_an_encoder_interrupted_in_its_first_epoch_has_no_curve(table):
    encoder = CMIMEncoder(2, **QUICK).fit(table)
    encoder.net_.history.clear()
    match = "at least one epoch; got CMIMEncoder, interrupted in its first"
    with pytest.raises(ValueError, match=match):
        TrainingDisplay.from_estimator(encoder)


def test_the_end_of_labels_is_marked():
    X = np.random.RandomState(0).randn(320, 2)
    y = np.random.RandomState(1).randint(2, size=320)
    own = {"max_iter": 12, "batch_size": 160, "learning_rate_init": 0.1, "early_stopping": False}
    encoder = CMIMEncoder(2, label_weight=10, **QUICK | own).fit(X, y, X_val=X[:50])
    used = [row["uses_labels"] for row in encoder.net_.history]
    display = TrainingDisplay.from_estimator(encoder)
    (end,) = display.label_ends
    assert used == [True] * end + [False] * (12 - end)
    assert list(display.terms)[-1] == "label"
    assert list(display.held_out) == list(display.terms)[:-1]
    assert [line.axes for line in display.held_out_lines_] == list(display.axes_[:-1])
    assert display.axes_[-1].get_ylabel() == "label\nweighted nats per row"
    (line,) = display.label_end_lines_
    assert line.get_xdata() == [end + 0.5] * 2
    assert line.axes is display.axes_[-1]
    assert texts(display.axes_[-1].get_legend().get_texts()) == ["training", "labels end"]
