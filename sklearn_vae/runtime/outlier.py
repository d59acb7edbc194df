"""A fitted VAEOutlierDetector in numpy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sklearn_vae.anomaly import knn, rows, scores
from sklearn_vae.anomaly.base import Scorer, score_in_batches
from sklearn_vae.anomaly.calibration import ScoreLabels
from sklearn_vae.anomaly.combination import CombinedScore, TailDistribution
from sklearn_vae.anomaly.frequencies import ClassSurprisal, NegativeLogFrequency
from sklearn_vae.anomaly.knn import deviations, inputs, normal_scores, residuals_and_codes
from sklearn_vae.data.fields import Field
from sklearn_vae.data.table_encoder import TableEncoder
from sklearn_vae.numerics.row_subsets import batches
from sklearn_vae.runtime.functions import ndtri
from sklearn_vae.runtime.random import TorchGenerator, sobol_normal
from sklearn_vae.runtime.table import TableModel
from sklearn_vae.runtime.vae import VAE, Architecture

# Largest number of differences or distances in memory at once.
CHUNK_SIZE = 1 << 20


class BruteForce(knn.NeighborDistance):
    """Neighbours in numpy, where the estimator has those of scipy and scikit-learn."""

    def _search(self, reference: np.ndarray, n_neighbors: int) -> knn.Search:
        """Return a search of the reference rows (n_reference, f) for the nearest ones."""
        return self._brute_force_search(reference, n_neighbors)

    def _pairwise_distances(self, x: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """Distances of rows to all reference rows: (n, f), (n_reference, f) -> (n, n_reference)."""
        distances = np.empty((len(x), len(reference)))
        for batch in batches(len(x), max(CHUNK_SIZE // reference.size, 1)):
            difference = x[batch, None] - reference
            if self.metric == "manhattan":
                distances[batch] = np.abs(difference).sum(-1)
            else:
                distances[batch] = np.sqrt(np.einsum("nrf,nrf->nr", difference, difference))
        return distances


class NeighborDistance(BruteForce):
    """Mean distance to the k nearest reference rows."""


class HyperplaneDistance(BruteForce, knn.HyperplaneDistance):
    """Distance to the hyperplane through the k nearest reference rows."""


class MaskedReconstructionError(scores.MaskedReconstructionError):
    """Absolute error of each value predicted from its row's other values."""

    @staticmethod
    def _permutation(n_values: int, seed: int) -> np.ndarray:
        return TorchGenerator(seed).permutation(n_values)


class ReconstructionError(scores.ReconstructionError):
    """Squared distance to the reconstruction."""

    _sobol_normal = staticmethod(sobol_normal)


# Parts of scores, by their names in a file.
SCORERS: dict[str, Any] = {
    part.__name__: part
    for part in (
        ClassSurprisal,
        CombinedScore,
        HyperplaneDistance,
        NegativeLogFrequency,
        MaskedReconstructionError,
        NeighborDistance,
        ReconstructionError,
        TailDistribution,
        deviations,
        inputs,
        normal_scores,
        residuals_and_codes,
    )
}


@dataclass(frozen=True)
class Predictor:
    """The part of :class:`sklearn_vae.inference.predictor.Predictor` that anomaly scores use."""

    columns: TableEncoder
    vae: VAE
    seed: int

    @property
    def architecture(self) -> Architecture:
        """Shapes of the weights."""
        return self.vae.architecture

    @property
    def n_members(self) -> int:
        """Number of autoencoders."""
        return self.vae.n_members

    def filled_inputs(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Encode rows, missing values imputed, and a mask of these: (n, n_columns) each."""
        encoded = self.columns.transform(X)
        return self.vae.fill_missing(encoded), np.isnan(encoded)

    def codes_and_residuals(
        self, X: np.ndarray, shift: np.ndarray | None = None, mask: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Codes (M, n, l) and residuals (M, n, n_values) of each member, in encoded units."""
        return self.vae.codes_and_residuals(self.columns.transform(X), shift, mask)


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
        columns: TableEncoder,
        fields: Sequence[Field] | None,
        scorer: Scorer,
        reference: ScoredRows,
        calibration_scores: np.ndarray,
        offset: float,
        *,
        are_new: bool,
    ):
        super().__init__(columns, fields)
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
        scored = ScoredRows(X, reference.predictor, reference, are_new=self.are_new)
        return -score_in_batches(self.scorer.score, scored)
