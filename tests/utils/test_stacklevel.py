"""Warnings point to the user's line, also from within scikit-learn."""

import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from cmim_sklearn import CMIMEncoder


def pipeline(quick):
    return make_pipeline(CMIMEncoder(**quick | {"max_iter": 1}), LogisticRegression())


def with_a_new_level(mixed):
    table = mixed.drop(columns=["member"])
    table.loc[table.index[-1], "word"] = "never seen"
    return table


@pytest.mark.parametrize(
    "use",
    [
        lambda pipe, X, y: pipe.predict(X),
        lambda pipe, X, y: cross_val_score(pipe, X, y, cv=2),
        lambda pipe, X, y: GridSearchCV(pipe, {"logisticregression__C": [1]}, cv=2).fit(X, y),
        lambda pipe, X, y: pipe.set_params(cmimencoder__warm_start=True).fit(X, y),
        lambda pipe, X, y: pipe.set_params(cmimencoder__n_components=1).fit(X, y),
    ],
    ids=["predict", "cross_val_score", "search", "warm_start", "n_components"],
)
def test_warnings_from_a_pipeline_point_to_the_calling_line(mixed, quick, use):
    pipe, y = pipeline(quick).fit(mixed.drop(columns=["member"]), mixed["member"]), mixed["member"]
    with pytest.warns(UserWarning, match=r"not seen in fit|n_components=1") as caught:
        use(pipe, with_a_new_level(mixed), y)
    assert {warning.filename for warning in caught} == {__file__}
