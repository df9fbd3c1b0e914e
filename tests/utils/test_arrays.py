"""Arrays that torch can use."""

import numpy as np

from cmim_sklearn._utils.arrays import writable


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
