"""`CMIMEncoder`: the contrastive Mutual Information Machine."""

import warnings
from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

from sklearn.utils._param_validation import Interval

from cmim_sklearn._encoders.base.generative import _GenerativeEncoder
from cmim_sklearn._encoders.base.parameters import shared_parameters
from cmim_sklearn._training.net import ObjectiveLoss
from cmim_sklearn._utils.stacklevel import user_stacklevel
from cmim_sklearn.objectives import cmim


@shared_parameters
@dataclass(eq=False, repr=False, kw_only=True)
class CMIMEncoder(_GenerativeEncoder):
    """Embed mixed tables with the contrastive Mutual Information Machine (cMIM).

    A probabilistic auto-encoder for tables of numbers, booleans and categories with missing values.
    It is trained on the A-MIM loss plus a contrastive term that needs no data augmentation. Labels
    are used only if `label_weight` is set. `transform` returns features of rows. The fitted encoder
    also inverts features (`inverse_transform`), generates rows (`sample`), imputes missing values
    (`impute`) and scores how likely a row is (`score_samples`).

    By default the features are the hidden layers of encoder and decoder, 1,024 in all; see
    `embedding`. `n_components` is the width of the latent code between encoder and decoder.

    Parameters
    ----------
    %(n_components)s
    contrastive_weight : float, default=1.0
        Weight of the contrastive term, which spreads the directions of codes. 0 gives A-MIM. The
        unweighted term is at most log 2 = 0.69 nats for each row.
    temperature : float, default=0.1
        Temperature of the cosine similarity in the contrastive term; not trained.
    %(shared)s

    Attributes
    ----------
    %(attributes)s

    See Also
    --------
    MIMEncoder : Without the contrastive term.
    VAEEncoder : With the loss of a variational auto-encoder.
    sklearn.decomposition.PCA : Linear, for complete numeric tables.

    Notes
    -----
    There is no ``sample_weight``: in mini-batch training a weight is not equivalent to repeating
    the row.

    References
    ----------
    M. Livne, "cMIM: A Contrastive Mutual Information Framework for Unified Generative and
    Discriminative Representation Learning" (2025), arXiv 2502.19642 and 2509.21511.

    Examples
    --------
    >>> from cmim_sklearn import CMIMEncoder
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> encoder = CMIMEncoder(max_iter=5, random_state=0).fit(X)
    >>> encoder.transform(X).shape
    (150, 1024)
    >>> list(encoder.sample(3, random_state=0).columns) == list(X.columns)
    True
    """

    contrastive_weight: float = 1.0
    temperature: float = 0.1
    posterior: str = "sampled"
    latent_prior: str = "mixture"

    _parameter_constraints: ClassVar[dict] = {
        "contrastive_weight": [Interval(Real, 0, None, closed="left")],
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    def _warn_of_parameters(self):
        if self.n_components == 1 and self.contrastive_weight:
            warnings.warn(
                "With n_components=1 codes have no direction to spread, and the contrastive term "
                "has no gradient: this fit is A-MIM. Use at least 2 components, or set "
                "contrastive_weight=0.",
                UserWarning,
                stacklevel=user_stacklevel(),
            )

    def _objective(self, model, seed):
        return ObjectiveLoss(
            cmim,
            takes_rows=True,
            contrastive_weight=self.contrastive_weight,
            temperature=self.temperature,
        )
