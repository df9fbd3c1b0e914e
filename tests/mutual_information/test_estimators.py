"""Mutual information: formulas on score matrices, Gaussians of known information, caps, errors."""

import math
import pickle
import re
import threading
import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.special import digamma
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, ShuffleSplit, cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch.testing import assert_close

from benchmarks.mutual_information import correlated
from cmim_sklearn.mutual_information import (
    KSG,
    MINE,
    NWJ,
    SMILE,
    InfoNCE,
    MutualInformation,
    mutual_information,
)
from cmim_sklearn.mutual_information import _critics as critics
from cmim_sklearn.mutual_information._bounds import (
    MovingAverage,
    donsker_varadhan,
    infonce,
    jensen_shannon,
    mine,
    nwj,
    smile,
)
from cmim_sklearn.mutual_information._critics import CRITICS, warn_near_cap
from cmim_sklearn.mutual_information._estimators import ESTIMATORS
from cmim_sklearn.networks import reset_parameters

NEURAL = {name: kind for name, kind in ESTIMATORS.items() if name != "ksg"}
BRIEF = {"max_iter": 5, "hidden_layer_sizes": (8,), "random_state": 0, "device": "cpu"}


def scores(b=6, seed=0, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(b, b, generator=generator, dtype=torch.float64)


def apart(F):
    """The entries off the diagonal."""
    return [F[i, j].item() for i in range(len(F)) for j in range(len(F)) if i != j]


def log_ratio(n, rho, seed=0):
    """The best critic, log p(x, z) / (p(x) p(z)), on n pairs of correlated Gaussians."""
    x, z, truth = correlated(n, 1, rho, seed=seed)
    x, z = torch.from_numpy(x), torch.from_numpy(z).T
    squares = rho**2 * (x**2 + z**2) - 2 * rho * x * z
    return -0.5 * math.log(1 - rho**2) - squares / (2 * (1 - rho**2)), truth


# -- formulas --------------------------------------------------------------------------------------


def test_values_follow_their_formulas():
    F = scores()
    joint, product = np.diag(F.numpy()), np.array(apart(F))
    assert len(product) == 30
    dv = joint.mean() - math.log(np.exp(product).mean())
    assert_allclose(donsker_varadhan(F).item(), dv)
    assert_allclose(mine(F, torch.tensor(0.7)).item(), dv)
    assert_allclose(nwj(F).item(), joint.mean() - np.exp(product - 1).mean())
    rows = np.exp(F.numpy()).sum(1)
    assert_allclose(infonce(F).item(), math.log(6) + (joint - np.log(rows)).mean())
    clipped = np.exp(product.clip(-1.5, 1.5)).mean()
    assert_allclose(smile(F, 1.5).item(), joint.mean() - math.log(clipped))
    logistic = np.log1p(np.exp(-joint)).mean() + np.log1p(np.exp(product)).mean()
    assert_allclose(jensen_shannon(F).item(), -logistic)


@pytest.mark.parametrize("constant", [-3.0, 0.0, 1.0, 4.5])
def test_a_constant_critic_tells_nothing(constant):
    F = torch.full((5, 5), constant, dtype=torch.float64)
    for value in (donsker_varadhan(F), infonce(F), smile(F, 5.0)):
        assert value.item() == pytest.approx(0, abs=1e-12)
    assert nwj(F).item() == pytest.approx(constant - math.exp(constant - 1))
    assert nwj(torch.ones_like(F)).item() == 0


@pytest.mark.parametrize("rho", [0.2, 0.5, 0.9])
def test_the_best_critic_gives_the_information_of_a_gaussian(rho):
    F, truth = log_ratio(3000, rho)
    # The information of a pair, F_ii, has a deviation of rho: that is most of the noise.
    tolerance = 4 * rho / math.sqrt(3000)
    assert truth == pytest.approx(-0.5 * math.log(1 - rho**2))
    for value in (donsker_varadhan(F), nwj(F + 1), infonce(F), smile(F, 20.0)):
        assert value.item() == pytest.approx(truth, abs=tolerance)
    assert donsker_varadhan(F + 7).item() == pytest.approx(donsker_varadhan(F).item())
    shifted = F + 7 * torch.arange(3000)[:, None]  # a constant for each x
    assert infonce(shifted).item() == pytest.approx(infonce(F).item())


def test_the_best_critic_is_where_each_objective_is_greatest():
    F, _ = log_ratio(3000, 0.8)
    for objective in (donsker_varadhan, lambda F: nwj(F + 1), infonce, jensen_shannon):
        for other in (0.8 * F, 1.2 * F, torch.zeros_like(F)):
            assert objective(other) < objective(F)


@pytest.mark.parametrize("scale", [0.1, 10.0, 1000.0])
def test_infonce_is_never_above_log_b(scale):
    for seed in range(20):
        assert infonce(scores(seed=seed, scale=scale)) <= math.log(6)
    assert infonce(1000 * torch.eye(6)).item() == pytest.approx(math.log(6))


@pytest.mark.parametrize("clip", [1.0, 5.0])
def test_smile_is_between_what_its_clip_allows_and_the_bound_without(clip):
    F = scores(scale=4.0)
    assert smile(F, math.inf) == donsker_varadhan(F)
    joint = F.diagonal().mean()
    assert joint - clip <= smile(F, clip) <= joint + clip


def gradient(function, F):
    F = F.clone().requires_grad_()
    function(F).backward()
    return F.grad


def test_mine_has_the_gradient_of_the_bound_at_the_mean_of_the_batch():
    F = scores()
    own = torch.tensor(math.log(np.exp(apart(F)).mean()))
    expected = gradient(donsker_varadhan, F)
    assert_close(gradient(lambda F: mine(F, own), F), expected)


def test_mine_divides_by_the_average_instead_of_the_mean_of_the_batch():
    F = scores()
    own = math.log(np.exp(apart(F)).mean())
    got = gradient(lambda F: mine(F, torch.tensor(own + math.log(2))), F)
    expected = gradient(donsker_varadhan, F)
    itself = torch.eye(6, dtype=torch.bool)
    assert_close(got[itself], expected[itself])
    assert_close(got[~itself], expected[~itself] / 2)


def test_moving_average_of_mine():
    first, second = scores(seed=1), scores(seed=2)
    objective = MovingAverage(0.9)
    objective(first)
    means = [np.exp(apart(F)).mean() for F in (first, second)]
    assert objective.log_average.item() == pytest.approx(math.log(means[0]))
    assert objective(second).item() == pytest.approx(donsker_varadhan(second).item())
    expected = 0.9 * means[0] + 0.1 * means[1]
    assert objective.log_average.item() == pytest.approx(math.log(expected))
    objective = MovingAverage(0.9)
    objective(torch.full((4, 4), -100.0))
    assert objective.log_average.item() == pytest.approx(math.log(1e-4))


@pytest.mark.parametrize(
    "function", [donsker_varadhan, nwj, infonce, jensen_shannon, lambda F: smile(F, 5.0)]
)
def test_large_scores_do_not_overflow(function):
    F = 500 * torch.eye(4)
    assert torch.isfinite(function(F))
    assert torch.isfinite(gradient(function, F)).all()


# -- critics ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CRITICS)
def test_critic_scores_all_pairs_each_by_itself(name):
    critic = CRITICS[name](3, 2, (8,), "relu")
    reset_parameters(critic, torch.Generator().manual_seed(0))
    x, z = torch.randn(5, 3), torch.randn(4, 2)
    F = critic(x, z)
    assert F.shape == (5, 4)
    assert_close(F[2:3, 1:2], critic(x[2:3], z[1:2]))
    F.square().sum().backward()
    assert [n for n, p in critic.named_parameters() if p.grad is None or not p.grad.any()] == []


# -- neural estimators -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pairs():
    X, Z, truth = correlated(1500, 2, 0.8)
    return X[:1000], Z[:1000], X[1000:], Z[1000:], truth


@pytest.mark.parametrize("critic", CRITICS)
@pytest.mark.parametrize("name", NEURAL)
def test_estimate_is_near_the_information_of_a_gaussian(name, critic, pairs):
    X, Z, X_test, Z_test, truth = pairs
    quick = {"batch_size": 32, "hidden_layer_sizes": (32,)} if critic == "concat" else {}
    estimator = NEURAL[name](critic=critic, max_iter=500, random_state=0, device="cpu", **quick)
    value = estimator.fit(X, Z).score(X_test, Z_test)
    assert type(value) is float
    assert truth == pytest.approx(1.0217, abs=1e-4)
    # The deviation of 500 pairs' mean information is 0.05.
    assert value == pytest.approx(truth, abs=0.25)


@pytest.mark.parametrize(
    ("estimator", "objective", "value"),
    [
        (MINE(), donsker_varadhan, donsker_varadhan),
        (NWJ(), nwj, nwj),
        (InfoNCE(), infonce, infonce),
        (SMILE(clip=1.5), jensen_shannon, lambda F: smile(F, 1.5)),
    ],
)
def test_what_each_trains_on_and_what_it_reports(estimator, objective, value):
    F = scores()
    assert estimator._objective()(F).item() == pytest.approx(objective(F).item())
    assert estimator._value(F) == value(F)


def test_mine_trains_by_its_moving_average_and_the_others_by_the_batch_alone():
    first, second = scores(), 2 * scores() + 1
    for estimator in (MINE(momentum=0.7), NWJ(), InfoNCE(), SMILE()):
        used, fresh = estimator._objective(), estimator._objective()
        used(first)
        gradients = []
        for objective in (used, fresh):
            F = second.clone().requires_grad_()
            objective(F).backward()
            gradients.append(F.grad)
        assert torch.equal(*gradients) == (not isinstance(estimator, MINE))


def test_momentum_and_alpha_reach_the_training(pairs):
    X, Z, *_ = pairs
    critics = [
        NEURAL["mine"](**BRIEF, **options).fit(X, Z).critic_.g.output.weight
        for options in ({}, {"momentum": 0.1}, {"alpha": 10.0})
    ]
    assert not torch.equal(critics[0], critics[1])
    assert not torch.equal(critics[0], critics[2])


@pytest.mark.parametrize("name", ["mine", "nwj", "infonce"])
def test_rows_far_out_do_not_drown_the_rest(name):
    rng = np.random.RandomState(1)
    X = rng.standard_cauchy((900, 2))
    Z = X + rng.standard_cauchy((900, 2))
    folds = mutual_information(
        X, Z, name, cv=3, random_state=0, max_iter=200, device="cpu"
    ).folds  # fmt: skip
    assert min(folds) > 0.3


def test_a_critic_that_learnt_few_rows_by_heart_is_told_of():
    rng = np.random.RandomState(0)
    X = rng.randn(60, 2)
    Z = X + rng.randn(60, 2)
    with pytest.warns(UserWarning, match=r"mine gives -[\d.]+ nats, where .* never below 0"):
        mutual_information(X, Z, "mine", cv=2, random_state=0, max_iter=300, device="cpu")


@pytest.mark.parametrize("name", ESTIMATORS)
def test_independent_sides_have_none(name):
    X, Z, _ = correlated(1500, 2, 0.0)
    options = {} if name == "ksg" else {"max_iter": 300, "device": "cpu"}
    result = mutual_information(X, Z, name, cv=2, random_state=0, **options)
    assert result.estimate == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("name", NEURAL)
def test_same_seed_gives_the_same_critic_and_touches_nothing_global(name, pairs):
    X, Z, X_test, Z_test, _ = pairs
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    one, two = (NEURAL[name](**BRIEF).fit(X, Z) for _ in range(2))
    for a, b in zip(one.critic_.parameters(), two.critic_.parameters(), strict=True):
        assert torch.equal(a, b)
    value = one.score(X_test, Z_test)
    assert one.score(X_test, Z_test) == two.score(X_test, Z_test) == value
    assert pickle.loads(pickle.dumps(one)).score(X_test, Z_test) == value
    other = NEURAL[name](**BRIEF | {"random_state": 1}).fit(X, Z)
    assert other.score(X_test, Z_test) != value
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


def test_fits_in_threads_do_not_disturb_each_other(pairs):
    X, Z, X_test, Z_test, _ = pairs
    alone = MINE(**BRIEF).fit(X, Z).score(X_test, Z_test)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(MINE(**BRIEF).fit(X, Z).score(X_test, Z_test)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [alone] * 3


def test_a_random_state_instance_advances(pairs):
    X, Z, X_test, Z_test, _ = pairs
    estimator = InfoNCE(**BRIEF | {"random_state": np.random.RandomState(0)})
    first = estimator.fit(X, Z).score(X_test, Z_test)
    assert estimator.fit(X, Z).score(X_test, Z_test) != first


def test_unit_and_place_of_columns_do_not_matter(pairs):
    X, Z, X_test, Z_test, _ = pairs
    value = NWJ(**BRIEF).fit(X, Z).score(X_test, Z_test)
    moved = NWJ(**BRIEF).fit(1e3 * X + 5, 1e-3 * Z).score(1e3 * X_test + 5, 1e-3 * Z_test)
    assert moved == pytest.approx(value, abs=1e-5)


def test_constant_and_whole_columns_and_a_single_column_of_z_fit():
    rng = np.random.RandomState(0)
    X = np.column_stack([np.ones(60), rng.randint(3, size=60), rng.rand(60) < 0.5])
    value = InfoNCE(**BRIEF).fit(X, X[:, 1]).score(X, X[:, 1])
    assert np.isfinite(value)


def test_weights_are_those_that_did_best_on_held_out_pairs():
    X, Z, truth = correlated(900, 10, 0.5)
    seen, unseen = (X[:400], Z[:400]), (X[400:], Z[400:])
    stopped = MINE(n_iter_no_change=100, random_state=0, device="cpu").fit(*seen)
    best = int(np.argmax(stopped.validation_scores_))
    assert len(stopped.validation_scores_) == best + 3
    assert stopped.n_iter_ == 50 * (best + 2)
    assert 0 < stopped.score(*unseen) < truth
    # The same updates and more, which learn the training pairs by heart, change nothing.
    patient = stopped.set_params(n_iter_no_change=10_000, max_iter=620)
    value = stopped.score(*unseen)
    patient.fit(*seen)
    assert patient.n_iter_ == 620
    assert len(patient.validation_scores_) == 14
    assert patient.validation_scores_[-1] < max(patient.validation_scores_) - 1
    assert patient.score(*unseen) == value


def test_training_pairs_are_not_needed_to_score_and_not_kept(pairs):
    X, Z, *_ = pairs
    small = len(pickle.dumps(SMILE(**BRIEF).fit(X[:200], Z[:200])))
    assert len(pickle.dumps(SMILE(**BRIEF).fit(X, Z))) < small + 5000


def test_held_out_pairs_are_scored_in_batches(monkeypatch, pairs):
    X, Z, X_test, Z_test, _ = pairs
    estimator = InfoNCE(**BRIEF | {"max_iter": 100}).fit(X, Z)
    together = estimator.score(X_test, Z_test)
    monkeypatch.setattr(critics, "PAIRS_AT_ONCE", 1)
    assert estimator.score(X_test, Z_test) == pytest.approx(together, abs=1e-6)
    monkeypatch.setattr(critics, "SCORE_ROWS", 100)
    assert estimator._cap(500) == math.log(100)
    assert estimator._cap(501) == math.log(83)
    assert estimator.score(X_test, Z_test) == pytest.approx(together, abs=0.05)
    # In random batches, so that sorted rows meet all others, not their like.
    order = np.argsort(X_test[:, 0])
    assert estimator.score(X_test[order], Z_test[order]) == pytest.approx(together, abs=0.05)


@pytest.mark.parametrize("n", [10, 11, 13])
@pytest.mark.parametrize("options", [{"batch_size": 2}, {"validation_fraction": 0.99}])
def test_no_batch_of_one_row(n, options):
    X, Z, _ = correlated(n, 2, 0.5)
    value = MINE(**BRIEF, **options).fit(X, Z)._estimate(X, Z)
    assert np.isfinite(value)


def test_cross_val_score_and_grid_search_take_them(pairs):
    X, Z, *_ = pairs
    values = cross_val_score(InfoNCE(**BRIEF), X, Z, cv=3, error_score="raise")
    assert np.isfinite(values).all()
    assert clone(SMILE(clip=2.0)).get_params()["clip"] == 2.0
    assert repr(MINE(momentum=0.5)) == "MINE(momentum=0.5)"


@parametrize_with_checks([*(kind(**BRIEF) for kind in NEURAL.values()), KSG()])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("critic", CRITICS)
def test_on_a_gpu(critic, pairs):
    X, Z, X_test, Z_test, _ = pairs
    options = BRIEF | {"critic": critic, "max_iter": 100}
    on_gpu = InfoNCE(**options | {"device": "cuda"}).fit(X, Z)
    assert next(on_gpu.critic_.parameters()).device.type == "cpu"
    there = on_gpu.score(X_test, Z_test)
    assert on_gpu.set_params(device="cpu").score(X_test, Z_test) == pytest.approx(there, abs=1e-4)
    on_cpu = InfoNCE(**options).fit(X, Z).score(X_test, Z_test)
    assert there == pytest.approx(on_cpu, abs=0.02)


# -- KSG -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_ksg_is_near_the_information_of_a_gaussian(d, rho):
    X, Z, truth = correlated(4000, d, rho)
    assert KSG().score(X, Z) == pytest.approx(truth, abs=0.04 * d)


def test_ksg_follows_its_formula(monkeypatch):
    X, Z, _ = correlated(40, 2, 0.7)
    monkeypatch.setattr(critics, "quantile_map", lambda column: Unchanged())
    gap_x = np.abs(X[:, None] - X).max(2)
    gap_z = np.abs(Z[:, None] - Z).max(2)
    terms = []
    for i in range(40):
        others = np.arange(40) != i
        radius = np.sort(np.maximum(gap_x, gap_z)[i, others])[2]
        n_x, n_z = (gap_x[i, others] < radius).sum(), (gap_z[i, others] < radius).sum()
        terms.append(digamma(n_x + 1) + digamma(n_z + 1))
    expected = digamma(3) + digamma(40) - np.mean(terms)
    assert KSG(n_neighbors=3).score(X, Z) == pytest.approx(expected, abs=1e-12)


class Unchanged:
    def without_atoms(self):
        return self

    def forward(self, values):
        return values


def test_ksg_is_the_same_with_sides_swapped():
    X, Z, _ = correlated(500, 2, 0.7, "cubic")
    assert KSG().score(X, Z) == KSG().score(Z, X)


def test_ksg_hardly_feels_monotone_maps_of_columns():
    X, Z, _ = correlated(2000, 2, 0.7)
    value = KSG().score(X, Z)
    assert KSG().score(X**3 + X, np.exp(2 * Z)) == pytest.approx(value, abs=0.02)
    assert KSG().score(-5 * X, 1e6 * Z + 3) == pytest.approx(value, abs=1e-3)


def test_ksg_has_no_floor_at_zero():
    values = [KSG().score(*correlated(100, 1, 0.0, seed=seed)[:2]) for seed in range(20)]
    assert min(values) < -0.02
    assert np.mean(values) == pytest.approx(0, abs=0.05)


def test_ksg_needs_no_fit_and_keeps_no_row():
    X, Z, _ = correlated(100, 2, 0.5)
    assert KSG().fit(X, Z).score(X, Z) == KSG().score(X, Z)
    assert vars(KSG().fit(X, Z)).keys() == {"n_neighbors", "random_state", "n_features_in_"}


def test_ksg_breaks_ties_by_noise_of_its_own():
    rng = np.random.RandomState(0)
    X, Z = rng.randint(3, size=(2, 600, 1))
    before = np.random.get_state()[1].copy()
    value = KSG().score(X, Z)
    assert value == KSG().score(X, Z)
    assert value != KSG(random_state=1).score(X, Z)
    assert value == pytest.approx(0, abs=0.1)
    assert np.array_equal(np.random.get_state()[1], before)


# -- the one call ----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.* never below 0")
@pytest.mark.parametrize("name", ESTIMATORS)
def test_result_is_the_mean_over_folds_and_repeats(name):
    X, Z, _ = correlated(200, 2, 0.5)
    options = {} if name == "ksg" else BRIEF | {"random_state": 0}
    options = {key: value for key, value in options.items() if key != "random_state"}
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    result = mutual_information(X, Z, name, cv=4, random_state=0, **options)
    assert len(result.folds) == 4
    assert result.estimate == pytest.approx(np.mean(result.folds))
    assert result.error == pytest.approx(np.std(result.folds, ddof=1) / 2)
    expected = digamma(50) - digamma(5) if name == "ksg" else math.log(50)
    assert result.cap == pytest.approx(expected)
    assert mutual_information(X, Z, name, cv=4, random_state=0, **options) == result
    assert mutual_information(X, Z, name, cv=4, random_state=1, **options) != result
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


def test_result_reads_well():
    result = MutualInformation(0.51234, 0.0191, (0.5, 0.52), 5.298)
    assert repr(result) == "MutualInformation(0.512 ± 0.019 nats, 2 folds, cap 5.30)"
    assert "± nan nats, 1 fold, cap" in repr(MutualInformation(0.5, math.nan, (0.5,), 5.3))
    estimate, error, folds, cap = result
    assert (estimate, error, folds, cap) == (0.51234, 0.0191, (0.5, 0.52), 5.298)


def test_folds_are_disjoint_parts_of_shuffled_rows():
    """Sorted rows would give folds that each hold a narrow range of X, and little information."""
    X, Z, truth = correlated(2000, 1, 0.9)
    order = np.argsort(X[:, 0])
    result = mutual_information(X[order], Z[order], "ksg", random_state=0)
    assert result.estimate == pytest.approx(truth, abs=0.08)


@pytest.mark.filterwarnings("ignore:.* never below 0")
@pytest.mark.parametrize("name", ESTIMATORS)
def test_pairs_that_are_scored_are_those_held_out(name):
    X, Z, truth = correlated(900, 1, 0.9)
    Z[600:] = np.random.RandomState(1).permutation(Z[600:])  # no information in these
    options = {} if name == "ksg" else {"max_iter": 200, "device": "cpu"}
    folds = [(np.arange(600), np.arange(600, 900))]
    result = mutual_information(X, Z, name, cv=folds, random_state=0, **options)
    assert result.estimate < 0.3 * truth


def test_cap_is_that_of_the_smallest_fold():
    result = mutual_information(*correlated(201, 1, 0.1)[:2], "ksg", cv=4, random_state=0)
    assert result.cap == pytest.approx(digamma(50) - digamma(5))


def test_frames_and_splitters_are_taken():
    pandas = pytest.importorskip("pandas")
    X, Z, _ = correlated(200, 2, 0.5)
    expected = mutual_information(X, Z, "ksg", random_state=0)
    frames = pandas.DataFrame(X, columns=["a", "b"]), pandas.DataFrame(Z, columns=["c", "d"])
    assert mutual_information(*frames, "ksg", random_state=0) == expected
    single = mutual_information(X, Z, "ksg", cv=ShuffleSplit(1, random_state=0))
    assert len(single.folds) == 1
    assert math.isnan(single.error)
    groups = GroupKFold(4).split(X, groups=np.arange(200) // 10)
    assert len(mutual_information(X, Z, "ksg", cv=groups).folds) == 4


def test_information_near_the_cap_warns():
    X = np.random.RandomState(0).randn(300, 1)
    message = r"KSG gives 4\.\d\d nats, where 4\.20 is the most that the rows scored together"
    with pytest.warns(UserWarning, match=message) as record:
        value = KSG().score(X, X)
    assert record[0].filename == __file__
    assert value <= digamma(300) - digamma(5)
    with pytest.warns(UserWarning, match=r"ksg gives .* where 2\.58 is .*Score more rows"):
        mutual_information(X, X, "ksg")


@pytest.mark.parametrize("name", NEURAL)
def test_critics_warn_near_the_log_of_the_rows(name, monkeypatch):
    X, Z, _ = correlated(100, 2, 0.5)
    estimator = NEURAL[name](**BRIEF).fit(X, Z)
    expected = rf"{type(estimator).__name__} gives 4\.20 nats, where 4\.61 is the most"
    monkeypatch.setattr(NEURAL[name], "_value", lambda self, F: 4.2)
    with pytest.warns(UserWarning, match=expected):
        estimator.score(X, Z)
    monkeypatch.setattr(NEURAL[name], "_value", lambda self, F: 4.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimator.score(X, Z)


def test_small_caps_warn_within_three_tenths_of_a_nat():
    with pytest.warns(UserWarning, match="gives 2.01 nats, where 2.30 is"):
        warn_near_cap("KSG", 2.01, math.log(10))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_near_cap("KSG", 1.99, math.log(10))


# -- accuracy, minutes -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("map_name", ["none", "cubic"])
@pytest.mark.parametrize("rho", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("d", [2, 20])
@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.filterwarnings("ignore:.*the most that the rows scored:UserWarning")
def test_accuracy_on_gaussians(name, d, rho, map_name):
    """In two dimensions near the truth; in twenty below it, by how much 4,000 rows fall short."""
    X, Z, truth = correlated(5000, d, rho, map_name)
    options = {} if name == "ksg" else {"device": "cpu"}
    estimator = ESTIMATORS[name](random_state=0, **options)
    value = estimator.fit(X[:4000], Z[:4000]).score(X[4000:], Z[4000:])
    if d == 2:
        assert value == pytest.approx(truth, abs=0.04 + 0.12 * truth)
    elif name == "ksg":
        assert 0 < value < 0.3 * truth
    else:
        # The information of a thousand pairs has a deviation of rho sqrt(d) / sqrt(1000).
        least = {0.2: 0.2, 0.5: 0.55, 0.9: 0.3}[rho]
        assert least * truth < value < truth + 2 * rho * math.sqrt(20 / 1000)
    if name == "infonce":
        assert value < math.log(1000)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nwj", "infonce"])
def test_accuracy_in_twenty_dimensions_with_many_rows(name):
    X, Z, truth = correlated(42_000, 20, 0.5)
    estimator = NEURAL[name](random_state=0, device="cpu").fit(X[:40_000], Z[:40_000])
    assert truth == pytest.approx(2.877, abs=1e-3)
    assert estimator.score(X[40_000:], Z[40_000:]) == pytest.approx(truth, rel=0.15)


# -- errors ----------------------------------------------------------------------------------------

PAIRS = correlated(40, 2, 0.5)[:2]
HOLED = np.where(np.arange(80).reshape(40, 2) == 7, np.nan, PAIRS[0])


@pytest.mark.parametrize(
    ("X", "Z", "message"),
    [
        (PAIRS[0], PAIRS[1][:39], "Got 40 rows of X and 39 of "),
        (PAIRS[0][:9], PAIRS[1][:9], "Found array with 9 sample(s) (shape=(9, 2)) while a minimum"),
        (HOLED, PAIRS[1], "Input X contains NaN"),
        (PAIRS[0], HOLED, " contains NaN"),
        (PAIRS[0], np.where(np.isnan(HOLED), np.inf, PAIRS[1]), " contains infinity"),
        (PAIRS[0], None, "array-like (array or non-string sequence), got None for "),
        (PAIRS[0], np.full((40, 1), "a"), "could not convert string to float"),
        (PAIRS[0], np.zeros((40, 2, 2)), "Found array with dim 3"),
    ],
)
@pytest.mark.parametrize(
    "use",
    [
        lambda X, Z: MINE(**BRIEF).fit(X, Z),
        lambda X, Z: MINE(**BRIEF).fit(*PAIRS).score(X, Z),
        lambda X, Z: KSG().fit(X, Z),
        lambda X, Z: KSG().score(X, Z),
        lambda X, Z: mutual_information(X, Z, "ksg"),
    ],
)
def test_bad_pairs(use, X, Z, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        use(X, Z)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mutual_information(*PAIRS, "elbo"), "Got 'elbo' instead"),
        (lambda: mutual_information(*PAIRS, "ksg", cv=1), "Got 1 instead"),
        (lambda: mutual_information(*PAIRS, "ksg", cv=5), "Got 40 rows in all and 8 in the sma"),
        (lambda: mutual_information(*PAIRS, "ksg", cv=2, clip=1), "Invalid parameter 'clip'"),
        (lambda: MINE(momentum=1.0).fit(*PAIRS), "(0.0, 1.0). Got 1.0 instead"),
        (lambda: SMILE(clip=0.0).fit(*PAIRS), "(0.0, inf]. Got 0.0 instead"),
        (lambda: NWJ(critic="bilinear").fit(*PAIRS), "Got 'bilinear' instead"),
        (lambda: NWJ(batch_size=1).fit(*PAIRS), "[2, inf). Got 1 instead"),
        (lambda: NWJ(device="tpu").fit(*PAIRS), "Got 'tpu' instead"),
        (lambda: KSG(n_neighbors=0).fit(*PAIRS), "[1, inf). Got 0 instead"),
        (lambda: KSG(n_neighbors=40).score(*PAIRS), "Got n_neighbors=40 and 40 rows."),
        (lambda: NWJ(**BRIEF).score(*PAIRS), "This NWJ instance is not fitted yet"),
        (
            lambda: NWJ(**BRIEF).fit(*PAIRS).score(PAIRS[0], PAIRS[1][:, :1]),
            "y must have the 2 features that it had in fit. Got 1.",
        ),
        (
            lambda: NWJ(**BRIEF).fit(*PAIRS).score(PAIRS[0][:, :1], PAIRS[1]),
            "X has 1 features, but NWJ is expecting 2 features",
        ),
    ],
)
def test_bad_parameters(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_unknown_method_lists_the_known_ones():
    with pytest.raises(ValueError, match="a str among") as caught:
        mutual_information(*PAIRS, "elbo")
    for name in ("infonce", "ksg", "mine", "nwj", "smile"):
        assert f"'{name}'" in str(caught.value)


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="Input Z contains NaN"):
        mutual_information(PAIRS[0], HOLED)
    with pytest.raises(ValueError, match="Input y contains NaN"):
        MINE().fit(PAIRS[0], HOLED)
