"""`InfoNCEEncoder`: InfoNCE between two views of each row, and its loss."""

from numbers import Real
from typing import ClassVar

import torch
from sklearn.utils._param_validation import Interval
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from cmim_sklearn._encoders.base.parameters import shared_parameters
from cmim_sklearn._encoders.base.two_view import _ContrastiveEncoder
from cmim_sklearn._models.two_view import Views
from cmim_sklearn._training.net import ObjectiveLoss


def nce(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    r"""InfoNCE of two views: minus the log-probability that a row's second view is its own.

    .. math:: -\log \frac{e^{\cos(z_i, z_i')/\tau}}{\sum_j e^{\cos(z_i, z_j')/\tau}}

    Parameters
    ----------
    first, second : Tensor of shape (n, p)
    temperature : float

    Returns
    -------
    Tensor of shape (n,)
        In nats. log n less its mean is a lower bound on the information that the views share.
    """
    similarity = normalize(first, dim=1) @ normalize(second, dim=1).T / temperature
    return cross_entropy(
        similarity, torch.arange(len(first), device=first.device), reduction="none"
    )


def infonce(batch: Views, *, temperature=0.5) -> dict[str, Tensor]:
    """`nce` of the projected views, in both directions, as ``contrast`` (n,)."""
    # NOTE[paper] SCARF has the direction from the row to its corrupted view alone.
    first, second = batch.first.projected, batch.second.projected
    both = nce(first, second, temperature) + nce(second, first, temperature)
    return {"contrast": 0.5 * both}


@shared_parameters
class InfoNCEEncoder(_ContrastiveEncoder):
    """Embed mixed tables by InfoNCE on two views of each row, as SCARF does.

    `transform` returns the code, `n_components` wide. There is no decoder: nothing to sample from,
    nothing to decode with.

    Parameters
    ----------
    %(n_components)s
    temperature : float, default=0.5
        Of the cosine similarity.
    %(shared)s

    Attributes
    ----------
    %(attributes)s

    References
    ----------
    A. van den Oord, Y. Li, O. Vinyals (2018), arXiv 1807.03748; D. Bahri et al., "SCARF" (2022),
    arXiv 2106.15147.

    Examples
    --------
    >>> from cmim_sklearn import InfoNCEEncoder
    >>> from sklearn.datasets import load_iris
    >>> X = load_iris().data
    >>> InfoNCEEncoder(16, max_iter=5).fit_transform(X).shape
    (150, 16)
    """

    _parameter_constraints: ClassVar[dict] = {
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        n_components=256,
        *,
        temperature=0.5,
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
        return ObjectiveLoss(infonce, temperature=self.temperature)
