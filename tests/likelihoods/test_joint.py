"""Column kinds and scaling maps: probabilities, inverses, slopes, holes."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from cmim_sklearn import CMIMEncoder
from cmim_sklearn._likelihoods.categorical import Categorical
from cmim_sklearn._likelihoods.gaussian import MIN_SCALE, Gaussian
from cmim_sklearn._likelihoods.joint import LIKELIHOODS, Joint
from cmim_sklearn._likelihoods.poisson import Poisson
from cmim_sklearn._likelihoods.scaling import SCALINGS

HOLE = {"number": np.nan, "category": None}


def objects(*values):
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def columns_of(kind, n=60, seed=0):
    """Two raw columns that suit a kind, one hole in each."""
    rng = np.random.RandomState(seed)
    columns = {
        "gaussian": lambda: [rng.randn(n), rng.randint(-5, 5, n).astype(float)],
        "bernoulli": lambda: [rng.choice([3.0, 7.5], n), rng.choice([0.0, 1.0], n)],
        "categorical": lambda: [
            rng.choice(objects("a", "b", "c"), n),
            rng.choice(objects(1, "x", True, "y", 2.5), n),
        ],
        "poisson": lambda: [rng.poisson(3, n).astype(float), rng.poisson(100, n).astype(float)],
    }[kind]()
    for column in columns:
        column[5] = HOLE[LIKELIHOODS[kind].takes]
    return columns


def fitted(kind, **options):
    columns = columns_of(kind)
    likelihood = LIKELIHOODS[kind].fit(columns, ["one", "two"], **options)
    if kind == "gaussian":
        with torch.no_grad():
            likelihood.deviation.copy_(torch.tensor([0.5, 0.2]))
    return likelihood, columns


def random_params(likelihood, n, seed=0):
    return torch.randn(n, likelihood.n_params, generator=torch.Generator().manual_seed(seed))


# Every kind. --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_values_survive_encode_then_decode(kind):
    likelihood, columns = fitted(kind)
    encoded = likelihood.encode(columns)
    assert encoded.shape == (60, likelihood.n_columns)
    assert encoded.dtype == np.float32
    for before, after in zip(columns, likelihood.decode(encoded), strict=True):
        if before.dtype == object:
            assert before.tolist() == after.tolist()
        else:
            np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_state_makes_the_same_kind_again(kind):
    likelihood, columns = fitted(kind)
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
def test_shapes_and_holes(kind):
    likelihood, columns = fitted(kind)
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
def test_gradients_are_finite_under_any_pattern_of_holes(kind):
    likelihood, columns = fitted(kind)
    x = torch.from_numpy(likelihood.encode(columns))
    for share in (0.0, 0.5, 1.0):
        generator = torch.Generator().manual_seed(0)
        holed = x.masked_fill(torch.rand(x.shape, generator=generator) < share, torch.nan)
        params = random_params(likelihood, len(x)).requires_grad_()
        likelihood.log_prob(params, holed, likelihood.observed(holed)).sum().backward()
        assert torch.isfinite(params.grad).all()
        for parameter in likelihood.parameters():
            assert torch.isfinite(parameter.grad).all()


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_a_draw_has_the_frequency_its_log_prob_says(kind):
    likelihood, _ = fitted(kind)
    params = random_params(likelihood, 1).expand(40_000, -1)
    drawn = likelihood.sample(params, torch.Generator().manual_seed(0))
    if kind == "gaussian":
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
    likelihood, _ = fitted(kind)
    params = random_params(likelihood, 1)
    for c in range(likelihood.n_columns):
        top = {"bernoulli": 2, "poisson": 400}.get(kind) or likelihood.n_classes[c]
        x = torch.zeros(top, likelihood.n_columns)
        x[:, c] = torch.arange(top)
        observed = torch.ones_like(x, dtype=bool)
        log_prob = likelihood.log_prob(params.expand(top, -1), x, observed)
        assert log_prob[:, c].exp().sum().item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_columns_are_scored_each_by_itself(kind):
    likelihood, columns = fitted(kind)
    swapped = LIKELIHOODS[kind].fit(columns[::-1], ["two", "one"])
    assert swapped.n_params == likelihood.n_params
    np.testing.assert_array_equal(
        swapped.encode(columns[::-1]), likelihood.encode(columns)[:, ::-1]
    )


# Gaussian. ----------------------------------------------------------------------------------------


def test_gaussian_density_is_the_normal_one():
    likelihood, _ = fitted("gaussian")
    x, params = torch.randn(10, 2), torch.randn(10, 2)
    scale = likelihood.log_scale().exp()
    expected = torch.distributions.Normal(params, scale).log_prob(x)
    assert_close(likelihood.log_prob(params, x, torch.ones_like(x, dtype=bool)), expected)


def test_gaussian_scale_keeps_above_its_floor_and_goes_on_learning():
    likelihood, _ = fitted("gaussian")
    with torch.no_grad():
        likelihood.raw_scale.fill_(-2.0)
    assert_close(likelihood.log_scale().exp(), torch.full((2,), MIN_SCALE), atol=1e-4, rtol=0)
    likelihood.log_scale().sum().backward()
    assert (likelihood.raw_scale.grad > 0).all()


def test_whole_columns_decode_to_whole_numbers_inside_the_range():
    likelihood = Gaussian.fit([np.array([1.0, 2, 5, 9, 9]), np.array([0.5, 1, 2, 3, 4])], "ab")
    decoded = likelihood.decode(np.linspace(-9, 9, 50, dtype=np.float32)[:, None].repeat(2, 1))
    assert (decoded[0] == np.round(decoded[0])).all()
    assert (decoded[0].min(), decoded[0].max()) == (1, 9)
    assert (decoded[1].min(), decoded[1].max()) == (0.5, 4)
    assert (decoded[1] != np.round(decoded[1])).any()


def test_a_value_held_by_many_decodes_from_its_neighbourhood():
    rng = np.random.RandomState(0)
    amounts = np.where(rng.rand(1000) < 0.8, 0.0, np.exp(rng.randn(1000)))
    likelihood = Gaussian.fit([amounts], ["amount"])
    zero = likelihood.encode([np.zeros(1)])
    noisy = (zero + 0.1 * rng.randn(500, 1)).astype(np.float32)
    assert (likelihood.decode(noisy)[0] == 0).all()
    np.testing.assert_allclose(
        likelihood.decode(likelihood.encode([amounts]))[0], amounts, rtol=1e-4
    )


@pytest.mark.parametrize("values", [[], [4.0], [4.0] * 9, [1e30] * 3, [1e30, 1e30 + 1e15]])
@pytest.mark.parametrize("scaling", SCALINGS)
def test_degenerate_columns_encode_and_decode(values, scaling):
    column = np.array([*values, np.nan])
    likelihood = Gaussian.fit([column], ["c"], numeric_scaling=scaling)
    with np.errstate(over="ignore"):
        encoded = likelihood.encode([column])
    assert np.isnan(encoded[-1, 0])
    if values:
        np.testing.assert_allclose(likelihood.decode(encoded)[0][:-1], values, rtol=1e-5)


# Categorical. -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("levels", "repeats"), [(300, 1), (500, 1), (1500, 2)])
def test_columns_that_name_the_rows_are_warned_of(levels, repeats):
    column = objects(*(f"C{i}" for i in range(levels)), *(f"C{i}" for i in range(levels)))
    column = column[: levels * repeats]
    match = f"Column 'id' has {levels:,} different values in {levels * repeats:,} cells"
    with pytest.warns(UserWarning, match=match):
        Categorical.fit([column], ["id"])


@pytest.mark.parametrize("method", ["fit", "fit_schema", "partial_fit"])
def test_the_warning_of_names_points_to_the_line_that_asked(method):
    X = pd.DataFrame({"id": [f"C{i}" for i in range(300)]})
    encoder = CMIMEncoder(max_iter=1, hidden_layer_sizes=(4,), random_state=0)
    with pytest.warns(UserWarning, match="Column 'id'") as told:
        getattr(encoder, method)(X)
    assert [warning.filename for warning in told] == [__file__]


@pytest.mark.parametrize(("levels", "common"), [(90, 0), (250, 0), (500, 600)])
def test_columns_with_a_long_tail_are_not_warned_of(levels, common):
    cells = objects(*(f"C{i}" for i in range(levels)), *["x"] * common)
    likelihood = Categorical.fit([cells], ["tail"])  # a warning would be an error
    assert likelihood.n_classes == [min(levels + (common > 0), 256)]


def test_more_categories_are_the_way_to_have_them_without_a_warning():
    column = objects(*(f"C{i}" for i in range(500)))
    likelihood = Categorical.fit([column], ["zip"], max_categories=500)
    assert likelihood.n_classes == [500]


def test_rare_levels_share_a_bin_that_decodes_to_the_commonest_and_samples_by_frequency():
    column = objects(*["a"] * 50, *["b"] * 40, *["r"] * 6, *["s"] * 3, "t")
    likelihood = Categorical.fit([column], ["c"], max_categories=3)
    assert likelihood.n_classes == [3]
    assert likelihood.decode(likelihood.encode([column]))[0].tolist() == column.tolist()
    rare = torch.tensor([[-50.0, -50.0, 50.0]])
    assert likelihood.decode(likelihood.point(rare).numpy())[0].tolist() == ["r"]
    drawn = likelihood.sample(rare.expand(20_000, -1), torch.Generator().manual_seed(0))
    names, counts = np.unique(likelihood.decode(drawn.numpy())[0].astype(str), return_counts=True)
    assert names.tolist() == ["r", "s", "t"]
    np.testing.assert_allclose(counts / 20_000, [0.6, 0.3, 0.1], atol=0.02)
    x = torch.from_numpy(likelihood.encode([objects("r", "s", "t")]))
    log_prob = likelihood.log_prob(torch.zeros(3, 3), x, likelihood.observed(x))
    assert_close(log_prob.exp(), torch.full((3, 1), 1 / 3))


def test_unknown_levels_are_unobserved_and_marked():
    likelihood = Categorical.fit([objects("a", "b")], ["c"])
    encoded = likelihood.encode([objects("b", "zebra", None)])
    np.testing.assert_array_equal(encoded[:, 0], [1.0, -1.0, np.nan])
    assert likelihood.observed(torch.from_numpy(encoded)).flatten().tolist() == [True, False, False]


def test_columns_of_many_sizes_are_each_normalised():
    columns = [objects(*(f"{c}{i % size}" for i in range(60))) for c, size in enumerate((5, 2, 5))]
    likelihood = Categorical.fit(columns, "abc")
    params = random_params(likelihood, 1)
    x = torch.zeros(5, 3)
    x[:, 0] = torch.arange(5)
    total = likelihood.log_prob(params.expand(5, -1), x, torch.ones(5, 3, dtype=bool))
    assert total[:, 0].exp().sum().item() == pytest.approx(1)
    best = likelihood.point(params)
    scores = [
        likelihood.log_prob(params, best.index_fill(1, torch.tensor([0]), k), torch.ones(1, 3) > 0)
        for k in range(5)
    ]
    assert int(torch.stack(scores)[:, 0, 0].argmax()) == int(best[0, 0])


def test_one_hots_stand_where_their_classes_are_scored():
    columns = [objects("a", "b", "c", "a"), objects("u", "v", "u", "v")]
    likelihood = Categorical.fit(columns, "ab")
    x = torch.from_numpy(likelihood.encode(columns))
    observed = likelihood.observed(x)
    hot = likelihood.inputs(x, observed)
    assert_close(hot.sum(1), torch.full((4,), 2.0))
    # A one-hot times a large number is a sure prediction of the very same cells.
    assert_close(likelihood.log_prob(50 * hot, x, observed), torch.zeros(4, 2))


# Poisson and Bernoulli. ---------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [-1.0, 2.5])
def test_poisson_names_the_value_it_cannot_take(bad):
    with pytest.raises(ValueError, match=rf"'visits'.*row 1 holds {bad}"):
        Poisson.fit([np.array([3.0, bad])], ["visits"])


def test_a_bernoulli_column_of_fewer_than_two_values_is_read_as_0_and_1():
    columns = [np.array([1.0, np.nan, 1.0]), np.array([7.0, 3.0, 7.0]), np.full(3, np.nan)]
    law = LIKELIHOODS["bernoulli"].fit(columns, ["a", "b", "c"])
    assert law.values == [(0.0, 1.0), (3.0, 7.0), (0.0, 1.0)]
    for values, back in zip(columns, law.decode(law.encode(columns)), strict=True):
        np.testing.assert_array_equal(back, values)


def test_poisson_beyond_its_range_sums_to_what_is_left():
    """The highest count holds the chance of all above it, also where that is 0."""
    law = LIKELIHOODS["poisson"].fit([np.zeros(50)], ["a"])
    cells = torch.from_numpy(law.measure([np.array([0.0, 1.0])]))
    log_p = law.log_density(torch.full((2, 1), -1.0), cells)[:, 0]
    assert log_p[0].exp() == pytest.approx(1.0, abs=0.03)
    assert log_p[0] > log_p[1] + 3


def test_bernoulli_names_a_column_of_three_values():
    with pytest.raises(ValueError, match=r"'c'.*two distinct.*it has more, as \[1.0, 2.0, 3.0\]"):
        LIKELIHOODS["bernoulli"].fit([np.array([1.0, 2.0, 3.0])], ["c"])


# Joint. -------------------------------------------------------------------------------------------


def test_joint_orders_inputs_values_indicators_one_hots():
    gaussian = Gaussian.fit([np.array([1.0, 2.0, 4.0])], ["g"], numeric_scaling=None)
    categorical = Categorical.fit([objects("a", "b", "c")], ["c"])
    joint = Joint([gaussian, categorical])
    inputs = joint.inputs(torch.tensor([[2.5, 1.0], [torch.nan, torch.nan]]))
    assert inputs.tolist() == [[2.5, 1, 0, 1, 0], [0, 0, 0, 0, 0]]
    assert joint.n_inputs == 5


def test_joint_scores_each_block_with_its_own_parameters():
    parts = [fitted(kind)[0] for kind in LIKELIHOODS]
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


# Densities of raw cells. --------------------------------------------------------------------------


def cells_of(likelihood, columns):
    return torch.from_numpy(likelihood.measure(columns))


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_log_density_has_one_number_a_cell_and_none_for_holes(kind):
    likelihood, columns = fitted(kind)
    cells = cells_of(likelihood, columns)
    assert cells.shape == (60, 2, likelihood.cell_width)
    log_p = likelihood.log_density(random_params(likelihood, 60), cells)
    assert log_p.shape == (60, 2)
    assert torch.isfinite(log_p).all()
    assert (log_p[5] == 0).all()
    assert (log_p[:5] != 0).all()


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_log_density_is_that_of_draws_decoded(kind):
    """Frequencies of decoded draws, by probability or by density in a bin, against log_density."""
    likelihood, _ = fitted(kind)
    params = random_params(likelihood, 1, seed=3)
    drawn = likelihood.sample(params.expand(40_000, -1), torch.Generator().manual_seed(0))
    decoded = likelihood.decode(drawn.numpy(), drawn=True)
    for c, values in enumerate(decoded):
        if kind == "gaussian" and c == 0:  # real numbers: from 0 to 0.2, in 200 steps
            levels = 0.2 * (np.arange(200) + 0.5) / 200
            share = np.array([((values > 0) & (values < 0.2)).mean()])
        else:
            levels, counts = np.unique(values.astype(str), return_counts=True)
            first = {str(v): v for v in values.tolist()[::-1]}
            share = counts / len(values)
            levels = [first[level] for level in levels]
        columns = [np.full(len(levels), np.nan), np.full(len(levels), np.nan)]
        if likelihood.takes == "category":
            columns = [np.full(len(levels), None, object) for _ in range(2)]
            columns[c] = objects(*levels)
        else:
            columns[c] = np.asarray(levels, float)
        log_p = likelihood.log_density(
            params.expand(len(levels), -1), cells_of(likelihood, columns)
        )
        p = log_p[:, c].exp().numpy()
        p = np.array([p.sum() * 0.2 / 200]) if kind == "gaussian" and c == 0 else p
        np.testing.assert_allclose(p, share, atol=0.01)


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_local_has_the_gradient_of_its_value_and_whiten_its_curvature(kind):
    likelihood, columns = fitted(kind)
    cells = cells_of(likelihood, columns).double()
    likelihood = likelihood.double()
    params = random_params(likelihood, 60).double().requires_grad_()
    value, gradient = likelihood.local(params, cells)
    (expected,) = torch.autograd.grad(value.sum(), params)
    assert_close(gradient, expected)
    assert (gradient[5] == 0).all()
    # Fisher information: the variance of the gradient over values as the model draws them; minus
    # the second derivative, which for these kinds does not depend on the value.
    with torch.no_grad():
        eye = torch.eye(likelihood.n_params, dtype=torch.float64).expand(60, -1, -1)
        root = likelihood.whiten(eye, params, cells)
    information = root.transpose(1, 2) @ root
    step = 1e-5
    for k in range(likelihood.n_params):
        moved = params.detach().clone()
        moved[:, k] += step
        slope = (likelihood.local(moved, cells)[1] - gradient.detach()) / step
        assert_close(information[:, k], -slope, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_guess_is_the_mean_of_draws_or_their_mode(kind):
    likelihood, _ = fitted(kind)
    params = torch.stack([random_params(likelihood, 3, seed=s) for s in (1, 2)], 1)
    weights = torch.tensor([[0.25, 0.75]] * 3)
    guess = likelihood.guess(params, weights)
    n = 40_000
    for row in range(3):
        mixed = params[row][(torch.arange(n) % 4 > 0).long()]  # a quarter of the first
        drawn = likelihood.sample(mixed, torch.Generator().manual_seed(0))
        for c, values in enumerate(likelihood.decode(drawn.numpy(), drawn=True)):
            if kind in ("gaussian", "poisson"):
                spread = values.std()
                assert guess[c][row] == pytest.approx(values.mean(), abs=0.04 * spread)
            else:
                counts = {v: (values == v).mean() for v in set(values.tolist())}
                assert counts[guess[c][row]] > max(counts.values()) - 0.02


def test_noise_is_refitted_above_its_floor_and_shrunk_to_what_was_learnt():
    likelihood, columns = fitted("gaussian")
    cells = cells_of(likelihood, columns)
    with torch.no_grad():
        apart = cells[:, :, 0].nan_to_num() + 0.3 * torch.randn(
            60, 2, generator=torch.Generator().manual_seed(0)
        )
        still = torch.zeros_like(apart)
        learnt = likelihood.log_scale().exp()
        likelihood.refit_noise(apart, still, cells, 1.0)
        assert_close(likelihood.deviation, learnt)
        for _ in range(50):
            likelihood.refit_noise(apart, still, cells, 0.0)
        assert likelihood.deviation[0].item() == pytest.approx(0.3, abs=0.06)
        for _ in range(50):
            likelihood.refit_noise(apart, still + 0.5, cells, 0.0)
        assert likelihood.deviation[0].item() == pytest.approx((0.09 + 0.5) ** 0.5, abs=0.06)
        for _ in range(50):
            likelihood.refit_noise(cells[:, :, 0].nan_to_num(), still, cells, 0.0)
        assert_close(likelihood.deviation, torch.full((2,), MIN_SCALE), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("values", "decimals"),
    [
        ([1.0, 2, 30], 0),
        ([1.5, 2, 30.25], 2),
        (np.float32([0.1, 0.7, 12.3]).astype(float), 1),
        (np.random.RandomState(0).randn(9), None),
        ([], None),
    ],
)
def test_decimals_are_those_of_the_values(values, decimals):
    likelihood = Gaussian.fit([np.array([*values, np.nan])], ["c"])
    assert likelihood.decimals == [decimals]
    if decimals:
        drawn = likelihood.decode(np.random.RandomState(0).randn(50, 1), drawn=True)[0]
        np.testing.assert_allclose(drawn, np.round(drawn, decimals), rtol=1e-7)


def test_large_whole_numbers_keep_their_probabilities():
    """Bins far narrower than single precision resolves at their place on the normal scale."""
    rng = np.random.RandomState(0)
    values = np.round(2e6 + 5e5 * rng.randn(2000))
    likelihood = Gaussian.fit([values], ["c"])
    grid = np.arange(2_000_000.0, 2_200_000.0)
    p = likelihood.log_density(torch.zeros(len(grid), 1), cells_of(likelihood, [grid])).exp()
    drawn = likelihood.sample(torch.zeros(100_000, 1), torch.Generator().manual_seed(0))
    drawn = likelihood.decode(drawn.numpy(), drawn=True)[0]
    share = ((drawn >= grid[0]) & (drawn <= grid[-1])).mean()
    assert p.sum().item() == pytest.approx(share, abs=0.01)
