"""A fitted VAEOutlierDetector in numpy."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sklearn_vae.anomaly.calibration import ScoreLabels
from sklearn_vae.anomaly.knn import HyperplaneDistance, NeighborDistance
from sklearn_vae.anomaly.methods import CombinedScore, TailDistribution
from sklearn_vae.anomaly.rows import ScoredRows
from sklearn_vae.anomaly.scores import (
    ClassSurprisal,
    NegativeLogLikelihood,
    ReconstructionError,
    Scorer,
    score_in_batches,
)
from sklearn_vae.runtime.table import TableModel

# Parts of scores, by their names in a file.
SCORERS: dict[str, Any] = {
    part.__name__: part
    for part in (
        ClassSurprisal,
        CombinedScore,
        HyperplaneDistance,
        NegativeLogLikelihood,
        NeighborDistance,
        ReconstructionError,
        TailDistribution,
    )
}


@dataclass(eq=False, repr=False, kw_only=True)
class OutlierModel(ScoreLabels, TableModel):
    """A fitted :class:`~sklearn_vae.VAEOutlierDetector` that computes with numpy; see :func:`load`.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns of X.
    offset_ : float
        Threshold of the score: ``predict`` labels rows with lower scores -1.
    """

    scorer: Scorer
    reference: ScoredRows
    calibration_scores_: np.ndarray
    offset_: float
    are_new: bool

    def score_samples(self, X: Any) -> np.ndarray:
        """Normality score of each row, as ``VAEOutlierDetector.score_samples``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Scores in nats: higher is more normal.
        """
        return self.score_rows(self.read(X))

    def score_rows(self, X: np.ndarray) -> np.ndarray:
        """Normality score of rows of numbers, with codes for categories: (n,)."""
        reference = self.reference
        X = reference.match(X, self.fields)
        columns, model = reference.columns, reference.model
        scored = ScoredRows(X, columns, model, reference, are_new=self.are_new)
        return -score_in_batches(self.scorer.score, scored)
