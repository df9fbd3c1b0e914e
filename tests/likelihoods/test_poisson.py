"""Poisson columns: counts and their range."""

import numpy as np
import pytest
import torch

from cmim_sklearn._likelihoods.poisson import Poisson
from tests.helpers import measured


@pytest.mark.parametrize("bad", [-1.0, 2.5])
def test_fit_names_a_value_that_is_not_a_count(bad):
    with pytest.raises(ValueError, match=rf"'visits' has {bad} in row 1"):
        Poisson.fit([np.array([3.0, bad])], ["visits"])


def test_counts_that_cannot_be_generated_raise():
    with pytest.raises(ValueError, match=r"at most 485165195; column 'visits' has 9000000000\."):
        Poisson.fit([np.array([3.0, 9e9])], ["visits"])
    likelihood = Poisson.fit([np.array([3.0, 5.0])], ["visits"])
    cells = measured(likelihood, [np.array([1e305, -1e305, 1e20])])
    log_p = likelihood.log_density(torch.zeros(3, 1), cells)
    assert torch.isfinite(log_p).all()
    x = torch.from_numpy(likelihood.encode([np.array([1e305])]))
    assert torch.isfinite(likelihood.inputs(x, likelihood.observed(x))).all()


def test_imputed_counts_stay_in_the_range():
    likelihood = Poisson.fit([np.array([3.0, 5.0])], ["visits"])
    shares = torch.full((1, 3), 0.34)  # sum to more than 1, as rounded weights may
    (values,) = likelihood.expected(torch.full((1, 3, 1), 9.0), shares)
    assert values.tolist() == [5.0]


def test_the_largest_count_has_the_probability_of_all_counts_above():
    """Samples are clipped to the largest count, even if it is 0."""
    likelihood = Poisson.fit([np.zeros(50)], ["a"])
    cells = measured(likelihood, [np.array([0.0, 1.0])])
    log_p = likelihood.log_density(torch.full((2, 1), -1.0), cells)[:, 0]
    assert log_p[0].exp() == pytest.approx(1.0, abs=0.03)
    assert log_p[0] > log_p[1] + 3


def test_values_that_are_not_counts_have_a_small_probability():
    likelihood = Poisson.fit([np.array([0.0, 3, 5, np.nan])], ["visits"])
    cells = measured(likelihood, [np.array([-5.0, 2.5, np.nan])])
    p = likelihood.log_density(torch.zeros(3, 1), cells)[:, 0].exp()
    np.testing.assert_allclose(p, [1 / 4, 1 / 4, 1.0], rtol=1e-6)
