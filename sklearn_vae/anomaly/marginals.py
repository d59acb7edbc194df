"""Anomaly score of the columns' marginal distributions: frequencies of values."""

from dataclasses import dataclass

import numpy as np

from sklearn_vae.anomaly.base import Scorer
from sklearn_vae.anomaly.rows import ScoredRows, count_others, find_values
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
        count = np.empty(rows.X.T.shape)
        for j, (values, counts, _) in enumerate(columns):
            count[j] = count_others(counts, find_values(values, rows.X[:, j]), is_reference)
        pseudo_count = np.array([[pseudo_count] for _, _, pseudo_count in columns])
        for log_frequency in np.log((count + pseudo_count) / (n_rows + 1)):
            score -= log_frequency
        return score
