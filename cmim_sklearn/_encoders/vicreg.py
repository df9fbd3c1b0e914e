"""`VICRegEncoder`: variance, invariance and covariance of two views, and its loss."""

from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

from sklearn.utils._param_validation import Interval
from torch import Tensor
from torch.nn.functional import relu

from cmim_sklearn._encoders.base.parameters import shared_parameters
from cmim_sklearn._encoders.base.two_view import _ProjectingEncoder
from cmim_sklearn._models.two_view import Corruption, Views
from cmim_sklearn._training.net import ObjectiveLoss


def vicreg(
    batch: Views, *, invariance_weight=25.0, variance_weight=25.0, covariance_weight=1.0
) -> dict[str, Tensor]:
    """Loss of VICReg: distance of the views, hinge on standard deviations, squared covariances.

    Parameters
    ----------
    batch : Views
    invariance_weight, variance_weight, covariance_weight : float
        Weights of the three terms.

    Returns
    -------
    dict of str to Tensor of shape (n,)
        ``invariance`` by row; ``variance`` and ``covariance`` of the batch, equal in all rows.

    References
    ----------
    A. Bardes, J. Ponce, Y. LeCun, "VICReg" (2022), arXiv 2105.04906.
    """
    first, second = batch.first.projected, batch.second.projected
    n, p = first.shape
    terms = {"invariance": invariance_weight * (first - second).square().mean(1)}
    variance = covariance = first.new_zeros(())
    if n > 1:
        for view in (first, second):
            centred = view - view.mean(0)
            deviation = (centred.square().sum(0) / (n - 1) + 1e-4).sqrt()
            variance = variance + 0.5 * relu(1 - deviation).mean()
            between = centred.T @ centred / (n - 1)
            covariance = (
                covariance + (between.square().sum() - between.diagonal().square().sum()) / p
            )
    terms["variance"] = (variance_weight * variance).expand(n)
    terms["covariance"] = (covariance_weight * covariance).expand(n)
    return terms


@shared_parameters
@dataclass(eq=False, repr=False, kw_only=True)
class VICRegEncoder(_ProjectingEncoder):
    """Embed mixed tables with VICReg: variance, invariance and covariance of two views.

    `transform` returns the latent code, `n_components` wide. There is no decoder, so features
    cannot be inverted and rows cannot be generated.

    Parameters
    ----------
    %(n_components)s
    invariance_weight : float, default=25.0
        Weight of the squared distance between the views of a row.
    variance_weight : float, default=25.0
        Weight of the variance term, a hinge that pushes each feature's standard deviation to at
        least 1.
    covariance_weight : float, default=1.0
        Weight of the squared covariances between features.
    %(shared)s

    Attributes
    ----------
    %(attributes)s

    References
    ----------
    A. Bardes, J. Ponce, Y. LeCun, "VICReg" (2022), arXiv 2105.04906.

    Examples
    --------
    >>> from cmim_sklearn import VICRegEncoder
    >>> from sklearn.datasets import load_iris
    >>> X = load_iris().data
    >>> VICRegEncoder(16, max_iter=5).fit_transform(X).shape
    (150, 16)
    """

    invariance_weight: float = 25.0
    variance_weight: float = 25.0
    covariance_weight: float = 1.0

    _parameter_constraints: ClassVar[dict] = {
        "invariance_weight": [Interval(Real, 0, None, closed="left")],
        "variance_weight": [Interval(Real, 0, None, closed="left")],
        "covariance_weight": [Interval(Real, 0, None, closed="left")],
    }
    _default_view = Corruption(0.3, both=True)

    def _objective(self, model, seed):
        return ObjectiveLoss(
            vicreg,
            invariance_weight=self.invariance_weight,
            variance_weight=self.variance_weight,
            covariance_weight=self.covariance_weight,
        )
