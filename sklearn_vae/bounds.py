"""What the fields of a value may be, such as those of priors, networks and objectives."""

import math
from numbers import Integral, Real
from typing import Any


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
