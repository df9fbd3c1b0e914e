"""Generator: heads leave the model alone, and learn noise that depends on the code."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from cmim_sklearn import CMIMEncoder
from cmim_sklearn._encoders.base import generative
from cmim_sklearn._models import generator as generator_module
from cmim_sklearn._models.generator import (
    FULL_RANK_COLUMNS,
    MAX_COLUMNS,
    MIN_WIDE_STEPS,
    RANK,
    Generator,
    MixtureHeads,
    code_log_variance,
    heads_shape,
    n_mixture_steps,
)
from cmim_sklearn._models.latent_prior import NoisyCodes, normal_prior
from cmim_sklearn._training.heads import HeadFit, HeadTraining
from tests.helpers import LIKELIHOODS, columns_of, make_latent_model, measured, randn

FAST = {"max_iter": 40, "hidden_layer_sizes": (32,), "n_components": 4, "random_state": 0}


@pytest.fixture
def model():
    return make_latent_model()[0].eval()


def cells_of(model):
    """Measured cells (60, n_cells) of the rows of `make_latent_model`."""
    parts = zip(LIKELIHOODS, model.likelihood.blocks, strict=True)
    return torch.cat([measured(block, columns_of(name)).flatten(1) for name, block in parts], 1)


def fitted_heads(model, n_steps=20, seed=0):
    codes, noise = randn(60, 3).numpy(), np.full(3, 0.1)
    prior = normal_prior(codes, noise, 0)
    batches = NoisyCodes(prior, codes, noise, model.device, seed)
    heads = {"heads": MixtureHeads(model, cells_of(model), n_steps)}
    return HeadTraining([HeadFit(model.decoder, batches, heads)]).run()[0]["heads"]


def test_the_noise_of_codes_is_linear_in_the_logarithm_of_rows():
    assert code_log_variance(2) == code_log_variance(100) == -1
    assert code_log_variance(700) == -1.75
    assert code_log_variance(1400) == pytest.approx(-2.125)
    assert code_log_variance(2800) == -2.5
    assert code_log_variance(20_000) == code_log_variance(10**6) == -3.25


@pytest.mark.parametrize(
    ("n", "n_steps"), [(2, 150), (700, 150), (1400, 300), (2800, 600), (5600, 1200), (10**6, 1500)]
)
def test_training_steps_grow_with_rows(n, n_steps):
    for n_columns in (1, FULL_RANK_COLUMNS):
        assert n_mixture_steps(n, 9999, n_columns) == n_steps
    assert n_mixture_steps(n, 9999, 2 * FULL_RANK_COLUMNS) == max(MIN_WIDE_STEPS, n_steps // 2)
    assert n_mixture_steps(n, 7, 1) == n_mixture_steps(n, 7, MAX_COLUMNS) == 7


def test_without_heads_a_generator_is_the_model(model):
    generator = Generator(model)
    assert generator.decoder is model.decoder
    assert generator.likelihood is model.likelihood


def test_heads_of_zero_keep_the_means_and_other_kinds(model):
    generator, z = Generator(model, np.zeros(heads_shape(model), np.float16)), randn(5, 3)
    local = generator.likelihood.local(generator.decoder(z))
    own = local.split([block.n_local for block in generator.likelihood.blocks], 1)
    found = torch.cat(
        [
            part[:, : block.n_params]
            for part, block in zip(own, model.likelihood.blocks, strict=True)
        ],
        1,
    )
    assert_close(found, model.decoder(z), atol=1e-6, rtol=0)


def test_fitting_heads_changes_no_weight(model):
    before = {name: w.clone() for name, w in model.state_dict().items()}
    heads = fitted_heads(model)
    assert heads.shape == heads_shape(model)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name])
    assert all(parameter.grad is None for parameter in model.parameters())


def test_heads_follow_from_the_seed_alone(model):
    torch.manual_seed(1)
    first = fitted_heads(model)
    torch.manual_seed(2)
    assert first.tobytes() == fitted_heads(model).tobytes()
    assert first.tobytes() != fitted_heads(model, seed=1).tobytes()


@torch.no_grad()
def score(generator, z, cells):
    """Mean log density of rows at codes."""
    return float(generator.likelihood.log_density(generator.decoder(z), cells).sum(1).mean())


def test_training_raises_the_likelihood_of_cells(model):
    cells, z = cells_of(model), randn(60, 3)
    before, after = (Generator(model, fitted_heads(model, n)) for n in (0, 300))
    assert score(after, z, cells) > score(before, z, cells) + 1


@pytest.fixture
def low_rank(monkeypatch):
    """Let any number of columns have heads of low rank."""
    monkeypatch.setattr(generator_module, "FULL_RANK_COLUMNS", 0)
    monkeypatch.setattr(generator_module, "RANK", 3)


def test_heads_of_low_rank_are_the_product_of_their_factors(model, monkeypatch):
    full, z = heads_shape(model), randn(5, 3)
    monkeypatch.setattr(generator_module, "FULL_RANK_COLUMNS", 0)
    monkeypatch.setattr(generator_module, "RANK", 3)
    shape = heads_shape(model)
    assert shape == (sum(full), 3)
    factors = randn(*shape).half()
    product = (factors[: full[0]].float() @ factors[full[0] :].float().T).numpy()
    decoder = Generator(model, factors.numpy()).decoder
    assert_close(decoder(z), Generator(model, product).decoder(z), atol=1e-5, rtol=1e-5)


def test_training_of_low_rank_starts_at_the_model_and_raises_the_likelihood(model, low_rank):
    cells, z = cells_of(model), randn(60, 3)
    start, after = (Generator(model, fitted_heads(model, n)) for n in (0, 200))
    zeros = Generator(model, np.zeros(heads_shape(model), np.float16))
    assert torch.equal(start.decoder(z), zeros.decoder(z))
    assert score(after, z, cells) > score(start, z, cells) + 0.4


def test_wide_tables_keep_heads_of_low_rank_in_files(tmp_path):
    X = np.random.RandomState(0).randn(80, 2) @ np.random.RandomState(1).randn(
        2, FULL_RANK_COLUMNS + 1
    )
    encoder = CMIMEncoder(**FAST | {"max_iter": 2}).fit(X)
    assert encoder._heads.shape == (9 * (FULL_RANK_COLUMNS + 1) + 33, RANK)
    encoder.save(tmp_path / "wide.cmim")
    loaded = CMIMEncoder.load(tmp_path / "wide.cmim", device="cpu")
    np.testing.assert_array_equal(loaded.score_samples(X[:9]), encoder.score_samples(X[:9]))
    assert loaded._heads.tobytes() == encoder._heads.tobytes()


def test_heads_that_diverge_are_left_out(model):
    with torch.no_grad():
        model.decoder.output.bias.fill_(torch.inf)
    assert fitted_heads(model) is None


def test_values_outside_the_earlier_range_keep_the_heads():
    X = pd.DataFrame({"count": np.arange(200) % 9, "rain": np.arange(200.0).clip(50)})
    encoder = CMIMEncoder(**FAST | {"max_iter": 5}, warm_start=True).partial_fit(X)
    new = X.copy()
    new.loc[0] = [12, 3.0]
    assert encoder.partial_fit(new)._heads is not None
    assert encoder.fit(X * 100)._heads is not None


@pytest.mark.parametrize(
    ("columns", "parameters"),
    [
        ({"a": ["x", "y"] * 20}, {}),
        ({f"c{i}": np.arange(40.0) for i in range(MAX_COLUMNS + 1)}, {}),
        ({"a": np.arange(40.0)}, {"hidden_layer_sizes": ()}),
    ],
)
def test_some_tables_and_networks_have_no_heads(columns, parameters):
    encoder = CMIMEncoder(**FAST | {"max_iter": 1} | parameters).fit(pd.DataFrame(columns))
    assert encoder._heads is None
    assert len(encoder.sample(3)) == 3


def test_noise_depends_on_the_code():
    """The deviation of y is 0.05 or 1, by a level."""
    rng = np.random.RandomState(0)
    is_wide = rng.rand(1000) < 0.5
    X = pd.DataFrame({"wide": is_wide, "y": np.where(is_wide, 1.0, 0.05) * rng.randn(1000)})
    encoder = CMIMEncoder(**FAST | {"numeric_scaling": "standard"}).fit(X)
    drawn = encoder.sample(4000, random_state=0)
    deviations = drawn.groupby("wide")["y"].std()
    assert deviations[True] > 2.5 * deviations[False]


def test_features_are_those_of_an_encoder_without_heads(monkeypatch):
    X = pd.DataFrame(np.random.RandomState(0).randn(200, 3), columns=list("abc"))
    first = CMIMEncoder(**FAST).fit(X)
    monkeypatch.setattr(generative, "heads_shape", lambda model: None)
    second = CMIMEncoder(**FAST).fit(X)
    assert first._heads is not None
    assert second._heads is None
    features = first.transform(X)
    np.testing.assert_array_equal(features, second.transform(X))
    np.testing.assert_array_equal(
        first.inverse_transform(features), second.inverse_transform(features)
    )
    np.testing.assert_array_equal(first.reconstruct(X), second.reconstruct(X))
