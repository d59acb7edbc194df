"""Columns of two values, and of one."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from sklearn_vae.data.columns.base import (
    CLASS_SQUARED_DISTANCE,
    Columns,
    in_coarser_dtype,
    is_category,
)
from sklearn_vae.data.fields import UNKNOWN
from sklearn_vae.data.training_column import ROUNDING, TrainingColumn
from sklearn_vae.persistence.validation import check_array, serializable

if TYPE_CHECKING:
    from sklearn_vae.likelihoods import Likelihood


@serializable
@dataclass(eq=False)
class BinaryColumns(Columns):
    """Two values, encoded as 0 and 1."""

    categories: np.ndarray  # (k, 2), lower and higher value, in the dtype of the rows in ``fit``

    likelihoods: ClassVar[tuple[str, ...]] = ("Bernoulli",)
    n_values: ClassVar[int] = 2

    @classmethod
    def fit(cls, column: TrainingColumn, likelihood: "Likelihood | None") -> Self:
        """Keep the two values."""
        values = column.values
        categories = np.array([[values.min(), values.max()]])
        return cls(np.array([column.index]), likelihood, categories)

    @classmethod
    def contradiction(cls, column: TrainingColumn) -> tuple[str, str] | None:
        """Return three values; None if there are two."""
        values = column.values
        low, high = values.min(), values.max()
        between = values[(values != low) & (values != high)]
        if not len(between):
            return None
        if column.field.categories is not None:  # the values are codes
            return "two values", f"{len(np.unique(values))} categories"
        text = f"{low.item()!r}, {between[0].item()!r} and {high.item()!r}"
        if low >= 0 and high <= 1:
            text += " (a share or a grey value: X > 0.5 has two values)"
        return "two values", text

    def check(self) -> None:
        """Check the attributes, as after reading them from a file."""
        super().check()
        shape = len(self.indices), self.n_values
        check_array("categories", self.categories, "f", shape, allows_nan=self.n_values == 1)

    def units(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the power of two, the lower value and the distance to the upper: (k,) each."""
        categories = self.categories.astype(np.float64)
        exponent = np.frexp(np.abs(np.nan_to_num(categories)).max(axis=1))[1]
        low, high = np.ldexp(categories[:, [0, -1]].T, -exponent)
        return exponent, low, np.where(high > low, high - low, 1.0)

    @property
    def distance_scale(self) -> float:
        """Distance of the two values."""
        return math.sqrt(CLASS_SQUARED_DISTANCE)

    def is_unseen(self, X: np.ndarray) -> np.ndarray:
        """Find values that are neither of the two: (n, k) -> (n, k)."""
        return ~(np.isnan(X) | is_category(X, self.categories))

    def replace_unseen(self, X: np.ndarray, allows_missing: bool) -> np.ndarray:
        """Replace unknown categories by NaN if the model allows it, not numbers: (n, k)."""
        unknown = (X == UNKNOWN) & self.is_unseen(X) & allows_missing
        return np.where(unknown, X.dtype.type(np.nan), X) if unknown.any() else X

    def values(self, column: int) -> np.ndarray:
        """Return the values of one column, by its index in ``indices``."""
        return self.categories[column]

    def _middle(self) -> np.ndarray:
        low, high = self.categories.T.astype(np.float64)
        return low / 2 + high / 2

    def encode(self, X: np.ndarray) -> np.ndarray:
        """Encode the nearer value as 0 or 1: (n, k) -> (n, k)."""
        return np.where(np.isnan(X), np.nan, X.astype(np.float64) > self._middle())

    def on_steps(self, X: np.ndarray) -> np.ndarray:
        """Return the nearer of the two values: (n, k) -> (n, k)."""
        if self.n_values == 1:
            return X
        return np.where(np.isnan(X), X, np.where(self._middle() < X, *self.categories.T[::-1]))

    def decode(self, values: np.ndarray, *, rounds: np.ndarray, is_sample: bool) -> np.ndarray:
        """Return means of the two values, or the nearer one: (n, k) -> (n, k)."""
        low, high = self.categories.T.astype(np.float64)
        X = low * (1 - values) + high * values  # each value without a rounding error
        return np.where(rounds, self.on_steps(X), X)


@serializable
@dataclass(eq=False)
class ConstantColumns(BinaryColumns):
    """One value, or none at all; the model has no input of it."""

    likelihoods: ClassVar[tuple[str, ...]] = ("NoneType",)
    n_values: ClassVar[int] = 1

    @classmethod
    def fit(cls, column: TrainingColumn, likelihood: "Likelihood | None") -> Self:
        """Keep the value; NaN if there is none."""
        values = column.values
        value = values[:1] if len(values) else np.full(1, np.nan, values.dtype)
        return cls(np.array([column.index]), likelihood, value[None])

    def is_unseen(self, X: np.ndarray) -> np.ndarray:
        """Find values that differ by more than rounding errors: (n, k) -> (n, k)."""
        X, categories = in_coarser_dtype(X, self.categories)
        with np.errstate(over="ignore"):
            is_seen = np.abs(X - categories.T) <= ROUNDING * np.abs(categories.T)
        return ~(np.isnan(X) | is_seen)

    def encode(self, X: np.ndarray) -> np.ndarray:
        """Encode nothing: (n, k) -> (n, 0)."""
        return np.empty((len(X), 0))

    def decode(self, values: np.ndarray, *, rounds: np.ndarray, is_sample: bool) -> np.ndarray:
        """Return the constants: (n, 0) -> (n, k)."""
        return np.repeat(self.categories.T, len(values), axis=0)
