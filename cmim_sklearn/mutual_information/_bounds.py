r"""Bounds on the mutual information of X and Z, from the scores of a critic.

A critic f(x, z) scores how well a pair belongs together. A score matrix F (b, b) of a batch has
F[i, j] = f(x_i, z_j): pairs on the diagonal, and off it mismatches, which are what pairs would be
were X and Z independent. Bounds are pure functions of it, in nats, for training and valuing alike.

Axes: b rows of a batch.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

MIN_LOG_AVERAGE = math.log(1e-4)


def _log_mean_exp_apart(F):
    """Log of the mean of exp(F) off the diagonal."""
    b = len(F)
    itself = torch.eye(b, dtype=torch.bool, device=F.device)
    return torch.logsumexp(F.masked_fill(itself, -torch.inf).flatten(), 0) - math.log(b * (b - 1))


def donsker_varadhan(F: Tensor) -> Tensor:
    r"""The bound of Donsker and Varadhan on a score matrix.

    .. math:: \operatorname{mean}_i F_{ii} - \log \operatorname{mean}_{i \ne j} e^{F_{ij}}

    Parameters
    ----------
    F : Tensor of shape (b, b)

    Returns
    -------
    Tensor of shape ()
        In nats. Greatest, in expectation, where F is log p(x, z) / (p(x) p(z)) plus any constant.
    """
    return F.diagonal().mean() - _log_mean_exp_apart(F)


def mine(F: Tensor, log_average: Tensor) -> Tensor:
    r"""The bound of Donsker and Varadhan, with MINE's gradient.

    The gradient of the logarithm divides by the batch's mean of exp(F), and is biased since that is
    noisy. MINE divides by an average over past batches instead.

    Parameters
    ----------
    F : Tensor of shape (b, b)
    log_average : Tensor of shape ()
        Logarithm of that average. At the batch's own mean the gradient is that of
        `donsker_varadhan`.

    Returns
    -------
    Tensor of shape ()
        In nats: the *value* is `donsker_varadhan` in any case.
    """
    joint, log_mean = F.diagonal().mean(), _log_mean_exp_apart(F)
    ratio = torch.exp(log_mean - log_average.detach())
    return joint - log_mean.detach() - (ratio - ratio.detach())


def nwj(F: Tensor) -> Tensor:
    r"""The bound of Nguyen, Wainwright and Jordan, also called f-GAN KL or MINE-f.

    .. math:: \operatorname{mean}_i F_{ii} - \operatorname{mean}_{i \ne j} e^{F_{ij} - 1}

    Parameters
    ----------
    F : Tensor of shape (b, b)

    Returns
    -------
    Tensor of shape ()
        In nats. Greatest, in expectation, where F is 1 + log p(x, z) / (p(x) p(z)).
    """
    return F.diagonal().mean() - torch.exp(_log_mean_exp_apart(F) - 1)


def infonce(F: Tensor) -> Tensor:
    r"""The bound of InfoNCE: how well z_i is told from the batch's other z, given x_i.

    .. math:: \log b + \operatorname{mean}_i \left[F_{ii} - \log \sum_j e^{F_{ij}}\right]

    Parameters
    ----------
    F : Tensor of shape (b, b)

    Returns
    -------
    Tensor of shape ()
        In nats; never above log b.
    """
    return math.log(len(F)) + (F.diagonal() - torch.logsumexp(F, 1)).mean()


def jensen_shannon(F: Tensor) -> Tensor:
    r"""The objective that SMILE trains on: logistic regression of pairs against non-pairs.

    .. math:: -\operatorname{mean}_i \operatorname{softplus}(-F_{ii})
        - \operatorname{mean}_{i \ne j} \operatorname{softplus}(F_{ij})

    Parameters
    ----------
    F : Tensor of shape (b, b)

    Returns
    -------
    Tensor of shape ()
        No estimate of the information. Greatest where F is log p(x, z) / (p(x) p(z)).
    """
    b, joint = len(F), F.diagonal()
    apart = (softplus(F).sum() - softplus(joint).sum()) / (b * (b - 1))
    return -softplus(-joint).mean() - apart


def smile(F: Tensor, clip: float) -> Tensor:
    r"""The value of SMILE: Donsker and Varadhan's with scores off the diagonal clipped.

    .. math:: \operatorname{mean}_i F_{ii}
        - \log \operatorname{mean}_{i \ne j} e^{\operatorname{clip}(F_{ij}, -c, c)}

    Parameters
    ----------
    F : Tensor of shape (b, b)
    clip : float
        c; infinity gives `donsker_varadhan`.

    Returns
    -------
    Tensor of shape ()
        In nats. No bound: clipping trades variance for bias, of either sign.
    """
    return F.diagonal().mean() - _log_mean_exp_apart(F.clamp(-clip, clip))


class MovingAverage:
    """`mine` with its moving average of the batch means of exp(F), kept as a logarithm.

    It starts at the first batch's mean, and never falls below 1e-4.

    Parameters
    ----------
    momentum : float
        Share of the past, in (0, 1).
    """

    def __init__(self, momentum):
        self.momentum = momentum
        self.log_average = None

    def __call__(self, F):
        """Move the average by a score matrix F (b, b), then give `mine`."""
        log_mean = _log_mean_exp_apart(F).detach()
        if self.log_average is None:
            self.log_average = log_mean
        else:
            past = math.log(self.momentum) + self.log_average
            self.log_average = torch.logaddexp(past, math.log1p(-self.momentum) + log_mean)
        self.log_average = self.log_average.clamp(min=MIN_LOG_AVERAGE)
        return mine(F, self.log_average)
