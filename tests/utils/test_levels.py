"""Levels as JSON values."""

import json
from decimal import Decimal

import pytest

from cmim_sklearn._utils.levels import level_of, plain_level, twin_of


@pytest.mark.parametrize("level", [Decimal("1.50"), Decimal("-1E+300"), "decimal", 3, 2.5, None])
def test_levels_survive_json(level):
    again = level_of(json.loads(json.dumps(plain_level(level))))
    assert (type(again), str(again)) == (type(level), str(level))


@pytest.mark.parametrize("plain", [["decimal", "NaN"], ["float", "1"], ["decimal", "1E+999999999"]])
def test_other_lists_are_no_levels(plain):
    with pytest.raises(ValueError, match=r"\['\w+', '.*'\] is not a level"):
        level_of(plain)


def test_floats_and_decimals_that_are_written_alike_are_twins():
    assert twin_of(0.1) == Decimal("0.1")
    assert twin_of(Decimal("0.10")) == 0.1
    for level in (Decimal(2**60 + 1), "0.1", 3, True):
        assert twin_of(level) is level
