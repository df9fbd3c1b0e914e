r"""Bounds on the mutual information of X and Z, as functions of a critic's scores.

A critic f(x, z) scores how well x and z match. The score matrix F (b, b) of a batch has
F[i, j] = f(x_i, z_j): matching pairs on the diagonal, mismatched pairs off it. Mismatched pairs are
distributed as if X and Z were independent. The same functions serve for training and evaluation.

Axes: b rows of a batch.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

MIN_LOG_AVERAGE = math.log(1e-4)
"""Lower bound of the moving average in `MovingAverage`, as a logarithm."""


def _log_mean_exp_mismatched(F):
    """Log of the mean of exp(F) off the diagonal."""
    b = len(F)
    diagonal = torch.eye(b, dtype=torch.bool, device=F.device)
    off_diagonal = F.masked_fill(diagonal, -torch.inf)
    return torch.logsumexp(off_diagonal.flatten(), 0) - math.log(b * (b - 1))


def donsker_varadhan(F: Tensor) -> Tensor:
    r"""Donsker-Varadhan bound.

    .. math:: \operatorname{mean}_i F_{ii} - \log \operatorname{mean}_{i \ne j} e^{F_{ij}}

    Parameters
    ----------
    F : Tensor of shape (b, b)
        Score matrix.

    Returns
    -------
    Tensor of shape ()
        In nats. Its expectation is largest if F is log p(x, z) / (p(x) p(z)) plus any constant.
    """
    return F.diagonal().mean() - _log_mean_exp_mismatched(F)


def mine(F: Tensor, log_average: Tensor) -> Tensor:
    r"""Donsker-Varadhan bound with the gradient of MINE.

    The gradient of the logarithm divides by the batch's mean of exp(F). That mean is noisy, so the
    gradient is biased. MINE divides by an average over past batches instead.

    Parameters
    ----------
    F : Tensor of shape (b, b)
        Score matrix.
    log_average : Tensor of shape ()
        Logarithm of the average of exp(F). At the batch's own mean the gradient is that of
        `donsker_varadhan`.

    Returns
    -------
    Tensor of shape ()
        In nats. The value always equals `donsker_varadhan`.
    """
    joint, log_mean = F.diagonal().mean(), _log_mean_exp_mismatched(F)
    ratio = torch.exp(log_mean - log_average.detach())
    return joint - log_mean.detach() - (ratio - ratio.detach())


def nwj(F: Tensor) -> Tensor:
    r"""Bound of Nguyen, Wainwright and Jordan, also called f-GAN KL or MINE-f.

    .. math:: \operatorname{mean}_i F_{ii} - \operatorname{mean}_{i \ne j} e^{F_{ij} - 1}

    Parameters
    ----------
    F : Tensor of shape (b, b)
        Score matrix.

    Returns
    -------
    Tensor of shape ()
        In nats. Its expectation is largest if F is 1 + log p(x, z) / (p(x) p(z)).
    """
    return F.diagonal().mean() - torch.exp(_log_mean_exp_mismatched(F) - 1)


def infonce_bound(F: Tensor) -> Tensor:
    r"""InfoNCE bound: log b minus the cross entropy of finding z_i among the z of the batch.

    .. math:: \log b + \operatorname{mean}_i \left[F_{ii} - \log \sum_j e^{F_{ij}}\right]

    Parameters
    ----------
    F : Tensor of shape (b, b)
        Score matrix.

    Returns
    -------
    Tensor of shape ()
        In nats; at most log b.
    """
    return math.log(len(F)) + (F.diagonal() - torch.logsumexp(F, 1)).mean()


def jensen_shannon(F: Tensor) -> Tensor:
    r"""Training objective of SMILE: logistic regression of matching against mismatched pairs.

    .. math:: -\operatorname{mean}_i \operatorname{softplus}(-F_{ii})
        - \operatorname{mean}_{i \ne j} \operatorname{softplus}(F_{ij})

    Parameters
    ----------
    F : Tensor of shape (b, b)
        Score matrix.

    Returns
    -------
    Tensor of shape ()
        It does not estimate the information. It is largest if F is log p(x, z) / (p(x) p(z)).
    """
    b, joint = len(F), F.diagonal()
    mismatched = (softplus(F).sum() - softplus(joint).sum()) / (b * (b - 1))
    return -softplus(-joint).mean() - mismatched


def smile(F: Tensor, clip: float) -> Tensor:
    r"""Estimate of SMILE: Donsker-Varadhan with clipped scores of mismatched pairs.

    .. math:: \operatorname{mean}_i F_{ii}
        - \log \operatorname{mean}_{i \ne j} e^{\operatorname{clip}(F_{ij}, -c, c)}

    Parameters
    ----------
    F : Tensor of shape (b, b)
        Score matrix.
    clip : float
        c; infinity gives `donsker_varadhan`.

    Returns
    -------
    Tensor of shape ()
        In nats. It is not a bound: clipping trades variance for bias of either sign.
    """
    return F.diagonal().mean() - _log_mean_exp_mismatched(F.clamp(-clip, clip))


class MovingAverage:
    """`mine` with a moving average of the batch means of exp(F), stored as a logarithm.

    It starts at the first batch's mean and never falls below 1e-4.

    Parameters
    ----------
    momentum : float
        Weight of past batches, in (0, 1).
    """

    def __init__(self, momentum):
        self.momentum = momentum
        self.log_average = None

    def __call__(self, F):
        """Update the average with a score matrix F (b, b), then compute `mine`."""
        log_mean = _log_mean_exp_mismatched(F).detach()
        if self.log_average is None:
            self.log_average = log_mean
        else:
            past = math.log(self.momentum) + self.log_average
            self.log_average = torch.logaddexp(past, math.log1p(-self.momentum) + log_mean)
        self.log_average = self.log_average.clamp(min=MIN_LOG_AVERAGE)
        return mine(F, self.log_average)
