"""`MIMEncoder`: the Mutual Information Machine, without the contrastive term."""

from dataclasses import dataclass
from typing import ClassVar

from cmim_sklearn._encoders.base.generative import _GenerativeEncoder
from cmim_sklearn._encoders.base.parameters import shared_parameters
from cmim_sklearn._training.net import ObjectiveLoss
from cmim_sklearn.objectives import mim


@shared_parameters
@dataclass(eq=False, repr=False, kw_only=True)
class MIMEncoder(_GenerativeEncoder):
    """Embed mixed tables with the Mutual Information Machine (MIM), without a contrastive term.

    The loss is A-MIM, -log p(x | z) - 1/2 (log q(z | x) + log P(z)): that of `CMIMEncoder` with
    ``contrastive_weight=0``. With ``symmetric=True``, each batch gets the same number of generated
    rows, z from P(z) and x from p(x | z), with gradients through the samples. The loss is then high
    for a posterior that is narrower than the errors of the encoder. ``loss_curve_`` is the mean
    over data and generated rows; the held-out loss is that of data.

    Parameters
    ----------
    %(n_components)s
    symmetric : bool, default=False
        Whether to train on generated rows, too. This needs ``posterior="learned"``, and numeric
        columns only: samples of categories, booleans and counts have no gradient.
    %(shared)s

    Attributes
    ----------
    %(attributes)s

    See Also
    --------
    CMIMEncoder : With a contrastive term.

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

    symmetric: bool = False
    posterior: str = "sampled"
    latent_prior: str = "mixture"

    _parameter_constraints: ClassVar[dict] = {"symmetric": ["boolean"]}

    def _update_model(self, model):
        super()._update_model(model)
        model.symmetric = bool(self.symmetric)

    def _check_table(self, table, frame):
        if not self.symmetric:
            return
        if self.posterior != "learned":
            raise ValueError(
                "symmetric=True needs posterior='learned', since it acts on the learned variance; "
                f"got posterior={self.posterior!r}."
            )
        others = [
            f"{frame.name(position)!r} ({block.kind})"
            for block in table.blocks
            if block.kind != "gaussian"
            for position in block.positions
        ]
        if others:
            raise ValueError(
                "symmetric=True needs numeric columns of more than two values, since it passes "
                f"gradients through generated rows; got {', '.join(others)}. Drop these columns, "
                "or set symmetric=False."
            )

    def _objective(self, model, seed):
        return ObjectiveLoss(mim, takes_rows=True)
