"""What the fields of a value may be, such as those of priors, networks and objectives.

What a file says is made of it is checked here, too: a field holds what its annotation says.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

# Integers of files are smaller, and so are texts that are no names of columns or classes.
LARGEST_INTEGER = 1 << 64
# Values of one hash at the most: of more, a dict would take quadratic time.
MOST_OF_ONE_HASH = 100


def check_integer(
    owner: Any, name: str, value: Any, least: int = 1, most: int | None = None
) -> int:
    """Refuse what is no integer in a range as a field of a value; give it as an int."""
    is_number = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_number or value < least or (most is not None and value > most):
        allowed = f">= {least}" if most is None else f"between {least} and {most}"
        raise ValueError(
            f"The '{name}' parameter of {type(owner).__name__} must be an integer {allowed}. "
            f"Got {value!r} instead."
        )
    return int(value)


def check_number(owner: Any, name: str, value: Any, *, positive: bool = False) -> None:
    """Refuse what is no finite number of at least 0, or above it, as a field of a value."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    number = float(value) if is_number else math.nan
    if not (0 < number < math.inf or (number == 0 and not positive)):
        raise ValueError(
            f"The '{name}' parameter of {type(owner).__name__} must be a finite number "
            f"{'> 0' if positive else '>= 0'}. Got {value!r} instead."
        )


# -- what annotations say ----------------------------------------------------------------


def agrees(value: Any, hint: Any) -> bool:
    """Whether a value is what an annotation says; numbers are finite."""
    if hint is Any or isinstance(hint, str):
        return True
    origin = get_origin(hint)
    if origin is not None:
        return _agrees_in_parts(value, origin, get_args(hint))
    if hint is int:
        is_number = isinstance(value, Integral) and not isinstance(value, bool | np.bool_)
        return is_number and -LARGEST_INTEGER < value < LARGEST_INTEGER
    if hint is float:
        is_number = isinstance(value, Real) and not isinstance(value, bool | np.bool_)
        return is_number and math.isfinite(value)
    return isinstance(value, NoneType if hint is None else hint)


def _agrees_in_parts(value: Any, origin: Any, parts: tuple[Any, ...]) -> bool:
    if origin in (Union, UnionType):
        return any(agrees(value, part) for part in parts)
    if origin is Literal:
        return any(value is part or value == part for part in parts)
    if origin is Callable:
        return callable(value)
    if not isinstance(value, origin):
        return False
    if issubclass(origin, Mapping):
        keys, values = parts
        return all(agrees(own, keys) and agrees(value[own], values) for own in value)
    if origin is tuple and parts[-1] is not Ellipsis:
        pairs = zip(value, parts, strict=False)
        return len(value) == len(parts) and all(agrees(*pair) for pair in pairs)
    return not issubclass(origin, Sequence) or all(agrees(own, parts[0]) for own in value)


@lru_cache
def annotations_of(owner: Any) -> dict[str, Any]:
    """Give the annotations of a class and its bases, but for those of the class itself."""
    hints = get_type_hints(owner)
    return {name: hint for name, hint in hints.items() if get_origin(hint) is not ClassVar}


def check_annotated(owner: Any, names: Iterable[str]) -> None:
    """Refuse attributes that are not what the class's annotations say.

    Raises
    ------
    ValueError
        If one is not there, or of another type.
    """
    kind: Any = type(owner)
    hints = annotations_of(kind)
    for name in names:
        if not hasattr(owner, name):
            raise ValueError(f"{type(owner).__name__} has no {name!r}")
        value = getattr(owner, name)
        if not agrees(value, hints[name]):
            raise ValueError(
                f"{name!r} of {type(owner).__name__} must be {hints[name]}. "
                f"Got {value!r:.100} instead."
            )


def check_hashes(values: Iterable[Any]) -> None:
    """Refuse values of which so many have one hash that no dict could tell them apart quickly."""
    most = Counter(map(hash, values)).most_common(1)
    if most and most[0][1] > MOST_OF_ONE_HASH:
        raise ValueError(f"{most[0][1]} names or classes have the same hash")


def check_array(
    name: str, value: Any, kinds: str, shape: tuple[int | None, ...], *, allows_nan: bool = False
) -> None:
    """Refuse what is no array of finite numbers of these kinds and of this shape.

    Parameters
    ----------
    name : str
        What it is called.
    value : object
        What it is.
    kinds : str
        Kinds of its dtype: "f" for single and double precision, "i" for integers, "b" for truth.
    shape : tuple of int or None
        Its shape; a None may be any number.
    allows_nan : bool, default=False
        Whether it may hold NaN.
    """
    is_number = isinstance(value, np.ndarray) and value.dtype.kind in kinds
    if not is_number or (value.dtype.kind == "f" and value.dtype.itemsize not in (4, 8)):
        raise ValueError(f"{name!r} must be an array of numbers. Got {value!r:.100} instead.")
    same_length = len(shape) == value.ndim
    if not same_length or any(n not in (None, m) for n, m in zip(shape, value.shape, strict=True)):
        wanted = tuple("any" if n is None else n for n in shape)
        raise ValueError(f"{name!r} must have the shape {wanted}. Got {value.shape} instead.")
    bad = np.isinf(value) if allows_nan else ~np.isfinite(value)
    if bad.any():
        raise ValueError(f"{name!r} must hold finite numbers")
