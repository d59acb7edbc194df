"""One thread for other libraries than PyTorch, and warnings at the user's line of code."""

import sys
import warnings
from contextlib import AbstractContextManager
from functools import cache
from importlib import import_module
from importlib.util import find_spec

from threadpoolctl import ThreadpoolController


def warn(message: str | Warning, category: type[Warning] = UserWarning) -> None:
    """Warn at the innermost line outside of this package and those that call it.

    No ``stacklevel`` is right: scikit-learn's decorators and pipelines add frames of their own.
    """
    frame, level = sys._getframe(1), 2
    internal = "sklearn_vae", "sklearn", "skorch", "torch", "joblib", "contextlib"
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in internal:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


@cache
def has_torch() -> bool:
    """Whether PyTorch is installed: fitted models compute without."""
    return find_spec("torch") is not None


def one_thread(user_api: str) -> AbstractContextManager[None]:
    """Compute on one thread of the loaded libraries of ``"blas"`` or ``"openmp"``.

    Threads wait for each other after each of many small operations: on a busy machine, these take
    up to two hundred times as long. OpenMP's limit is that of the calling Python thread.
    """
    return _libraries(user_api).limit(limits=1)


@cache
def _libraries(user_api: str) -> ThreadpoolController:
    import_module("scipy.linalg")  # loads scipy's BLAS, which is another one than numpy's
    return ThreadpoolController().select(user_api=user_api)
