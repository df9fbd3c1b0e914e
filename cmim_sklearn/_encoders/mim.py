"""`MIMEncoder`: the Mutual Information Machine, without the contrastive term."""

from typing import ClassVar

from cmim_sklearn._encoders.base.generative import _GenerativeEncoder
from cmim_sklearn._encoders.base.parameters import shared_parameters
from cmim_sklearn._training.net import ObjectiveLoss
from cmim_sklearn.objectives import mim


@shared_parameters
class MIMEncoder(_GenerativeEncoder):
    """Embed mixed tables by the Mutual Information Machine, without contrast.

    Trained on the A-MIM loss, -log p(x | z) - 1/2 (log q(z | x) + log P(z)): `CMIMEncoder` at
    ``contrastive_weight=0``. With ``symmetric=True`` every batch has as many rows of the model's
    own beside it, z from P(z) and x from p(x | z), on which the same loss is taken, with gradients
    through the draws: then the loss opposes a posterior narrower than what the encoder gets wrong.
    ``loss_curve_`` is then the mean over both kinds of rows; the held-out loss is of data alone.

    Parameters
    ----------
    %(n_components)s
    symmetric : bool, default=False
        Whether to train on rows of the model's own besides. It takes ``posterior="learned"``,
        whose variance it is about, and numeric columns: there is no gradient through a draw of a
        category, a boolean or a count.
    %(shared)s

    Attributes
    ----------
    %(attributes)s

    See Also
    --------
    CMIMEncoder : With the contrastive term.

    References
    ----------
    M. Livne, K. Swersky, D. Fleet, "MIM: Mutual Information Machine" (2019), arXiv 1910.03175;
    "SentenceMIM" (2020), arXiv 2003.02645, for A-MIM.

    Examples
    --------
    >>> from cmim_sklearn import MIMEncoder
    >>> from sklearn.datasets import load_iris
    >>> X = load_iris().data
    >>> mim = MIMEncoder(4, symmetric=True, posterior="learned", embedding="mean", max_iter=5)
    >>> mim.fit_transform(X).shape
    (150, 4)
    """

    _parameter_constraints: ClassVar[dict] = {"symmetric": ["boolean"]}

    def __init__(
        self,
        n_components=64,
        *,
        symmetric=False,
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

    def _configure(self, model):
        super()._configure(model)
        model.symmetric = bool(self.symmetric)

    def _check_table(self, table, frame):
        if not self.symmetric:
            return
        if self.posterior != "learned":
            raise ValueError(
                "symmetric=True is about a variance that is learnt: it takes posterior='learned'. "
                f"Got posterior={self.posterior!r}."
            )
        others = [
            f"{frame.name(position)!r} ({block.kind})"
            for block in table.blocks
            if block.kind != "gaussian"
            for position in block.positions
        ]
        if others:
            raise ValueError(
                "symmetric=True passes gradients through rows that the model draws, which needs "
                f"numeric columns of more than two values. Not such: {', '.join(others)}. Drop "
                "them, or set symmetric=False."
            )

    def _objective(self, model, seed):
        return ObjectiveLoss(mim)
