"""Equal hashes for equal arrays, and others for all else."""

import numpy as np
import pytest
import torch

from cmim_sklearn._utils.hashing import hash_of

A = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_equal_values_have_the_same_hash_however_they_are_held():
    held = [A, A.copy(), np.asfortranarray(A), torch.from_numpy(A), A.T.copy().T]
    held.append(torch.nn.Parameter(torch.from_numpy(A)))
    assert len({hash_of({"a": array}) for array in held}) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"b": A},
        {"a": A.reshape(3, 2)},
        {"a": A.astype(np.int32)},
        {"a": A.astype(np.float64)},
        {"a": np.nextafter(A, 9)},
        {"a": -A * 0},
        {"a": A, "b": A[:0]},
        {},
    ],
    ids=str,
)
def test_a_change_of_name_shape_dtype_or_of_the_last_bit_changes_it(other):
    assert hash_of(other) != hash_of({"a": A})


def test_values_may_not_move_from_one_array_to_the_next():
    flat = A.ravel()
    split = [{"a": flat[:n], "b": flat[n:]} for n in range(7)]
    assert len({hash_of(parts) for parts in split}) == 7
    assert hash_of({"a": flat, "b": A}) != hash_of({"b": A, "a": flat})


def test_a_number_is_no_array_of_one():
    assert hash_of({"a": np.array(3.0)}) != hash_of({"a": np.array([3.0])})


@pytest.mark.parametrize("array", [np.array(3.0), np.zeros((0, 4)), np.array([True, False])])
def test_scalars_empty_arrays_and_booleans_have_one(array):
    assert len(hash_of({"a": array})) == 64
