"""Tables of any library: types, arrays of numpy with missing cells as NaN; cells, also as text."""

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, time
from importlib.util import find_spec
from numbers import Real
from typing import Any, Protocol

import narwhals as nw
import numpy as np
from narwhals.typing import IntoDataFrame, IntoSeries
from numpy.typing import ArrayLike

# Libraries of frames, the preferred one first.
FRAMES = ("pandas", "polars", "pyarrow")


class SparseMatrix(Protocol):
    """Matrix or array of scipy."""

    def toarray(self) -> np.ndarray:
        """Return the dense array."""


# An array of any library, a list of rows, a sparse matrix, or a data frame.
Table = ArrayLike | IntoDataFrame | SparseMatrix
# A table, or a function that returns a new iterator of its batches.
Rows = Table | Callable[[], Iterable[Table]]
# A value for each row, or with several columns a table or a dict; None without one.
Target = ArrayLike | IntoSeries | IntoDataFrame | Mapping[Any, object] | None
# Weights of rows; None if they are equal.
Weights = ArrayLike | None


def as_array(X: Any, name: str = "X") -> Any:
    """Convert an array of another library, masked or sparse, or a frame as ``as_narwhals`` does."""
    if is_sparse(X):
        return X.toarray()
    torch = sys.modules.get("torch")
    if isinstance(X, np.ma.MaskedArray):
        if not np.ma.is_masked(X):
            return X.data
        missing = np.array("NaT", X.dtype) if X.dtype.kind in "mM" else np.nan
        cells = X.data if X.dtype.kind in "biufmM" else X.data.astype(object)
        return np.where(np.ma.getmaskarray(X), missing, cells)
    if torch is not None and isinstance(X, torch.Tensor):
        return (X.float() if X.dtype == torch.bfloat16 else X).numpy(force=True)
    if hasattr(X, "__array_namespace__") and not isinstance(X, np.ndarray):
        return np.asarray(X)
    return nw.to_native(as_narwhals(X, name), pass_through=True)


def as_narwhals(X: Any, name: str = "X") -> Any:
    """Wrap a data frame, with dense columns of different names; return all else as it is.

    Lazy tables, as of polars and dask, are refused. Record batches of pyarrow become tables.
    """
    first = X[0] if isinstance(X, list | tuple) and X else X
    if isinstance(first, Mapping) and not is_sparse(first):
        raise TypeError(
            f"{name} is or holds a dict of the keys {list(first)!r:.100}. Give a data frame, as of "
            f"pandas.DataFrame({name})."
        )
    if isinstance(X, np.ndarray | list):  # narwhals takes longer
        return X
    pa, pd = sys.modules.get("pyarrow"), sys.modules.get("pandas")
    if pa is not None and isinstance(X, pa.RecordBatch):
        X = pa.Table.from_batches([X])
    try:
        frame = nw.from_native(X, pass_through=True)
    except nw.exceptions.DuplicateError as error:
        raise ValueError(f"{name} has several columns of one name. {error}") from error
    if isinstance(frame, nw.LazyFrame):
        raise TypeError(f"{name} is a lazy table; call collect() or compute() on it first.")
    if pd is not None and isinstance(X, pd.DataFrame):
        types = {key: dtype for key, dtype in X.dtypes.items() if isinstance(dtype, pd.SparseDtype)}
        if types:
            return nw.from_native(X.astype({key: dtype.subtype for key, dtype in types.items()}))
    return frame


def is_sparse(X: Any) -> bool:
    """Return whether X is a sparse matrix; scipy is not imported."""
    return hasattr(X, "toarray")


def as_row(x: Any) -> Any:
    """Convert one row to a table of one row; a pandas Series keeps its names."""
    if isinstance(x, list | tuple) and not any(map(np.ndim, x)):
        return [list(x)]
    x = as_array(x)
    if np.ndim(x) != 1:
        return x
    return x.to_frame().T.infer_objects() if hasattr(x, "iloc") else np.reshape(x, (1, -1))


def is_missing(value: Any) -> bool:
    """Return whether an object is None, NaN, NaT or pandas.NA."""
    try:
        return value is None or bool(value != value)
    except TypeError:  # pandas.NA has no truth value
        return True


def is_finite(value: Any) -> bool:
    """Return whether a value is a finite number or NaN, or a text of one."""
    try:
        return not math.isinf(float(value))
    except (TypeError, ValueError, OverflowError):
        return False


def find_objects(is_found: Callable[[Any], bool], values: np.ndarray) -> np.ndarray:
    """Find the objects of an array that a function is true of: any shape -> the same shape.

    A ufunc of the function would warn of comparisons with NaN on Python 3.14.
    """
    return np.fromiter(map(is_found, values.flat), bool, values.size).reshape(values.shape)


def weighted_moments(x: np.ndarray, weights: np.ndarray | None) -> tuple[float, float]:
    """Mean and variance of values, with weights if any: (n,), (n,)."""
    mean = np.average(x, weights=weights)
    return mean, np.average(np.square(x - mean), weights=weights)


def within(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Clip values to bounds, of which NaN is none; missing values stay missing."""
    low, high = np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)
    return np.clip(values, low, high)


def replace_by_nan(X: Any, missing_values: Any) -> Any:
    """Replace the value of missing cells by NaN, or by null in a data frame."""
    if is_missing(missing_values):
        return X
    frame = as_narwhals(X)
    if isinstance(frame, nw.DataFrame):
        # by position: libraries read some names, as tuples and "*", as those of several columns
        names, positions = frame.columns, [str(j) for j in range(X.shape[1])]
        if is_pandas := nw.dependencies.is_pandas_dataframe(X):
            X_declared = X.apply(_without_category, value=missing_values)
            frame = nw.from_native(X_declared.set_axis(positions, axis=1))
        else:
            frame = frame.rename(dict(zip(names, positions, strict=True)))
        # of pandas, the category is left out by now
        texts = (nw.String,) if is_pandas else (nw.String, nw.Categorical, nw.Enum)
        is_text = isinstance(missing_values, str)
        replaced = frame.with_columns(
            nw.col(name).map_batches(lambda x: replace_by_nan(x.to_numpy(), missing_values))
            if dtype == nw.Object
            else nw.when(
                (nw.col(name).cast(nw.String) if is_text else nw.col(name)) != missing_values
            ).then(nw.col(name))
            for name, dtype in frame.schema.items()
            if dtype == nw.Object or (dtype in texts if is_text else dtype.is_numeric())
        )
        if is_pandas:
            return replaced.to_native().set_axis(X.columns, axis=1)
        return replaced.rename(dict(zip(positions, names, strict=True))).to_native()
    values = np.asarray(X)
    if values.dtype.kind in "mM":
        return X
    if values.dtype.kind in "USOT":
        values = np.array(X, dtype=object)  # numbers beside strings in a list stay numbers

        def is_value(cell: Any) -> bool:  # True is not 1, and pandas.NA not "?"
            is_other = isinstance(cell, bool | np.bool_) or is_missing(cell)
            return not is_other and cell == missing_values

        values[find_objects(is_value, values)] = None
        return values
    if values.dtype.kind in "iub":
        values = values.astype(np.float64)
    return np.where(missing_values == values, np.nan, values)


def _without_category(column: Any, value: Any) -> Any:
    """Leave a declared category out of a column of pandas; its cells become missing."""
    has_category = hasattr(column, "cat") and value in column.cat.categories
    return column.cat.remove_categories([value]) if has_category else column


def make_frame(columns: Mapping[str, Sequence[Any] | np.ndarray], like: Any = None) -> Any:
    """Make a data frame of the library of another one, else of the first library that is there.

    Columns of several types are objects in pandas, and texts elsewhere.
    """
    frame = as_narwhals(like)
    is_frame = isinstance(frame, nw.DataFrame)
    library: Any = frame.implementation.value if is_frame else next(filter(find_spec, FRAMES), None)
    if library is None:
        raise ImportError(
            f"A data frame needs one of {', '.join(FRAMES)}, and none is installed. "
            f"`pip install pandas` installs the first."
        )
    if library != "pandas":
        columns = {name: _one_type(list(values)) for name, values in columns.items()}
    return nw.from_dict(columns, backend=library).to_native()


def cells_of(X: Any, rows: Sequence[int], columns: Sequence[int]) -> list[Any]:
    """Return cells of a table of any library, by the positions of their rows and columns."""
    frame = as_narwhals(X)
    table = frame if isinstance(frame, nw.DataFrame) else np.asarray(as_array(X), dtype=object)
    cells = {j: table[:, j] for j in set(columns)}
    return [cells[j][i] for i, j in zip(rows, columns, strict=True)]


def _one_type(values: list[Any]) -> list[Any]:
    """Return values of one type; text in the place of several types."""
    values = [value.item() if isinstance(value, np.generic) else value for value in values]
    types = set(map(type, values))
    if len(types) <= 1:
        return values
    if types == {int, float}:
        return [*map(float, values)]
    return [None if is_missing(value) else format_value(value) for value in values]


def format_value(value: Any) -> str:
    """Write a cell as text in one line.

    Whole numbers below 10^15 are written in full, other numbers with four digits, or two decimal
    places above 1,000, times to seconds, and dates without a time.
    """
    if is_missing(value):
        return "missing"
    if isinstance(value, datetime):
        is_day = value.time() == time()
        return value.date().isoformat() if is_day else value.isoformat(sep=" ", timespec="seconds")
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        return " ".join(str(value).split())
    number = float(value)
    if number.is_integer() and abs(number) < 1e15:
        return str(int(number))
    return f"{number:.2f}" if 1e3 <= abs(number) < 1e15 else f"{number:.4g}"
