"""Learners that tell rows apart: their losses by closed forms, and encoders without a decoder."""

import inspect
import math
import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch.distributions import Independent, Normal, kl_divergence
from torch.testing import assert_close

import cmim_sklearn
from cmim_sklearn import (
    AMDIMEncoder,
    BarlowTwinsEncoder,
    CMIMEncoder,
    Corruption,
    InfoNCEEncoder,
    VICRegEncoder,
)
from cmim_sklearn._encoders.barlow_twins import barlow_twins
from cmim_sklearn._encoders.base.two_view import _ContrastiveEncoder
from cmim_sklearn._encoders.infonce import infonce, nce
from cmim_sklearn._encoders.super_info import divergence, superinfo
from cmim_sklearn._encoders.vicreg import vicreg
from cmim_sklearn._models.two_view import View, Views
from cmim_sklearn.latents import DiagonalNormal, standard_normal

ENCODERS = [
    encoder
    for encoder in vars(cmim_sklearn).values()
    if inspect.isclass(encoder) and issubclass(encoder, _ContrastiveEncoder)
]
GENERATIVE = (
    "inverse_transform", "reconstruct", "sample", "impute", "score", "score_samples",
    "score_columns",
)  # fmt: skip


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def views(first, second):
    def view(z):
        return View(z, DiagonalNormal(z, torch.full((len(z), 1), -1.0)), z)

    return Views(view(first), view(second))


def orthonormal(n, seed=0):
    return torch.linalg.qr(randn(n, n, seed=seed))[0]


# -- losses ----------------------------------------------------------------------------------------


def test_nce_of_orthogonal_rows_and_of_rows_all_alike():
    q, tau = orthonormal(5), 0.5
    expected = math.log(math.exp(1 / tau) + 4) - 1 / tau
    assert_close(nce(q, 3 * q, tau), torch.full((5,), expected))
    same = torch.ones(5, 3)
    assert_close(nce(same, same, tau), torch.full((5,), math.log(5)))
    both = infonce(views(q, q.roll(1, 0)), temperature=tau)["contrast"]
    assert_close(both, torch.full((5,), math.log(math.exp(1 / tau) + 4)))


def test_nce_bounds_the_information_that_views_share():
    """log n - loss is below I for any codes: here I = -d/2 log(1 - rho^2) of Gaussian views."""
    rho, d, n = 0.9, 2, 2000
    first = randn(n, d)
    second = rho * first + math.sqrt(1 - rho**2) * randn(n, d, seed=1)
    information = -d / 2 * math.log(1 - rho**2)
    bounds = [math.log(n) - nce(first, second, tau).mean().item() for tau in (0.05, 0.2, 1.0)]
    assert max(bounds) < information
    assert max(bounds) > 0.5


def test_vicreg_of_whitened_and_of_collapsed_views():
    x = randn(200, 4)
    white = (x - x.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T
    terms = vicreg(views(white, white))
    assert terms["invariance"].abs().max() == 0
    assert terms["variance"][0].item() == pytest.approx(0, abs=1e-4)
    assert terms["covariance"][0].item() == pytest.approx(0, abs=1e-6)
    flat = torch.zeros(50, 4)
    terms = vicreg(views(flat, flat + 1))
    assert_close(terms["invariance"], torch.full((50,), 25.0))
    assert terms["variance"][0].item() == pytest.approx(25 * (1 - 1e-2))
    twins = white[:, [0, 0]]  # two features the same: covariance 1, twice in the matrix, two views
    assert vicreg(views(twins, twins))["covariance"][0].item() == pytest.approx(2.0, rel=1e-4)


def test_barlow_twins_by_hand():
    x = randn(300, 3)
    assert barlow_twins(views(x, 7 * x + 2))["invariance"][0].item() == pytest.approx(0, abs=1e-6)
    correlation = np.corrcoef(x.numpy().T)
    off = (correlation**2).sum() - 3
    terms = barlow_twins(views(x, x), redundancy_weight=0.5)
    assert terms["redundancy"][0].item() == pytest.approx(0.5 * off, rel=1e-3)
    assert barlow_twins(views(x, -x))["invariance"][0].item() == pytest.approx(12, rel=1e-4)


def test_superinfo_is_its_three_bounds():
    one = DiagonalNormal(randn(6, 3), randn(6, 3, seed=1))
    other = DiagonalNormal(randn(6, 3, seed=2), randn(6, 3, seed=3))

    def as_torch(q):
        return Independent(Normal(q.mean, (0.5 * q.log_variance).exp()), 1)

    assert_close(divergence(one, other), kl_divergence(as_torch(one), as_torch(other)))
    batch = Views(View(one.mean, one, one.mean), View(other.mean, other, other.mean))
    terms = superinfo(batch, superfluous_weight=-2.0, compression_weight=3.0)
    assert_close(terms["superfluous"], -(divergence(one, other) + divergence(other, one)))
    prior = standard_normal(one.mean)
    assert_close(terms["compression"], 3 * (divergence(one, prior) + divergence(other, prior)))
    assert_close(terms["contrast"], infonce(batch)["contrast"])


@pytest.mark.parametrize("loss", [infonce, vicreg, barlow_twins, superinfo])
def test_permuting_rows_permutes_the_terms_and_one_row_is_finite(loss):
    first, second = randn(7, 4), randn(7, 4, seed=1)
    order = torch.tensor([3, 1, 6, 0, 2, 5, 4])
    there = loss(views(first, second))
    here = loss(views(first[order], second[order]))
    for name, term in there.items():
        assert_close(here[name], term[order])
        assert term.shape == (7,)
    for term in loss(views(first[:1], second[:1])).values():
        assert torch.isfinite(term).all()


# -- encoders --------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoder", ENCODERS)
def test_there_is_no_decoder_and_nothing_that_needs_one(encoder, mixed, quick):
    fitted = encoder(**quick).fit(mixed)
    for name in GENERATIVE:
        assert not hasattr(fitted, name)
        assert hasattr(CMIMEncoder, name)
    parameters = fitted.get_params()
    assert not {"decoder", "embedding", "latent_prior", "likelihoods", "posterior"} & set(
        parameters
    )


@pytest.mark.parametrize("encoder", ENCODERS)
def test_an_encoder_repeats_travels_and_goes_on(encoder, mixed, quick):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    fitted = encoder(**quick).fit(mixed)
    Z = fitted.transform(mixed)
    assert Z.shape == (200, 4)
    assert Z.dtype == np.float32
    assert_array_equal(clone(fitted).fit_transform(mixed), Z)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert_array_equal(np.random.get_state()[1], before[1])
    assert_array_equal(pickle.loads(pickle.dumps(fitted)).transform(mixed), Z)
    assert_allclose(fitted.transform(mixed[::-1])[::-1], Z, atol=1e-6)
    assert fitted.set_params(warm_start=True).fit(mixed).n_iter_ == 6
    held_out = encoder(**quick, early_stopping=True).fit(mixed)
    assert len(held_out.validation_scores_) == held_out.n_iter_
    with pytest.raises(
        ValueError, match=f"1 sample.* minimum of 2 is required by {encoder.__name__}"
    ):
        encoder(**quick).fit(mixed, X_val=mixed[:1])
    little = encoder(**quick, early_stopping=True).fit(mixed[:8])
    assert np.isfinite(little.validation_scores_).all()


def test_a_view_of_one_s_own_in_a_search(mixed, quick):
    seen = []

    def view(x, generator):
        seen.append(x.shape)
        return x, x.masked_fill(torch.rand(x.shape, generator=generator) < 0.5, torch.nan)

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
    ("view", "told"),
    [
        (Corruption, r"not a class; got Corruption. Create an object, .*view=Corruption\(0.5\)"),
        (lambda x, generator: x, r"two tensors of shape \(200, 8\).*got a Tensor of 200: \(8,\)"),
        (lambda x, generator: (x, x, x), r"got a tuple of 3: \(200, 8\), \(200, 8\), \(200, 8\)"),
        (lambda x, generator: (x, x[:, 1:]), r"got a tuple of 2: \(200, 8\), \(200, 7\)"),
    ],
)
@pytest.mark.parametrize("encoder", [AMDIMEncoder, InfoNCEEncoder])
def test_a_view_that_is_none_is_refused(encoder, view, told, mixed, quick):
    with pytest.raises(ValueError, match=told):
        encoder(**quick, view=view).fit(mixed)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: InfoNCEEncoder(temperature=0.0), "'temperature' parameter of InfoNCE.*Got 0.0"),
        (lambda: VICRegEncoder(variance_weight=-1.0), "'variance_weight' parameter.*Got -1.0"),
        (lambda: BarlowTwinsEncoder(view="scarf"), "'view' parameter of Barlow.*Got 'scarf'"),
        (lambda: AMDIMEncoder(n_groups=0), "'n_groups' parameter of AMDIMEncoder.*Got 0"),
        (lambda: AMDIMEncoder(projector_layer_sizes=()), r"must have a width at least.*Got \(\)"),
        (lambda: InfoNCEEncoder(projector_layer_sizes=(8, 0)), r"'projector.*Got \(8, 0\)"),
    ],
)
def test_bad_parameters(make, told):
    with pytest.raises(ValueError, match=told):
        make().fit([[0.0], [1.0], [2.0]])
