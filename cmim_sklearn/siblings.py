"""The learners beside cMIM that have a decoder: MIM, VAE, auto-encoder, InfoMax-VAE.

Each is its loss, as a pure function from a `Pass`, and a short final class. What a sibling needs
stands here together, so that another is one more function and class.
"""

from itertools import pairwise
from numbers import Integral, Real
from typing import ClassVar

import torch
from sklearn.utils._param_validation import Interval
from torch import Tensor, nn

from cmim_sklearn.critic_net import CriticNet, TrainCritic, critic_values
from cmim_sklearn.generative import _GenerativeEncoder
from cmim_sklearn.model import Pass
from cmim_sklearn.net import ObjectiveLoss, resolve_device
from cmim_sklearn.networks import linear, reset_parameters
from cmim_sklearn.objectives import mim
from cmim_sklearn.parameters import shared_parameters

MAX_EXPONENT = 20.0


# -- MIM -------------------------------------------------------------------------------------------


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
        model.dreams = bool(self.symmetric)

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


# -- VAE -------------------------------------------------------------------------------------------


def vae(batch: Pass, *, beta=1.0, mmd_weight=0.0) -> dict[str, Tensor]:
    r"""Minus the evidence lower bound, its rate weighted; and the MMD of InfoVAE.

    .. math:: -\log p(x|z) + \beta\, KL(q(z|x) \| P(z)) + \lambda\, MMD^2(q(z), P(z))

    Parameters
    ----------
    batch : Pass
        n rows.
    beta : float, default=1.0
        Factor of the rate; 1 - alpha of InfoVAE.
    mmd_weight : float, default=0.0
        Factor of the MMD; alpha + lambda - 1 of InfoVAE.

    Returns
    -------
    dict of str to Tensor of shape (n,)
        ``distortion``, ``rate``, and ``mmd`` where it has a weight, in nats.

    References
    ----------
    D. Kingma, M. Welling (2013), arXiv 1312.6114; I. Higgins et al., "beta-VAE" (2017); S. Zhao,
    J. Song, S. Ermon, "InfoVAE" (2017), arXiv 1706.02262.
    """
    terms = {"distortion": -batch.log_px.sum(-1), "rate": beta * rate(batch)}
    if mmd_weight:
        terms["mmd"] = mmd_weight * mmd(batch.z)
    return terms


def rate(batch: Pass) -> Tensor:
    """KL(q(z | x) || N(0, I)) of each row, (n,), in nats."""
    mean, log_variance = batch.posterior
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1)


def mmd(z: Tensor) -> Tensor:
    """Squared maximum mean discrepancy between codes z (n, d) and N(0, I), by row, (n,).

    With the kernel exp(-||a - b||^2 / (2 d)); the mean over rows is the unbiased estimate, and can
    be below zero. Zero where n is 1.
    """
    # NOTE[paper] Published code draws from the prior; a Gaussian kernel's means over N(0, I) are
    # known, so nothing is drawn here. Its kernel is exp(-||a - b||^2 / d^2), nearly flat in many
    # components.
    n, d = z.shape
    if n == 1:
        return torch.zeros_like(z[:, 0])
    between = torch.exp(-torch.cdist(z, z).square() / (2 * d))
    among = (between.sum(1) - between.diagonal()) / (n - 1)
    to_prior = (d / (1 + d)) ** (d / 2) * torch.exp(-z.square().sum(1) / (2 * (1 + d)))
    return among - 2 * to_prior + (d / (2 + d)) ** (d / 2)


@shared_parameters
class VAEEncoder(_GenerativeEncoder):
    """Embed mixed tables by a variational auto-encoder: beta-VAE, and InfoVAE's MMD as an option.

    Parameters
    ----------
    %(n_components)s
    beta : float, default=1.0
        Factor of the rate, the divergence of q(z | x) from N(0, I).
    mmd_weight : float, default=0.0
        Factor of the squared maximum mean discrepancy between a batch's codes and N(0, I). MMD-VAE
        is ``beta=0`` with a large one.
    %(shared)s

    Attributes
    ----------
    %(attributes)s

    Notes
    -----
    The posterior's variance is learnt, above a soft floor of -6 for its logarithm. `latent_prior`
    is "normal" by default: the prior that it was trained with.

    References
    ----------
    D. Kingma, M. Welling, "Auto-Encoding Variational Bayes" (2013), arXiv 1312.6114; S. Zhao,
    J. Song, S. Ermon, "InfoVAE" (2017), arXiv 1706.02262.

    Examples
    --------
    >>> from cmim_sklearn import VAEEncoder
    >>> from sklearn.datasets import load_iris
    >>> X = load_iris().data
    >>> VAEEncoder(4, beta=0.5, embedding="mean", max_iter=5).fit_transform(X).shape
    (150, 4)
    """

    _parameter_constraints: ClassVar[dict] = {
        "beta": [Interval(Real, 0, None, closed="left")],
        "mmd_weight": [Interval(Real, 0, None, closed="left")],
    }
    _posterior = "learned"

    def __init__(
        self,
        n_components=64,
        *,
        beta=1.0,
        mmd_weight=0.0,
        embedding="layers",
        latent_prior="normal",
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
        return ObjectiveLoss(vae, beta=self.beta, mmd_weight=self.mmd_weight)


# -- auto-encoder ----------------------------------------------------------------------------------


def distortion(batch: Pass) -> dict[str, Tensor]:
    """Minus log p(x | z) of each row, in nats, and nothing else."""
    return {"distortion": -batch.log_px.sum(-1)}


@shared_parameters
class AEEncoder(_GenerativeEncoder):
    """Embed mixed tables by an auto-encoder: a code without noise, and no prior.

    Nothing sets the scale of its codes, and nothing fills the space between them. With
    `input_masking` it is a denoising one.

    Parameters
    ----------
    %(n_components)s
    %(shared)s

    Attributes
    ----------
    %(attributes)s

    Notes
    -----
    `sample` and its kin draw codes from a Gaussian mixture fitted to the codes of the rows.

    References
    ----------
    P. Ghosh et al., "From Variational to Deterministic Autoencoders" (2020), arXiv 1903.12436, for
    sampling by a density fitted afterwards.

    Examples
    --------
    >>> from cmim_sklearn import AEEncoder
    >>> from sklearn.datasets import load_iris
    >>> X = load_iris().data
    >>> AEEncoder(4, embedding="mean", max_iter=5).fit_transform(X).shape
    (150, 4)
    """

    _parameter_constraints: ClassVar[dict] = {}
    _posterior, _latent_prior = "point", "mixture"

    def __init__(
        self,
        n_components=64,
        *,
        embedding="layers",
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
        return ObjectiveLoss(distortion)


# -- InfoMax-VAE -----------------------------------------------------------------------------------


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
