"""Small tables that the tests share."""

import numpy as np
import pandas as pd
import pytest


def make_mixed(n_rows=200, seed=0):
    """Every kind of column, holes in most, and some dependence between them."""
    rng = np.random.RandomState(seed)
    hidden = rng.randn(n_rows)
    frame = pd.DataFrame(
        {
            "income": np.exp(10 + hidden).round(2),
            "age": (40 + 10 * hidden + 5 * rng.randn(n_rows)).round().astype("int64"),
            "score": (hidden + 0.1 * rng.randn(n_rows)).astype("float32"),
            "visits": rng.poisson(np.exp(hidden / 2)).astype("int64"),
            "member": hidden > 0,
            "flag": np.where(rng.rand(n_rows) < 0.3, 7, 3),
            "city": pd.Categorical(
                np.array(["Rome", "Oslo", "Lima"])[np.digitize(hidden, [-0.5, 0.5])],
                categories=["Oslo", "Rome", "Lima", "Bonn"],
            ),
            "word": np.array(["x", "yy", "zzz", "ww"])[rng.randint(4, size=n_rows)],
        }
    )
    frame["word"] = frame["word"].astype(object)
    for column in ("income", "score", "city", "word"):
        frame.loc[rng.rand(n_rows) < 0.1, column] = None
    return frame


@pytest.fixture
def mixed():
    return make_mixed()


@pytest.fixture
def quick():
    """Parameters for a fit of a second or less."""
    return {"max_iter": 3, "hidden_layer_sizes": (16,), "n_components": 4, "random_state": 0}
