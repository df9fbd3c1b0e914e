"""Grids: steps, values that rows share, rounding to them."""

import numpy as np
import pytest

from cmim_sklearn._likelihoods.grid import Grid
from cmim_sklearn._likelihoods.summary import summarise

RNG = np.random.RandomState(0)
AMOUNTS = np.round(np.exp(RNG.randn(400) + 3), 4)


def grid_of(values):
    values = np.asarray(values, float)
    [summary] = summarise([values])
    return Grid.fit(values, summary.decimals, summary.multiple)


@pytest.mark.parametrize(
    ("start", "step"), [(0.0, 0.005), (0.35, 0.05), (-3.0, 0.25), (0.0, 100.0), (-7.0, 3.0)]
)
def test_step_is_the_largest_that_all_values_are_multiples_of(start, step):
    values = np.round(start + step * RNG.randint(0, 500, 300), 6)
    grid = grid_of(values)
    assert grid.step == pytest.approx(step)
    np.testing.assert_array_equal(grid.nearest(values), values)
    near = grid.nearest(values + step * RNG.uniform(-0.45, 0.45, 300))
    np.testing.assert_array_equal(near, values)


def test_single_precision_has_the_step_of_double_precision():
    values = np.round(0.005 * RNG.randint(0, 500, 300), 3)
    single = values.astype(np.float32)
    grid = grid_of(single)
    assert grid.step == pytest.approx(0.005)
    np.testing.assert_array_equal(grid.nearest(single.astype(float)).astype(np.float32), single)


@pytest.mark.parametrize(
    "values",
    [
        [4.0] * 9,
        RNG.randn(300),
        np.round(RNG.randn(300), 1),
        RNG.randint(0, 1000, 300),
        [-1e305, 1e305, 1e305, 0.25],
        AMOUNTS,
        [17, 47, 32, 92],
        [20.0, 60.0],
        np.repeat(RNG.randn(200), 2),
    ],
    ids=["constant", "real", "decimals", "whole", "large", "amounts", "few", "two", "pairs"],
)
def test_columns_that_decimals_describe_have_no_grid(values):
    assert grid_of(values) is None


def test_values_that_rows_share_are_the_grid():
    prices = np.round(np.sort(np.exp(RNG.randn(40) + 3)), 2)
    rows = np.concatenate([RNG.choice(prices, 990), AMOUNTS[:10]])
    grid = grid_of(rows)
    shared = [price for price in prices if (rows == price).sum() > 1]
    np.testing.assert_array_equal(grid.values, shared)
    numbers = RNG.uniform(shared[0], shared[-1], 500)
    nearest = grid.nearest(numbers)
    distances = np.abs(numbers[:, None] - shared)
    np.testing.assert_allclose(np.abs(nearest - numbers), distances.min(1))
    outside = np.array([shared[0] - 0.12341, np.nan, shared[-1] + 0.12341])
    np.testing.assert_allclose(grid.nearest(outside), np.round(outside, 4))


def test_amounts_of_full_precision_may_be_shared():
    levels = RNG.randn(30)
    grid = grid_of(RNG.choice(levels, 600))
    assert set(grid.nearest(RNG.uniform(-0.5, 0.5, 100))) <= set(levels)
    assert (grid.step, grid.decimals) == (0.0, None)


def test_many_zeros_do_not_make_other_values_shared():
    rows = np.concatenate([np.zeros(4000), AMOUNTS, AMOUNTS[:2]])
    assert grid_of(rows) is None


def test_step_of_a_sample_is_that_of_all_rows():
    sample = 10.0 * RNG.randint(0, 50, 300)
    assert Grid.fit(sample, 0).step == Grid.fit(sample, 0, 20).step == 10
    assert Grid.fit(sample, 0, 15).step == 5
    assert Grid.fit(sample, 0, 3).step == 1  # shared values remain
    assert Grid.fit(sample, 1, 25).step == 2.5


@pytest.mark.parametrize(
    "damage",
    [
        {"step": -5.0},
        {"step": 0.0},
        {"start": np.nan},
        {"decimals": None},
        {"decimals": 10**9},
        {"values": [3.0]},
        {"values": [3.0, 2.0]},
        {"values": [[1.0, 2.0]]},
        {"values": [1.0, np.nan]},
    ],
    ids=str,
)
def test_damaged_states_raise(damage):
    state = {"start": 0.0, "step": 5.0, "decimals": 0, "values": [5.0, 15.0]}
    Grid(**state)
    named = f"step={damage['step']}" if "step" in damage else "a grid must have"
    with pytest.raises(ValueError, match=named):
        Grid(**(state | damage))


def test_state_restores_a_grid():
    grid = grid_of(RNG.choice(RNG.randn(30), 600))
    again = Grid(**grid.state())
    numbers = RNG.randn(50)
    np.testing.assert_array_equal(again.nearest(numbers), grid.nearest(numbers))
