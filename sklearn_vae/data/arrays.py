"""Input of any array library as numpy arrays, with missing cells as NaN."""

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import narwhals as nw
import numpy as np

from sklearn_vae.numerics.row_subsets import small_batches

# Larger sparse matrices are made dense in single precision.
MAX_SPARSE_IN_DOUBLE = 1 << 15


def as_array(X: Any) -> Any:
    """Convert an array of another library or a masked one, or a data frame as ``as_frame`` does.

    Masked cells are missing values, and sparse matrices become dense, large ones in single
    precision. Other types are returned as they are.
    """
    if is_sparse(X):
        is_large = np.prod(X.shape) > MAX_SPARSE_IN_DOUBLE
        return (X.astype(np.float32) if is_large else X).toarray()
    torch = sys.modules.get("torch")
    if isinstance(X, np.ma.MaskedArray):
        return _fill_masked(X)
    if torch is not None and isinstance(X, torch.Tensor):
        return (X.float() if X.dtype == torch.bfloat16 else X).numpy(force=True)
    if hasattr(X, "__array_namespace__") and not isinstance(X, np.ndarray):
        return np.asarray(X)
    return as_frame(X)


def as_single(x: np.ndarray) -> np.ndarray:
    """Round to single precision; numbers that are too large become infinite."""
    with np.errstate(over="ignore"):
        return x.astype(np.float32)


def array_of_list(values: Any) -> np.ndarray:
    """Convert a list, or a list of rows; numbers and None beside strings are not text."""
    array = np.asarray(values)
    return np.asarray(values, dtype=object) if array.dtype.kind in "US" else array


def as_frame(X: Any) -> Any:
    """Convert what narwhals does not read: record batches of pyarrow, sparse columns of pandas.

    Lazy tables, as of polars and dask, are refused.
    """
    if isinstance(X, np.ndarray | list):
        return X
    with suppress(nw.exceptions.DuplicateError):  # ``as_narwhals`` says whose columns they are
        if isinstance(nw.from_native(X, pass_through=True), nw.LazyFrame):
            raise TypeError("X is a lazy table; call collect() or compute() on it first.")
    pa, pd = sys.modules.get("pyarrow"), sys.modules.get("pandas")
    if pa is not None and isinstance(X, pa.RecordBatch):
        return pa.Table.from_batches([X])
    if pd is None or not isinstance(X, pd.DataFrame):
        return X
    sparse = [j for j, dtype in enumerate(X.dtypes) if isinstance(dtype, pd.SparseDtype)]
    if not sparse:
        return X
    X = X.copy(deep=False)
    for j in sparse:  # by index, since names may be duplicated
        X.isetitem(j, X.iloc[:, j].sparse.to_dense())
    return X


def as_narwhals(X: Any, name: str = "X") -> Any:
    """Wrap a data frame, whose columns must have different names; return all else as it is."""
    if isinstance(X, np.ndarray | list):  # narwhals takes longer
        return X
    try:
        return nw.from_native(X, pass_through=True)
    except nw.exceptions.DuplicateError as error:
        raise ValueError(f"{name} has several columns of one name. {error}") from error


def is_sparse(X: Any) -> bool:
    """Return whether X is a sparse matrix; scipy is not imported."""
    return hasattr(X, "toarray")


def _fill_masked(X: np.ma.MaskedArray) -> np.ndarray:
    """Replace masked cells by NaN, if there are any."""
    if not np.ma.is_masked(X):
        return X.data
    if X.dtype.kind in "mM":
        return np.where(np.ma.getmaskarray(X), np.array("NaT", X.dtype), X.data)
    cells = X.data if X.dtype.kind in "biuf" else X.data.astype(object)
    return np.where(np.ma.getmaskarray(X), np.nan, cells)


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


def find_objects(is_found: Callable[[Any], bool], values: np.ndarray) -> np.ndarray:
    """Find the objects of an array that a function is true of: any shape -> the same shape.

    A ufunc of the function would warn of comparisons with NaN on Python 3.14.
    """
    return np.fromiter(map(is_found, values.flat), bool, values.size).reshape(values.shape)


def has_missing_values(X: np.ndarray) -> np.ndarray:
    """Find rows with missing values: (n, d) -> (n,)."""
    has_missing = np.empty(len(X), dtype=bool)
    for rows in small_batches(X):
        has_missing[rows] = np.isnan(X[rows]).any(axis=1)
    return has_missing


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
    frame = nw.from_native(X, pass_through=True)
    if isinstance(frame, nw.DataFrame):
        if nw.dependencies.is_pandas_dataframe(X):
            frame = nw.from_native(X.apply(_without_category, value=missing_values))
        return frame.with_columns(
            nw.col(name).map_batches(lambda x: replace_by_nan(x.to_numpy(), missing_values))
            if dtype == nw.Object
            else nw.when(nw.col(name) != missing_values).then(nw.col(name)).alias(name)
            for name, dtype in frame.schema.items()
            if _may_hold(dtype, missing_values)
        ).to_native()
    values = np.asarray(X)
    if values.dtype.kind in "mM":
        return X
    if values.dtype.kind in "USOT":
        values = np.array(X, dtype=object)  # numbers beside strings in a list stay numbers
        values[find_objects(partial(_is_equal, value=missing_values), values)] = None
        return values
    if values.dtype.kind in "iub":
        values = values.astype(np.float64)
    return np.where(missing_values == values, np.nan, values)


def _without_category(column: Any, value: Any) -> Any:
    """Leave a declared category out of a column of pandas; its cells become missing."""
    has_category = hasattr(column, "cat") and value in column.cat.categories
    return column.cat.remove_categories([value]) if has_category else column


def _may_hold(dtype: nw.dtypes.DType, value: Any) -> bool:
    """Return whether a column of this dtype can hold the value, which is no declared category."""
    if isinstance(value, str):
        return isinstance(dtype, nw.String | nw.Categorical | nw.Object)
    return dtype.is_numeric() or dtype == nw.Object


def _is_equal(cell: Any, value: Any) -> bool:
    """Return whether a Python object is this value: True is not 1, and ``pandas.NA`` not "?"."""
    return not (isinstance(cell, bool | np.bool_) or is_missing(cell)) and cell == value
