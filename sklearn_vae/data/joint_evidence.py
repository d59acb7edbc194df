"""What the other columns tell of a column's distribution, beside its own values."""

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import pairwise

from sklearn_vae.data.arrays import weighted_moments
from sklearn_vae.data.columns.base import Columns
from sklearn_vae.data.columns.binary import ConstantColumns
from sklearn_vae.data.columns.numbers import CountColumns, RealColumns
from sklearn_vae.data.training_column import N_ERRORS
from sklearn_vae.numerics.rows import spread_out

# Columns by which counts are predicted, at most, and rows for each of them.
MAX_REGRESSORS = 8
ROWS_PER_REGRESSOR = 20
# Neighbours of a row by which numbers are predicted; and their distances, at most, for all columns.
N_NEIGHBORS = 10
MAX_DISTANCES = 2e7


def losses_of_counts(
    columns: list[Columns], X: np.ndarray, weight: np.ndarray, counts: list[int]
) -> dict[int, float]:
    """Nats per row that distributions of counts lose, given the other columns; only losses.

    Given codes, the variance of a count is at least its mean, and counts are uncorrelated. Where
    a regression on the columns that correlate most leaves less, or two counts correlate more than
    their rates can, by ``N_ERRORS`` standard errors, the loss is the divergence of normal
    distributions: after a regression the least one by these errors, of two counts the estimate.
    """
    chosen = spread_out(len(X))
    X, weight = X[chosen], weight[chosen]
    values = X[:, counts]
    is_known = weight @ ~np.isnan(values) >= ROWS_PER_REGRESSOR
    is_known &= (np.nan_to_num(values) > 0).any(axis=0)
    counts = np.array(counts)[is_known].tolist()
    if not counts:
        return {}
    Z, owner = _encode(columns, X, counts)
    weights = weight[:, None] * ~np.isnan(Z)
    tiny = np.finfo(np.float64).tiny
    n_rows = weights.sum(axis=0) + tiny
    mean = (weights * np.nan_to_num(Z)).sum(axis=0) / n_rows
    Z = np.nan_to_num(Z - mean)  # means in place of missing values: correlations are smaller
    squares = Z.T @ (weight[:, None] * Z)
    variance = np.diag(squares) / n_rows
    norm = np.sqrt(np.diag(squares)) + tiny
    correlation = squares / norm / norm[:, None]
    of_counts = np.searchsorted(owner, counts)
    scale = np.sqrt(variance[of_counts] / mean[of_counts])
    pairs = correlation[np.ix_(of_counts, of_counts)] * np.outer(scale, scale)
    smaller = np.minimum.outer(n_rows[of_counts], n_rows[of_counts])
    is_sure = _losses_of_pairs(pairs, smaller, N_ERRORS) > 0
    losses = (is_sure * _losses_of_pairs(pairs, smaller, 0)).max(axis=1)
    for k, i in enumerate(of_counts.tolist()):
        others = np.flatnonzero(owner != owner[i])
        residual = variance[i] * _fraction_left(correlation, i, others, n_rows[i])
        ratio = min(max(residual, 1 / 12) / mean[i], 1)  # the variance of rounding errors at least
        losses[k] = max(losses[k], -0.5 * (np.log(ratio) + 1 - ratio))
    return {j: loss for j, loss in zip(counts, losses.tolist(), strict=True) if loss > 0}


def _fraction_left(
    correlation: np.ndarray, column: int, others: np.ndarray, n_rows: float
) -> float:
    """Fraction of a column's variance that a linear regression on other columns leaves, at most.

    They are those that correlate most with it, as many as ``n_rows`` allow.
    """
    n_regressors = int(min(n_rows // ROWS_PER_REGRESSOR, MAX_REGRESSORS))
    order = np.argsort(-np.abs(correlation[column, others]), kind="stable")
    nearest = others[order[:n_regressors]]
    with_column = correlation[nearest, column]
    slopes = np.linalg.pinv(correlation[np.ix_(nearest, nearest)]) @ with_column
    unbiased = (1 - slopes @ with_column) * n_rows / (n_rows - len(nearest) - 1)
    return unbiased * (1 + N_ERRORS * np.sqrt(2 / n_rows))


def _losses_of_pairs(covariance: np.ndarray, n_rows: np.ndarray, n_errors: float) -> np.ndarray:
    """Nats that two counts lose whose rates cannot correlate so: (k, k), (k, k) -> (k, k).

    Of counts over the roots of their means, Poisson variables have variances of 1 beside those of
    their rates. The loss is the least one by so many standard errors.
    """
    variance = np.diag(covariance)
    squares = np.outer(variance, variance)
    of_rates = np.maximum(variance * (1 + n_errors * np.sqrt(2 / np.diag(n_rows))) - 1, 0)
    error = n_errors * np.sqrt((squares + covariance**2) / n_rows)
    found = (np.abs(covariance) - error).clip(0, np.sqrt(squares * (1 - 1 / n_rows).clip(min=0)))
    np.fill_diagonal(found, 0)
    possible = np.minimum(np.sqrt(np.outer(of_rates, of_rates)), found)
    left = squares - possible**2
    loss = 0.5 * np.log(left / (squares - found**2)) + (squares - possible * found) / left - 1
    return np.where(possible < found, loss, 0.0)


def find_curved(
    columns: list[Columns], X: np.ndarray, weight: np.ndarray, scored: list[int]
) -> list[int]:
    """Find columns with normal scores that other columns tell better as they are.

    Where a curved surface turns, a column has many values near to each other, whose scores are far
    apart: they magnify errors unevenly. The evidence is the log-density of a normal distribution
    of one scale about the mean of the nearest rows in the other columns.
    """
    if not scored:
        return []
    chosen = spread_out(len(X), int(min(1_000, np.sqrt(MAX_DISTANCES / len(scored)))))
    X, weight = X[chosen], weight[chosen]
    Z, owner = _encode(columns, X)
    readings = {}
    for j in scored:
        column = columns[j]
        assert isinstance(column, RealColumns)
        numbers = column.standardize(x := column.take(X))
        Z[:, owner == j] = numbers
        readings[j] = [part[:, 0] for part in (numbers, *column.normalize(x))]
    Z = np.nan_to_num(Z)  # means in place of missing values
    # in single precision, as the time is that of the memory
    distances = pairwise.euclidean_distances(Z, squared=True).astype(np.float32)
    curved = []
    for j, (numbers, scores, log_slope) in readings.items():
        is_known, own = ~np.isnan(numbers), Z[:, owner == j].astype(np.float32)
        if is_known.sum() <= N_NEIGHBORS:
            continue
        without_own = distances - np.square(own - own.T)
        np.fill_diagonal(without_own, np.inf)
        without_own[:, ~is_known] = np.inf
        nearest = np.argpartition(without_own, N_NEIGHBORS)[is_known, :N_NEIGHBORS]
        known_weight = weight[is_known]
        of_numbers, of_scores = (
            _log_density(values[is_known] - values[nearest].mean(axis=1), known_weight)
            for values in (numbers, scores)
        )
        gains = of_numbers - of_scores - log_slope[is_known]
        gain, variance = weighted_moments(gains, known_weight)
        if gain > N_ERRORS * np.sqrt(variance / len(gains)):
            curved.append(j)
    return curved


def _log_density(errors: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Log-density of errors by a normal distribution of their variance, up to a constant: (n,)."""
    squares = np.square(errors)
    variance = max(np.average(squares, weights=weight), np.finfo(np.float64).tiny)
    return -0.5 * (squares / variance + np.log(variance))


def _encode(
    columns: list[Columns], X: np.ndarray, counts: Sequence[int] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Encode columns, but for ``counts``, and return the column of each input: (n, i), (i,)."""
    encoded, owners = [], []
    for j in varying(columns, np.arange(X.shape[1])).tolist():
        column, x = columns[j], columns[j].take(X)
        is_count = j in counts and isinstance(column, CountColumns)
        possible = column.replace_unseen(x, True)
        encoded.append(column.counts(x) if is_count else column.encode(possible))
        owners += [j] * encoded[-1].shape[1]
    return np.concatenate(encoded, axis=1, dtype=np.float64), np.array(owners)


def varying(columns: list[Columns], indices: np.ndarray) -> np.ndarray:
    """Select columns that are neither constant nor derived: (n,)."""
    return indices[[not isinstance(columns[j], ConstantColumns) for j in indices]]
