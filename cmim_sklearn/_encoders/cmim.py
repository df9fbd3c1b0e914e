"""`CMIMEncoder`: its parameters, and the loss that they name."""

from numbers import Real
from typing import ClassVar

from sklearn.utils._param_validation import Interval

from cmim_sklearn._encoders.base.generative import _GenerativeEncoder
from cmim_sklearn._encoders.base.parameters import shared_parameters
from cmim_sklearn._training.net import ObjectiveLoss
from cmim_sklearn.objectives import OBJECTIVES


@shared_parameters
class CMIMEncoder(_GenerativeEncoder):
    """Embed mixed tables by cMIM: `n_components` is the latent width, `embedding` the output's.

    cMIM is the contrastive Mutual Information Machine. By default `transform` returns the hidden
    layers of encoder and decoder side by side, 1,024 features; `n_components` is the width of the
    code between them.

    A probabilistic auto-encoder for tables of any column types, with holes, trained without labels
    on the A-MIM loss plus a contrastive term that needs no augmented views. Being generative, it
    also decodes (`inverse_transform`), draws new rows (`sample`), fills holes (`impute`) and tells
    how likely a row is (`score_samples`).

    Parameters
    ----------
    %(n_components)s
    contrastive_weight : float, default=1.0
        Factor of the contrastive term, which spreads the directions of codes; 0 gives A-MIM. The
        term is at most 0.69 nats a row.
    temperature : float, default=0.1
        Of the cosine similarity in the contrastive term. Fixed, not learnt.
    %(shared)s

    Attributes
    ----------
    %(attributes)s

    See Also
    --------
    sklearn.decomposition.PCA : Linear, for complete numeric tables.

    Notes
    -----
    There is no ``sample_weight``: in mini-batch training a weight is not the same as a repetition.

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

    _parameter_constraints: ClassVar[dict] = {
        "contrastive_weight": [Interval(Real, 0, None, closed="left")],
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        n_components=64,
        *,
        contrastive_weight=1.0,
        temperature=0.1,
        embedding="layers",
        posterior="sampled",
        latent_prior="mixture",
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
        return ObjectiveLoss(
            OBJECTIVES["cmim"],
            contrastive_weight=self.contrastive_weight,
            temperature=self.temperature,
        )
