"""Registry of the classes and functions that files may contain."""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import FunctionType
from typing import Any, TypeVar

T = TypeVar("T", bound=Callable[..., Any])

_REGISTRY: dict[str, Any] = {}
# Classes that replace registered ones of the same name while a file is read, as numpy's do torch's.
SUBSTITUTES: ContextVar[Mapping[str, Any]] = ContextVar("substitutes", default={})  # noqa: B039


def serializable(target: T) -> T:
    """Register a dataclass, a function or an estimator under its name, for files.

    It is the outermost decorator, above ``@dataclass``. Names are unique.

    Examples
    --------
    >>> from sklearn_vae.persistence.registry import find, serializable
    >>> @serializable
    ... def twice(x):
    ...     return 2 * x
    >>> find("twice") is twice
    True
    """
    registered = _REGISTRY.setdefault(target.__name__, target)
    names = [(t.__module__, t.__qualname__) for t in (registered, target)]
    if names[0] != names[1]:
        raise ValueError(f"{target.__name__!r} is already the name of {registered!r}")
    _REGISTRY[target.__name__] = target  # a module that is reloaded replaces its classes
    return target


def is_serializable(target: type | FunctionType) -> bool:
    """Return True if the class or function is registered itself; a base class does not count."""
    return _REGISTRY.get(target.__name__) is target


def find(name: object) -> Any:
    """Return the class or function that is registered under a name; nothing is imported."""
    substitutes = SUBSTITUTES.get()
    if not isinstance(name, str) or not (name in substitutes or name in _REGISTRY):
        raise ValueError(f"{name!r} is not registered in this version of sklearn_vae")
    return substitutes[name] if name in substitutes else _REGISTRY[name]
