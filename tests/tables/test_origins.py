"""Origins of columns that float64 cannot hold exactly."""

from collections import Counter
from contextlib import nullcontext
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from cmim_sklearn._tables import origins
from cmim_sklearn._tables.origins import Origin, find_origins
from cmim_sklearn._tables.read import read
from cmim_sklearn._tables.wide import MAX_SCALE
from tests.helpers import objects

NEIGHBOURS = [2**60, 2**60 + 1, 2**60 + 5]
COLUMNS = {
    "integers": (NEIGHBOURS, 0),
    "both signs": ([-(2**63), -5, 2**63 - 1], 0),
    "huge": ([10**300, 10**300 + 10**290, 3 * 10**300], 0),
    "decimals": ([Decimal("1234567890123456.78"), Decimal("1234567890123456.79"), Decimal(2)], 2),
    "long decimals": ([Decimal("0.12345678901234567890"), Decimal("0.12345678901234567891")], 20),
    "sentinel": ([-1, 1790123456789012345, 1790123456789019999], 0),
    "powers": ([0, 2**60 + 1, 2**61 + 1], 0),
    "tenths": ([Decimal(0), Decimal("0.12345678901234567891"), Decimal("0.2")], 20),
    "whole floats": ([2.0**60, 2**60 + 1, Decimal(2**60 + 5)], 0),
}


@pytest.mark.parametrize(("values", "scale"), COLUMNS.values(), ids=COLUMNS)
def test_distances_are_ordered_and_invert(values, scale):
    origin = Origin.fit(values, scale)
    distances = origin.relative(objects(*values, None))
    assert np.isnan(distances[-1])
    back = origin.absolute(distances).tolist()
    assert back[-1] is None
    assert min(back[:-1]) == min(values)
    assert max(back[:-1]) == max(values)
    changed = origin.changed(values)
    assert changed == [v for v, other in zip(values, back, strict=False) if v != other]
    assert len(changed) == len(values) - len(set(distances[:-1].tolist()))
    near = np.nextafter(distances, np.inf)  # as after rounding to decimals
    assert origin.absolute(near).tolist() == back
    again = Origin(**origin.state())
    assert again.absolute(distances).tolist() == back


def test_neighbours_differ_by_one():
    origin = Origin.fit(NEIGHBOURS)
    assert origin.relative(objects(*NEIGHBOURS)).tolist() == [0, 1, 5]
    assert origin.absolute(np.array([0.4, 0.6, 4.9])).tolist() == NEIGHBOURS


def test_later_values_may_be_floats_or_outside():
    origin = Origin.fit(NEIGHBOURS)
    assert origin.relative(np.array([2.0**60, np.nan, 0.5])).tolist()[::2] == [0, -(2.0**60)]
    assert origin.relative(objects(2**60 - 3, Decimal("0.5"))).tolist() == [-3, -(2.0**60)]


@pytest.mark.parametrize(
    ("values", "scale"),
    [([], 0), ([1, 2**53 - 1], 0), ([Decimal("0.25"), Decimal(1)], 2), ([2**60, 0.5], 0)],
)
def test_columns_that_float64_holds_have_no_origin(values, scale):
    assert Origin.fit(values, scale) is None


@pytest.mark.parametrize(
    "state", [(2, 1, 0), (1.0, 2, 0), ("1", 2, 0), (1, 2, -1), (1, 2, MAX_SCALE + 1), (True, 2, 0)]
)
def test_impossible_origins_raise(state):
    with pytest.raises(ValueError, match=r"must have ints low <= high and a scale .*; got \["):
        Origin(*state)


def test_frequent_numbers_are_kept(monkeypatch):
    ids = [2**60 + 5 * i for i in range(7)]
    counts = Counter({-1: 40, **dict(zip(ids, [9, 2, 3, 4, 5, 6, 1], strict=True))})
    monkeypatch.setattr(origins, "MAX_KEPT", 3)
    origin = Origin.fit(counts)
    assert origin.kept == [-1, ids[0]]  # ids[5] has the distance of ids[0]
    assert origin.changed([-1, *ids]) == ids[1:]
    assert Origin(**origin.state()).kept == origin.kept
    assert Origin.fit(Counter(ids)).state() == {"low": ids[0], "high": ids[-1], "scale": 0}


def test_floats_are_the_decimals_that_they_are_written_as():
    values = [Decimal("0.1"), Decimal("12345678901234567.1"), Decimal("5.3")]
    origin = Origin.fit(values, 1)
    floats = origin.relative(np.array([0.1, 5.3]))
    assert floats.tolist() == origin.relative(objects(values[0], values[2])).tolist() == [0, 5.2]
    assert origin.absolute(floats).tolist() == [values[0], values[2]]


@pytest.mark.parametrize(
    "kept", [[1, 2.0], [True], [2, 1], [1, 1], [-1], [2**61], [2**60, 2**60 + 1]]
)
def test_impossible_kept_numbers_raise(kept):
    with pytest.raises(ValueError, match=rf"ke.*; got .{kept[0]}"):
        Origin(0, 2**60 + 1, 0, kept)


REPEATED = {
    "ids": ([2**60 + 7919 * i for i in range(1500)] + [-1], 1, True),
    "near ids": ([2**60 + 7919 * i for i in range(1500)], 1, False),
    "few ids": ([2**60 + 7919 * i for i in range(900)] + [-1], 1, False),
    "thirds": ([Decimal(i) / 3 for i in range(1500)], 1, False),
    "repeated thirds": ([Decimal(i) / 3 for i in range(1500)], 2, True),
    "near thirds": ([Decimal(i) / 3 + 10**9 for i in range(1500)] + [Decimal("1E-19")], 1, False),
    "equal": ([Decimal(i) / 10**19 + i % 2 * 10**9 for i in range(1500)], 1, True),
}


@pytest.mark.parametrize(("column", "n_times", "warns"), REPEATED.values(), ids=REPEATED)
def test_numbers_that_cannot_be_kept_are_named(column, n_times, warns):
    """1,000 numbers are kept. Of fractions, those that repeat or are equal as floats are named."""
    frame = read(pd.DataFrame({"k": pd.Series(column * n_times, dtype=object)}))
    message = r"'k' has \d+ distinct numbers, so far apart that double precision cannot hold \d+ of"
    with pytest.warns(UserWarning, match=message) if warns else nullcontext():
        find_origins(frame, ["gaussian"], None)
