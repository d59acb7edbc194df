"""Values that stand for missing cells, replaced by NaN or null."""

from functools import partial
from typing import Any

import narwhals as nw
import numpy as np

from sklearn_vae.data.arrays import find_objects, is_missing


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
