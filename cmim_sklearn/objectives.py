"""Objectives: pure functions from a `Pass` to named per-row loss terms, in nats.

The sum of the terms, averaged over rows, is minimised. A new objective is one function and one
line in `OBJECTIVES`.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize, softplus

from cmim_sklearn.model import Pass

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
        Zero where n is 1: a single row has nothing to be told from.

    References
    ----------
    M. Livne, "Contrastive MIM" (2025), arXiv 2502.19642 and 2509.21511.
    """
    n = len(z)
    if n == 1:
        return torch.zeros_like(z[:, 0])
    z = normalize(z, dim=1)
    similarity = (z @ z.T) / temperature
    itself = torch.eye(n, dtype=torch.bool, device=z.device)
    similarity = similarity.masked_fill(itself, -torch.inf)
    log_mean = torch.logsumexp(similarity, dim=1) - math.log(n - 1)
    return softplus(log_mean - 1 / temperature)


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
