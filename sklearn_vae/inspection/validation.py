"""Validation of the displays' arguments."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import check_array


def check_components(components: Any, n_components: int, length: int | None = None) -> list[int]:
    """Latent dimensions as a list of distinct integers, of the given length if any."""
    expected = "integers" if length is None else f"{length} integers"
    is_scalar = isinstance(components, Integral) and not isinstance(components, bool)
    indices = [components] if is_scalar else list(components)
    is_length = length is None or len(indices) == length
    if not is_length or not indices or not all(isinstance(i, Integral) for i in indices):
        raise ValueError(f"components must be {expected}, or None. Got {components!r} instead.")
    if unknown := [int(i) for i in indices if not 0 <= i < n_components]:
        raise ValueError(
            f"components must be among 0 to {n_components - 1}, as the estimator has "
            f"{n_components}. Got {unknown[0]} in {components!r} instead."
        )
    if len(set(indices)) < len(indices):
        raise ValueError(f"components must differ. Got {components!r} instead.")
    return [int(i) for i in indices]


def as_numbers(name: str, X: Any) -> np.ndarray:
    """Rows as float64, NaN where a value is missing."""
    X = X.toarray() if issparse(X) else X
    try:
        return check_array(X, dtype=np.float64, ensure_all_finite="allow-nan", input_name=name)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a table of numbers to be drawn: {error}") from error


def check_row_index(row: Any, n_rows: int) -> int:
    """Index of a row, counted from the end if negative."""
    if row not in range(-n_rows, n_rows) or isinstance(row, bool):
        raise ValueError(
            f"row must be None or an integer from {-n_rows} to {n_rows - 1}. Got {row!r} instead."
        )
    return int(row)


def check_fraction(name: str, value: Any) -> None:
    """Raise an error unless the value lies between 0 and 1, exclusive."""
    if not isinstance(value, Real) or not 0 < float(value) < 1:
        raise ValueError(f"{name} must lie between 0 and 1. Got {value!r} instead.")


def column_names(feature_names: Sequence[str] | np.ndarray | None, n_columns: int) -> list[str]:
    """Feature names, or column numbers if there are none."""
    if feature_names is None:
        return [str(j) for j in range(n_columns)]
    if len(feature_names) != n_columns:
        raise ValueError(
            f"feature_names must have one name for each of {n_columns} columns. "
            f"Got {len(feature_names)} instead."
        )
    return [str(name) for name in feature_names]
