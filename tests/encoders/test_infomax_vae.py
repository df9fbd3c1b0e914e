"""InfoMax-VAE: bound on the information, critic, and weight of the bound."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from torch.testing import assert_close

from cmim_sklearn import InfoMaxVAEEncoder, VAEEncoder
from cmim_sklearn._encoders.infomax_vae import Critic, FDivergenceBound, infomax_vae
from cmim_sklearn._encoders.vae import rate, vae
from cmim_sklearn._training.critic import critic_values
from tests.helpers import make_pass, seeded, small_encoder


def test_the_bound_is_tight_for_the_best_critic_and_lower_for_others():
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


def test_loss_is_that_of_a_vae_minus_the_weighted_bound():
    batch = make_pass()._replace(inputs=torch.randn(6, 5, generator=seeded()))
    critic = Critic(5 + 3, [8], seeded())
    terms = infomax_vae(batch, critic=critic, beta=2.0, information_weight=7.0)
    paired, other = critic_values(critic, batch.inputs, batch.z)
    assert_close(paired, critic(batch.inputs, batch.z))
    assert_close(terms["information"], -7 * (paired - torch.exp(other - 1)))
    assert_close(terms["rate"], 2 * rate(batch))


def test_one_row_holds_no_information_and_does_not_train_the_critic(mixed):
    batch = make_pass(1)._replace(inputs=torch.zeros(1, 5))
    critic = Critic(5 + 3, [8], seeded())
    terms, plain = infomax_vae(batch, critic=critic), vae(batch)
    assert terms.pop("information").tolist() == [0.0]
    assert_close(terms, plain)
    encoder = small_encoder("InfoMaxVAEEncoder").fit_schema(mixed).partial_fit(mixed[:1])
    critic = encoder.net_.criterion_.options["critic"]
    fresh = Critic(critic.layers[0].in_features, [7], seeded(encoder.net_.seed))
    for one, other in zip(critic.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_critic_is_trained_by_a_separate_optimizer(mixed, quick):
    encoder = InfoMaxVAEEncoder(**quick, critic_hidden_layer_sizes=(7,)).fit(mixed)
    net = encoder.net_
    critic = net.criterion_.options["critic"]
    assert critic.layers[0].out_features == 7
    trained = {id(p) for group in net.optimizer_.param_groups for p in group["params"]}
    assert not trained & {id(p) for p in critic.parameters()}
    still = InfoMaxVAEEncoder(
        **quick, critic_hidden_layer_sizes=(7,), critic_learning_rate_init=1e-30
    ).fit(mixed)
    untouched = still.net_.criterion_.options["critic"]
    seed = int(np.random.RandomState(0).randint(2**31 - 1))
    fresh = Critic(critic.layers[0].in_features, [7], seeded(seed)).to(net.device)
    assert torch.equal(fresh.layers[0].weight, untouched.layers[0].weight)
    assert not torch.equal(fresh.layers[0].weight, critic.layers[0].weight)


def test_history_has_each_term_of_the_loss(fitted):
    history = fitted("InfoMaxVAEEncoder").net_.history
    assert {"train_distortion", "train_rate", "train_information"} <= set(history[-1])
    assert history[-1]["train_loss"] == pytest.approx(
        sum(history[-1][f"train_{name}"] for name in ("distortion", "rate", "information"))
    )


def test_information_weight_zero_is_a_vae(mixed, quick):
    none = InfoMaxVAEEncoder(**quick, information_weight=0.0).fit(mixed)
    plain = VAEEncoder(**quick).fit(mixed)
    assert_array_equal(none.transform(mixed), plain.transform(mixed))
    some = InfoMaxVAEEncoder(**quick, information_weight=20.0).fit(mixed)
    assert not np.allclose(some.transform(mixed), plain.transform(mixed))


@pytest.mark.slow
def test_codes_hold_more_information_than_those_of_a_vae(houses):
    """At equal beta, on held-out rows, with the noise of each model's posterior."""
    numbers = houses.select_dtypes("number")
    train, test = numbers[:2000], numbers[2000:4000]
    held = {
        encoder: encoder(max_iter=40, random_state=0).fit(train).mutual_information(test, noise=0)
        for encoder in (VAEEncoder, InfoMaxVAEEncoder)
    }
    assert held[InfoMaxVAEEncoder].estimate > held[VAEEncoder].estimate + 0.2
