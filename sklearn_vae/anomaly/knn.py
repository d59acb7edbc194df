"""Anomaly scores from k-nearest neighbours (kNN) among reference rows."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import FunctionType
from typing import ClassVar, Self

import numpy as np

from sklearn_vae.anomaly.base import MAX_BATCH_CELLS, Scorer
from sklearn_vae.anomaly.rows import ScoredRows
from sklearn_vae.numerics.row_subsets import batches, spread_out
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import check_array, check_integer

# Largest number of rows per query, which cannot be interrupted.
MAX_BATCH_ROWS = 1 << 10
# Largest number of coordinates of reference rows that are compared with one row after the other.
MAX_CACHED_NUMBERS = 1 << 16
# Largest number of coordinates for which neighbours are searched by a tree, as scikit-learn does.
MAX_TREE_DIMENSIONS = 15
# Largest number of reference rows of which a fraction are the neighbours.
MAX_FRACTION_REFERENCE = 2000
# Ridge of the hyperplane, as a fraction of the neighbours' mean squared distance from their mean.
RIDGE = 0.3
# Distances that differ by less are equal but for rounding, in standard deviations and relative.
ROUNDING = 1e-13

Space = Callable[[ScoredRows], np.ndarray]  # rows -> (n, f)
Search = Callable[[np.ndarray], np.ndarray]  # (n, f) -> indices (n, n_neighbors), nearest first


@serializable
def inputs(rows: ScoredRows) -> np.ndarray:
    """Standardized rows: (n, n_inputs)."""
    return rows.inputs


@serializable
def normal_scores(rows: ScoredRows) -> np.ndarray:
    """Standardized rows with normal scores in place of numbers: (n, n_inputs)."""
    return rows.normal_scores


@serializable
def deviations(rows: ScoredRows) -> np.ndarray:
    """Deviations from medians, in standard deviations or normal scores: (n, n_inputs)."""
    return rows.deviations


@serializable
@dataclass(frozen=True)
class NeighborDistance(Scorer):
    """Mean distance to the k nearest reference rows.

    Attributes
    ----------
    space : callable
        Coordinates in which distances are computed.
    min_neighbors, fraction : int, float
        k is this fraction of the reference rows, and at least ``min_neighbors``. With a fraction,
        at most 2,000 of the rows are the reference, so that time is linear in the rows.
    index : ndarray of shape (n + 1,)
        Index of each row within ``reference``, -1 for rows that are not part of it, and at the
        end for new rows.
    reference : ndarray of shape (n_reference, f)
        Coordinates of the reference rows.
    counts : ndarray of shape (n_reference,)
        Multiplicity of each reference row.
    """

    space: Space
    min_neighbors: int
    fraction: float = 0.0
    index: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=int), repr=False)
    reference: np.ndarray = field(default_factory=lambda: np.empty((0, 0)), repr=False)
    counts: np.ndarray | None = field(default=None, repr=False)
    # rows that are found beside the neighbours: one of them may be the row itself
    _n_more: ClassVar[int] = 1

    def check(self) -> None:
        """Validate the fields of a loaded scorer."""
        check_integer(self, "min_neighbors", self.min_neighbors)
        check_array("reference", self.reference, "f", (None, None))
        check_array("index", self.index, "i", (None,))
        n_reference, n_dimensions = self.reference.shape
        is_index = (self.index >= -1).all() and (self.index < n_reference).all()
        if not 0 <= self.fraction <= 1 or not is_index or not isinstance(self.space, FunctionType):
            raise ValueError("the nearest neighbours must be a fraction of the reference rows")
        is_fitted, n_rows = len(self.index) > 0, n_reference
        if self.counts is not None:
            check_array("counts", self.counts, "i", (n_reference,))
            n_rows = int(self.counts.sum()) if (self.counts > 0).all() else 0
        if is_fitted and min(n_rows - 1, n_dimensions) < 1:
            raise ValueError("the reference has too few rows for nearest neighbours")
        max_cells = max(2 * MAX_BATCH_CELLS, n_reference * n_dimensions)
        if self._n_neighbors(n_rows) * n_dimensions > max_cells:
            raise ValueError("the reference rows have too large counts")

    def fit(self, rows: ScoredRows) -> Self:
        """Return a scorer whose reference are the rows, or some of them with a fraction."""
        indices = spread_out(len(rows), MAX_FRACTION_REFERENCE if self.fraction else len(rows))
        index = np.full(len(rows) + 1, -1)
        index[indices] = np.arange(len(indices))
        counts = None if rows.counts is None else rows.counts[indices]
        return replace(self, index=index, reference=self.space(rows)[indices], counts=counts)

    def score(self, rows: ScoredRows) -> np.ndarray:
        """Anomaly score of each row: (n,)."""
        if len(self.index) != len(rows.reference) + 1:
            raise ValueError("the scorer was fitted to other reference rows")
        x, reference, itself = self.space(rows), self.reference, self.index[rows.reference_indices]
        k = self._n_neighbors(len(reference) if self.counts is None else int(self.counts.sum()))
        if not self.fraction:
            return self._nearest_distance(x, itself, reference, k)
        distances = np.empty(len(x))
        for batch in batches(len(x), max(MAX_BATCH_CELLS // len(reference), 1)):
            distances[batch] = self._mean_distance(x[batch], itself[batch], reference, k)
        return distances

    def _n_neighbors(self, n_rows: int) -> int:
        """Return k for so many reference rows, one of which may be the query itself."""
        return min(max(self.min_neighbors, round(self.fraction * n_rows)), n_rows - 1)

    def _nearest_distance(
        self, x: np.ndarray, itself: np.ndarray, reference: np.ndarray, k: int
    ) -> np.ndarray:
        """Distance of rows (n, f) to few neighbours: (n,)."""
        distances = np.empty(len(x))
        n_found = min(k + self._n_more, len(reference))
        find = self._search(reference, n_found)
        batch_size = min(max(MAX_BATCH_CELLS // (n_found * x.shape[1]), 1), MAX_BATCH_ROWS)
        for batch in batches(len(x), batch_size):
            neighbors = self._neighbors(x[batch], itself[batch], reference, find(x[batch]), k)
            distances[batch] = self.distance(x[batch], neighbors)
        return distances

    def _neighbors(
        self, x: np.ndarray, itself: np.ndarray, reference: np.ndarray, index: np.ndarray, k: int
    ) -> np.ndarray:
        """Coordinates of k of the neighbours with these indices (n, m): (n, f) -> (n, k, f)."""
        return reference[self._repeat(index, itself, k)]

    def _search(self, reference: np.ndarray, n_neighbors: int) -> Search:
        """Return a search of the reference rows (n_reference, f) for the nearest ones."""
        from sklearn import config_context
        from sklearn.neighbors import NearestNeighbors

        # by a tree, ties do not depend on the other rows of the query
        algorithm = "auto" if reference.shape[1] > MAX_TREE_DIMENSIONS else "kd_tree"
        with config_context(array_api_dispatch=False):
            tree = NearestNeighbors(n_neighbors=n_neighbors, algorithm=algorithm).fit(reference)

        def find(x: np.ndarray) -> np.ndarray:
            with config_context(array_api_dispatch=False):
                indices: np.ndarray = tree.kneighbors(x, return_distance=False)
            return indices

        return find

    def _pairwise_distances(self, x: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """Distances of rows to all reference rows: (n, f), (n_reference, f) -> (n, n_reference)."""
        from scipy.spatial.distance import cdist

        batch_size = MAX_CACHED_NUMBERS // reference.shape[1]
        if batch_size >= len(reference):
            return cdist(x, reference)
        distances = np.empty((len(x), len(reference)))
        for batch in batches(len(reference), max(batch_size, 1)):
            distances[:, batch] = cdist(x, reference[batch])
        return distances

    def _mean_distance(
        self, x: np.ndarray, itself: np.ndarray, reference: np.ndarray, k: int
    ) -> np.ndarray:
        """Mean distance of rows (n, f) to many neighbours, from all distances: (n,)."""
        distances = self._pairwise_distances(x, reference)
        if self.counts is not None:
            nearest = self._repeat(distances.argsort(axis=1), itself, k)
            return np.take_along_axis(distances, nearest, axis=1).mean(axis=1)
        is_reference = np.flatnonzero(itself >= 0)
        distances[is_reference, itself[is_reference]] = np.inf
        distances.partition(k - 1, axis=1)
        return distances[:, :k].mean(axis=1)

    def _repeat(self, neighbors: np.ndarray, itself: np.ndarray, k: int) -> np.ndarray:
        """Repeat neighbours by their counts, nearest first, until there are k: (n, k)."""
        cumulative = self._count(neighbors, itself).cumsum(axis=1)
        n_copies = np.diff(np.minimum(cumulative, k), prepend=0)
        return np.repeat(neighbors.ravel(), n_copies.ravel()).reshape(-1, k)

    def _count(self, neighbors: np.ndarray, itself: np.ndarray) -> np.ndarray:
        """Multiplicity of each neighbour, without the row itself: (n, n_neighbors)."""
        counts = 1 if self.counts is None else self.counts[neighbors]
        return counts - (neighbors == itself[:, None])

    def distance(self, x: np.ndarray, neighbors: np.ndarray) -> np.ndarray:
        """Mean distance of rows (n, f) to their neighbours (n, k, f): (n,)."""
        # not the tree's distances, which may depend on the other rows of the query
        difference = neighbors - x[:, None]
        return np.sqrt(np.square(difference).sum(axis=2)).mean(axis=1)


@serializable
@dataclass(frozen=True)
class HyperplaneDistance(NeighborDistance):
    """Distance to the hyperplane through the k nearest reference rows [1]_, with a ridge.

    The ridge penalizes points of the hyperplane that are far from the neighbours' mean. If more
    reference rows are tied for the last of the k places than there are, all of them are taken, as
    their mean in each of these places: the distance does not depend on the order of the rows.

    References
    ----------
    .. [1] P. Vincent and Y. Bengio, "K-Local Hyperplane and Convex Distance Nearest
       Neighbor Algorithms", NeurIPS 2001.
    """

    _n_more: ClassVar[int] = 2  # the row itself, and one that may be tied with the last neighbour

    def _neighbors(
        self, x: np.ndarray, itself: np.ndarray, reference: np.ndarray, index: np.ndarray, k: int
    ) -> np.ndarray:
        """Coordinates of the k neighbours of rows, with tied ones as their mean: (n, k, f)."""
        neighbors = super()._neighbors(x, itself, reference, index, k)
        radius = np.linalg.norm(neighbors[:, -1] - x, axis=1)
        excess = np.linalg.norm(reference[index] - x[:, None], axis=2) - radius[:, None]
        margin = ROUNDING * (1 + radius[:, None])
        count = self._count(index, itself)
        is_at_radius = (np.abs(excess) <= margin) & (count > 0)
        n_within = (count * (excess <= margin)).sum(axis=1)
        is_tied = (is_at_radius.sum(axis=1) > 1) & (n_within > k) & (radius > ROUNDING)
        rows = np.flatnonzero(is_tied)
        for batch in batches(len(rows), max(MAX_BATCH_CELLS // len(reference), 1)):
            tied = rows[batch]
            mean, n_closer = self._mean_at(x[tied], itself[tied], reference, radius[tied])
            is_closer = np.arange(k) < n_closer[:, None]
            neighbors[tied] = np.where(is_closer[:, :, None], neighbors[tied], mean[:, None])
        return neighbors

    def _mean_at(
        self, x: np.ndarray, itself: np.ndarray, reference: np.ndarray, radius: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean of the reference rows at a distance, and the number of closer ones: (n, f), (n,)."""
        # all squared distances by one product; their rounding errors are less than the margin
        square, bound = np.square(x).sum(axis=1), np.square(radius)
        excess = np.square(reference).sum(axis=1) - 2 * x @ reference.T
        excess += (square - bound)[:, None]
        margin = 4 * ROUNDING * (square + bound)[:, None]
        counts = np.ones(len(reference)) if self.counts is None else self.counts.astype(float)
        is_itself = np.arange(len(reference)) == itself[:, None]
        weight = counts * (np.abs(excess) <= margin) * ~is_itself
        n_closer = (excess < -margin) @ counts - (is_itself & (excess < -margin)).sum(axis=1)
        return weight @ reference / weight.sum(axis=1, keepdims=True), n_closer

    def distance(self, x: np.ndarray, neighbors: np.ndarray) -> np.ndarray:
        """Distance of rows (n, f) to the hyperplane through their neighbours (n, k, f): (n,)."""
        mean = neighbors.mean(axis=1)
        basis, residual = neighbors - mean[:, None], x - mean
        gram = basis @ basis.transpose(0, 2, 1)  # (n, k, k)
        ridge = RIDGE * np.trace(gram, axis1=1, axis2=2) / gram.shape[1]
        # identical neighbours span nothing, but for rounding errors of their mean
        smallest = np.square(ROUNDING * (1 + np.linalg.norm(mean, axis=1)))
        ridge = np.where(ridge > smallest, ridge, 1)
        gram += ridge[:, None, None] * np.eye(gram.shape[1])
        coefficients = np.linalg.solve(gram, basis @ residual[:, :, None])  # (n, k, 1)
        return np.linalg.norm(residual - (basis * coefficients).sum(axis=1), axis=1)
