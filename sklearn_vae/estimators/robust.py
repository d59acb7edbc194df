"""Detection of outliers among the training rows, which a robust fit leaves out."""

from itertools import compress
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone

from sklearn_vae.data.arrays import as_array
from sklearn_vae.data.sources import check_is_table
from sklearn_vae.estimators.caller import called
from sklearn_vae.objectives import TrimmedELBO

# Fraction of each batch that the trimmed ELBO leaves out, and the largest number of iterations.
TRIM_FRACTION = 0.3
MAX_ITER = 40
# A row is an outlier if its log-density is so many standard deviations below the median. The
# threshold is wide because log-densities are skewed: half of it leaves out more clean rows, and
# costs more nats than the outliers that it finds.
MAX_DEVIATIONS = 10.0
# Standard deviation of a normal distribution divided by its median absolute deviation.
MAD_TO_SD = 1.4826
# Smallest standard deviation of log-densities, in nats: less means that most rows have the same
# values. In tables of real numbers it is .05 or more, also after a few iterations.
MIN_SCALE = 1e-3


def find_inliers(
    estimator: BaseEstimator, X: Any, y: Any, sample_weight: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Find rows whose log-density is not far below the median: mask (n,), weights (n,).

    The log-density is that of a clone of the estimator that is trained with the trimmed ELBO, in
    the columns that are not classes, if there are any. The weights are those of the inliers, and 0
    for the others. It is an error if most rows have the same log-density, or more are outliers
    than the trimmed ELBO leaves out.
    """
    check_is_table(X, "robust=True")
    sample_weight = as_array(sample_weight)
    changes = {
        "objective": TrimmedELBO(TRIM_FRACTION),
        # no mixture component nor normal score for the outliers
        "prior": "normal" if estimator.prior == "auto" else estimator.prior,
        "_is_plain": True,
        "robust": False,
        "beta": 1.0,
        "refit": False,
        "max_iter": min(estimator.max_iter, MAX_ITER),
        "n_init": 1,
        "ensemble": False,
        "callbacks": None,
        "handle_unknown": "infrequent",
        "checkpoint": None,  # the file is that of the training on the inliers
        "verbose": False,
    }
    # callbacks are not cloned: those of scikit-learn would be called here, too
    params = {
        name: clone(value, safe=False)
        for name, value in vars(estimator).items()
        if name not in changes and not name.startswith("_") and not name.endswith("_")
    }
    trimmed = estimator.__class__.__new__(estimator.__class__)  # a subclass sets some in __init__
    vars(trimmed).update(params | changes)
    with called(estimator):
        trimmed.fit(X, y, sample_weight=sample_weight)
    scores = np.asarray(trimmed.score_samples(X, y, columns=_columns_of_numbers(trimmed)))
    weights = np.broadcast_to(1.0 if sample_weight is None else sample_weight, scores.shape)
    median = weighted_median(scores, weights)
    scale = MAD_TO_SD * weighted_median(np.abs(scores - median), weights)
    is_inlier = scores >= median - MAX_DEVIATIONS * scale
    outlier_fraction = np.average(~is_inlier, weights=weights)
    if scale < MIN_SCALE or outlier_fraction > TRIM_FRACTION:
        raise ValueError(
            f"The 'robust' parameter of {type(estimator).__name__} must be False for this table: "
            f"{outlier_fraction:.0%} of its rows would be left out. Where most rows have the same "
            f"values, rarer ones are not to be told from outliers. Robust fits need columns of "
            f"real numbers, and at most {TRIM_FRACTION:.0%} of outliers."
        )
    return is_inlier, np.where(is_inlier, weights, 0.0)


def _columns_of_numbers(estimator: Any) -> list | None:
    """Names of the columns that are not classes, whose rare values are no outliers.

    None for all columns, if they are alike or belong to sequences.
    """
    is_number = ~estimator.columns_.has_discrete_values
    structure = estimator.architecture_.network.row_structure
    if is_number.all() or not is_number.any() or structure.n_steps is not None:
        return None
    return list(compress(estimator._names_or_indices(), is_number))


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """Median of values repeated by their weights: (n,), (n,) -> scalar."""
    order = np.argsort(values)
    ends = np.cumsum(weights.astype(np.float64)[order])
    middle = [np.searchsorted(ends, ends[-1] / 2, side=side) for side in ("left", "right")]
    return float(np.mean(values[order[np.minimum(middle, len(order) - 1)]]))
