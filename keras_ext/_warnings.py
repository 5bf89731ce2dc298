"""Warnings that show the user's own line, not one inside of a library."""

import sys
import warnings

# What stands between a user's line and the code that warns.
_LIBRARIES = ("keras_ext", "keras", "keras_tuner", "tensorflow", "jax", "torch", "optree", "contextlib", "threading")


def warn(text: str) -> None:
    """Warn at the innermost line that is the user's; Python shows the same text at the same line once."""
    frame, level, deepest = sys._getframe(1), 1, 1
    while frame is not None:
        if not _is_of_a_library(frame.f_globals.get("__name__", "")):
            warnings.warn(text, UserWarning, stacklevel=level + 1)
            return
        frame, level, deepest = frame.f_back, level + 1, level
    warnings.warn(text, UserWarning, stacklevel=deepest + 1)


def _is_of_a_library(module: str) -> bool:
    return module.partition(".")[0] in _LIBRARIES
