"""Geometry of features: closed forms, invariances, use as scorers."""

import math
import re
import tracemalloc
from itertools import permutations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import ive
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV

from cmim_sklearn import geometry
from cmim_sklearn.geometry import alignment, tolerance, uniformity


def features(n=30, d=4, seed=0):
    return np.random.RandomState(seed).randn(n, d)


def circle(n):
    angle = 2 * np.pi * np.arange(n) / n
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def unit(Z):
    return Z / np.linalg.norm(Z, axis=1, keepdims=True)


# -- uniformity ------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [0.5, 2.0, 300.0])
def test_uniformity_of_two_opposite_points(t):
    assert uniformity([[3.0, 0.0], [-0.1, 0.0]], t=t) == pytest.approx(-4 * t)


@pytest.mark.parametrize("n", [2, 5])
@pytest.mark.parametrize("t", [0.5, 2.0])
def test_uniformity_of_orthonormal_points(n, t):
    assert uniformity(np.eye(n), t=t) == pytest.approx(-2 * t)


@pytest.mark.parametrize("t", [0.5, 2.0, 10.0])
def test_uniformity_of_even_directions_on_the_circle(t):
    n = 3000
    with_itself = ive(0, 2 * t)  # exp(-2 t) I0(2 t): the mean over all pairs, also i = j
    expected = math.log((n * with_itself - 1) / (n - 1))
    assert uniformity(circle(n), t=t) == pytest.approx(expected, rel=1e-9)
    assert uniformity(circle(n), t=t) == pytest.approx(math.log(with_itself), abs=4e-3)


def test_uniformity_follows_its_formula_over_ordered_pairs():
    f = unit(features(7))
    terms = [math.exp(-2 * ((a - b) ** 2).sum()) for a, b in permutations(f, 2)]
    assert len(terms) == 42
    assert uniformity(f) == pytest.approx(math.log(sum(terms) / 42))


@pytest.mark.parametrize("block", [1, 7, 29, 30])
def test_uniformity_does_not_depend_on_the_blocks(monkeypatch, block):
    expected = uniformity(features())
    monkeypatch.setattr(geometry, "BLOCK_ROWS", block)
    assert uniformity(features()) == pytest.approx(expected, rel=1e-12)


def test_uniformity_allocates_no_matrix_of_all_pairs():
    Z = features(6000, 2)
    tracemalloc.start()
    uniformity(Z)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.25 * 8 * 6000**2


def test_uniformity_of_coinciding_directions_is_zero():
    assert uniformity(np.outer([1.0, 2.0, 5.0], [0.3, 0.1, 0.7])) == pytest.approx(0, abs=1e-12)


def test_far_pairs_do_not_underflow():
    assert uniformity([[1.0, 0.0], [-1.0, 0.0]], t=1e4) == pytest.approx(-4e4)


def test_rows_of_zeros_stay_at_the_origin():
    assert uniformity(np.zeros((3, 2))) == pytest.approx(0, abs=1e-12)
    assert uniformity([[0.0, 0.0], [5.0, 0.0]]) == pytest.approx(-2)
    assert tolerance([[0.0, 0.0], [5.0, 0.0]], [1, 1]) == 0.0
    assert alignment([[0.0, 0.0]], [[5.0, 0.0]]) == pytest.approx(1)


# -- tolerance -------------------------------------------------------------------------------------


def test_tolerance_follows_its_formula_over_pairs_of_one_label():
    f, labels = unit(features(9)), np.array([0, 1, 0, 2, 2, 0, 1, 3, 2])
    pairs = [f[i] @ f[j] for i in range(9) for j in range(9) if i != j and labels[i] == labels[j]]
    assert len(pairs) == 3 * 2 + 2 * 1 + 3 * 2
    assert tolerance(f, labels) == pytest.approx(np.mean(pairs))


def test_tolerance_of_known_angles():
    assert tolerance([[1.0, 0.0], [-2.0, 0.0]], ["a", "a"]) == pytest.approx(-1)
    assert tolerance(np.eye(4), [0, 0, 1, 1]) == pytest.approx(0)
    assert tolerance([[1.0, 0.0], [1.0, 1.0]], [True, True]) == pytest.approx(math.sqrt(0.5))


def test_tolerance_does_not_depend_on_the_values_of_labels():
    labels = np.random.RandomState(0).randint(3, size=30)
    expected = tolerance(features(), labels)
    assert tolerance(features(), np.array(["z", "b", "m"])[labels]) == pytest.approx(expected)
    assert tolerance(features(), 7 - labels) == pytest.approx(expected)


def test_tolerance_falls_when_labels_are_shuffled():
    labels = np.repeat([0, 1, 2], 50)
    Z = np.eye(3)[labels] + 0.1 * features(150, 3)
    shuffled = np.random.RandomState(0).permutation(labels)
    assert tolerance(Z, labels) > 0.9
    assert tolerance(Z, shuffled) < 0.5


# -- alignment -------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [1.0, 2.0, 3.0])
def test_alignment_of_known_distances(alpha):
    first, second = np.eye(3), np.array([[2.0, 0, 0], [0, -1, 0], [1, 0, 0]])
    expected = (0 + 2**alpha + 2 ** (alpha / 2)) / 3
    assert alignment(first, second, alpha=alpha) == pytest.approx(expected)


def test_alignment_is_symmetric_and_zero_with_itself():
    first, second = features(), features(seed=1)
    assert alignment(first, second) == alignment(second, first)
    assert alignment(first, 3 * first) == pytest.approx(0, abs=1e-12)


def test_alignment_and_tolerance_agree_on_pairs():
    """A label for each pair: the mean cosine s and the mean distance 2 - 2 s."""
    first, second = features(), features(seed=1)
    labels = np.arange(30)
    both = tolerance(np.vstack([first, second]), np.concatenate([labels, labels]))
    assert alignment(first, second) == pytest.approx(2 - 2 * both)


# -- all of them -----------------------------------------------------------------------------------

MEASURES = {
    "uniformity": lambda Z, order: uniformity(Z),
    "tolerance": lambda Z, order: tolerance(Z, (np.arange(30) % 3)[order]),
    "alignment": lambda Z, order: alignment(Z, features(seed=1)[order]),
}


@pytest.mark.parametrize("name", MEASURES)
def test_order_length_and_rotation_do_not_matter(name):
    measure, same = MEASURES[name], np.arange(30)
    expected = measure(features(), same)
    order = np.random.RandomState(1).permutation(30)
    assert measure(features()[order], order) == pytest.approx(expected)
    scale = np.exp(3 * np.random.RandomState(2).randn(30, 1))
    assert measure(scale * features(), same) == pytest.approx(expected)
    for extreme in (1e-250, 1e250):
        assert measure(extreme * features(), same) == pytest.approx(expected)
    if name != "alignment":
        rotation = np.linalg.qr(features(4, seed=3))[0]
        assert measure(features() @ rotation, same) == pytest.approx(expected)


@pytest.mark.parametrize("name", MEASURES)
def test_dataframes_and_lists(name):
    pandas = pytest.importorskip("pandas")
    measure, same = MEASURES[name], np.arange(30)
    expected = measure(features(), same)
    assert type(expected) is float
    assert measure(features().tolist(), same) == expected
    frame = pandas.DataFrame(features(), columns=list("abcd"))
    assert_allclose(measure(frame, same), expected)


@pytest.mark.parametrize(
    ("scoring", "best"),
    [
        (lambda est, X, y=None: -uniformity(est.transform(X)), 3),
        (lambda est, X, y=None: uniformity(est.transform(X)), 1),
        (lambda est, X, y: tolerance(est.transform(X), y), 2),
    ],
)
def test_use_as_a_scorer(scoring, best):
    X, y = load_iris(return_X_y=True)
    search = GridSearchCV(PCA(), {"n_components": [1, 2, 3]}, scoring=scoring).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_params_ == {"n_components": best}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: uniformity([[1.0, 2.0]]), "Found array with 1 sample(s) (shape=(1, 2)) while a"),
        (lambda: uniformity([1.0, 2.0]), "Expected 2D array, got 1D array"),
        (lambda: uniformity([[1.0], [np.nan]]), "Input Z contains NaN"),
        (lambda: uniformity([[1.0], [np.inf]]), "Input Z contains infinity"),
        (lambda: uniformity(np.eye(2), t=-1.0), "float in the range (0.0, inf). Got -1.0 instead"),
        (lambda: tolerance(np.eye(3), [0, 0]), "got 2 labels and 3 rows."),
        (lambda: tolerance(np.eye(3), [0, 1, 2]), "got 3 different labels for 3 rows"),
        (lambda: tolerance(np.eye(2), np.eye(2)), "got an array of shape (2, 2) instead"),
        (lambda: alignment(np.eye(2), np.eye(3)), "got shapes (2, 2) and (3, 3)."),
        (lambda: alignment(np.eye(2), [[1.0, 0.0], [np.nan, 1.0]]), "Input Z2 contains NaN"),
        (lambda: alignment(np.eye(2), np.eye(2), alpha=0), "range (0.0, inf). Got 0 instead"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_missing_labels_raise():
    Z = np.eye(4)
    for labels in ([0, 0, np.nan, np.nan], ["a", "a", None, "b"]):
        with pytest.raises(ValueError, match=r"got (1|2) missing of 4\. Drop those"):
            tolerance(Z, np.array(labels, dtype=object))
