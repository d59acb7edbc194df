"""How many factors a table shows: factor analysis by maximum likelihood, and how well it fits."""

from collections.abc import Iterator

import numpy as np
from scipy import optimize

# Factors fit where the root-mean-square error of approximation is no more than this.
CLOSE_FIT = 0.06
# A wider table is not asked: each step takes the eigenvalues of its correlation matrix.
MOST_COLUMNS = 100
# What a column has for its own, at the least, as a share of its variance.
SMALLEST_UNIQUENESS = 0.005
# What is added to the correlation matrix's diagonal, for columns that repeat one another.
RIDGE = 1e-6


def n_factors(x: np.ndarray, weight: np.ndarray | None, most: int) -> int | None:
    """Smallest number of factors that reproduce the correlations of x closely.

    Parameters
    ----------
    x : ndarray of shape (n, d)
        Rows.
    weight : ndarray of shape (n,) or None
        What each row counts.
    most : int
        The largest number to try.

    Returns
    -------
    int or None
        Number of factors. None where none up to ``most`` will do, as in most real tables,
        or where so many are no longer determined by the columns; and where none is needed,
        as columns that are uncorrelated may depend on one another all the same.

    References
    ----------
    .. [1] M. W. Browne and R. Cudeck, "Alternative Ways of Assessing Model Fit",
       Sociological Methods & Research 21, 1992, for the error of approximation.
    .. [2] L. Hu and P. M. Bentler, "Cutoff Criteria for Fit Indexes in Covariance
       Structure Analysis", Structural Equation Modeling 6, 1999, for 0.06.
    """
    if not 1 < x.shape[1] <= MOST_COLUMNS:
        return None
    n_rows = len(x) if weight is None else float(weight.sum())
    errors = _errors(_correlation(x, weight), n_rows)
    fits = (k for k, error in zip(range(most + 1), errors, strict=False) if error <= CLOSE_FIT)
    return next(fits, None) or None


def discrepancy(correlation: np.ndarray, n_factors: int) -> float:
    """Twice the log-likelihood per row that the factor model lacks of the normal one.

    The loadings are eliminated in closed form, which leaves the uniquenesses [1]_.

    References
    ----------
    .. [1] D. N. Lawley and A. E. Maxwell, "Factor Analysis as a Statistical Method",
       Butterworths, 1971, chapter 4.
    """
    n_columns = len(correlation)
    n_left = n_columns - n_factors

    def lacking(log_uniqueness: np.ndarray) -> tuple[float, np.ndarray]:
        inverse_root = np.exp(-0.5 * log_uniqueness)
        values, axes = np.linalg.eigh(correlation * np.outer(inverse_root, inverse_root))
        left = np.maximum(values[:n_left], np.finfo(np.float64).tiny)
        slope = np.square(axes[:, :n_left]) @ (1 - left)
        return float((left - np.log(left) - 1).sum()), slope

    own = 1 / np.diag(np.linalg.inv(correlation))  # what no other column explains
    guess = np.clip(own * (1 - 0.5 * n_factors / n_columns), SMALLEST_UNIQUENESS, 1)
    bounds = [(np.log(SMALLEST_UNIQUENESS), 0.0)] * n_columns
    return float(optimize.minimize(lacking, np.log(guess), jac=True, bounds=bounds).fun)


def _errors(correlation: np.ndarray, n_rows: float) -> Iterator[float]:
    """Root-mean-square error of approximation with 0, 1, 2, ... factors.

    The discrepancy times Bartlett's number of rows is chi-squared if the model is right [1]_.

    References
    ----------
    .. [1] M. S. Bartlett, "Tests of Significance in Factor Analysis", British Journal
       of Psychology 3, 1950.
    """
    n_columns = len(correlation)
    for k in range(n_columns):
        freedom = ((n_columns - k) ** 2 - n_columns - k) / 2
        if freedom <= 0:
            return
        effective = n_rows - 1 - (2 * n_columns + 5) / 6 - 2 * k / 3
        excess = effective * discrepancy(correlation, k) / freedom - 1
        yield float(np.sqrt(max(excess, 0.0) / n_rows))


def _correlation(x: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Correlation matrix; a column that does not vary correlates with none."""
    centred = x - np.average(x, axis=0, weights=weight)
    spread = np.sqrt(np.average(np.square(centred), axis=0, weights=weight))
    centred /= np.where(spread > 0, spread, 1)
    counts = np.ones(len(x)) if weight is None else weight
    found = (centred * counts[:, None]).T @ centred / counts.sum()
    np.fill_diagonal(found, 1 + RIDGE)
    return found
