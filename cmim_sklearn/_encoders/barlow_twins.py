"""`BarlowTwinsEncoder`: cross-correlation of two views, and its loss."""

from numbers import Real
from typing import ClassVar

from sklearn.utils._param_validation import Interval
from torch import Tensor

from cmim_sklearn._encoders.base.parameters import shared_parameters
from cmim_sklearn._encoders.base.two_view import _ContrastiveEncoder
from cmim_sklearn._models.two_view import Corruption, Views
from cmim_sklearn._training.net import ObjectiveLoss


def barlow_twins(batch: Views, *, redundancy_weight=5e-3) -> dict[str, Tensor]:
    """The correlations of features between the views: 1 with itself, 0 with any other.

    Parameters
    ----------
    batch : Views
    redundancy_weight : float

    Returns
    -------
    dict of str to Tensor of shape (n,)
        ``invariance`` and ``redundancy``, both the batch's, the same in all rows.

    References
    ----------
    J. Zbontar et al., "Barlow Twins" (2021), arXiv 2103.03230.
    """
    n = len(batch.first.projected)
    if n == 1:
        zero = batch.first.projected.new_zeros(1)
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
class BarlowTwinsEncoder(_ContrastiveEncoder):
    """Embed mixed tables by Barlow Twins: features that agree between views and with no other.

    `transform` returns the code, `n_components` wide. There is no decoder: nothing to sample from,
    nothing to decode with.

    Parameters
    ----------
    %(n_components)s
    redundancy_weight : float, default=0.005
        Of the squared correlations between different features.
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

    _parameter_constraints: ClassVar[dict] = {
        "redundancy_weight": [Interval(Real, 0, None, closed="left")],
    }
    _default_view = Corruption(0.3, both=True)

    def __init__(
        self,
        n_components=256,
        *,
        redundancy_weight=5e-3,
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
        return ObjectiveLoss(barlow_twins, redundancy_weight=self.redundancy_weight)
