"""Levels of columns as JSON values, for the state of an encoder."""

from decimal import Decimal

from cmim_sklearn._utils.messages import shown

MAX_EXPONENT = 10_000
"""Largest exponent of a Decimal that is a level; integers of other sizes would fill the memory."""


def plain_level(level):
    """Convert a level to a JSON value: a Decimal to ``["decimal", "1.50"]``."""
    return ["decimal", str(level)] if isinstance(level, Decimal) else level


def level_of(plain):
    """Invert `plain_level`; levels that it would not change stay."""
    if not isinstance(plain, list):
        return plain
    tag, text = plain
    level = Decimal(text)
    if tag != "decimal" or not level.is_finite() or abs(level.adjusted()) > MAX_EXPONENT:
        raise ValueError(f"{shown(plain)} is not a level.")
    return level


def twin_of(level):
    """Decimal that a float writes as text, or the float that writes a Decimal; else the level."""
    if isinstance(level, float):
        return Decimal(repr(level))
    if isinstance(level, Decimal) and Decimal(repr(float(level))) == level:
        return float(level)
    return level
