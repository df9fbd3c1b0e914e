"""Joint likelihood: order and parameters of its blocks."""

import numpy as np
import torch

from cmim_sklearn._likelihoods import LIKELIHOODS
from cmim_sklearn._likelihoods.categorical import Categorical
from cmim_sklearn._likelihoods.gaussian import Gaussian
from cmim_sklearn._likelihoods.joint import Joint
from tests.helpers import columns_of, fitted_likelihood, objects, random_params


def test_inputs_are_values_then_indicators_then_one_hots():
    gaussian = Gaussian.fit([np.array([1.0, 2.0, 4.0])], ["g"], numeric_scaling=None)
    categorical = Categorical.fit([objects("a", "b", "c")], ["c"])
    joint = Joint([gaussian, categorical])
    inputs = joint.inputs(torch.tensor([[2.5, 1.0], [torch.nan, torch.nan]]))
    assert inputs.tolist() == [[2.5, 1, 0, 1, 0], [0, 0, 0, 0, 0]]
    assert joint.n_inputs == 5


def test_each_block_is_scored_with_its_parameters():
    parts = [fitted_likelihood(kind)[0] for kind in LIKELIHOODS]
    joint = Joint(parts)
    x = torch.cat(
        [
            torch.from_numpy(p.encode(columns_of(k)))
            for k, p in zip(LIKELIHOODS, parts, strict=True)
        ],
        1,
    )
    params = random_params(joint, len(x))
    log_px = joint.log_prob(params, x)
    assert log_px.shape == (60, joint.n_columns)
    start, column = 0, 0
    for part in parts:
        block = x[:, column : column + part.n_columns]
        alone = part.log_prob(params[:, start : start + part.n_params], block, part.observed(block))
        assert torch.equal(log_px[:, column : column + part.n_columns], alone)
        start, column = start + part.n_params, column + part.n_columns


def test_structure_is_equal_where_only_values_differ():
    def joint(numbers, *levels):
        gaussian = Gaussian.fit([np.array(numbers)], ["g"], numeric_scaling=None)
        return Joint([gaussian, Categorical.fit([objects(*column) for column in levels], levels)])

    one = joint([1.0, 2.0, 4.0], "abc", "xy")
    assert one.structure() == joint([5.0, 7.0, 8.0], "def", "vw").structure()
    assert one.structure() != joint([1.0, 2.0, 4.0], "abcd", "x").structure()  # as many classes
    assert one.structure() != joint([1.0, 2.0, 4.0], "abc").structure()
    assert hash(one.structure()) == hash(joint([1.0, 2.0, 3.0], "abc", "xy").structure())
