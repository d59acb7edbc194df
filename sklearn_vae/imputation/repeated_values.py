"""Values that repeat in columns of numbers, which draws are rounded to."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import check_array

# Rows per value, at least, and values of a column, at most: with more, rounding changes little.
MIN_ROWS_PER_VALUE = 4
MAX_VALUES = 1000


@serializable
@dataclass(frozen=True, eq=False)
class RepeatedValues:
    """The values of columns whose values repeat, as of a rating or a rounded measurement."""

    columns: np.ndarray  # (k,)
    values: list[np.ndarray]  # of each of these columns, in order

    @classmethod
    def fit(cls, X: np.ndarray, weight: np.ndarray | None, is_number: np.ndarray) -> Self:
        """Find the columns of the mask ``is_number`` (n_features,) whose observed values repeat."""
        columns, values = [], []
        for column in np.flatnonzero(is_number).tolist():
            observed = ~np.isnan(X[:, column])
            unique = np.unique(X[observed, column])
            n_rows = observed.sum() if weight is None else weight[observed].sum()
            if 0 < len(unique) <= min(MAX_VALUES, n_rows / MIN_ROWS_PER_VALUE):
                columns.append(column)
                values.append(unique)
        return cls(np.array(columns, dtype=int), values)

    def round(self, X: np.ndarray) -> np.ndarray:
        """Replace numbers of these columns by the nearest values: (..., n_features)."""
        rounded = X.copy()
        for column, values in zip(self.columns.tolist(), self.values, strict=True):
            midpoints = 0.5 * values[1:] + 0.5 * values[:-1]
            rounded[..., column] = values[np.searchsorted(midpoints, X[..., column])]
        return rounded

    def check(self) -> None:
        """Check the attributes, as after reading them from a file."""
        check_array("columns", self.columns, "i", (None,))
        for values in self.values:
            check_array("values", values, "f", (None,))
        if len(self.values) != len(self.columns) or any(
            not len(values) or (np.diff(values) <= 0).any() for values in self.values
        ):
            raise ValueError("each column must have 'values', in order")

    def check_columns(self, n_features: int) -> None:
        """Check that the columns are those of a table, after reading both from a file."""
        if not ((self.columns >= 0) & (self.columns < n_features)).all():
            raise ValueError(f"'columns' must be at least 0 and less than {n_features}")
