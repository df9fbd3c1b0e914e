"""Arrays that torch can use, and numbers that an array keeps."""

import numpy as np

from cmim_sklearn._utils.arrays import nearest_kept, writable


def test_read_only_arrays_are_copied_and_others_are_not():
    locked, free = np.arange(3.0), np.arange(2)
    locked.flags.writeable = False
    value = {"a": [locked, (free, "b")], "c": {"d": locked[:0]}, "e": None}
    copied = writable(value)
    assert copied["a"][0].flags.writeable
    assert copied["a"][0].tolist() == [0, 1, 2]
    assert copied["a"][1] == (free, "b")
    assert copied["a"][1][0] is free
    assert copied["c"]["d"].flags.writeable
    assert copied["e"] is None


def test_a_memory_mapped_array_becomes_a_plain_one(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3))
    copied = writable(np.load(tmp_path / "a.npy", mmap_mode="r"))
    assert type(copied) is np.ndarray
    assert copied.flags.writeable


def test_nearest_kept_numbers_are_equal_up_to_rounding():
    kept = np.array([0.0, 1.0, 2.0**60])
    place, is_kept = nearest_kept(np.array([-0.1, 0.0, 1.0, 1.1, 2.0**60 + 256, np.nan]), kept)
    assert place[[1, 2, 4]].tolist() == [0, 1, 2]
    assert is_kept.tolist() == [False, True, True, False, True, False]
