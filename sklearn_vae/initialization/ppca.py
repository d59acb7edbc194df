"""Start from what is already known: probabilistic PCA in closed form."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import linalg

from sklearn_vae.initialization.regression import ConditionRegression

# the residual's standard deviation, in units of the columns', is at least 0.003
SMALLEST_VARIANCE = 1e-5
# a column that varies less than this is not rescaled
SMALLEST_SCALE = 1e-6
# of larger matrices only the axes that are asked for are computed
MOST_FOR_ALL_AXES = 1024
# a recording step is looked for in so many rows
ROWS_FOR_STEPS = 2048
# numbers that are taken into double precision at a time, and rows: their sums may be in single
CHUNK = 1 << 20
CHUNK_ROWS = 4096


@dataclass(frozen=True)
class LinearGaussian:
    """A linear Gaussian model and its exact posterior.

    With standard normal z, ``x = loc + z @ loadings + residual``; given x, z is normal
    with mean ``(x - loc) @ recognition`` and independent dimensions.
    """

    loc: np.ndarray  # (d,)
    loadings: np.ndarray  # (l, d)
    residual: np.ndarray  # (d,) standard deviations
    posterior_weights: np.ndarray  # (d, l)
    posterior_scale: np.ndarray  # (l,) standard deviations
    pseudo_observation_scale: (
        np.ndarray
    )  # (d,) residuals of the rows that the scales' prior imagines
    # of a table with holes: loc (d,), loadings (k, d), precisions (d,) of what fills them, and
    # what each condition adds, if there are any, (n_conditions, d)
    imputation: tuple[np.ndarray, ...] | None = None
    # (l,) what recognition is added to, where it is not -loc @ recognition
    intercept: np.ndarray | None = None
    # of rows with conditions: what these change, and x is then what is left
    effects: ConditionRegression | None = None

    def padded(self, n_components: int) -> "LinearGaussian":
        """Add silent dimensions up to this number."""
        more = n_components - len(self.posterior_scale)
        if more == 0:
            return self
        return replace(
            self,
            loadings=np.pad(self.loadings, [(0, more), (0, 0)]),
            posterior_weights=np.pad(self.posterior_weights, [(0, 0), (0, more)]),
            posterior_scale=np.pad(self.posterior_scale, (0, more), constant_values=1.0),
        )


@dataclass(frozen=True)
class CorrelationPCA:
    """The moments of a table and the leading axes of its correlation, largest first."""

    loc: np.ndarray  # (d,)
    scale: np.ndarray  # (d,)
    variances: np.ndarray  # (n_axes,)
    axes: np.ndarray  # (d, n_axes)
    total_variance: float
    steps: np.ndarray  # (d,) recording steps
    effects: ConditionRegression | None = None
    least_residual: float = SMALLEST_VARIANCE  # in units of the columns' variances

    @classmethod
    def of(
        cls, x: np.ndarray, weight: np.ndarray | None, n_axes: int, least_scale: float = 0.0
    ) -> "CorrelationPCA":
        """Compute as many axes as there are, up to a number, of columns with a scale at least."""
        weight = np.ones(len(x)) if weight is None else weight
        total, loc, scale = _moments(x, weight)
        scale = np.maximum(scale, least_scale)
        n_axes = min(n_axes, *x.shape)
        leading = _leading_axes(x, weight / total, loc, scale, n_axes)
        return cls(loc, scale, *leading, recording_steps(x))

    def start(self, n_components: int, prior_rows: float = 0.0) -> LinearGaussian:
        """Probabilistic PCA of this size, no larger than the axes suffice for."""
        n_columns = len(self.loc)
        n_axes = min(n_components, len(self.variances))
        variances = self.variances[:n_axes]
        if n_axes < n_columns:
            residual = (self.total_variance - variances.sum()) / (n_columns - n_axes)
        else:  # any residual up to the smallest variance gives the same density
            residual = 0.5 * variances[-1] if n_columns else 1.0
        residual = max(residual, self.least_residual)

        signal = np.zeros(n_components)
        signal[:n_axes] = np.maximum(variances - residual, 0)
        directions = np.zeros((n_components, n_columns))
        directions[:n_axes] = self.axes[:, :n_axes].T
        loadings = np.sqrt(signal)[:, None] * directions
        residual_variance = residual * np.square(self.scale)
        return LinearGaussian(
            loc=self.loc,
            loadings=loadings * self.scale,
            residual=np.sqrt(residual) * self.scale,
            pseudo_observation_scale=pseudo_observation_scale(
                residual_variance, self.steps, prior_rows
            ),
            posterior_weights=loadings.T / (signal + residual) / self.scale[:, None],
            posterior_scale=np.sqrt(residual / (signal + residual)),
            effects=self.effects,
        )


def probabilistic_pca(
    x: np.ndarray, weight: np.ndarray | None, n_components: int
) -> LinearGaussian:
    """Fit probabilistic PCA to the standardised columns, by maximum likelihood.

    Parameters
    ----------
    x : ndarray of shape (n, d)
        Rows.
    weight : ndarray of shape (n,) or None
        What each row counts.
    n_components : int
        Latent dimensions; those beyond the rank of x are left silent.

    Returns
    -------
    LinearStart
        The model and its posterior in the units of x. Its axes are PCA's, the largest
        first.

    References
    ----------
    .. [1] M. E. Tipping and C. M. Bishop, "Probabilistic Principal Component
       Analysis", Journal of the Royal Statistical Society B 61, 1999.
    """
    return CorrelationPCA.of(x, weight, n_components).start(n_components)


def pseudo_observation_scale(
    variance: np.ndarray, steps: np.ndarray, prior_rows: float
) -> np.ndarray:
    """Standard deviation of the rows that the scales' prior imagines: (d,).

    A value that is recorded in steps is known up to a variance of step²/12. Where there
    are ``prior_rows`` imagined rows per row, they have these variances of all rows on
    top of their own residual, so that no scale becomes finer than the record. A step is
    at most as coarse as the residual: a column that hardly ever changes shows few of
    its values.
    """
    if prior_rows <= 0:
        return np.sqrt(variance)
    return np.sqrt(variance + np.minimum(np.square(steps) / 12, variance) / prior_rows)


def recording_steps(x: np.ndarray) -> np.ndarray:
    """Step in which each column was recorded: (n, d) -> (d,), 0 where it does not vary.

    It is the gap between neighbouring values that one in twenty gaps is smaller than: a few
    values that are recorded more finely do not decide it, and where nothing was rounded
    it is next to nothing.
    """
    ordered = np.sort(x[:ROWS_FOR_STEPS].astype(np.float64), axis=0)
    gaps = np.diff(ordered, axis=0)  # missing cells come last, and have no gaps
    # 0.1 + 0.2 and 0.3 are one recorded value
    extent = np.fmax.reduce(ordered, axis=0) - ordered[0]
    gaps[~(gaps > SMALLEST_SCALE * extent)] = np.inf
    gaps.sort(axis=0)
    n_gaps = np.isfinite(gaps).sum(axis=0)
    steps = np.zeros(x.shape[1])
    varies = np.flatnonzero(n_gaps)
    steps[varies] = gaps[(n_gaps[varies] - 1) // 20, varies]
    return steps


def _moments(x: np.ndarray, weight: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Total weight, and each column's mean and standard deviation, a chunk at a time."""
    total = weight.sum()
    loc = sum(weight[rows] @ x[rows].astype(np.float64) for rows in _chunks(x)) / total
    variance = sum(
        weight[rows] @ np.square(x[rows].astype(np.float64) - loc) for rows in _chunks(x)
    )
    scale = np.sqrt(variance / total)
    scale[scale < SMALLEST_SCALE] = 1.0
    return total, loc, scale


def _leading_axes(
    x: np.ndarray, share: np.ndarray, loc: np.ndarray, scale: np.ndarray, n_axes: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Largest variances, their axes (d, n_axes) and the sum of all variances."""
    n_rows, n_columns = x.shape
    if n_columns <= n_rows:
        gram = np.zeros((n_columns, n_columns))
        for rows in _chunks(x):
            # in the precision of x: a chunk's sums are short
            part = _weighted(x[rows], share[rows], loc, scale).astype(x.dtype, copy=False)
            gram += _product(part.T, part)
    else:  # the smaller Gram matrix has the same variances
        part = _weighted(x[:], share, loc, scale)
        gram = _product(part, part.T)
    total = float(np.trace(gram))
    variances, axes = _largest(gram, n_axes)
    if n_columns > n_rows:
        axes = part.T @ axes
        axes /= np.maximum(np.linalg.norm(axes, axis=0), np.finfo(np.float64).tiny)
    if n_axes:
        largest = np.abs(axes).argmax(axis=0)
        axes = axes * np.sign(axes[largest, np.arange(n_axes)])
    return variances, axes, total


def _weighted(x: np.ndarray, share: np.ndarray, loc: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return (x.astype(np.float64) - loc) / scale * np.sqrt(share)[:, None]


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Multiply by torch, whose threads the caller governs."""
    return (torch.as_tensor(a) @ torch.as_tensor(b)).numpy()


def _largest(gram: np.ndarray, n_axes: int) -> tuple[np.ndarray, np.ndarray]:
    """Largest eigenvalues and their vectors, for which the matrix makes room."""
    size = len(gram)
    if n_axes == 0:
        return np.zeros(0), np.zeros((size, 0))
    if size > MOST_FOR_ALL_AXES:
        some = (size - n_axes, size - 1)
        values, vectors = linalg.eigh(gram.T, subset_by_index=some, overwrite_a=True)
    else:
        # all of them: where variances are equal, as after a PCA that whitens, the axes of a
        # subset would follow from its size, and a model's start from the models beside it
        values, vectors = linalg.eigh(gram.T, driver="evd", overwrite_a=True)
    return np.maximum(values[::-1][:n_axes], 0), vectors[:, ::-1][:, :n_axes]


def _chunks(x: np.ndarray) -> Iterator[slice]:
    step = min(max(CHUNK // max(x.shape[1], 1), 1), CHUNK_ROWS)
    for first in range(0, len(x), step):
        yield slice(first, first + step)
