"""Bernoulli columns: their two values."""

import numpy as np
import pytest
import torch

from cmim_sklearn._likelihoods.bernoulli import Bernoulli
from tests.helpers import measured


def test_a_column_of_fewer_than_two_values_is_taken_as_0_and_1():
    columns = [np.array([1.0, np.nan, 1.0]), np.array([7.0, 3.0, 7.0]), np.full(3, np.nan)]
    likelihood = Bernoulli.fit(columns, ["a", "b", "c"])
    assert likelihood.values == [(0.0, 1.0), (3.0, 7.0), (0.0, 1.0)]
    for values, back in zip(columns, likelihood.decode(likelihood.encode(columns)), strict=True):
        np.testing.assert_array_equal(back, values)


@pytest.mark.parametrize(
    ("values", "found"),
    [([1.0, 2.0, 3.0], r"more, for example \[1.0, 2.0, 3.0\]"), ([5.0], "only 5")],
)
def test_fit_needs_two_distinct_values(values, found):
    with pytest.raises(ValueError, match=rf"two distinct values; column 'c' has {found}\."):
        Bernoulli.fit([np.array(values)], ["c"])


def test_unknown_values_have_a_small_probability():
    likelihood = Bernoulli.fit([np.array([3.0, 7.0, 3.0, np.nan])], ["c"])
    cells = measured(likelihood, [np.array([3.0, 7.0, 5.0, np.nan])])
    p = likelihood.log_density(torch.zeros(4, 1), cells)[:, 0].exp()
    np.testing.assert_allclose(p, [0.5, 0.5, 1 / 6, 1.0], rtol=1e-6)
