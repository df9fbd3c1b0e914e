"""Fitted encoders and helpers that the tests of displays share."""

from contextlib import suppress

import pytest

from cmim_sklearn import CMIMEncoder, InfoNCEEncoder
from cmim_sklearn.display import LatentSpaceDisplay, TrainingDisplay
from tests.helpers import make_mixed

QUICK = {"max_iter": 3, "hidden_layer_sizes": (16,), "random_state": 0, "device": "cpu"}

with suppress(ImportError):  # the test modules skip without matplotlib
    import matplotlib as mpl

    mpl.use("agg")


@pytest.fixture(scope="session")
def table():
    return make_mixed(150)


@pytest.fixture(scope="session")
def flat(table):
    """An encoder with 2 components and validation rows."""
    return CMIMEncoder(n_components=2, early_stopping=True, **QUICK).fit(table)


@pytest.fixture(scope="session")
def wide(table):
    """An encoder with 4 components."""
    return CMIMEncoder(n_components=4, **QUICK).fit(table)


@pytest.fixture(scope="session")
def contrastive(table):
    """An encoder without a decoder."""
    return InfoNCEEncoder(n_components=2, **QUICK).fit(table)


@pytest.fixture(autouse=True)
def _lay_out_and_close():
    """Check that every figure of a test can be laid out without a warning."""
    yield
    import matplotlib.pyplot as plt

    for number in plt.get_fignums():
        plt.figure(number).draw_without_rendering()
    plt.close("all")


def draw(display, encoder, table, ax=None, **options):
    """Draw any display, of two columns to save time."""
    if display is TrainingDisplay:
        return display.from_estimator(encoder, ax=ax, **options)
    if display is not LatentSpaceDisplay:
        options = {"columns": ["age", "city"]} | options
    return display.from_estimator(encoder, table, ax=ax, **options)


def texts(artists):
    return [artist.get_text() for artist in artists]


def written(figure):
    """All texts in a figure."""
    return texts(figure.findobj(mpl.text.Text))
