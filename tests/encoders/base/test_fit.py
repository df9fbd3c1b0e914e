"""Training on a whole table: randomness, length, warm starts, callbacks, failures and search."""

import copy
import pickle
import random
import threading

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.fixes import parse_version
from skorch.callbacks import Callback

from cmim_sklearn import CMIMEncoder, InfoNCEEncoder
from cmim_sklearn._encoders.base import fit as steps
from cmim_sklearn._encoders.base.fit import n_epochs
from tests.helpers import make_mixed, small_encoder, weights

# -- randomness ------------------------------------------------------------------------------------


def test_a_seed_gives_the_same_model_while_other_fits_run(mixed, quick):
    quick = quick | {"max_iter": 15}
    one = CMIMEncoder(**quick).fit(mixed)
    stop = threading.Event()

    def fit_others():
        seed = 0
        while not stop.is_set():
            CMIMEncoder(**quick | {"max_iter": 2, "random_state": seed}).fit(mixed)
            torch.rand(3)
            seed += 1

    thread = threading.Thread(target=fit_others)
    thread.start()
    try:
        two = CMIMEncoder(**quick).fit(mixed)
    finally:
        stop.set()
        thread.join()
    assert weights(one) == weights(two)
    assert weights(one) != weights(CMIMEncoder(**quick | {"random_state": 1}).fit(mixed))
    np.testing.assert_array_equal(one.transform(mixed), two.transform(mixed))
    pd.testing.assert_frame_equal(
        one.sample(9, random_state=3), two.sample(9, random_state=3), check_exact=True
    )


def test_global_random_state_is_untouched(mixed, quick):
    def states():
        return random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state().numpy()

    before = states()
    encoder = CMIMEncoder(**quick, early_stopping=True).fit(mixed)
    encoder.transform(mixed)
    encoder.sample(5, random_state=0)
    after = states()
    assert before[:2] == after[:2]
    np.testing.assert_array_equal(before[2], after[2])


def test_a_random_state_instance_advances_and_none_differs_each_time(mixed, quick):
    rng = np.random.RandomState(0)
    one = CMIMEncoder(**quick | {"random_state": rng}).fit(mixed)
    two = CMIMEncoder(**quick | {"random_state": rng}).fit(mixed)
    assert weights(one) != weights(two)
    free = [CMIMEncoder(**quick | {"random_state": None}).fit(mixed) for _ in range(2)]
    assert weights(free[0]) != weights(free[1])


# -- length and held-out rows ----------------------------------------------------------------------


def test_auto_epochs_make_about_1500_updates():
    assert n_epochs("auto", 256 * 100, 256, width=1200) == 15
    assert n_epochs("auto", 10**7, 256, width=3) == 10
    assert n_epochs("auto", 50, 256, width=3) == 400
    assert n_epochs(7, 50, 256, width=3) == 7


def test_auto_epochs_make_fewer_updates_for_a_wide_table():
    # An array of 800 columns has 1,600 inputs (values and indicators) and 800 outputs.
    assert n_epochs("auto", 1000, 100, width=2400) == 75
    assert n_epochs("auto", 1000, 100, width=10**6) == 50


def test_the_width_of_a_table_is_its_number_of_inputs_and_outputs(monkeypatch):
    widths = []

    def one_epoch(max_iter, n_rows, batch_size, width):
        widths.append(width)
        return 1

    monkeypatch.setattr(steps, "n_epochs", one_epoch)
    frame = pd.DataFrame({"a": [0.5, 1.5, 2.5], "b": ["x", "y", "z"]})
    CMIMEncoder().fit(frame)
    InfoNCEEncoder().fit(frame)
    # Inputs: value and indicator of a number, a one-hot of three. Outputs: a mean, three scores.
    assert widths == [2 + 3 + 1 + 3, 2 + 3]


def test_held_out_rows_are_not_trained_on(mixed, quick, monkeypatch):
    from cmim_sklearn._training.net import LatentNet

    seen, get_iterator = {}, LatentNet.get_iterator

    def spy(self, dataset, training=False):
        seen[training] = dataset.x
        return get_iterator(self, dataset, training)

    monkeypatch.setattr(LatentNet, "get_iterator", spy)
    mixed["income"] = np.arange(200.0)  # identifies rows
    CMIMEncoder(**quick, early_stopping=True, validation_fraction=0.25).fit(mixed)
    train, held_out = (
        {tuple(row) for row in seen[t].nan_to_num(-9).tolist()} for t in (True, False)
    )
    assert (len(train), len(held_out)) == (150, 50)
    assert not train & held_out


@pytest.mark.parametrize(
    "params",
    [
        {"contrastive_weight": 0.5},
        {"temperature": 1.0},
        {"posterior": "fixed"},
        {"activation": "relu"},
        {"input_masking": 0.5},
        {"batch_size": 64},
        {"learning_rate_init": 1e-2},
        {"alpha": 10.0},
        {"max_iter": 1},
        {"early_stopping": True},
        {"early_stopping": True, "validation_fraction": 0.4},
        {"early_stopping": True, "tol": 1e9, "n_iter_no_change": 1},
        {"numeric_scaling": "standard"},
        {"likelihoods": {"visits": "poisson"}},
        {"categorical_features": ["flag"]},
        {"max_categories": 2},
        {"n_components": 5},
        {"hidden_layer_sizes": (17,)},
    ],
    ids=repr,
)  # fmt: skip
def test_a_parameter_changes_the_fit(mixed, fitted, params):
    assert weights(small_encoder(**params).fit(mixed)) != weights(fitted())


# -- warm starts and failures ----------------------------------------------------------------------


def test_warm_start_continues_training(mixed, quick):
    encoder = CMIMEncoder(**quick, warm_start=True).fit(mixed)
    before = copy.deepcopy(encoder.net_.module.state_dict())
    first = encoder.loss_curve_
    encoder.set_params(learning_rate_init=1e-30).fit(mixed)
    for name, w in encoder.net_.module.state_dict().items():
        torch.testing.assert_close(w, before[name])
    assert encoder.n_iter_ == 6
    assert encoder.loss_curve_[:3] == first
    loaded = pickle.loads(pickle.dumps(encoder)).fit(mixed)
    assert loaded.n_iter_ == 9


def test_warm_start_raises_for_another_network_or_table(mixed, quick):
    encoder = CMIMEncoder(**quick, warm_start=True).fit(mixed)
    with pytest.raises(ValueError, match="n_components changed since it was learned"):
        encoder.set_params(n_components=7).fit(mixed)
    with pytest.raises(ValueError, match="7 features, but CMIMEncoder is expecting 8"):
        encoder.set_params(n_components=4).fit(mixed.drop(columns="word").to_numpy())


@pytest.mark.parametrize("params", [{"max_categories": 2}, {"categorical_features": ["age"]}])
def test_warm_start_raises_for_other_column_kinds(mixed, quick, params):
    encoder = CMIMEncoder(**quick, warm_start=True).fit(mixed)
    message = rf"warm_start=True continues.*but {next(iter(params))} changed"
    with pytest.raises(ValueError, match=message):
        encoder.set_params(**params).fit(mixed)


def test_a_mask_and_the_positions_that_it_selects_are_the_same_columns(mixed, quick):
    mask = [name == "age" for name in mixed]
    encoder = CMIMEncoder(**quick, warm_start=True, categorical_features=mask).fit(mixed)
    encoder.set_params(categorical_features=[mask.index(True)]).fit(mixed)
    with pytest.raises(ValueError, match="but categorical_features changed"):
        encoder.set_params(categorical_features=[int(is_age) for is_age in mask]).fit(mixed)


def test_parameters_that_change_during_a_fit_are_not_those_of_the_network(mixed, quick):
    class Changes(Callback):
        def on_epoch_end(self, net, **kwargs):
            encoder.set_params(n_components=7)

    encoder = CMIMEncoder(**quick, net_params={"callbacks": [Changes()]})
    encoder.fit(mixed)
    again = pickle.loads(pickle.dumps(encoder.set_params(net_params=None)))
    np.testing.assert_array_equal(again.transform(mixed), encoder.transform(mixed))


def test_warm_start_notices_a_dict_that_changed_in_place(mixed, quick):
    likelihoods = {}
    encoder = CMIMEncoder(**quick, warm_start=True, likelihoods=likelihoods).fit(mixed)
    likelihoods["visits"] = "poisson"
    with pytest.raises(ValueError, match="but likelihoods changed since it was learned"):
        encoder.fit(mixed)


def test_without_warm_start_a_second_fit_starts_over(mixed, fitted):
    again = copy.deepcopy(fitted()).fit(mixed)
    assert weights(again) == weights(fitted())
    assert again.n_iter_ == 2


def test_a_failed_refit_keeps_the_columns(mixed, fitted):
    encoder = copy.deepcopy(fitted())
    Z = encoder.transform(mixed)
    with pytest.raises(ValueError, match="inf"):
        encoder.fit(pd.DataFrame({"a": [1.0, np.inf], "b": [1, 2]}))
    with pytest.raises(ValueError, match="feature"):
        encoder.fit(mixed[["age", "score"]], X_val=mixed)
    with pytest.raises(
        ValueError, match=r"^X_val: Column 'age' must hold numbers, as in fit; got .* in row 0"
    ):
        encoder.fit(mixed, X_val=mixed.astype({"age": str}))
    np.testing.assert_array_equal(encoder.transform(mixed), Z)
    assert encoder.n_features_in_ == 8
    fresh = small_encoder()
    with pytest.raises(ValueError, match="inf"):
        fresh.fit(pd.DataFrame({"a": [1.0, np.inf], "b": [1, 2]}))
    assert not hasattr(fresh, "n_features_in_")


def test_a_diverged_refit_leaves_the_encoder_unchanged(mixed, quick):
    encoder = CMIMEncoder(**quick, warm_start=True).fit(mixed)
    Z = encoder.transform(mixed)
    with pytest.raises(FloatingPointError):
        encoder.set_params(learning_rate_init=1e30).fit(mixed)
    np.testing.assert_array_equal(encoder.transform(mixed), Z)
    assert encoder.n_iter_ == 3


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (make_mixed()[:1], r"1 sample\(s\) \(shape=\(1, 8\)\) while a minimum of 2 is required"),
        (make_mixed()[:0], r"0 sample\(s\)"),
        (make_mixed()[[]], r"0 feature\(s\) \(shape=\(200, 0\)\) while a minimum of 1"),
        (np.empty((5, 0)), r"0 feature\(s\)"),
    ],
)
def test_tables_that_are_too_small_raise(X, message, quick):
    with pytest.raises(ValueError, match=message):
        CMIMEncoder(**quick).fit(X)


# -- callbacks, compilation and search -------------------------------------------------------------


@pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.9"), reason="callbacks came with 1.9"
)
def test_scikit_learn_callbacks_see_every_epoch_and_can_stop(mixed, quick):
    class Count:
        def setup(self, estimator, context):
            self.events = ["setup"]

        def teardown(self, estimator, context):
            self.events.append("teardown")

        def on_fit_task_begin(self, estimator, context):
            self.events.append(f"begin {context.task_name}")

        def on_fit_task_end(self, estimator, context):
            self.events.append(f"end {context.task_name}")
            return self.events.count("end epoch") == 2

    count = Count()
    encoder = CMIMEncoder(**quick).set_callbacks(count).fit(mixed)
    assert count.events == [
        "setup", "begin fit", "begin epoch", "end epoch", "begin epoch", "end epoch", "end fit",
        "teardown",
    ]  # fmt: skip
    assert encoder.n_iter_ == 2


@pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.9"), reason="callbacks came with 1.9"
)
def test_scikit_learn_progress_bar(mixed, quick, capsys):
    pytest.importorskip("rich")
    from sklearn.callback import ProgressBar

    CMIMEncoder(**quick).set_callbacks(ProgressBar()).fit(mixed)
    assert "CMIMEncoder" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch.compile warns about torch
def test_torch_compile_gives_the_same_weights_and_is_not_pickled(mixed, quick):
    plain = CMIMEncoder(**quick).fit(mixed)
    # The backend "eager" traces like the others, but skips compilation, which takes a minute.
    compiled = CMIMEncoder(**quick, net_params={"compile": True, "compile__backend": "eager"}).fit(
        mixed
    )
    assert hasattr(compiled.net_.module_, "_orig_mod")
    assert weights(plain) == weights(compiled)
    again = pickle.loads(pickle.dumps(compiled))
    np.testing.assert_array_equal(again.transform(mixed), plain.transform(mixed))


def test_successive_halving_over_epochs(mixed, quick):
    X, y = mixed.drop(columns="member"), mixed["member"]
    pipe = Pipeline([("cmim", CMIMEncoder(**quick)), ("clf", LogisticRegression())])
    search = HalvingGridSearchCV(
        pipe,
        {"cmim__contrastive_weight": [0, 1, 10, 100]},
        resource="cmim__max_iter",
        min_resources=1,
        max_resources=4,
        factor=2,
        cv=2,
        random_state=0,
    ).fit(X, y)
    assert search.n_resources_ == [1, 2, 4]
    assert search.n_candidates_ == [4, 2, 1]
    assert search.best_estimator_["cmim"].n_iter_ == 4


@pytest.mark.slow
def test_grid_search_in_processes(mixed, quick):
    y = (mixed["age"] > 40).to_numpy()
    pipe = Pipeline([("cmim", CMIMEncoder(**quick)), ("clf", LogisticRegression(max_iter=1000))])
    search = GridSearchCV(pipe, {"cmim__contrastive_weight": [0, 1, 10]}, n_jobs=2, cv=2)
    search.fit(mixed, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    again = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(again.predict(mixed), search.predict(mixed))
