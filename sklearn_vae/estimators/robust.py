"""Which rows are to be learned from: those that a model of the others does not find too strange."""

from typing import Any

import numpy as np
from sklearn.base import clone

from sklearn_vae.objectives import TrimmedELBO

# The share of each batch that is left out in the screening, its iterations, and the standard
# deviations below the median score, by the median absolute deviation, from which on a row is
# an outlier: scores of whole tables are skew.
TRIMMED_SHARE = 0.3
SCREENING_ITERATIONS = 40
FARTHEST_SCORE = 6.0
MAD_TO_SD = 1.4826


def trusted(estimator: Any, X: Any, y: Any, sample_weight: Any) -> np.ndarray:
    """Say which rows an estimator should learn from.

    A copy of it is trained on those rows of each batch that it explains best.

    Parameters
    ----------
    estimator : VAETransformer
        What is to be fitted.
    X, y, sample_weight : array-like
        What it is to be fitted to.

    Returns
    -------
    ndarray of bool of shape (n_samples,)
        False for rows whose score lies far below the others'.
    """
    screen = clone(estimator).set_params(
        objective=TrimmedELBO(TRIMMED_SHARE),
        robust=False,
        beta=1.0,
        refit=False,
        max_iter=min(estimator.max_iter, SCREENING_ITERATIONS),
        n_init=1,
        ensemble=False,
        callbacks=None,
        verbose=False,
    )
    scores = screen.fit(X, y, sample_weight=sample_weight).score_samples(X, y)
    weight = np.ones(len(scores)) if sample_weight is None else np.asarray(sample_weight)
    median = _median(scores, weight)
    spread = MAD_TO_SD * _median(np.abs(scores - median), weight)
    return scores >= median - FARTHEST_SCORE * spread


def _median(values: np.ndarray, weight: Any) -> float:
    """Median of values that count as often as their weights say."""
    order = np.argsort(values)
    ends = np.cumsum(np.asarray(weight, dtype=np.float64)[order])
    middle = (
        np.searchsorted(ends, ends[-1] / 2, side="left"),
        np.searchsorted(ends, ends[-1] / 2, side="right"),
    )
    return float(np.mean(values[order[np.minimum(middle, len(order) - 1)]]))
