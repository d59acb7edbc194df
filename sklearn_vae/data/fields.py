"""The schema of one column: its type, categories and dtype, and conversion of its values."""

import math
import re
from collections.abc import Hashable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np

from sklearn_vae.data.arrays import is_missing
from sklearn_vae.persistence.validation import LONGEST_TEXT, check_hashes, serializable

NUMBERS = ("number", "integer")
# Code of a category that the schema does not have.
UNKNOWN = -1.0
LOGICAL_TYPES = (*NUMBERS, "boolean", "category", "ordered")
# Name of a column: any value that can be one, as a date or NaN; an index if columns have no names.
Name = Hashable
# Names of columns; None for all, or for none.
Names = Iterable[Name] | None
# Decimals: numbers of digits and decimal places.
DECIMAL = re.compile(r"decimal\d*\((?:precision=)?(\d+), (?:scale=)?(-?\d+)\)", re.IGNORECASE)
# Deprecated codes of NumPy's dtypes of bytes.
BYTES = re.compile(r"\s*\|?a\d*\s*")
# Dtypes of single precision and less.
SINGLE = re.compile(r"(float(16|32)?|halffloat)(\[pyarrow\])?$", re.IGNORECASE)

# Units of time. A finer one than the microsecond is more than a float has digits for.
MICROSECONDS = {"ns": 1.0, "us": 1.0, "ms": 1e3, "s": 1e6, "D": 86400e6}
TIME_UNIT = re.compile(r"\b(ns|us|ms|s)\b")
# Time zones of pandas, pyarrow and polars.
TIME_ZONE = re.compile(r"(?:\[\w+, (?:tz=)?|time_zone=')([^\]']+)")
DAY = 86400.0
# Range of Python's dates, in seconds.
YEARS_1_TO_9999 = (-62135596800.0, 253402214400.0)


@serializable
@dataclass(frozen=True)
class Field:
    """Schema of one column."""

    name: Name  # or index if the column has no name; a tuple of a MultiIndex
    # one of ``LOGICAL_TYPES``; dates, durations and decimals are numbers, and so are integers of
    # arrays, which have one dtype for all columns
    logical_type: str
    # in order: those that the dtype declares, or else the unique values, sorted; None for numbers
    categories: tuple | None
    dtype: str  # of the values that ``inverse_transform`` returns
    has_whole_days: bool = False  # whether all values in ``fit`` were midnights without time zone
    is_empty: bool = False  # whether a column of numbers had none: later values are of any type

    def check(self) -> None:
        """Check the attributes, as after reading them from a file."""
        has_categories = self.logical_type not in NUMBERS
        is_known = self.logical_type in LOGICAL_TYPES
        if not is_known or has_categories != (self.categories is not None):
            raise ValueError(f"a column cannot have the logical type {self.logical_type!r:.100}")
        bits = "".join(filter(str.isdigit, self.dtype))
        has_bits = self.logical_type != "integer" or bits in ("8", "16", "32", "64", "128")
        # a time zone of dateutil may name any file, and NumPy warns of its code for bytes
        is_warned_of = any(map(BYTES.fullmatch, self.dtype.split(",")))
        is_refused = len(self.dtype) > LONGEST_TEXT or "dateutil" in self.dtype or is_warned_of
        if is_refused or not has_bits:
            raise ValueError(f"a column cannot have the dtype {self.dtype!r:.100}")
        check_hashes(self.categories or ())

    @property
    def holds_any_text(self) -> bool:
        """True if values are texts of a dtype that declares no categories."""
        declares = self.dtype.lower().startswith(("category", "categorical", "enum", "dictionary"))
        return self.logical_type == "category" and not declares

    @property
    def is_numeric(self) -> bool:
        """True if values are numbers and need no conversion."""
        return self.categories is None and time_type(self.dtype) is None

    @property
    def is_real(self) -> bool:
        """True if values are real numbers, of which a mean is one, too."""
        return self.logical_type == "number" and self.is_numeric

    @property
    def limits(self) -> tuple[float, float]:
        """Smallest and largest number of the dtype; of dates and durations in seconds."""
        if self.logical_type == "integer":
            bits = int("".join(filter(str.isdigit, self.dtype)))
            is_unsigned = "u" in self.dtype.lower()
            low, end = (0, 2**bits) if is_unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1))
            # the largest integer may be no floating-point number, and the next one would not fit
            return float(low), min(float(end - 1), math.nextafter(float(end), 0))
        if (time := time_type(self.dtype)) is not None:
            low, high = YEARS_1_TO_9999 if time == "date" else (-9.2e12, 9.2e12)  # of 64 bits
            if _time_unit(self.dtype) == "ns":
                longest = float(2**63 // 10**9)
                return max(low, -longest), min(high, longest)
            return low, high
        high = math.inf
        if match := DECIMAL.match(self.dtype):
            power = 10.0 ** int(match[1])
            high = min(power - 1, math.nextafter(power, 0)) / 10.0 ** int(match[2])
        elif match := SINGLE.match(self.dtype):
            is_half = match[1].lower() in ("float16", "halffloat")
            high = float(np.finfo(np.float16 if is_half else np.float32).max)
        return -high, high

    @property
    def smallest_positive(self) -> float:
        """Smallest number above 0 of the dtype, of durations in seconds; 0 of floats."""
        if self.logical_type == "integer":
            return 1.0
        if time_type(self.dtype) is not None:
            return MICROSECONDS[_time_unit(self.dtype)] / 1e6
        if match := DECIMAL.match(self.dtype):
            return 10.0 ** -int(match[2])
        return 0.0

    def recode(self, codes: np.ndarray, values: list, handle_unknown: str) -> np.ndarray:
        """Convert codes of other categories, which need not all occur, to codes of this column's.

        Codes (n,) are indices of ``values``, -1 for missing values. The result (n,) is NaN for
        missing values, and -1 for unknown ones with ``handle_unknown="infrequent"``.
        """
        code_of = {category: code for code, category in enumerate(self.categories or ())}
        unknown_code = UNKNOWN if handle_unknown == "infrequent" else np.nan
        code_at = np.array([*(code_of.get(value, unknown_code) for value in values), np.nan])
        if handle_unknown == "error" and (unknown := self.unknown(codes, values)):
            raise ValueError(
                f"Found unknown categories {shorten(unknown)} in column "
                f"{self.name!r}; it had {shorten(self.categories or ()) or 'none'} in fit. "
                f"With handle_unknown='infrequent' they count as unlikely, with 'missing' as "
                f"missing values."
            )
        return code_at[codes]  # -1, a missing value, takes the last

    def unknown(self, codes: np.ndarray, values: list) -> list:
        """List the categories that this column lacks, of codes (n,) of others as in ``recode``."""
        known = {*(self.categories or ())}
        occurring = np.flatnonzero(np.bincount(codes[codes >= 0])).tolist()
        return [values[code] for code in occurring if values[code] not in known]

    def with_categories(self, new: list) -> "Field":
        """Add categories; those of another type than all others make a pandas column of objects."""
        known = self.categories or ()
        is_mixed = self.dtype.startswith("category[") and {*map(type, new)} - {*map(type, known)}
        dtype = "object" if is_mixed else self.dtype
        return replace(self, categories=(*known, *new), dtype=dtype)

    def codes(self, values: np.ndarray) -> np.ndarray:
        """Round numbers to codes, -1 for NaN: (n,) -> (n,)."""
        n_categories = len(self.categories or ())
        missing = np.isnan(values) | (n_categories == 0)
        codes = np.clip(np.rint(values), 0, max(n_categories - 1, 0))
        return np.where(missing, -1, codes).astype(np.intp)

    def decode(self, values: np.ndarray, missing: float | None = None) -> np.ndarray:
        """Convert codes or numbers to the nearest values of the dtype: (n,) -> (n,).

        Categories and objects become Python objects, with ``missing`` for NaN; numbers are clipped
        to the range of their dtype, integers rounded; dates and durations become NumPy's.
        """
        if self.categories is not None:
            choice = np.empty(len(self.categories) + 1, dtype=object)
            choice[:-1] = self.categories
            choice[-1] = missing
            return choice[self.codes(values)]
        if self.dtype.lower().startswith("object"):
            objects = values.astype(object)
            objects[np.isnan(values)] = missing
            return objects
        low, high = self.limits
        if (time := time_type(self.dtype)) is not None:
            unit = MICROSECONDS[_time_unit(self.dtype)]
            times = np.nan_to_num(np.rint(np.clip(values, low, high) * 1e6 / unit) * unit)
            times = times.astype(np.int64).view("M8[us]" if time == "date" else "m8[us]")
            times[np.isnan(values)] = "NaT"
            return times
        values = np.rint(values) if self.logical_type == "integer" else values
        return values if high == np.inf else np.clip(values, low, high)


def time_type(dtype: str) -> str | None:
    """Return "date" or "duration" for a dtype of dates or durations, otherwise None."""
    if dtype.lower().startswith(("date", "timestamp")):
        return "date"
    return "duration" if dtype.lower().startswith(("timedelta", "duration")) else None


def has_time_zone(dtype: str) -> bool:
    """Return whether a dtype is one of dates with a time zone, in any library."""
    return time_type(dtype) == "date" and TIME_ZONE.search(dtype) is not None


def seconds(value: Any, field: Field, message: str) -> float:
    """Convert a date or a duration to seconds; a date has a time zone if the column has one."""
    time, is_zoned = time_type(field.dtype), has_time_zone(field.dtype)
    types = (date, str, np.datetime64) if time == "date" else (timedelta, np.timedelta64)
    if is_missing(value):
        raise ValueError(f"{message}; leave out columns that are not given.")
    if not isinstance(value, types):
        raise ValueError(f"{message}, which holds {time}s.")
    if isinstance(value, str):
        with suppress(ValueError):
            value = datetime.fromisoformat(value)  # numpy warns of a time zone
    if (getattr(value, "tzinfo", None) is not None) != is_zoned:
        raise ValueError(
            f"{message}, which had the dtype {field.dtype} in fit: give a date "
            f"{'with' if is_zoned else 'without'} a time zone."
        )
    try:
        if is_zoned:
            value = value.astimezone(UTC).replace(tzinfo=None)
        unit = np.datetime64(value, "us") if time == "date" else np.timedelta64(value, "us")
    except (ValueError, OverflowError):
        raise ValueError(f"{message}, which holds {time}s.") from None
    if np.isnat(unit):  # of the text "NaT"
        raise ValueError(f"{message}, which holds {time}s.")
    return float(unit.astype(np.int64)) / 1e6


def _time_unit(dtype: str) -> str:
    match = TIME_UNIT.search(dtype)
    return match[0] if match and not dtype.startswith("date64") else "D"


def rounded_columns(fields: Sequence[Field], n_features: int) -> np.ndarray:
    """Mask of the columns whose dtype holds no means: all but those of real numbers."""
    return np.array([not field.is_real for field in fields] or [False] * n_features)


def without_unknown(rows: np.ndarray, fields: Sequence[Field]) -> np.ndarray:
    """Replace categories that the schema does not have, and no table can hold, by NaN.

    Codes of y may come after the columns of the fields.
    """
    is_categorical = np.zeros(rows.shape[1], dtype=bool)
    is_categorical[: len(fields)] = [field.categories is not None for field in fields]
    return np.where(is_categorical & (rows < 0), np.nan, rows) if is_categorical.any() else rows


def check_column_names(
    parameter: str, names: Sequence[Name], expected: Sequence[Name], source: str
) -> None:
    """Refuse a data frame with other columns than ``source`` had, or in another order.

    If either has the numbers 0 to n - 1 for names, only their order and number must be the same.
    """
    texts, expected_texts = list(map(str, names)), list(map(str, expected))  # NaN is not itself
    is_numbered = _are_numbered(names) or _are_numbered(expected)
    if is_numbered and len(texts) == len(expected) and sorted(texts) != sorted(expected_texts):
        return
    if texts != expected_texts:
        missing = [name for name in expected if str(name) not in texts]
        others = [name for name in names if str(name) not in expected_texts]
        difference = f"Missing: {shorten(missing)}. " if missing else ""
        difference += f"Unexpected: {shorten(others)}. " if others else ""
        if not difference:
            j = next(j for j, text in enumerate(texts) if text != expected_texts[j])
            difference = f"Column {j} is {shorten([names[j]])} instead of {shorten([expected[j]])}."
        raise ValueError(
            f"{parameter} must have the columns of {source}, in their order: {shorten(expected)}. "
            f"{difference.rstrip()}"
        )


def _are_numbered(names: Sequence[Name]) -> bool:
    """Return whether columns have their positions for names, as without any."""
    are_texts = any(isinstance(name, str) for name in names)
    return not are_texts and [*map(str, names)] == [*map(str, range(len(names)))]


def shown_name(name: Name) -> str:
    """Return a name as it is shown: a number alone would be read as a value."""
    return name if isinstance(name, str) else f"column {name}"


def shorten(values: Sequence) -> str:
    """List the first values, and the number of further ones."""
    return first_of([repr(v) if isinstance(v, str) else str(v) for v in values])


def first_of(texts: Sequence[str]) -> str:
    """List the first five texts, and the number of further ones."""
    listed, rest = ", ".join(texts[:5]), len(texts) - 5
    return f"{listed} and {rest} more" if rest > 0 else listed
