"""Factor analysis: of tables with missing values, and to choose the number of factors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import optimize

from sklearn_vae.initialization.ppca import ConditionRegression, CorrelationPCA, observed_moments
from sklearn_vae.numerics.rows import NUMBERS_AT_A_TIME, batches, rows_in_cache, spread_out

# Means (d,), loadings (k, d) and residual variances (d,) of a factor model.
Parts = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class FactorModel:
    r"""Factor analysis of rows with missing values, by maximum likelihood.

    A row is :math:`\mu + z L + \epsilon` with standard normal z and independent residuals.
    Missing values are integrated out, row by row; none are imputed.

    References
    ----------
    .. [1] Z. Ghahramani and M. I. Jordan, "Supervised Learning from Incomplete Data via an
       EM Approach", NeurIPS 1993.
    .. [2] C. Liu, D. B. Rubin and Y. N. Wu, "Parameter Expansion to Accelerate EM",
       Biometrika 85, 1998.
    """

    loc: np.ndarray  # (d,): means of the columns
    loadings: np.ndarray  # (k, d): factor loadings L
    residual: np.ndarray  # (d,): standard deviations of the residuals

    @classmethod
    def fit(
        cls, x: np.ndarray, weight: np.ndarray, n_factors: int, min_residual: float = 0.0
    ) -> Self:
        """Fit by parameter-expanded EM to rows (n, d), missing values of which are NaN.

        Standard deviations of residuals are at least ``min_residual``. Some of many rows are used.
        """
        rows = spread_out(len(x), max(NUMBERS_AT_A_TIME // x.shape[1], 2048))
        rows = rows[np.lexsort(np.isnan(x[rows]).T)]  # by patterns: see ``_posteriors``
        subset, weight = x[rows].astype(np.float64), weight[rows]
        loc, variance = observed_moments(subset, weight)
        completed = np.where(np.isnan(subset), loc, subset)
        start = CorrelationPCA.fit(completed, weight, n_factors).linear_gaussian(n_factors)
        model = loc, start.loadings, np.square(start.residual)
        for _ in range(30):
            model = _em_step(subset, weight, model, variance)
        loc, loadings, noise = model
        return cls(loc, loadings, np.maximum(np.sqrt(noise), min_residual))

    def pca(self, n_axes: int) -> CorrelationPCA:
        """Return principal components of the model's covariance, as of a table without holes."""
        covariance = self.loadings.T @ self.loadings + np.diag(np.square(self.residual))
        return CorrelationPCA.of_covariance(self.loc, covariance, n_axes)

    def imputation(self, regression: ConditionRegression | None) -> tuple[np.ndarray, ...]:
        """Return ``LinearGaussian.imputation``, if rows are the residuals of a regression."""
        precision = 1 / np.square(self.residual)
        if regression is None:
            return self.loc, self.loadings, precision
        loc = self.loc - regression.mean @ regression.coef
        return loc, self.loadings, precision, regression.coef


def n_imputation_factors(n_rows: int, n_columns: int) -> int:
    """Return the number of factors for imputation: at least 1, and 0 without columns.

    Up to 20, of which each has five rows or more.
    """
    if n_columns == 0:
        return 0
    return max(min(20, n_columns - 1, n_rows // 5), 1)


def _em_step(x: np.ndarray, weight: np.ndarray, model: Parts, variance: np.ndarray) -> Parts:
    """Take one step of EM."""
    n_factors, n_columns = model[1].shape
    n_features = n_factors + 1  # the factors, and a one for the mean
    gram = np.zeros((n_columns, n_features**2))
    cross = np.zeros((n_columns, n_features))
    squares, counts = np.zeros(n_columns), np.zeros(n_columns)
    moments = np.zeros(n_features**2)  # of the factors
    for mean, covariance, rows in _posteriors(x, *model):
        features = np.hstack([mean, np.ones((len(mean), 1))])
        products = features[:, :, None] * features[:, None, :]
        products[:, :n_factors, :n_factors] += covariance
        products = products.reshape(len(mean), -1)
        observed, chunk_weight = ~np.isnan(x[rows]), weight[rows]
        values = np.where(observed, x[rows], 0)
        weighted = values * chunk_weight[:, None]
        gram += (observed * chunk_weight[:, None]).T @ products
        cross += weighted.T @ features
        squares += (weighted * values).sum(axis=0)
        counts += chunk_weight @ observed
        moments += chunk_weight @ products
    gram = gram.reshape(n_columns, n_features, n_features)
    diagonal = np.arange(n_factors)
    gram[:, diagonal, diagonal] += 1  # a ridge: one row with loadings of zero
    gram[:, -1, -1] += np.finfo(np.float64).tiny + (counts == 0)
    coef = np.linalg.solve(gram, cross[..., None])[..., 0]  # (d, k + 1)
    # a tenth of a row with the column's total variance
    residual = squares - (coef * cross).sum(axis=1) + 0.1 * variance
    noise = np.maximum(residual / (counts + 0.1), 1e-4 * variance)
    # parameter expansion: the factors' mean and covariance are moved into means and loadings
    moments = moments.reshape(n_features, n_features) / moments[-1]
    factor_mean = moments[-1, :-1]
    root = np.linalg.cholesky(moments[:-1, :-1] - np.outer(factor_mean, factor_mean))
    loadings = coef[:, :-1].T
    return coef[:, -1] + factor_mean @ loadings, root.T @ loadings, noise


def _posteriors(
    x: np.ndarray, loc: np.ndarray, loadings: np.ndarray, noise: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, slice]]:
    """Yield the factors' posterior means (n, k) and covariances (n, k, k), and their rows.

    Rows with the same missing values that follow one another share a covariance.
    """
    n_factors = len(loadings)
    products = (loadings[:, None] * loadings[None]).reshape(n_factors**2, -1)
    for rows in batches(len(x), rows_in_cache(n_factors**2)):
        observed = ~np.isnan(x[rows])
        precision = observed / noise
        is_first = np.append(True, (observed[1:] != observed[:-1]).any(axis=1))
        information = (precision[is_first] @ products.T).reshape(-1, n_factors, n_factors)
        covariance = np.linalg.inv(information + np.eye(n_factors))[is_first.cumsum() - 1]
        score = np.where(precision > 0, x[rows] - loc, 0) * precision @ loadings.T
        yield (covariance @ score[..., None])[..., 0], covariance, rows


def n_factors(x: np.ndarray, weight: np.ndarray, most: int, more: Sequence[int] = ()) -> int:
    """Find the smallest number of factors that fits the correlations of x (n, d) closely.

    ``most`` if no smaller number fits, as for most real tables, or if no factor is needed, as
    uncorrelated columns may still be dependent; one of ``more`` if that has a lower Bayesian
    information criterion. A close fit has a root-mean-square error of approximation [1]_ of up to
    0.06 [2]_. The discrepancy times Bartlett's number of rows is chi-squared if the model is right
    [3]_.

    References
    ----------
    .. [1] M. W. Browne and R. Cudeck, "Alternative Ways of Assessing Model Fit",
       Sociological Methods & Research 21, 1992.
    .. [2] L. Hu and P. M. Bentler, "Cutoff Criteria for Fit Indexes in Covariance
       Structure Analysis", Structural Equation Modeling 6, 1999.
    .. [3] M. S. Bartlett, "Tests of Significance in Factor Analysis", British Journal
       of Psychology 3, 1950.
    """
    n_rows, n_columns = float(weight.sum()), x.shape[1]
    if not 1 < n_columns <= 100:  # each step computes eigenvalues of correlations
        return most
    correlation, numbers = _correlation(x, weight), np.arange(n_columns)
    # by how many parameters the model has less than a multivariate normal distribution
    degrees_of_freedom = ((n_columns - numbers) ** 2 - n_columns - numbers) / 2
    numbers = numbers[degrees_of_freedom > 0]  # others are not identified
    bic: dict[int, float] = {}  # less that of the multivariate normal distribution
    for k in numbers[(numbers <= most) | np.isin(numbers, more)].tolist():
        fit = discrepancy(correlation, k)
        effective_rows = n_rows - 1 - (2 * n_columns + 5) / 6 - 2 * k / 3
        excess = effective_rows * fit / degrees_of_freedom[k] - 1
        if k <= most and np.sqrt(max(excess, 0.0) / n_rows) <= 0.06:
            return k or most
        bic[k] = n_rows * fit - degrees_of_freedom[k] * np.log(n_rows)
    return min({most, *more} & bic.keys(), key=bic.__getitem__, default=most)


def _correlation(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Correlations of columns, with a ridge: (d, d)."""
    covariance = np.cov(x, rowvar=False, aweights=weight)
    scale = np.sqrt(covariance.diagonal())
    scale = np.where(scale > 0, scale, 1)  # a constant column is uncorrelated with all others
    correlation = covariance / np.outer(scale, scale)
    np.fill_diagonal(correlation, 1 + 1e-6)  # columns may be linearly dependent
    return correlation


def discrepancy(correlation: np.ndarray, n_factors: int) -> float:
    """Compute the maximum-likelihood discrepancy of the factor model.

    It is twice the difference in log-likelihood per row between the multivariate normal
    distribution and the factor model. The loadings are eliminated in closed form, and the
    uniquenesses are optimized [1]_.

    References
    ----------
    .. [1] D. N. Lawley and A. E. Maxwell, "Factor Analysis as a Statistical Method",
       Butterworths, 1971, chapter 4.
    """
    n_columns = len(correlation)
    n_smallest, least = n_columns - n_factors, 0.005  # uniqueness, a fraction of the variance

    def value_and_gradient(log_uniqueness: np.ndarray) -> tuple[float, np.ndarray]:
        inverse_root = np.exp(-0.5 * log_uniqueness)
        values, axes = np.linalg.eigh(correlation * np.outer(inverse_root, inverse_root))
        smallest = np.maximum(values[:n_smallest], np.finfo(np.float64).tiny)
        gradient = np.square(axes[:, :n_smallest]) @ (1 - smallest)
        return float((smallest - np.log(smallest) - 1).sum()), gradient

    unexplained = 1 / np.diag(np.linalg.inv(correlation))  # by a regression on the other columns
    guess = np.clip(unexplained * (1 - 0.5 * n_factors / n_columns), least, 1)
    bounds = [(np.log(least), 0.0)] * n_columns
    optimum = optimize.minimize(value_and_gradient, np.log(guess), jac=True, bounds=bounds)
    return float(optimum.fun)
