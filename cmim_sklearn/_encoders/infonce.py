"""`InfoNCEEncoder`: InfoNCE between two views of each row, and its loss."""

from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

import torch
from sklearn.utils._param_validation import Interval
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from cmim_sklearn._encoders.base.parameters import shared_parameters
from cmim_sklearn._encoders.base.two_view import _ProjectingEncoder
from cmim_sklearn._models.two_view import Views
from cmim_sklearn._training.net import ObjectiveLoss


def nce(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    r"""InfoNCE of two views: negative log-probability of the matching second view.

    .. math:: -\log \frac{e^{\cos(z_i, z_i')/\tau}}{\sum_j e^{\cos(z_i, z_j')/\tau}}

    Parameters
    ----------
    first, second : Tensor of shape (n, p)
    temperature : float

    Returns
    -------
    Tensor of shape (n,)
        Loss in nats. log n minus its mean is a lower bound on the mutual information of the views.
    """
    similarity = normalize(first, dim=1) @ normalize(second, dim=1).T / temperature
    return cross_entropy(
        similarity, torch.arange(len(first), device=first.device), reduction="none"
    )


def infonce(batch: Views, *, temperature=0.5) -> dict[str, Tensor]:
    """Loss of InfoNCE: `nce` of the projected views, mean of both directions, ``contrast`` (n,)."""
    # NOTE[paper] SCARF has only the direction from the row to its corrupted view.
    first, second = batch.first.projected, batch.second.projected
    both = nce(first, second, temperature) + nce(second, first, temperature)
    return {"contrast": 0.5 * both}


@shared_parameters
@dataclass(eq=False, repr=False, kw_only=True)
class InfoNCEEncoder(_ProjectingEncoder):
    """Embed mixed tables with InfoNCE on two views of each row, as SCARF does.

    `transform` returns the latent code, `n_components` wide. There is no decoder, so features
    cannot be inverted and rows cannot be generated.

    Parameters
    ----------
    %(n_components)s
    temperature : float, default=0.5
        Temperature of the cosine similarity.
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

    temperature: float = 0.5

    _parameter_constraints: ClassVar[dict] = {
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    def _objective(self, model, seed):
        return ObjectiveLoss(infonce, temperature=self.temperature)
