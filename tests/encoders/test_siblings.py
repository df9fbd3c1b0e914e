"""The learners with a decoder beside cMIM: their losses by closed forms, and what they must do."""

import inspect
import math
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_array_equal
from scipy.linalg import subspace_angles
from sklearn.base import clone
from torch import nn
from torch.testing import assert_close

import cmim_sklearn
from cmim_sklearn import AEEncoder, CMIMEncoder, InfoMaxVAEEncoder, MIMEncoder, VAEEncoder
from cmim_sklearn._encoders.autoencoder import distortion
from cmim_sklearn._encoders.base.generative import _GenerativeEncoder
from cmim_sklearn._encoders.infomax_vae import Critic, FDivergenceBound, infomax_vae
from cmim_sklearn._encoders.vae import mmd, rate, vae
from cmim_sklearn._models.latent_model import LatentModel, Pass, concatenate
from cmim_sklearn._training.critic import critic_values
from cmim_sklearn.latents import DiagonalNormal, Posterior, standard_normal
from cmim_sklearn.objectives import mim
from tests.helpers import make_pass

SIBLINGS = [
    encoder
    for encoder in vars(cmim_sklearn).values()
    if inspect.isclass(encoder) and issubclass(encoder, _GenerativeEncoder)
]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# -- losses ----------------------------------------------------------------------------------------


def test_the_rate_is_the_mean_log_ratio_of_posterior_and_prior():
    mean = torch.tensor([[1.0, -2.0], [0.0, 0.0]])
    posterior = DiagonalNormal(mean, torch.tensor([[-1.0, 0.5], [0.0, 0.0]]))
    z = posterior.rsample(torch.randn(200_000, 2, 2, generator=seeded()))
    sampled = (posterior.log_prob(z) - standard_normal(z).log_prob(z)).mean(0)
    found = rate(Pass(mean, posterior, standard_normal(mean), torch.zeros(2, 1)))
    assert_close(found, sampled, atol=0.02, rtol=0)
    assert found[1] == 0


def test_mim_and_vae_add_up_to_the_prior():
    """(A-MIM + log p(x|z)) + (VAE + log p(x|z)) / 2 = -log P(z), with the sampled rate."""
    batch = make_pass()
    sampled_rate = batch.posterior.log_prob(batch.z) - batch.prior.log_prob(batch.z)
    assert_close(mim(batch)["latent"] + 0.5 * sampled_rate, -batch.prior.log_prob(batch.z))
    terms = vae(batch, beta=3.0)
    assert_close(terms["rate"], 3 * rate(batch))
    assert_close(terms["distortion"], distortion(batch)["distortion"])
    assert set(terms) == {"distortion", "rate"}


def test_mmd_is_that_of_draws_from_the_prior():
    d = 3
    z = 0.5 + 0.7 * torch.randn(300, d, generator=seeded(), dtype=torch.float64)
    prior = torch.randn(20_000, d, generator=seeded(1), dtype=torch.float64)

    def kernel(a, b):
        return torch.exp(-torch.cdist(a, b).square() / (2 * d))

    n, m = len(z), 3000
    among = (kernel(z, z).sum() - n) / (n * (n - 1))
    in_prior = (kernel(prior[:m], prior[:m]).sum() - m) / (m * (m - 1))
    expected = among - 2 * kernel(z, prior).mean() + in_prior
    assert float(mmd(z).mean()) == pytest.approx(float(expected), abs=0.005)
    assert float(mmd(z).mean()) > 0.05
    same = torch.stack([mmd(part).mean() for part in prior.split(100)])
    assert abs(float(same.mean())) < 4 * float(same.std()) / math.sqrt(len(same))
    order = torch.randperm(n, generator=seeded())
    assert_close(mmd(z[order]), mmd(z)[order])
    assert mmd(z[:1]).tolist() == [0.0]


def test_the_bound_is_tight_at_the_density_ratio_and_below_it_elsewhere():
    """f = 1 + log p(x, z) / (p(x) p(z)) is the best critic; the bound is then the information."""
    rho = 0.8
    x = torch.randn(400_000, generator=seeded())
    z = rho * x + math.sqrt(1 - rho**2) * torch.randn(len(x), generator=seeded(1))
    truth = -0.5 * math.log(1 - rho**2)

    def best(x, z):
        squares = (rho**2 * (x**2 + z**2) - 2 * rho * x * z) / (2 * (1 - rho**2))
        return 1 - squares - 0.5 * math.log(1 - rho**2)

    bound = FDivergenceBound()
    shuffled = z.roll(1)
    assert float(bound(best(x, z), best(x, shuffled)).mean()) == pytest.approx(truth, abs=0.02)
    worse = bound(0.7 * best(x, z), 0.7 * best(x, shuffled))
    assert float(worse.mean()) < truth - 0.02
    assert torch.isfinite(bound(torch.zeros(1), torch.tensor([1e9]))).all()


def test_infomax_is_a_vae_less_the_weighted_bound():
    batch = make_pass()._replace(inputs=torch.randn(6, 5, generator=seeded()))
    critic = Critic(5 + 3, [8], seeded())
    terms = infomax_vae(batch, critic=critic, beta=2.0, information_weight=7.0)
    paired, other = critic_values(critic, batch.inputs, batch.z)
    assert_close(paired, critic(batch.inputs, batch.z))
    assert_close(terms["information"], -7 * (paired - torch.exp(other - 1)))
    assert_close(terms["rate"], 2 * rate(batch))


# -- MIM's variance: the toy of one linear dimension -----------------------------------------------


class FlooredAtSix(Posterior):
    """N(mean, sigma), one log sigma for all rows, above a floor of -6."""

    def __init__(self):
        super().__init__(1)
        self.log_scale = nn.Parameter(torch.tensor(-0.5))

    def forward(self, outputs, uniform=None):
        log_variance = 2 * self.log_scale.clamp(min=-6)
        return DiagonalNormal(outputs, log_variance.expand(len(outputs), 1))

    inference = forward


class KnownNoise(nn.Module):
    """One column, p(x | z) = N(params, 0.3)."""

    def inputs(self, x):
        return x

    def log_prob(self, params, x):
        return torch.distributions.Normal(params, 0.3).log_prob(x)

    def rsample(self, params, generator):
        return params + 0.3 * torch.randn(params.shape, generator=generator)


def settled_log_scale(dreams):
    torch.manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        encoder, decoder = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.constant_(encoder.weight, 0.5)
    nn.init.constant_(decoder.weight, 1.0)
    model = LatentModel(encoder, FlooredAtSix(), decoder, KnownNoise(), symmetric=dreams)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    generator = seeded()
    for _ in range(2500):
        x = torch.randn(256, 1, generator=generator)
        loss = sum(mim(model(x, model.draw_noise(x, generator))).values()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.posterior.log_scale.item()


def test_a_mim_s_sigma_runs_to_its_floor_and_symmetric_mim_s_does_not():
    assert settled_log_scale(dreams=False) <= -5.99
    assert -5.5 < settled_log_scale(dreams=True) < -3


def test_dreamt_rows_are_the_model_s_own_and_carry_gradients(quick):
    X = np.random.RandomState(0).randn(60, 3)
    encoder = MIMEncoder(**quick, symmetric=True, posterior="learned", early_stopping=True).fit(X)
    model = encoder.net_.module.train()
    assert model.symmetric
    x = torch.randn(50, 3, generator=seeded())
    batch = model(x, model.draw_noise(x, seeded()))
    assert len(batch.z) == len(batch.log_px) == 100
    alone = model(x, model.draw_noise(x, seeded())._replace(generation=None))
    assert_close(batch.z[:50], alone.z)
    model.zero_grad()
    (-batch.posterior.log_prob(batch.z)[50:]).sum().backward()
    assert model.decoder.output.weight.grad.abs().sum() > 0  # through the rows that it drew
    assert model.eval().draw_noise(x, seeded()).generation is None  # what is held out is data alone
    twice = concatenate(alone, alone)
    assert_close(mim(twice)["latent"], mim(alone)["latent"].repeat(2))


def test_losses_are_means_over_the_rows_that_have_one(quick, monkeypatch):
    """With dreams there are twice as many rows as in the table."""

    def one(batch):
        return {"latent": torch.ones(len(batch.z)) + 0 * batch.log_px.sum()}

    monkeypatch.setattr("cmim_sklearn._encoders.mim.mim", one)
    X = np.random.RandomState(0).randn(60, 3)
    mim = MIMEncoder(**quick, symmetric=True, posterior="learned", early_stopping=True).fit(X)
    assert mim.loss_curve_ == pytest.approx([1.0] * 3)
    assert mim.validation_scores_ == pytest.approx([-1.0] * 3)


def test_symmetric_mim_refuses_what_it_cannot_draw_with_gradients(mixed, quick):
    mim = MIMEncoder(**quick, symmetric=True, posterior="learned")
    told = r"Not such: 'member' \(bernoulli\), 'flag' \(bernoulli\), 'city' \(categorical\), 'word'"
    with pytest.raises(ValueError, match=told):
        mim.fit(mixed)
    with pytest.raises(ValueError, match=r"takes posterior='learned'. Got posterior='sampled'"):
        MIMEncoder(**quick, symmetric=True).fit(mixed[["age", "score"]])
    warm = MIMEncoder(**quick, posterior="learned", warm_start=True).fit(mixed)
    with pytest.raises(ValueError, match="Not such: 'member'"):
        warm.set_params(symmetric=True).fit(mixed)
    numbers = mixed[["age", "score"]]
    warm = MIMEncoder(**quick, posterior="learned", warm_start=True).fit(numbers)
    assert warm.set_params(symmetric=True).fit(numbers).net_.module.symmetric


# -- encoders --------------------------------------------------------------------------------------


def test_mim_is_cmim_without_contrast(mixed, quick):
    one = MIMEncoder(**quick).fit(mixed)
    other = CMIMEncoder(**quick, contrastive_weight=0).fit(mixed)
    assert_array_equal(one.transform(mixed), other.transform(mixed))
    assert one.loss_curve_ == other.loss_curve_


@pytest.mark.parametrize("sibling", SIBLINGS)
def test_a_sibling_does_all_that_cmim_does(sibling, mixed, quick):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    encoder = sibling(**quick).fit(mixed)
    again = clone(encoder).fit(mixed)
    Z = encoder.transform(mixed)
    assert_array_equal(again.transform(mixed), Z)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert_array_equal(np.random.get_state()[1], before[1])
    reopened = pickle.loads(pickle.dumps(encoder))
    assert_array_equal(reopened.transform(mixed), Z)
    assert reopened.sample(5, random_state=0).equals(encoder.sample(5, random_state=0))
    back = encoder.inverse_transform(encoder.transform(mixed))
    pd.testing.assert_frame_equal(back, encoder.reconstruct(mixed), rtol=1e-3, atol=0.011)
    assert encoder.impute(mixed).notna().all(axis=None)
    assert np.isfinite(encoder.score_samples(mixed[:10])).all()
    assert encoder.set_params(embedding="mean").transform(mixed).shape == (200, 4)
    longer = encoder.set_params(warm_start=True).fit(mixed)
    assert longer.n_iter_ == 6


def test_losses_show_their_terms(mixed, quick):
    history = VAEEncoder(**quick, mmd_weight=1.0).fit(mixed).net_.history
    assert {"train_distortion", "train_rate", "train_mmd"} <= set(history[-1])
    history = InfoMaxVAEEncoder(**quick).fit(mixed).net_.history
    assert {"train_distortion", "train_rate", "train_information"} <= set(history[-1])
    assert history[-1]["train_loss"] == pytest.approx(
        sum(history[-1][f"train_{name}"] for name in ("distortion", "rate", "information"))
    )


def test_a_linear_vae_reaches_the_principal_subspace():
    """Probabilistic PCA is the linear-Gaussian VAE: equal noise in columns of equal variance."""
    rng = np.random.RandomState(0)
    angles = np.linspace(0, np.pi, 6, endpoint=False)
    loadings = np.stack([np.cos(angles), np.sin(angles)])  # (2, 6), columns of equal length
    X = rng.randn(4000, 2) @ (loadings * [[2.0], [1.0]]) + 0.3 * rng.randn(4000, 6)
    X = (X - X.mean(0)) / X.std(0)
    encoder = VAEEncoder(
        2, hidden_layer_sizes=(), numeric_scaling=None, input_masking=0, max_iter=60,
        learning_rate_init=1e-2, random_state=0,
    ).fit(X)  # fmt: skip
    weights = encoder.net_.module.decoder.output.weight.detach().numpy()
    principal = np.linalg.eigh(np.cov(X.T))[1][:, -2:]
    assert np.rad2deg(subspace_angles(weights, principal)).max() < 5


def test_the_critic_learns_by_its_own_net_alone(mixed, quick):
    encoder = InfoMaxVAEEncoder(**quick, critic_hidden_layer_sizes=(7,)).fit(mixed)
    net = encoder.net_
    critic = net.criterion_.options["critic"]
    assert critic.layers[0].out_features == 7
    learnt = {id(p) for group in net.optimizer_.param_groups for p in group["params"]}
    assert not learnt & {id(p) for p in critic.parameters()}
    still = InfoMaxVAEEncoder(
        **quick, critic_hidden_layer_sizes=(7,), critic_learning_rate_init=1e-30
    ).fit(mixed)
    untouched = still.net_.criterion_.options["critic"]
    seed = int(np.random.RandomState(0).randint(2**31 - 1))
    fresh = Critic(critic.layers[0].in_features, [7], seeded(seed))
    assert torch.equal(fresh.layers[0].weight, untouched.layers[0].weight)
    assert not torch.equal(fresh.layers[0].weight, critic.layers[0].weight)


def test_information_weight_matters(mixed, quick):
    none = InfoMaxVAEEncoder(**quick, information_weight=0.0).fit(mixed)
    plain = VAEEncoder(**quick).fit(mixed)
    assert_array_equal(none.transform(mixed), plain.transform(mixed))
    some = InfoMaxVAEEncoder(**quick, information_weight=20.0).fit(mixed)
    assert not np.allclose(some.transform(mixed), plain.transform(mixed))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: VAEEncoder(beta=-1.0), "'beta' parameter of VAEEncoder.*Got -1.0"),
        (lambda: VAEEncoder(mmd_weight=-1.0), "'mmd_weight' parameter.*Got -1.0"),
        (lambda: MIMEncoder(symmetric="yes"), "'symmetric' parameter of MIMEncoder.*Got 'yes'"),
        (lambda: InfoMaxVAEEncoder(information_weight=-2), "'information_weight'.*Got -2"),
        (lambda: AEEncoder(embedding="code"), "'embedding' parameter of AEEncoder.*Got 'code'"),
    ],
)
def test_bad_parameters(make, told):
    with pytest.raises(ValueError, match=told):
        make().fit([[0.0], [1.0], [2.0]])


def test_parameters_without_meaning_are_not_there():
    assert "posterior" not in VAEEncoder().get_params()
    assert not {"posterior", "latent_prior"} & set(AEEncoder().get_params())
    assert "contrastive_weight" not in MIMEncoder().get_params()
