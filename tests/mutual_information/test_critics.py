"""Critics and their training: seeds, batches, the weights that are kept."""

import math
import pickle
import threading

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from benchmarks.studies.mutual_information import correlated
from cmim_sklearn.mutual_information import MINE, NWJ, SMILE, InfoNCE
from cmim_sklearn.mutual_information import _critics as critics
from cmim_sklearn.mutual_information._critics import CRITICS
from cmim_sklearn.networks import reset_parameters
from tests.helpers import NEURAL_ESTIMATORS, SHORT_TRAINING, seeded


@pytest.mark.parametrize("name", CRITICS)
def test_critic_scores_each_pair_independently(name):
    critic = CRITICS[name](3, 2, (8,), "relu")
    reset_parameters(critic, seeded())
    x, z = torch.randn(5, 3), torch.randn(4, 2)
    F = critic(x, z)
    assert F.shape == (5, 4)
    assert_close(F[2:3, 1:2], critic(x[2:3], z[1:2]))
    F.square().sum().backward()
    assert [n for n, p in critic.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_momentum_and_alpha_reach_the_training(pairs):
    X, Z, *_ = pairs
    critics = [
        NEURAL_ESTIMATORS["mine"](**SHORT_TRAINING, **options).fit(X, Z).critic_.g.output.weight
        for options in ({}, {"momentum": 0.1}, {"alpha": 10.0})
    ]
    assert not torch.equal(critics[0], critics[1])
    assert not torch.equal(critics[0], critics[2])


@pytest.mark.parametrize("name", NEURAL_ESTIMATORS)
def test_same_seed_gives_the_same_critic_and_leaves_global_state(name, pairs):
    X, Z, X_test, Z_test, _ = pairs
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    one, two = (NEURAL_ESTIMATORS[name](**SHORT_TRAINING).fit(X, Z) for _ in range(2))
    for a, b in zip(one.critic_.parameters(), two.critic_.parameters(), strict=True):
        assert torch.equal(a, b)
    value = one.score(X_test, Z_test)
    assert one.score(X_test, Z_test) == two.score(X_test, Z_test) == value
    assert pickle.loads(pickle.dumps(one)).score(X_test, Z_test) == value
    other = NEURAL_ESTIMATORS[name](**SHORT_TRAINING | {"random_state": 1}).fit(X, Z)
    assert other.score(X_test, Z_test) != value
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


def test_fits_in_threads_do_not_disturb_each_other(pairs):
    X, Z, X_test, Z_test, _ = pairs
    alone = MINE(**SHORT_TRAINING).fit(X, Z).score(X_test, Z_test)
    found = []

    def fit_and_score():
        found.append(MINE(**SHORT_TRAINING).fit(X, Z).score(X_test, Z_test))

    threads = [threading.Thread(target=fit_and_score) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [alone] * 3


def test_random_state_instance_advances(pairs):
    X, Z, X_test, Z_test, _ = pairs
    estimator = InfoNCE(**SHORT_TRAINING | {"random_state": np.random.RandomState(0)})
    first = estimator.fit(X, Z).score(X_test, Z_test)
    assert estimator.fit(X, Z).score(X_test, Z_test) != first


def test_scale_and_location_of_columns_do_not_matter(pairs):
    X, Z, X_test, Z_test, _ = pairs
    value = NWJ(**SHORT_TRAINING).fit(X, Z).score(X_test, Z_test)
    moved = NWJ(**SHORT_TRAINING).fit(1e3 * X + 5, 1e-3 * Z).score(1e3 * X_test + 5, 1e-3 * Z_test)
    assert moved == pytest.approx(value, abs=1e-5)


def test_constant_and_integer_columns_and_a_1d_z_fit():
    rng = np.random.RandomState(0)
    X = np.column_stack([np.ones(60), rng.randint(3, size=60), rng.rand(60) < 0.5])
    value = InfoNCE(**SHORT_TRAINING).fit(X, X[:, 1]).score(X, X[:, 1])
    assert np.isfinite(value)


def test_best_held_out_weights_are_kept():
    X, Z, truth = correlated(900, 10, 0.5)
    seen, unseen = (X[:400], Z[:400]), (X[400:], Z[400:])
    stopped = MINE((64,), n_iter_no_change=100, random_state=0, device="cpu").fit(*seen)
    best = int(np.argmax(stopped.validation_scores_))
    assert len(stopped.validation_scores_) == best + 3
    assert stopped.n_iter_ == 50 * (best + 2)
    assert 0 < stopped.score(*unseen) < truth
    # More updates overfit the training pairs, and do not change the weights that are kept.
    patient = stopped.set_params(n_iter_no_change=10_000, max_iter=320)
    value = stopped.score(*unseen)
    patient.fit(*seen)
    assert patient.n_iter_ == 320
    assert len(patient.validation_scores_) == 8
    assert patient.validation_scores_[-1] < max(patient.validation_scores_) - 1
    assert patient.score(*unseen) == value


def test_training_pairs_are_not_stored(pairs):
    X, Z, *_ = pairs
    small = len(pickle.dumps(SMILE(**SHORT_TRAINING).fit(X[:200], Z[:200])))
    assert len(pickle.dumps(SMILE(**SHORT_TRAINING).fit(X, Z))) < small + 5000


def test_held_out_pairs_are_scored_in_batches(monkeypatch, pairs):
    X, Z, X_test, Z_test, _ = pairs
    estimator = InfoNCE(**SHORT_TRAINING | {"max_iter": 100}).fit(X, Z)
    together = estimator.score(X_test, Z_test)
    monkeypatch.setattr(critics, "PAIRS_AT_ONCE", 1)
    assert estimator.score(X_test, Z_test) == pytest.approx(together, abs=1e-6)
    monkeypatch.setattr(critics, "SCORE_ROWS", 100)
    assert estimator._cap(500) == math.log(100)
    assert estimator._cap(501) == math.log(83)
    assert estimator.score(X_test, Z_test) == pytest.approx(together, abs=0.05)
    # Batches are random, so sorted rows do not meet only similar rows.
    order = np.argsort(X_test[:, 0])
    assert estimator.score(X_test[order], Z_test[order]) == pytest.approx(together, abs=0.05)


@pytest.mark.parametrize("n", [10, 11, 13])
@pytest.mark.parametrize("options", [{"batch_size": 2}, {"validation_fraction": 0.99}])
def test_no_batch_of_one_row(n, options):
    X, Z, _ = correlated(n, 2, 0.5)
    value = MINE(**SHORT_TRAINING, **options).fit(X, Z)._estimate(X, Z)
    assert np.isfinite(value)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("critic", CRITICS)
def test_on_a_gpu(critic, pairs):
    X, Z, X_test, Z_test, _ = pairs
    options = SHORT_TRAINING | {"critic": critic, "max_iter": 100}
    on_gpu = InfoNCE(**options | {"device": "cuda"}).fit(X, Z)
    assert next(on_gpu.critic_.parameters()).device.type == "cpu"
    there = on_gpu.score(X_test, Z_test)
    assert on_gpu.set_params(device="cpu").score(X_test, Z_test) == pytest.approx(there, abs=1e-4)
    on_cpu = InfoNCE(**options).fit(X, Z).score(X_test, Z_test)
    assert there == pytest.approx(on_cpu, abs=0.02)
