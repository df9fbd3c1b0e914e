"""`InfoMaxVAEEncoder`: VAE with a bound on mutual information, its critic and its loss."""

from itertools import pairwise
from numbers import Integral, Real
from typing import ClassVar

import torch
from sklearn.utils._param_validation import Interval
from torch import Tensor, nn

from cmim_sklearn._encoders.base.generative import _GenerativeEncoder
from cmim_sklearn._encoders.base.parameters import shared_parameters
from cmim_sklearn._encoders.vae import vae
from cmim_sklearn._models.latent_model import Pass
from cmim_sklearn._training.critic import CriticNet, TrainCritic, critic_values
from cmim_sklearn._training.net import ObjectiveLoss
from cmim_sklearn._utils.device import resolve_device
from cmim_sklearn.networks import linear, reset_parameters

MAX_EXPONENT = 20.0


class Critic(nn.Module):
    """A function f(x, z) by an MLP on both side by side, with ReLU.

    Parameters
    ----------
    n_in : int
        Width of x and z together.
    hidden_layer_sizes : sequence of int
    generator : torch.Generator
        Draws the weights.
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
    """A lower bound on I(x; z) in nats from f at pairs and at shuffled pairs: f - exp(f' - 1)."""

    def forward(self, paired, shuffled):
        """The bound's terms (n,); their mean is the bound."""
        return paired - torch.exp((shuffled - 1).clamp(max=MAX_EXPONENT))


def infomax_vae(batch: Pass, *, critic, beta=1.0, information_weight=1.0) -> dict[str, Tensor]:
    r"""The VAE's loss less a bound on the information that codes hold of rows.

    .. math:: -\log p(x|z) + \beta\, KL(q(z|x) \| P(z)) - \gamma \hat I(x; z), \quad
              \hat I = E[f(x, z)] - E[e^{f(x, z') - 1}]

    Parameters
    ----------
    batch : Pass
        n rows.
    critic : callable
        f, of encoder inputs (n, W) and codes (n, d).
    beta, information_weight : float, default=1.0

    Returns
    -------
    dict of str to Tensor of shape (n,)
        ``distortion``, ``rate`` and ``information``, in nats.

    References
    ----------
    A. Lotfi Rezaabad, S. Vishwanath, "Learning Representations by Maximizing Mutual Information in
    Variational Autoencoders" (2019), arXiv 1912.13361.
    """
    bound = FDivergenceBound()(*critic_values(critic, batch.inputs, batch.z))
    return {**vae(batch, beta=beta), "information": -information_weight * bound}


@shared_parameters
class InfoMaxVAEEncoder(_GenerativeEncoder):
    """Embed mixed tables by InfoMax-VAE: a VAE that is paid for the information in its codes.

    A critic tells a row's own code from another's; the bound on mutual information that it gives is
    raised by encoder and critic in turn.

    Parameters
    ----------
    %(n_components)s
    beta : float, default=1.0
        Factor of the rate, the divergence of q(z | x) from N(0, I).
    information_weight : float, default=10.0
        Factor of the bound on I(x; z).
    critic_hidden_layer_sizes : sequence of int, default=(1000, 400, 100)
        Of the critic, with ReLU.
    critic_learning_rate_init : float, default=1e-4
        Of the critic's Adam. The encoder's is `learning_rate_init`.
    %(shared)s

    Attributes
    ----------
    %(attributes)s

    Notes
    -----
    The critic is no part of what is pickled, and a warm start begins with a new one. Its sizes, its
    rate and the factors are published ones (beside a VAE's rate of 1e-3); at the other published
    pair, a factor of 20 and a rate of 1e-5, the critic hardly learns in as few updates as fits make
    here. What is held out is told by a critic that still learns: early stopping goes by a moving
    mark. Codes that hold much are far from N(0, I): `latent_prior` is "mixture" by default.

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

    _parameter_constraints: ClassVar[dict] = {
        "beta": [Interval(Real, 0, None, closed="left")],
        "information_weight": [Interval(Real, 0, None, closed="left")],
        "critic_hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "critic_learning_rate_init": [Interval(Real, 0, None, closed="neither")],
    }
    _posterior = "learned"

    def __init__(
        self,
        n_components=64,
        *,
        beta=1.0,
        information_weight=10.0,
        critic_hidden_layer_sizes=(1000, 400, 100),
        critic_learning_rate_init=1e-4,
        embedding="layers",
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
        sizes = torch.atleast_1d(torch.as_tensor(self.critic_hidden_layer_sizes)).tolist()
        n_in = model.likelihood.n_inputs + model.posterior.n_components
        critic = Critic(n_in, sizes, torch.Generator().manual_seed(seed))
        return ObjectiveLoss(
            infomax_vae,
            critic=critic,
            beta=self.beta,
            information_weight=self.information_weight,
        )

    def _trained_beside(self, objective):
        net = CriticNet(
            objective.options["critic"],
            FDivergenceBound(),
            optimizer=torch.optim.Adam,
            lr=self.critic_learning_rate_init,
            device=resolve_device(self.device),
            callbacks=None,
            verbose=0,
        )
        return [TrainCritic(net.initialize())]
