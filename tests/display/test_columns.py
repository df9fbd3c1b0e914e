"""Columns that displays read from encoders and tables, and their errors."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from cmim_sklearn import CMIMEncoder
from cmim_sklearn.display import (
    LatentSpaceDisplay,
    ReconstructionDisplay,
    SampleQualityDisplay,
    TrainingDisplay,
)
from tests.display.conftest import QUICK, draw, written
from tests.helpers import warns_of_empty_columns

pytest.importorskip("matplotlib")
import matplotlib.pyplot as plt

ALL = [LatentSpaceDisplay, ReconstructionDisplay, SampleQualityDisplay]


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
    member = "x4" if library == "numpy" else "member"
    columns = [2, 4, 6] if library == "numpy" else ["score", "member", "city"]
    display = ReconstructionDisplay.from_estimator(encoder, X, columns=columns)
    assert display.levels == {member: ["False", "True"], name: ["Lima", "Oslo", "Rome"]}
    display = SampleQualityDisplay.from_estimator(encoder, X, columns=columns)
    assert display.levels == {member: ["False", "True"], name: ["Lima", "Oslo", "Rome"]}


def test_columns_without_values_and_with_one_value():
    frame = pd.DataFrame({"a": np.arange(40) / 7, "one": "x", "three": 3, "missing": np.nan})
    frame["none"] = pd.Series([None] * 40, dtype=object)
    with warns_of_empty_columns(frame):
        encoder = CMIMEncoder(2, **QUICK).fit(frame)
    display = ReconstructionDisplay.from_estimator(encoder, frame)
    words = [axis.get_title().split("\n")[1] for axis in display.axes_[1:]]
    assert words == ["accuracy 1.00", "constant", "no observed value", "no observed value"]
    display = SampleQualityDisplay.from_estimator(encoder, frame)
    known = np.isfinite(np.asarray(display.images_[0].get_array().filled(np.nan)))
    assert known.sum() == known[0, 0] == 1
    for column in frame:
        display = LatentSpaceDisplay.from_estimator(encoder, frame, color=column, grid=True)
        assert ("missing" in display.scatters_) == (column in ("missing", "none"))


def test_by_default_twelve_columns_are_drawn():
    X = np.random.RandomState(0).randn(40, 14)
    encoder = CMIMEncoder(2, **QUICK).fit(X)
    display = ReconstructionDisplay.from_estimator(encoder, X)
    assert list(display.real) == [f"x{k}" for k in range(12)]
    assert written(display.figure_).count("first 12 of 14 columns") == 1
    display = ReconstructionDisplay.from_estimator(encoder, X, columns=range(14))
    assert len(display.axes_) == len(display.artists_) == 14
    plt.close(display.figure_)  # laying it out takes long


def test_the_encoder_is_left_unchanged(flat, table):
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
def test_other_estimators_raise(flat, table, display):
    with pytest.raises(
        TypeError, match=f"`encoder` of {display.__name__} must .*; got Pipeline. For a"
    ):
        draw(display, make_pipeline(flat), table)


def test_without_a_decoder(contrastive, table):
    assert len(LatentSpaceDisplay.from_estimator(contrastive, table).codes) == 150
    match = r"must have a decoder.*; got InfoNCEEncoder.* Use AEEncoder, .* or VAEEncoder\.$"
    for display in (ReconstructionDisplay, SampleQualityDisplay):
        with pytest.raises(ValueError, match=match):
            draw(display, contrastive, table)
    with pytest.raises(ValueError, match=match):
        LatentSpaceDisplay.from_estimator(contrastive, table, color="age", grid=True)


def test_unknown_columns_raise(flat, table):
    match = r"X has no column 'rent'. Columns of X: \['income', 'age'"
    with pytest.raises(ValueError, match="`color`: " + match):
        LatentSpaceDisplay.from_estimator(flat, table, color="rent")
    for display in (ReconstructionDisplay, SampleQualityDisplay):
        with pytest.raises(ValueError, match="`columns`: " + match):
            display.from_estimator(flat, table, columns=["income", "rent"])
        with pytest.raises(ValueError, match=r"`columns` must name at least one column; got \[\]"):
            display.from_estimator(flat, table, columns=[])


@pytest.mark.parametrize("display", [TrainingDisplay, *ALL])
def test_without_matplotlib(flat, table, display, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(ImportError, match=rf"{display.__name__}.from_estimator requires matplot"):
        draw(display, flat, table)


def test_large_integers_are_distinct_levels_and_relative_numbers():
    ids = 1790123456789012345 + np.arange(40)
    kinds = pd.Categorical(
        [Decimal("2.50"), Decimal("0.5")] * 20, [Decimal("2.50"), Decimal("0.5")]
    )
    frame = pd.DataFrame({"shop": ids[np.arange(40) % 3], "two": ids % 2 + ids[0], "time": ids})
    frame["kind"] = kinds
    encoder = CMIMEncoder(2, **QUICK, categorical_features=["shop"]).fit(frame)
    for cls in (ReconstructionDisplay, SampleQualityDisplay):
        display = cls.from_estimator(encoder, frame)
        assert display.levels == {
            "shop": [str(level) for level in ids[:3]],
            "two": [str(level) for level in ids[:2]],
            "kind": ["2.50", "0.5"],
        }
        np.testing.assert_array_equal(display.real[f"time - {ids[0]}"], np.arange(40))
    display = LatentSpaceDisplay.from_estimator(encoder, frame, color="time", grid=True)
    assert display.colorbar_.ax.get_ylabel() == f"time - {ids[0]}"
    display = LatentSpaceDisplay.from_estimator(encoder, frame, color=frame["two"])
    assert list(display.scatters_) == [str(level) for level in ids[:2]]
    display = LatentSpaceDisplay.from_estimator(encoder, frame, color=[Decimal("0.5"), 0] * 20)
    assert display.colorbar_ is not None
