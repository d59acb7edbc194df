"""Anomaly scores from k-nearest neighbours (kNN) among reference rows."""

from dataclasses import dataclass

import numpy as np

from sklearn_vae.anomaly.rows import ScoredRows
from sklearn_vae.anomaly.scores import MAX_BATCH_CELLS, Scorer
from sklearn_vae.numerics.row_subsets import batches, spread_out
from sklearn_vae.persistence.validation import check_integer, serializable

# Largest number of rows, in mean distances, that are the reference.
MAX_REFERENCE = 2000
# Largest number of rows per query, which cannot be interrupted.
MAX_BATCH_ROWS = 1 << 10
# Largest number of coordinates for which neighbours are searched by a tree, as scikit-learn does.
MAX_TREE_DIMENSIONS = 15
# Ridge of the hyperplane, as a fraction of the neighbours' mean squared distance from their mean.
RIDGE = 0.3
# Distances that differ by less are equal but for rounding, in standard deviations and relative.
ROUNDING = 1e-13

# Coordinates of rows in which distances are computed.
SPACES = ("inputs", "normal_scores", "deviations")


@dataclass(frozen=True)
class NeighborScorer(Scorer):
    """Score by the nearest reference rows."""

    space: str  # coordinates in which distances are computed, one of ``SPACES``
    n_neighbors: int  # at least

    def check(self) -> None:
        """Validate the fields of a loaded scorer."""
        check_integer(self, "n_neighbors", self.n_neighbors)
        if self.space not in SPACES:
            raise ValueError(f"'space' must be one of {SPACES}. Got {self.space!r} instead.")

    def coordinates(self, rows: ScoredRows) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates of rows and of their reference: (n, f), (m, f)."""
        if len(rows.reference) < 2:
            raise ValueError("nearest neighbours need at least two reference rows")
        return getattr(rows, self.space), getattr(rows.reference, self.space)


@serializable
@dataclass(frozen=True)
class NeighborDistance(NeighborScorer):
    """Mean distance to half of the reference rows, the nearest ones.

    They are more than a group of outliers, which would be each other's neighbours. At most 2,000 of
    the rows are the reference, so that time is linear in the rows.
    """

    def score(self, rows: ScoredRows) -> np.ndarray:
        """Anomaly score of each row: (n,)."""
        from scipy.spatial.distance import cdist

        indices = spread_out(len(rows.reference), MAX_REFERENCE)
        x, reference = self.coordinates(rows)
        reference, n_reference, distances = reference[indices], len(indices), np.empty(len(x))
        k = min(max(self.n_neighbors, round(n_reference / 2)), n_reference - 1)
        for batch in batches(len(x), max(MAX_BATCH_CELLS // n_reference, 1)):
            of_batch = cdist(x[batch], reference)
            of_batch[rows.reference_indices[batch, None] == indices] = np.inf
            of_batch.partition(k - 1, axis=1)
            distances[batch] = of_batch[:, :k].mean(axis=1)
        return distances


@serializable
@dataclass(frozen=True)
class HyperplaneDistance(NeighborScorer):
    """Distance to the hyperplane through the k nearest reference rows [1]_, with a ridge.

    The ridge penalizes points of the hyperplane that are far from the neighbours' mean. If more
    reference rows are tied for the last of the k places than there are, all of them are taken, as
    their mean in each of these places: the distance does not depend on the order of the rows.

    References
    ----------
    .. [1] P. Vincent and Y. Bengio, "K-Local Hyperplane and Convex Distance Nearest
       Neighbor Algorithms", NeurIPS 2001.
    """

    def score(self, rows: ScoredRows) -> np.ndarray:
        """Anomaly score of each row: (n,)."""
        from sklearn import config_context
        from sklearn.neighbors import NearestNeighbors

        (x, reference), itself = self.coordinates(rows), rows.reference_indices
        # two more: the row itself, and one that may be tied with the last neighbour
        distances, n_found = np.empty(len(x)), min(self.n_neighbors + 2, len(reference))
        batch_size = min(max(MAX_BATCH_CELLS // (n_found * x.shape[1]), 1), MAX_BATCH_ROWS)
        # by a tree, ties do not depend on the other rows of the query
        is_wide = reference.shape[1] > MAX_TREE_DIMENSIONS
        with config_context(array_api_dispatch=False):
            tree = NearestNeighbors(n_neighbors=n_found, algorithm="auto" if is_wide else "kd_tree")
            tree.fit(reference)
            for batch in batches(len(x), batch_size):
                nearest = tree.kneighbors(x[batch], return_distance=False)
                neighbors = self._neighbors(x[batch], reference, itself[batch], nearest)
                distances[batch] = self.distance(x[batch], neighbors)
        return distances

    def _neighbors(
        self, x: np.ndarray, reference: np.ndarray, itself: np.ndarray, index: np.ndarray
    ) -> np.ndarray:
        """Coordinates of k of the nearest rows, with tied ones as their mean: (n, k, f).

        ``index`` (n, m) are the nearest rows, among which the row itself may be.
        """
        k = min(self.n_neighbors, len(reference) - 1)
        is_itself = index == itself[:, None]
        order = is_itself.argsort(axis=1, kind="stable")[:, :k]
        neighbors = reference[np.take_along_axis(index, order, axis=1)]
        radius = np.linalg.norm(neighbors[:, -1] - x, axis=1)
        excess = np.linalg.norm(reference[index] - x[:, None], axis=2) - radius[:, None]
        margin = ROUNDING * (1 + radius[:, None])
        is_within = (excess <= margin) & ~is_itself
        is_at_radius = is_within & (excess >= -margin)
        is_tied = (is_at_radius.sum(axis=1) > 1) & (is_within.sum(axis=1) > k)
        rows = np.flatnonzero(is_tied & (radius > ROUNDING))
        for batch in batches(len(rows), max(MAX_BATCH_CELLS // len(reference), 1)):
            tied = rows[batch]
            mean, n_closer = _mean_at(x[tied], reference, itself[tied], radius[tied])
            is_closer = np.arange(k) < n_closer[:, None]
            neighbors[tied] = np.where(is_closer[:, :, None], neighbors[tied], mean[:, None])
        return neighbors

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


def _mean_at(
    x: np.ndarray, reference: np.ndarray, itself: np.ndarray, radius: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the reference rows at a distance, and the number of closer ones: (n, f), (n,)."""
    # all squared distances by one product; their rounding errors are less than the margin
    square, bound = np.square(x).sum(axis=1), np.square(radius)
    excess = np.square(reference).sum(axis=1) - 2 * x @ reference.T
    excess += (square - bound)[:, None]
    margin = 4 * ROUNDING * (square + bound)[:, None]
    is_other = np.arange(len(reference)) != itself[:, None]
    weight = ((np.abs(excess) <= margin) & is_other).astype(float)
    n_closer = ((excess < -margin) & is_other).sum(axis=1)
    return weight @ reference / weight.sum(axis=1, keepdims=True), n_closer
