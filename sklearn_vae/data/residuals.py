"""Residuals of regressions in place of nearly collinear numbers, as the times of an event.

Each pair of such columns would take a latent dimension and a scale that is a small part of its own.
Where more than three are as near, no residuals are taken: a common factor needs three indicators
[1]_, and with more of them the model has it.

References
----------
.. [1] T. W. Anderson and H. Rubin, "Statistical Inference in Factor Analysis", Third Berkeley
   Symposium on Mathematical Statistics and Probability 5, 1956.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np

from sklearn_vae.data.columns.numbers import bend_tails, unbend_tails
from sklearn_vae.data.training_column import MAX_COMPARED
from sklearn_vae.persistence.validation import serializable

# Nearly collinear: fraction of the variance that a regression on another column leaves, at most,
# and of what is left by regressions on all other columns but so many.
MAX_LEFT = 0.1
MAX_NEAR = 2
# Rows with both columns, at least.
MIN_ROWS = 30

NO_INPUTS, NO_NUMBERS = np.zeros(0, int), np.zeros(0)


@serializable
@dataclass(frozen=True, eq=False)
class Residuals:
    """Inputs of the model that are standardized residuals of linear regressions on other inputs."""

    inputs: Annotated[np.ndarray, "i", "m"] = field(default_factory=lambda: NO_INPUTS)  # indices
    # inputs that they are regressed on, which are no residuals
    sources: Annotated[np.ndarray, "i", "m"] = field(default_factory=lambda: NO_INPUTS)
    intercepts: Annotated[np.ndarray, "f", "m"] = field(default_factory=lambda: NO_NUMBERS)
    slopes: Annotated[np.ndarray, "f", "m"] = field(default_factory=lambda: NO_NUMBERS)
    scales: Annotated[np.ndarray, "f+", "m"] = field(default_factory=lambda: NO_NUMBERS)

    def check(self) -> None:
        """Check the attributes, as after reading them from a file."""
        if len({*self.inputs.tolist()} - {*self.sources.tolist()}) < len(self.inputs):
            raise ValueError("each input must have one source, which is no residual")
        if not self.slopes.all():
            raise ValueError("slopes must not be 0")

    def __bool__(self) -> bool:
        return len(self.inputs) > 0

    def __iter__(self) -> Iterator[tuple[int, int, float, float, float]]:
        parts = self.inputs, self.sources, self.intercepts, self.slopes, self.scales
        return zip(*(part.tolist() for part in parts), strict=True)

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Replace values (n, n_inputs) by residuals, in place; return the log-det-Jacobian: (n,).

        A missing source gets the value at the same quantile as that of the first of its residuals,
        which is then missing: both are about normal, and the source is standardized.
        """
        log_det = np.zeros(len(values))
        for j, source, intercept, slope, scale in self:
            x, total = values[:, j].astype(np.float64) - intercept, np.hypot(slope, scale)
            is_implied = np.isnan(values[:, source]) & ~np.isnan(x)
            values[is_implied, source] = np.sign(slope) / total * x[is_implied]
            x = (x - slope * values[:, source]) / scale
            log_slope = bend_tails(x)
            x[is_implied] = np.nan
            values[:, j] = x
            log_det += (log_slope - np.log(scale)) * ~np.isnan(x) - is_implied * np.log(total)
        return log_det

    def decode(self, values: np.ndarray, observed: np.ndarray | None = None) -> None:
        """Replace residuals (n, n_inputs) by values, in place.

        Sources have their ``observed`` values, or are drawn by the regression on the first observed
        value of their residuals: both are encoded, but for residuals, NaN where none is known
        (n, n_inputs).
        """
        residuals = unbend_tails(values[:, self.inputs].astype(np.float64))
        x, of_sources = np.full((2, *residuals.shape), np.nan)
        if observed is not None:
            x, of_sources = observed[:, self.inputs], observed[:, self.sources]
        for k, (_, source, intercept, slope, scale) in enumerate(self):
            total, is_same = np.hypot(slope, scale), self.sources == source
            mean = slope / total * (x[:, k] - intercept)
            implied = (mean - np.sign(slope) * scale * residuals[:, k]) / total
            is_missing = np.isnan(of_sources) & is_same
            of_sources = np.where(is_missing, implied[:, None], of_sources)
        of_sources = np.where(np.isnan(of_sources), values[:, self.sources], of_sources)
        drawn = self.intercepts + self.slopes * of_sources + self.scales * residuals
        values[:, self.sources] = of_sources
        values[:, self.inputs] = np.where(np.isnan(x), drawn, x)


def find_residuals(values: np.ndarray, inputs: np.ndarray, weight: np.ndarray) -> Residuals:
    """Find nearly collinear inputs (m,) among those of encoded rows (n, n_inputs).

    Of them, the one with the most others, and then the fewest missing values, is the source. The
    weight (n,) is the number of times that each row counts.
    """
    if not 1 < len(inputs) <= MAX_COMPARED:
        return Residuals()
    n_missing = np.isnan(values[:, inputs]).sum(axis=0)
    inputs = inputs[np.argsort(n_missing, kind="stable")]
    x = values[:, inputs].astype(np.float64)
    left = _fraction_left(x, weight)
    reach = np.minimum(left / MAX_LEFT, MAX_LEFT)
    pairs = zip(np.sort(left), reach, strict=True)
    n_near = np.stack([np.searchsorted(ordered, limit, "right") for ordered, limit in pairs])
    is_near = (left <= MAX_LEFT) & (n_near <= MAX_NEAR) & (n_near.T <= MAX_NEAR)
    gain = np.where(is_near, -np.log(left), 0.0)
    lines: list[tuple[int, int, float, float, float]] = []
    while gain.any():
        source = int(gain.sum(axis=0).argmax())
        near = np.flatnonzero(gain[source])
        for j in near.tolist():
            line = _regress(x[:, source], x[:, j], weight)
            if line is not None:
                lines.append((int(inputs[j]), int(inputs[source]), *line))
        gain[[source, *near]] = gain[:, [source, *near]] = 0
    if not lines:
        return Residuals()
    chosen, sources, intercepts, slopes, scales = map(np.array, zip(*lines, strict=True))
    scales = np.maximum(scales, 1e4 * np.finfo(values.dtype).eps)  # above rounding errors of 1
    return Residuals(chosen, sources, intercepts, slopes, scales)


def _fraction_left(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Fraction of each variance that a regression on one other column leaves: (n, k) -> (k, k).

    It is 1 for a column and itself, and where few rows have both.
    """
    observed = (~np.isnan(x)).astype(float)
    n_rows = observed.T @ observed
    weights, x = weight[:, None] * observed, np.nan_to_num(x)
    with np.errstate(all="ignore"):
        total = observed.T @ weights
        mean = x.T @ weights / total  # of each column, in the rows of the other one
        variance = np.square(x).T @ weights / total - np.square(mean)
        covariance = x.T @ (weight[:, None] * x) / total - mean * mean.T
        left = 1 - np.square(covariance) / (variance * variance.T)
    least = np.finfo(float).eps
    left = np.where((n_rows >= MIN_ROWS) & np.isfinite(left), np.maximum(left, least), 1.0)
    np.fill_diagonal(left, 1.0)
    return left


def _regress(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple[float, float, float] | None:
    """Intercept, slope and standard deviation of the residuals of y (n,) on x (n,).

    It is None where few far values make most of the correlation.
    """
    observed = ~(np.isnan(x) | np.isnan(y))
    x, y, weight = x[observed], y[observed], weight[observed] / weight[observed].sum()
    x_mean, y_mean = weight @ x, weight @ y
    slope = weight @ ((x - x_mean) * (y - y_mean)) / (weight @ np.square(x - x_mean))
    residual = y - y_mean - slope * (x - x_mean)
    scale = float(np.sqrt(weight @ np.square(residual)))
    of_most, of_residuals = (np.median(np.abs(v - np.median(v))) for v in (y, residual))
    if of_residuals > np.sqrt(MAX_LEFT) * of_most:
        return None
    return float(y_mean - slope * x_mean), float(slope), scale
