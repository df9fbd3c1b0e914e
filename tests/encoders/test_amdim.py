"""AMDIM: its loss by hand, and the cells that its local codes see."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from cmim_sklearn import AMDIMEncoder
from cmim_sklearn._encoders.amdim import amdim
from cmim_sklearn._models.local_view import LocalViews
from tests.helpers import encoded, randn


def test_loss_by_hand():
    n, n_groups, p = 4, 2, 3
    sources = randn(n, p), randn(n, p, seed=1)
    targets = randn(n, n_groups, p, seed=2), randn(n, n_groups, p, seed=3)
    own = torch.tensor([[True, True], [True, False], [False, False], [True, True]])
    terms = amdim(LocalViews(sources, targets, (own, own)), clip=2.0, score_weight=1.0)
    for i in range(n):
        expected, squares = 0.0, 0.0
        for source, target in ((sources[0], targets[1]), (sources[1], targets[0])):
            raw = torch.einsum("p,jgp->jg", source[i], target) / math.sqrt(p)
            log_share = (2 * torch.tanh(raw / 2)).log_softmax(0)[i]
            if own[i].any():
                expected = expected - log_share[own[i]].mean() / 2
            squares = squares + raw.square().mean() / 2
        assert terms["contrast"][i].item() == pytest.approx(float(expected), abs=1e-5)
        assert terms["scores"][i].item() == pytest.approx(float(squares), rel=1e-5)


def test_local_codes_see_one_group_and_no_cell_that_a_view_changed(mixed, quick):
    fitted = AMDIMEncoder(**quick, n_groups=3).fit(mixed)
    model = fitted.net_.module
    assert model.groups.shape == (3, 8)
    assert model.groups.sum(0).tolist() == [1] * 8
    assert AMDIMEncoder(**quick, n_groups=99).fit(mixed).net_.module.groups.shape == (8, 8)
    x = encoded(fitted, mixed)
    other = x.clone()
    group = model.groups[1]
    other[:, group] = other[:, group].flip(0)
    with torch.no_grad():
        views = model(x, (x, other))
    ours, theirs = views.targets
    assert_close(ours[:, [0, 2]], theirs[:, [0, 2]])
    assert not torch.allclose(ours[:, 1], theirs[:, 1])
    same = (x == other) | (torch.isnan(x) & torch.isnan(other))
    assert views.are_own[0].all()
    assert views.are_own[1][:, [0, 2]].all()
    assert torch.equal(views.are_own[1][:, 1], same[:, group].any(1))
    # A changed cell is hidden, so its new value has no effect.
    third = torch.where(same, x, x + 1)
    with torch.no_grad():
        again = model(x, (x, third)).targets[1]
    moved = torch.isnan(other) | torch.isnan(x)
    assert_close(again[~moved.any(1)], theirs[~moved.any(1)])


def test_every_row_of_a_wide_table_has_a_positive():
    X = np.random.RandomState(0).randn(100, 200)
    fitted = AMDIMEncoder(max_iter=1, n_components=4, hidden_layer_sizes=(8,), random_state=0).fit(
        X
    )
    model, x = fitted.net_.module, encoded(fitted, X)
    noise = model.draw_noise(x, torch.Generator(x.device).manual_seed(0))
    with torch.no_grad():
        assert all(own.all() for own in model(x, noise).are_own)
