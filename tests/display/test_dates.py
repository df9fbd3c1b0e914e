"""Dates, times of day and durations in displays."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from cmim_sklearn import CMIMEncoder
from cmim_sklearn._tables.moments import form_of
from cmim_sklearn._tables.read import read
from tests.display.conftest import QUICK, texts

pytest.importorskip("matplotlib")
from matplotlib.dates import ConciseDateFormatter, num2date

from cmim_sklearn.display import LatentSpaceDisplay, ReconstructionDisplay, SampleQualityDisplay
from cmim_sklearn.display._dates import as_plotted, date_format

ORDERED = pd.Series(pd.date_range("2023-03-01", periods=40).tz_localize("Europe/Paris"))
X = pd.DataFrame(
    {
        "ordered": ORDERED.where(ORDERED.index != 3).dt.as_unit("ns"),
        "wait": pd.to_timedelta(np.arange(40) * 45, unit="min"),
        "at": [dt.time(i % 24, 30) for i in range(40)],
        "price": np.arange(40) / 7,
    }
)
NAMES = ["ordered", "wait (hours)", "at (hours)", "price"]


@pytest.fixture(scope="module")
def encoder():
    return CMIMEncoder(2, **QUICK).fit(X)


@pytest.mark.parametrize("display", [ReconstructionDisplay, SampleQualityDisplay])
def test_axes_of_dates_have_dates(encoder, display):
    drawn = display.from_estimator(encoder, X)
    assert list(drawn.real) == NAMES
    assert drawn.dates == NAMES[:1]
    days = drawn.real["ordered"]
    assert np.flatnonzero(np.isnan(days)).tolist() == [3]
    local = ORDERED.dt.tz_localize(None).dt.tz_localize("UTC")  # midnight in Paris
    np.testing.assert_array_equal(num2date(np.delete(days, 3)), np.delete(local, 3))
    np.testing.assert_allclose(drawn.real["wait (hours)"], np.arange(40) * 0.75)
    np.testing.assert_allclose(drawn.real["at (hours)"], np.arange(40) % 24 + 0.5)
    for name, axis in zip(NAMES, drawn.axes_, strict=False):
        formatter = axis.xaxis.get_major_formatter()
        assert isinstance(formatter, ConciseDateFormatter) == (name in drawn.dates)
    drawn.figure_.draw_without_rendering()
    assert "Apr" in texts(drawn.axes_[0].get_xticklabels())


@pytest.mark.parametrize("grid", [False, True])
def test_a_column_of_dates_colours_the_latent_space(encoder, grid):
    drawn = LatentSpaceDisplay.from_estimator(encoder, X, color="ordered", grid=grid)
    drawn.figure_.draw_without_rendering()
    assert "Apr" in texts(drawn.colorbar_.ax.get_yticklabels())
    drawn = LatentSpaceDisplay.from_estimator(encoder, X, color="wait", grid=grid)
    assert drawn.color_name == "wait (hours)"


@pytest.mark.parametrize(
    ("size", "unit", "expected"),
    [
        (np.timedelta64(-3, "D"), "days", -3),
        (np.timedelta64(47, "h"), "hours", 47),
        (np.timedelta64(90, "s"), "seconds", 90),
        (np.timedelta64(2500, "ns"), "microseconds", 2.5),
        (np.timedelta64(0, "s"), "seconds", 0),
        (np.timedelta64("NaT", "s"), "seconds", np.nan),
        (np.timedelta64(2**62, "s"), "days", 2**62 / 86_400),
    ],
)
def test_durations_have_the_largest_unit_below_half_of_them(size, unit, expected):
    values = np.array([size])
    form = form_of({"dtype": values.dtype.str})
    (numbers,), name, is_date = as_plotted([values], form, "span")
    assert (name, is_date) == (f"span ({unit})", False)
    np.testing.assert_allclose(numbers, [expected])


def test_dates_that_matplotlib_cannot_write_are_numbers():
    frame = read(np.array([["20000-01-01"], ["1970-01-03"]], "M8[s]"))
    (numbers,), name, is_date = as_plotted(frame.columns, form_of(frame.layout.dtype_of(0)), "x")
    assert (name, is_date, numbers[1]) == ("x (days from 1970)", False, 2)


@pytest.mark.parametrize("seconds", 10 ** np.arange(0, 11, 0.5))
def test_each_range_has_few_ticks(seconds):
    locator, _ = date_format()
    start = dt.datetime(1700, 1, 1)
    ticks = locator.tick_values(start, start + dt.timedelta(seconds=int(seconds)))
    assert 1 <= len(ticks) <= 7
