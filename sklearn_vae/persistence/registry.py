"""Classes and functions that files may name; nothing else is ever made from a file."""

from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar

T = TypeVar("T", bound=Callable[..., Any])

_REGISTRY: dict[str, Any] = {}


def serializable(target: T) -> T:
    """Register a dataclass, a function or an estimator, so that files may hold it by its name.

    Stands outermost, above ``@dataclass``. A name is registered once.

    Examples
    --------
    >>> from sklearn_vae.persistence.registry import find, serializable
    >>> @serializable
    ... def twice(x):
    ...     return 2 * x
    >>> find("twice") is twice
    True
    """
    before = _REGISTRY.setdefault(target.__name__, target)
    if (before.__module__, before.__qualname__) != (target.__module__, target.__qualname__):
        raise ValueError(f"{target.__name__!r} is already the name of {before!r}")
    _REGISTRY[target.__name__] = target  # a module that is reloaded replaces its classes
    return target


def is_serializable(target: type | FunctionType) -> bool:
    """Whether this very class or function is registered; a subclass is not by its base."""
    return _REGISTRY.get(target.__name__) is target


def find(name: Any) -> Any:
    """Return the class or function of a registered name.

    Raises
    ------
    ValueError
        If nothing has that name. Nothing is imported to look for it.
    """
    if not isinstance(name, str) or name not in _REGISTRY:
        raise ValueError(f"{name!r} is nothing that this version of sklearn_vae can read")
    return _REGISTRY[name]
