"""Linear models from which models start: probabilistic PCA, and regression on conditions."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import linalg

from sklearn_vae.numerics.rows import NUMBERS_AT_A_TIME, ROWS_AT_A_TIME, batches

# Minimum residual variance, as a fraction of the columns' variances: a standard deviation of 0.003.
MIN_VARIANCE = 1e-5


@dataclass(frozen=True)
class ConditionRegression:
    r"""Linear regression :math:`x = (c - \bar{c}) W + \text{residual}` of columns on conditions."""

    mean: np.ndarray  # (n_conditions,): means of the conditions
    coef: np.ndarray  # (n_conditions, d): coefficients W; the residuals include the mean of x

    @classmethod
    def fit(cls, x: np.ndarray, weight: np.ndarray, n_columns: int) -> Self:
        """Fit by weighted ridge regression, for each column on the rows that have it.

        Rows x are ``n_columns`` columns, with missing cells as NaN, and then the conditions.
        """
        mean, total = np.zeros(x.shape[1] - n_columns), weight.sum()
        for rows in batches(len(x), ROWS_AT_A_TIME):
            mean += weight[rows] @ x[rows][:, n_columns:].astype(np.float64) / total
        n_features = len(mean) + 1  # the conditions, and a one for the intercept
        gram = np.zeros((n_columns, n_features, n_features))
        cross = np.zeros((n_columns, n_features))
        for rows in batches(len(x), ROWS_AT_A_TIME):
            chunk, chunk_weight = x[rows].astype(np.float64), weight[rows, None]
            columns = chunk[:, :n_columns]
            features = np.hstack([chunk[:, n_columns:] - mean, np.ones((len(chunk), 1))])
            observed = ~np.isnan(columns)
            cross += (np.where(observed, columns, 0) * chunk_weight).T @ features
            products = (features[:, :, None] * features[:, None, :]).reshape(len(chunk), -1)
            gram += ((observed * chunk_weight).T @ products).reshape(gram.shape)
        diagonal = np.arange(n_features - 1)
        # one-hot classes are collinear, which leaves one coefficient undetermined
        gram[:, diagonal, diagonal] += 1e-3
        gram[:, -1, -1] += gram[:, -1, -1] == 0  # columns without an observed cell
        coef = np.linalg.solve(gram, cross[..., None])[:, :-1, 0]
        return cls(mean, coef.T)

    def residuals(self, rows: np.ndarray) -> np.ndarray:
        """Return the residuals of rows: (n, d + n_conditions) -> (n, d)."""
        n_columns = self.coef.shape[1]
        explained = (rows[:, n_columns:] - self.mean) @ self.coef
        return rows[:, :n_columns] - explained.astype(rows.dtype)


@dataclass(frozen=True)
class LinearGaussian:
    """A linear Gaussian model and its exact posterior.

    With standard normal z, ``x = loc + z @ loadings + residual``; given x, z is normal
    with mean ``(x - loc) @ posterior_weights`` and independent dimensions.
    """

    loc: np.ndarray  # (d,): mean of x
    loadings: np.ndarray  # (l, d): factor loadings
    residual: np.ndarray  # (d,): standard deviations
    posterior_weights: np.ndarray  # (d, l): weights of the posterior mean
    posterior_scale: np.ndarray  # (l,): posterior standard deviations
    intercept: np.ndarray  # (l,): posterior mean at x = 0, of normal x ``-loc @ posterior_weights``
    # factor model that imputes missing values: loc (d,), loadings (k, d), precisions (d,) and, with
    # conditions, their coefficients (n_conditions, d)
    imputation: tuple[np.ndarray, ...] | None = None
    regression: ConditionRegression | None = None  # x is then its residual
    # rows of all columns and their weights, for the frequencies of classes in order
    rows: tuple[np.ndarray, np.ndarray] | None = None


@dataclass(frozen=True)
class CorrelationPCA:
    """Principal components of a table's standardized columns, the largest first."""

    loc: np.ndarray  # (d,): means of the columns
    scale: np.ndarray  # (d,): their standard deviations
    variances: np.ndarray  # (n_axes,): leading eigenvalues of the correlation matrix
    axes: np.ndarray  # (d, n_axes): their eigenvectors
    total_variance: float  # trace of the correlation matrix
    min_residual_variance: float = MIN_VARIANCE  # as a fraction of the columns' variances

    @classmethod
    def fit(cls, x: np.ndarray, weight: np.ndarray, n_axes: int, min_residual: float = 0.0) -> Self:
        """Compute up to ``n_axes`` components.

        Standard deviations are at least ``min_residual``, and so are residuals' relative ones.
        """
        total, loc, scale = _moments(x, weight)
        scale = np.maximum(scale, min_residual)
        n_rows, n_columns = x.shape
        import torch  # whose number of threads the caller sets

        if n_columns <= n_rows:
            gram = np.zeros((n_columns, n_columns))
            for rows, w in _weighted_chunks(x, weight):
                # in the precision of x: the sums over a chunk are short
                standardized = (rows - loc) / scale * np.sqrt(w / total)[:, None]
                chunk = torch.as_tensor(standardized.astype(x.dtype, copy=False))
                gram += (chunk.T @ chunk).numpy()
        else:  # the smaller Gram matrix has the same eigenvalues
            table = (x[:].astype(np.float64) - loc) / scale * np.sqrt(weight / total)[:, None]
            gram = (torch.as_tensor(table) @ torch.as_tensor(table.T)).numpy()
        total_variance = float(np.trace(gram))
        variances, axes = _leading_eigenvectors(gram, min(n_axes, *x.shape))
        if n_columns > n_rows:
            axes = table.T @ axes
            axes /= np.maximum(np.linalg.norm(axes, axis=0), np.finfo(np.float64).tiny)
        axes, min_variance = axes * axis_signs(axes), max(min_residual**2, MIN_VARIANCE)
        return cls(loc, scale, variances, axes, total_variance, min_residual_variance=min_variance)

    @classmethod
    def of_covariance(cls, loc: np.ndarray, covariance: np.ndarray, n_axes: int) -> Self:
        """Compute up to ``n_axes`` components of a covariance matrix (d, d) of rows of mean loc."""
        scale = np.sqrt(covariance.diagonal())
        correlation = covariance / np.outer(scale, scale)
        variances, axes = _leading_eigenvectors(correlation, min(n_axes, len(loc)))
        return cls(loc, scale, variances, axes * axis_signs(axes), float(len(loc)))

    def linear_gaussian(self, n_components: int) -> LinearGaussian:
        """Return probabilistic PCA of the standardized columns, by maximum likelihood [1]_.

        The model and its posterior are in the units of the table. Latent dimensions beyond the
        axes have zero loadings.

        References
        ----------
        .. [1] M. E. Tipping and C. M. Bishop, "Probabilistic Principal Component
           Analysis", Journal of the Royal Statistical Society B 61, 1999.
        """
        n_columns = len(self.loc)
        n_axes = min(n_components, len(self.variances))
        variances = self.variances[:n_axes]
        if n_axes < n_columns:
            residual = (self.total_variance - variances.sum()) / (n_columns - n_axes)
        else:  # any residual up to the smallest variance gives the same density
            residual = 0.5 * variances[-1] if n_columns else 1.0
        residual = max(residual, self.min_residual_variance)

        n_added = n_components - n_axes
        signal = np.pad(np.maximum(variances - residual, 0), (0, n_added))
        axes = np.pad(self.axes[:, :n_axes], [(0, 0), (0, n_added)])
        loadings = np.sqrt(signal)[:, None] * axes.T
        posterior_weights = loadings.T / (signal + residual) / self.scale[:, None]
        return LinearGaussian(
            loc=self.loc,
            loadings=loadings * self.scale,
            residual=np.sqrt(residual) * self.scale,
            posterior_weights=posterior_weights,
            posterior_scale=np.sqrt(residual / (signal + residual)),
            intercept=-self.loc @ posterior_weights,
        )


def observed_moments(x: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute means and variances of the observed values; 0 and 1 where there are none."""
    observed = ~np.isnan(x)
    total = np.maximum(weight @ observed, np.finfo(np.float64).tiny)
    loc = weight @ np.where(observed, x, 0) / total
    variance = weight @ np.where(observed, np.square(x - loc), 0) / total
    return loc, np.where(variance > 0, variance, 1.0)


def axis_signs(axes: np.ndarray) -> np.ndarray:
    """Return the signs that make each axis' largest entry positive: (d, n_axes) -> (n_axes,).

    Rounding errors decide the sign of an eigenvector.
    """
    if not axes.size:
        return np.ones(axes.shape[1])
    # the first of those that differ by rounding only, as all do in a table of two columns
    sizes = np.abs(axes)
    largest = (sizes > (1 - 1e-6) * sizes.max(axis=0)).argmax(axis=0)
    return np.sign(axes[largest, np.arange(axes.shape[1])])


def _moments(x: np.ndarray, weight: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Compute the total weight and the columns' means and standard deviations in chunks."""
    total = weight.sum()
    loc = sum(w @ rows for rows, w in _weighted_chunks(x, weight)) / total
    variance = sum(w @ np.square(rows - loc) for rows, w in _weighted_chunks(x, weight))
    scale = np.sqrt(variance / total)
    scale[scale < 1e-6] = 1.0  # of constant columns
    return total, loc, scale


def _leading_eigenvectors(gram: np.ndarray, n_axes: int) -> tuple[np.ndarray, np.ndarray]:
    """Compute the leading eigenvalues and eigenvectors; the matrix is overwritten."""
    size = len(gram)
    if n_axes == 0:
        return np.zeros(0), np.zeros((size, 0))
    if size > 1024:
        subset = (size - n_axes, size - 1)
        values, vectors = linalg.eigh(gram.T, subset_by_index=subset, overwrite_a=True)
    else:
        # all of them: if eigenvalues are equal, as after whitening, the eigenvectors of a subset
        # depend on its size, and a member's initialization would depend on the other members
        values, vectors = linalg.eigh(gram.T, driver="evd", overwrite_a=True)
    return np.maximum(values[::-1][:n_axes], 0), vectors[:, ::-1][:, :n_axes]


def _weighted_chunks(x: np.ndarray, weight: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield some rows at a time, in double precision, and their weights."""
    for rows in batches(len(x), min(NUMBERS_AT_A_TIME // max(x.shape[1], 1), ROWS_AT_A_TIME)):
        yield x[rows].astype(np.float64), weight[rows]
