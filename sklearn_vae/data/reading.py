"""Reading of tables: columns as numbers, or as codes and unique values."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from datetime import date, time, timedelta
from decimal import Decimal
from functools import cached_property
from numbers import Complex, Real
from typing import Any

import narwhals as nw
import numpy as np

from sklearn_vae.data.arrays import as_narwhals, find_objects, is_finite, is_missing
from sklearn_vae.data.fields import (
    DAY,
    DECIMAL,
    NUMBERS,
    SINGLE,
    Field,
    Name,
    has_time_zone,
    seconds,
    time_type,
)
from sklearn_vae.data.libraries import LIBRARIES, Library

# Names of the types of missing values: pandas may not be installed.
MISSING = ("NoneType", "NAType", "NaTType")
# Dtypes that declare categories: pandas', polars' and pyarrow's.
DECLARED = re.compile(r"category\[.*\]|Enum|dictionary<.*, ordered=1>")
# Types of numbers, and of categories, beside pandas' intervals.
NUMBER_TYPES = (Real, Decimal, np.bool_)
CATEGORY_TYPES = (str, *NUMBER_TYPES, date)
ADVICE = {  # how to convert objects that are times
    date: " Convert the column of a data frame by pandas.to_datetime.",
    timedelta: " Convert the column of a data frame by pandas.to_timedelta.",
    time: " Give a time of day as its minutes: t.hour * 60 + t.minute.",
}


class Column(ABC):
    """A column of any library, as numbers, or as codes and unique values."""

    name: Name
    dtype: str

    @cached_property
    @abstractmethod
    def logical_type(self) -> str:
        """Type of the values, as in ``Field``."""

    @abstractmethod
    def numbers(self) -> np.ndarray:
        """Convert values to floating-point numbers; missing ones are NaN: (n,)."""

    @abstractmethod
    def codes(self) -> tuple[np.ndarray, list]:
        """Factorize: codes (n,), -1 if missing, and unique values, or declared categories."""

    def field(self) -> Field:
        """Fit the schema of the column."""
        categories: tuple | None = None
        if self.logical_type == "boolean":
            categories = (False, True)
        elif self.logical_type not in NUMBERS:
            values = self.codes()[1]
            if not DECLARED.fullmatch(self.dtype):
                values = sorted(values, key=lambda value: (type(value).__name__, value))
            categories = tuple(values)
        for cls in set(map(type, categories or ())):
            if not (issubclass(cls, CATEGORY_TYPES) or cls.__name__ == "Interval"):
                raise TypeError(
                    f"Column {self.name!r} of X has categories of type {cls.__name__}. Give "
                    f"strings, numbers, booleans, dates or intervals."
                )
        if categories is not None:
            return Field(self.name, self.logical_type, categories, self.dtype)
        numbers = self.numbers()
        observed = numbers[~np.isnan(numbers)]
        is_day = time_type(self.dtype) == "date" and not has_time_zone(self.dtype)
        is_day = is_day and len(observed) > 0 and bool((observed % DAY == 0).all())
        return Field(self.name, self.logical_type, None, self.dtype, is_day, not len(observed))

    def read_as(self, field: Field, handle_unknown: str) -> np.ndarray:
        """Convert values to numbers by the schema of the column in ``fit``: (n,)."""
        is_number = self.logical_type in (*NUMBERS, "boolean")
        is_same_time = all(f(self.dtype) == f(field.dtype) for f in (time_type, has_time_zone))
        if field.categories is None and is_number and is_same_time:
            return self.numbers()
        codes, values = self.codes()
        if field.is_empty:  # any value is one that no row had
            return np.where(codes < 0, np.nan, 0.0)
        if field.categories is not None:
            expected, types = _types(field.categories), _types(values)
            accepts = not is_number or ("number" in expected and time_type(self.dtype) is None)
            # text that stands for numbers or truth values, or the reverse, has another dtype
            if accepts and (not (expected and types) or expected & types):
                return field.recode(codes, values, handle_unknown)
        if (codes < 0).all():
            return np.full(len(codes), np.nan)
        texts = [f", such as {x!r:.50}" for x in sorted(values, key=is_finite) if type(x) is str]
        raise TypeError(
            f"Column {field.name!r} had the dtype {_describe(field)} in fit, and has "
            f"{_describe(self)} now{''.join(texts[:1])}."
        )


class _ArrayColumn(Column):
    """A column of an array, or of Python objects in a data frame."""

    def __init__(self, name: Name, values: np.ndarray, dtype: str) -> None:
        self.name = name
        self.values = values
        self.dtype = dtype

    @cached_property
    def types(self) -> set[type]:
        """Types of Python objects, but for missing values."""
        cells = self.values.tolist() if self.values.dtype.kind == "O" else []
        return {cls for cls in set(map(type, cells)) if cls.__name__ not in MISSING}

    @cached_property
    def logical_type(self) -> str:
        types, booleans = self.types, self.types & {bool, np.bool_}
        if any(issubclass(cls, Complex) and not issubclass(cls, Real) for cls in types):
            raise ValueError(f"Complex data not supported\ncolumn {self.name!r}\n")
        if not all(issubclass(cls, NUMBER_TYPES) for cls in types):
            return "category"
        numbers = types - booleans  # floats beside booleans are NaN, or all are numbers
        if booleans and all(issubclass(cls, float | np.floating) for cls in numbers):
            cells = (cell for cell in self.values.tolist() if type(cell) in numbers)
            return "boolean" if all(map(is_missing, cells)) else "number"
        return "number"

    def field(self) -> Field:
        self._check_types()
        return super().field()

    def read_as(self, field: Field, handle_unknown: str) -> np.ndarray:
        if time_type(field.dtype) is None:
            self._check_types(also=tuple(set(map(type, field.categories or ()))))
            return super().read_as(field, handle_unknown)
        missing = find_objects(is_missing, self.values)
        numbers = np.where(missing, np.nan, 0.0)
        numbers[~missing] = [
            seconds(value, field, f"X has the value {value!r} in column {field.name!r}")
            for value in self.values[~missing].tolist()
        ]
        return numbers

    def _check_types(self, also: tuple[type, ...] = ()) -> None:
        """Refuse objects that are neither texts nor numbers, such as dates, but for those types."""
        for cls in self.types:
            if not issubclass(cls, (str, *NUMBER_TYPES, *also)):
                advice = [text for kind, text in ADVICE.items() if issubclass(cls, kind)]
                texts = [f" beside {x!r:.50}" for x in self.values.tolist() if type(x) is str][:1]
                raise TypeError(
                    f"Column {self.name!r} of X holds values of type {cls.__name__}{''.join(texts)}"
                    f"; each cell of this argument must be a string, a number or missing."
                    f"{''.join(advice)}"
                )

    def numbers(self) -> np.ndarray:
        try:
            return self.values.astype(np.float64)
        except (TypeError, OverflowError):  # pandas.NA is not None to numpy
            cells = [None if is_missing(value) else value for value in self.values]
        try:
            return np.array(cells, dtype=np.float64)
        except OverflowError as error:
            raise ValueError(
                f"Column {self.name!r} of X has a number beyond the range of double precision."
            ) from error

    def codes(self) -> tuple[np.ndarray, list]:
        cells = self.values.tolist()
        unique = dict.fromkeys(cells)
        values = [value for value in unique if not is_missing(value)]
        code_of = {**dict.fromkeys(unique, -1), **{value: i for i, value in enumerate(values)}}
        items = [value.item() if isinstance(value, np.generic) else value for value in values]
        return np.fromiter(map(code_of.__getitem__, cells), np.intp, len(cells)), items


class _FrameColumn(Column):
    """A column of a data frame."""

    def __init__(self, name: Name, series: nw.Series, library: Library) -> None:
        self.name = name
        self.series = series
        self.library = library
        self.dtype = library.dtype(series.to_native())

    @cached_property
    def logical_type(self) -> str:
        dtype, native = self.series.dtype, self.series.to_native()
        native_dtype = native.dtype if hasattr(native, "dtype") else native.type
        if dtype in (nw.String, nw.Categorical, nw.Enum):
            is_ordered = dtype == nw.Enum or getattr(native_dtype, "ordered", False)
            return "ordered" if is_ordered else "category"
        letter = getattr(native_dtype, "kind", "")  # narwhals has no half precision of pandas
        if dtype == nw.Boolean or letter == "b":
            return "boolean"
        if dtype.is_integer() or letter in ("i", "u"):
            return "integer"
        is_number = dtype.is_numeric() or letter == "f" or DECIMAL.match(self.dtype) is not None
        if is_number or time_type(self.dtype) is not None or self.dtype.lower().startswith("null"):
            return "number"
        if letter == "c":
            raise ValueError(f"Complex data not supported\ncolumn {self.name!r}: {self.dtype}\n")
        raise TypeError(
            f"Column {self.name!r} of X has the dtype {self.dtype}. Give numbers, booleans, "
            f"strings, categories, dates (of periods: .dt.to_timestamp()), durations, or a time of "
            f"day as its minutes."
        )

    def numbers(self) -> np.ndarray:
        if time_type(self.dtype) == "date":
            is_day = self.dtype.startswith(("date32", "date64"))  # of which pandas makes objects
            series = self.series.cast(nw.Datetime("us")) if is_day else self.series
            times = np.asarray(series.to_native(), dtype="datetime64[us]")  # in UTC, with a zone
            return (times - np.datetime64(0, "us")) / np.timedelta64(1, "s")
        if time_type(self.dtype) == "duration":
            return self.series.to_numpy() / np.timedelta64(1, "s")
        if DECIMAL.match(self.dtype):  # libraries' own conversions do not round to the nearest
            cells = self.series.to_list()
            return np.array([np.nan if is_missing(cell) else float(cell) for cell in cells])
        if SINGLE.match(self.dtype):
            return self.series.cast(nw.Float32).to_numpy()
        # pyarrow casts no integers beyond 2**53, and polars converts none of 128 bits to numpy's
        if self.logical_type == "integer" and not self.series.implementation.is_polars():
            return self.series.to_numpy().astype(np.float64)
        return self.series.cast(nw.Float64).to_numpy()

    def codes(self) -> tuple[np.ndarray, list]:
        if self.logical_type in (*NUMBERS, "boolean"):
            values = self.numbers()
            codes, observed = np.full(len(values), -1, dtype=np.intp), ~np.isnan(values)
            unique, codes[observed] = np.unique(values[observed], return_inverse=True)
            return codes, unique.tolist()
        return self.library.codes(self.series.to_native())


class TableReader:
    """A table of any library."""

    def __init__(self, X: Any) -> None:
        frame = as_narwhals(X)
        self.names: list[Name] | None = None  # those of a data frame's columns
        if isinstance(frame, nw.DataFrame):
            if str(frame.implementation.value) not in LIBRARIES:
                frame = nw.from_native(frame.to_pandas())
            self.table: Any = frame
            self.container = str(frame.implementation.value)  # type of the table, as in ``Schema``
            self.names = frame.columns
            dtypes = set(frame.to_native().dtypes) if self.container == "pandas" else set()
        else:
            self.table = _read_array(X)
            self.container = "object" if self.table.dtype.kind == "O" else "array"
            dtypes = {self.table.dtype}
        self.shape: tuple[int, int] = self.table.shape
        are_numbers = all(isinstance(each, np.dtype) and each.kind in "biuf" for each in dtypes)
        self.dtypes = dtypes if are_numbers else set()  # if all columns are NumPy's numbers

    @cached_property
    def columns(self) -> list[Column]:
        """The columns, in their order."""
        if self.names is None:
            dtype = str(self.table.dtype)
            return [_ArrayColumn(j, values, dtype) for j, values in enumerate(self.table.T)]
        columns: list[Column] = []
        for name, series in zip(self.names, self.table.iter_columns(), strict=True):
            column: Column = _FrameColumn(name, series, LIBRARIES[self.container])
            if column.dtype.lower() == "object":
                column = _ArrayColumn(name, series.to_native().to_numpy(), column.dtype)
            columns.append(column)
        return columns

    @property
    def dtype(self) -> type:
        """Dtype of all columns together: single precision if that loses nothing."""
        names = {dtype.name for dtype in self.dtypes if dtype.kind != "b"}
        if not self.dtypes:
            names = {column.dtype for column in self.columns if column.logical_type != "boolean"}
        return np.float32 if names and all(map(SINGLE.match, names)) else np.float64

    def matrix(self) -> np.ndarray:
        """Convert columns of NumPy's numbers together: in a wide table, one by one takes longer."""
        if self.names is None:
            return self.table.astype(self.dtype, copy=False)
        return self.table.to_native().to_numpy(dtype=self.dtype)


def _types(values: Iterable) -> set[str]:
    """Return "text", "number" and "date", and other types of values by their names."""
    types = set(map(type, values))
    return {
        "text" if issubclass(cls, str)
        else "number" if issubclass(cls, NUMBER_TYPES)
        else "date" if issubclass(cls, date)
        else cls.__name__
        for cls in types
    }  # fmt: skip


def _describe(column: "Field | Column") -> str:
    """Describe a column's dtype by its name, and unless it is one of time, by what it holds."""
    is_time = time_type(column.dtype) is not None
    return column.dtype if is_time else f"{column.dtype} ({column.logical_type})"


def _read_array(X: Any) -> np.ndarray:
    dtype = np.asarray(X).dtype
    if dtype.names:
        raise TypeError(
            f"X is a structured array of the fields {', '.join(map(repr, dtype.names))}. Give a "
            f"data frame: pandas.DataFrame(X)."
        )
    if np.ndim(X) != 2 or dtype.kind == "c":
        from sklearn.utils import check_array  # seldom needed

        check_array(X, dtype=None, ensure_all_finite=False)  # it has words for the error
    # numpy would convert numbers beside strings to strings
    X = np.asarray(X, dtype=object if dtype.kind in "USOT" else None)
    if X.dtype.kind not in "biufO":
        raise TypeError(
            f"X has the dtype {X.dtype}. Give an array of numbers, of strings or of objects that "
            f"are either; dates and durations have to stand in a data frame."
        )
    return X
