"""Names in figures: literal texts of one line, short and all different.

Every name of a column, level or loss term goes through `labels` on its way to matplotlib, which
would otherwise read dollar signs as formulas and leave names with a leading underscore out of
legends. Characters that the font lacks are left to matplotlib and its warning, since users choose
the font.
"""

import re
from itertools import accumulate
from unicodedata import category, combining, east_asian_width

LENGTH = 20
"""Number of letters after which a name is cut by default."""

MAX_MARKS = 4
"""Mean number of characters per letter above which a name is cut: accents are characters, too."""

_LINE_BREAKS = re.compile("[\t-\r\x1c-\x1f\x85\u2028\u2029]+")


def labels(names, length=LENGTH):
    """Texts to draw for names that are seen together.

    A line break or tab becomes a space, a long name is cut with an ellipsis, and equal texts get
    numbers. A name that would be invisible, such as an empty one, is drawn as its ``repr``.

    Parameters
    ----------
    names : list of object
        Strings, or values that ``str`` converts.
    length : int, default=20
        Maximum number of letters; a wide character, such as a Chinese one, counts as two.
    """
    names = [_one_line(str(name)) for name in names]
    for tail in (0, length // 2):  # names with a common start differ at their ends
        texts = [_cut(name, length, tail) for name in names]
        if len(set(texts)) == len(texts):
            break
    return [_literal(text) for text in numbered(texts)]


def label(name, length=LENGTH):
    """Text to draw for one name; see `labels`."""
    return labels([name], length)[0]


def numbered(names):
    """Names with numbers added so that all are different: a, a (2), a (3)."""
    seen = {}
    for name in names:
        number, text = 1, name
        while text in seen:
            number += 1
            text = f"{name} ({number})"
        seen[text] = None
    return list(seen)


def n_letters(text):
    """Width of a text, in letters."""
    return sum(map(_width, text))


def _one_line(name):
    text = _LINE_BREAKS.sub(" ", name)
    is_visible = any(char.isprintable() and not char.isspace() for char in text)
    # Control characters, halves of a surrogate pair and unassigned ones cannot be drawn or saved.
    is_valid = not any(category(char) in ("Cc", "Cs", "Cn") for char in text)
    return text if is_visible and is_valid and text == text.strip() else repr(name)


def _cut(text, length, tail):
    if len(text) <= MAX_MARKS * length and n_letters(text) <= length:
        return text
    end = _start(text[::-1], tail)[::-1]
    return f"{_start(text, length - 1 - tail)}…{end}"


def _start(text, length):
    """Longest start of a text of at most a number of letters."""
    widths = accumulate(map(_width, text[: MAX_MARKS * length]))
    return text[: sum(width <= length for width in widths)]


def _width(char):
    return 0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1


def _literal(text):
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text
