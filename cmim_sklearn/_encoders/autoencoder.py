"""`AEEncoder`: auto-encoder with a deterministic code, and its loss."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from cmim_sklearn._encoders.base.generative import _GenerativeEncoder
from cmim_sklearn._encoders.base.parameters import shared_parameters
from cmim_sklearn._models.latent_model import Pass
from cmim_sklearn._training.net import ObjectiveLoss


def distortion(batch: Pass) -> dict[str, Tensor]:
    """Loss of an auto-encoder: -log p(x | z) of each row, in nats."""
    return {"distortion": -batch.log_px.sum(-1)}


@shared_parameters
@dataclass(eq=False, repr=False, kw_only=True)
class AEEncoder(_GenerativeEncoder):
    """Embed mixed tables with an auto-encoder: deterministic codes, and no prior in the loss.

    The loss sets neither the scale of the codes nor what lies between them. With `input_masking` it
    is a denoising auto-encoder.

    Parameters
    ----------
    %(n_components)s
    %(shared)s

    Attributes
    ----------
    %(attributes)s

    Notes
    -----
    `sample`, `impute` and `score_samples` use a Gaussian mixture fitted to the codes of the
    training rows.

    References
    ----------
    P. Ghosh et al., "From Variational to Deterministic Autoencoders" (2020), arXiv 1903.12436, for
    sampling from a density fitted after training.

    Examples
    --------
    >>> from cmim_sklearn import AEEncoder
    >>> from sklearn.datasets import load_iris
    >>> X = load_iris().data
    >>> AEEncoder(4, embedding="mean", max_iter=5).fit_transform(X).shape
    (150, 4)
    """

    _parameter_constraints: ClassVar[dict] = {}
    _posterior, _latent_prior = "point", "mixture"

    def _objective(self, model, seed):
        return ObjectiveLoss(distortion, takes_rows=True)
