"""Number of epochs of a fit."""

import pandas as pd

from cmim_sklearn import CMIMEncoder, InfoNCEEncoder
from cmim_sklearn._encoders.base import fit as steps
from cmim_sklearn._encoders.base.fit import n_epochs


def test_auto_makes_about_three_thousand_updates():
    assert n_epochs("auto", 256 * 100, 256, width=1200) == 30
    assert n_epochs("auto", 10**7, 256, width=3) == 10
    assert n_epochs("auto", 50, 256, width=3) == 400
    assert n_epochs(7, 50, 256, width=3) == 7


def test_auto_makes_fewer_updates_for_a_wide_table():
    # An array of 800 columns has 1,600 inputs, values and indicators, and 800 outputs.
    assert n_epochs("auto", 1000, 100, width=2400) == 150
    assert n_epochs("auto", 1000, 100, width=10**6) == 50


def test_width_is_that_of_inputs_and_outputs(monkeypatch):
    widths = []

    def one_epoch(max_iter, n_rows, batch_size, width):
        widths.append(width)
        return 1

    monkeypatch.setattr(steps, "n_epochs", one_epoch)
    frame = pd.DataFrame({"a": [0.5, 1.5, 2.5], "b": ["x", "y", "z"]})
    CMIMEncoder().fit(frame)
    InfoNCEEncoder().fit(frame)
    # A value and an indicator for a number, a one-hot of three; a mean, and three scores.
    assert widths == [2 + 3 + 1 + 3, 2 + 3]
