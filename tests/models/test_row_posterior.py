"""Row posterior: densities against closed forms and integrals, samples against conditionals."""

import copy
import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import multivariate_normal, norm
from torch import nn

from cmim_sklearn import CMIMEncoder
from cmim_sklearn._likelihoods.gaussian import MIN_SCALE
from cmim_sklearn._likelihoods.scaling import SCALINGS
from cmim_sklearn._models import row_posterior
from cmim_sklearn._models.latent_model import LatentModel
from cmim_sklearn._models.latent_prior import LatentPrior
from cmim_sklearn._models.row_posterior import N_DRAWS, RowPosterior
from cmim_sklearn._tables.read import read
from cmim_sklearn.latents import POSTERIORS
from tests.helpers import make_mixed

LINEAR = {
    "hidden_layer_sizes": (),
    "numeric_scaling": None,
    "latent_prior": "normal",
    "max_iter": 30,
    "random_state": 0,
}
SMALL = {"max_iter": 40, "hidden_layer_sizes": (32,), "n_components": 4, "random_state": 0}


@pytest.fixture(scope="module")
def table_and_encoder():
    table = make_mixed()
    return table, CMIMEncoder(**SMALL).fit(table)


def linear_rows(n_components, n_rows, seed):
    loadings = np.random.RandomState(0).randn(n_components, 12) / np.sqrt(n_components)
    rng = np.random.RandomState(seed)
    return rng.randn(n_rows, n_components) @ loadings + 0.3 * rng.randn(n_rows, 12) + 1


@pytest.fixture(scope="module", params=[2, 8])
def linear(request):
    """A linear-Gaussian encoder, the mean and covariance of its rows, and new rows."""
    encoder = CMIMEncoder(request.param, **LINEAR).fit(linear_rows(request.param, 1000, 1))
    model = encoder.net_.module
    weight, bias = (p.detach().cpu().double().numpy() for p in model.decoder.output.parameters())
    noise = model.likelihood.blocks[0].deviation.cpu().double().numpy()
    fresh = linear_rows(request.param, 100, 2)
    return encoder, bias, weight @ weight.T + np.diag(noise**2), fresh


def test_linear_gaussian_rows_have_the_closed_form(linear):
    encoder, mean, covariance, fresh = linear
    scores, errors = encoder.score_samples(fresh, return_error=True)
    expected = multivariate_normal(mean, covariance).logpdf(fresh)
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert errors.max() < 1e-4
    assert encoder.score(fresh) == pytest.approx(expected.mean(), abs=1e-4)


def test_missing_cells_are_integrated_over(linear):
    encoder, mean, covariance, fresh = linear
    seen = [0, 3, 4, 11]
    partial = np.full_like(fresh, np.nan)
    partial[:, seen] = fresh[:, seen]
    expected = multivariate_normal(mean[seen], covariance[np.ix_(seen, seen)]).logpdf(
        fresh[:, seen]
    )
    np.testing.assert_allclose(encoder.score_samples(partial), expected, atol=1e-4)
    np.testing.assert_allclose(encoder.score_samples(np.full((2, 12), np.nan)), 0, atol=1e-9)


def conditional(mean, covariance, fresh, seen, hidden):
    gain = covariance[np.ix_(hidden, seen)] @ np.linalg.inv(covariance[np.ix_(seen, seen)])
    expected = mean[hidden] + (fresh[:, seen] - mean[seen]) @ gain.T
    left = covariance[np.ix_(hidden, hidden)] - gain @ covariance[np.ix_(seen, hidden)]
    return expected, left


def test_imputed_means_and_samples_have_the_conditional_distribution(linear):
    encoder, mean, covariance, fresh = linear
    hidden, seen = [1, 5], [c for c in range(12) if c not in (1, 5)]
    partial = fresh.copy()
    partial[:, hidden] = np.nan
    expected, left = conditional(mean, covariance, fresh, seen, hidden)
    spread = np.sqrt(np.diag(left))
    posterior = RowPosterior(encoder.net_.module, encoder._latents, encoder._heads)
    exact = posterior.map(
        lambda draws, rows: dict(
            enumerate(posterior.likelihood.expected(draws.params, draws.shares()))
        ),
        encoder.table_.measure(read(partial)),
    )
    for k, c in enumerate(hidden):
        np.testing.assert_allclose(exact[c], expected[:, k], atol=1e-3 * spread.max())
    # impute also uses the encoder, which is a little less exact than the closed form.
    gap = encoder.impute(partial)[:, hidden] - expected
    assert (np.sqrt((gap**2).mean(0)) < 0.5 * spread).all()
    draws = np.stack([d[:, hidden] for d in encoder.impute(partial, n_draws=200, random_state=0)])
    apart = (draws - expected).reshape(-1, 2)
    np.testing.assert_allclose(np.cov(apart.T), left, atol=0.08 * spread.max() ** 2)


def test_conditional_samples_have_the_conditional_distribution(linear):
    encoder, mean, covariance, fresh = linear
    given = {2: float(fresh[0, 2]), 7: float(fresh[0, 7])}
    seen, hidden = [2, 7], [0, 1, 9]
    drawn = encoder.sample(10_000, conditions=given, random_state=0)
    expected, left = conditional(mean, covariance, fresh[:1], seen, hidden)
    np.testing.assert_allclose(drawn[:, hidden].mean(0), expected[0], atol=0.1)
    np.testing.assert_allclose(np.cov(drawn[:, hidden].T), left, atol=0.06 * left.max())
    assert (drawn[:, seen] == fresh[0, seen]).all()


def test_scores_agree_with_the_moments_of_samples(linear):
    encoder, _, _, fresh = linear
    drawn = encoder.sample(20_000, random_state=0)
    from_samples = multivariate_normal(drawn.mean(0), np.cov(drawn.T)).logpdf(fresh)
    assert encoder.score(fresh) == pytest.approx(from_samples.mean(), abs=0.1)


def density_of(encoder, table, n_draws=N_DRAWS):
    """Density of each row, with noise for each row, so that errors average out in a sum."""
    posterior = RowPosterior(encoder.net_.module, encoder._latents, encoder._heads)
    generator = torch.Generator(posterior.device).manual_seed(0)
    cells = encoder.table_.measure(read(table))
    scores = posterior.map(
        lambda draws, rows: {"score": draws.log_density()}, cells, n_draws, generator
    )
    return np.exp(scores["score"])


@pytest.mark.parametrize("scaling", SCALINGS)
def test_density_of_one_column_integrates_to_one(scaling):
    rng = np.random.RandomState(0)
    X = np.concatenate([rng.randn(150) - 2, 0.5 * rng.randn(150) + 2])[:, None]
    encoder = CMIMEncoder(**SMALL, numeric_scaling=scaling).fit(X)
    grid = np.linspace(-10, 10, 1001)[:, None]
    total = density_of(encoder, grid).sum() * (grid[1, 0] - grid[0, 0])
    assert total == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_density_of_two_columns_integrates_to_one(scaling):
    rng = np.random.RandomState(0)
    x = rng.randn(300)
    X = np.column_stack([x, x**2 + 0.3 * rng.randn(300)])
    encoder = CMIMEncoder(**SMALL, numeric_scaling=scaling).fit(X)
    # The quantile map makes steps in the density, which need a finer grid.
    shape = (60, 80) if scaling == "quantile" else (40, 54)
    axes = np.linspace(-6, 6, shape[0]), np.linspace(-4, 14, shape[1])
    grid = np.array(list(itertools.product(*axes)))
    area = np.prod([axis[1] - axis[0] for axis in axes])
    total = density_of(encoder, grid).sum() * area
    assert total == pytest.approx(1, abs=0.02 if scaling == "quantile" else 0.01)


def test_probabilities_of_all_combinations_of_levels_sum_to_one():
    rng = np.random.RandomState(0)
    h = rng.randn(300)
    X = pd.DataFrame(
        {
            "one": np.where(h > 0, "u", np.where(rng.rand(300) < 0.5, "v", "w")),
            "two": np.where(h + 0.5 * rng.randn(300) > 0.3, "x", "y"),
            "yes": h > 0.8,
            "pair": np.where(rng.rand(300) < 0.3, 7, 3),
        }
    )
    encoder = CMIMEncoder(**SMALL).fit(X)
    rows = pd.DataFrame(list(itertools.product(*[X[c].unique() for c in X])), columns=X.columns)
    p = np.exp(encoder.score_samples(rows.astype({"yes": bool})))
    assert p.sum() == pytest.approx(1, abs=0.01)
    # sample generates rows with these probabilities.
    drawn = encoder.sample(4000, random_state=0).value_counts(normalize=True)
    expected = pd.Series(p, index=pd.MultiIndex.from_frame(rows))
    assert drawn.sub(expected, fill_value=0).abs().sum() < 0.1


def test_density_of_a_number_and_a_level_integrates_to_one():
    rng = np.random.RandomState(0)
    x = rng.randn(300)
    X = pd.DataFrame({"x": x, "level": np.where(x + 0.5 * rng.randn(300) > 0, "high", "low")})
    encoder = CMIMEncoder(**SMALL).fit(X)
    grid, total = np.linspace(-6, 6, 601), 0
    for level in ("high", "low"):
        here = density_of(encoder, pd.DataFrame({"x": grid, "level": level}))
        share = here.sum() * (grid[1] - grid[0])
        alone = density_of(encoder, pd.DataFrame({"x": [np.nan], "level": level}), 4096)
        assert share == pytest.approx(alone[0], abs=0.01)
        total += share
    assert total == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
@pytest.mark.parametrize("shape", ["counts", "mostly zero"])
def test_probabilities_of_all_whole_numbers_sum_to_one(likelihood, shape):
    rng = np.random.RandomState(0)
    counts = rng.poisson(4, 300)
    values = counts if shape == "counts" else np.where(rng.rand(300) < 0.8, 0, 20 * counts)
    X = pd.DataFrame({"n": values})
    encoder = CMIMEncoder(**SMALL, likelihoods={"n": likelihood}).fit(X)
    span = int(values.max())
    every = pd.DataFrame({"n": np.arange(-3 * span, 5 * span)}).query(
        "n >= 0" if likelihood == "poisson" else "n == n"
    )
    p = pd.Series(density_of(encoder, every, 512), index=every["n"])
    assert p.sum() == pytest.approx(1, abs=0.01)
    assert np.isfinite(encoder.score_samples(pd.DataFrame({"n": [10 * span]}))).all()
    # Numbers outside the training range count as its ends, as in generated rows.
    drawn = encoder.sample(4000, random_state=0)["n"].value_counts(normalize=True)
    assert drawn.sub(p, fill_value=0).abs().sum() < 0.12


def test_column_with_an_atom_has_a_probability_there_and_a_density_elsewhere():
    rng = np.random.RandomState(0)
    X = np.where(rng.rand(500) < 0.6, 0.0, np.exp(rng.randn(500)))[:, None]
    encoder = CMIMEncoder(**SMALL).fit(X)
    at_zero = np.exp(encoder.score_samples([[0.0]]))[0]
    grid = np.linspace(-2, 60, 2002)[:, None] + 1e-3
    elsewhere = density_of(encoder, grid).sum() * (grid[1, 0] - grid[0, 0])
    assert at_zero == pytest.approx((encoder.sample(4000, random_state=0) == 0).mean(), abs=0.03)
    assert at_zero + elsewhere == pytest.approx(1, abs=0.02)


def test_rare_levels_share_their_bin_and_an_unknown_level_is_smoothed():
    rng = np.random.RandomState(0)
    names = ["a"] * 60 + ["b"] * 50 + ["c"] * 6 + ["d"] * 3 + ["e"]
    X = pd.DataFrame({"name": rng.permutation(names)})
    encoder = CMIMEncoder(**SMALL, max_categories=3).fit(X)
    p = np.exp(encoder.score_samples(pd.DataFrame({"name": list("abcde")})))
    assert p.sum() == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(p[2:] / p[2:].sum(), [0.6, 0.3, 0.1], atol=1e-6)
    unknown = encoder.score_samples(pd.DataFrame({"name": ["zzz"]}))
    assert np.exp(unknown[0]) == pytest.approx(1 / (120 + 5 + 1))


def test_density_is_in_the_unit_of_the_column():
    rng = np.random.RandomState(0)
    X = rng.randn(300, 2)
    one = CMIMEncoder(**SMALL).fit(X)
    other = CMIMEncoder(**SMALL).fit(X * [1000, 1])
    gap = one.score_samples(X) - other.score_samples(X * [1000, 1])
    np.testing.assert_allclose(gap, np.log(1000), atol=1e-3)


def test_error_is_the_standard_deviation_over_noise(table_and_encoder):
    table, encoder = table_and_encoder
    cells = encoder.table_.measure(read(table[:20]))
    posterior = RowPosterior(encoder.net_.module, encoder._latents, encoder._heads)
    runs = [
        posterior.map(
            lambda draws, rows: {"score": draws.log_density(), "error": draws.error()},
            cells,
            N_DRAWS,
            generator=torch.Generator(posterior.device).manual_seed(seed),
        )
        for seed in range(40)
    ]
    spread = np.std([run["score"] for run in runs], axis=0)
    stated = np.mean([run["error"] for run in runs], axis=0)
    # Samples are stratified, so they vary less than the error of independent samples.
    assert (spread < 2 * stated + 1e-3).all()
    assert spread.mean() > 0.2 * stated.mean()


def test_scores_are_within_their_errors_of_a_long_run(table_and_encoder):
    table, encoder = table_and_encoder
    posterior = RowPosterior(encoder.net_.module, encoder._latents, encoder._heads)
    cells = encoder.table_.measure(read(table[:40]))
    cells[20:, : cells.shape[1] // 2] = np.nan

    def score(draws, rows):
        return {"score": draws.log_density(), "error": draws.error()}

    # A generator gives each row its own noise: the errors are independent.
    generator = torch.Generator(posterior.device).manual_seed(0)
    found = posterior.map(score, cells, N_DRAWS, generator)
    exact = posterior.map(score, cells, 32 * N_DRAWS, generator)["score"]
    apart = np.abs(found["score"] - exact)
    away = apart / np.hypot(found["error"], 1e-3)
    assert (away < 2).mean() > 0.9
    assert away.max() < 5
    assert apart.mean() < 0.1


def test_proposals_are_close_to_the_posterior(table_and_encoder):
    """The effective sample size is a good part of the number of samples."""
    table, encoder = table_and_encoder
    posterior = RowPosterior(encoder.net_.module, encoder._latents, encoder._heads)
    size = posterior.map(
        lambda draws, rows: {"size": 1 / draws.shares().square().sum(1)},
        encoder.table_.measure(read(table)),
        N_DRAWS,
    )["size"]
    assert np.median(size) > 0.3 * N_DRAWS


def test_calibration_finds_the_noise_of_linear_rows():
    X = linear_rows(2, 3000, 1)
    fast = {"max_iter": 20, "learning_rate_init": 2e-2, "numeric_scaling": "standard"}
    encoder = CMIMEncoder(2, **LINEAR | fast).fit(X)
    block = encoder.net_.module.likelihood.blocks[0]
    noise = block.deviation.cpu().numpy() * X.std(0)
    assert noise.mean() == pytest.approx(0.3, abs=0.06)
    constant = CMIMEncoder(**SMALL).fit(np.ones((50, 2)))
    assert (constant.net_.module.likelihood.blocks[0].deviation >= MIN_SCALE - 1e-6).all()


def test_densities_and_samples_use_a_copy_on_the_cpu_without_float64(
    table_and_encoder, monkeypatch
):
    table, _ = table_and_encoder

    def results():
        encoder = copy.deepcopy(table_and_encoder[1]).set_params(device="cpu")
        yield encoder.score_samples(table[:20])
        yield encoder.sample(5, random_state=0)
        yield encoder.sample(5, conditions={"age": 40}, random_state=0)
        yield encoder.impute(table[:20])
        yield encoder.impute(table[:20], n_draws=1, random_state=0)[0]

    expected = list(results())
    copies = []
    monkeypatch.setattr(
        row_posterior,
        "exact_device",
        lambda device: copies.append(device) or torch.device("cpu", 0),
    )
    for found, other in zip(results(), expected, strict=True):
        np.testing.assert_array_equal(np.asarray(found), np.asarray(other))
    assert len(copies) == 2  # one for samples without conditions, one for everything else


def test_normal_column_has_its_normal_density():
    X = 5 + 3 * np.random.RandomState(0).randn(1000, 1)
    fast = {"learning_rate_init": 2e-2, "numeric_scaling": "standard"}
    encoder = CMIMEncoder(**SMALL, **fast).fit(X)
    grid = np.linspace(0, 10, 21)[:, None]
    gap = encoder.score_samples(grid) - norm(5, 3).logpdf(grid[:, 0])
    assert np.abs(gap).mean() < 0.15


class KnownNoise(nn.Module):
    """Likelihood of one Gaussian column with a standard deviation of 0.05."""

    n_params = n_local = n_cells = 1

    def local(self, params):
        return params

    def surrogate(self, params, cells):
        return self.log_density(params, cells).sum(-1)

    def surrogate_gradient(self, params, cells):
        return (cells - params) / 0.05**2

    def fisher_factor(self, jacobian, params, cells):
        return jacobian / 0.05

    def log_density(self, params, cells):
        return torch.distributions.Normal(params, 0.05).log_prob(cells)


class Exponential(nn.Module):
    def forward(self, z):
        return z.exp()


def test_refinement_finds_the_mode_where_full_steps_overshoot():
    model = LatentModel(nn.Linear(1, 1), POSTERIORS["fixed"](1), Exponential(), KnownNoise())
    factors = np.full((2, 1, 1), 0.7)
    prior = LatentPrior([0.5, 0.5], [[-1.5], [1.5]], factors, [0.0], [[1.0]])
    posterior = RowPosterior(model, prior)
    cells = torch.linspace(-0.9, 0.9, 9, dtype=torch.float64)[:, None]
    found = posterior.map(lambda draws, rows: {"score": draws.log_density()}, cells, N_DRAWS)
    grid = torch.linspace(-5, 5, 4001, dtype=torch.float64)
    log_prior = torch.distributions.Normal(torch.tensor([[-1.5], [1.5]]), 0.7).log_prob(grid)
    log_joint = KnownNoise().log_density(grid.exp(), cells) + log_prior.logsumexp(0) - np.log(2)
    expected = log_joint.logsumexp(1) + np.log(10 / 4000)
    np.testing.assert_allclose(found["score"], expected, atol=0.1)
