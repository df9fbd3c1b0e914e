"""Fixtures that several test modules share."""

import functools
from pathlib import Path

import pandas as pd
import pytest
import torch

from cmim_sklearn._models import row_posterior
from tests.helpers import make_mixed, small_encoder

# A program that needs atheris and instruments the package when it is imported.
collect_ignore = ["robustness/fuzz_loader.py"]


@pytest.fixture(autouse=True)
def _seeded_torch():
    """Give each test the same random tensors, in any order of tests."""
    torch.manual_seed(0)


@pytest.fixture
def mixed():
    return make_mixed()


@pytest.fixture
def quick():
    """Parameters of a fit that takes less than a second."""
    return {"max_iter": 3, "hidden_layer_sizes": (16,), "n_components": 4, "random_state": 0}


@pytest.fixture
def short_calibration():
    """Fit the noise of densities in 2 steps instead of 20, which take most of a small fit."""
    with pytest.MonkeyPatch.context() as patch:  # apart from monkeypatch, which a test may undo
        patch.setattr(row_posterior, "CALIBRATION_STEPS", 2)
        yield


@pytest.fixture(scope="session")
def fitted():
    """Function from a class's name to a small encoder fitted to `make_mixed()`.

    It has a short calibration. All tests get the same encoder: copy it before changing it.
    """

    @functools.cache
    def fit(name="CMIMEncoder"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(row_posterior, "CALIBRATION_STEPS", 2)
            return small_encoder(name).fit(make_mixed())

    return fit


@pytest.fixture(scope="session")
def trained():
    """CMIMEncoder trained on `make_mixed()` until it imputes well. Copy it before changing it."""
    encoder = small_encoder(hidden_layer_sizes=(32,), max_iter=120, learning_rate_init=0.01)
    return encoder.fit(make_mixed())


@pytest.fixture(scope="session")
def houses():
    """Table of 6,000 districts of California that ships with the examples."""
    path = Path(__file__).parents[1] / "examples" / "data" / "california_housing.csv"
    return pd.read_csv(path).astype({"ocean_proximity": "category"})


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """Small fitted encoder, its file, and its table. Copy the encoder before changing it."""
    table = make_mixed()
    encoder = small_encoder(
        n_components=3, hidden_layer_sizes=(6,), likelihoods={"visits": "poisson"}
    ).fit(table)
    path = tmp_path_factory.mktemp("saved") / "model.cmim"
    encoder.save(path)
    return encoder, path, table
