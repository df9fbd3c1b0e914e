"""`VICRegEncoder`: variance, invariance and covariance of two views, and its loss."""

from numbers import Real
from typing import ClassVar

from sklearn.utils._param_validation import Interval
from torch import Tensor
from torch.nn.functional import relu

from cmim_sklearn._encoders.base.parameters import shared_parameters
from cmim_sklearn._encoders.base.two_view import _ContrastiveEncoder
from cmim_sklearn._models.two_view import Corruption, Views
from cmim_sklearn._training.net import ObjectiveLoss


def vicreg(
    batch: Views, *, invariance_weight=25.0, variance_weight=25.0, covariance_weight=1.0
) -> dict[str, Tensor]:
    """Views alike, every feature with a deviation of 1 at least, no two features alike.

    Parameters
    ----------
    batch : Views
    invariance_weight, variance_weight, covariance_weight : float

    Returns
    -------
    dict of str to Tensor of shape (n,)
        ``invariance`` by row; ``variance`` and ``covariance``, the batch's, alike in all rows.

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
class VICRegEncoder(_ContrastiveEncoder):
    """Embed mixed tables by VICReg: variance, invariance and covariance of two views.

    `transform` returns the code, `n_components` wide. There is no decoder: nothing to sample from,
    nothing to decode with.

    Parameters
    ----------
    %(n_components)s
    invariance_weight : float, default=25.0
        Of the squared distance between the views of a row.
    variance_weight : float, default=25.0
        Of what a feature's deviation lacks of 1.
    covariance_weight : float, default=1.0
        Of the squared covariances between features.
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

    _parameter_constraints: ClassVar[dict] = {
        "invariance_weight": [Interval(Real, 0, None, closed="left")],
        "variance_weight": [Interval(Real, 0, None, closed="left")],
        "covariance_weight": [Interval(Real, 0, None, closed="left")],
    }
    _default_view = Corruption(0.3, both=True)

    def __init__(
        self,
        n_components=256,
        *,
        invariance_weight=25.0,
        variance_weight=25.0,
        covariance_weight=1.0,
        projector_layer_sizes=(256, 256),
        view=None,
        hidden_layer_sizes=(256, 256),
        activation="silu",
        encoder="mlp",
        categorical_features="from_dtype",
        numeric_scaling="quantile",
        max_categories=256,
        batch_size=256,
        learning_rate_init=3e-3,
        alpha=1e-4,
        max_iter="auto",
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        tol=1e-4,
        warm_start=False,
        device="auto",
        net_params=None,
        random_state=None,
        verbose=0,
    ):
        self._store(locals())

    def _objective(self, model, seed):
        return ObjectiveLoss(
            vicreg,
            invariance_weight=self.invariance_weight,
            variance_weight=self.variance_weight,
            covariance_weight=self.covariance_weight,
        )
