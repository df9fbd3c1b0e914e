"""Missing cells as data: shares in generated rows, joint probabilities, state."""

import copy
import gc
import itertools
import pickle
import weakref

import numpy as np
import pandas as pd
import pytest
import torch

from cmim_sklearn import CMIMEncoder
from cmim_sklearn._models import row_posterior
from cmim_sklearn._models.missing import MIN_STEPS, N_STEPS, N_USUAL, intercepts, n_steps_for
from tests.helpers import LIBRARIES, make_mixed

SMALL = {
    "max_iter": 60, "hidden_layer_sizes": (32,), "n_components": 8, "random_state": 0,
    "learning_rate_init": 1e-2,
}  # fmt: skip
N_MADE = 4000


def make_gaps(n_rows=800):
    """Table in which values of "b" are missing mostly where "a" is high."""
    rng = np.random.RandomState(0)
    a = rng.randn(n_rows)
    table = pd.DataFrame({"a": a, "b": a + rng.randn(n_rows), "c": np.where(a > 0.5, "u", "v")})
    table["day"] = np.datetime64("2024-01-01") + rng.randint(0, 50, n_rows).astype("m8[D]")
    table["n"] = pd.array(rng.poisson(3, n_rows), dtype="Int64")
    table.loc[rng.rand(n_rows) < np.where(a > 0, 0.7, 0.1), "b"] = None
    for name, share in {"c": 0.2, "day": 0.05, "n": 0.5}.items():
        table.loc[rng.rand(n_rows) < share, name] = None
    return table


@pytest.fixture(scope="module")
def gaps():
    return make_gaps()


@pytest.fixture(scope="module")
def encoder(gaps):
    """Fitted to `gaps`. Copy it before changing it."""
    return CMIMEncoder(**SMALL).fit(gaps)


def test_generated_rows_lack_cells_as_often_as_those_of_fit(gaps, encoder):
    made = encoder.sample(N_MADE, with_missing=True, random_state=0)
    pd.testing.assert_series_equal(made.dtypes, gaps.dtypes)
    share, found = gaps.isna().mean(), made.isna().mean()
    assert found["a"] == 0
    bound = 4 * np.sqrt(share * (1 - share) * (1 / N_MADE + 1 / N_USUAL))
    assert (np.abs(found - share) <= bound + 1e-3).all()


def test_intercepts_give_each_column_its_share():
    generator = torch.Generator().manual_seed(0)
    share = torch.tensor([1e-4, 0.02, 0.5, 0.9, 0.999], dtype=torch.float32)
    for spread in (0, 1, 10):
        logits = spread * torch.randn(2000, 5, generator=generator)
        for start in (torch.logit(share), torch.zeros(5)):
            found = torch.sigmoid(logits + intercepts(logits, start, share)).mean(0)
            torch.testing.assert_close(found, share, rtol=1e-3, atol=1e-6)


def test_wide_tables_and_short_fits_have_fewer_steps():
    assert n_steps_for(3, 10_000) == N_STEPS
    assert MIN_STEPS < n_steps_for(400, 10_000) < N_STEPS
    assert n_steps_for(10**6, 10_000) == MIN_STEPS
    assert n_steps_for(10**6, 7) == n_steps_for(3, 7) == 7


def test_all_rows_decide_which_columns_have_gaps(quick, monkeypatch):
    monkeypatch.setattr("cmim_sklearn._encoders.base.generative.GENERATOR_ROWS", 40)
    X = make_mixed()[["age", "score"]].dropna().astype(float).reset_index(drop=True)
    for row in (0, 50, 100):  # whichever rows are read after training
        lacking = X.copy()
        lacking.loc[row, "age"] = None
        encoder = CMIMEncoder(**quick).fit(lacking)
        made = encoder.sample(N_MADE, with_missing=True, random_state=0)
        share, found = 1 / len(X), made["age"].isna().mean()
        assert 0.3 * share < found < 3 * share
        assert made["score"].notna().all()


def test_gaps_only_erase_values(encoder):
    n_rows = 5000  # more than are computed together
    full = encoder.sample(n_rows, random_state=0)
    made = encoder.sample(n_rows, with_missing=True, random_state=0)
    assert made.isna().any().sum() == 4
    pd.testing.assert_frame_equal(made.fillna(full), full, check_dtype=False, check_exact=True)
    given = pd.DataFrame({"a": np.linspace(-2, 2, 40)})
    full = encoder.sample(3, conditions=given, random_state=0)
    made = encoder.sample(3, conditions=given, with_missing=True, random_state=0)
    assert made.isna().any(axis=None)
    pd.testing.assert_frame_equal(made.fillna(full), full, check_dtype=False, check_exact=True)


def test_cells_are_missing_where_another_column_says_so(gaps, encoder):
    made = encoder.sample(N_MADE, with_missing=True, random_state=0)

    def gap(table):
        return table["b"].isna()[table["a"] > 0].mean() - table["b"].isna()[table["a"] < 0].mean()

    assert gap(made) > 0.5 * gap(gaps) > 0.3
    given = pd.DataFrame({"a": [1.5, -1.5], "c": [None, "v"]})
    made = encoder.sample(500, conditions=given, with_missing=True, random_state=0)
    assert made["a"].notna().all()
    first, second = made[:500], made[500:]
    assert second["c"].notna().all()
    assert first["b"].isna().mean() > second["b"].isna().mean() + 0.3
    fixed = encoder.sample(50, conditions={"b": 1.0, "n": 2}, with_missing=True, random_state=0)
    assert fixed[["b", "n"]].notna().all(axis=None)


def test_probabilities_of_rows_with_missing_cells_sum_to_one():
    rng = np.random.RandomState(0)
    h = rng.randn(400)
    X = pd.DataFrame({"one": np.where(h > 0, "u", "v"), "two": np.where(h > 0.6, "x", "y")})
    X["three"] = np.where(rng.rand(400) < 0.4, "p", "q")
    X = X.astype(object)
    X.loc[rng.rand(400) < np.where(h > 0, 0.5, 0.1), "two"] = None
    X.loc[rng.rand(400) < 0.3, "three"] = None
    encoder = CMIMEncoder(**SMALL).fit(X)
    levels = ["u", "v"], ["x", "y", None], ["p", "q", None]
    rows = pd.DataFrame(list(itertools.product(*levels)), columns=X.columns, dtype=object)
    p = np.exp(encoder.score_samples(rows, with_missing=True))
    assert p.sum() == pytest.approx(1, abs=0.02)  # Monte-Carlo error that rows share
    made = encoder.sample(N_MADE, with_missing=True, random_state=0).fillna("-")
    expected = pd.Series(p, index=pd.MultiIndex.from_frame(rows.fillna("-")))
    share = made.value_counts(normalize=True)
    assert share.sub(expected, fill_value=0).abs().sum() < 0.1
    # Without the probability of the gaps, complete rows alone sum to one.
    complete = rows.dropna()
    assert np.exp(encoder.score_samples(complete)).sum() == pytest.approx(1, abs=0.01)


def test_scores_add_the_log_probability_of_the_gaps(gaps, encoder):
    fresh = make_gaps(200)[100:]
    of_gaps = encoder.score_samples(fresh, with_missing=True) - encoder.score_samples(fresh)
    assert of_gaps.max() < 0.3  # a log probability, with two Monte Carlo errors
    share = gaps.isna().mean().to_numpy()
    alone = np.log(np.where(fresh.isna(), share, 1 - share)).sum(1)
    assert of_gaps.mean() > alone.mean() + 0.1
    _, error = encoder.score_samples(fresh, with_missing=True, return_error=True)
    assert np.median(error) < 0.3


def test_defaults_do_not_depend_on_missing_cells_as_data(gaps, encoder):
    without = copy.deepcopy(encoder)
    without._missing = None
    for use in (
        lambda e: e.sample(9, random_state=0),
        lambda e: e.sample(3, conditions={"a": 0.0}, random_state=0),
        lambda e: e.impute(gaps[:20]),
        lambda e: pd.DataFrame(e.score_samples(gaps[:20])),
        lambda e: pd.DataFrame(e.score_columns(gaps[:3])),
        lambda e: pd.DataFrame(e.score_dependence(gaps[:20])),
    ):
        pd.testing.assert_frame_equal(use(encoder), use(without), check_exact=True)
    assert encoder.sample(99, random_state=0).notna().all(axis=None)


def test_without_missing_cells_in_fit_the_option_changes_nothing(quick):
    X = make_mixed().dropna().reset_index(drop=True)
    encoder = CMIMEncoder(**quick).fit(X)
    pd.testing.assert_frame_equal(
        encoder.sample(9, with_missing=True, random_state=0), encoder.sample(9, random_state=0)
    )
    lacking = X[:9].assign(word=None)
    np.testing.assert_array_equal(
        encoder.score_samples(lacking, with_missing=True), encoder.score_samples(lacking)
    )


def test_files_and_pickles_keep_the_gaps(gaps, encoder, tmp_path):
    encoder.save(tmp_path / "model.cmim")
    made = encoder.sample(50, with_missing=True, random_state=0)
    scores = encoder.score_samples(gaps[:20], with_missing=True)
    again = CMIMEncoder.load(tmp_path / "model.cmim"), pickle.loads(pickle.dumps(encoder))
    for other in again:
        pd.testing.assert_frame_equal(
            other.sample(50, with_missing=True, random_state=0), made, check_exact=True
        )
        np.testing.assert_array_equal(other.score_samples(gaps[:20], with_missing=True), scores)


@pytest.mark.parametrize("library", LIBRARIES)
def test_each_library_has_its_missing_values(library, quick):
    X = LIBRARIES[library](make_gaps(200).astype({"c": object}))
    encoder = CMIMEncoder(**quick).fit(X)
    made = encoder.sample(200, with_missing=True, random_state=0)
    assert type(made) is type(X)
    frame = made if library == "pandas" else made.to_pandas()
    assert (frame.isna().any() == [False, True, True, True, True]).all()
    if library == "pandas":
        assert (made.dtypes == X.dtypes).all()
    else:
        assert made.schema == X.schema
    np.testing.assert_array_equal(
        encoder.score_samples(made[:20], with_missing=True),
        encoder.score_samples(frame[:20], with_missing=True),
    )


def test_gaps_of_later_chunks_appear_in_dtypes_that_hold_none(quick):
    X = make_mixed()[["age", "score", "flag", "member"]].dropna().reset_index(drop=True)
    encoder = CMIMEncoder(**quick).partial_fit(X[:100])
    assert encoder.sample(99, with_missing=True, random_state=0).dtypes.equals(X.dtypes)
    later = X[100:].astype({"age": float, "member": object})
    later.iloc[::2, [0, 3]] = None
    made = encoder.partial_fit(later).sample(99, with_missing=True, random_state=0)
    assert made.isna().any().tolist() == [True, False, False, True]
    assert made.dtypes.tolist() == [np.dtype(float), *X.dtypes[["score", "flag"]], np.dtype(object)]
    whole = np.arange(60).reshape(20, 3) % 7
    encoder = CMIMEncoder(**quick).partial_fit(whole)
    lacking = np.where(np.arange(60).reshape(20, 3) % 3 == 0, np.nan, whole)
    lacking[::2, 0] = 5
    made = encoder.partial_fit(lacking).sample(200, with_missing=True, random_state=0)
    assert made.dtype == float
    assert np.isnan(made).any(0).tolist() == [True, False, False]


def test_a_row_posterior_with_missing_cells_is_freed_with_its_fit(gaps, quick):
    encoder = CMIMEncoder(**quick).fit(gaps)
    encoder.score_samples(gaps[:2], with_missing=True)
    kept = weakref.ref(
        row_posterior.row_posterior(
            encoder._model(), encoder._latents, encoder._heads, encoder._missing
        )
    )
    assert kept() is not None
    encoder.fit(gaps)
    gc.collect()
    assert kept() is None
