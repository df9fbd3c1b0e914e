"""Trunks: shapes, initial parameters, untouched global random state."""

import math

import numpy as np
import pytest
import torch

from cmim_sklearn import CMIMEncoder
from cmim_sklearn.networks import ACTIVATIONS, MLP, NETWORKS, linear, reset_parameters


def build(name, sizes=(8, 6), activation="silu", seed=0):
    return NETWORKS[name](5, 3, sizes, activation, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("sizes", [(), (8,), (8, 6)])
def test_shapes_and_the_two_submodules(name, sizes):
    network = build(name, sizes)
    x = torch.randn(7, 5)
    assert network(x).shape == (7, 3)
    assert torch.equal(network(x), network.output(network.body(x)))
    assert network.body(x).shape == (7, sizes[-1] if sizes else 5)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradient_reaches_every_parameter(name, activation):
    network = build(name, activation=activation)
    network(torch.randn(7, 5)).square().sum().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("name", NETWORKS)
def test_rows_do_not_see_each_other(name):
    network = build(name)
    x = torch.randn(7, 5, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(network(x)[2:3], network(x[2:3]))


@pytest.mark.parametrize("name", NETWORKS)
def test_building_draws_from_the_generator_alone(name):
    before = torch.get_rng_state()
    one, two, other = build(name), build(name), build(name, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)
    assert any(
        not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True)
    )


def test_initial_weights_fill_their_range():
    layer = linear(400, 300)
    reset_parameters(layer, torch.Generator().manual_seed(0))
    bound = 1 / math.sqrt(400)
    assert layer.weight.abs().max() <= bound
    assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)


def test_an_mlp_draws_its_weights_also_where_a_user_makes_it(quick):
    torch.manual_seed(7)
    alone = MLP(200, 50, (), "silu").output.weight
    assert 0.9 < alone.abs().max() * 200**0.5 <= 1
    rows = np.random.RandomState(0).randn(60, 3)
    fits = [CMIMEncoder(**quick, encoder=MLP, decoder=MLP).fit(rows) for _ in range(2)]
    assert np.isfinite(fits[0].loss_curve_).all()
    np.testing.assert_array_equal(fits[0].transform(rows), fits[1].transform(rows))
