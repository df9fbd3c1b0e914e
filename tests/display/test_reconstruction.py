"""`ReconstructionDisplay`: points of numbers and confusion matrices of levels."""

import numpy as np
import pandas as pd
import pytest

from cmim_sklearn.display import ReconstructionDisplay
from tests.display.conftest import texts

pytest.importorskip("matplotlib")


def test_numbers_are_points_with_the_identity_line(flat, table):
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


def test_rare_levels_become_other():
    code = np.repeat(np.arange(14.0), np.arange(14, 0, -1))
    columns = {"letter": code}
    levels = {"letter": list("abcdefghijklmn")}
    display = ReconstructionDisplay(columns, {"letter": code[::-1]}, levels).plot()
    assert texts(display.axes_[0].get_yticklabels()) == [*"abcdefghij", "other"]
    np.testing.assert_allclose(np.sum(display.artists_["letter"].get_array(), axis=1), 1)
    assert not display.axes_[0].texts
