"""Surprisal of a row's classes given its other columns."""

from dataclasses import dataclass

import numpy as np

from sklearn_vae.anomaly.base import MAX_BATCH_CELLS, Scorer
from sklearn_vae.anomaly.rows import ScoredRows, one_hot
from sklearn_vae.numerics.row_subsets import batches
from sklearn_vae.persistence.registry import serializable

# Bandwidth of the kernel of classes, as a fraction of the mean squared distance, and at least.
BANDWIDTH_FRACTION = 0.05
MIN_BANDWIDTH = 0.01
# Weight of a class's frequency among all reference rows.
MARGINAL_WEIGHT = 0.05
# Squared distance of rows that differ in one class, the mean one of two standardized numbers.
CLASS_SQUARED_DISTANCE = 2.0
# Smallest probability with a logarithm.
TINY = 1e-300


@serializable
@dataclass(frozen=True)
class ClassSurprisal(Scorer):
    """Surprisal of a row's classes given its other columns, in excess of the entropy, in nats.

    The surprisal of a class is -log p(x_j | the other columns), and the entropy its expectation.
    Positive excesses are summed over the columns of Booleans and of at most 128 categories;
    without such columns the score is 0. Probabilities are frequencies among reference rows that
    are weighted by a Gaussian kernel of the distance in the other columns [1]_. A missing value
    is a class.

    References
    ----------
    .. [1] E. A. Nadaraya, "On Estimating Regression", Theory of Probability and Its Applications
       9, 1964.
    """

    def score(self, rows: ScoredRows) -> np.ndarray:
        """Anomaly score of each row: (n,)."""
        score, n_columns = np.zeros(len(rows)), len(rows.reference.class_columns)
        if not n_columns:
            return score
        reference, frequencies = rows.reference.class_reference, self._frequencies(rows)
        x, codes = rows.numbers, one_hot(rows.classes, reference.levels)
        ends = np.cumsum([len(levels) for levels in reference.levels])[:-1]
        for batch in batches(len(rows), max(MAX_BATCH_CELLS // len(reference.indices), 1)):
            is_other = reference.indices != rows.reference_indices[batch, None]
            distance = _squared_distance(x[batch], reference.numbers)
            distance += CLASS_SQUARED_DISTANCE * (n_columns - codes[batch] @ reference.codes.T)
            n_rows = np.maximum(is_other.sum(axis=1), 1)  # a row may be its own reference alone
            mean = (is_other * distance).sum(axis=1) / n_rows
            bandwidth = np.maximum(BANDWIDTH_FRACTION * mean, MIN_BANDWIDTH)[:, None]
            weight = (is_other * np.exp(-distance / bandwidth)) @ reference.codes
            # rows of other classes are nearer without the column
            weight *= np.where(codes[batch], 1, np.exp(CLASS_SQUARED_DISTANCE / bandwidth))
            parts = (np.split(part, ends, axis=1) for part in (weight, codes[batch]))
            for share, is_own, frequency in zip(*parts, frequencies[batch].T, strict=True):
                share = share / np.maximum(share.sum(axis=1, keepdims=True), TINY)
                probability = (1 - MARGINAL_WEIGHT) * (share * is_own).sum(axis=1)
                surprisal = -np.log(probability + MARGINAL_WEIGHT * frequency)
                entropy = -(share * np.log(np.maximum(share, TINY))).sum(axis=1)
                score[batch] += np.maximum(surprisal - entropy, 0)
        return score

    @staticmethod
    def _frequencies(rows: ScoredRows) -> np.ndarray:
        """Frequency of each class of rows in its column, without the row itself: (n, k).

        One row more is divided among the column's classes and a new one.
        """
        is_reference = rows.reference_indices >= 0
        frequencies = np.empty(rows.classes.shape)
        for j, column in enumerate(rows.reference.class_columns):
            counts = rows.reference.value_counts[column][1]
            count = np.maximum(np.append(counts, 0)[rows.classes[:, j]] - is_reference, 0)
            n_others = counts.sum() - is_reference
            frequencies[:, j] = (count + 1 / (len(counts) + 1)) / (n_others + 1)
        return frequencies


def _squared_distance(x: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Squared distances of rows to reference rows: (n, f), (m, f) -> (n, m)."""
    squares = np.square(x).sum(axis=1)[:, None] + np.square(reference).sum(axis=1)
    return np.maximum(squares - 2 * x @ reference.T, 0)
