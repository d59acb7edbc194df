"""Names of columns and categories as JSON values, and back."""

from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import numpy as np

# Largest length of the text of a value.
LONGEST_TEXT = 200
# Types that JSON does not have, by name, with the function that writes one as JSON. pandas' may
# not be installed.
WRITERS: dict[str, Callable[[Any], Any]] = {
    "tuple": lambda value: list(map(to_json, value)),
    "date": lambda value: value.isoformat(),
    "datetime": lambda value: value.isoformat(),
    "Decimal": str,
    "Timestamp": lambda value: [value.isoformat(), value.unit],
    "Period": lambda value: [str(value), value.freqstr],
    "Interval": lambda value: [to_json(value.left), to_json(value.right), value.closed],
    "NaTType": str,
    "NAType": str,
}


class NotSerializableError(TypeError):
    """A value that cannot be serialized."""


def to_json(value: object) -> Any:
    """Convert a name or a category to types of JSON, tagged where they are ambiguous."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, str | bool | int | float):
        return value
    name = type(value).__name__
    if name not in WRITERS:
        raise NotSerializableError(
            f"{value!r:.100}, a name or category of type {name}, cannot be serialized"
        )
    return {name: WRITERS[name](value)}


def from_json(value: Any) -> Any:
    """Return the name or the category that ``to_json`` has converted."""
    if not isinstance(value, dict):
        return value
    [(name, content)] = value.items()
    if name == "tuple":
        return tuple(map(from_json, content))
    texts = [text for text in (content, *content) if isinstance(text, str)]
    if max(map(len, texts), default=0) > LONGEST_TEXT:
        raise ValueError(f"{content!r:.100} is too long for a {name}")
    if name in ("date", "datetime"):
        return {"date": date, "datetime": datetime}[name].fromisoformat(content)
    if name == "Decimal":
        return Decimal(content)
    if name not in WRITERS:
        raise ValueError(f"{name!r:.100} is no type of a name or a category")
    import pandas as pd

    if name in ("NaTType", "NAType"):
        return pd.NaT if name == "NaTType" else pd.NA
    if name == "Timestamp":
        return pd.Timestamp(content[0]).as_unit(content[1])
    if name == "Period":
        return pd.Period(content[0], content[1])
    left, right, closed = content
    return pd.Interval(from_json(left), from_json(right), closed)
