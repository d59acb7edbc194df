"""Rows of a table as numbers, and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sklearn_vae.data.arrays import as_array
from sklearn_vae.data.fields import Field, check_column_names, nearest_possible
from sklearn_vae.data.frames import cells_of
from sklearn_vae.data.reading import read_table
from sklearn_vae.data.schema import Schema
from sklearn_vae.data.table_encoder import TableEncoder


def check_shape(shape: tuple[int, ...], n_columns: int) -> None:
    """Raise an error unless there are rows, of so many columns."""
    if len(shape) != 2 or shape[1] != n_columns or not shape[0]:
        raise ValueError(
            f"X must be of shape (n_samples, {n_columns}), with 1 sample or more. "
            f"Got shape {shape} instead."
        )


@dataclass(eq=False, repr=False, kw_only=True)
class TableModel:
    """Base class: a model of the columns of a table.

    Rows are arrays of numbers, with NaN for missing values. If the model was fitted to a data
    frame with categories or dates, rows are lists, object arrays or data frames of these.

    Attributes
    ----------
    columns : TableEncoder
        Encoder and decoder of rows.
    schema : Schema
        Types of the columns.
    handle_unknown : {"error", "infrequent", "missing"}
        Treatment of values that the model gives no probability.
    """

    columns: TableEncoder
    schema: Schema
    handle_unknown: str = "infrequent"

    @property
    def n_features_in_(self) -> int:
        """Number of columns of X."""
        return self.columns.n_features

    @property
    def fields(self) -> Sequence[Field]:
        """Types of the columns."""
        return self.schema.fields

    def read(self, X: Any) -> np.ndarray:
        """Convert rows to numbers, with codes for categories: (n, n_features)."""
        table = read_table(as_array(X))
        if table.names is not None:
            check_column_names("X", table.names, self.columns.names, "X in fit")
        check_shape(table.shape, self.n_features_in_)
        rows = self.schema.transform(table, handle_unknown=self.handle_unknown)
        if np.isinf(rows).any():
            raise ValueError("X contains infinity.")
        if self.handle_unknown == "infrequent":
            return rows
        unknown_is_missing = self.handle_unknown == "missing"
        return self.columns.check_values(rows, self.fields, unknown_is_missing=unknown_is_missing)

    def write(self, rows: np.ndarray, observed: np.ndarray | bool = False) -> np.ndarray:
        """Convert numbers to values of the columns' types; dates with a time zone are in UTC.

        Cells of the mask ``observed`` are not computed.
        """
        if all(field.is_real for field in self.fields):
            return rows
        rows = nearest_possible(rows, self.fields, self.columns.is_positive, observed)
        return self.schema.to_objects(rows)

    def write_imputed(self, imputed: np.ndarray, rows: np.ndarray, X: Any) -> np.ndarray:
        """Convert imputed rows (n, n_features), with texts of X that were not in fit."""
        observed = ~np.isnan(rows[:, : self.n_features_in_])
        if self.schema.container != "array":
            imputed = np.where(observed, imputed, self.columns.on_steps(imputed))
        table = self.write(imputed, observed)
        is_text = np.array([field.holds_any_text for field in self.fields])
        unknown = np.nonzero(is_text & (rows[:, : self.n_features_in_] < 0))
        if len(unknown[0]):
            table[unknown] = cells_of(X, *(indices.tolist() for indices in unknown))
        return table
