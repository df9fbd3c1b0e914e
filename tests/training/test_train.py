"""Rows of a fit: what is read in parts."""

import numpy as np

from cmim_sklearn import CMIMEncoder
from cmim_sklearn._encoders.base.joint_fit import start_fit
from cmim_sklearn._training import train
from tests.helpers import make_mixed


def test_parts_of_rows_give_what_all_rows_give(monkeypatch):
    encoder = CMIMEncoder(max_iter=1, hidden_layer_sizes=(8,), n_components=3, device="cpu")
    rows = start_fit(encoder, lambda: make_mixed(50), {}).rows
    some = np.random.RandomState(0).permutation(50)[:40]
    measured, shares = rows.measure(some), rows.missing_shares()
    np.testing.assert_array_equal(shares, rows.take(np.arange(50)).missing().mean(0))
    monkeypatch.setattr(train, "READ_TOGETHER", 7)
    assert rows.measure(some).tobytes() == measured.tobytes()
    np.testing.assert_array_equal(rows.missing_shares(), shares)
