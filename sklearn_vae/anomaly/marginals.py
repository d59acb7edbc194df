"""Marginal distributions of columns: normal scores, and frequencies of values."""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from sklearn_vae.anomaly.scores import ModelScorer, ScoredRows
from sklearn_vae.persistence.registry import serializable


@serializable
def normal_scores(rows: ScoredRows) -> np.ndarray:
    """Standardised rows with normal scores in place of numbers: (1, n, n_inputs).

    The normal score of a number is the standard normal quantile of its mid-rank [1]_ among the
    reference rows. It is linear between their values, and beyond them has the slope of the
    standardised number. Scores are divided by their standard deviation.

    References
    ----------
    .. [1] H. Liu, J. Lafferty and L. Wasserman, "The Nonparanormal: Semiparametric Estimation of
       High Dimensional Undirected Graphs", JMLR 10, 2009.
    """
    scores = rows.inputs.copy()
    for column, (values, counts) in rows.reference.number_counts.items():
        x = rows.inputs[:, column]
        frequency = counts / counts.sum()
        knots = ndtri(frequency.cumsum() - 0.5 * frequency)
        variance = frequency @ np.square(knots) - (frequency @ knots) ** 2
        beyond = x - np.clip(x, values[0], values[-1])
        score = np.interp(x, values, knots) + beyond
        scores[:, column] = score / np.sqrt(variance) if variance > 0 else score
    return scores[None]


@serializable
@dataclass(frozen=True)
class NegativeLogFrequency(ModelScorer):
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
        score = np.zeros(len(rows))
        for x, (values, counts) in zip(rows.X.T, rows.reference.value_counts, strict=True):
            position = np.searchsorted(values, x).clip(max=len(values) - 1)
            is_seen = (values[position] == x) | (np.isnan(values[position]) & np.isnan(x))
            n_rows = counts.sum()
            pseudo_count = ((counts == 1).sum() + 1) / (n_rows + 1)
            # a reference row does not count itself
            count = np.maximum(np.where(is_seen, counts[position], 0) - is_reference, 0)
            score -= np.log((count + pseudo_count) / (n_rows + 1 - is_reference))
        return score
