"""Column summaries: independent of how the rows are split into parts."""

from decimal import Decimal

import numpy as np
import pytest

from cmim_sklearn._likelihoods.summary import ColumnSummary, summarise
from tests.helpers import objects

RNG = np.random.RandomState(0)
WITH_NAN = np.where(RNG.rand(300) < 0.1, np.nan, RNG.randn(300))
COLUMNS = {
    "numbers": WITH_NAN,
    "whole": RNG.poisson(3, 300).astype(float),
    "negative": np.append(np.ones(290), -2.0),
    "two": np.append(np.full(200, 7.0), 9.0),
    "prices": np.append(np.arange(99.0), [0.25, np.nan]),
    "hundreds": 100 * RNG.randint(-20, 20, 300) + 7.0,
    "halves later": np.append(30 * np.arange(99.0), [4.5, 7.5]),
    "none": np.full(5, np.nan),
    "empty": np.array([]),
}
ATTRIBUTES = ("n_seen", "low", "high", "decimals", "multiple", "not_a_count")


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("size", [1, 7, 100])
def test_summaries_do_not_depend_on_the_parts(name, size):
    values = COLUMNS[name]
    (whole,), parts = summarise([values]), ColumnSummary()
    for start in range(0, len(values), size):
        parts.add(values[start : start + size], start)
    for attribute in ATTRIBUTES:
        np.testing.assert_equal(getattr(parts, attribute), getattr(whole, attribute))
    assert parts.mean == pytest.approx(whole.mean, rel=1e-12, nan_ok=True)
    found = set(np.unique(values[~np.isnan(values)]))
    for summary in (whole, parts):
        assert summary.distinct <= found
        assert len(summary.distinct) == min(3, len(found))


@pytest.mark.parametrize(
    ("parts", "decimals"),
    [
        ([[1.0, 2, 30], [-4e15]], 0),
        ([[1.5, 2], [30.25], [7.0]], 2),
        ([[30.25], [1.5]], 2),
        ([np.float32([0.1, 0.7, 12.3]).astype(float)], 1),
        ([[0.1], [0.7, 12.3]], 1),
        ([[4000000.25] * 3, [0.1] * 3], 2),
        ([[0.1] * 3, [4000000.25] * 3], 2),
        ([[1e-6], [0.5]], 6),
        ([[1.0], [1 / 3], [2.0]], None),
        ([[1e-7]], None),
        ([[np.nan], []], None),
    ],
)
def test_decimals_write_all_numbers_exactly(parts, decimals):
    summary = ColumnSummary()
    for part in parts:
        summary.add(np.array(part, float))
    assert summary.decimals == decimals


def test_summaries_equal_those_of_numpy():
    (summary,) = summarise([WITH_NAN])
    assert summary.n_seen == np.sum(~np.isnan(WITH_NAN))
    assert (summary.low, summary.high) == (np.nanmin(WITH_NAN), np.nanmax(WITH_NAN))
    assert summary.mean == np.mean(WITH_NAN[~np.isnan(WITH_NAN)])
    row, value = summary.not_a_count
    assert value == WITH_NAN[row] == WITH_NAN[~np.isnan(WITH_NAN)][0]
    assert summarise([COLUMNS["negative"]])[0].not_a_count == (290, -2.0)
    assert summarise([COLUMNS["whole"]])[0].not_a_count is None


@pytest.mark.parametrize(
    "values", [np.array(["a", "b", None, "a", 3.5, True], object), np.array([1, 2, np.nan, 1, 3])]
)
def test_levels_are_counted(values):
    summary = ColumnSummary(has_levels=True)
    for part in (values[:2], values[2:3], values[3:]):
        summary.add(part)
    present = [v for v in values.tolist() if v is not None and v == v]
    assert summary.counts == {v: present.count(v) for v in present}
    assert summary.n_seen == len(present)
    assert summary.decimals is None
    assert np.isnan(summary.mean)


def test_sums_that_overflow_emit_no_warning():
    columns = [np.repeat([-1e305, 1e305], 5000), np.repeat([1e305, -1e305], 5000)]
    for summary in summarise(columns):  # a warning is an error here
        assert (summary.low, summary.high) == (-1e305, 1e305)


def test_large_integers_and_decimals_are_summarised_exactly():
    summary = ColumnSummary()
    for part in (np.array([7.0, np.nan]), objects(2**60 + 1, None), objects(2**60, Decimal(2**61))):
        summary.add(part)
    assert (summary.low, summary.high) == (7, 2**61)
    assert summary.n_seen == 4
    assert summary.distinct == {7, 2**60 + 1, 2**60}
    moved = summary.moved(5.0, {0.0}, 2)
    assert (moved.low, moved.high, moved.decimals, moved.n_seen) == (0, 5, 2, 4)
