"""Every column kind: encoding, probabilities, samples, densities, missing values."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from cmim_sklearn._likelihoods import LIKELIHOODS
from cmim_sklearn._likelihoods.gaussian import Gaussian
from cmim_sklearn._tables.moments import MOMENTS
from tests.helpers import fitted_likelihood, measured, objects, random_params


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_decode_inverts_encode(kind):
    likelihood, columns = fitted_likelihood(kind)
    encoded = likelihood.encode(columns)
    assert encoded.shape == (60, likelihood.n_columns)
    assert encoded.dtype == np.float32
    for before, after in zip(columns, likelihood.decode(encoded), strict=True):
        if before.dtype.kind in "OMm":
            assert before.tolist() == after.tolist()
        else:
            np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_state_restores_the_likelihood(kind):
    likelihood, columns = fitted_likelihood(kind)
    again = LIKELIHOODS[kind](**likelihood.state())
    np.testing.assert_array_equal(again.encode(columns), likelihood.encode(columns))
    again.load_state_dict(likelihood.state_dict())
    x = torch.from_numpy(likelihood.encode(columns))
    params = random_params(likelihood, len(x))
    observed = likelihood.observed(x)
    assert torch.equal(
        again.log_prob(params, x, observed), likelihood.log_prob(params, x, observed)
    )


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_shapes_and_missing_values(kind):
    likelihood, columns = fitted_likelihood(kind)
    x = torch.from_numpy(likelihood.encode(columns))
    observed = likelihood.observed(x)
    assert observed.shape == x.shape
    assert not observed[5].any()
    params = random_params(likelihood, len(x))
    assert likelihood.inputs(x, observed).shape == (len(x), likelihood.n_inputs)
    assert (likelihood.inputs(x, observed)[5] == 0).all()
    log_prob = likelihood.log_prob(params, x, observed)
    assert log_prob.shape == x.shape
    assert (log_prob[5] == 0).all()
    assert torch.isfinite(log_prob).all()
    assert likelihood.point(params).shape == x.shape
    drawn = likelihood.sample(params, torch.Generator().manual_seed(0))
    assert drawn.shape == x.shape
    assert likelihood.observed(drawn).all()


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_gradients_are_finite_with_missing_values(kind):
    likelihood, columns = fitted_likelihood(kind)
    x = torch.from_numpy(likelihood.encode(columns))
    for share in (0.0, 0.5, 1.0):
        generator = torch.Generator().manual_seed(0)
        masked = x.masked_fill(torch.rand(x.shape, generator=generator) < share, torch.nan)
        params = random_params(likelihood, len(x)).requires_grad_()
        likelihood.log_prob(params, masked, likelihood.observed(masked)).sum().backward()
        assert torch.isfinite(params.grad).all()
        for parameter in likelihood.parameters():
            assert torch.isfinite(parameter.grad).all()


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_samples_follow_log_prob(kind):
    likelihood, _ = fitted_likelihood(kind)
    params = random_params(likelihood, 1).expand(40_000, -1)
    drawn = likelihood.sample(params, torch.Generator().manual_seed(0))
    if isinstance(likelihood, Gaussian):
        assert_close(drawn.mean(0), likelihood.point(params[:1])[0], atol=0.03, rtol=0)
        assert_close(drawn.std(0), likelihood.deviation, atol=0.03, rtol=0)
        return
    for c in range(likelihood.n_columns):
        values, counts = drawn[:, c].unique(return_counts=True)
        x = torch.zeros(len(values), likelihood.n_columns)
        x[:, c] = values
        log_prob = likelihood.log_prob(params[: len(values)], x, torch.ones_like(x, dtype=bool))
        assert_close(log_prob[:, c].exp(), counts / len(drawn), atol=0.02, rtol=0)


@pytest.mark.parametrize("kind", ["bernoulli", "categorical", "poisson"])
def test_probabilities_sum_to_one(kind):
    likelihood, _ = fitted_likelihood(kind)
    params = random_params(likelihood, 1)
    for c in range(likelihood.n_columns):
        top = {"bernoulli": 2, "poisson": 400}.get(kind) or likelihood.n_classes[c]
        x = torch.zeros(top, likelihood.n_columns)
        x[:, c] = torch.arange(top)
        observed = torch.ones_like(x, dtype=bool)
        log_prob = likelihood.log_prob(params.expand(top, -1), x, observed)
        assert log_prob[:, c].exp().sum().item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_columns_are_encoded_independently(kind):
    likelihood, columns = fitted_likelihood(kind)
    swapped = LIKELIHOODS[kind].fit(columns[::-1], ["two", "one"])
    assert swapped.n_params == likelihood.n_params
    np.testing.assert_array_equal(
        swapped.encode(columns[::-1]), likelihood.encode(columns)[:, ::-1]
    )


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_log_density_has_one_value_per_cell_and_0_if_missing(kind):
    likelihood, columns = fitted_likelihood(kind)
    cells = measured(likelihood, columns)
    assert cells.shape == (60, 2, likelihood.cell_width)
    log_p = likelihood.log_density(random_params(likelihood, 60), cells)
    assert log_p.shape == (60, 2)
    assert torch.isfinite(log_p).all()
    assert (log_p[5] == 0).all()
    assert (log_p[:5] != 0).all()


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_log_density_is_that_of_decoded_samples(kind):
    """Frequencies of decoded samples (in a bin, for real numbers) against `log_density`."""
    likelihood, _ = fitted_likelihood(kind)
    params = random_params(likelihood, 1, seed=3)
    drawn = likelihood.sample(params.expand(40_000, -1), torch.Generator().manual_seed(0))
    decoded = likelihood.decode(drawn.numpy(), drawn=True)
    for c, values in enumerate(decoded):
        if kind == "gaussian" and c == 0:  # real numbers: from 0 to 0.2, in 200 steps
            levels = 0.2 * (np.arange(200) + 0.5) / 200
            share = np.array([((values > 0) & (values < 0.2)).mean()])
        elif values.dtype.kind in "Mm":
            levels, counts = np.unique(values, return_counts=True)
            share = counts / len(values)
        else:
            levels, counts = np.unique(values.astype(str), return_counts=True)
            first = {str(v): v for v in values.tolist()[::-1]}
            share = counts / len(values)
            levels = [first[level] for level in levels]
        columns = [np.full(len(levels), np.nan), np.full(len(levels), np.nan)]
        if likelihood.takes == "category":
            columns = [np.full(len(levels), None, object) for _ in range(2)]
            columns[c] = objects(*levels)
        elif likelihood.takes in MOMENTS:
            columns = [np.full(len(levels), "NaT", of.dtype) for of in decoded]
            columns[c] = levels
        else:
            columns[c] = np.asarray(levels, float)
        log_p = likelihood.log_density(
            params.expand(len(levels), -1), measured(likelihood, columns)
        )
        p = log_p[:, c].exp().numpy()
        p = np.array([p.sum() * 0.2 / 200]) if kind == "gaussian" and c == 0 else p
        np.testing.assert_allclose(p, share, atol=0.01)


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_densities_of_several_codes_are_those_of_repeated_cells(kind):
    """Params of 3 codes for each row, or of 3 codes for all rows, without repeating cells."""
    likelihood, columns = fitted_likelihood(kind)
    cells = measured(likelihood, columns)
    params = random_params(likelihood, 180).view(3, 60, -1)
    for method in (likelihood.log_density, likelihood.surrogate, likelihood.surrogate_gradient):
        for some in (params, params[:, :1]):
            found = method(some, cells.unsqueeze(0))
            every = some.expand(3, 60, -1).flatten(0, 1)
            expected = method(every, cells.repeat(3, 1, 1)).view(3, 60, -1)
            assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_surrogate_matches_its_gradient_and_fisher_factor_its_curvature(kind):
    likelihood, columns = fitted_likelihood(kind)
    cells = measured(likelihood, columns).double()
    likelihood = likelihood.double()
    params = random_params(likelihood, 60).double().requires_grad_()
    gradient = likelihood.surrogate_gradient(params, cells)
    (expected,) = torch.autograd.grad(likelihood.surrogate(params, cells).sum(), params)
    assert_close(gradient, expected)
    assert (gradient[5] == 0).all()
    # The Fisher information is minus the expected second derivative, which for these kinds does
    # not depend on the value.
    with torch.no_grad():
        eye = torch.eye(likelihood.n_params, dtype=torch.float64).expand(60, -1, -1)
        root = likelihood.fisher_factor(eye, params, cells)
    information = root.transpose(1, 2) @ root
    step = 1e-5
    for k in range(likelihood.n_params):
        moved = params.detach().clone()
        moved[:, k] += step
        slope = (likelihood.surrogate_gradient(moved, cells) - gradient.detach()) / step
        assert_close(information[:, k], -slope, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_expected_is_the_mean_or_mode_of_samples(kind):
    likelihood, _ = fitted_likelihood(kind)
    params = torch.stack([random_params(likelihood, 3, seed=s) for s in (1, 2)], 1)
    weights = torch.tensor([[0.25, 0.75]] * 3)
    expected = likelihood.expected(params, weights)
    last = likelihood.n_columns - 1
    (alone,) = likelihood.expected(params, weights, [last])
    assert alone.tolist() == expected[last].tolist()
    n = 40_000
    for row in range(3):
        mixed = params[row][
            (torch.arange(n) % 4 > 0).long()
        ]  # the first code for a quarter of the samples
        drawn = likelihood.sample(mixed, torch.Generator().manual_seed(0))
        for c, values in enumerate(likelihood.decode(drawn.numpy(), drawn=True)):
            if likelihood.takes in MOMENTS:  # rounded to a step
                clock = likelihood.clocks[c]
                counts, found = clock.relative(values), clock.relative(expected[c][row : row + 1])
                assert found == pytest.approx(counts.mean(), abs=0.5 + 0.04 * counts.std())
            elif kind in ("gaussian", "poisson"):
                spread = values.std()
                assert expected[c][row] == pytest.approx(values.mean(), abs=0.04 * spread)
            else:
                counts = {v: (values == v).mean() for v in set(values.tolist())}
                assert counts[expected[c][row]] > max(counts.values()) - 0.02
