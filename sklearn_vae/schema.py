"""What a table is from outside: the way from any table to numbers, and back.

A cell that holds NaN, None, ``pandas.NA``, ``pandas.NaT`` or a null is unobserved, and NaN among
the numbers. A category is the number of its place among the column's categories. A date is the
seconds since 1970-01-01 UTC, a duration its seconds, and both come back to the microsecond.
"""

import ast
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from numbers import Complex, Real
from typing import Any

import narwhals as nw
import numpy as np
from scipy.sparse import issparse
from sklearn.utils import check_array

# Categories and unknown values that are written out; of more the number is given.
MOST_SHOWN = 5

NUMBERS = ("number", "integer")
# Types of Python objects that stand for no value, by name: pandas may not be there.
MISSING = ("NoneType", "NAType", "NaTType")
SINGLE = re.compile(r"(float(16|32)?|halffloat)(\[pyarrow\])?$", re.IGNORECASE)
TIME_UNIT = re.compile(r"\b(ns|us|ms|s)\b")
# Units of time; a finer one than the microsecond is more than a float has digits for.
MICROSECONDS = {"ns": 1.0, "us": 1.0, "ms": 1e3, "s": 1e6, "D": 86400e6}


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

    def read(self, column: "_Column", handle_unknown: str) -> np.ndarray:
        """Numbers of another table's column that stands for this one."""
        wrong = column.kind in NUMBERS and not self._has_numbers
        if self.categories is None:
            wrong = column.kind not in (*NUMBERS, "boolean")
            wrong |= _time(column.dtype) != _time(self.dtype)
        if wrong and not column.is_missing():
            raise TypeError(
                f"Column {self.name!r} had the dtype {self.dtype} ({self.kind}) in fit, and has "
                f"{column.dtype} ({column.kind}) now."
            )
        if self.categories is None or wrong:
            return np.full(len(column), np.nan) if wrong else column.numbers()
        return self._places(*column.codes(), handle_unknown)

    @property
    def _has_numbers(self) -> bool:
        return self.categories is None or any(isinstance(c, Real) for c in self.categories)

    def _places(self, codes: np.ndarray, values: list, handle_unknown: str) -> np.ndarray:
        """Turn the places in another list of values into those among the categories."""
        assert self.categories is not None
        known = {category: place for place, category in enumerate(self.categories)}
        places = np.array([*(known.get(value, np.nan) for value in values), np.nan])
        if handle_unknown == "error" and np.isnan(places[:-1]).any():
            used = np.bincount(codes[codes >= 0], minlength=len(values)) > 0
            unknown = np.flatnonzero(np.isnan(places[:-1]) & used)
            if len(unknown):
                raise ValueError(
                    f"Found unknown categories {_cut([values[i] for i in unknown])} in column "
                    f"{self.name!r}; it had {_cut(self.categories)} in fit. With "
                    f"handle_unknown='missing' they are taken for missing cells."
                )
        return places[codes]  # -1, a missing cell, takes the last

    def codes(self, values: np.ndarray) -> np.ndarray:
        """Places among the categories, -1 where there is none: (n,) -> (n,)."""
        assert self.categories is not None
        places = np.clip(np.rint(values), 0, max(len(self.categories) - 1, 0))
        missing = np.isnan(values) | (len(self.categories) == 0)
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
        return choice[self.codes(values)]

    def rounded(self, values: np.ndarray) -> np.ndarray:
        """Round what the dtype holds no fractions of, and clip it to the dtype's range.

        Dates and durations become NumPy's, in microseconds.
        """
        if self.kind == "integer":
            return _whole_numbers(values, self.dtype)
        if _time(self.dtype) is not None:
            return _times(values, self.dtype)
        return values


@dataclass(frozen=True)
class Schema:
    """What the columns of a table are, and what kind of table it is.

    Attributes
    ----------
    fields : tuple of Field
        The columns, in their order.
    container : {"array", "object", "sparse", "pandas", "polars", "pyarrow"}
        What kind of table it is; ``"object"`` is an array or a list with strings, or an
        array of Python objects. Other data frames that narwhals knows count as pandas.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_vae.schema import Schema
    >>> X = np.array([["red", 1.5], ["blue", None]], dtype=object)
    >>> schema = Schema.learn(X)
    >>> print(schema)
    column 0  category  'blue', 'red'
    column 1  number
    >>> schema.to_numbers(X)
    array([[1. , 1.5],
           [0. , nan]])
    >>> schema.restore(np.array([[0, 2.5]]))
    array([['blue', 2.5]], dtype=object)
    """

    fields: tuple[Field, ...]
    container: str

    @classmethod
    def learn(cls, X: Any) -> "Schema":
        """Find out what the columns are.

        Parameters
        ----------
        X : DataFrame, array, sparse matrix or list of shape (n_samples, n_features)
            A data frame by pandas, polars or pyarrow (others are read as pandas').

        Returns
        -------
        Schema
            With all that ``to_numbers`` and ``restore`` need.

        Raises
        ------
        TypeError
            If a column holds anything but numbers, strings, booleans, categories, dates
            and durations.
        ValueError
            If X has not two dimensions, or has complex numbers.
        """
        table = _opened(X)
        return cls(tuple(column.field() for column in table.columns), table.container)

    def to_numbers(self, X: Any, *, handle_unknown: str = "error") -> np.ndarray:
        """Turn a table into numbers.

        What the columns are called is left to the caller to check, as scikit-learn's
        ``validate_data`` does. Infinite values pass.

        Parameters
        ----------
        X : DataFrame, array, sparse matrix or list of shape (n_samples, n_features)
            Columns of the same kinds in the same order, in any kind of table. Integers
            may be real numbers now, and a column without any value fits everywhere.
        handle_unknown : {"error", "missing"}, default="error"
            What becomes of a category that the schema does not have: an error, or a
            missing cell.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            In single precision if all columns are (or narrower, or booleans, with at
            least one of real numbers), otherwise in double precision. It may share
            memory with X.

        Raises
        ------
        TypeError
            If a column is of another kind.
        ValueError
            If there are unknown categories, or another number of columns.
        """
        if handle_unknown not in ("error", "missing"):
            raise ValueError(
                f"handle_unknown must be 'error' or 'missing'. Got {handle_unknown!r} instead."
            )
        table = _opened(X)
        columns = table.columns
        if len(columns) != len(self.fields):
            raise ValueError(
                f"X has {len(columns)} features, but Schema is expecting {len(self.fields)} "
                f"features as input."
            )
        dtype = np.float32 if _is_single(columns) else np.float64
        if table.matrix is not None and all(_is_plain(field) for field in self.fields):
            return table.matrix(dtype)
        if table.container == "sparse":
            return self.to_numbers(X.toarray(), handle_unknown=handle_unknown)
        values = np.empty((table.n_rows, len(columns)), dtype, order="F")
        for j, (field, column) in enumerate(zip(self.fields, columns, strict=True)):
            values[:, j] = field.read(column, handle_unknown)
        return values

    def restore(self, values: np.ndarray, *, index: Any = None) -> Any:
        """Turn numbers into a table of the kind that was learned from.

        Integers are rounded and clipped to their type's range, categories taken from the
        nearest place. NaN becomes what the table has for a missing cell. Where a column's
        type has nothing for it, pandas' own widening is followed: integers become float64,
        booleans object.

        Parameters
        ----------
        values : ndarray of shape (n_samples, n_features)
            Numbers as ``to_numbers`` gives them.
        index : pandas.Index, default=None
            Index of a DataFrame by pandas; 0 to n - 1 by default. Others have none.

        Returns
        -------
        DataFrame or ndarray of shape (n_samples, n_features)
            Names, order, types and categories are those learned. An array has the type
            of ``values``, or holds objects, with NaN for missing cells, if it did before.
            Instead of a sparse matrix there is a dense array.
        """
        if self.container in ("array", "sparse"):
            return values
        parts = [
            (field, np.asarray(column, dtype=np.float64))
            for field, column in zip(self.fields, np.asarray(values).T, strict=True)
        ]
        if self.container == "object":
            objects = np.empty(np.shape(values), dtype=object)
            for j, (field, column) in enumerate(parts):
                objects[:, j] = field.objects(column, missing=np.nan)
            return objects
        return _BACKENDS[self.container].frame(parts, len(values), index)

    def to_dict(self) -> dict[str, Any]:
        """Say it all in types that JSON has."""
        return {
            "container": self.container,
            "fields": [
                {
                    "name": _to_plain(field.name),
                    "kind": field.kind,
                    "categories": None
                    if field.categories is None
                    else [_to_plain(category) for category in field.categories],
                    "dtype": field.dtype,
                }
                for field in self.fields
            ],
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> "Schema":
        """Undo ``to_dict``."""
        fields = (
            Field(
                _from_plain(field["name"]),
                field["kind"],
                None
                if field["categories"] is None
                else tuple(map(_from_plain, field["categories"])),
                field["dtype"],
            )
            for field in state["fields"]
        )
        return cls(tuple(fields), state["container"])

    def __str__(self) -> str:
        names = [
            field.name if isinstance(field.name, str) else f"column {field.name}"
            for field in self.fields
        ]
        width = max(map(len, names), default=0)
        return "\n".join(
            f"{name:<{width}}  {field.kind:<8}  {_cut(field.categories or ())}".rstrip()
            for name, field in zip(names, self.fields, strict=True)
        )


def has_types(X: Any) -> bool:
    """Whether a table is more than an array of numbers: what it is has then to be learned."""
    if isinstance(X, np.ndarray | list | tuple):
        return np.asarray(X).dtype.kind in "USO"
    return issparse(X) or isinstance(nw.from_native(X, pass_through=True), nw.DataFrame)


# Tables as they are read -----------------------------------------------------------------------


class _Column(ABC):
    """A column as it is read: what it is, and its cells as numbers or as codes."""

    name: Any
    kind: str
    dtype: str

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def is_missing(self) -> bool:
        """Whether no cell has a value."""

    @abstractmethod
    def numbers(self) -> np.ndarray:
        """Cells as floating-point numbers, NaN where they are missing."""

    @abstractmethod
    def codes(self) -> tuple[np.ndarray, list]:
        """Places of the cells in a list of values, -1 for a missing one, and that list."""

    def declared(self) -> Iterable | None:
        """Categories that the type has, if it has any."""
        return None

    def field(self) -> Field:
        """Find out what has to be known of the column."""
        categories: tuple | None = None
        if self.kind == "boolean":
            categories = (False, True)
        elif self.kind not in NUMBERS:
            declared = self.declared()
            categories = tuple(_sorted(self.codes()[1]) if declared is None else declared)
        return Field(self.name, self.kind, categories, self.dtype)


class _ArrayColumn(_Column):
    """A column of an array, or of Python objects in a data frame."""

    def __init__(self, name: Any, values: np.ndarray, dtype: str) -> None:
        self.name = name
        self.values = values
        self.dtype = dtype
        if values.dtype.kind in "biuf":
            self.kind = "number"
        elif values.dtype.kind == "U":
            self.kind = "category"
        else:
            self.kind = _kind_of_objects(values, name)

    def __len__(self) -> int:
        return len(self.values)

    def is_missing(self) -> bool:
        return all(map(_is_missing, self.values.tolist()))

    def numbers(self) -> np.ndarray:
        try:
            return self.values.astype(np.float64)
        except TypeError:  # pandas.NA is not None to numpy
            cells = [None if _is_missing(value) else value for value in self.values]
            return np.array(cells, dtype=np.float64)

    def codes(self) -> tuple[np.ndarray, list]:
        cells = self.values.tolist()
        found = dict.fromkeys(cells)
        values = [value for value in found if not _is_missing(value)]
        places = {**dict.fromkeys(found, -1), **{value: i for i, value in enumerate(values)}}
        return np.fromiter(map(places.__getitem__, cells), np.intp, len(cells)), values


class _FrameColumn(_Column):
    """A column of a data frame."""

    def __init__(self, name: Any, series: nw.Series, backend: type["_Backend"]) -> None:
        self.name = name
        self.series = series
        self.backend = backend
        self.dtype = backend.dtype(series.to_native())
        self.kind = _kind_of_series(series, backend, self.dtype, name)

    def __len__(self) -> int:
        return len(self.series)

    def is_missing(self) -> bool:
        return bool(self.series.is_null().all()) or (
            self.kind in NUMBERS and bool(np.isnan(self.numbers()).all())
        )

    def numbers(self) -> np.ndarray:
        time = _time(self.dtype)
        if time == "date":
            return self.series.dt.timestamp("us").cast(nw.Float64).to_numpy() / 1e6
        if time == "duration":
            return self.series.dt.total_microseconds().cast(nw.Float64).to_numpy() / 1e6
        if SINGLE.match(self.dtype):
            return self.series.cast(nw.Float32).to_numpy()
        return self.series.cast(nw.Float64).to_numpy()

    def codes(self) -> tuple[np.ndarray, list]:
        if self.kind in (*NUMBERS, "boolean"):
            return _codes_of_numbers(self.numbers())
        return self.backend.codes(self.series.to_native())

    def declared(self) -> Iterable | None:
        return self.backend.categories(self.series.to_native())


@dataclass
class _Table:
    container: str
    columns: list[_Column]
    n_rows: int
    matrix: Callable[[Any], np.ndarray] | None = None  # all at once, if all are numbers


def _opened(X: Any) -> _Table:
    if nw.dependencies.is_pandas_dataframe(X):
        return _opened_pandas(X)
    frame = nw.from_native(X, pass_through=True)
    if isinstance(frame, nw.LazyFrame):
        raise TypeError("X is a lazy table; call collect() or compute() on it first.")
    if not isinstance(frame, nw.DataFrame):
        return _opened_array(X)
    container = str(frame.implementation.value)
    if container not in _BACKENDS:
        return _opened_pandas(frame.to_pandas())
    columns = [_series_column(s.name, s, _BACKENDS[container]) for s in frame.iter_columns()]
    return _Table(container, columns, len(frame))


def _opened_pandas(X: Any) -> _Table:
    columns = [  # by number, because names may occur twice
        _series_column(name, nw.from_native(X.iloc[:, j], series_only=True), _Pandas)
        for j, name in enumerate(X.columns)
    ]
    simple = all(isinstance(dtype, np.dtype) and dtype.kind in "biuf" for dtype in X.dtypes)
    return _Table("pandas", columns, len(X), (lambda to: X.to_numpy(dtype=to)) if simple else None)


def _opened_array(X: Any) -> _Table:
    if not issparse(X) and np.asarray(X).dtype.kind in "USO":
        X = np.asarray(X, dtype=object)  # numpy would make strings of the numbers beside strings
    X = check_array(
        X,
        accept_sparse=("csr", "csc"),
        dtype=None,
        ensure_all_finite=False,
        ensure_min_samples=0,
        ensure_min_features=0,
    )
    if issparse(X):
        return _Table(
            "sparse",
            [_ArrayColumn(j, X.data[:0], str(X.dtype)) for j in range(X.shape[1])],
            X.shape[0],
            lambda to: X.toarray().astype(to, copy=False),
        )
    columns: list[_Column] = [_ArrayColumn(j, X[:, j], str(X.dtype)) for j in range(X.shape[1])]
    if X.dtype.kind == "O":
        return _Table("object", columns, len(X))
    return _Table("array", columns, len(X), lambda to: X.astype(to, copy=False))


def _series_column(name: Any, series: nw.Series, backend: type["_Backend"]) -> _Column:
    if series.dtype == nw.Object:
        native = series.to_native()
        return _ArrayColumn(name, native.to_numpy(), backend.dtype(native))
    return _FrameColumn(name, series, backend)


def _kind_of_series(series: nw.Series, backend: type["_Backend"], dtype: str, name: Any) -> str:
    kind = series.dtype
    if kind == nw.Boolean:
        return "boolean"
    if kind.is_integer():
        return "integer"
    if kind.is_numeric() or _time(dtype) is not None or dtype.lower() in ("null", "float16"):
        return "number"
    if kind in (nw.String, nw.Categorical, nw.Enum):
        return "ordered" if backend.is_ordered(series.to_native()) else "category"
    if getattr(getattr(series.to_native(), "dtype", None), "kind", "") == "c":
        raise ValueError(f"Complex data not supported\ncolumn {name!r}: {dtype}\n")
    raise TypeError(
        f"Column {name!r} of X has the dtype {dtype}. Give numbers, booleans, strings, "
        f"categories, dates or durations."
    )


def _kind_of_objects(values: np.ndarray, name: Any) -> str:
    types = {kind for kind in set(map(type, values.tolist())) if kind.__name__ not in MISSING}
    for kind in types:
        if issubclass(kind, Complex) and not issubclass(kind, Real):
            raise ValueError(f"Complex data not supported\ncolumn {name!r}\n")
        if not issubclass(kind, str | Real | Decimal | np.bool_):
            raise TypeError(
                f"Column {name!r} of X holds a {kind.__name__}; each cell of this argument must be "
                f"a string, a number or missing."
            )
    if any(issubclass(kind, str) for kind in types):
        return "category"
    if bool in types and types <= {bool, float} and _is_boolean(values):
        return "boolean"
    return "number"


def _is_boolean(values: np.ndarray) -> bool:
    return all(isinstance(value, bool) or _is_missing(value) for value in values.tolist())


def _is_missing(value: Any) -> bool:
    return value is None or type(value).__name__ in MISSING or bool(value != value)


def _is_single(columns: list[_Column]) -> bool:
    narrow = [bool(SINGLE.match(column.dtype)) for column in columns]
    rest = (column for column, is_narrow in zip(columns, narrow, strict=True) if not is_narrow)
    return any(narrow) and all(column.kind == "boolean" for column in rest)


def _is_plain(field: Field) -> bool:
    return field.categories is None and _time(field.dtype) is None


def _codes_of_numbers(values: np.ndarray) -> tuple[np.ndarray, list]:
    codes = np.full(len(values), -1, dtype=np.intp)
    found, codes[~np.isnan(values)] = np.unique(values[~np.isnan(values)], return_inverse=True)
    return codes, found.tolist()


def _sorted(values: list) -> list:
    if len({type(value) for value in values}) == 1:
        return sorted(values)
    return sorted(values, key=lambda value: (type(value).__name__, str(value)))


# Tables as they are given back ------------------------------------------------------------------


class _Backend(ABC):
    """What a library of data frames calls its types, and how it is given columns."""

    @staticmethod
    @abstractmethod
    def dtype(series: Any) -> str:
        """Type of a column, from which it can be made again."""

    @staticmethod
    @abstractmethod
    def is_ordered(series: Any) -> bool:
        """Whether a column of categories has an order."""

    @staticmethod
    @abstractmethod
    def categories(series: Any) -> Iterable | None:
        """Categories that the type of a column has."""

    @staticmethod
    @abstractmethod
    def codes(series: Any) -> tuple[np.ndarray, list]:
        """Places of the cells in a list of values, -1 for a missing one, and that list."""

    @staticmethod
    @abstractmethod
    def frame(parts: list[tuple[Field, np.ndarray]], n_rows: int, index: Any) -> Any:
        """Make a data frame of columns of numbers."""


class _Pandas(_Backend):
    @staticmethod
    def dtype(series: Any) -> str:
        import pandas as pd

        dtype = series.dtype
        if isinstance(dtype, pd.CategoricalDtype):
            return f"category[{_Pandas.dtype(dtype.categories)}]"
        if isinstance(dtype, pd.StringDtype) and dtype != pd.api.types.pandas_dtype("str"):
            return f"{dtype}({dtype.storage})"  # pandas' text leaves the storage out
        return str(getattr(dtype, "subtype", dtype) if "Sparse" in str(dtype) else dtype)

    @staticmethod
    def is_ordered(series: Any) -> bool:
        return bool(getattr(series.dtype, "ordered", False))

    @staticmethod
    def categories(series: Any) -> Iterable | None:
        return series.cat.categories.tolist() if hasattr(series, "cat") else None

    @staticmethod
    def codes(series: Any) -> tuple[np.ndarray, list]:
        import pandas as pd

        if hasattr(series, "cat"):
            return series.cat.codes.to_numpy(), series.cat.categories.tolist()
        codes, values = pd.factorize(series)
        return codes, values.tolist()

    @staticmethod
    def frame(parts: list[tuple[Field, np.ndarray]], n_rows: int, index: Any) -> Any:
        import pandas as pd

        index = pd.RangeIndex(n_rows) if index is None else index
        columns = {j: _Pandas._series(*part, index) for j, part in enumerate(parts)}
        frame = pd.DataFrame(columns, index=index)
        frame.columns = pd.Index([field.name for field, _ in parts])
        return frame

    @staticmethod
    def _series(field: Field, values: np.ndarray, index: Any) -> Any:
        import pandas as pd

        dtype: Any = _Pandas._type(field)
        if isinstance(dtype, pd.CategoricalDtype):
            return pd.Series(pd.Categorical.from_codes(field.codes(values), dtype=dtype), index)
        if isinstance(dtype, pd.ArrowDtype):
            cells = _Arrow.array(field, values, dtype.pyarrow_dtype)
            return pd.Series(pd.array(cells, dtype=dtype), index)
        if field.categories is not None or field.dtype == "object":
            missing = np.nan if field.dtype == "bool" else None
            cells = field.objects(values, missing)
            widened = field.dtype == "bool" and np.isnan(values).any()
            return pd.Series(cells, index, dtype=object if widened else dtype)
        series = pd.Series(field.rounded(values), index)
        if field.kind == "integer" and isinstance(dtype, np.dtype) and np.isnan(values).any():
            return series
        if getattr(dtype, "tz", None) is not None:
            series = series.dt.tz_localize("UTC")
        return series.astype(dtype)

    @staticmethod
    def _type(field: Field) -> Any:
        import pandas as pd

        text = field.dtype
        if text.startswith("category["):
            inner = Field(None, "", None, text[len("category[") : -1])
            categories = pd.Index(field.categories, dtype=_Pandas._type(inner))
            return pd.CategoricalDtype(categories, ordered=field.kind == "ordered")
        if found := re.fullmatch(r"(string|str)\((.*)\)", text):
            if found[1] == "str":
                return pd.StringDtype(found[2], na_value=np.nan)
            return pd.StringDtype(found[2])
        if text.endswith("[pyarrow]"):
            return pd.ArrowDtype(_Arrow.type(text.removesuffix("[pyarrow]")))
        return pd.api.types.pandas_dtype(text)


class _Polars(_Backend):
    @staticmethod
    def dtype(series: Any) -> str:
        import polars as pl

        text = str(series.dtype)
        return text if series.dtype not in (pl.Enum, pl.Categorical) else text.partition("(")[0]

    @staticmethod
    def is_ordered(series: Any) -> bool:
        import polars as pl

        return bool(series.dtype == pl.Enum)

    @staticmethod
    def categories(series: Any) -> Iterable | None:
        return series.dtype.categories.to_list() if _Polars.is_ordered(series) else None

    @staticmethod
    def codes(series: Any) -> tuple[np.ndarray, list]:
        import polars as pl

        text = series.cast(pl.String)
        values = text.drop_nulls().unique().to_list()
        codes = text.cast(pl.Enum(values)).to_physical().cast(pl.Int64)
        return codes.fill_null(-1).to_numpy(), values

    @staticmethod
    def frame(parts: list[tuple[Field, np.ndarray]], n_rows: int, index: Any) -> Any:
        import polars as pl

        return pl.DataFrame([_Polars._series(*part) for part in parts])

    @staticmethod
    def _series(field: Field, values: np.ndarray) -> Any:
        import polars as pl

        if field.categories is not None or field.dtype == "Object":
            return pl.Series(field.name, field.objects(values).tolist(), _Polars._type(field))
        series = pl.Series(field.name, field.rounded(values))
        if _time(field.dtype) is None:
            series = series.fill_nan(None)
        if field.dtype == "Null" and series.null_count() < len(series):
            return series
        return series.cast(_Polars._type(field))

    @staticmethod
    def _type(field: Field) -> Any:
        import polars as pl

        if field.dtype == "Enum":
            return pl.Enum(field.categories or ())
        call: Any = ast.parse(field.dtype, mode="eval").body  # such as Datetime(time_unit='us')
        if isinstance(call, ast.Name):
            return getattr(pl, call.id)
        arguments = {str(part.arg): ast.literal_eval(part.value) for part in call.keywords}
        return getattr(pl, call.func.id)(**arguments)


class _Arrow(_Backend):
    @staticmethod
    def dtype(series: Any) -> str:
        return str(series.type)

    @staticmethod
    def is_ordered(series: Any) -> bool:
        return bool(getattr(series.type, "ordered", False))

    @staticmethod
    def categories(series: Any) -> Iterable | None:
        return _Arrow.codes(series)[1] if hasattr(series.type, "value_type") else None

    @staticmethod
    def codes(series: Any) -> tuple[np.ndarray, list]:
        import pyarrow as pa

        if not pa.types.is_dictionary(series.type):
            series = series.dictionary_encode()
        cells = series.unify_dictionaries().combine_chunks()
        if isinstance(cells, pa.ChunkedArray):  # no chunk, or too many strings for one
            cells = pa.concat_arrays(cells.chunks) if cells.num_chunks else pa.array([], cells.type)
        return cells.indices.cast("int64").fill_null(-1).to_numpy(), cells.dictionary.to_pylist()

    @staticmethod
    def frame(parts: list[tuple[Field, np.ndarray]], n_rows: int, index: Any) -> Any:
        import pyarrow as pa

        columns = [_Arrow.array(field, values, _Arrow.type(field.dtype)) for field, values in parts]
        return pa.Table.from_arrays(columns, names=[field.name for field, _ in parts])

    @staticmethod
    def array(field: Field, values: np.ndarray, dtype: Any) -> Any:
        """Make an array of a type: (n,) -> (n,)."""
        import pyarrow as pa

        if pa.types.is_dictionary(dtype):
            codes = field.codes(values)
            places = pa.array(codes, mask=codes < 0).cast(dtype.index_type)
            choice = pa.array(field.categories, dtype.value_type)
            return pa.DictionaryArray.from_arrays(places, choice, ordered=dtype.ordered)
        if field.categories is not None:
            return pa.array(field.objects(values), dtype)
        cells = pa.array(field.rounded(values), from_pandas=True)
        if pa.types.is_null(dtype):  # a column without a value has got some, or not
            return cells if cells.null_count < len(cells) else pa.nulls(len(cells))
        return cells.cast(dtype, safe=False)

    @staticmethod
    def type(text: str) -> Any:
        """Make a type from its text."""
        import pyarrow as pa

        if found := re.fullmatch(r"timestamp\[(\w+), tz=(.*)\]", text):
            return pa.timestamp(found[1], found[2])
        if found := re.fullmatch(r"(decimal\d+)\((\d+), (-?\d+)\)", text):
            return getattr(pa, found[1])(int(found[2]), int(found[3]))
        if found := re.fullmatch(r"dictionary<values=(.*), indices=(.*), ordered=([01])>", text):
            return pa.dictionary(_Arrow.type(found[2]), _Arrow.type(found[1]), found[3] == "1")
        return pa.type_for_alias(text)


_BACKENDS: dict[str, type[_Backend]] = {"pandas": _Pandas, "polars": _Polars, "pyarrow": _Arrow}


def _time(dtype: str) -> str | None:
    """Whether a type is one of dates or of durations."""
    if dtype.lower().startswith(("date", "timestamp")):
        return "date"
    return "duration" if dtype.lower().startswith(("timedelta", "duration")) else None


def _times(values: np.ndarray, dtype: str) -> np.ndarray:
    """Seconds as NumPy's dates or durations, rounded to the unit of the dtype."""
    found = TIME_UNIT.search(dtype)
    step = MICROSECONDS[found[0] if found else "D"]
    largest = 9.2e15 if found and found[0] == "ns" else 9.2e18  # what 64 bits of the unit hold
    rounded = np.rint(np.clip(values * 1e6, -largest, largest) / step) * step
    times = np.nan_to_num(rounded).astype(np.int64)
    times = times.view("M8[us]" if _time(dtype) == "date" else "m8[us]")
    times[np.isnan(values)] = "NaT"
    return times


def _whole_numbers(values: np.ndarray, dtype: str) -> np.ndarray:
    bits = int("".join(filter(str.isdigit, dtype)))
    low, end = (0, 2**bits) if "u" in dtype.lower() else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    # the largest integer may be no floating-point number, and the next one would not fit
    return np.clip(np.rint(values), low, min(float(end - 1), np.nextafter(float(end), 0)))


# Words and plain data ---------------------------------------------------------------------------


def _cut(values: Sequence) -> str:
    """Write out a few values, and say how many more there are."""
    shown = ", ".join(
        repr(value) if isinstance(value, str) else str(value) for value in values[:MOST_SHOWN]
    )
    rest = len(values) - MOST_SHOWN
    return f"{shown} and {rest} more" if rest > 0 else shown


def _to_plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, tuple):
        return {"tuple": [_to_plain(part) for part in value]}
    if type(value).__name__ == "Interval":
        return {"interval": [_to_plain(value.left), _to_plain(value.right), value.closed]}
    if type(value).__name__ == "Timestamp":
        return {"timestamp": value.isoformat(), "unit": value.unit}
    if isinstance(value, date):
        return {type(value).__name__: value.isoformat()}
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"{value!r} cannot be written as JSON.")


def _from_plain(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    (tag, content), *_ = value.items()
    if tag == "tuple":
        return tuple(map(_from_plain, content))
    if tag == "date":
        return date.fromisoformat(content)
    if tag == "datetime":
        return datetime.fromisoformat(content)
    import pandas as pd

    if tag == "timestamp":
        return pd.Timestamp(content).as_unit(value["unit"])
    return pd.Interval(*map(_from_plain, content[:2]), closed=content[2])
