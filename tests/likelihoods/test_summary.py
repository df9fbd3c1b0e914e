"""Facts of a column are those of all its values, in whatever parts they come."""

import numpy as np
import pytest

from cmim_sklearn._likelihoods.summary import ColumnSummary, summarise

RNG = np.random.RandomState(0)
HOLED = np.where(RNG.rand(300) < 0.1, np.nan, RNG.randn(300))
COLUMNS = {
    "numbers": HOLED,
    "whole": RNG.poisson(3, 300).astype(float),
    "negative": np.append(np.ones(290), -2.0),
    "two": np.append(np.full(200, 7.0), 9.0),
    "prices": np.append(np.arange(99.0), [0.25, np.nan]),
    "none": np.full(5, np.nan),
    "empty": np.array([]),
}
FACTS = ("n_seen", "low", "high", "decimals", "not_a_count")


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("size", [1, 7, 100])
def test_numbers_in_parts_come_to_the_same(name, size):
    values = COLUMNS[name]
    (whole,), parts = summarise([values]), ColumnSummary()
    for start in range(0, len(values), size):
        parts.add(values[start : start + size], start)
    for fact in FACTS:
        np.testing.assert_equal(getattr(parts, fact), getattr(whole, fact))
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
def test_decimals_are_the_fewest_that_write_all(parts, decimals):
    summary = ColumnSummary()
    for part in parts:
        summary.add(np.array(part, float))
    assert summary.decimals == decimals


def test_numbers_are_those_of_numpy():
    (summary,) = summarise([HOLED])
    assert summary.n_seen == np.sum(~np.isnan(HOLED))
    assert (summary.low, summary.high) == (np.nanmin(HOLED), np.nanmax(HOLED))
    assert summary.mean == np.mean(HOLED[~np.isnan(HOLED)])
    row, value = summary.not_a_count
    assert value == HOLED[row] == HOLED[~np.isnan(HOLED)][0]
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


def test_sums_beyond_all_numbers_make_no_noise():
    columns = [np.repeat([-1e305, 1e305], 5000), np.repeat([1e305, -1e305], 5000)]
    for summary in summarise(columns):  # a warning is an error here
        assert (summary.low, summary.high) == (-1e305, 1e305)
