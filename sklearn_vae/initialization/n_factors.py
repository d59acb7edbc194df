"""The number of factors of a table, by the fit of maximum-likelihood factor analysis."""

from collections.abc import Iterator

import numpy as np
from scipy import optimize

# Maximum root-mean-square error of approximation (RMSEA) of a close fit.
CLOSE_FIT = 0.06
# Wider tables are not examined: each step computes the eigenvalues of the correlation matrix.
MAX_COLUMNS = 100
# Minimum uniqueness of a column, as a fraction of its variance.
MIN_UNIQUENESS = 0.005
# Added to the diagonal of the correlation matrix, for columns that are linearly dependent.
RIDGE = 1e-6


def n_factors(x: np.ndarray, weight: np.ndarray | None, max_factors: int) -> int | None:
    """Find the smallest number of factors that fits the correlations of x (n, d) closely.

    None if no number up to ``max_factors`` fits, as for most real tables, or if so many are not
    identified; also None if no factor is needed, as uncorrelated columns may still be dependent.

    References
    ----------
    .. [1] M. W. Browne and R. Cudeck, "Alternative Ways of Assessing Model Fit",
       Sociological Methods & Research 21, 1992, for the error of approximation.
    .. [2] L. Hu and P. M. Bentler, "Cutoff Criteria for Fit Indexes in Covariance
       Structure Analysis", Structural Equation Modeling 6, 1999, for 0.06.
    """
    if not 1 < x.shape[1] <= MAX_COLUMNS:
        return None
    n_rows = len(x) if weight is None else float(weight.sum())
    errors = zip(range(max_factors + 1), _rmsea(_correlation(x, weight), n_rows), strict=False)
    return next((k for k, error in errors if error <= CLOSE_FIT), None) or None


def discrepancy(correlation: np.ndarray, n_factors: int) -> float:
    """Compute the maximum-likelihood discrepancy of the factor model.

    It is twice the difference in log-likelihood per row between the multivariate normal
    distribution and the factor model. The loadings are eliminated in closed form, and the
    uniquenesses are optimised [1]_.

    References
    ----------
    .. [1] D. N. Lawley and A. E. Maxwell, "Factor Analysis as a Statistical Method",
       Butterworths, 1971, chapter 4.
    """
    n_columns = len(correlation)
    n_smallest = n_columns - n_factors

    def value_and_gradient(log_uniqueness: np.ndarray) -> tuple[float, np.ndarray]:
        inverse_root = np.exp(-0.5 * log_uniqueness)
        values, axes = np.linalg.eigh(correlation * np.outer(inverse_root, inverse_root))
        smallest = np.maximum(values[:n_smallest], np.finfo(np.float64).tiny)
        gradient = np.square(axes[:, :n_smallest]) @ (1 - smallest)
        return float((smallest - np.log(smallest) - 1).sum()), gradient

    unexplained = 1 / np.diag(np.linalg.inv(correlation))  # by a regression on the other columns
    guess = np.clip(unexplained * (1 - 0.5 * n_factors / n_columns), MIN_UNIQUENESS, 1)
    bounds = [(np.log(MIN_UNIQUENESS), 0.0)] * n_columns
    optimum = optimize.minimize(value_and_gradient, np.log(guess), jac=True, bounds=bounds)
    return float(optimum.fun)


def _rmsea(correlation: np.ndarray, n_rows: float) -> Iterator[float]:
    """Yield the root-mean-square error of approximation with 0, 1, 2, ... factors.

    The discrepancy times Bartlett's number of rows is chi-squared if the model is right [1]_.

    References
    ----------
    .. [1] M. S. Bartlett, "Tests of Significance in Factor Analysis", British Journal
       of Psychology 3, 1950.
    """
    n_columns = len(correlation)
    for k in range(n_columns):
        degrees_of_freedom = ((n_columns - k) ** 2 - n_columns - k) / 2
        if degrees_of_freedom <= 0:
            return
        effective_rows = n_rows - 1 - (2 * n_columns + 5) / 6 - 2 * k / 3
        excess = effective_rows * discrepancy(correlation, k) / degrees_of_freedom - 1
        yield float(np.sqrt(max(excess, 0.0) / n_rows))


def _correlation(x: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Compute the correlation matrix; a constant column is uncorrelated with all others."""
    standardised = x - np.average(x, axis=0, weights=weight)
    scale = np.sqrt(np.average(np.square(standardised), axis=0, weights=weight))
    standardised /= np.where(scale > 0, scale, 1)
    weight = np.ones(len(x)) if weight is None else weight
    correlation = (standardised * weight[:, None]).T @ standardised / weight.sum()
    np.fill_diagonal(correlation, 1 + RIDGE)
    return correlation
