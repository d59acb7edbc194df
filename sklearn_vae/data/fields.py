"""One column from outside: what it is, and its cells as numbers and as values."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np

from sklearn_vae.persistence.validation import check_hashes

# Categories and unknown values that are written out; of more the number is given.
MOST_SHOWN = 5
NUMBERS = ("number", "integer")
# The number of a category that the schema does not have.
UNKNOWN = -1.0
KINDS = (*NUMBERS, "boolean", "category", "ordered")
# Bits of integers, and the length of the name of a type at the most.
BITS, LONGEST_TYPE = (8, 16, 32, 64, 128), 200

# Units of time. A finer one than the microsecond is more than a float has digits for.
MICROSECONDS = {"ns": 1.0, "us": 1.0, "ms": 1e3, "s": 1e6, "D": 86400e6}
TIME_UNIT = re.compile(r"\b(ns|us|ms|s)\b")
# Python's dates end here, and what 64 bits hold of a duration and of nanoseconds.
YEARS_1_TO_9999 = (-62135596800e6, 253402214400e6)
LONGEST = 9.2e18
NANOSECONDS = 9.2e15


@dataclass(frozen=True)
class Field:
    """One column of a table, seen from outside.

    Attributes
    ----------
    name : str or int
        The column's name, or its number where it has none.
    kind : {"number", "integer", "boolean", "category", "ordered"}
        An integer is told from a number only in a data frame: an array says nothing of
        its columns. Dates, durations and decimals are numbers.
    categories : tuple or None
        Values of a boolean, a category or an ordered category, in order; a cell's number
        is its place here. Those that the table declares, also where no row has them;
        otherwise those that occur, sorted.
    dtype : str
        Type by which the column's values are given back.
    """

    name: Any
    kind: str
    categories: tuple | None
    dtype: str

    def check(self) -> None:
        """Check that all this can be, as when it comes from a file.

        Raises
        ------
        ValueError
            If the type is none that a table has, or the categories are none that it may have.
        """
        if (self.categories is None) != (self.kind in NUMBERS) or self.kind not in KINDS:
            raise ValueError(f"a column cannot be of the kind {self.kind!r:.100}")
        bits = "".join(filter(str.isdigit, self.dtype))
        has_bits = self.kind != "integer" or (len(bits) < 4 and bits and int(bits) in BITS)
        # a zone of dateutil's is the name of any file
        if len(self.dtype) > LONGEST_TYPE or "dateutil" in self.dtype or not has_bits:
            raise ValueError(f"a column cannot be of the type {self.dtype!r:.100}")
        check_hashes(self.categories or ())

    @property
    def has_numbers(self) -> bool:
        """Whether a column of numbers may stand for this one."""
        return self.categories is None or any(isinstance(c, Real) for c in self.categories)

    @property
    def is_plain(self) -> bool:
        """Whether any number stands for itself."""
        return self.categories is None and time_of(self.dtype) is None

    def translated(self, places: np.ndarray, values: list, handle_unknown: str) -> np.ndarray:
        """Turn places in another list of values into those among the categories.

        Parameters
        ----------
        places : ndarray of shape (n,)
            Places in ``values``, -1 for missing cells.
        values : list
            Values, which need not all occur.
        handle_unknown : {"error", "infrequent", "missing"}
            What becomes of a value that is no category.

        Returns
        -------
        ndarray of shape (n,)
            Places among the categories, NaN for missing cells, and -1 for unknown values with
            ``handle_unknown="infrequent"``.
        """
        known = {category: place for place, category in enumerate(self.categories or ())}
        unknown_at = UNKNOWN if handle_unknown == "infrequent" else np.nan
        known_at = np.array([*(known.get(value, unknown_at) for value in values), np.nan])
        if handle_unknown == "error" and np.isnan(known_at[:-1]).any():
            occurs = np.bincount(places[places >= 0], minlength=len(values)) > 0
            unknown = np.flatnonzero(np.isnan(known_at[:-1]) & occurs)
            if len(unknown):
                raise ValueError(
                    f"Found unknown categories {cut([values[i] for i in unknown])} in column "
                    f"{self.name!r}; it had {cut(self.categories or ()) or 'none'} in fit. With "
                    f"handle_unknown='infrequent' they count as unlikely, with 'missing' as "
                    f"missing cells."
                )
        return known_at[places]  # -1, a missing cell, takes the last

    def places(self, values: np.ndarray) -> np.ndarray:
        """Nearest places among the categories, -1 for NaN: (n,) -> (n,)."""
        n_categories = len(self.categories or ())
        missing = np.isnan(values) | (n_categories == 0)
        places = np.clip(np.rint(values), 0, max(n_categories - 1, 0))
        return np.where(missing, -1, places).astype(np.intp)

    def objects(self, values: np.ndarray, missing: Any = None) -> np.ndarray:
        """Give back Python objects: (n,) -> (n,)."""
        if self.categories is None:
            objects = values.astype(object)
            objects[np.isnan(values)] = missing
            return objects
        choice = np.empty(len(self.categories) + 1, dtype=object)
        choice[:-1] = self.categories
        choice[-1] = missing
        return choice[self.places(values)]

    def rounded(self, values: np.ndarray) -> np.ndarray:
        """Round what the dtype holds no fractions of, and clip it to the dtype's range.

        Dates and durations become NumPy's, in microseconds: (n,) -> (n,).
        """
        if time_of(self.dtype) is not None:
            return _times(values, self.dtype)
        return _whole_numbers(values, self.dtype) if self.kind == "integer" else values

    def to_dict(self) -> dict[str, Any]:
        """Say it all in types that JSON has."""
        listed = None if self.categories is None else list(map(_to_plain, self.categories))
        name = _to_plain(self.name)
        return {"name": name, "kind": self.kind, "categories": listed, "dtype": self.dtype}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> "Field":
        """Undo ``to_dict``."""
        listed = state["categories"]
        categories = None if listed is None else tuple(map(_from_plain, listed))
        return cls(_from_plain(state["name"]), state["kind"], categories, state["dtype"])


def time_of(dtype: str) -> str | None:
    """Whether a type is one of dates or of durations."""
    if dtype.lower().startswith(("date", "timestamp")):
        return "date"
    return "duration" if dtype.lower().startswith(("timedelta", "duration")) else None


def _times(seconds: np.ndarray, dtype: str) -> np.ndarray:
    is_date = time_of(dtype) == "date"
    unit = found[0] if (found := TIME_UNIT.search(dtype)) else "D"
    low, high = YEARS_1_TO_9999 if is_date else (-LONGEST, LONGEST)
    if unit == "ns":
        low, high = max(low, -NANOSECONDS), min(high, NANOSECONDS)
    steps = np.rint(np.clip(seconds * 1e6, low, high) / MICROSECONDS[unit])
    times = np.nan_to_num(steps * MICROSECONDS[unit]).astype(np.int64)
    times = times.view("M8[us]" if is_date else "m8[us]")
    times[np.isnan(seconds)] = "NaT"
    return times


def _whole_numbers(values: np.ndarray, dtype: str) -> np.ndarray:
    bits = int("".join(filter(str.isdigit, dtype)))
    low, end = (0, 2**bits) if "u" in dtype.lower() else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    # the largest integer may be no floating-point number, and the next one would not fit
    return np.clip(np.rint(values), low, min(float(end - 1), np.nextafter(float(end), 0)))


def cut(values: Sequence) -> str:
    """Write out a few values, and say how many more there are."""
    shown = ", ".join(repr(v) if isinstance(v, str) else str(v) for v in values[:MOST_SHOWN])
    rest = len(values) - MOST_SHOWN
    return f"{shown} and {rest} more" if rest > 0 else shown


def _to_plain(value: Any) -> Any:
    """Write a name or a category in types that JSON has, where needed with a tag."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, tuple):
        return {"tuple": list(map(_to_plain, value))}
    kind = type(value).__name__
    if kind == "Interval":
        return {kind: [_to_plain(value.left), _to_plain(value.right), value.closed]}
    if kind == "Timestamp":
        return {kind: [value.isoformat(), value.unit]}
    if kind in ("date", "datetime"):
        return {kind: value.isoformat()}
    if kind == "Decimal":
        return {kind: str(value)}
    raise TypeError(f"{value!r}, a name or category of type {kind}, cannot be written as JSON.")


def _from_plain(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    [(kind, content)] = value.items()
    if kind == "tuple":
        return tuple(map(_from_plain, content))
    texts = [own for own in (content, *content) if isinstance(own, str)]
    if max(map(len, texts), default=0) > LONGEST_TYPE:
        raise ValueError(f"{content!r:.100} is too long for a {kind}")
    if kind in ("date", "datetime"):
        return {"date": date, "datetime": datetime}[kind].fromisoformat(content)
    if kind == "Decimal":
        return Decimal(content)
    if kind not in ("Timestamp", "Interval"):
        raise ValueError(f"{kind!r:.100} is no type of a name or a category")
    import pandas as pd

    if kind == "Timestamp":
        return pd.Timestamp(content[0]).as_unit(content[1])
    left, right, closed = content
    return pd.Interval(_from_plain(left), _from_plain(right), closed)
