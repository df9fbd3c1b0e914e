"""Training on a whole table: how long."""

import pandas as pd

from cmim_sklearn import CMIMEncoder, InfoNCEEncoder
from cmim_sklearn._encoders.base import fit as fitting
from cmim_sklearn._encoders.base.fit import n_epochs


def test_auto_epochs_make_about_three_thousand_updates():
    encoder = CMIMEncoder()
    assert n_epochs(encoder, 256 * 100, width=1200) == 30
    assert n_epochs(encoder, 10**7, width=3) == 10
    assert n_epochs(encoder, 50, width=3) == 400
    assert n_epochs(CMIMEncoder(max_iter=7), 50, width=3) == 7


def test_auto_epochs_of_a_wide_table_make_fewer_updates():
    encoder = CMIMEncoder(batch_size=100)
    # An array of 800 columns has 1,600 inputs, values and indicators, and 800 outputs.
    assert n_epochs(encoder, 1000, width=2400) == 150
    assert n_epochs(encoder, 1000, width=10**6) == 50


def test_fit_counts_a_tables_inputs_and_outputs_as_its_width(monkeypatch):
    widths = []

    def one_epoch(encoder, n_rows, width):
        widths.append(width)
        return 1

    monkeypatch.setattr(fitting, "n_epochs", one_epoch)
    frame = pd.DataFrame({"a": [0.5, 1.5, 2.5], "b": ["x", "y", "z"]})
    CMIMEncoder().fit(frame)
    InfoNCEEncoder().fit(frame)
    # A value and an indicator for a number, a one-hot of three; a mean, and three scores.
    assert widths == [2 + 3 + 1 + 3, 2 + 3]
