"""Interface of anomaly scores: fitted to reference rows, higher for more anomalous rows."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Self

import numpy as np

from sklearn_vae.anomaly.rows import ScoredRows
from sklearn_vae.numerics.row_subsets import batches

# Largest number of codes and residuals in memory at once.
MAX_BATCH_CELLS = 1 << 20


class Scorer(ABC):
    """Interface of anomaly scores."""

    # Whether scores are logarithms, such as of a density, or positive numbers, such as distances.
    is_logarithmic: ClassVar[bool] = False

    def fit(self, rows: ScoredRows) -> Self:
        """Return a scorer fitted to reference rows; by default the scorer, which needs none."""
        return self

    def fit_score(self, rows: ScoredRows) -> tuple[Self, np.ndarray]:
        """Return a scorer fitted to reference rows, and their anomaly scores (n,)."""
        fitted = self.fit(rows)
        return fitted.correct(rows, score_in_batches(fitted.score, rows))

    def correct(self, rows: ScoredRows, scores: np.ndarray) -> tuple[Self, np.ndarray]:
        """Return a scorer that allows for how reference rows differ from new ones: it, (n,)."""
        return self, scores

    @abstractmethod
    def score(self, rows: ScoredRows) -> np.ndarray:
        """Anomaly score of each row, higher is more anomalous: (n,)."""


def score_in_batches(score: Callable[[ScoredRows], np.ndarray], rows: ScoredRows) -> np.ndarray:
    """Anomaly scores of rows by a function of a batch, computed in bounded memory: (..., n)."""
    batch_size = max(MAX_BATCH_CELLS // max(rows.X.shape[1], rows.columns.n_columns), 1)
    scores = [score(rows.select(batch)) for batch in batches(len(rows), batch_size)]
    return np.concatenate(scores, axis=-1)
