"""One thread for libraries that are not PyTorch, which is not imported."""

from contextlib import AbstractContextManager
from functools import cache
from importlib import import_module

from threadpoolctl import ThreadpoolController


def one_thread(user_api: str) -> AbstractContextManager[None]:
    """Compute on one thread of the loaded libraries of ``"blas"`` or ``"openmp"``.

    Numpy's and scipy's matrix operations use BLAS, scikit-learn's gradient boosting OpenMP. Their
    threads wait for each other after each of many small operations: on a busy machine, these take
    up to two hundred times as long. OpenMP's limit is that of the calling Python thread.
    """
    return _libraries(user_api).limit(limits=1)


@cache
def _libraries(user_api: str) -> ThreadpoolController:
    import_module("scipy.linalg")  # loads scipy's BLAS, which is another one than numpy's
    return ThreadpoolController().select(user_api=user_api)
