"""Rows of a table as numbers, and back."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sklearn_vae.data.arrays import has_missing_values
from sklearn_vae.data.encoder import TableEncoder
from sklearn_vae.data.fields import Field


class TableModel:
    """Base class: a model of the columns of a table.

    Rows are arrays of numbers, with NaN for missing values. If the model was fitted to a data
    frame with categories, rows are lists or object arrays, with the categories themselves.

    Parameters
    ----------
    columns : TableEncoder
        Encoder and decoder of rows.
    fields : sequence of Field or None
        Types of the columns, if rows hold anything but real numbers.
    handle_unknown : {"error", "infrequent", "missing"}
        Treatment of values that the model gives no probability.
    """

    def __init__(
        self,
        columns: TableEncoder,
        fields: Sequence[Field] | None,
        handle_unknown: str = "infrequent",
    ):
        self.columns, self.fields, self.handle_unknown = columns, fields, handle_unknown
        self.n_features_in_ = columns.n_features

    def _read(self, X: Any) -> np.ndarray:
        """Convert rows to numbers, with codes for categories: (n, n_features)."""
        table = np.asarray(X, dtype=np.float64 if self.fields is None else object)
        if table.ndim != 2 or table.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X must be of shape (n_samples, {self.n_features_in_}). Got shape {table.shape} "
                f"instead."
            )
        rows = table if self.fields is None else self._read_fields(table, self.fields)
        if np.isinf(rows).any():
            raise ValueError("X contains infinity.")
        if self.handle_unknown == "infrequent":
            return rows
        is_missing = self.handle_unknown == "missing"
        return self.columns.check_values(rows, unknown_is_missing=is_missing)

    def _read_fields(self, table: np.ndarray, fields: Sequence[Field]) -> np.ndarray:
        """Convert a table of objects to numbers: None and NaN are missing values."""
        rows = np.empty(table.shape)
        for j, (field, column) in enumerate(zip(fields, table.T, strict=True)):
            is_missing = np.array([value is None or value != value for value in column], dtype=bool)
            rows[is_missing, j] = np.nan
            values = column[~is_missing].tolist()
            if field.categories is None:
                rows[~is_missing, j] = values
            else:
                codes = np.arange(len(values))
                rows[~is_missing, j] = field.recode(codes, values, self.handle_unknown)
        return rows

    def _impute(self, X: Any, conditional_mean: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Replace missing values by decoded means of encoded rows: (n, n_features)."""
        rows, is_rounded = self._read(X).copy(), np.zeros(self.n_features_in_, dtype=bool)
        if self.fields is not None:
            is_rounded = np.array([field.logical_type != "number" for field in self.fields])
            is_categorical = np.array([field.categories is not None for field in self.fields])
            # unknown categories, which no table can hold
            rows = np.where(is_categorical & (rows < 0), np.nan, rows)
        incomplete = has_missing_values(rows)
        if incomplete.any():
            mean = conditional_mean(self.columns.transform(rows[incomplete]))
            rows[incomplete] = self.columns.fill_missing(rows[incomplete], mean, is_rounded)
        return self._write(rows)

    def _write(self, rows: np.ndarray) -> np.ndarray:
        """Convert numbers to values of the columns' types."""
        if self.fields is None:
            return rows
        table = np.empty(rows.shape, dtype=object)
        for j, field in enumerate(self.fields):
            table[:, j] = field.decode(rows[:, j], missing=np.nan)
        return table
