"""Encoders without a decoder: order of rows, views, and repeatability."""

import copy
import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch.testing import assert_close

from cmim_sklearn import AMDIMEncoder, CMIMEncoder, Corruption, InfoNCEEncoder
from cmim_sklearn._encoders.barlow_twins import barlow_twins
from cmim_sklearn._encoders.infonce import infonce
from cmim_sklearn._encoders.super_info import superinfo
from cmim_sklearn._encoders.vicreg import vicreg
from tests.helpers import TWO_VIEW, make_mixed, randn, small_encoder, two_views

GENERATIVE_METHODS = (
    "inverse_transform", "reconstruct", "sample", "impute", "score", "score_samples",
    "score_columns", "score_dependence",
)  # fmt: skip


@pytest.mark.parametrize("loss", [infonce, vicreg, barlow_twins, superinfo])
def test_losses_follow_the_order_of_rows_and_are_finite_for_one_row(loss):
    first, second = randn(7, 4), randn(7, 4, seed=1)
    order = torch.tensor([3, 1, 6, 0, 2, 5, 4])
    there = loss(two_views(first, second))
    here = loss(two_views(first[order], second[order]))
    for name, term in there.items():
        assert_close(here[name], term[order])
        assert term.shape == (7,)
    for term in loss(two_views(first[:1], second[:1])).values():
        assert torch.isfinite(term).all()


@pytest.mark.parametrize("name", TWO_VIEW)
def test_there_are_no_generative_methods_or_parameters(name, fitted):
    encoder = fitted(name)
    for method in GENERATIVE_METHODS:
        assert not hasattr(encoder, method)
        assert hasattr(CMIMEncoder, method)
    generative = {"decoder", "embedding", "latent_prior", "likelihoods", "posterior"}
    assert not generative & set(encoder.get_params())


@pytest.mark.parametrize("name", TWO_VIEW)
def test_fits_repeat_and_leave_global_random_states_alone(name, mixed, fitted):
    Z = fitted(name).transform(mixed)
    assert Z.shape == (200, 4)
    assert Z.dtype == np.float32
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    assert_array_equal(clone(fitted(name)).fit_transform(mixed), Z)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert_array_equal(np.random.get_state()[1], before[1])
    assert_array_equal(pickle.loads(pickle.dumps(fitted(name))).transform(mixed), Z)
    assert_allclose(fitted(name).transform(mixed[::-1])[::-1], Z, atol=1e-6)
    warm = copy.deepcopy(fitted(name)).set_params(warm_start=True)
    assert warm.fit(mixed).n_iter_ == 4


@pytest.mark.parametrize("name", TWO_VIEW)
def test_held_out_rows_are_scored(name, mixed):
    encoder = small_encoder(name, early_stopping=True).fit(mixed)
    assert len(encoder.validation_scores_) == encoder.n_iter_
    few = small_encoder(name, early_stopping=True).fit(mixed[:8])
    assert np.isfinite(few.validation_scores_).all()
    with pytest.raises(ValueError, match=f"1 sample.* minimum of 2 is required by {name}"):
        small_encoder(name).fit(mixed, X_val=mixed[:1])


def test_a_custom_view_is_used_and_can_be_searched(mixed, quick):
    seen = []

    def view(x, generator):
        seen.append(x.shape)
        is_hidden = torch.rand(x.shape, generator=generator, device=x.device) < 0.5
        return x, x.masked_fill(is_hidden, torch.nan)

    InfoNCEEncoder(**quick, view=view).fit(mixed)
    assert seen
    assert all(shape[1] == 8 for shape in seen)
    pipe = make_pipeline(InfoNCEEncoder(**quick), LogisticRegression())
    grid = {"infonceencoder__view": [Corruption(0.2), Corruption(0.8, both=True)]}
    search = GridSearchCV(pipe, grid, cv=2).fit(mixed.drop(columns="member"), mixed["member"])
    assert search.best_params_["infonceencoder__view"] in grid["infonceencoder__view"]
    assert "Corruption(rate=0.8, both=True)" in str(search.cv_results_["params"])
    warm, later = InfoNCEEncoder(**quick, warm_start=True).fit(mixed), []
    warm.set_params(view=lambda x, generator: later.append(1) or (x, x)).fit(mixed)
    assert later


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (Corruption, r"not a class; got Corruption. Create an object, .*view=Corruption\(0.5\)"),
        (lambda x, generator: x, r"two tensors of shape \(200, 8\).*got a Tensor of 200: \(8,\)"),
        (lambda x, generator: (x, x, x), r"got a tuple of 3: \(200, 8\), \(200, 8\), \(200, 8\)"),
        (lambda x, generator: (x, x[:, 1:]), r"got a tuple of 2: \(200, 8\), \(200, 7\)"),
    ],
)
@pytest.mark.parametrize("encoder", [AMDIMEncoder, InfoNCEEncoder])
def test_invalid_views_raise(encoder, view, message, quick):
    with pytest.raises(ValueError, match=message):
        encoder(**quick, view=view).fit(make_mixed())
