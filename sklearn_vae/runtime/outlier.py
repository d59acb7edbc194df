"""A fitted VAEOutlierDetector in numpy."""

from typing import Any

import numpy as np

from sklearn_vae.anomaly import knn, rows
from sklearn_vae.anomaly.base import MAX_BATCH_CELLS, Scorer, score_in_batches
from sklearn_vae.anomaly.calibration import ScoreLabels
from sklearn_vae.anomaly.combination import CombinedScore, TailDistribution
from sklearn_vae.anomaly.scores import NegativeLogLikelihood, ReconstructionError
from sklearn_vae.anomaly.surprisal import ClassSurprisal
from sklearn_vae.numerics.row_subsets import batches
from sklearn_vae.runtime.functions import ndtri
from sklearn_vae.runtime.table import TableModel
from sklearn_vae.runtime.transformer import TransformerModel

# Largest number of differences or distances in memory at once.
CHUNK_SIZE = 1 << 20


class NeighborDistance(knn.NeighborDistance):
    """Mean distance to neighbours in numpy, where the estimator has scipy."""

    def _pairwise_distances(self, x: np.ndarray) -> np.ndarray:
        """Distances of rows to all reference rows: (n, f) -> (n, n_reference)."""
        return _distances(x, self.reference)


class HyperplaneDistance(knn.HyperplaneDistance):
    """Distance to the hyperplane through neighbours, in numpy."""

    def _search(self, n_found: int) -> knn.Search:
        """Return a search that computes all distances; of ties, the first rows are nearest."""

        def find(x: np.ndarray) -> np.ndarray:
            indices = np.empty((len(x), n_found), dtype=int)
            for batch in batches(len(x), max(MAX_BATCH_CELLS // len(self.reference), 1)):
                distances = _distances(x[batch], self.reference)
                for position in range(n_found):
                    nearest = indices[batch, position] = distances.argmin(axis=1)
                    distances[np.arange(len(nearest)), nearest] = np.inf
            return indices

        return find


def _distances(x: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Distances of rows to reference rows: (n, f), (n_reference, f) -> (n, n_reference)."""
    distances = np.empty((len(x), len(reference)))
    for batch in batches(len(x), max(CHUNK_SIZE // reference.size, 1)):
        difference = x[batch, None] - reference
        distances[batch] = np.sqrt(np.einsum("nrf,nrf->nr", difference, difference))
    return distances


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


class Predictor:
    """The part of :class:`sklearn_vae.inference.predictor.Predictor` that anomaly scores use."""

    def __init__(self, model: TransformerModel):
        self.columns, self.vae, self.log_density = model.columns, model.vae, model.log_density

    def fill(self, X: np.ndarray) -> np.ndarray:
        """Replace missing values by those of the row's reconstruction: (n, n_features)."""
        mean = self.vae.reconstruct(self.columns.transform(X))
        return self.columns.fill_missing(X, mean, self.columns.has_discrete_values)

    def residuals(self, X: np.ndarray) -> np.ndarray:
        """Residuals of the first member's reconstructions, in the encoded units: (n, n_values)."""
        return self.vae.residuals(self.columns.transform(X))


class ScoredRows(rows.ScoredRows):
    """Rows that are scored relative to reference rows."""

    ndtri = staticmethod(ndtri)


class OutlierModel(ScoreLabels, TableModel):
    """A fitted :class:`~sklearn_vae.VAEOutlierDetector` that computes with numpy; see :func:`load`.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns of X.
    offset_ : float
        Threshold of the score: ``predict`` labels rows with lower scores -1.
    """

    def __init__(
        self,
        model: TransformerModel,
        scorer: Scorer,
        reference: ScoredRows,
        calibration_scores: np.ndarray,
        offset: float,
        *,
        are_new: bool,
    ):
        super().__init__(model.columns, model.fields)
        self.scorer, self.reference, self.are_new = scorer, reference, are_new
        self.calibration_scores_, self.offset_ = calibration_scores, offset

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
