"""Messages: short text for values of any size."""

from decimal import Decimal
from fractions import Fraction

import pytest

from cmim_sklearn._utils.messages import listed, number_text, shown


@pytest.mark.parametrize(
    "value",
    ["a", 3, 2.5, None, True, {"dtype": "<f8", "shape": [2, 3]}, "a" * 58, b"a" * 57],
    ids=repr,
)
def test_small_values_are_shown_as_their_repr(value):
    assert shown(value) == repr(value)


@pytest.mark.parametrize(
    "value",
    [
        "a" * 999,
        10**999,
        Fraction(10**200, 3),
        b"a" * 999,
        list(range(999)),
        dict.fromkeys(range(999), "a"),
        tuple(range(999)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_large_values_are_shortened(value):
    assert "..." in shown(value)
    assert len(shown(value)) <= 60


def test_nesting_is_shortened():
    value = "a" * 999
    for _ in range(9):
        value = [value] * 9
    assert len(shown(value)) < 1000


def test_lists_are_cut_after_20_values():
    assert listed([1, "a"]) == "1, 'a'"
    assert listed(range(20)).endswith("18, 19")
    assert listed(range(99)).endswith("18, 19, ...")
    assert listed([]) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5.0, "5"),
        (2**60 + 1, "1152921504606846977"),
        (0.5, "0.5"),
        (1e30, "1e+30"),
        (Decimal("1.50"), "1.50"),
    ],
)
def test_text_of_numbers(value, text):
    assert number_text(value) == text
