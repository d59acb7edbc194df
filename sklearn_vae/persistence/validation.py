"""Classes that files may hold, and validation of parameters and of fields from files."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache, partial
from importlib import import_module
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, ClassVar, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

# Maximum of counts, so that sizes of arrays are integers of 64 bits.
MAX_COUNT = 2**31 - 1
# Largest length of the text of a dtype, or of a date or a number that is a name or a category.
LONGEST_TEXT = 200
# What kinds of arrays tell of their numbers.
KINDS = {"+": " above 0", "<": " that ascend"}

T = TypeVar("T", bound=type)

_REGISTRY: dict[str, type] = {}
# Modules that register classes when they are imported, by names of these: they need PyTorch.
_MODULES: dict[object, str] = {}


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


def register_later(modules: Mapping[str, str]) -> None:
    """Register classes by their modules, which are imported when a file has them."""
    _MODULES.update(modules)


def find(name: object) -> Any:
    """Return the class that is registered under a name; no name of a file is imported."""
    if name in _MODULES:
        import_module(_MODULES[name])
    if not isinstance(name, str) or name not in _REGISTRY:
        raise ValueError(f"{name!r:.100} is not registered in this version of sklearn_vae")
    return _REGISTRY[name]


def check_integer(
    owner: object, name: str, value: object, minimum: int = 1, maximum: int = MAX_COUNT
) -> None:
    """Make a field of ``owner`` an int, not numpy's; refuse anything but an integer in a range."""
    parameter = f"The '{name}' parameter of {type(owner).__name__}"
    object.__setattr__(owner, name, check_count(parameter, value, minimum, maximum))


def check_count(name: str, value: object, minimum: int = 1, maximum: int = MAX_COUNT) -> int:
    """Return a function's argument as an int; refuse anything but an integer in a range."""
    is_bool = isinstance(value, bool)
    if not is_bool and isinstance(value, Integral) and minimum <= int(value) <= maximum:
        return int(value)
    raise ValueError(
        f"{name} must be an integer between {minimum} and {maximum}. Got {value!r} instead."
    )


def check_positive_ints(owner: object, name: str, values: Any) -> tuple[int, ...]:
    """Return a parameter of ``owner`` as a tuple; refuse anything but integers >= 1."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise invalid_parameter(owner, name, "be a tuple of integers", values)
    what = f"Each number of the '{name}' parameter of {_name_of(owner)}"
    return tuple(check_count(what, value) for value in values)


def invalid_parameter(owner: object, name: str, expected: str, value: object) -> ValueError:
    """Return the error of a parameter of an object, or of a function by its name."""
    what = f"The '{name}' parameter of {_name_of(owner)}"
    return ValueError(f"{what} must {expected}. Got {value!r} instead.")


def _name_of(owner: object) -> str:
    return owner if isinstance(owner, str) else type(owner).__name__


def check_number(owner: object, name: str, value: object, *, positive: bool = False) -> None:
    """Refuse a field of ``owner`` that is not a finite number >= 0, or > 0 if ``positive``."""
    is_long = isinstance(value, Integral) and abs(int(value)) >= 1 << 63  # for torch
    is_number = not isinstance(value, bool) and not is_long
    number = float(value) if is_number and isinstance(value, Real) else math.nan
    if not (0 < number < math.inf or (number == 0 and not positive)):
        limit = "> 0" if positive else ">= 0"
        raise invalid_parameter(owner, name, f"be a finite number {limit}", value)


class Requirement(NamedTuple):
    """A condition that a part (prior, posterior, objective ...) puts on another parameter."""

    parameter: str  # name of the other parameter
    is_met: Callable[[Any], bool]  # takes its value, an object where it may be a name
    allowed: str  # description of the values that are allowed
    reason: str  # relative clause about the part, which ends the message's sentence


# Requirements of several parts, made by their reason: no free bits, an ELBO without a penalty, a
# standard normal prior, a diagonal Gaussian q(z|x).
no_free_bits = partial(
    Requirement, "objective", lambda objective: not objective.free_bits, "one whose free_bits are 0"
)
needs_elbo = partial(Requirement, "objective", lambda objective: objective.is_elbo, "'elbo'")
needs_normal_prior = partial(Requirement, "prior", lambda p: p.has_closed_form_kl, "'normal'")
needs_diagonal_gaussian = partial(
    Requirement, "posterior", lambda q: q.is_diagonal_gaussian, "'gaussian'"
)


# -- annotations -------------------------------------------------------------------------


def matches(value: Any, hint: Any) -> bool:
    """True if a value has the type of an annotation and its numbers are finite."""
    if hint is Any or isinstance(hint, str):
        return True
    origin: Any = get_origin(hint)
    parts = get_args(hint)
    if origin in (Union, UnionType):
        return any(matches(value, part) for part in parts)
    if origin is Callable:
        return callable(value)
    if origin is not None:
        if not isinstance(value, origin):
            return False
        if issubclass(origin, Mapping):
            keys, values = parts
            return all(matches(key, keys) and matches(value[key], values) for key in value)
        if origin is tuple and parts[-1] is not Ellipsis:
            pairs = zip(value, parts, strict=False)
            return len(value) == len(parts) and all(matches(*pair) for pair in pairs)
        return not issubclass(origin, Sequence) or all(matches(item, parts[0]) for item in value)
    if hint in (int, float) and isinstance(value, bool | np.bool_):
        return False
    if hint is int:
        return isinstance(value, Integral) and abs(int(value)) < 1 << 64
    if hint is float:
        return isinstance(value, Real) and math.isfinite(value)
    return isinstance(value, NoneType if hint is None else hint)


@lru_cache
def annotations_of(owner: type) -> dict[str, Any]:
    """Annotations of a class and its bases, without class variables."""
    hints = get_type_hints(owner, include_extras=True)
    return {name: hint for name, hint in hints.items() if get_origin(hint) is not ClassVar}


def check_annotations(owner: object, names: Iterable[str]) -> None:
    """Refuse attributes whose types are not those of the annotations of the class.

    That of an array has its kind and shape, as ``Annotated[np.ndarray, "f", "n", 2]``: see
    ``check_array``. A letter is one length in all arrays of an object.
    """
    cls: Any = type(owner)
    hints = annotations_of(cls)
    lengths: dict[int | str, int] = {}
    for name in names:
        if not hasattr(owner, name):
            raise ValueError(f"{type(owner).__name__} has no {name!r}")
        value, hint = getattr(owner, name), hints[name]
        if hasattr(hint, "__metadata__"):
            kind, *shape = hint.__metadata__
            check_array(name, value, kind, tuple(lengths.get(n, n) for n in shape))
            lengths.update(zip(shape, value.shape, strict=True))
        elif not matches(value, hint):
            expected = "a finite number" if hint is float else hint
            raise ValueError(
                f"{name!r} of {type(owner).__name__} must be {expected}. "
                f"Got {value!r:.100} instead."
            )


def check_hashes(values: Iterable[object]) -> None:
    """Refuse values of which many have the same hash: a dict would take quadratic time."""
    n_equal = max(Counter(map(hash, values)).values(), default=0)
    if n_equal > 100:
        raise ValueError(f"{n_equal} names or classes have the same hash")


def check_array(name: str, value: Any, kind: str, shape: tuple[int | str | None, ...]) -> None:
    """Refuse anything but an array of numbers of this kind and this shape.

    Kinds are "f" for finite numbers in single and double precision, "n" for these and NaN, "i" for
    integers, "b" for bool; "f+" and "i+" are above 0, "f<" in ascending order. None, or a letter,
    in the shape is any length, a capital one at least 1.
    """
    is_number = isinstance(value, np.ndarray) and value.dtype.kind == kind[0].replace("n", "f")
    if not is_number or (value.dtype.kind == "f" and value.dtype.itemsize not in (4, 8)):
        raise ValueError(f"{name!r} must be an array of numbers. Got {value!r:.100} instead.")
    expected = tuple(n if isinstance(n, int) else "any" for n in shape)
    pairs = zip(expected, value.shape, strict=False)
    is_empty = not value.size and any(str(n).isupper() for n in shape)
    if len(shape) != value.ndim or any(n not in ("any", m) for n, m in pairs) or is_empty:
        raise ValueError(f"{name!r} must have the shape {expected}. Got {value.shape} instead.")
    bad = np.isinf(value) if kind == "n" else ~np.isfinite(value)
    if "+" in kind or "<" in kind:
        bad |= value <= 0 if "+" in kind else np.diff(value, prepend=-math.inf) < 0
    if bad.any():
        raise ValueError(f"{name!r} must hold finite numbers{KINDS.get(kind[1:], '')}")
