"""VICReg: its loss against closed forms."""

import pytest
import torch
from torch.testing import assert_close

from cmim_sklearn._encoders.vicreg import vicreg
from tests.helpers import randn, two_views


def test_terms_of_whitened_and_of_collapsed_views():
    x = randn(200, 4)
    white = (x - x.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T
    terms = vicreg(two_views(white, white))
    assert terms["invariance"].abs().max() == 0
    assert terms["variance"][0].item() == pytest.approx(0, abs=1e-4)
    assert terms["covariance"][0].item() == pytest.approx(0, abs=1e-6)
    flat = torch.zeros(50, 4)
    terms = vicreg(two_views(flat, flat + 1))
    assert_close(terms["invariance"], torch.full((50,), 25.0))
    assert terms["variance"][0].item() == pytest.approx(25 * (1 - 1e-2))
    # Two equal features have covariance 1, which counts twice per matrix, in each of two views.
    twins = white[:, [0, 0]]
    assert vicreg(two_views(twins, twins))["covariance"][0].item() == pytest.approx(2.0, rel=1e-4)
