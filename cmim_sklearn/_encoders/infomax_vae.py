"""`InfoMaxVAEEncoder`: VAE with a bound on mutual information, its critic and its loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval
from torch import Tensor, nn

from cmim_sklearn._encoders.base.generative import _GenerativeEncoder
from cmim_sklearn._encoders.base.parameters import shared_parameters
from cmim_sklearn._encoders.vae import vae
from cmim_sklearn._models.latent_model import Pass
from cmim_sklearn._training.capture import CAPTURES
from cmim_sklearn._training.critic import CriticNet, TrainCritic, critic_values
from cmim_sklearn._training.net import ObjectiveLoss
from cmim_sklearn._utils.device import resolve_device
from cmim_sklearn.networks import linear, reset_parameters

MAX_EXPONENT = 20.0


class Critic(nn.Module):
    """Critic f(x, z): an MLP with ReLU on the concatenation of x and z.

    Parameters
    ----------
    n_in : int
        Width of x plus width of z.
    hidden_layer_sizes : sequence of int
    generator : torch.Generator
        Generator of the initial weights.
    """

    def __init__(self, n_in, hidden_layer_sizes, generator):
        super().__init__()
        widths, layers = [n_in, *hidden_layer_sizes], []
        for a, b in pairwise(widths):
            layers += [linear(a, b), nn.ReLU()]
        self.layers = nn.Sequential(*layers, linear(widths[-1], 1))
        reset_parameters(self, generator)

    def forward(self, x, z):
        """f(x, z), (n,), of x (n, W) and z (n, d)."""
        return self.layers(torch.cat([x, z], 1)).squeeze(1)


class FDivergenceBound(nn.Module):
    """Lower bound on I(x; z) in nats: f - exp(f' - 1), with f at pairs and f' at shuffled pairs.

    The bound of `mutual_information.NWJ`, with one shuffled partner for each row instead of all.
    """

    def forward(self, paired, shuffled):
        """Terms of the bound, (n,); their mean is the bound."""
        return paired - torch.exp((shuffled - 1).clamp(max=MAX_EXPONENT))


def infomax_vae(batch: Pass, *, critic, beta=1.0, information_weight=1.0) -> dict[str, Tensor]:
    r"""Loss of InfoMax-VAE: that of a VAE, minus a bound on the mutual information I(x; z).

    .. math:: -\log p(x|z) + \beta\, KL(q(z|x) \| P(z)) - \gamma \hat I(x; z), \quad
              \hat I = E[f(x, z)] - E[e^{f(x, z') - 1}]

    Parameters
    ----------
    batch : Pass
        Batch of n rows.
    critic : callable
        Critic f of encoder inputs (n, W) and codes (n, d).
    beta : float, default=1.0
        Weight of the rate.
    information_weight : float, default=1.0
        Weight of the bound.

    Returns
    -------
    dict of str to Tensor of shape (n,)
        ``distortion``, ``rate`` and ``information``, in nats. ``information`` is 0 if n is 1,
        because there is no other row.

    References
    ----------
    A. Lotfi Rezaabad, S. Vishwanath, "Learning Representations by Maximizing Mutual Information in
    Variational Autoencoders" (2019), arXiv 1912.13361.
    """
    bound = batch.z.new_zeros(1)
    if len(batch.z) > 1:
        bound = FDivergenceBound()(*critic_values(critic, batch.inputs, batch.z))
    return {**vae(batch, beta=beta), "information": -information_weight * bound}


class LossWithCritic(ObjectiveLoss):
    """Loss with a critic, which a separate net trains in the same steps as the model.

    Parameters
    ----------
    objective : callable
    critic_net : CriticNet
        Initialised net of the critic.
    **options : dict
        Options of the objective.
    """

    def __init__(self, objective, critic_net, **options):
        super().__init__(objective, **options)
        self.critic_net = critic_net

    def callbacks(self):
        """Callback that trains the critic."""
        return [TrainCritic(self.critic_net)]


@shared_parameters
@dataclass(eq=False, repr=False, kw_only=True)
class InfoMaxVAEEncoder(_GenerativeEncoder):
    """Embed mixed tables with InfoMax-VAE, a VAE that maximises the information in its codes.

    A critic distinguishes the code of a row from codes of other rows. This gives a lower bound on
    the mutual information of rows and codes, which encoder and critic maximise in turn.

    Parameters
    ----------
    %(n_components)s
    beta : float, default=1.0
        Weight of the rate, the divergence of q(z | x) from N(0, I).
    information_weight : float, default=10.0
        Weight of the bound on I(x; z).
    critic_hidden_layer_sizes : int or sequence of int, default=(1000, 400, 100)
        Widths of the hidden layers of the critic, which have ReLU activations.
    critic_learning_rate_init : float, default=1e-4
        Learning rate of the critic's Adam optimizer. `learning_rate_init` is for the model.
    %(shared)s

    Attributes
    ----------
    %(attributes)s

    Notes
    -----
    The critic is not pickled, and a warm start begins with a new one. Its layer sizes, its learning
    rate and the weights are published values, which were used with a learning rate of 1e-3 for the
    VAE. With the other published setting, a weight of 20 and a critic rate of 1e-5, the critic
    hardly learns in the few updates of a fit. The held-out loss uses a critic that is still
    learning, so early stopping follows a moving target. Informative codes are far from N(0, I): the
    default `latent_prior` is "mixture".

    References
    ----------
    A. Lotfi Rezaabad, S. Vishwanath, "Learning Representations by Maximizing Mutual Information in
    Variational Autoencoders" (2019), arXiv 1912.13361.

    Examples
    --------
    >>> from cmim_sklearn import InfoMaxVAEEncoder
    >>> from sklearn.datasets import load_iris
    >>> X = load_iris().data
    >>> InfoMaxVAEEncoder(4, embedding="mean", max_iter=5).fit_transform(X).shape
    (150, 4)
    """

    beta: float = 1.0
    information_weight: float = 10.0
    critic_hidden_layer_sizes: int | Sequence[int] | np.ndarray = (1000, 400, 100)
    critic_learning_rate_init: float = 1e-4
    latent_prior: str = "mixture"

    _parameter_constraints: ClassVar[dict] = {
        "beta": [Interval(Real, 0, None, closed="left")],
        "information_weight": [Interval(Real, 0, None, closed="left")],
        "critic_hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "critic_learning_rate_init": [Interval(Real, 0, None, closed="neither")],
    }
    _posterior = "learned"
    _layer_size_parameters = ("hidden_layer_sizes", "critic_hidden_layer_sizes")

    def _objective(self, model, seed):
        sizes = torch.atleast_1d(torch.as_tensor(self.critic_hidden_layer_sizes)).tolist()
        n_in = model.likelihood.n_inputs + model.posterior.n_components
        critic = Critic(n_in, sizes, torch.Generator().manual_seed(seed))
        device = resolve_device(self.device)
        net = CriticNet(
            critic,
            FDivergenceBound(),
            optimizer=torch.optim.Adam,
            optimizer__fused=device.type in CAPTURES or None,  # as CUDA graphs need
            lr=self.critic_learning_rate_init,
            device=device,
            callbacks=None,
            verbose=0,
        )
        return LossWithCritic(
            infomax_vae,
            net.initialize(),
            critic=critic,
            beta=self.beta,
            information_weight=self.information_weight,
        )
