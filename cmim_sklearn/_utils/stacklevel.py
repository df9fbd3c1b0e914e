"""Whose line a warning names."""

import sys

BETWEEN = {"cmim_sklearn", "joblib", "sklearn", "skorch"}


def users_level():
    """The stack level, of who asks, of the first frame outside this library and its engines."""
    frame, level = sys._getframe(1), 1
    while frame and frame.f_globals.get("__name__", "").split(".")[0] in BETWEEN:
        frame, level = frame.f_back, level + 1
    return level
