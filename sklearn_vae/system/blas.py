"""One thread for numpy's and scipy's matrix operations. PyTorch is not imported."""

from contextlib import AbstractContextManager
from functools import cache
from importlib import import_module

from threadpoolctl import ThreadpoolController


def one_blas_thread() -> AbstractContextManager[None]:
    """Compute numpy's and scipy's matrix operations on one thread.

    Their threads wait for each other after each of the many small operations of a fit, or of the
    scores of a few rows: on a busy machine these take up to two hundred times as long.
    """
    return libraries_with_threads("blas").limit(limits=1)


@cache
def libraries_with_threads(user_api: str) -> ThreadpoolController:
    """Find the loaded libraries of ``"blas"`` or ``"openmp"``."""
    import_module("scipy.linalg")  # loads scipy's BLAS, which is another one than numpy's
    return ThreadpoolController().select(user_api=user_api)
