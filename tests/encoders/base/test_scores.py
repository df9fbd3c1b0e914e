"""Log-likelihoods of rows and of single cells."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GridSearchCV

from cmim_sklearn import CMIMEncoder
from tests.helpers import LIBRARIES


def test_scores_repeat_and_do_not_depend_on_other_rows(trained, mixed):
    scores = trained.score_samples(mixed)
    assert scores.shape == (200,)
    np.testing.assert_array_equal(trained.score_samples(mixed), scores)
    for rows in ([7], [3, 2, 1], list(range(199, -1, -1))):
        np.testing.assert_allclose(trained.score_samples(mixed.iloc[rows]), scores[rows], atol=1e-9)
    assert trained.score(mixed) == pytest.approx(scores.mean())


def test_scores_are_the_same_in_every_library(mixed, trained):
    expected = trained.score_samples(mixed)
    for make in LIBRARIES.values():
        np.testing.assert_allclose(trained.score_samples(make(mixed)), expected, atol=1e-6)


def test_rows_are_likelier_than_rows_with_shuffled_columns(trained, mixed):
    rng = np.random.RandomState(0)
    shuffled = mixed.apply(lambda c: c.sample(frac=1, random_state=rng).to_numpy())
    assert trained.score(mixed) > trained.score(shuffled) + 2


def test_the_least_likely_column_is_the_changed_one(trained, mixed):
    rows = mixed.dropna().iloc[:6]
    for name, value in {"score": -3.0, "age": 95, "visits": 200}.items():
        odd = rows.assign(**{name: np.array([value]).astype(rows[name].dtype)[0]})
        found = trained.score_columns(odd).argmin(1)
        assert (np.array(mixed.columns)[found] == name).mean() > 0.9
    usual = trained.score_columns(rows)
    assert np.abs(np.median(usual)) < 0.5
    # A contradiction without an extreme value: a high score, but not a member.
    odd = rows.assign(score=np.float32(1.8), member=False)
    worst = trained.score_columns(odd).argmin(1)
    assert np.isin(np.array(mixed.columns)[worst], ["score", "member"]).mean() > 0.7


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


def test_grid_search_uses_the_scores(mixed):
    search = GridSearchCV(
        CMIMEncoder(n_components=3, hidden_layer_sizes=(16,), random_state=0),
        {"max_iter": [1, 15]},
        cv=2,
    ).fit(mixed)
    assert search.best_params_ == {"max_iter": 15}
