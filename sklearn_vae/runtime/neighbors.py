"""Anomaly scores from nearest neighbours, by distances to all reference rows."""

from typing import Literal

import numpy as np

from sklearn_vae.anomaly import knn
from sklearn_vae.row_subsets import batches

# Largest number of differences or distances in memory at once.
CHUNK_SIZE = 1 << 20


class BruteForce:
    """Mixin: neighbours in numpy, where the estimator has those of scipy and scikit-learn."""

    metric: Literal["euclidean", "manhattan"]

    def _search(self, reference: np.ndarray, n_neighbors: int) -> knn.Search:
        """Return a search of the reference rows (n_reference, f) for the nearest ones."""

        def find(x: np.ndarray) -> np.ndarray:
            indices = np.empty((len(x), n_neighbors), dtype=int)
            for batch in batches(len(x), max(CHUNK_SIZE // len(reference), 1)):
                distances = self._pairwise_distances(x[batch], reference)
                nearest = np.argpartition(distances, n_neighbors - 1)[:, :n_neighbors]
                row = np.arange(len(distances))[:, None]
                indices[batch] = nearest[row, distances[row, nearest].argsort(axis=1)]
            return indices

        return find

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


class NeighborDistance(BruteForce, knn.NeighborDistance):
    """Mean distance to the k nearest reference rows."""


class HyperplaneDistance(BruteForce, knn.HyperplaneDistance):
    """Distance to the hyperplane through the k nearest reference rows."""
