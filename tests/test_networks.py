"""Networks: shapes, initial parameters, global random state, checks of custom networks."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from cmim_sklearn import CMIMEncoder
from cmim_sklearn.networks import ACTIVATIONS, MLP, NETWORKS, build, linear, reset_parameters
from tests.helpers import seeded


def make(name, sizes=(8, 6), activation="silu", seed=0):
    return NETWORKS[name](5, 3, sizes, activation, seeded(seed))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("sizes", [(), (8,), (8, 6)])
def test_shapes_and_submodules(name, sizes):
    network = make(name, sizes)
    x = torch.randn(7, 5)
    assert network(x).shape == (7, 3)
    assert torch.equal(network(x), network.output(network.body(x)))
    assert network.body(x).shape == (7, sizes[-1] if sizes else 5)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradient_reaches_every_parameter(name, activation):
    network = make(name, activation=activation)
    network(torch.randn(7, 5)).square().sum().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("name", NETWORKS)
def test_rows_do_not_depend_on_each_other(name):
    network = make(name)
    x = torch.randn(7, 5, generator=seeded(1))
    torch.testing.assert_close(network(x)[2:3], network(x[2:3]))


@pytest.mark.parametrize("name", NETWORKS)
def test_initial_weights_come_from_the_generator_alone(name):
    before = torch.get_rng_state()
    one, two, other = make(name), make(name), make(name, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)
    assert any(
        not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True)
    )


def test_initial_weights_fill_their_range():
    layer = linear(400, 300)
    reset_parameters(layer, seeded())
    bound = 1 / math.sqrt(400)
    assert layer.weight.abs().max() <= bound
    assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)


def test_mlp_as_a_callable_is_initialised_and_repeats(quick):
    torch.manual_seed(7)
    alone = MLP(200, 50, (), "silu").output.weight
    assert 0.9 < alone.abs().max() * 200**0.5 <= 1
    rows = np.random.RandomState(0).randn(60, 3)
    fits = [CMIMEncoder(**quick, encoder=MLP, decoder=MLP).fit(rows) for _ in range(2)]
    assert np.isfinite(fits[0].loss_curve_).all()
    np.testing.assert_array_equal(fits[0].transform(rows), fits[1].transform(rows))


@pytest.mark.parametrize("is_decoder", [True, False])
def test_custom_network_is_seeded_and_leaves_the_global_state(is_decoder):
    def custom(n_in, n_out, hidden_layer_sizes, activation):
        network = nn.Module()
        network.body, network.output = nn.Linear(n_in, 4), nn.Linear(4, n_out)
        network.forward = lambda x: network.output(network.body(x))
        return network

    arguments = custom, 5, 3, (), "silu"
    before = torch.get_rng_state()
    one, two = (build(*arguments, seeded(), is_decoder=is_decoder) for _ in range(2))
    other = build(*arguments, seeded(1), is_decoder=is_decoder)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.output.weight, two.output.weight)
    assert not torch.equal(one.output.weight, other.output.weight)
    assert one.training


def test_only_a_decoder_needs_body_and_output():
    def bare(n_in, n_out, *_):
        return nn.Linear(n_in, n_out)

    assert isinstance(build(bare, 5, 3, (), "silu", seeded(), is_decoder=False), nn.Linear)
    with pytest.raises(ValueError, match=r"decoder must return .* got Linear without body and out"):
        build(bare, 5, 3, (), "silu", seeded(), is_decoder=True)
