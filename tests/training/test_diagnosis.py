"""Diagnosis of non-finite losses: the error names the column that probably caused them."""

import pytest
import torch

from cmim_sklearn import AEEncoder, CMIMEncoder, InfoNCEEncoder
from cmim_sklearn._training import diagnosis
from cmim_sklearn._training.net import MAX_BACK_OFFS
from tests.helpers import make_mixed
from tests.training.helpers import SMALL, Poison, fit_with


@pytest.mark.parametrize("cls", [CMIMEncoder, AEEncoder])
@pytest.mark.parametrize("as_array", [False, True])
def test_the_column_with_the_least_likely_cell_is_named(cls, as_array):
    """With SGD on unscaled columns, values of 1e15 are too large."""
    X = make_mixed()[["visits", "age", "score"]].astype(float)
    X["age"] *= 1e14
    message = "column 1 has" if as_array else "column 'age' has"
    parameters = {"numeric_scaling": None, "net_params": {"optimizer": torch.optim.SGD}}
    with pytest.raises(
        FloatingPointError, match=rf"{message} the least likely cell, with -.* nats"
    ):
        cls(**SMALL | parameters).fit(X.to_numpy() if as_array else X)


@pytest.mark.parametrize("cls", [CMIMEncoder, InfoNCEEncoder])
def test_all_rows_are_searched(cls, monkeypatch):
    """One extreme cell, in the last of several parts."""
    X = make_mixed(1000)[["visits", "age", "score"]].astype(float)
    X.loc[997, "score"] = 1e12
    monkeypatch.setattr(diagnosis, "PART_ROWS", 100)
    poison = Poison(*[1] * (MAX_BACK_OFFS + 1))
    with pytest.raises(FloatingPointError, match=r"olumn 'score' has the l(east likely|argest)"):
        fit_with(poison, X, cls, numeric_scaling=None)


def test_without_a_decoder_the_column_with_the_largest_values_is_named(mixed):
    mixed["age"] = mixed["age"] * 10**9
    poison = Poison(*[2] * (MAX_BACK_OFFS + 1))
    with pytest.raises(
        FloatingPointError, match=r"Column 'age' has the largest scaled values, up to 7"
    ):
        fit_with(poison, mixed, InfoNCEEncoder, numeric_scaling=None)
    poison = Poison(*[2] * (MAX_BACK_OFFS + 1))
    with pytest.raises(FloatingPointError, match=r"numeric_scaling='quantile'.$"):
        fit_with(poison, mixed[["city", "word"]], InfoNCEEncoder)
