"""Failed fits leave the estimator as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

from sklearn.base import BaseEstimator

from sklearn_vae.system.device import is_out_of_memory


@contextmanager
def restore_on_error(estimator: BaseEstimator, *, keep: bool = False) -> Iterator[None]:
    """Delete the fitted attributes, and restore them if an error is raised.

    With ``keep`` they are not deleted, for a fit that continues the last one.
    """
    before = {name: value for name, value in vars(estimator).items() if name.endswith("_")}
    for name in () if keep else before:
        delattr(estimator, name)
    try:
        yield
    except BaseException as error:
        for name in [name for name in vars(estimator) if name.endswith("_")]:
            delattr(estimator, name)
        vars(estimator).update(before)
        if is_out_of_memory(error) and not isinstance(error, MemoryError):
            raise MemoryError(str(error)) from error
        raise
