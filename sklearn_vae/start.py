"""Start from what is already known: probabilistic PCA in closed form."""

from dataclasses import dataclass

import numpy as np
from scipy import linalg

# the residual's standard deviation, in units of the columns', is at least 0.003
SMALLEST_VARIANCE = 1e-5


@dataclass(frozen=True)
class LinearStart:
    """A linear Gaussian model and its exact posterior, in standardised columns.

    ``x = z @ loadings + residual`` with standard normal z and a residual variance that
    all columns share; ``z | x`` is normal with mean ``x @ recognition`` and independent
    dimensions of ``posterior_variance``.
    """

    loadings: np.ndarray  # (l, d)
    residual_variance: float
    recognition: np.ndarray  # (d, l)
    posterior_variance: np.ndarray  # (l,)


def probabilistic_pca(X: np.ndarray, weight: np.ndarray | None, n_components: int) -> LinearStart:
    """Fit probabilistic PCA by maximum likelihood.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Rows with columns of mean 0.
    weight : ndarray of shape (n,) or None
        What each row counts.
    n_components : int
        Latent dimensions; those beyond the rank of X are left silent.

    Returns
    -------
    LinearStart
        The model and its posterior, whose axes are PCA's, the largest first.

    References
    ----------
    .. [1] M. E. Tipping and C. M. Bishop, "Probabilistic Principal Component
       Analysis", Journal of the Royal Statistical Society B 61, 1999.
    """
    n_columns = X.shape[1]
    n_axes = min(n_components, *X.shape)
    variances, axes = _leading_axes(X, weight, n_axes)
    if n_axes < n_columns:
        residual = (_total_variance(X, weight) - variances.sum()) / (n_columns - n_axes)
    else:  # any residual up to the smallest variance gives the same density
        residual = 0.5 * variances[-1] if n_columns else 1.0
    residual = max(residual, SMALLEST_VARIANCE)

    signal = np.zeros(n_components)
    signal[:n_axes] = np.maximum(variances - residual, 0)
    directions = np.zeros((n_components, n_columns))
    directions[:n_axes] = axes.T
    loadings = np.sqrt(signal)[:, None] * directions
    return LinearStart(
        loadings=loadings,
        residual_variance=residual,
        recognition=loadings.T / (signal + residual),
        posterior_variance=residual / (signal + residual),
    )


def _leading_axes(
    X: np.ndarray, weight: np.ndarray | None, n_axes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Largest variances and their axes (d, n_axes), by way of the smaller Gram matrix."""
    rows = X if weight is None else X * np.sqrt(weight / weight.mean())[:, None]
    n_rows, n_columns = X.shape
    if n_axes == 0:
        return np.zeros(0), np.zeros((n_columns, 0))
    if n_columns <= n_rows:
        variances, axes = _largest(rows.T @ rows / n_rows, n_axes)
    else:
        variances, sides = _largest(rows @ rows.T / n_rows, n_axes)
        axes = rows.T @ sides
        axes /= np.maximum(np.linalg.norm(axes, axis=0), np.finfo(X.dtype).tiny)
    largest = np.abs(axes).argmax(axis=0)
    return variances, axes * np.sign(axes[largest, np.arange(n_axes)])


def _largest(gram: np.ndarray, n_axes: int) -> tuple[np.ndarray, np.ndarray]:
    size = len(gram)
    values, vectors = linalg.eigh(gram, subset_by_index=[size - n_axes, size - 1])
    return np.maximum(values[::-1], 0), vectors[:, ::-1]


def _total_variance(X: np.ndarray, weight: np.ndarray | None) -> float:
    return float(np.average(np.einsum("ij,ij->i", X, X), weights=weight))
