"""Libraries of data frames: names of dtypes, and columns from numbers.

A dtype is stored as text, not as an empty frame of that dtype: a file of a model must be readable
without the library, and reading it must run no code of the file.
"""

import ast
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np

from sklearn_vae.data.fields import DECIMAL_OBJECTS, Field

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

# Columns of a table: their schemas, and their numbers (n,).
FieldValues = list[tuple[Field, np.ndarray]]


class Library(ABC):
    """A library of data frames."""

    @staticmethod
    @abstractmethod
    def dtype(series: Any) -> str:
        """Return the dtype of a column as text, from which ``frame`` makes it."""

    @staticmethod
    def in_utc(series: Any) -> Any:
        """Convert dates to a type that narwhals can read, in UTC."""
        return series

    @staticmethod
    def microseconds(series: Any) -> np.ndarray:
        """Convert durations: (n,)."""
        durations = nw.from_native(series, series_only=True)
        microseconds: np.ndarray = durations.dt.total_microseconds().cast(nw.Float64).to_numpy()
        return microseconds

    @staticmethod
    @abstractmethod
    def is_ordered(series: Any) -> bool:
        """Test whether the categories are ordered."""

    @staticmethod
    @abstractmethod
    def categories(series: Any) -> Iterable | None:
        """Return the categories of the dtype, if it declares any."""

    @staticmethod
    @abstractmethod
    def without_category(series: Any, value: str) -> Any:
        """Leave out a category of a column of categories; its cells become missing."""

    @staticmethod
    def nullable(series: Any) -> Any:
        """Convert integers to a dtype that has missing values."""
        return series

    @staticmethod
    def choose(mask: np.ndarray, first: nw.Series, second: nw.Series) -> nw.Series:
        """Take the cells of one column where a mask (n,) is True, and else of another."""
        is_first = nw.new_series("", mask, nw.Boolean, backend=first.implementation)
        return first.zip_with(is_first, second)

    @staticmethod
    @abstractmethod
    def codes(series: Any) -> tuple[np.ndarray, list]:
        """Factorize a column: codes, -1 for missing values, and unique values."""

    @staticmethod
    @abstractmethod
    def frame(parts: FieldValues, n_rows: int, index: "pd.Index | None") -> Any:
        """Make a data frame from columns of numbers."""


class _Pandas(Library):
    """pandas, with NumPy's, nullable and pyarrow's dtypes."""

    @staticmethod
    def dtype(series: "pd.Series") -> str:
        import pandas as pd

        dtype = series.dtype
        if isinstance(dtype, pd.CategoricalDtype):
            return f"category[{_Pandas.dtype(dtype.categories)}]"
        if isinstance(dtype, pd.StringDtype) and dtype != pd.api.types.pandas_dtype("str"):
            return f"{dtype}({dtype.storage})"  # str(dtype) omits the storage
        return str(dtype)

    @staticmethod
    def in_utc(series: "pd.Series") -> "pd.Series":
        import pandas as pd

        # narwhals does not recognise a type with a zone such as America/New_York
        if str(series.dtype).startswith("date64"):
            return series.astype("timestamp[ms][pyarrow]")
        has_zone = isinstance(series.dtype, pd.DatetimeTZDtype) or "tz=" in str(series.dtype)
        return series.dt.tz_convert("UTC") if has_zone else series

    @staticmethod
    def microseconds(series: "pd.Series") -> np.ndarray:
        # narwhals truncates seconds that are multiplied by 1e6
        values = series.to_numpy()
        if values.dtype.kind != "m":  # of pyarrow
            values = series.to_numpy(dtype="timedelta64[ns]")
        unit = np.datetime_data(values.dtype)[0]
        per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
        microseconds = values.astype(np.int64) * (1e6 / per_second)
        return np.where(np.isnat(values), np.nan, microseconds)

    @staticmethod
    def is_ordered(series: "pd.Series") -> bool:
        return bool(getattr(series.dtype, "ordered", False))

    @staticmethod
    def categories(series: "pd.Series") -> Iterable | None:
        return series.cat.categories.tolist() if hasattr(series, "cat") else None

    @staticmethod
    def without_category(series: "pd.Series", value: str) -> "pd.Series":
        if hasattr(series, "cat") and value in series.cat.categories.tolist():
            return series.cat.remove_categories([value])
        return series

    @staticmethod
    def nullable(series: "pd.Series") -> "pd.Series":
        if isinstance(series.dtype, np.dtype) and series.dtype.kind in "iu":
            return series.astype(str(series.dtype).replace("int", "Int").replace("u", "U"))
        return series

    @staticmethod
    def codes(series: "pd.Series") -> tuple[np.ndarray, list]:
        import pandas as pd

        if hasattr(series, "cat"):
            return series.cat.codes.to_numpy(), series.cat.categories.tolist()
        codes, values = pd.factorize(series)
        return codes, values.tolist()

    @staticmethod
    def frame(parts: FieldValues, n_rows: int, index: "pd.Index | None") -> "pd.DataFrame":
        import pandas as pd

        index = pd.RangeIndex(n_rows) if index is None else index
        columns = {j: _Pandas._series(*part, index) for j, part in enumerate(parts)}
        frame = pd.DataFrame(columns, index=index)
        frame.columns = pd.Index([field.name for field, _ in parts])
        return frame

    @staticmethod
    def _series(field: Field, values: np.ndarray, index: "pd.Index") -> "pd.Series":
        import pandas as pd

        dtype = _Pandas._type(field)
        if isinstance(dtype, pd.CategoricalDtype):
            return pd.Series(pd.Categorical.from_codes(field.codes(values), dtype=dtype), index)
        if isinstance(dtype, pd.ArrowDtype):
            cells = _Arrow.array(field, values, dtype.pyarrow_dtype)
            return pd.Series(pd.array(cells, dtype=pd.ArrowDtype(cells.type)), index)
        series = pd.Series(field.decode(values, missing=np.nan), index)
        if isinstance(dtype, np.dtype) and dtype.kind in "biu" and np.isnan(values).any():
            return series  # widened: the dtype has no missing value
        if getattr(dtype, "tz", None) is not None:
            series = series.dt.tz_localize("UTC")
        return series.astype(dtype)

    @staticmethod
    def _type(field: Field) -> "np.dtype | pd.api.extensions.ExtensionDtype":
        import pandas as pd

        text = field.dtype
        if text.startswith("category["):
            inner = Field("", "", None, text[len("category[") : -1])
            categories = pd.Index(field.categories, dtype=_Pandas._type(inner))
            return pd.CategoricalDtype(categories, ordered=field.logical_type == "ordered")
        if match := re.fullmatch(r"(string|str)\((.*)\)", text):
            if match[1] == "str":
                return pd.StringDtype(match[2], na_value=np.nan)
            return pd.StringDtype(match[2])
        if text.endswith("[pyarrow]"):
            return pd.ArrowDtype(_Arrow.type(text.removesuffix("[pyarrow]")))
        return pd.api.types.pandas_dtype("object" if DECIMAL_OBJECTS.fullmatch(text) else text)


class _Polars(Library):
    """polars, where unordered categories are the unique values."""

    @staticmethod
    def dtype(series: "pl.Series") -> str:
        import polars as pl

        text = str(series.dtype)
        return text if series.dtype not in (pl.Enum, pl.Categorical) else text.partition("(")[0]

    @staticmethod
    def is_ordered(series: "pl.Series") -> bool:
        import polars as pl

        return bool(series.dtype == pl.Enum)

    @staticmethod
    def categories(series: "pl.Series") -> Iterable | None:
        import polars as pl

        dtype = series.dtype
        return dtype.categories.to_list() if isinstance(dtype, pl.Enum) else None

    @staticmethod
    def without_category(series: "pl.Series", value: str) -> "pl.Series":
        import polars as pl

        if not isinstance(series.dtype, pl.Enum):
            return series
        kept = [category for category in series.dtype.categories if category != value]
        return series.cast(pl.String).replace(value, None).cast(pl.Enum(kept))

    @staticmethod
    def codes(series: "pl.Series") -> tuple[np.ndarray, list]:
        import polars as pl

        text = series.cast(pl.String)
        values = text.drop_nulls().unique().to_list()
        codes = text.cast(pl.Enum(values)).to_physical().cast(pl.Int64)
        return codes.fill_null(-1).to_numpy(), values

    @staticmethod
    def frame(parts: FieldValues, n_rows: int, index: "pd.Index | None") -> "pl.DataFrame":
        import polars as pl

        return pl.DataFrame([_Polars._series(*part) for part in parts])

    @staticmethod
    def _series(field: Field, values: np.ndarray) -> "pl.Series":
        import polars as pl

        cells = field.decode(values)
        if cells.dtype == object:
            return pl.Series(str(field.name), cells.tolist(), _Polars._type(field))
        series = pl.Series(str(field.name), cells)
        if series.dtype.is_float():
            series = series.fill_nan(None)
        if field.dtype == "Null" and series.null_count() < len(series):
            return series
        return series.cast(_Polars._type(field))

    @staticmethod
    def _type(field: Field) -> "pl.DataType | type[pl.DataType]":
        import polars as pl

        if field.dtype == "Enum":
            return pl.Enum(field.categories or ())
        call: Any = ast.parse(field.dtype, mode="eval").body  # such as Datetime(time_unit='us')
        dtype = getattr(pl, call.id if isinstance(call, ast.Name) else call.func.id)
        if not (isinstance(dtype, type) and issubclass(dtype, pl.DataType)):
            raise ValueError(f"{field.dtype!r} is no type of polars")  # and not called
        if isinstance(call, ast.Name):
            return dtype
        return dtype(**{str(part.arg): ast.literal_eval(part.value) for part in call.keywords})


class _Arrow(Library):
    """pyarrow, with chunked arrays."""

    @staticmethod
    def dtype(series: "pa.ChunkedArray") -> str:
        return str(series.type)

    @staticmethod
    def in_utc(series: "pa.ChunkedArray") -> "pa.ChunkedArray":
        return series.cast("timestamp[ms]") if str(series.type).startswith("date64") else series

    @staticmethod
    def is_ordered(series: "pa.ChunkedArray") -> bool:
        return bool(getattr(series.type, "ordered", False))

    @staticmethod
    def categories(series: "pa.ChunkedArray") -> Iterable | None:
        return _Arrow.codes(series)[1] if hasattr(series.type, "value_type") else None

    @staticmethod
    def without_category(series: "pa.ChunkedArray", value: str) -> "pa.ChunkedArray":
        import pyarrow as pa

        codes, categories = _Arrow.codes(series)
        kept = [code for code, category in enumerate(categories) if category != value]
        new_codes = np.full(len(categories) + 1, -1)
        new_codes[kept] = np.arange(len(kept))
        codes = new_codes[codes]  # -1, a missing value, takes the last
        cells = pa.array(codes, mask=codes < 0).cast(series.type.index_type)
        choice = pa.array([categories[code] for code in kept], series.type.value_type)
        column = pa.DictionaryArray.from_arrays(cells, choice, ordered=series.type.ordered)
        return pa.chunked_array([column])

    @staticmethod
    def choose(mask: np.ndarray, first: nw.Series, second: nw.Series) -> nw.Series:
        dtype = first.to_native().type
        text = "large_string" if str(dtype) == "string_view" else dtype  # no kernel takes views
        parts = (part.to_native().cast(text) for part in (first, second))
        chosen = Library.choose(mask, *(nw.from_native(part, series_only=True) for part in parts))
        return nw.from_native(chosen.to_native().cast(dtype), series_only=True).alias(first.name)

    @staticmethod
    def codes(series: "pa.ChunkedArray") -> tuple[np.ndarray, list]:
        import pyarrow as pa

        if not pa.types.is_dictionary(series.type):
            series = series.dictionary_encode()
        cells = series.combine_chunks()
        if isinstance(cells, pa.ChunkedArray):  # no chunk, or too many strings for one
            cells = pa.concat_arrays(cells.chunks) if cells.num_chunks else pa.array([], cells.type)
        return cells.indices.cast("int64").fill_null(-1).to_numpy(), cells.dictionary.to_pylist()

    @staticmethod
    def frame(parts: FieldValues, n_rows: int, index: "pd.Index | None") -> "pa.Table":
        import pyarrow as pa

        columns = [_Arrow.array(field, values, _Arrow.type(field.dtype)) for field, values in parts]
        return pa.Table.from_arrays(columns, names=[field.name for field, _ in parts])

    @staticmethod
    def array(field: Field, values: np.ndarray, dtype: "pa.DataType") -> "pa.Array":
        """Convert numbers to an array of a dtype: (n,) -> (n,)."""
        import pyarrow as pa

        if pa.types.is_dictionary(dtype):
            codes = field.codes(values)
            cells = pa.array(codes, mask=codes < 0).cast(dtype.index_type)
            choice = pa.array(field.categories, dtype.value_type)
            return pa.DictionaryArray.from_arrays(cells, choice, ordered=dtype.ordered)
        cells = pa.array(field.decode(values), from_pandas=True)
        if pa.types.is_null(dtype):  # a column that had no values in fit may have some now
            return cells if cells.null_count < len(cells) else pa.nulls(len(cells))
        return cells.cast(dtype, safe=False)

    @staticmethod
    def type(text: str) -> "pa.DataType":
        """Parse a dtype."""
        import pyarrow as pa

        if match := re.fullmatch(r"timestamp\[(\w+), tz=(.*)\]", text):
            return pa.timestamp(match[1], match[2])
        if match := re.fullmatch(r"(decimal\d+)\((\d+), (-?\d+)\)", text):
            return getattr(pa, match[1])(int(match[2]), int(match[3]))
        if match := re.fullmatch(r"dictionary<values=(.*), indices=(.*), ordered=([01])>", text):
            return pa.dictionary(_Arrow.type(match[2]), _Arrow.type(match[1]), match[3] == "1")
        return pa.type_for_alias(text)


LIBRARIES: dict[str, type[Library]] = {"pandas": _Pandas, "polars": _Polars, "pyarrow": _Arrow}
