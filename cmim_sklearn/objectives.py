"""Objectives of latent models: pure functions from a `Pass` to named loss terms per row, in nats.

Training minimises the sum of the terms, averaged over the rows of a batch. A new objective is one
function and one line in `OBJECTIVES`.
"""

import math

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import normalize

from cmim_sklearn._models.latent_model import Pass

__all__ = ["OBJECTIVES", "Pass", "cmim", "contrast", "mim"]

Pass.__module__ = __name__  # its public path, in pickles and documentation


def mim(batch: Pass) -> dict[str, Tensor]:
    r"""A-MIM, the asymmetric Mutual Information Machine.

    .. math:: -\log p(x|z) - \tfrac12 \left[\log q(z|x) + \log P(z)\right], \quad z \sim q(z|x)

    Parameters
    ----------
    batch : Pass
        Forward pass of n rows.

    Returns
    -------
    dict of str to Tensor of shape (n,)
        Terms in nats. ``distortion``: -log p(x|z), summed over columns. ``latent``: the rest. Large
        negative values of ``latent`` are normal: with a small posterior variance each latent
        component contributes about -1.8.

    References
    ----------
    M. Livne et al., "SentenceMIM" (2020), arXiv 2003.02645; "MIM" (2019), arXiv 1910.03175.
    """
    log_qz, log_pz = batch.posterior.log_prob(batch.z), batch.prior.log_prob(batch.z)
    return {"distortion": -batch.log_px.sum(-1), "latent": -0.5 * (log_qz + log_pz)}


def has_weight(weight) -> bool:
    """Whether to compute a term: its weight is not 0, or a Tensor, as in batched training."""
    return isinstance(weight, Tensor) or bool(weight)


def contrast(z: Tensor, temperature: float, rows: Tensor | None = None) -> Tensor:
    r"""Contrastive term of cMIM: minus the log-probability that z_i belongs to x_i.

    .. math:: \log\left(1 + \operatorname{mean}_{j \ne i} e^{(\cos(z_i, z_j) - 1)/\tau}\right)

    InfoNCE has a sum over the other rows where this term has their *mean*. Therefore it depends on
    the batch size only through Jensen's bias, of order 1/n. It lies in [0, log 2].

    Parameters
    ----------
    z : Tensor of shape (n, d)
        Latent codes of a batch.
    temperature : float
        Temperature of the cosine similarity, above 0.
    rows : bool Tensor of shape (n,), default=None
        Rows that the mean is over; None: all rows.

    Returns
    -------
    Tensor of shape (n,)
        In nats; 0 if there is no other row. It can be differentiated once.

    References
    ----------
    M. Livne, "Contrastive MIM" (2025), arXiv 2502.19642 and 2509.21511.
    """
    n = len(z)
    if n == 1:
        return torch.zeros_like(z[:, 0])
    with torch.autocast(z.device.type, enabled=False):  # half precision is too inaccurate here
        z = normalize(z.float() if z.itemsize < 4 else z, dim=1)
        if rows is not None:
            return torch.log1p(_mean_similarity(z, temperature, rows))
        z = z / math.sqrt(temperature)
        return torch.log1p(_MeanSimilarity.apply(z, 1 / temperature))


def _mean_similarity(z, temperature, rows):
    """mean_{j != i} exp((z_i . z_j - 1) / temperature) over the rows that count, (n,).

    Plain operations, for `torch.vmap`; the temperature may be a Tensor.
    """
    others = rows & ~torch.eye(len(z), dtype=torch.bool, device=z.device)
    similarity = torch.exp((z @ z.T - 1) / temperature)
    return torch.where(others, similarity, 0.0).sum(1) / (rows.sum() - 1).clamp(min=1)


class _MeanSimilarity(torch.autograd.Function):
    """mean_{j != i} exp(z_i . z_j - c), (n,), of codes z (n, d) with z_i . z_i = c.

    A pass over n x n numbers costs as much as a layer of the network, in large batches more than
    the whole network. This implementation needs few passes: similarities are computed in place and
    stored once, and their symmetry makes the gradient one matrix product.
    """

    @staticmethod
    def forward(ctx, z, square):
        # No maximum has to be subtracted for stability: no product is above z_i . z_i.
        similarity = torch.addmm(z.new_full((1,), -square), z, z.T)
        similarity.fill_diagonal_(-torch.inf).exp_()
        ctx.save_for_backward(z, similarity)
        return similarity.sum(1) / (len(z) - 1)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        z, similarity = ctx.saved_tensors
        share = (gradient / (len(z) - 1)).unsqueeze(1)
        # z_i occurs in the mean of row i, and in the means of all other rows.
        with torch.autocast(z.device.type, enabled=False):
            in_own_mean, in_others = (similarity @ torch.cat([z, share * z], 1)).chunk(2, 1)
        return share * in_own_mean + in_others, None


def cmim(batch: Pass, *, contrastive_weight=1.0, temperature=0.1) -> dict[str, Tensor]:
    r"""cMIM: A-MIM plus a contrastive term between the latent codes of the batch.

    .. math:: L_{\text{A-MIM}} + w \log\left(1 +
        \operatorname{mean}_{j \ne i} e^{(\cos(z_i, z_j) - 1)/\tau}\right)

    Parameters
    ----------
    batch : Pass
        Forward pass of n rows.
    contrastive_weight : float, default=1.0
        Weight w of the contrastive term. 0: the loss is `mim`, to the bit.
    temperature : float, default=0.1
        Temperature of the cosine similarity in the contrastive term; not trained.

    Returns
    -------
    dict of str to Tensor of shape (n,)
        Terms in nats: ``distortion`` and ``latent`` as in `mim`, and ``contrast``, the weighted
        `contrast`. With a weight of 0 there is no ``contrast``.

    References
    ----------
    M. Livne, "Contrastive MIM" (2025), arXiv 2502.19642 and 2509.21511.
    """
    terms = mim(batch)
    if has_weight(contrastive_weight):
        terms["contrast"] = contrastive_weight * contrast(batch.z, temperature, batch.rows)
    return terms


OBJECTIVES = {"mim": mim, "cmim": cmim}
"""Objectives by name."""
