"""Columns of counts, of which the model's input is the square root."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from sklearn_vae.data.columns.base import MAX_ENCODED, Columns, cauchy_log_density
from sklearn_vae.data.training_column import TrainingColumn
from sklearn_vae.persistence.validation import check_array, serializable


@serializable
@dataclass(eq=False)
class CountColumns(Columns):
    """Counts, of which the model's input is the root, divided by a power of two."""

    bounds: np.ndarray  # (k, 2), smallest and largest count in ``fit``

    likelihoods: ClassVar[tuple[str, ...]] = ("Poisson", "NegativeBinomial")
    possible_values: ClassVar[str] = "whole numbers of 0 or more"

    @classmethod
    def fit(cls, column: TrainingColumn, likelihood: Any) -> Self:
        """Fit the unit: the power of two next to the root of the mean."""
        root = np.sqrt(np.average(column.values.astype(np.float64), weights=column.weights))
        unit = float(2.0 ** np.rint(np.log2(root)))
        bounds = np.array([[column.values.min(), column.values.max()]], dtype=np.float64)
        return cls(np.array([column.index]), replace(likelihood, unit=unit), bounds)

    def check(self) -> None:
        """Check the attributes, as after reading them from a file."""
        super().check()
        check_array("bounds", self.bounds, "f", (len(self.indices), 2))

    @classmethod
    def contradiction(cls, column: TrainingColumn) -> tuple[str, str] | None:
        """Return a value that is no count; None if all are."""
        values = column.values
        unseen = values[(values < 0) | (values != np.rint(values))]
        return (cls.possible_values, repr(unseen[0].item())) if len(unseen) else None

    def is_unseen(self, X: np.ndarray) -> np.ndarray:
        """Find negative numbers and fractions: (n, k) -> (n, k)."""
        return (X < 0) | ((np.rint(X) != X) & ~np.isnan(X))

    def nearest(self, X: np.ndarray) -> np.ndarray:
        """Return the nearest counts: (n, k) -> (n, k)."""
        return np.maximum(np.rint(X), 0)

    on_steps = nearest

    def log_unseen_density(self, X: np.ndarray, log_unseen: float) -> np.ndarray:
        """Log-density of negative numbers and fractions: (n, k) -> (n, k)."""
        return cauchy_log_density(X, log_unseen, self.likelihood.unit**2, self.likelihood.unit**2)

    def encode(self, X: np.ndarray) -> np.ndarray:
        """Take roots, divided by the unit: (n, k) -> (n, k)."""
        limit = MAX_ENCODED[X.dtype]
        roots = np.sqrt(np.maximum(X.astype(np.float64), 0)) / self.likelihood.unit
        return np.clip(roots, -limit, limit, out=roots)

    def decode(self, values: np.ndarray, *, rounds: np.ndarray, is_sample: bool) -> np.ndarray:
        """Square the roots; round counts with mask ``rounds`` (k,): (n, k) -> (n, k)."""
        with np.errstate(over="ignore"):
            counts = np.square(values * self.likelihood.unit)
        counts = np.where(rounds, np.rint(counts), counts)
        return self.within_bounds(counts) if is_sample else counts

    def within_bounds(self, X: np.ndarray) -> np.ndarray:
        """Clip counts to their range in ``fit``: (n, k) -> (n, k)."""
        return np.clip(X, *self.bounds.T)
