"""Stack level at which a warning points to the user's code."""

import sys

SKIPPED_PACKAGES = {"cmim_sklearn", "joblib", "sklearn", "skorch"}


def user_stacklevel():
    """Stack level, from the caller, of the first frame outside `SKIPPED_PACKAGES`."""
    frame, level = sys._getframe(1), 1
    while frame and frame.f_globals.get("__name__", "").split(".")[0] in SKIPPED_PACKAGES:
        frame, level = frame.f_back, level + 1
    return level
