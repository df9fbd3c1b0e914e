"""Labels in training: held-back rows, and the rule that ends the label term."""

import numpy as np
import pytest

from cmim_sklearn._training.labels import choose_held_back, plan_labels

NAN = np.nan


def test_held_back_rows_are_a_share_of_each_class():
    labels = np.repeat([0.0, 1.0, 2.0, NAN], [600, 300, 100, 500])
    found = choose_held_back(labels, 3, seed=0)
    assert (np.diff(found) > 0).all()
    assert np.bincount(labels[found].astype(int)).tolist() == [60, 30, 10]
    assert (choose_held_back(labels, 3, seed=1) != found).any()


def test_held_back_rows_cover_the_range_of_numbers():
    labels = np.random.RandomState(0).permutation(1000) / 10
    found = np.sort(labels[choose_held_back(labels, 0, seed=0)])
    np.testing.assert_allclose(np.diff(found), 1.0)


@pytest.mark.parametrize(
    ("n", "expected"), [(100, 20), (200, 30), (300, 30), (1000, 100), (20_000, 1000)]
)
def test_number_of_held_back_rows(n, expected):
    assert len(choose_held_back(np.arange(n) % 2 * 1.0, 2, seed=0)) == expected


def test_the_only_row_of_a_class_is_not_held_back():
    labels = np.repeat(np.arange(200), 2).astype(float)
    labels = np.append(labels, np.arange(200, 260))
    for seed in range(5):
        found = choose_held_back(labels, 260, seed)
        assert len(found) == 46
        assert len(set(labels[found])) == 46
        assert labels[found].max() < 200
    assert not len(choose_held_back(np.arange(400.0), 400, seed=0))


def plan(labels, n_classes=2, held_out=None):
    x = np.arange(len(labels), dtype=np.float32)[:, None]
    x_held_out = None if held_out is None else -np.arange(len(held_out), dtype=np.float32)[:, None]
    return plan_labels(n_classes, labels, held_out, lambda rows: x[rows], x_held_out, 0)


def test_the_plan_marks_held_back_labels():
    labels = np.arange(400) % 2 * 1.0
    labels[:50] = NAN
    found = plan(labels)
    np.testing.assert_array_equal(found.train[:, 0], labels)
    held_back = np.flatnonzero(found.train[:, 1])
    assert len(held_back) == 35
    np.testing.assert_array_equal(found.check_x[:, 0], held_back)
    np.testing.assert_array_equal(found.check_y, labels[held_back])
    assert found.held_out is None


def test_labelled_held_out_rows_serve_for_the_checks():
    labels, held_out = np.arange(400) % 2 * 1.0, np.repeat([NAN, 0.0, 1.0], [10, 15, 15])
    found = plan(labels, held_out=held_out)
    assert not found.train[:, 1].any()
    np.testing.assert_array_equal(found.check_x[:, 0], -np.arange(10, 40))
    np.testing.assert_array_equal(found.check_y, held_out[10:])
    np.testing.assert_array_equal(found.held_out[:, 0], held_out)
    assert found.held_out[:, 1].all()
    few = plan(labels, held_out=held_out[:39])
    assert few.train[:, 1].sum() == 40


@pytest.mark.parametrize(
    "labels", [np.arange(299) % 2 * 1.0, np.repeat([0.0, NAN], [400, 200]), np.arange(400.0)]
)
def test_labels_from_which_nothing_is_learnt_are_not_used(labels):
    assert plan(labels, n_classes=400) is None


def test_three_hundred_labels_are_used():
    assert plan(np.arange(300) % 2 * 1.0) is not None
