"""Values that stand for missing cells, replaced by NaN or null."""

from functools import partial
from typing import Any

import narwhals as nw
import numpy as np
from scipy.sparse import issparse

from sklearn_vae._compat import is_pandas_na, is_scalar_nan
from sklearn_vae.data.arrays import find_objects
from sklearn_vae.data.sources import as_source


def replace_by_nan(X: Any, missing_values: Any) -> Any:
    """Replace the value of missing cells by NaN, or by null in a data frame."""
    if missing_values is None or is_scalar_nan(missing_values) or is_pandas_na(missing_values):
        return X
    if (source := as_source(X)) is not None:
        return source.map(partial(replace_by_nan, missing_values=missing_values))
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
    if issparse(X) and missing_values != 0:
        X = X.tocsr() if X.format not in ("csr", "csc") else X.copy()
        X.sum_duplicates()
        X.data = replace_by_nan(X.data, missing_values)
        return X
    values = X.toarray() if issparse(X) else np.asarray(X)
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
    return not (isinstance(cell, bool | np.bool_) or is_pandas_na(cell)) and cell == value
