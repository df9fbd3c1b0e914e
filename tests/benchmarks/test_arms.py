"""Arms and probes of the quality benchmark."""

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose

from benchmarks import arms
from benchmarks.arms import (
    FAMILY,
    OTHERS,
    WITHOUT_DECODER,
    Meter,
    embed_family,
    embed_other,
    make_encoder,
    memory,
    reconstruction,
    second_sample,
    with_contrast,
)
from benchmarks.probes import PROBES, score
from cmim_sklearn._models.latent_model import Pass
from cmim_sklearn._training.net import ObjectiveLoss
from cmim_sklearn.latents import DiagonalNormal, standard_normal
from cmim_sklearn.objectives import cmim, contrast, mim

SHORT = {"max_iter": 2, "hidden_layer_sizes": (16,), "n_components": 4}


def make_pass(log_variance):
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(20, 3, generator=generator)
    posterior = DiagonalNormal(mean, torch.full((20, 1), log_variance))
    z = posterior.rsample(torch.randn(20, 3, generator=generator))
    log_px = torch.randn(20, 5, generator=generator)
    return Pass(z, posterior, standard_normal(z), log_px)


def test_with_contrast_adds_only_the_contrastive_term():
    batch = make_pass(-1.0)
    terms = with_contrast(ObjectiveLoss(mim))(batch)
    plain = mim(batch)
    assert set(terms) == {*plain, "contrast"}
    for name in plain:
        assert_allclose(terms[name], plain[name])
    assert_allclose(terms["contrast"], contrast(batch.z, 0.1))


@pytest.mark.parametrize(("arm", "base"), [("cAE", "AE"), ("cVAE", "VAE")])
def test_only_arms_with_contrast_train_on_it(mixed, arm, base):
    encoders = [make_encoder(name, 0, **SHORT).fit(mixed) for name in (arm, base)]
    recorded = ["train_contrast" in encoder.net_.history[-1] for encoder in encoders]
    assert recorded == [True, False]


def test_a_second_sample_without_noise_is_the_code():
    batch = make_pass(-60.0)
    for name, term in cmim(batch).items():
        assert_allclose(second_sample(batch)[name], term, atol=1e-5)
    noisy = make_pass(0.0)
    torch.manual_seed(0)
    # Pairs that are pulled together cost more while they are far apart.
    assert second_sample(noisy)["contrast"].mean() > cmim(noisy)["contrast"].mean()


def test_reconstruction_scores_one_for_the_table_and_zero_for_its_means():
    rng = np.random.RandomState(0)
    X = pd.DataFrame(
        {
            "number": rng.randn(300),
            "city": pd.Categorical(rng.choice(["a", "b", "c"], 300, p=[0.5, 0.3, 0.2])),
            "flag": rng.rand(300) < 0.25,
        }
    )
    X.loc[:20, "number"] = np.nan
    assert reconstruction(X, X, X.fillna({"number": 99.0})) == 1.0
    blind = X.assign(number=X["number"].median(), city="a", flag=False)
    shares = [0.0, (X["city"] == "a").mean(), (~X["flag"]).mean()]
    assert_allclose(reconstruction(X, X, blind), np.mean(shares), atol=1e-3)


def test_the_control_has_the_trained_code_and_a_random_decoder(mixed):
    def made():
        embeddings = ["informative", "mean", "control"]
        return embed_family("MIM", 0, mixed[:150], mixed[150:], embeddings=embeddings, **SHORT)

    features = made()
    train, test = features.matrices["control"]
    assert train.shape == (150, 16)
    assert test.shape == (50, 16)
    assert_allclose(train.var(0).sum(), 20, rtol=1e-3)
    assert not np.allclose(train, features.matrices["informative"][0], atol=0.1)
    assert 0 <= features.reconstruction <= 1
    assert features.cost["bytes"] > 1000
    # The code and the random weights are the same, so the control repeats.
    assert_allclose(made().matrices["control"][0], train, atol=1e-5)


@pytest.mark.parametrize("arm", FAMILY)
def test_every_arm_of_the_family_gives_one_row_of_features_per_row(mixed, arm):
    names = ["layers", "mean", "control"]
    features = embed_family(arm, 0, mixed[:150], mixed[150:], embeddings=names, **SHORT)
    has_decoder = arm not in WITHOUT_DECODER
    widths = {"layers": 16 + 16, "mean": 4, "control": 16}
    if not has_decoder:  # hidden layer and code of the encoder
        widths = {"layers": 16 + 4, "mean": 4}
    assert {name: parts[0].shape for name, parts in features.matrices.items()} == {
        name: (150, width) for name, width in widths.items()
    }
    for train, test in features.matrices.values():
        assert_allclose(train.var(0).sum(), 20, rtol=0.01)
        assert_allclose(train.mean(0), 0, atol=1e-3)
        assert test.shape == (50, train.shape[1])
    assert np.isfinite(features.loss)
    assert np.isfinite(features.contrast) == arm.startswith(("c", "untrained", "InfoNCE"))
    assert np.isfinite(features.reconstruction) == has_decoder


def test_the_untrained_network_is_cmim_before_its_first_step(mixed):
    encoder = make_encoder("untrained", 0, hidden_layer_sizes=(16,)).fit(mixed)
    generator_seed = np.random.RandomState(0).randint(2**31 - 1)
    fresh = encoder._build_model(encoder.table_.likelihood, encoder._built, int(generator_seed))
    trained = make_encoder("cMIM", 0, hidden_layer_sizes=(16,), max_iter=1).fit(mixed)
    for name, weights in fresh.encoder.state_dict().items():
        assert_allclose(encoder.net_.module.encoder.state_dict()[name], weights, atol=1e-6)
    first = "encoder.output.weight"
    moved = trained.net_.module.state_dict()[first] - fresh.state_dict()[first]
    assert moved.abs().max() > 1e-4


@pytest.mark.parametrize("arm", ["raw", *OTHERS])
def test_other_arms_give_features_of_raw_columns(mixed, arm):
    X = mixed.drop(columns=["flag", "member"])  # booleans with missing values are not numbers
    features = embed_other(arm, 0, X[:150], X[150:])
    train, test = features.matrices[""]
    assert (train.shape[0], test.shape[0]) == (150, 50)
    assert train.shape[1] == test.shape[1]
    assert features.cost["fit_s"] >= 0


def test_the_meter_measures_the_peak_above_the_start(monkeypatch):
    held = {"VmRSS": 100.0, "VmHWM": 120.0}
    monkeypatch.setattr(arms, "memory", held.get)
    meter = Meter()
    meter.fitted()
    held["VmHWM"] = 175.0
    cost = meter.transformed(1000, 42)
    assert cost["peak_mb"] == 75
    assert cost["bytes"] == 42
    assert cost["transform_rows_s"] > 0


def test_memory_is_that_of_this_process():
    before = memory("VmRSS")
    held = np.ones(100_000_000 // 8)
    assert memory("VmRSS") - before > 90
    del held
    assert memory("VmHWM") >= before + 90


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("regression", [False, True])
def test_probes_find_a_signal_and_no_signal_in_noise(probe, regression):
    rng = np.random.RandomState(0)
    angle = rng.rand(400) * np.pi
    X = np.column_stack([np.cos(angle), np.sin(angle)]) * 5
    # Numbers only: with early stopping, the MLP of scikit-learn 1.6 does not accept strings.
    y = angle if regression else (angle > np.pi / 2).astype(int)
    train, test = slice(0, 300), slice(300, None)
    assert score(probe, X[train], y[train], X[test], y[test], regression) > 0.9
    noise = rng.randn(400, 2)
    assert score(probe, noise[train], y[train], noise[test], y[test], regression) < 0.65
