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

from sklearn_vae.data.training_column import ROUNDING

# Knots are no nearer to each other, in standard deviations.
MIN_GAP = 1e-6


@np.errstate(over="ignore")  # the largest numbers
def interpolate(x: np.ndarray, knots: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Interpolate linearly, beyond the ends too; return values and slopes: (n,) -> (n,), (n,).

    From values to normal scores, or back: knots and the numbers at them are the two columns of
    ``fit_knots``.
    """
    segment = np.searchsorted(knots, x, side="right").clip(1, len(knots) - 1) - 1
    slope = (np.diff(at) / np.diff(knots))[segment]
    return at[segment] + slope * (x - knots[segment]), slope


def fit_knots(cells: np.ndarray, weights: np.ndarray, n_knots: int) -> np.ndarray:
    """Choose knots at evenly spaced quantiles: (2, n), (n,) -> (n_knots + 2, 2).

    Each standardized value is spread evenly over its cell (2, n): half its recording step below
    and above it, or the value itself. Knots are values and their normal scores, both increasing.
    There are none if the values are too close. The first and the last segment extend to infinity.
    """
    from scipy.special import ndtri

    values, cdf = _distribution_function(cells, weights)
    chosen = np.arange(len(values))
    if len(values) > 2 * n_knots:
        levels = np.linspace(cdf[0], cdf[-1], n_knots)
        chosen = np.searchsorted(cdf, levels).clip(max=len(cdf) - 1)
        chosen = np.unique([*chosen.tolist(), *_beside_far_ends(values)])
    keep = [0]
    for index in chosen[1:].tolist():
        if values[index] - values[keep[-1]] > MIN_GAP:
            keep.append(index)
    if len(keep) < 2:
        return np.zeros((0, 2))
    x, z = values[keep], ndtri(cdf[keep])
    # beyond the ends, the tails are those of a normal distribution, or heavier ones
    slopes = np.minimum((np.diff(z) / np.diff(x))[[0, -1]], 1.0)
    reach = np.maximum(np.abs(x[[0, -1]]) * MIN_GAP, 1.0) * [-1, 1]  # of far values, no less
    ends = np.column_stack([x[[0, -1]] + reach, z[[0, -1]] + slopes * reach])
    return np.concatenate([ends[:1], np.column_stack([x, z]), ends[1:]])


def _beside_far_ends(values: np.ndarray) -> list[int]:
    """Indices of ordered values next to ends that are further off than the others' range.

    Without knots there, the segment of a far value would hold others.
    """
    low, high, indices = 0, len(values) - 1, []
    gaps = np.diff(values)
    while high - low > 2:
        # a value that is spread over a cell has two edges
        left, right = (
            max(ends, key=lambda k: gaps[k]) for ends in ([low, low + 1], [high - 2, high - 1])
        )
        if gaps[right] > values[right] - values[low]:
            high = right
            indices.append(high)
        elif gaps[left] > values[high] - values[left + 1]:
            low = left + 1
            indices.append(low)
        else:
            break
    return indices


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
