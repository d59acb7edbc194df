"""Registry of the classes that files may contain."""

from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

T = TypeVar("T", bound=type)

_REGISTRY: dict[str, type] = {}


def serializable(target: T) -> T:
    """Register a dataclass or an estimator under its name, for files.

    It is the outermost decorator, above ``@dataclass``. Names are unique. Pickles and copies of a
    dataclass hold its fields alone, without cached properties.
    """
    registered = _REGISTRY.setdefault(target.__name__, target)
    names = [(t.__module__, t.__qualname__) for t in (registered, target)]
    if names[0] != names[1]:
        raise ValueError(f"{target.__name__!r} is already the name of {registered!r}")
    _REGISTRY[target.__name__] = target  # a module that is reloaded replaces its classes
    if is_dataclass(target):
        cls: Any = target
        cls.__getstate__ = _fields_of
    return target


def _fields_of(value: Any) -> dict[str, object]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


def is_serializable(target: type) -> bool:
    """Return True if the class is registered itself; a base class does not count."""
    return _REGISTRY.get(target.__name__) is target


def find(name: object) -> Any:
    """Return the class that is registered under a name; nothing is imported."""
    if not isinstance(name, str) or name not in _REGISTRY:
        raise ValueError(f"{name!r:.100} is not registered in this version of sklearn_vae")
    return _REGISTRY[name]
