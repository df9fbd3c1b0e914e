"""Critic: its pairs, its training, and how it continues after `partial_fit`."""

import gc
import weakref

import pytest
import torch

from cmim_sklearn._encoders.infomax_vae import Critic, FDivergenceBound
from cmim_sklearn._training import critic
from cmim_sklearn._training.critic import CriticNet, TrainCritic, critic_values
from cmim_sklearn._training.state import MAX_GRADIENT, copy_tensors, training_state


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def make_net(layer_sizes=(64,), seed=0):
    return CriticNet(
        Critic(4, list(layer_sizes), seeded(seed)), FDivergenceBound(),
        optimizer=torch.optim.Adam, lr=1e-2, callbacks=None, verbose=0,
    ).initialize()  # fmt: skip


def correlated_pairs():
    x = torch.randn(256, 2, generator=seeded())
    return x, x + 0.5 * torch.randn(256, 2, generator=seeded(1))


def test_each_row_is_paired_with_a_distant_row():
    z = torch.arange(50.0)[:, None]
    own, other = critic_values(lambda x, z: z[:, 0], z, z)
    assert own.tolist() == list(range(50))
    assert sorted(other.tolist()) == list(range(50))
    assert (other != own).all()
    assert (other - own).abs().median() > 5


def test_partners_that_a_graph_reads_live_as_long_as_their_critic(monkeypatch):
    kept, plain = [], critic._partners

    def noting(*place):
        other = plain(*place)
        kept.append(weakref.ref(other))
        return other

    monkeypatch.setattr(critic, "_partners", noting)
    net, (x, z) = make_net(), correlated_pairs()
    module = net.module_
    before = set(vars(module))
    for _ in range(2):
        critic_values(module, x, z)
        critic_values(module, x[:7], z[:7])
    assert [len(other()) for other in kept] == [256, 7]
    assert set(vars(module)) == before
    del net, module
    gc.collect()
    assert [other() for other in kept] == [None, None]


def test_steps_raise_the_bound():
    net, pairs = make_net(), correlated_pairs()
    bounds = [-float(net.train_step(pairs)["loss"].detach()) for _ in range(200)]
    assert bounds[0] < 0.1 < 0.5 < bounds[-1]


def test_gradients_are_bounded():
    net, (x, z) = make_net(), correlated_pairs()
    net.train_step((1e20 * x, z))
    largest = max(float(weight.grad.abs().max()) for weight in net.module_.parameters())
    assert largest == pytest.approx(MAX_GRADIENT)


def test_a_continued_critic_equals_one_that_never_stopped():
    pairs, before = correlated_pairs(), make_net()
    for _ in range(3):
        before.train_step(pairs)
    after = make_net(seed=1)
    TrainCritic(after).continue_from(TrainCritic(before))
    for net in (before, after):
        net.train_step(pairs)
    states = [training_state(net) for net in (before, after)]
    torch.testing.assert_close(*[s["weights"] for s in states], rtol=0, atol=0)
    torch.testing.assert_close(*[s["optimizer"]["state"] for s in states], rtol=0, atol=0)


def test_a_critic_of_another_size_keeps_its_initial_weights():
    before, after = make_net(), make_net((5,))
    before.train_step(correlated_pairs())
    own = copy_tensors(training_state(after))
    TrainCritic(after).continue_from(TrainCritic(before))
    torch.testing.assert_close(training_state(after)["weights"], own["weights"], rtol=0, atol=0)
    assert not after.optimizer_.state_dict()["state"]
