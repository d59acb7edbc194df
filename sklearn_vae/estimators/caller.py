"""The estimator that a user called: messages name it where another one does its work."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data

from sklearn_vae._typing import Rows

# The estimator that was called, which works by another one, ``estimator_``; None otherwise.
_CALLER: ContextVar[Any] = ContextVar("caller", default=None)


@contextmanager
def called(estimator: BaseEstimator) -> Iterator[None]:
    """Let messages of other estimators name this one, or its own caller, within a block."""
    token = _CALLER.set(_CALLER.get() or estimator)
    try:
        yield
    finally:
        _CALLER.reset(token)


def has_caller() -> bool:
    """Return True within a method of another estimator that was called."""
    return _CALLER.get() is not None


def caller_name(estimator: BaseEstimator) -> str:
    """Return the name of the class of the estimator that was called: this one or another."""
    return type(_CALLER.get() or estimator).__name__


def validate_columns(estimator: BaseEstimator, X: Rows, *, reset: bool, **checks: Any) -> Any:
    """Call scikit-learn's ``validate_data``, whose messages name the estimator that was called."""
    caller = _CALLER.get()
    named = caller if getattr(caller, "estimator_", None) is estimator else estimator
    X = validate_data(named, X, reset=reset, **checks)
    if reset:
        copy_columns(named, estimator)
    return X


def copy_columns(source: BaseEstimator, target: BaseEstimator) -> None:
    """Set the number of columns and their names, if any, to those of another estimator."""
    for name in ("n_features_in_", "feature_names_in_"):
        if hasattr(source, name):
            setattr(target, name, getattr(source, name))
