"""Arms and probes of the evidence benchmark: what they measure is what they say."""

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


def test_with_contrast_adds_the_term_of_cmim_and_nothing_else():
    batch = make_pass(-1.0)
    terms = with_contrast(ObjectiveLoss(mim))(batch)
    plain = mim(batch)
    assert set(terms) == {*plain, "contrast"}
    for name in plain:
        assert_allclose(terms[name], plain[name])
    assert_allclose(terms["contrast"], contrast(batch.z, 0.1))


@pytest.mark.parametrize(("arm", "base"), [("cAE", "AE"), ("cVAE", "VAE")])
def test_arms_with_contrast_train_on_it_and_those_without_do_not(mixed, arm, base):
    encoders = [make_encoder(name, 0, **SHORT).fit(mixed) for name in (arm, base)]
    recorded = ["train_contrast" in encoder.net_.history[-1] for encoder in encoders]
    assert recorded == [True, False]


def test_a_second_sample_of_a_posterior_without_noise_is_the_code_itself():
    batch = make_pass(-60.0)
    for name, term in cmim(batch).items():
        assert_allclose(second_sample(batch)[name], term, atol=1e-5)
    noisy = make_pass(0.0)
    torch.manual_seed(0)
    # What is pulled together costs more while it is apart.
    assert second_sample(noisy)["contrast"].mean() > cmim(noisy)["contrast"].mean()


def test_reconstruction_is_one_for_the_table_and_nothing_for_its_means():
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


def test_control_has_the_code_and_not_the_trained_decoder(mixed):
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
    # Same code, same random weights: the control repeats.
    assert_allclose(made().matrices["control"][0], train, atol=1e-5)


@pytest.mark.parametrize("arm", FAMILY)
def test_every_arm_of_the_family_makes_features_row_for_row(mixed, arm):
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


def test_the_untrained_network_is_that_of_cmim_before_its_first_step(mixed):
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
def test_other_arms_make_features_of_raw_columns(mixed, arm):
    X = mixed.drop(columns=["flag", "member"])  # booleans with holes are no raw numbers
    features = embed_other(arm, 0, X[:150], X[150:])
    train, test = features.matrices[""]
    assert (train.shape[0], test.shape[0]) == (150, 50)
    assert train.shape[1] == test.shape[1]
    assert features.cost["fit_s"] >= 0


def test_meter_sees_the_peak_above_what_was_held(monkeypatch):
    held = {"VmRSS": 100.0, "VmHWM": 120.0}
    monkeypatch.setattr(arms, "memory", held.get)
    meter = Meter()
    meter.fitted()
    held["VmHWM"] = 175.0
    cost = meter.transformed(1000, 42)
    assert cost["peak_mb"] == 75
    assert cost["bytes"] == 42
    assert cost["transform_rows_s"] > 0


def test_memory_is_this_process_own():
    before = memory("VmRSS")
    held = np.ones(100_000_000 // 8)
    assert memory("VmRSS") - before > 90
    del held
    assert memory("VmHWM") >= before + 90


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("regression", [False, True])
def test_probes_read_what_is_plain_and_not_what_is_absent(probe, regression):
    rng = np.random.RandomState(0)
    angle = rng.rand(400) * np.pi
    X = np.column_stack([np.cos(angle), np.sin(angle)]) * 5
    # No words: with early stopping, the MLP of scikit-learn 1.6 takes numbers alone.
    y = angle if regression else (angle > np.pi / 2).astype(int)
    train, test = slice(0, 300), slice(300, None)
    assert score(probe, X[train], y[train], X[test], y[test], regression) > 0.9
    noise = rng.randn(400, 2)
    assert score(probe, noise[train], y[train], noise[test], y[test], regression) < 0.65
