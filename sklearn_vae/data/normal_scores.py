"""Normal scores: a monotone transform after which a column has a standard normal distribution.

The transform is the rank-based inverse normal transform, the marginal step of a Gaussian copula
[1]_: the standard normal quantile of the empirical distribution function, which is linear between
knots. Values that are recorded in steps are spread evenly over their step.

References
----------
.. [1] H. Liu, J. Lafferty and L. Wasserman, "The Nonparanormal: Semiparametric Estimation of High
   Dimensional Undirected Graphs", Journal of Machine Learning Research 10, 2009.
"""

import numpy as np

from sklearn_vae.data.arrays import weighted_moments
from sklearn_vae.data.bounds import ROUNDING
from sklearn_vae.numerics.row_subsets import spread_out

# Numbers of knots that are tried, and the smallest number of rows for each knot.
N_KNOTS = (20, 40, 80, 160)
ROWS_PER_KNOT = 50
# Nats per value by which normal scores must improve on a normal distribution, or nats of all rows
# together: above 2,000 rows, a smaller improvement per value is enough. It is not in columns of
# which others explain this much of the variance, as normal scores bend linear relations.
MIN_GAIN = 0.2
MIN_TOTAL_GAIN = 400.0
MAX_ROWS_OF_MIN_GAIN = MIN_TOTAL_GAIN / MIN_GAIN
MAX_R2 = 0.9
# Rows that are looked at, at most.
MAX_ROWS = 20_000
# Added to the diagonal of correlations, of which some are 1.
RIDGE = 1e-9
# Knots are no nearer to each other, in standard deviations.
MIN_GAP = 1e-6


def find_explained_columns(X: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Find columns of which linear regression on the others explains most: (n, d) -> (d,).

    The coefficient of determination is adjusted for the number of columns. A missing value counts
    as the mean.
    """
    rows = spread_out(len(X), MAX_ROWS)
    weights = np.ones(len(rows)) if weights is None else weights[rows]
    residual_df, total_df = weights.sum() - X.shape[1], weights.sum() - 1
    if residual_df <= 0:
        return np.ones(X.shape[1], dtype=bool)
    values = X[rows].astype(np.float64)
    tiny = np.finfo(np.float64).tiny
    values /= np.fmax.reduce(np.abs(values), initial=tiny)  # no overflow
    weight = np.where(np.isnan(values), 0.0, weights[:, None])
    values = np.nan_to_num(values)
    values -= (weight * values).sum(axis=0) / np.maximum(weight.sum(axis=0), tiny)
    values *= np.sqrt(weight)
    scale = np.linalg.norm(values, axis=0)
    values /= np.where(scale > 0, scale, 1)
    correlation = values.T @ values
    np.fill_diagonal(correlation, 1 + RIDGE)
    unexplained = 1 / np.diag(np.linalg.inv(correlation))
    return np.asarray(unexplained * total_df / residual_df < 1 - MAX_R2)


def fit_normal_scores(
    values: np.ndarray, cells: np.ndarray, weights: np.ndarray | None, is_explained: bool
) -> np.ndarray:
    """Fit knots if they improve the log-density of values that they were not fitted to.

    Each standardized value (n,) is spread evenly over its cell (2, n): half its recording step
    below and above it, or the value itself. Knots (n_knots, 2) are values and their normal scores,
    both increasing; there are none if a normal distribution is as good. The first and the last
    segment extend to infinity.
    """
    weights = np.ones(len(values)) if weights is None else weights
    # the order of the rows makes no difference
    order = np.random.default_rng(0).permutation(np.argsort(values, kind="stable"))[:MAX_ROWS]
    gains = {
        n_knots: _held_out_gain(values[order], cells[:, order], weights[order], n_knots)
        for n_knots in N_KNOTS
        if n_knots * ROWS_PER_KNOT <= weights.sum()
    }
    min_gain = MIN_GAIN if is_explained else min(MIN_GAIN, MIN_TOTAL_GAIN / weights.sum())
    if not gains or max(gains.values()) < min_gain:
        return np.zeros((0, 2))
    return _fit_knots(cells, weights, max(gains, key=lambda n_knots: gains[n_knots]))


def to_normal_scores(values: np.ndarray, knots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Transform values; return normal scores and the derivative: (n,) -> (n,), (n,)."""
    return _interpolate(values, knots[:, 0], knots[:, 1])


def from_normal_scores(scores: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """Invert the transform: (n,) -> (n,)."""
    return _interpolate(scores, knots[:, 1], knots[:, 0])[0]


def _interpolate(x: np.ndarray, knots: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Interpolate linearly, beyond the ends too; return values and slopes."""
    segment = np.searchsorted(knots, x, side="right").clip(1, len(knots) - 1) - 1
    slope = (np.diff(at) / np.diff(knots))[segment]
    return at[segment] + slope * (x - knots[segment]), slope


def _held_out_gain(
    values: np.ndarray, cells: np.ndarray, weights: np.ndarray, n_knots: int
) -> float:
    """Nats per value by which normal scores exceed a normal distribution, by cross-fitting."""
    gain = 0.0
    for fold in (0, 1):
        fit, held_out = np.arange(fold, len(values), 2), np.arange(1 - fold, len(values), 2)
        knots = _fit_knots(cells[:, fit], weights[fit], n_knots)
        mean, variance = weighted_moments(values[fit], weights[fit])
        if not len(knots) or variance == 0:
            return -np.inf
        scores, slope = to_normal_scores(values[held_out], knots)
        with np.errstate(over="ignore"):
            difference = np.square(values[held_out] - mean) / variance - np.square(scores)
        log_ratio = 0.5 * (difference + np.log(variance)) + np.log(slope)
        gain += 0.5 * float(np.average(log_ratio, weights=weights[held_out]))
    return gain


def _fit_knots(cells: np.ndarray, weights: np.ndarray, n_knots: int) -> np.ndarray:
    """Choose knots at evenly spaced quantiles: (2, n), (n,) -> (n_knots + 2, 2)."""
    from scipy.special import ndtri

    values, cdf = _distribution_function(cells, weights)
    chosen = np.arange(len(values))
    if len(values) > 2 * n_knots:
        levels = np.linspace(cdf[0], cdf[-1], n_knots)
        chosen = np.unique(np.searchsorted(cdf, levels).clip(max=len(cdf) - 1))
    keep = [0]
    for index in chosen[1:].tolist():
        if values[index] - values[keep[-1]] > MIN_GAP:
            keep.append(index)
    if len(keep) < 2:
        return np.zeros((0, 2))
    x, z = values[keep], ndtri(cdf[keep])
    # beyond the ends, the tails are those of a normal distribution, or heavier ones
    slopes = np.minimum((np.diff(z) / np.diff(x))[[0, -1]], 1.0)
    ends = np.array([[x[0] - 1, z[0] - slopes[0]], [x[-1] + 1, z[-1] + slopes[1]]])
    return np.concatenate([ends[:1], np.column_stack([x, z]), ends[1:]])


def _distribution_function(cells: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values in order, and their cumulative probabilities, above 0 and below 1."""
    low, first, inverse = np.unique(cells[0], return_index=True, return_inverse=True)
    high = cells[1, first]
    n_rows = weights.sum()
    weight = np.bincount(inverse, weights) / n_rows
    up_to = weight.cumsum()
    if (low < high).all():  # linear over the cell of each value
        x = np.column_stack([low, high]).ravel()
        cdf = np.column_stack([up_to - weight, up_to]).ravel()
    else:
        x, cdf = low, up_to - 0.5 * weight
    # one row more, spread over the range and beyond it: increasing where there are no values
    extent = max(x[-1] - x[0], ROUNDING)
    return x, (n_rows * cdf + 0.5 * (x - x[0]) / extent + 0.25) / (n_rows + 1)
