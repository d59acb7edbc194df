"""Conformal calibration of anomaly scores: p-values and thresholds."""

from typing import Annotated

import numpy as np

from sklearn_vae.data.arrays import Rows

# Scores that differ by less, as a fraction or in their unit, are equal, and so are logarithms:
# rounding errors depend on the other rows of a batch, and are not to break ties.
ROUNDING = 1e-9


class ScoreLabels:
    """Labels and p-values of rows by their scores, of an estimator and of its numpy counterpart."""

    offset_: float  # threshold of the score
    # of the calibration rows, in ascending order
    calibration_scores_: Annotated[np.ndarray, "f", "n"]

    def score_samples(self, X: Rows) -> np.ndarray:
        """Normality score of each row: higher is more normal."""
        raise NotImplementedError

    def decision_function(self, X: Rows) -> np.ndarray:
        """Score minus the threshold ``offset_``: negative for outliers.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, in the units of the training rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            ``score_samples(X) - offset_``; 0 for rows that equal the threshold but for rounding.
        """
        return margins(self.score_samples(X), self.offset_)

    def predict(self, X: Rows) -> np.ndarray:
        """Label rows as outliers or inliers.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, in the units of the training rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            -1 for outliers, 1 for inliers.
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def p_values(self, X: Rows) -> np.ndarray:
        """P-value of each row: the share of normal rows that are at least as unusual.

        With ``calibration="conformal"`` it is guaranteed: of new normal rows, at most 5 % have one
        of .05 or less. By default that holds approximately.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, in the units of the training rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Fraction of the calibration rows and the row itself whose score is at most the row's,
            between 1 / (n_calibration + 1) and 1.
        """
        return conformal_p_values(self.score_samples(X), self.calibration_scores_)


def conformal_p_values(scores: np.ndarray, calibration_scores: np.ndarray) -> np.ndarray:
    """Conformal p-values of normality scores, low scores being anomalous: (n,) -> (n,).

    If a row and the calibration rows are exchangeable, P(p <= alpha) <= alpha for every alpha
    [1]_. The scores of the calibration rows are in ascending order.

    References
    ----------
    .. [1] V. Vovk, A. Gammerman and G. Shafer, "Algorithmic Learning in a Random World",
       Springer 2005.
    """
    tolerance = ROUNDING * np.maximum(np.abs(scores), 1)
    n_at_most = np.searchsorted(calibration_scores, scores + tolerance, side="right")
    return (1 + n_at_most) / (1 + len(calibration_scores))


def conformal_threshold(calibration_scores: np.ndarray, alpha: float) -> float:
    """Score below which conformal p-values are at most alpha, or 1 / (n + 1) if that is larger."""
    rank = max(int(alpha * (len(calibration_scores) + 1) + ROUNDING), 1)
    return float(calibration_scores[rank - 1])


def margins(scores: np.ndarray, threshold: float) -> np.ndarray:
    """Scores less the threshold, 0 if they are equal but for rounding: (n,) -> (n,)."""
    differences = scores - threshold
    is_equal = np.abs(differences) <= ROUNDING * max(abs(threshold), 1)
    return np.where(is_equal, 0.0, differences)
