"""Libraries of data frames: names of dtypes, and columns from numbers.

A dtype is stored as text, not as an empty frame of that dtype: a file of a model must be readable
without the library, and reading it must run no code of the file.
"""

import ast
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from sklearn_vae.data.fields import Field

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

# Columns of a table: their schemas, and their numbers (n,).
FieldValues = list[tuple[Field, np.ndarray]]


class _Pandas:
    """pandas, with NumPy's, nullable and pyarrow's dtypes. The other libraries have its methods."""

    double = "float64"  # dtype of numbers in double precision

    def dtype(self, series: "pd.Series") -> str:
        """Return the dtype of a column as text, from which ``frame`` makes it."""
        import pandas as pd

        dtype = series.dtype
        if isinstance(dtype, pd.CategoricalDtype):
            return f"category[{self.dtype(dtype.categories)}]"
        return str(dtype)

    def codes(self, series: "pd.Series") -> tuple[np.ndarray, list]:
        """Factorize a column: codes, -1 if missing, and unique values, or declared categories."""
        import pandas as pd

        if hasattr(series, "cat"):
            return series.cat.codes.to_numpy(), series.cat.categories.tolist()
        codes, values = pd.factorize(series)
        return codes, values.tolist()

    def frame(self, parts: FieldValues, n_rows: int, like: object) -> "pd.DataFrame":
        """Make a data frame from columns of numbers, with the index of another one, if any."""
        import pandas as pd

        index = like.index if isinstance(like, pd.DataFrame) else pd.RangeIndex(n_rows)
        columns = {j: self._series(*part, index) for j, part in enumerate(parts)}
        frame = pd.DataFrame(columns, index=index)
        names, known = pd.Index([field.name for field, _ in parts]), getattr(like, "columns", None)
        frame.columns = known if names.equals(known) else names
        return frame

    def _series(self, field: Field, values: np.ndarray, index: "pd.Index") -> "pd.Series":
        import pandas as pd

        dtype = self._type(field)
        if isinstance(dtype, pd.CategoricalDtype):
            return pd.Series(pd.Categorical.from_codes(field.codes(values), dtype=dtype), index)
        if isinstance(dtype, pd.ArrowDtype):
            cells = _arrow_array(field, values, dtype.pyarrow_dtype)
            return pd.Series(pd.array(cells, dtype=pd.ArrowDtype(cells.type)), index)
        series = pd.Series(field.decode(values, missing=np.nan), index)
        if isinstance(dtype, np.dtype) and dtype.kind in "biu" and np.isnan(values).any():
            return series  # widened: the dtype has no missing value
        if getattr(dtype, "tz", None) is not None:
            series = series.dt.tz_localize("UTC")
        return series.astype(dtype)

    def _type(self, field: Field) -> "np.dtype | pd.api.extensions.ExtensionDtype":
        import pandas as pd

        text = field.dtype
        if text.startswith("category["):
            inner = Field("", "", None, text[len("category[") : -1])
            categories = pd.Index(field.categories, dtype=self._type(inner))
            return pd.CategoricalDtype(categories, ordered=field.logical_type == "ordered")
        if text.endswith("[pyarrow]"):
            return pd.ArrowDtype(_arrow_type(text.removesuffix("[pyarrow]")))
        return pd.api.types.pandas_dtype(text)


class _Polars:
    """polars, where unordered categories are the unique values."""

    double = "Float64"

    def dtype(self, series: "pl.Series") -> str:
        import polars as pl

        text = str(series.dtype)
        return text if series.dtype not in (pl.Enum, pl.Categorical) else text.partition("(")[0]

    def codes(self, series: "pl.Series") -> tuple[np.ndarray, list]:
        import polars as pl

        dtype = series.dtype
        if not isinstance(dtype, pl.Enum):
            series = series.cast(pl.String)
            dtype = pl.Enum(series.drop_nulls().unique())
        codes = series.cast(dtype).to_physical().cast(pl.Int64).fill_null(-1)
        return codes.to_numpy(), dtype.categories.to_list()

    def frame(self, parts: FieldValues, n_rows: int, like: object) -> "pl.DataFrame":
        import polars as pl

        return pl.DataFrame([self._series(*part) for part in parts])

    def _series(self, field: Field, values: np.ndarray) -> "pl.Series":
        import polars as pl

        cells = field.decode(values)
        if cells.dtype == object:
            return pl.Series(str(field.name), cells.tolist(), self._type(field))
        series = pl.Series(str(field.name), cells, nan_to_null=True)
        if field.dtype == "Null" and series.null_count() < len(series):
            return series
        return series.cast(self._type(field))

    def _type(self, field: Field) -> "pl.DataType | type[pl.DataType]":
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


class _Arrow:
    """pyarrow, with chunked arrays."""

    double = "double"

    def dtype(self, series: "pa.ChunkedArray") -> str:
        return str(series.type)

    def codes(self, series: "pa.ChunkedArray") -> tuple[np.ndarray, list]:
        import pyarrow as pa

        if not pa.types.is_dictionary(series.type):
            series = series.dictionary_encode()
        cells = series.combine_chunks()
        if isinstance(cells, pa.ChunkedArray):  # no chunk, or too many strings for one
            cells = pa.concat_arrays(cells.chunks) if cells.num_chunks else pa.array([], cells.type)
        return cells.indices.cast("int64").fill_null(-1).to_numpy(), cells.dictionary.to_pylist()

    def frame(self, parts: FieldValues, n_rows: int, like: object) -> "pa.Table":
        import pyarrow as pa

        columns = [_arrow_array(field, values, _arrow_type(field.dtype)) for field, values in parts]
        return pa.Table.from_arrays(columns, names=[field.name for field, _ in parts])


def _arrow_array(field: Field, values: np.ndarray, dtype: "pa.DataType") -> "pa.Array":
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


def _arrow_type(text: str) -> "pa.DataType":
    import pyarrow as pa

    if match := re.fullmatch(r"timestamp\[(\w+), tz=(.*)\]", text):
        return pa.timestamp(match[1], match[2])
    if match := re.fullmatch(r"(decimal\d+)\((\d+), (-?\d+)\)", text):
        return getattr(pa, match[1])(int(match[2]), int(match[3]))
    if match := re.fullmatch(r"dictionary<values=(.*), indices=(.*), ordered=([01])>", text):
        return pa.dictionary(_arrow_type(match[2]), _arrow_type(match[1]), match[3] == "1")
    return pa.type_for_alias(text)


Library = _Pandas | _Polars | _Arrow
LIBRARIES: dict[str, Library] = {"pandas": _Pandas(), "polars": _Polars(), "pyarrow": _Arrow()}
