"""Objectives: pure functions from a `Pass` to named per-row loss terms, in nats.

The sum of the terms, averaged over rows, is minimised. A new objective is one function and one
line in `OBJECTIVES`.
"""

import math

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import normalize

from cmim_sklearn._models.latent_model import Pass

__all__ = ["OBJECTIVES", "Pass", "cmim", "contrast", "mim"]


def mim(batch: Pass) -> dict[str, Tensor]:
    r"""A-MIM, the asymmetric Mutual Information Machine.

    .. math:: -\log p(x|z) - \tfrac12 \left[\log q(z|x) + \log P(z)\right], \quad z \sim q(z|x)

    Parameters
    ----------
    batch : Pass
        n rows.

    Returns
    -------
    dict of str to Tensor of shape (n,)
        ``distortion`` and ``latent``, in nats. Large negative values are normal: at a small
        posterior variance each latent component alone contributes about -1.8.

    References
    ----------
    M. Livne et al., "SentenceMIM" (2020), arXiv 2003.02645; "MIM" (2019), arXiv 1910.03175.
    """
    log_qz, log_pz = batch.posterior.log_prob(batch.z), batch.prior.log_prob(batch.z)
    return {"distortion": -batch.log_px.sum(-1), "latent": -0.5 * (log_qz + log_pz)}


def contrast(z: Tensor, temperature: float) -> Tensor:
    r"""The contrastive term of cMIM: minus the log-probability that z_i belongs to x_i.

    .. math:: \log\left(1 + \operatorname{mean}_{j \ne i} e^{(\cos(z_i, z_j) - 1)/\tau}\right)

    The *mean* over the other rows, where InfoNCE has their sum, is what makes the term depend on
    the batch size only through Jensen's bias, of order 1/n. It lies in [0, log 2].

    Parameters
    ----------
    z : Tensor of shape (n, d)
    temperature : float

    Returns
    -------
    Tensor of shape (n,)
        Zero where n is 1: a single row has nothing to be told from. It can be differentiated once.

    References
    ----------
    M. Livne, "Contrastive MIM" (2025), arXiv 2502.19642 and 2509.21511.
    """
    n = len(z)
    if n == 1:
        return torch.zeros_like(z[:, 0])
    with torch.autocast(z.device.type, enabled=False):  # half precision has no digits for it
        z = normalize(z.float() if z.itemsize < 4 else z, dim=1) / math.sqrt(temperature)
        return torch.log1p(_MeanLikeness.apply(z, 1 / temperature))


class _MeanLikeness(torch.autograd.Function):
    """mean_{j != i} exp(z_i . z_j - most) of codes z (n, d) with z_i . z_i = most, (n,).

    A pass over n x n numbers costs as much as a layer of the network, and in large batches more
    than all of it. By hand there are few: the likenesses are made in place, kept once, and their
    symmetry makes the gradient one product.
    """

    @staticmethod
    def forward(ctx, z, most):
        # No maximum has to be taken off for stability: no product is above `most`.
        likeness = torch.addmm(z.new_full((1,), -most), z, z.T)
        likeness.fill_diagonal_(-torch.inf).exp_()
        ctx.save_for_backward(z, likeness)
        return likeness.sum(1) / (len(z) - 1)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        z, likeness = ctx.saved_tensors
        share = (gradient / (len(z) - 1)).unsqueeze(1)
        with torch.autocast(z.device.type, enabled=False):
            pulled, pulling = (likeness @ torch.cat([z, share * z], 1)).chunk(2, 1)
        return share * pulled + pulling, None


def cmim(batch: Pass, *, contrastive_weight=1.0, temperature=0.1) -> dict[str, Tensor]:
    """cMIM: A-MIM plus the contrastive term between the batch's codes.

    Parameters
    ----------
    batch : Pass
        n rows.
    contrastive_weight : float, default=1.0
        Factor of the contrastive term; at 0 this is `mim`, to the bit.
    temperature : float, default=0.1
        Of the cosine similarity; fixed, not learnt.

    Returns
    -------
    dict of str to Tensor of shape (n,)
        ``distortion``, ``latent`` and, weighted, ``contrast``, in nats.
    """
    terms = mim(batch)
    if contrastive_weight:
        terms["contrast"] = contrastive_weight * contrast(batch.z, temperature)
    return terms


OBJECTIVES = {"mim": mim, "cmim": cmim}
