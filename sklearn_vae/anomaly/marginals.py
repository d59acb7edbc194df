"""Anomaly score of the columns' marginal distributions: frequencies of values."""

from dataclasses import dataclass

import numpy as np

from sklearn_vae.anomaly.rows import ScoredRows, Scorer
from sklearn_vae.persistence.registry import serializable


@serializable
@dataclass(frozen=True)
class NegativeLogFrequency(Scorer):
    """Negative log-frequencies of a row's values in their columns, summed over columns, in nats.

    Frequencies are smoothed by a pseudo-count, the Good-Turing estimate [1]_ of the probability
    that a value is new. A missing value counts as a value.

    References
    ----------
    .. [1] I. J. Good, "The Population Frequencies of Species and the Estimation of Population
       Parameters", Biometrika 40, 1953.
    """

    def score(self, rows: ScoredRows) -> np.ndarray:
        """Anomaly score of each row: (n,)."""
        is_reference = rows.reference_indices >= 0
        score, columns = np.zeros(len(rows)), rows.reference.value_counts
        n_rows = columns[0][1].sum()
        for x, (values, counts, pseudo_count) in zip(rows.X.T, columns, strict=True):
            position = np.minimum(values.searchsorted(x), len(values) - 1)
            is_seen = (values[position] == x) | (np.isnan(values[position]) & np.isnan(x))
            # a reference row does not count itself
            count = np.maximum(np.where(is_seen, counts[position], 0) - is_reference, 0)
            score -= np.log((count + pseudo_count) / (n_rows + 1))
        return score
