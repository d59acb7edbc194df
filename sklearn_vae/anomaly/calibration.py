"""Conformal calibration of anomaly scores: p-values and thresholds."""

import numpy as np

# Scores that differ by less, as a fraction or in their unit, are equal, and so are logarithms:
# rounding errors depend on the other rows of a batch, and are not to break ties.
ROUNDING = 1e-9


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
