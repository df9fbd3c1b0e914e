"""Searches against those of scikit-learn: results, errors, processes, pipelines, training."""

import pickle

import numpy as np
import pytest
import sklearn
from sklearn import model_selection as plain
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.exceptions import FitFailedWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import KFold, ShuffleSplit
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import _safe_indexing
from sklearn.utils.fixes import parse_version

from cmim_sklearn import CMIMEncoder, MIMEncoder, model_selection
from cmim_sklearn._encoders.base import joint_fit
from cmim_sklearn._training import train as training
from tests.helpers import LIBRARIES, make_mixed

pytestmark = pytest.mark.usefixtures("short_calibration")
SMALL = {
    "max_iter": 3, "hidden_layer_sizes": (8,), "n_components": 3, "batch_size": 50,
    "random_state": 0, "device": "cpu",
}  # fmt: skip
SEARCHES = model_selection.__all__
VERSION = parse_version(sklearn.__version__)
SEARCHED = [name for name in LIBRARIES if name != "pyarrow" or parse_version("1.7") <= VERSION]
"""Libraries whose tables scikit-learn can index."""


@pytest.fixture
def forced(monkeypatch):
    """Searches that train encoders together on the CPU, too."""
    for name in SEARCHES:
        monkeypatch.setattr(getattr(model_selection, name), "_batched", True)


@pytest.fixture
def trained(monkeypatch):
    """Numbers of nets that were trained at once, one by one: two lists."""
    counts, at_once, alone = ([], []), training.train_batched, training.LatentNet.partial_fit

    def train_batched(nets, tables):
        counts[0].append(len(nets))
        return at_once(nets, tables)

    def partial_fit(net, *args, **kwargs):
        counts[1].append(net)
        return alone(net, *args, **kwargs)

    monkeypatch.setattr(training, "train_batched", train_batched)
    monkeypatch.setattr(training.LatentNet, "partial_fit", partial_fit)
    return counts


def titled(n_rows=90):
    table = make_mixed(n_rows).drop(columns=["word", "visits"])
    return table, table.pop("member").to_numpy()


def pipe(**parameters):
    encoder = CMIMEncoder(**SMALL | parameters)
    return Pipeline([("cmim", encoder), ("clf", LogisticRegression())])


def assert_equal_results(search, other, tolerance=0.01):
    ours, theirs = search.cv_results_, other.cv_results_
    assert list(ours) == list(theirs)
    assert ours["params"] == theirs["params"]
    assert all(type(params) is dict for params in ours["params"])
    for name in theirs:
        if name.startswith(("mean_t", "std_t", "split")):
            np.testing.assert_allclose(ours[name], theirs[name], atol=tolerance)
        elif name.startswith("param_"):
            assert ours[name].tolist() == theirs[name].tolist()
    found, best = (theirs["mean_test_score"][one.best_index_] for one in (search, other))
    assert found >= best - tolerance


# -- equal to scikit-learn's -----------------------------------------------------------------------


def test_a_grid_of_weights(forced, trained):
    X, y = titled()
    grid = {"cmim__contrastive_weight": [0, 10], "clf__C": [0.1, 1.0]}
    search = model_selection.GridSearchCV(pipe(), grid, cv=2, return_train_score=True).fit(X, y)
    # Candidates that differ only after the encoder share its fits; the last fit is the refit.
    assert trained[0] == [4]
    assert len(trained[1]) == 1
    other = plain.GridSearchCV(pipe(), grid, cv=2, return_train_score=True).fit(X, y)
    assert_equal_results(search, other)
    assert search.best_params_ == other.best_params_
    np.testing.assert_array_equal(search.predict_proba(X), other.predict_proba(X))
    assert search.best_score_ == pytest.approx(other.best_score_, abs=0.01)


def test_a_grid_of_label_weights(forced, trained):
    X, y = titled(660)
    shared = {"max_iter": 3, "batch_size": 110}
    grid = {"cmim__label_weight": [0.0, 3.0, 10.0]}
    search = model_selection.GridSearchCV(pipe(**shared), grid, cv=2, refit=False).fit(X, y)
    # Encoders with labels and without have different networks; each kind is trained at once.
    assert sorted(trained[0]) == [2, 4]
    assert not trained[1]
    other = plain.GridSearchCV(pipe(**shared), grid, cv=2, refit=False).fit(X, y)
    assert_equal_results(search, other)


@pytest.mark.slow
def test_processes_take_the_prepared_encoders(forced, trained):
    X, y = titled()
    grid = {"cmim__contrastive_weight": [0, 10]}
    search = model_selection.GridSearchCV(pipe(verbose=2), grid, cv=2, n_jobs=2, refit=False)
    search.fit(X, y)
    assert trained[0] == [4]
    other = plain.GridSearchCV(pipe(), grid, cv=2, refit=False).fit(X, y)
    assert_equal_results(search, other)
    # An encoder that is trained in a process takes longer.
    assert max(search.cv_results_["mean_fit_time"]) < 30


def test_threads_take_the_prepared_encoders(forced, trained):
    import joblib

    X, y = titled()
    grid = {"cmim__contrastive_weight": [0, 10]}
    search = model_selection.GridSearchCV(pipe(), grid, cv=2, n_jobs=2, refit=False)
    with joblib.parallel_backend("threading"):
        search.fit(X, y)
    assert trained == ([4], [])


def test_an_encoder_alone_is_scored_by_its_likelihood(forced, trained):
    X, _ = titled()
    grid = {"contrastive_weight": [0, 5], "learning_rate_init": [1e-3, 0.01]}
    search = model_selection.GridSearchCV(CMIMEncoder(**SMALL), grid, cv=2).fit(X)
    assert (trained[0], len(trained[1])) == ([8], 1)
    other = plain.GridSearchCV(CMIMEncoder(**SMALL), grid, cv=2).fit(X)
    assert_equal_results(search, other)
    assert search.best_params_ == other.best_params_


def test_random_candidates(forced, trained):
    X, y = titled()
    space = {"cmim__learning_rate_init": [1e-3, 0.01, 0.1], "cmim__alpha": [0.0, 0.1]}
    options = {"n_iter": 3, "cv": 2, "random_state": 0, "refit": False}
    search = model_selection.RandomizedSearchCV(pipe(), space, **options).fit(X, y)
    assert trained == ([6], [])
    assert_equal_results(search, plain.RandomizedSearchCV(pipe(), space, **options).fit(X, y))


@pytest.mark.parametrize("name", ["HalvingGridSearchCV", "HalvingRandomSearchCV"])
@pytest.mark.parametrize("resource", ["n_samples", "cmim__max_iter"])
def test_successive_halving(name, resource, forced, trained):
    X, y = titled()
    options = {"resource": resource, "factor": 2, "cv": 2, "random_state": 0, "refit": False}
    options |= {"min_resources": 1, "max_resources": 2} if resource != "n_samples" else {
        "min_resources": 40
    }  # fmt: skip
    grid = {"cmim__contrastive_weight": [0, 10]}
    if name == "HalvingRandomSearchCV":
        options["n_candidates"] = 2
    search = getattr(model_selection, name)(pipe(), grid, **options).fit(X, y)
    assert trained == ([4, 2], [])
    other = getattr(plain, name)(pipe(), grid, **options).fit(X, y)
    assert_equal_results(search, other)
    assert search.n_resources_ == other.n_resources_


@pytest.mark.slow
def test_a_longer_search_on_a_mixed_table(forced):
    X, y = titled(600)
    grid = {"cmim__contrastive_weight": [0, 1, 10, 100]}
    estimator = pipe(max_iter=30, hidden_layer_sizes=(64,), n_components=16)
    search = model_selection.GridSearchCV(estimator, grid, cv=3).fit(X, y)
    other = plain.GridSearchCV(estimator, grid, cv=3).fit(X, y)
    assert_equal_results(search, other)


# -- what is trained together ----------------------------------------------------------------------


def test_splits_that_are_random_are_drawn_once(forced, trained):
    X, y = titled()
    cv = ShuffleSplit(2, train_size=0.5, random_state=np.random.RandomState(0))
    grid = {"cmim__contrastive_weight": [0, 10]}
    model_selection.GridSearchCV(pipe(), grid, cv=cv, refit=False).fit(X, y)
    assert trained == ([4], [])


@pytest.mark.parametrize("library", [*SEARCHED, "array", "list"])
def test_every_kind_of_table(library, forced, trained):
    X, y = titled(60)
    X = X.drop(columns=["city"])
    if library in LIBRARIES:
        X = LIBRARIES[library](X)
    else:
        X = X.to_numpy(float).tolist() if library == "list" else X.to_numpy(float)
    grid = {"cmim__contrastive_weight": [0, 10]}
    search = model_selection.GridSearchCV(pipe(max_iter=1), grid, cv=2, refit=False)
    search.fit(X, y.tolist())
    assert trained == ([4], [])


def test_an_iterator_of_splits(forced, trained):
    X, y = titled()
    grid = {"cmim__contrastive_weight": [0, 10]}
    ours, theirs = (
        searches.GridSearchCV(pipe(), grid, cv=KFold(2).split(X), refit=False).fit(X, y)
        for searches in (model_selection, plain)
    )
    assert_equal_results(ours, theirs)
    assert trained[0] == ([4] if parse_version("1.9") <= VERSION else [])


class Shifted(TransformerMixin, BaseEstimator):
    """Add a constant, and noise from a seed."""

    def __init__(self, by=0.0, random_state=None, fails=False):
        self.by, self.random_state, self.fails = by, random_state, fails

    def fit(self, X, y=None):
        if self.fails:
            raise RuntimeError("it fails")
        self.noise_ = np.random.RandomState(self.random_state).rand()
        return self

    def transform(self, X):
        return X + self.by + self.noise_


def test_steps_before_the_encoder_and_nested_pipelines(forced, trained):
    X = titled()[0].drop(columns="city").fillna(0.0).to_numpy(float)
    y = titled()[1]
    inner = make_pipeline(StandardScaler(), "passthrough", CMIMEncoder(**SMALL))
    estimator = make_pipeline(Shifted(random_state=0), inner, LogisticRegression())
    grid = {
        "shifted__by": [0.0, 2.0],
        "pipeline__cmimencoder__contrastive_weight": [0, 10],
    }
    options = {"cv": 2, "refit": False}
    search = model_selection.GridSearchCV(estimator, grid, **options).fit(X, y)
    assert trained == ([8], [])
    assert_equal_results(search, plain.GridSearchCV(estimator, grid, **options).fit(X, y))


def test_steps_with_other_results_each_time_are_not_confused(forced, trained):
    X = titled()[0].drop(columns="city").fillna(0.0).to_numpy(float)
    estimator = make_pipeline(Shifted(), CMIMEncoder(**SMALL | {"max_iter": 1}))
    grid = {"cmimencoder__contrastive_weight": [0, 10]}
    model_selection.GridSearchCV(estimator, grid, cv=2, refit=False).fit(X)
    assert len(trained[1]) == 4  # the encoders of the folds were fitted to other rows


def test_candidates_that_replace_the_encoder(forced, trained):
    X, y = titled()
    encoders = [CMIMEncoder(**SMALL), MIMEncoder(**SMALL), StandardScaler()]
    X = X.drop(columns="city").fillna(0.0)
    search = model_selection.GridSearchCV(pipe(), {"cmim": encoders}, cv=2, refit=False)
    search.fit(X, y)
    assert trained == ([2, 2], [])
    other = plain.GridSearchCV(pipe(), {"cmim": encoders}, cv=2, refit=False).fit(X, y)
    for name in ("split0_test_score", "split1_test_score"):
        np.testing.assert_allclose(search.cv_results_[name], other.cv_results_[name], atol=0.01)


def test_random_states_that_are_none_give_fits_of_their_own(forced, trained):
    X, y = titled()
    search = model_selection.GridSearchCV(
        pipe(random_state=None, max_iter=1), {"clf__C": [0.1, 1.0]}, cv=2, refit=False
    )
    search.fit(X, y)
    assert trained == ([4], [])


def test_encoders_that_cannot_be_trained_together_are_left_to_scikit_learn(forced, trained):
    X, y = titled()
    grid = {"cmim__net_params": [{"optimizer__eps": 1e-7}, {"optimizer__eps": 1e-6}]}
    model_selection.GridSearchCV(pipe(max_iter=1), grid, cv=2, refit=False).fit(X, y)
    assert trained[0] == []
    assert len(trained[1]) == 4


def test_generation_is_left_out_where_only_features_count(forced, monkeypatch):
    X, y = titled()
    fitted = []
    monkeypatch.setattr(
        model_selection, "fit_for_features",
        lambda *args, needs_all, **_: fitted.append(needs_all) or [False] * len(args[0]),
    )  # fmt: skip
    for scoring in (None, "accuracy", ["accuracy"], lambda pipe, X, y: 0.0):
        grid = {"cmim__contrastive_weight": [0, 10]}
        model_selection.GridSearchCV(
            pipe(max_iter=1), grid, cv=2, refit=False, scoring=scoring
        ).fit(X, y)
    assert fitted == [False, False, False, True]


def test_a_cpu_leaves_everything_to_scikit_learn(trained, monkeypatch):
    monkeypatch.setattr(model_selection, "fit_key", None)
    monkeypatch.setattr(model_selection, "hash_of_table", None)
    monkeypatch.setattr(joint_fit, "hash_of_table", None)
    X, y = titled()
    grid = {"cmim__contrastive_weight": [0, 10]}
    for name in ("GridSearchCV", "RandomizedSearchCV"):
        search = getattr(model_selection, name)(pipe(max_iter=1), grid, cv=2)
        if name == "RandomizedSearchCV":
            search.set_params(n_iter=2)
        search.fit(X, y)
        other = getattr(plain, name)(**search.get_params(deep=False)).fit(X, y)
        for key in ("split0_test_score", "split1_test_score"):
            np.testing.assert_array_equal(search.cv_results_[key], other.cv_results_[key])
    assert trained[0] == []


def test_estimators_without_an_encoder(forced, trained):
    X = np.random.RandomState(0).randn(40, 3)
    grid = {"C": [0.1, 1.0]}
    ours, theirs = (
        searches.GridSearchCV(LogisticRegression(), grid, cv=2).fit(X, X[:, 0] > 0)
        for searches in (model_selection, plain)
    )
    assert_equal_results(ours, theirs, tolerance=0)
    assert trained == ([], [])


def test_verbose_says_how_many_encoders_are_trained_at_once(forced, capsys):
    X, y = titled()
    grid = {"cmim__contrastive_weight": [0, 10]}
    model_selection.GridSearchCV(pipe(max_iter=1), grid, cv=2, verbose=1, refit=False).fit(X, y)
    printed = capsys.readouterr().out
    assert "4 fits of CMIMEncoder at once" in printed
    assert "Fitting 2 folds for each of 2 candidates, totalling 4 fits" in printed


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [
    {"cmim__learning_rate_init": [1e-3, 1e30, 0.01]},  # diverges
    {"cmim__n_components": [3, 0, 3]},  # is not valid
    {"cmim__device": ["cpu", "gpu", "cpu"]},  # is not valid
    {"cmim__categorical_features": ["from_dtype", ["no such column"], "from_dtype"]},  # reads badly
], ids=lambda grid: next(iter(grid)))  # fmt: skip
def test_an_error_concerns_its_candidate_alone(grid, forced, trained):
    X, y = titled()
    search = model_selection.GridSearchCV(pipe(), grid, cv=2, error_score=-7.0, refit=False)
    with pytest.warns(FitFailedWarning, match="2 fits failed out of a total of 6"):
        search.fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    assert scores[1] == -7.0
    assert min(scores[0], scores[2]) > 0
    assert sum(trained[0]) in (2, 4, 6)
    other = plain.GridSearchCV(pipe(), grid, cv=2, error_score=-7.0, refit=False)
    with pytest.warns(FitFailedWarning, match="2 fits failed out of a total of 6"):
        other.fit(X, y)
    np.testing.assert_allclose(scores, other.cv_results_["mean_test_score"], atol=0.01)


def test_error_score_raise(forced):
    X, y = titled()
    grid = {"cmim__learning_rate_init": [1e-3, 1e30]}
    search = model_selection.GridSearchCV(pipe(), grid, cv=2, error_score="raise")
    with pytest.raises(FloatingPointError, match="halving the learning rate"):
        search.fit(X, y)
    assert joint_fit._offered.fits is None


def test_a_failing_step_before_the_encoder(forced, trained):
    X = titled()[0].drop(columns="city").fillna(0.0).to_numpy(float)
    estimator = make_pipeline(Shifted(random_state=0), CMIMEncoder(**SMALL | {"max_iter": 1}))
    grid = {"shifted__fails": [True, False]}
    search = model_selection.GridSearchCV(estimator, grid, cv=2, error_score=-7.0, refit=False)
    with pytest.warns(FitFailedWarning, match="2 fits failed"):
        search.fit(X)
    assert search.cv_results_["mean_test_score"][0] == -7.0
    assert trained == ([2], [])


def test_unknown_parameters_raise_as_in_scikit_learn(forced):
    X, y = titled()
    search = model_selection.GridSearchCV(pipe(), {"cmim__no_such": [1]}, cv=2)
    with pytest.raises(ValueError, match="Invalid parameter 'no_such'"):
        search.fit(X, y)


# -- prepared fits ---------------------------------------------------------------------------------


def test_prepared_fits_are_for_equal_encoders_and_rows():
    X, _ = titled(40)
    encoder = CMIMEncoder(**SMALL | {"max_iter": 1})
    fitted, fits = clone(encoder).fit(X), joint_fit.PreparedFits()
    fits.add(joint_fit.fit_key(encoder, joint_fit.hash_of_table(X)), fitted)
    fits.offer()
    try:
        for other, table in (
            (clone(encoder).set_params(alpha=0.5), X),
            (encoder, X[::-1]),
            (MIMEncoder(**SMALL), X),
        ):
            assert not joint_fit.take_prepared(other, table)
        held_out = clone(encoder).fit(X, X_val=X[:5])
        assert held_out.validation_scores_ is not None
        taken = clone(encoder).fit(X.copy())
        assert taken.net_ is fitted.net_
        assert vars(taken).keys() == vars(fitted).keys()
        assert not joint_fit.take_prepared(clone(encoder), X)  # once only
    finally:
        joint_fit.withdraw_prepared()


def test_a_prepared_fit_leaves_the_output_and_a_warm_start_alone():
    X, _ = titled(40)
    encoder = CMIMEncoder(**SMALL | {"max_iter": 1, "warm_start": True})
    fitted = clone(encoder).set_output(transform="pandas").fit(X)
    key = joint_fit.fit_key(encoder, joint_fit.hash_of_table(X))
    again = clone(encoder).fit(X)
    fits = joint_fit.PreparedFits()
    fits.add(key, fitted)
    fits.offer()
    try:
        assert len(again.fit(X).loss_curve_) == 2  # continued from its own weights
        taken = clone(encoder).fit(X)
        assert taken.net_ is fitted.net_
        assert isinstance(taken.transform(X), np.ndarray)
    finally:
        joint_fit.withdraw_prepared()


def test_prepared_fits_with_labels_are_for_equal_labels():
    _, y = titled(40)
    labelled, plain_one = CMIMEncoder(label_weight=1.0), CMIMEncoder()
    assert joint_fit.fit_key(labelled, "t", y) == joint_fit.fit_key(labelled, "t", y.copy())
    assert joint_fit.fit_key(labelled, "t", y) != joint_fit.fit_key(labelled, "t", ~y)
    assert joint_fit.fit_key(plain_one, "t", y) == joint_fit.fit_key(plain_one, "t", ~y)


def test_a_class_of_the_same_name_takes_no_prepared_fit():
    other = type("CMIMEncoder", (CMIMEncoder,), {"__module__": __name__})
    assert joint_fit.fit_key(other(), "t") != joint_fit.fit_key(CMIMEncoder(), "t")


@pytest.mark.parametrize("library", [*SEARCHED, "array", "list"])
def test_tables_have_one_hash_in_every_process(library):
    table = make_mixed(40)
    if library in LIBRARIES:
        table = LIBRARIES[library](table)
    else:
        table = table.to_numpy(object)
        table = table.tolist() if library == "list" else table
    own = joint_fit.hash_of_table(table)
    assert isinstance(own, str)
    rows = np.arange(39)
    part = joint_fit.hash_of_table(_safe_indexing(table, rows))
    assert part != own
    sent = pickle.loads(pickle.dumps(table))
    assert joint_fit.hash_of_table(sent) == own
    assert joint_fit.hash_of_table(_safe_indexing(sent, rows)) == part
    assert joint_fit.hash_of_table("no table") is None


def test_another_process_does_not_use_the_gpu():
    X, _ = titled(40)
    encoder = CMIMEncoder(**SMALL | {"max_iter": 1, "device": "auto"})
    fits = joint_fit.PreparedFits()
    fitted = clone(encoder).fit(X)
    fits.add(joint_fit.fit_key(encoder, joint_fit.hash_of_table(X)), fitted)
    fits = pickle.loads(pickle.dumps(fits))
    fits.process += 1
    fits.offer()
    try:
        assert encoder.fit(X).device == "cpu"
    finally:
        joint_fit.withdraw_prepared()
    np.testing.assert_allclose(encoder.transform(X), fitted.transform(X), atol=1e-5)


# -- as estimators ---------------------------------------------------------------------------------


def search_of(name, **parameters):
    return getattr(model_selection, name)(pipe(), {"cmim__alpha": [0.0, 0.1]}, **parameters)


@pytest.mark.parametrize("name", SEARCHES)
def test_parameters_clones_and_pickles(name):
    ours, theirs = getattr(model_selection, name), getattr(plain, name)
    assert ours._get_param_names() == theirs._get_param_names()
    assert issubclass(ours, theirs)
    search = search_of(name, cv=3)
    assert clone(search).get_params(deep=False).keys() == search.get_params(deep=False).keys()
    assert search.set_params(cv=4, estimator__cmim__alpha=0.5).cv == 4
    assert search.get_params()["estimator__cmim__alpha"] == 0.5
    again = pickle.loads(pickle.dumps(search))
    assert type(again) is ours
    assert repr(again) == repr(search)
    assert repr(search).startswith(f"{name}(cv=4")


def test_a_fitted_search_is_pickled(forced):
    X, y = titled()
    search = search_of("GridSearchCV", cv=KFold(2)).fit(X, y)
    again = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(again.predict(X), search.predict(X))
    assert again.cv_results_["params"] == search.cv_results_["params"]
    assert len(pickle.dumps(search)) < 1.5e6


def test_fit_parameters_and_groups(forced, trained):
    X, y = titled()
    cv = plain.GroupKFold(2)
    groups = np.arange(len(y)) % 3
    search = search_of("GridSearchCV", cv=cv, refit=False)
    search.fit(X, y, groups=groups, clf__sample_weight=np.arange(len(y)) + 1.0)
    assert trained == ([4], [])
    other = plain.GridSearchCV(**search.get_params(deep=False))
    other.fit(X, y, groups=groups, clf__sample_weight=np.arange(len(y)) + 1.0)
    assert_equal_results(search, other)


def test_metadata_routing(forced, trained):
    X, y = titled()
    groups, weight = np.arange(len(y)) % 3, np.arange(len(y)) + 1.0
    with sklearn.config_context(enable_metadata_routing=True):
        last = LogisticRegression().set_fit_request(sample_weight=True)
        estimator = pipe().set_params(clf=last)
        scorer = make_scorer(accuracy_score).set_score_request(sample_weight=True)
        options = {"cv": plain.GroupKFold(2), "refit": False, "scoring": scorer}
        ours, theirs = (
            searches.GridSearchCV(estimator, {"cmim__alpha": [0.0, 0.1]}, **options).fit(
                X, y, sample_weight=weight, groups=groups
            )
            for searches in (model_selection, plain)
        )
    assert_equal_results(ours, theirs)
    assert trained[0] == [4]


@pytest.mark.skipif(parse_version("1.9") > VERSION, reason="callbacks came with 1.9")
def test_callbacks_of_the_search_see_every_epoch(forced, trained):
    class Count:
        max_propagation_depth = None

        def __init__(self):
            self.names = []

        def setup(self, estimator, context):
            pass

        teardown = on_fit_task_begin = setup

        def on_fit_task_end(self, estimator, context):
            self.names.append(context.task_name)

    X, y = titled()
    count = Count()
    search_of("GridSearchCV", cv=2, refit=False).set_callbacks(count).fit(X, y)
    assert trained[0] == []
    assert count.names.count("epoch") == 12
