"""Barlow Twins: its loss against numpy's correlations."""

import numpy as np
import pytest

from cmim_sklearn._encoders.barlow_twins import barlow_twins
from tests.helpers import randn, two_views


def test_terms_are_those_of_the_correlation_matrix():
    x = randn(300, 3)
    terms = barlow_twins(two_views(x, 7 * x + 2))
    assert terms["invariance"][0].item() == pytest.approx(0, abs=1e-6)
    off_diagonal = (np.corrcoef(x.numpy().T) ** 2).sum() - 3
    terms = barlow_twins(two_views(x, x), redundancy_weight=0.5)
    assert terms["redundancy"][0].item() == pytest.approx(0.5 * off_diagonal, rel=1e-3)
    assert barlow_twins(two_views(x, -x))["invariance"][0].item() == pytest.approx(12, rel=1e-4)


def test_one_row_has_no_correlation_but_a_gradient():
    z = randn(1, 3).requires_grad_()
    terms = barlow_twins(two_views(z, 2 * z))
    sum(terms.values()).mean().backward()
    assert [term.tolist() for term in terms.values()] == [[0.0], [0.0]]
    assert z.grad.abs().max() == 0
