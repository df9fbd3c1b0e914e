"""KSG: its formula, accuracy, invariances and ties."""

import numpy as np
import pytest
from scipy.special import digamma

from benchmarks.studies.mutual_information import correlated
from cmim_sklearn.mutual_information import KSG
from cmim_sklearn.mutual_information import _base as base


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_ksg_is_near_the_information_of_a_gaussian(d, rho):
    X, Z, truth = correlated(4000, d, rho)
    assert KSG().score(X, Z) == pytest.approx(truth, abs=0.04 * d)


def test_ksg_follows_its_formula(monkeypatch):
    X, Z, _ = correlated(40, 2, 0.7)
    monkeypatch.setattr(base, "quantile_map", lambda column: Unchanged())
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


def test_ksg_is_the_same_with_sides_swapped():
    X, Z, _ = correlated(500, 2, 0.7, "cubic")
    assert KSG().score(X, Z) == KSG().score(Z, X)


def test_ksg_is_nearly_invariant_to_monotone_maps_of_columns():
    X, Z, _ = correlated(2000, 2, 0.7)
    value = KSG().score(X, Z)
    assert KSG().score(X**3 + X, np.exp(2 * Z)) == pytest.approx(value, abs=0.02)
    assert KSG().score(-5 * X, 1e6 * Z + 3) == pytest.approx(value, abs=1e-3)


def test_ksg_is_not_clipped_at_zero():
    values = [KSG().score(*correlated(100, 1, 0.0, seed=seed)[:2]) for seed in range(20)]
    assert min(values) < -0.02
    assert np.mean(values) == pytest.approx(0, abs=0.05)


def test_ksg_needs_no_fit_and_stores_no_row():
    X, Z, _ = correlated(100, 2, 0.5)
    assert KSG().fit(X, Z).score(X, Z) == KSG().score(X, Z)
    assert vars(KSG().fit(X, Z)).keys() == {"n_neighbors", "random_state", "n_features_in_"}


def test_ksg_breaks_ties_by_noise_from_its_random_state():
    rng = np.random.RandomState(0)
    X, Z = rng.randint(3, size=(2, 600, 1))
    before = np.random.get_state()[1].copy()
    value = KSG().score(X, Z)
    assert value == KSG().score(X, Z)
    assert value != KSG(random_state=1).score(X, Z)
    assert value == pytest.approx(0, abs=0.1)
    assert np.array_equal(np.random.get_state()[1], before)


class Unchanged:
    def without_atoms(self):
        return self

    def forward(self, values):
        return values
