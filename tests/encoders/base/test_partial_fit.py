"""Training on chunks: `fit_schema` and `partial_fit`."""

import functools
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted
from skorch.callbacks import Callback, LRScheduler

from cmim_sklearn import CMIMEncoder, InfoMaxVAEEncoder
from cmim_sklearn._training.critic import TrainCritic
from tests.helpers import (
    ENCODERS,
    GENERATIVE,
    LIBRARIES,
    assert_like,
    make_mixed,
    small_encoder,
    weights,
)

small = functools.partial(small_encoder, batch_size=25, device="cpu")


def chunks(X, size=50):
    return [X[i : i + size] for i in range(0, len(X), size)]


@pytest.mark.parametrize("name", ENCODERS)
def test_passes_over_chunks_lower_the_loss(name, mixed):
    encoder, n_epochs = small(name), []
    for _ in range(2):
        for chunk in chunks(mixed):
            assert encoder.partial_fit(chunk) is encoder
            n_epochs.append(encoder.n_iter_)
            assert np.isfinite(encoder.transform(chunk)).all()
    assert n_epochs == list(range(1, 9))
    assert len(encoder.loss_curve_) == len(encoder.net_.history) == 8
    assert np.mean(encoder.loss_curve_[-4:]) < np.mean(encoder.loss_curve_[:4])
    assert encoder.validation_scores_ is None


def test_fit_schema_fixes_the_columns(mixed):
    encoder = small().fit_schema(mixed)
    with pytest.raises(NotFittedError):
        encoder.transform(mixed)
    with pytest.raises(NotFittedError):
        check_is_fitted(encoder)
    state = pickle.dumps(encoder.table_.state())
    for chunk in chunks(mixed):
        encoder.partial_fit(chunk)
    assert pickle.dumps(encoder.table_.state()) == state
    drawn = encoder.sample(50, random_state=0)
    pd.testing.assert_series_equal(drawn.dtypes, mixed.dtypes)
    check_is_fitted(encoder)


def test_the_first_chunk_fixes_the_columns_without_fit_schema(mixed):
    first, other = chunks(mixed, 100)
    encoder = small().partial_fit(first)
    schema = small().fit_schema(first)
    assert pickle.dumps(encoder.table_.state()) == pickle.dumps(schema.table_.state())
    assert weights(schema.partial_fit(first)) == weights(encoder)
    table = encoder.table_
    assert encoder.partial_fit(other).table_ is table


def test_unknown_levels_count_as_missing_with_a_warning(mixed):
    encoder = small().fit_schema(mixed).partial_fit(mixed[:100])
    unseen, missing = mixed[100:].copy(), mixed[100:].copy()
    unseen["word"], missing["word"] = "never seen", None
    again = pickle.loads(pickle.dumps(encoder)).partial_fit(missing)
    encoder = pickle.loads(pickle.dumps(encoder))
    with pytest.warns(UserWarning, match=r"treated as missing.*'word' \('never seen'\)") as caught:
        encoder.partial_fit(unseen)
    assert caught[0].filename == __file__
    assert encoder.loss_curve_ == again.loss_curve_


@pytest.mark.parametrize("name", ENCODERS)
def test_chunks_of_one_row_train_and_keep_the_scales(name, mixed):
    encoder = small(name).fit_schema(mixed).partial_fit(mixed[:1])
    for chunk in (mixed[:100], mixed[100:101], mixed[101:102]):
        before = weights(encoder), encoder.transform(mixed)
        kept = {key: vars(encoder)[key] for key in ("_scales", "_latents") if key in vars(encoder)}
        encoder.partial_fit(chunk)
        assert weights(encoder) != before[0]
        features = encoder.transform(mixed)
        assert np.isfinite(features).all()
        assert not np.array_equal(features, before[1])
        if len(chunk) == 1:
            assert all(vars(encoder)[key] is value for key, value in kept.items())
            np.testing.assert_allclose(features.std(), before[1].std(), rtol=0.2)
    assert encoder.n_iter_ == 4
    assert np.isfinite(encoder.loss_curve_).all()
    if name in GENERATIVE:
        assert np.isfinite(encoder.score_samples(mixed[:5])).all()
        assert_like(encoder.sample(5), mixed)


def test_the_row_of_a_chunk_decides_the_step(mixed):
    one, other = (small().fit_schema(mixed) for _ in range(2))
    again = pickle.loads(pickle.dumps(one))
    assert weights(one.partial_fit(mixed[:1])) != weights(other.partial_fit(mixed[1:2]))
    assert weights(one) == weights(again.partial_fit(mixed[:1]))


@pytest.mark.parametrize("make", [*LIBRARIES.values(), pd.DataFrame.to_numpy])
def test_chunks_of_no_row_change_nothing(make, mixed):
    X, random_state = make(mixed), np.random.RandomState(0)
    encoder = small(random_state=random_state)
    with pytest.raises(ValueError, match=r"Found array with 0 sample\(s\).*minimum of 2"):
        encoder.partial_fit(X[:0])
    assert not hasattr(encoder, "n_features_in_")
    for learn in (encoder.fit_schema, encoder.partial_fit):
        learn(X)
        before, state = dict(vars(encoder)), random_state.get_state()[1].copy()
        assert encoder.partial_fit(X[:0]) is encoder
        assert vars(encoder).keys() == before.keys()
        assert all(value is before[name] for name, value in vars(encoder).items())
        np.testing.assert_array_equal(random_state.get_state()[1], state)
    assert encoder.n_iter_ == len(encoder.net_.history) == 1
    for method in (
        "transform", "reconstruct", "impute", "score_samples", "score_columns", "score_dependence"
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"Found array with 0 sample\(s\).*minimum of 1"):
            getattr(encoder, method)(X[:0])
    with pytest.raises(ValueError, match="must have at least one row; got 0 rows"):
        encoder.sample(conditions=X[:0])


def test_the_first_chunk_without_a_schema_needs_two_rows(mixed):
    encoder = small()
    with pytest.raises(ValueError, match=r"Found array with 1 sample\(s\).*minimum of 2"):
        encoder.partial_fit(mixed[:1])
    with pytest.raises(ValueError, match="feature names"):
        encoder.fit_schema(mixed).partial_fit(mixed.iloc[:0, ::-1])
    with pytest.raises(ValueError, match=r"partial_fit continues .* max_categories"):
        encoder.set_params(max_categories=7).partial_fit(mixed[:0])


@pytest.mark.parametrize("is_fitted", [False, True])
def test_other_columns_raise_and_change_nothing(is_fitted, mixed):
    encoder = small().fit_schema(mixed)
    if is_fitted:
        encoder.partial_fit(mixed[:50])
    before = dict(vars(encoder))
    for wrong in (
        mixed.drop(columns="age"),
        mixed.assign(more=1.0),
        mixed.rename(columns={"age": "years"}),
        mixed[mixed.columns[::-1]],
    ):
        with pytest.raises(ValueError, match="feature names"):
            encoder.partial_fit(wrong)
    assert vars(encoder).keys() == before.keys()
    assert all(value is before[name] for name, value in vars(encoder).items())


def test_a_failed_fit_schema_changes_nothing(mixed):
    encoder = small(max_iter=2).fit(mixed)
    before = dict(vars(encoder))
    with pytest.raises(ValueError, match="got inf in row"):
        encoder.fit_schema(pd.DataFrame({"a": [1.0, np.inf]}))
    assert vars(encoder).keys() == before.keys()
    assert all(value is before[name] for name, value in vars(encoder).items())
    other = encoder.fit_schema(mixed[["age", "city"]])
    assert list(other.feature_names_in_) == ["age", "city"]
    assert not hasattr(other, "n_iter_")


def test_chunks_repeat_to_the_bit_with_new_noise_each_time(mixed):
    one, other = small(), small()
    for chunk in chunks(mixed):
        one.partial_fit(chunk)
        other.partial_fit(chunk)
        np.testing.assert_array_equal(one.transform(mixed), other.transform(mixed))
    still = {"learning_rate_init": 1e-30, "alpha": 0}
    encoder = small(**still)
    for _ in range(3):
        encoder.partial_fit(mixed)
    assert len(set(encoder.loss_curve_)) == 3


def test_the_learning_rate_is_constant_and_the_optimizer_continues(mixed):
    seen = []

    class Watch(Callback):
        def on_batch_end(self, net, training=False, **kwargs):
            (group,) = net.optimizer_.param_groups
            state = net.optimizer_.state[group["params"][0]]
            seen.append((group["lr"], int(state["step"])))

    encoder = small(net_params={"callbacks": [Watch()], "callbacks__schedule": None})
    for chunk in chunks(mixed):
        encoder.partial_fit(chunk)
    encoder.set_params(learning_rate_init=0.001).partial_fit(mixed[:50])
    assert seen == [(0.003 if i < 8 else 0.001, i + 1) for i in range(10)]


def test_a_custom_scheduler_is_kept(mixed):
    scheduler = LRScheduler(policy="StepLR", step_size=1, gamma=0.1)
    encoder = small(net_params={"callbacks": [scheduler]}).partial_fit(mixed)
    assert encoder.net_.optimizer_.param_groups[0]["lr"] == pytest.approx(0.0003)


def test_the_critic_continues(mixed):
    def critic(encoder):
        (callback,) = (c for _, c in encoder.net_.callbacks_ if isinstance(c, TrainCritic))
        return callback.critic

    encoder = small("InfoMaxVAEEncoder", critic_learning_rate_init=1e-30).partial_fit(mixed)
    assert isinstance(encoder, InfoMaxVAEEncoder)
    first = critic(encoder)
    with torch.no_grad():
        next(first.module_.parameters()).fill_(0.25)  # as if it had been trained
    second = critic(encoder.partial_fit(mixed))
    assert second is not first
    for one, other in zip(first.module_.parameters(), second.module_.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    steps = [int(state["step"]) for state in second.optimizer_.state.values()]
    assert set(steps) == {16}
    encoder.set_params(critic_hidden_layer_sizes=(5,)).partial_fit(mixed)  # with a new critic


@pytest.mark.parametrize("way", ["fit", "pickle", "save"])
def test_training_continues_after(way, mixed, tmp_path):
    encoder = small(max_iter=2).fit(mixed) if way == "fit" else small().partial_fit(mixed)
    n = encoder.n_iter_
    if way == "pickle":
        encoder = pickle.loads(pickle.dumps(encoder))
    elif way == "save":
        encoder.save(tmp_path / "file")
        encoder = CMIMEncoder.load(tmp_path / "file")
    before = encoder.loss_curve_
    encoder.partial_fit(mixed)
    assert encoder.n_iter_ == n + 1
    assert encoder.loss_curve_[:n] == before
    again = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(again.transform(mixed), encoder.transform(mixed))


def test_clones_are_unfitted_and_a_schema_can_be_pickled(mixed):
    encoder = small().fit_schema(mixed)
    assert not hasattr(clone(encoder), "table_")
    again = pickle.loads(pickle.dumps(encoder))
    first = mixed[:50]
    assert weights(again.partial_fit(first)) == weights(encoder.partial_fit(first))
    # fit learns the columns from its rows.
    fitted = small(max_iter=2).fit_schema(mixed).fit(mixed[:100])
    assert weights(fitted) == weights(small(max_iter=2).fit(mixed[:100]))


def test_parameters_of_another_network_raise(mixed):
    encoder = small().partial_fit(mixed).set_params(n_components=5)
    with pytest.raises(ValueError, match=r"partial_fit continues .* n_components .*fit_schema"):
        encoder.partial_fit(mixed)
    assert encoder.fit_schema(mixed).partial_fit(mixed).net_.module.posterior.n_components == 5


def test_after_fit_schema_only_the_columns_are_fixed(mixed):
    encoder = small().fit_schema(mixed).set_params(n_components=5)
    assert encoder.partial_fit(mixed).net_.module.posterior.n_components == 5
    encoder = small().fit_schema(mixed).set_params(max_categories=2, n_components=5)
    with pytest.raises(ValueError, match=r"with the fitted schema, but max_categories"):
        encoder.partial_fit(mixed)


def test_a_failed_or_interrupted_chunk_changes_nothing(mixed, monkeypatch):
    encoder = small().partial_fit(mixed[:100])
    before = encoder.transform(mixed)
    # A summary would take seconds after Ctrl-C, and is not kept.
    monkeypatch.setattr(type(encoder), "_summarise", lambda *args: pytest.fail("summarised"))

    class Fails(Callback):
        def on_batch_end(self, net, **kwargs):
            if self.error is not None:
                raise self.error
            with torch.no_grad():
                next(net.module_.parameters()).fill_(torch.nan)

    for error in (KeyboardInterrupt, None):
        Fails.error = error
        encoder.set_params(net_params={"callbacks": [Fails()]})
        with pytest.raises(error or FloatingPointError):
            encoder.partial_fit(mixed[100:])
        np.testing.assert_array_equal(encoder.transform(mixed), before)
        assert encoder.n_iter_ == 1


def test_summaries_are_those_of_the_last_chunk():
    X = make_mixed(400)[["income", "age", "score"]].fillna(0)
    encoder = small("MIMEncoder", learning_rate_init=1e-30, embedding="mean").fit_schema(X)
    for chunk in (X[:200], X[200:]):
        Z = encoder.partial_fit(chunk).transform(chunk)
        np.testing.assert_allclose(Z.mean(0), 0, atol=1e-4)
