"""`AEEncoder`: auto-encoder with a deterministic code, and its loss."""

from typing import ClassVar

from torch import Tensor

from cmim_sklearn._encoders.base.generative import _GenerativeEncoder
from cmim_sklearn._encoders.base.parameters import shared_parameters
from cmim_sklearn._models.latent_model import Pass
from cmim_sklearn._training.net import ObjectiveLoss


def distortion(batch: Pass) -> dict[str, Tensor]:
    """Minus log p(x | z) of each row, in nats, and nothing else."""
    return {"distortion": -batch.log_px.sum(-1)}


@shared_parameters
class AEEncoder(_GenerativeEncoder):
    """Embed mixed tables by an auto-encoder: a code without noise, and no prior.

    Nothing sets the scale of its codes, and nothing fills the space between them. With
    `input_masking` it is a denoising one.

    Parameters
    ----------
    %(n_components)s
    %(shared)s

    Attributes
    ----------
    %(attributes)s

    Notes
    -----
    `sample` and its kin draw codes from a Gaussian mixture fitted to the codes of the rows.

    References
    ----------
    P. Ghosh et al., "From Variational to Deterministic Autoencoders" (2020), arXiv 1903.12436, for
    sampling by a density fitted afterwards.

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

    def __init__(
        self,
        n_components=64,
        *,
        embedding="layers",
        hidden_layer_sizes=(256, 256),
        activation="silu",
        encoder="mlp",
        decoder="mlp",
        categorical_features="from_dtype",
        numeric_scaling="quantile",
        max_categories=256,
        likelihoods=None,
        input_masking=0.1,
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
        return ObjectiveLoss(distortion)
