"""`fit_together`: each encoder as by its own fit, groups, rows and tables, arguments, errors."""

import copy
import itertools
import pickle
import re
import warnings
import weakref

import numpy as np
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.utils.fixes import parse_version
from sklearn.utils.validation import check_is_fitted

import cmim_sklearn
from cmim_sklearn import CMIMEncoder, MIMEncoder, fit_together
from cmim_sklearn._encoders import together
from cmim_sklearn._training import heads
from cmim_sklearn._training import train as training
from cmim_sklearn._training.heads import HeadTraining
from cmim_sklearn._training.net import LatentNet
from tests.helpers import ENCODERS, LIBRARIES, make_mixed, small_encoder

pytestmark = pytest.mark.usefixtures("short_calibration")
SMALL = {"hidden_layer_sizes": (8,), "n_components": 3, "batch_size": 40, "max_iter": 4}


def small(name="CMIMEncoder", **parameters):
    return small_encoder(name, **SMALL | {"device": "cpu"} | parameters)


def two_folds(table):
    """Positions of two folds, of which the second is smaller and lacks a level."""
    has_level = (table["word"] == "zzz").to_numpy()
    positions = np.arange(len(table))
    return positions[::2], positions[1::2][~has_level[1::2]][:-1]


def assert_equal_fits(encoder, other, table, tolerance=1e-4, *, scores=False):
    assert vars(encoder).keys() == vars(other).keys()
    np.testing.assert_allclose(
        encoder.transform(table), other.transform(table), atol=tolerance, rtol=0
    )
    np.testing.assert_allclose(encoder.loss_curve_, other.loss_curve_, atol=tolerance)
    assert encoder.n_iter_ == other.n_iter_
    if scores:
        ours, theirs = (one.score_samples(table[:20]) for one in (encoder, other))
        assert np.median(np.abs(ours - theirs)) < 0.01  # single rows have Monte Carlo errors


# -- as by their own fits --------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Column 'word'")
def test_weights_by_folds_of_a_mixed_table():
    mixed = make_mixed(120)
    weights, folds = (0, 1, 10), two_folds(mixed)
    places = list(itertools.product(weights, folds))
    encoders = [small(contrastive_weight=w) for w, _ in places]
    own = [clone(e).fit(mixed.iloc[rows]) for e, (_, rows) in zip(encoders, places, strict=True)]
    fitted = fit_together(encoders, mixed, rows=[rows for _, rows in places], batched=True)
    assert all(one is other for one, other in zip(fitted, encoders, strict=True))
    complete = mixed[mixed["word"] != "zzz"]
    for encoder, other in zip(encoders, own, strict=True):
        assert_equal_fits(encoder, other, complete, scores=encoder is encoders[0])
    assert len(encoders[0].table_.blocks) == len(encoders[1].table_.blocks)


@pytest.mark.slow
def test_weights_by_folds_of_a_longer_fit():
    table = make_mixed(1000)
    weights, folds = (0, 1, 10), two_folds(table)
    places = list(itertools.product(weights, folds))
    settings = {"max_iter": 20, "hidden_layer_sizes": (64, 64), "n_components": 16}
    encoders = [small(contrastive_weight=w, **settings) for w, _ in places]
    own = [clone(e).fit(table.iloc[rows]) for e, (_, rows) in zip(encoders, places, strict=True)]
    fit_together(encoders, table, rows=[rows for _, rows in places], batched=True)
    complete = table[table["word"] != "zzz"]
    for encoder, other in zip(encoders, own, strict=True):
        assert_equal_fits(encoder, other, complete, tolerance=1e-3, scores=encoder is encoders[0])


@pytest.mark.parametrize("name", ENCODERS)
def test_every_class_is_fitted_and_alone_with_a_reason(name, capsys):
    table = make_mixed(60)
    encoders = [small(name, max_iter=2), small(name, max_iter=2, random_state=1)]
    own = [clone(encoder).fit(table) for encoder in encoders]
    fit_together(encoders, table, batched=True, verbose=1)
    for encoder, other in zip(encoders, own, strict=True):
        assert_equal_fits(encoder, other, table)
    printed = capsys.readouterr().out.splitlines()
    if name in ("CMIMEncoder", "MIMEncoder", "VAEEncoder", "AEEncoder"):
        assert printed == [f"[fit_together] 2 fits of {name} at once"]
    else:
        start = f"[fit_together] 2 fits of {name} one by one (positions 0, 1): "
        assert printed == [start + "its loss has no batched form"]


def test_classes_and_structures_are_mixed(capsys):
    table = make_mixed(60)
    encoders = [
        small(), small("MIMEncoder"), small(n_components=4), small(contrastive_weight=2),
        small("MIMEncoder", random_state=3), small("InfoNCEEncoder"),
    ]  # fmt: skip
    own = [clone(encoder).fit(table) for encoder in encoders]
    fit_together(encoders, table, batched=True, verbose=1)
    for encoder, other in zip(encoders, own, strict=True):
        assert_equal_fits(encoder, other, table)
    printed = capsys.readouterr().out
    assert "2 fits of CMIMEncoder at once" in printed
    assert "2 fits of MIMEncoder at once" in printed
    assert "(positions 2): no other encoder has its network and columns" in printed


def test_groups_are_split_by_memory(monkeypatch, capsys):
    monkeypatch.setattr(together, "n_at_once", lambda net, data: 2)
    encoders = [small(random_state=i, max_iter=1) for i in range(5)]
    fit_together(encoders, make_mixed(40), batched=True, verbose=1)
    sizes = re.findall(r"(\d) fits of CMIMEncoder at once", capsys.readouterr().out)
    assert sizes == ["2", "2", "1"]
    for encoder in encoders:
        check_is_fitted(encoder)


def test_the_memory_is_read_before_each_group(monkeypatch, capsys):
    free = iter([4, 3, 1, 1])  # of 5 encoders: 3, then 2 that no longer fit together
    monkeypatch.setattr(together, "n_at_once", lambda net, data: next(free))
    fit_together(
        [small(random_state=i, max_iter=1) for i in range(5)], make_mixed(40), batched=True,
        verbose=1,
    )  # fmt: skip
    sizes = re.findall(r"(\d) fits of CMIMEncoder at once", capsys.readouterr().out)
    assert sizes == ["3", "2"]


@pytest.mark.parametrize("after", ["training", "heads"])
def test_an_error_after_training_is_only_that_of_its_encoder(after, monkeypatch):
    encoders, calls = [small(random_state=i, max_iter=1) for i in range(3)], iter(range(3))
    owner, name = {
        "training": (type(encoders[0]), "_summarise"),
        "heads": (HeadTraining, "run"),
    }[after]
    plain = getattr(owner, name)

    def failing(self, *args):
        if next(calls) == 1:
            raise ValueError("no room")
        return plain(self, *args)

    monkeypatch.setattr(owner, name, failing)
    monkeypatch.setattr(heads, "memory_for", lambda *args: 1)
    with pytest.raises(ValueError, match="no room"):
        fit_together(encoders, make_mixed(40), batched=True)
    for encoder in (encoders[0], encoders[2]):
        check_is_fitted(encoder)
    assert not hasattr(encoders[1], "n_iter_")


@pytest.mark.parametrize(("at_most", "sizes"), [(2, ["5", "2", "2", "1"]), (0, ["2", "1", "1"])])
def test_fewer_are_trained_at_once_after_a_lack_of_memory(at_most, sizes, monkeypatch, capsys):
    plain, n = training.train_batched, 5 if at_most else 2

    def lacking(nets, tables):
        if len(nets) > at_most:
            for net in nets:
                for weight in net.module_.parameters():
                    weight.data.fill_(torch.nan)
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return plain(nets, tables)

    monkeypatch.setattr(training, "train_batched", lacking)
    table = make_mixed(60)
    encoders = [small(random_state=i) for i in range(n)]
    if at_most:
        fit_together(encoders, table, batched=True, verbose=1)
        for encoder in encoders:
            assert_equal_fits(encoder, clone(encoder).fit(table), table)
    else:
        with pytest.raises(torch.cuda.OutOfMemoryError, match="CUDA out of memory"):
            fit_together(encoders, table, batched=True, verbose=1)
    assert re.findall(r"(\d) fits of CMIMEncoder at once", capsys.readouterr().out) == sizes


def test_nets_without_memory_are_dropped_before_new_ones_are_made(monkeypatch):
    plain, make, alive, living = training.train_batched, CMIMEncoder._make_net, [], []

    def lacking(nets, tables):
        if len(nets) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return plain(nets, tables)

    def making(encoder, *args):
        living.append(sum(net() is not None for net in alive))
        if len(living) > 4 and encoder.random_state == 1:
            raise ValueError("no net for seed 1")
        net = make(encoder, *args)
        alive.append(weakref.ref(net))
        return net

    monkeypatch.setattr(training, "train_batched", lacking)
    monkeypatch.setattr(CMIMEncoder, "_make_net", making)
    table = make_mixed(60)
    encoders = [small(random_state=i, max_iter=1) for i in range(4)]
    with pytest.raises(ValueError, match="no net for seed 1"):
        fit_together(encoders, table, batched=True)
    assert living[:5] == [0, 1, 2, 3, 0]
    assert max(living[5:]) <= 2
    assert [hasattr(encoder, "_net") for encoder in encoders] == [True, False, True, True]


def test_encoders_of_a_search_do_not_stay_on_the_device():
    table = make_mixed(60)
    encoders = [small(random_state=i) for i in range(2)]
    own = [clone(encoder).fit(table) for encoder in encoders]
    assert together.fit_for_features(encoders, [table] * 2, [None] * 2) == [True, True]
    for encoder, other in zip(encoders, own, strict=True):
        weights = vars(encoder)["_net"]["weights"]
        assert all(isinstance(weight, np.ndarray) for weight in weights.values())
        np.testing.assert_allclose(encoder.transform(table), other.transform(table), atol=1e-3)


def test_a_cpu_fits_one_after_the_other_to_the_bit(monkeypatch, capsys):
    monkeypatch.setattr(training, "train_batched", None)
    table = make_mixed(40)
    for batched in ("auto", False):
        encoders = [small(), small(random_state=1)]
        fit_together(encoders, table, batched=batched, verbose=1)
        for encoder in encoders:
            own = clone(encoder).fit(table)
            np.testing.assert_array_equal(encoder.transform(table), own.transform(table))
    assert "one by one (positions 0, 1): batched training pays on a CUDA GPU only" in (
        capsys.readouterr().out
    )


def test_a_subclass_with_its_own_fit_is_fitted_by_it(capsys):
    class Noted(CMIMEncoder):
        def fit(self, X, y=None, **kwargs):
            self.noted_ = True
            return super().fit(X, y, **kwargs)

    encoders = [Noted(**small().get_params()), Noted(**small(random_state=1).get_params())]
    fit_together(encoders, make_mixed(40), batched=True, verbose=1)
    assert all(encoder.noted_ for encoder in encoders)
    assert "its class has its own fit" in capsys.readouterr().out


def test_labels_of_all_and_of_one_s_own(capsys):
    table = np.random.RandomState(0).randn(700, 3)
    y = np.where(table[:, 0] > 0, "yes", "no")
    labelled, shared = {"label_weight": 10.0}, {"batch_size": 100}
    encoders = [small(**shared | p) for p in (labelled, labelled, {}, {"label_weight": 1.0})]
    rows = [range(350), range(350, 700), range(350), np.arange(700) % 3 > 0]
    together = fit_together(
        [clone(e) for e in encoders], table, y, rows=rows, batched=True, verbose=1
    )
    assert "3 fits of CMIMEncoder at once" in capsys.readouterr().out
    for encoder, other, of in zip(together, encoders, rows, strict=True):
        assert_equal_fits(encoder, other.fit(table[of], y[of]), table)
        if encoder.label_weight:
            assert encoder.classes_.tolist() == ["no", "yes"]
            assert encoder.label_n_iter_ == other.label_n_iter_
            np.testing.assert_allclose(encoder.label_scores_, other.label_scores_, atol=1e-4)
    targets = [y, table[:, 1], None, list(y)]
    own = fit_together([clone(e) for e in encoders], table, targets, batched=True)
    assert [hasattr(e, "target_mean_") for e in own] == [False, True, False, False]


def test_early_stopping_and_rows_of_one_s_own():
    table = make_mixed(120)
    encoders = [
        small(early_stopping=True, n_iter_no_change=1, max_iter=10, learning_rate_init=rate)
        for rate in (0.5, 1e-3)
    ]
    own = [clone(encoder).fit(table) for encoder in encoders]
    fit_together(encoders, table, batched=True)
    for encoder, other in zip(encoders, own, strict=True):
        assert_equal_fits(encoder, other, table)
        ours, theirs = encoder.validation_scores_, other.validation_scores_
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert encoders[0].n_iter_ < 10


def test_warm_starts_and_later_passes():
    table = make_mixed(80)
    encoders = [small(warm_start=True, random_state=i).fit(table) for i in range(2)]
    own = [copy.deepcopy(encoder).fit(table) for encoder in encoders]
    fit_together(encoders, table, batched=True)
    for encoder, other in zip(encoders, own, strict=True):
        assert encoder.n_iter_ == 8
        assert_equal_fits(encoder, other, table)
        # The optimizer goes on from the same moments.
        assert_equal_fits(encoder.partial_fit(table), other.partial_fit(table), table)


def test_fitted_encoders_are_pickled_without_those_beside_them(tmp_path):
    table = make_mixed(40)
    encoders = fit_together([small(random_state=i) for i in range(8)], table, batched=True)
    alone = len(pickle.dumps(clone(encoders[0]).fit(table)))
    assert len(pickle.dumps(encoders[0])) < alone + 100
    encoders[0].save(tmp_path / "one.cmim")
    loaded = CMIMEncoder.load(tmp_path / "one.cmim", device="cpu")
    np.testing.assert_array_equal(loaded.transform(table), encoders[0].transform(table))


def test_random_states_are_drawn_in_order():
    table = make_mixed(40)
    rng, again = np.random.RandomState(0), np.random.RandomState(0)
    encoders = fit_together([small(random_state=rng) for _ in range(2)], table, batched=True)
    for encoder in encoders:
        own = small(random_state=again).fit(table)
        assert_equal_fits(encoder, own, table)


@pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.9"), reason="callbacks of 1.9"
)
def test_callbacks_of_scikit_learn_see_each_epoch(capsys):

    class Count:
        n_ends = 0

        def setup(self, estimator, context):
            pass

        teardown = on_fit_task_begin = setup

        def on_fit_task_end(self, estimator, context):
            self.n_ends += context.task_name == "epoch"

    count = Count()
    encoders = [small(), small().set_callbacks(count), small(random_state=1)]
    fit_together(encoders, make_mixed(40), batched=True, verbose=1)
    assert count.n_ends == 4
    assert "(positions 1): it has callbacks of scikit-learn" in capsys.readouterr().out


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_trains_together_by_default(capsys):
    table = make_mixed(60)
    encoders = [small(device="cuda", random_state=i) for i in range(2)]
    own = [clone(encoder).fit(table) for encoder in encoders]
    fit_together(encoders, table, verbose=1)
    assert "2 fits of CMIMEncoder at once" in capsys.readouterr().out
    for encoder, other in zip(encoders, own, strict=True):
        assert_equal_fits(encoder, other, table, tolerance=1e-3)


# -- rows and tables -------------------------------------------------------------------------------


@pytest.mark.parametrize("library", [*LIBRARIES, "array", "list"])
def test_rows_of_every_kind_of_table(library):
    if library in LIBRARIES:
        table = LIBRARIES[library](make_mixed(40))
    else:
        table = np.random.RandomState(0).randn(40, 3)
        table = table.tolist() if library == "list" else table
    mask = np.arange(40) % 3 > 0
    rows = [mask, np.flatnonzero(mask), np.flatnonzero(mask).tolist()]
    encoders = fit_together([small(max_iter=1) for _ in rows], table, rows=rows, batched=True)
    for encoder in encoders:
        assert encoder.table_.likelihood.blocks[0].n_seen.max() <= mask.sum()
        np.testing.assert_allclose(
            encoder.transform(table), encoders[0].transform(table), atol=1e-5
        )


def test_a_table_for_each_encoder():
    tables = [make_mixed(40, seed=0), make_mixed(41, seed=1)]
    encoders = fit_together([small(), small()], tables, batched=True)
    for encoder, table in zip(encoders, tables, strict=True):
        assert_equal_fits(encoder, small().fit(table), table)


def test_a_schema_is_learned_once_and_copied(monkeypatch):
    learned, learn = [], type(small())._learn

    def counted(encoder, X):
        learned.append(encoder)
        return learn(encoder, X)

    monkeypatch.setattr(type(small()), "_learn", counted)
    table = make_mixed(40)
    encoders = [small(), small(random_state=1), small(numeric_scaling=None)]
    one, other, unscaled = fit_together(encoders, table, batched=True)
    assert len(learned) == 2
    assert one.table_ is not other.table_
    own = {id(weight) for weight in one.table_.likelihood.parameters()}
    assert own
    assert not own & {id(weight) for weight in other.table_.likelihood.parameters()}
    for encoder in (one, other, unscaled):
        assert encoder.table_.likelihood is encoder.net_.module.likelihood
        assert encoder.feature_names_in_.tolist() == list(table.columns)


def test_no_encoder():
    assert fit_together([], make_mixed(10)) == []


# -- arguments and errors --------------------------------------------------------------------------

X = np.random.RandomState(0).randn(10, 2)


@pytest.mark.parametrize(("encoders", "table", "options", "message"), [
    (CMIMEncoder(), X, {}, r"`encoders` must be a list of encoders; got CMIMEncoder\(\)"),
    ([CMIMEncoder], X, {}, "must hold encoders of cmim_sklearn; got .*CMIMEncoder.* at position 0"),
    ([small()] * 2, X, {}, r"each encoder once; got CMIMEncoder\(.* at positions 0 and 1"),
    ([small()], [X, X], {}, "`X` must have one table for each of 1 encoders; got 2"),
    ([small()], [X], {"rows": [[0, 1]]}, "`rows` must be None if X is a list of tables"),
    ([small()], X, {"rows": [[0], [1]]}, "`rows` must have one array for each of 1 .*; got 2"),
    ([small()], X, {"rows": 3}, "`rows` must have one array for each of 1 encoders; got 3"),
    ([small()], X, {"rows": [[0, 10]]}, r"`rows\[0\]` must hold positions from 0 to 9; got 10"),
    ([small()], X, {"rows": [[-1, 1]]}, r"`rows\[0\]` must hold positions from 0 to 9; got -1"),
    ([small()], X, {"rows": [[True]]}, r"`rows\[0\]` must be a mask of 10 rows; got 1"),
    ([small()], X, {"rows": [[0.5]]}, r"`rows\[0\]` must be a 1-D array .*; got \[0.5\]"),
    ([small()], X, {"y": [X[:, 0], X[:, 1]]}, "`y` must have one target for each of 1 .*; got 2"),
    ([small(label_weight=1.0)], X, {}, "requires y to be passed"),
    ([small(label_weight=1.0)], X, {"y": [None]}, "requires y to be passed"),
    ([small(label_weight=1.0)], X, {"y": range(11), "rows": [[0, 1]]}, "of 10 rows .*; got 11"),
    ([small(label_weight=1.0)], X, {"y": X[:9], "rows": [[0, 1]]}, "each of 10 rows .*; got 9"),
    ([small()], X, {"batched": "yes"}, "`batched` must be 'auto', True or False; got 'yes'"),
    ([small()], X, {"batched": 1}, "`batched` must be 'auto', True or False; got 1"),
], ids=range(18))  # fmt: skip
def test_wrong_arguments(encoders, table, options, message):
    with pytest.raises(ValueError, match=message):
        fit_together(encoders, table, **options)


@pytest.mark.parametrize("rows", [None, [range(5), range(5, 10)]])
def test_targets_that_no_encoder_uses_are_not_looked_at(rows):
    for y in (5, "abc", range(11), [[1]] * 10, [None, None]):
        fit_together([small(max_iter=1), small(max_iter=1)], X, y, rows=rows)


@pytest.mark.parametrize("rows", [None, [range(10), range(10)]])
def test_targets_of_one_column_are_read_as_by_fit(rows):
    encoders = [small(max_iter=1, label_weight=1.0), small(max_iter=1)]
    with pytest.warns(DataConversionWarning, match="column-vector y was passed"):
        first, _ = fit_together(encoders, X, [[i % 2] for i in range(10)], rows=rows)
    assert first.classes_.tolist() == [0, 1]
    with pytest.raises(TypeError, match="y must be a list, an array or a column; got 5"):
        fit_together(encoders, X, 5, rows=rows)


@pytest.mark.parametrize("batched", [True, False])
def test_errors_are_those_of_the_encoder_s_own_fit(batched):
    bad = [small(n_components=0), small(categorical_features=["no such column"]), small()]
    tables = [X, X, np.where(X > 1, np.inf, X)]
    for encoder, table in zip(bad, tables, strict=True):
        with pytest.raises(ValueError, match=r".") as own:
            clone(encoder).fit(table)
        good = small()
        with pytest.raises(type(own.value)) as error:
            fit_together([encoder, good], [table, X], batched=batched)
        assert str(error.value) == str(own.value)
        for one in (encoder, good):
            with pytest.raises(NotFittedError):
                check_is_fitted(one)
            assert not hasattr(one, "n_features_in_")


@pytest.mark.parametrize("batched", [True, False])
def test_an_encoder_that_diverges_leaves_the_others_fitted(batched):
    table = make_mixed(40)
    encoders = [small(learning_rate_init=rate) for rate in (1e-3, 1e30, 1e-2)]
    with pytest.raises(FloatingPointError, match="halving the learning rate 3 times"):
        fit_together(encoders, table, batched=batched)
    assert not hasattr(encoders[1], "n_features_in_")
    for i in (0, 2):
        assert_equal_fits(encoders[i], clone(encoders[i]).fit(table), table)


def test_a_back_off_warns_as_in_fit(monkeypatch):
    left, record = [1], LatentNet.record_losses

    def broken(net, prefix, sums, *numbers):
        if net.seed == seed and len(net.history) == 2 and left[0]:
            left[0] -= 1
            sums = dict.fromkeys(sums, np.nan)
        record(net, prefix, sums, *numbers)

    table = make_mixed(40)
    encoders = [small(random_state=i) for i in range(3)]
    seed = np.random.RandomState(1).randint(2**31 - 1)
    monkeypatch.setattr(LatentNet, "record_losses", broken)
    with pytest.warns(UserWarning, match="The loss was not finite in epoch 2"):
        fit_together(encoders, table, batched=True)
    assert [encoder.net_.nonfinite_epochs_ for encoder in encoders] == [[], [2], []]
    left, encoders = [1], [clone(encoder) for encoder in encoders]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="The loss was not finite in epoch 2"):
            fit_together(encoders, table, batched=True)
    assert [hasattr(encoder, "_net") for encoder in encoders] == [True] * 3


def test_an_interruption_leaves_all_encoders_fitted(monkeypatch):
    def interrupt(net, hook, plain=LatentNet.notify_callbacks, **kwargs):
        if hook == "on_epoch_end" and len(net.history) == 3:
            raise KeyboardInterrupt
        plain(net, hook, **kwargs)

    monkeypatch.setattr(LatentNet, "notify_callbacks", interrupt)
    encoders = [small(random_state=i) for i in range(2)]
    with (
        pytest.raises(KeyboardInterrupt),
        pytest.warns(UserWarning, match="Training was interrupted after 3 epochs"),
    ):
        fit_together(encoders, make_mixed(40), batched=True)
    for encoder in encoders:
        assert encoder.transform(make_mixed(40)).shape == (40, 16)


def test_public_name():
    assert fit_together.__module__ == "cmim_sklearn"
    assert cmim_sklearn.fit_together is fit_together
    assert isinstance(fit_together([MIMEncoder(max_iter=1, device="cpu")], X)[0], MIMEncoder)
