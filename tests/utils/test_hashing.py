"""Hashes of arrays: equal only for equal arrays."""

import numpy as np
import pytest
import torch

from cmim_sklearn._utils.hashing import hash_of

A = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_the_hash_does_not_depend_on_memory_layout_or_library():
    arrays = [A, A.copy(), np.asfortranarray(A), torch.from_numpy(A), A.T.copy().T]
    arrays.append(torch.nn.Parameter(torch.from_numpy(A)))
    assert len({hash_of({"a": array}) for array in arrays}) == 1


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
def test_name_shape_dtype_and_every_bit_change_the_hash(other):
    assert hash_of(other) != hash_of({"a": A})


def test_moving_values_between_arrays_changes_the_hash():
    flat = A.ravel()
    split = [{"a": flat[:n], "b": flat[n:]} for n in range(7)]
    assert len({hash_of(parts) for parts in split}) == 7
    assert hash_of({"a": flat, "b": A}) != hash_of({"b": A, "a": flat})


def test_a_scalar_differs_from_an_array_of_one():
    assert hash_of({"a": np.array(3.0)}) != hash_of({"a": np.array([3.0])})


@pytest.mark.parametrize("array", [np.array(3.0), np.zeros((0, 4)), np.array([True, False])])
def test_scalars_empty_arrays_and_booleans_have_a_hash(array):
    assert len(hash_of({"a": array})) == 64
