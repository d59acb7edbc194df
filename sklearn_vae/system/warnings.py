"""Warnings that point at the user's line of code."""

import sys
import warnings

# Packages whose frames stand between the user's line and the place that warns.
INTERNAL = ("sklearn_vae", "sklearn", "skorch", "torch", "joblib", "contextlib")


def warn(message: str | Warning, category: type[Warning] = UserWarning) -> None:
    """Warn at the innermost line outside of this package and those that call it.

    A fixed ``stacklevel`` cannot do this: scikit-learn's decorators, pipelines and searches
    add frames of their own.
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in INTERNAL:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
