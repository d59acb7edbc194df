"""Choice between encodings of columns of numbers, by the evidence of all columns together.

A transform such as the logarithm may suit a column's own distribution and bend its relation with
others, or straighten it. The evidence is that of a joint normal distribution of the encoded
columns: the sum of the marginal log-densities, less half the log-determinant of the correlations.
"""

from collections.abc import Iterable, Sequence

import numpy as np

# Beyond so many columns, each is chosen alone.
MAX_COLUMNS = 128
# Passes over the columns, at most.
MAX_PASSES = 10
# Added to the diagonal of correlations, of which some are 1.
RIDGE = 1e-6


def choose_encodings(
    encodings: Sequence[Iterable[np.ndarray]],
    log_density: Sequence[Sequence[float]],
    max_gain: Sequence[Sequence[float]],
    weights: np.ndarray,
) -> list[int]:
    """Choose one encoding of each column, by index.

    Each column has encodings (n,), NaN where values are missing, which are computed if needed;
    their marginal log-densities per row; and what the other columns may add to each, at most.
    """
    best_alone = [int(np.argmax(each)) for each in log_density]
    if len(encodings) > MAX_COLUMNS or all(len(each) == 1 for each in log_density):
        return best_alone
    correlation = _correlation(np.stack([z for each in encodings for z in each]), weights)
    first = np.cumsum([0, *(len(each) for each in log_density)])[:-1]
    marginal, limit = (np.concatenate([*map(np.array, part)]) for part in (log_density, max_gain))
    starts = [[0] * len(encodings), best_alone]
    found = [_ascend(correlation, marginal, limit, first, np.array(start)) for start in starts]
    return max(found, key=lambda pair: pair[0])[1].tolist()


def _correlation(z: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Correlations of encodings (D, n), shrunk by one pseudo-observation per encoding: (D, D)."""
    observed = ~np.isnan(z)
    weight = np.where(observed, weights, 0.0)
    total = np.maximum(weight.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    z = np.where(observed, z, 0.0)
    z = np.where(observed, z - (weight * z).sum(axis=1, keepdims=True) / total, 0.0)
    z *= np.sqrt(weights)
    scale = np.linalg.norm(z, axis=1, keepdims=True)
    z /= np.where(scale > 0, scale, 1.0)
    n_rows = weights.sum()
    correlation = z @ z.T * (n_rows / (n_rows + len(z)))
    np.fill_diagonal(correlation, 1 + RIDGE)
    return correlation


def _ascend(
    correlation: np.ndarray,
    marginal: np.ndarray,
    limit: np.ndarray,
    first: np.ndarray,
    chosen: np.ndarray,
) -> tuple[float, np.ndarray]:
    """Change encodings one by one as long as the evidence rises; return it and the choice."""
    ends = np.append(first[1:], len(marginal))
    precision = np.linalg.inv(correlation[np.ix_(first + chosen, first + chosen)])
    for _ in range(MAX_PASSES):
        is_changed = False
        for j in np.flatnonzero(ends - first > 1).tolist():
            options, current = np.arange(first[j], ends[j]), first + chosen
            # variances given the other columns, whose precision is that of all without column j
            covariance = np.delete(correlation[np.ix_(current, options)], j, axis=0)
            others = np.delete(np.delete(precision, j, axis=0), j, axis=1)
            beside = np.delete(precision[j], j)
            explained = (covariance * (others @ covariance)).sum(axis=0)
            explained -= np.square(beside @ covariance) / precision[j, j]
            residual = np.maximum(1 + RIDGE - explained, RIDGE)
            gain = np.minimum(-0.5 * np.log(residual), limit[options])
            best = int(np.argmax(marginal[options] + gain))
            if best != chosen[j]:
                chosen[j], is_changed = best, True
                precision = np.linalg.inv(correlation[np.ix_(first + chosen, first + chosen)])
        if not is_changed:
            break
    current = first + chosen
    _, log_det = np.linalg.slogdet(correlation[np.ix_(current, current)])
    return float(marginal[current].sum() - 0.5 * log_det), chosen
