"""SuperInfo: its loss against torch's divergences."""

from torch.distributions import Independent, Normal, kl_divergence
from torch.testing import assert_close

from cmim_sklearn._encoders.infonce import infonce
from cmim_sklearn._encoders.super_info import divergence, superinfo
from cmim_sklearn._models.two_view import View, Views
from cmim_sklearn.latents import DiagonalNormal, standard_normal
from tests.helpers import randn


def test_loss_is_the_sum_of_three_bounds():
    one = DiagonalNormal(randn(6, 3), randn(6, 3, seed=1))
    other = DiagonalNormal(randn(6, 3, seed=2), randn(6, 3, seed=3))

    def as_torch(q):
        return Independent(Normal(q.mean, (0.5 * q.log_variance).exp()), 1)

    assert_close(divergence(one, other), kl_divergence(as_torch(one), as_torch(other)))
    batch = Views(View(one.mean, one, one.mean), View(other.mean, other, other.mean))
    terms = superinfo(batch, superfluous_weight=-2.0, compression_weight=3.0)
    assert_close(terms["superfluous"], -(divergence(one, other) + divergence(other, one)))
    prior = standard_normal(one.mean)
    assert_close(terms["compression"], 3 * (divergence(one, prior) + divergence(other, prior)))
    assert_close(terms["contrast"], infonce(batch)["contrast"])
