"""InfoNCE: its loss against closed forms."""

import math

import torch
from torch.testing import assert_close

from cmim_sklearn._encoders.infonce import infonce, nce
from tests.helpers import randn, two_views


def test_loss_of_orthogonal_rows_and_of_equal_rows():
    q, tau = torch.linalg.qr(randn(5, 5))[0], 0.5
    expected = math.log(math.exp(1 / tau) + 4) - 1 / tau
    assert_close(nce(q, 3 * q, tau), torch.full((5,), expected))
    same = torch.ones(5, 3)
    assert_close(nce(same, same, tau), torch.full((5,), math.log(5)))
    both = infonce(two_views(q, q.roll(1, 0)), temperature=tau)["contrast"]
    assert_close(both, torch.full((5,), math.log(math.exp(1 / tau) + 4)))


def test_loss_bounds_the_information_that_two_views_share():
    """log n - loss is at most I for any codes; here I = -d/2 log(1 - rho^2) of Gaussian views."""
    rho, d, n = 0.9, 2, 2000
    first = randn(n, d)
    second = rho * first + math.sqrt(1 - rho**2) * randn(n, d, seed=1)
    information = -d / 2 * math.log(1 - rho**2)
    bounds = [math.log(n) - nce(first, second, tau).mean().item() for tau in (0.05, 0.2, 1.0)]
    assert 0.5 < max(bounds) < information
