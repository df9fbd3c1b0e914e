"""Bernoulli columns: their two values."""

from decimal import Decimal

import numpy as np
import pytest
import torch

from cmim_sklearn._likelihoods.bernoulli import Bernoulli
from cmim_sklearn._likelihoods.summary import summarise
from tests.helpers import measured, objects


def test_a_column_of_fewer_than_two_values_is_taken_as_0_and_1():
    columns = [np.array([1.0, np.nan, 1.0]), np.array([7.0, 3.0, 7.0]), np.full(3, np.nan)]
    likelihood = Bernoulli.fit(columns, ["a", "b", "c"])
    assert likelihood.values == [(0.0, 1.0), (3.0, 7.0), (0.0, 1.0)]
    for values, back in zip(columns, likelihood.decode(likelihood.encode(columns)), strict=True):
        np.testing.assert_array_equal(back, values)


@pytest.mark.parametrize(
    ("values", "found"),
    [([1.0, 2.0, 3.0], r"more, for example \[1.0, 2.0, 3.0\]"), ([5.0], "only 5")],
)
def test_fit_needs_two_distinct_values(values, found):
    with pytest.raises(ValueError, match=rf"two distinct values; column 'c' has {found}\."):
        Bernoulli.fit([np.array(values)], ["c"])


@pytest.mark.parametrize(
    ("pair", "other", "is_single"),
    [
        ((0.1, 0.7), 0.2, True),
        ((0.0, 1.0), 2.0, False),
        ((0.5, 1.0), 2.0, True),
        ((0.5, 2.0**24), 2.0**24 + 1, False),
        ((-1e300, 1e300), 1e299, False),
        ((0.0, 5e-324), 1e-50, False),
        ((1e-50, 1.0), 0.0, False),
        ((1.0, 1.0 + 2**-52), 1 - 2**-53, False),
        ((3e38, 3.1e38), 1e40, True),
    ],
)
def test_values_of_any_magnitude_are_two_levels(pair, other, is_single):
    likelihood = Bernoulli.fit([np.array(pair)], ["c"])
    encoded = likelihood.encode([np.array([*pair, other, np.nan])])[:, 0]
    np.testing.assert_array_equal(encoded, [0, 1, -1, np.nan])
    assert likelihood.decode(encoded[:2, None])[0].tolist() == list(pair)
    assert likelihood.in_single.tolist() == [is_single]
    if is_single:
        assert likelihood.encode([np.float64(np.float32(pair))])[:, 0].tolist() == [0, 1]


def test_unknown_values_have_a_small_probability():
    likelihood = Bernoulli.fit([np.array([3.0, 7.0, 3.0, np.nan])], ["c"])
    cells = measured(likelihood, [np.array([3.0, 7.0, 5.0, np.nan])])
    p = likelihood.log_density(torch.zeros(4, 1), cells)[:, 0].exp()
    np.testing.assert_allclose(p, [0.5, 0.5, 1 / 6, 1.0], rtol=1e-6)


def test_values_beyond_2_to_53_are_compared_and_decoded_exactly():
    column = objects(2**63 - 1, None, 1, 2**63 - 2)
    likelihood = Bernoulli.fit([column[:3]], ["c"])
    assert likelihood.values == [(1, 2**63 - 1)]
    encoded = likelihood.encode([column])
    np.testing.assert_array_equal(encoded[:, 0], [1, np.nan, 0, -1])
    assert likelihood.decode(encoded[:3])[0].tolist() == column[:3].tolist()
    assert likelihood.encode([np.array([1.0, np.nan, 2.0**63])])[:, 0].tolist()[::2] == [0, -1]
    decimals = objects(Decimal("0.12345678901234567"), Decimal("0.12345678901234568"))
    likelihood = Bernoulli(**Bernoulli.fit([decimals], ["c"]).state())
    assert likelihood.decode(likelihood.encode([decimals]))[0].tolist() == decimals.tolist()


def test_whole_values_are_not_rounded_to_single_precision():
    likelihood = Bernoulli([(3.0, 2.0**24), (0.1, 7.0)], [1, 1])
    rounded = np.array([0.1, 7.0], np.float32).astype(float)
    encoded = likelihood.encode([np.array([2.0**24, 2.0**24 + 1]), rounded])
    np.testing.assert_array_equal(encoded, [[1, 0], [-1, 1]])


def test_floats_and_the_decimals_that_they_are_written_as_are_one_value():
    column = objects(Decimal("0.1"), None, Decimal("12345678901234567.1"))
    likelihood = Bernoulli.fit([column], ["c"])
    encoded = likelihood.encode([np.array([0.1, np.nan, 0.10000000000000002])])[:, 0]
    np.testing.assert_array_equal(encoded, [0, np.nan, -1])
    assert likelihood.encode([objects(0.1, Decimal("0.10"))])[:, 0].tolist() == [0, 0]


def test_values_are_exact_in_columns_of_objects_only():
    summaries = summarise([objects(Decimal("0.1"), Decimal("0.3"))])
    likelihood = Bernoulli.fit([np.array([0.1, 0.3])], ["c"], summaries=summaries)
    assert repr(likelihood.values) == "[(0.1, 0.3)]"
    likelihood = Bernoulli.fit([objects(2.0**60, 5)], ["c"])
    assert repr(likelihood.values) == f"[(5, {2**60})]"
