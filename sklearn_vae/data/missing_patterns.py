"""Patterns of missing values, of which samples with missing cells get theirs."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from sklearn_vae.numerics.row_subsets import spread_out
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import check_array

# Training rows whose patterns are kept, from all parts of the table.
MAX_ROWS = 1024


@serializable
@dataclass(frozen=True, eq=False)
class MissingPatterns:
    """Masks of missing values of training rows, and their frequencies.

    Attributes
    ----------
    masks : ndarray of shape (n_patterns, n_features), bool
        Masks of missing values.
    probability : ndarray of shape (n_patterns,)
        Frequency of each mask, by weight.
    """

    masks: np.ndarray
    probability: np.ndarray

    @classmethod
    def fit(cls, X: np.ndarray, sample_weight: np.ndarray | None) -> Self:
        """Find the patterns of rows (n, n_features)."""
        rows = spread_out(len(X), MAX_ROWS)
        masks, pattern = np.unique(np.isnan(X[rows]), axis=0, return_inverse=True)
        weight = np.ones(len(rows)) if sample_weight is None else sample_weight[rows]
        return cls(masks, np.bincount(pattern.ravel(), weight) / weight.sum())

    def draw(self, n_rows: int, generator: np.random.Generator) -> np.ndarray:
        """Draw masks: (n_rows, n_features)."""
        return self.masks[generator.choice(len(self.masks), n_rows, p=self.probability)]

    def check(self) -> None:
        """Check the attributes, as after reading them from a file."""
        check_array("masks", self.masks, "b", (None, None))
        check_array("probability", self.probability, "f", (len(self.masks),))
        if not (self.probability >= 0).all() or not abs(self.probability.sum() - 1) < 1e-6:
            raise ValueError("the probabilities of patterns must sum to 1")
