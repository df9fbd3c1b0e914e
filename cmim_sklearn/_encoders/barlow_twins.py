"""`BarlowTwinsEncoder`: cross-correlation of two views, and its loss."""

from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

from sklearn.utils._param_validation import Interval
from torch import Tensor

from cmim_sklearn._encoders.base.parameters import shared_parameters
from cmim_sklearn._encoders.base.two_view import _ProjectingEncoder
from cmim_sklearn._models.two_view import Corruption, Views
from cmim_sklearn._training.net import ObjectiveLoss


def barlow_twins(batch: Views, *, redundancy_weight=5e-3) -> dict[str, Tensor]:
    """Loss of Barlow Twins: cross-correlations of the views should be the identity matrix.

    Parameters
    ----------
    batch : Views
    redundancy_weight : float
        Weight of the off-diagonal correlations.

    Returns
    -------
    dict of str to Tensor of shape (n,)
        ``invariance`` and ``redundancy`` of the batch, equal in all rows; 0 if n is 1.

    References
    ----------
    J. Zbontar et al., "Barlow Twins" (2021), arXiv 2103.03230.
    """
    n = len(batch.first.projected)
    if n == 1:  # no correlation, but a loss with a gradient
        zero = 0 * batch.first.projected.sum(1)
        return {"invariance": zero, "redundancy": zero}
    first, second = (
        (view.projected - view.projected.mean(0)) / (view.projected.std(0) + 1e-5) for view in batch
    )
    correlation = first.T @ second / (n - 1)
    own = correlation.diagonal()
    redundancy = correlation.square().sum() - own.square().sum()
    return {
        "invariance": (1 - own).square().sum().expand(n),
        "redundancy": (redundancy_weight * redundancy).expand(n),
    }


@shared_parameters
@dataclass(eq=False, repr=False, kw_only=True)
class BarlowTwinsEncoder(_ProjectingEncoder):
    """Embed mixed tables with Barlow Twins: features that agree between views and are decorrelated.

    `transform` returns the latent code, `n_components` wide. There is no decoder, so features
    cannot be inverted and rows cannot be generated.

    Parameters
    ----------
    %(n_components)s
    redundancy_weight : float, default=0.005
        Weight of the squared correlations between different features.
    %(shared)s

    Attributes
    ----------
    %(attributes)s

    References
    ----------
    J. Zbontar et al., "Barlow Twins" (2021), arXiv 2103.03230.

    Examples
    --------
    >>> from cmim_sklearn import BarlowTwinsEncoder
    >>> from sklearn.datasets import load_iris
    >>> X = load_iris().data
    >>> BarlowTwinsEncoder(16, max_iter=5).fit_transform(X).shape
    (150, 16)
    """

    redundancy_weight: float = 5e-3

    _parameter_constraints: ClassVar[dict] = {
        "redundancy_weight": [Interval(Real, 0, None, closed="left")],
    }
    _default_view = Corruption(0.3, both=True)

    def _objective(self, model, seed):
        return ObjectiveLoss(barlow_twins, redundancy_weight=self.redundancy_weight)
