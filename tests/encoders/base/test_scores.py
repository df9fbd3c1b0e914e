"""Log-likelihoods of rows and of single cells."""

import copy
import gc
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GridSearchCV

from cmim_sklearn import CMIMEncoder
from cmim_sklearn._models import row_posterior
from cmim_sklearn._models.row_posterior import RowPosterior
from tests.helpers import LIBRARIES


def test_scores_repeat_and_do_not_depend_on_other_rows(trained, mixed):
    X = mixed[:60]
    scores = trained.score_samples(X)
    assert scores.shape == (60,)
    np.testing.assert_array_equal(trained.score_samples(X), scores)
    for rows in ([7], [3, 2, 1], list(range(59, -1, -1))):
        np.testing.assert_allclose(trained.score_samples(X.iloc[rows]), scores[rows], atol=1e-9)
    assert trained.score(X) == pytest.approx(scores.mean())


def test_scores_are_the_same_in_every_library(mixed, trained):
    X = mixed[:40]
    expected = trained.score_samples(X)
    for make in LIBRARIES.values():
        np.testing.assert_allclose(trained.score_samples(make(X)), expected, atol=1e-6)


def test_rows_are_likelier_than_rows_with_shuffled_columns(trained, mixed):
    rng = np.random.RandomState(0)
    shuffled = mixed.apply(lambda c: c.sample(frac=1, random_state=rng).to_numpy())
    assert trained.score(mixed) > trained.score(shuffled) + 2


def test_the_least_likely_column_is_the_changed_one(trained, mixed):
    usual = mixed.dropna().iloc[:6]
    rows = [usual]
    for name, value in {"score": -3.0, "age": 95, "visits": 200}.items():
        rows.append(usual.assign(**{name: np.array([value]).astype(usual[name].dtype)[0]}))
    # A contradiction without an extreme value: a high score, but not a member.
    rows.append(usual.assign(score=np.float32(1.8), member=False))
    scores = trained.score_columns(pd.concat(rows, ignore_index=True)).reshape(5, 6, 8)
    assert np.abs(np.median(scores[0])) < 0.5
    least = np.array(mixed.columns)[scores[1:].argmin(2)]
    for found, name in zip(least, ["score", "age", "visits"], strict=False):
        assert (found == name).mean() > 0.9
    assert np.isin(least[3], ["score", "member"]).mean() > 0.7


def test_missing_cells_have_score_zero(trained, mixed):
    columns = trained.score_columns(mixed[:10])
    assert columns.shape == (10, 8)
    missing = mixed[:10].isna().to_numpy()
    assert missing.any()
    assert (columns[missing] == 0).all()
    assert (columns[~missing] != 0).all()


def test_the_score_of_a_cell_is_the_score_of_the_row_minus_that_of_the_rest(trained, mixed):
    rows = mixed.dropna().iloc[:5]
    columns = trained.score_columns(rows)
    without = trained.score_samples(rows.assign(age=np.nan))
    gain = trained.score_samples(rows) - without
    centred = columns[:, list(mixed.columns).index("age")]
    np.testing.assert_allclose(gain - gain.mean(), centred - centred.mean(), atol=1e-6)


def test_unknown_levels_lower_the_score_by_a_finite_amount(trained, mixed):
    rows = mixed.dropna().iloc[:5]
    unknown = trained.score_samples(rows.assign(word="never"))
    assert np.isfinite(unknown).all()
    assert (unknown < trained.score_samples(rows)).all()


def test_a_pickled_encoder_gives_the_same_scores(trained, mixed):
    again = pickle.loads(pickle.dumps(trained))
    np.testing.assert_array_equal(again.score_samples(mixed[:9]), trained.score_samples(mixed[:9]))
    pd.testing.assert_frame_equal(again.impute(mixed[:9]), trained.impute(mixed[:9]))


def test_dependence_repeats_and_does_not_depend_on_other_rows(trained, mixed, monkeypatch):
    X = mixed[:60]
    scores = trained.score_dependence(X)
    assert scores.shape == (60,)
    np.testing.assert_array_equal(trained.score_dependence(X), scores)
    again = pickle.loads(pickle.dumps(trained))
    np.testing.assert_array_equal(again.score_dependence(X), scores)
    monkeypatch.setattr(row_posterior, "MAX_NUMBERS", 100_000)
    for rows in ([7], [3, 2, 1], list(range(59, -1, -1))):
        np.testing.assert_allclose(trained.score_dependence(X.iloc[rows]), scores[rows], atol=1e-6)


def only(frame, name):
    """Frame with missing values in all columns but one."""
    return pd.DataFrame({c: frame[c] if c == name else None for c in frame}, frame.index)


def test_dependence_is_the_score_less_those_of_single_cells(trained, mixed):
    rows = mixed.dropna().iloc[:40]
    alone = [trained.score_samples(only(rows, name)) for name in rows]
    expected = trained.score_samples(rows) - np.sum(alone, axis=0)
    away = trained.score_dependence(rows) - expected
    assert np.median(np.abs(away)) < 0.3
    assert expected.std() > 1


def test_single_cells_and_independent_columns_have_no_dependence(trained, mixed):
    for name in ("age", "city", "member"):
        scores = trained.score_dependence(only(mixed.dropna(), name))
        assert np.median(np.abs(scores)) < 0.1
    np.testing.assert_allclose(trained.score_dependence(only(mixed, None)), 0, atol=1e-9)
    X = np.random.RandomState(0).randn(600, 3)
    small = {"n_components": 3, "hidden_layer_sizes": (16,), "max_iter": 30, "random_state": 0}
    encoder = CMIMEncoder(**small).fit(X[:500])
    assert abs(np.median(encoder.score_dependence(X[500:]))) < 0.3


def test_rows_with_shuffled_columns_have_less_dependence(trained, mixed):
    rng = np.random.RandomState(0)
    shuffled = mixed.apply(lambda c: c.sample(frac=1, random_state=rng).to_numpy())
    differ = trained.score_dependence(mixed).mean() - trained.score_dependence(shuffled).mean()
    assert differ > trained.score(mixed) - trained.score(shuffled) - 1 > 1


@pytest.fixture
def built(monkeypatch):
    """List with an entry for each `RowPosterior` that is built."""
    entries = []

    class Counted(RowPosterior):
        def __init__(self, *parts):
            entries.append(parts)
            super().__init__(*parts)

    monkeypatch.setattr(row_posterior, "RowPosterior", Counted)
    return entries


def test_the_row_posterior_is_built_once_for_each_fit(mixed, quick, built):
    encoder = CMIMEncoder(**quick, warm_start=True)

    def use():
        """Scores, after a call of every other method that uses it."""
        encoder.score_columns(mixed[:2])
        encoder.impute(mixed[:9])
        encoder.impute(mixed[:9], n_draws=2)
        encoder.sample(2, conditions={"age": 40})
        return encoder.score_samples(mixed[:9])

    scores = []
    for train in (encoder.fit, encoder.fit, encoder.partial_fit, encoder.partial_fit):
        train(mixed)
        scores.append(use())
        assert len(built) == len(scores)
    assert len({found.tobytes() for found in scores}) == 4
    for again in (pickle.loads(pickle.dumps(encoder)), copy.deepcopy(encoder)):
        np.testing.assert_array_equal(again.score_samples(mixed[:9]), scores[-1])
    assert len(built) == 6


def test_a_large_row_posterior_is_not_kept(mixed, quick, built, monkeypatch):
    encoder = CMIMEncoder(**quick).fit(mixed)
    scores = encoder.score_samples(mixed[:9])
    monkeypatch.setattr(row_posterior, "MAX_KEPT", 10)
    for again in (copy.deepcopy(encoder), copy.deepcopy(encoder)):
        for _ in range(2):
            np.testing.assert_array_equal(again.score_samples(mixed[:9]), scores)
    assert len(built) == 5


@pytest.mark.parametrize("end", ["fit", "partial_fit", "fit_schema", "delete"])
def test_a_row_posterior_is_freed_with_its_fit(mixed, quick, end):
    encoder = CMIMEncoder(**quick).fit(mixed)
    encoder.score_samples(mixed[:2])
    kept = weakref.ref(row_posterior.row_posterior(encoder._model(), encoder._latents))
    assert kept() is not None
    if end == "delete":
        del encoder
    else:
        getattr(encoder, end)(mixed)
    gc.collect()
    assert kept() is None


def test_a_row_posterior_is_that_of_one_model_on_one_device(mixed, quick):
    encoder = CMIMEncoder(**quick).fit(mixed)
    model = encoder._model()
    kept = row_posterior.row_posterior(model, encoder._latents)
    assert kept.is_for(model)
    assert not kept.is_for(copy.deepcopy(model))
    assert not kept.is_for(model.to("meta"))


def test_scores_have_the_same_bits_on_two_threads(mixed, quick):
    encoder = CMIMEncoder(**quick).fit(mixed)
    expected = encoder.score_samples(mixed[:9])
    encoder.set_params(net_params={"n_threads": 2})
    np.testing.assert_array_equal(copy.deepcopy(encoder).score_samples(mixed[:9]), expected)


def test_use_does_not_change_the_state_of_an_encoder(mixed, quick):
    encoder = CMIMEncoder(**quick).fit(mixed)
    encoder.transform(mixed[:5])
    before, names = joblib.hash(encoder), set(vars(encoder))
    encoder.score_samples(mixed[:5])
    encoder.impute(mixed[:5])
    assert joblib.hash(encoder) == before
    assert set(vars(encoder)) == names


def test_threads_share_a_row_posterior(mixed, quick):
    encoder = CMIMEncoder(**quick).fit(mixed)
    expected = copy.deepcopy(encoder).score_samples(mixed)
    with ThreadPoolExecutor(4) as pool:
        parts = [mixed[start : start + 40] for start in range(0, len(mixed), 40)]
        found = np.concatenate(list(pool.map(encoder.score_samples, parts)))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_grid_search_uses_the_scores(mixed):
    search = GridSearchCV(
        CMIMEncoder(n_components=3, hidden_layer_sizes=(16,), random_state=0),
        {"max_iter": [1, 15]},
        cv=2,
    ).fit(mixed)
    assert search.best_params_ == {"max_iter": 15}
