"""Likelihoods of real columns: normal and log-normal."""

import math
from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

import numpy as np

from sklearn_vae.likelihoods.base import Likelihood, LinearParameters, weighted_moments
from sklearn_vae.likelihoods.columnwise import Limits, Parameters, sample_truncated
from sklearn_vae.likelihoods.draws import Generator, draw_normal
from sklearn_vae.numerics import array_api as ops
from sklearn_vae.numerics.array_api import Array, namespace
from sklearn_vae.numerics.model_constants import HALF_LOG_2PI, LOG_SCALE_BOUND
from sklearn_vae.persistence.validation import invalid_parameter, serializable

# Smallest fixed scale; the largest is its inverse.
MIN_FIXED_SCALE = 1e-3


@serializable
@dataclass(frozen=True)
class Gaussian(Likelihood):
    r"""Real-valued columns, :math:`p(x | z) = \mathcal{N}(x | \mu(z), \sigma^2)`.

    The scale is learned with the decoder, so that a column's weight in the loss does not depend
    on its unit.

    Parameters
    ----------
    scale : {"per_row", "per_column"} or float, default="per_row"
        Standard deviation: a function of z, one learned number per column, or
        fixed: a number between 0.001 and 1000, in units of the column's own standard
        deviation. With a fixed scale, training minimizes the squared error, and the density is
        seldom calibrated.

    Examples
    --------
    >>> from sklearn_vae.likelihoods import Gaussian
    >>> Gaussian(scale="per_column")
    Gaussian(scale='per_column')
    """

    scale_param: ClassVar[int] = 1

    scale: str | float = "per_row"

    def __post_init__(self) -> None:
        is_number = isinstance(self.scale, Real) and not isinstance(self.scale, bool)
        if self.scale not in ("per_row", "per_column") and not (
            is_number and MIN_FIXED_SCALE <= float(self.scale) <= 1 / MIN_FIXED_SCALE
        ):
            numbers = f"a number between {MIN_FIXED_SCALE} and {1 / MIN_FIXED_SCALE:.0f}"
            expected = f"be 'per_row', 'per_column' or {numbers}"
            raise invalid_parameter(self, "scale", expected, self.scale)

    @property
    def has_fixed_scale(self) -> bool:
        """True if the scale is fixed."""
        return not isinstance(self.scale, str)

    def _log_scale(self, raw: Array) -> Array:
        if self.has_fixed_scale and not isinstance(raw, np.ndarray):
            raw = raw.detach()
        return ops.bounded(raw, LOG_SCALE_BOUND)

    @property
    def depends_on_z(self) -> tuple[bool, ...]:
        """The mean depends on z, the scale if it is one per row."""
        return True, self.scale == "per_row"

    def log_prob_per_column(self, params: Parameters, x: Array) -> Array:
        """Log-density of each value: (..., n) -> (..., n)."""
        xp, (loc, raw) = namespace(x), params
        log_scale = self._log_scale(raw)
        residual = (x - loc) * xp.exp(-log_scale)
        return -0.5 * xp.square(residual) - log_scale - HALF_LOG_2PI

    def gradient(self, params: Parameters, x: np.ndarray) -> list[np.ndarray]:
        """Gradients of the log-densities in the mean and the log-scale: (..., n)."""
        inverse_scale = np.exp(-self._log_scale(params[1]))
        residual = (x - params[0]) * inverse_scale
        of_scale = (np.square(residual) - 1) * ops.bounded_slope(params[1], LOG_SCALE_BOUND)
        return [residual * inverse_scale, of_scale]

    def mean(self, params: Parameters) -> Array:
        """Mean of p(x|z): (..., n)."""
        return params[0]

    def residual(self, params: Parameters, x: Array) -> Array:
        """Difference of each value from the mean: (..., n) -> (..., n)."""
        return x - params[0]

    def sample(self, params: Parameters, generator: Generator, limits: Limits | None) -> Array:
        """Sample rows from p(x|z): (..., n)."""
        loc, raw = params
        scale = namespace(raw).exp(self._log_scale(raw))
        return sample_truncated(lambda: loc + scale * draw_normal(loc, generator), limits)

    def initialize(self, loadings: Array, loc: Array, scale: Array) -> LinearParameters:
        """The linear Gaussian model itself, but for a fixed scale."""
        xp = namespace(loc)
        if isinstance(self.scale, Real):
            scale = xp.full_like(scale, float(self.scale))
        return [
            (loadings, loc),
            (xp.zeros_like(loadings), ops.unbounded(scale.log(), LOG_SCALE_BOUND)),
        ]

    def fisher_features(self, params: Parameters, slopes: Parameters) -> Array:
        """A feature of the mean and one of the standard deviation."""
        (_, raw), (mean_slope, raw_slope), xp = params, slopes, namespace(slopes[0])
        of_scale = ops.bounded_slope(raw, LOG_SCALE_BOUND) * (not self.has_fixed_scale)
        mean_slope = mean_slope * xp.exp(-self._log_scale(raw))
        return xp.stack([mean_slope, math.sqrt(2) * (raw_slope * of_scale)], -1)

    def maximum_likelihood(self, x: Array, weights: Array) -> list[Array]:
        """Means and standard deviations, unless the scale is fixed."""
        mean, scale = weighted_moments(x, weights)
        if isinstance(self.scale, Real):
            scale = namespace(x).full_like(scale, float(self.scale))
        return [mean, ops.unbounded(scale.log(), LOG_SCALE_BOUND)]


@serializable
@dataclass(frozen=True)
class LogNormal(Gaussian):
    r"""Positive columns, :math:`p(x | z) = \mathcal{N}(\log x | \mu(z), \sigma^2) / x`.

    Values are encoded as their logarithms, which have the likelihood of a :class:`Gaussian`
    column. ``inverse_transform`` returns the median of p(x|z), the exponential of the
    logarithms' mean.

    Parameters
    ----------
    scale : {"per_row", "per_column"} or float, default="per_row"
        Standard deviation of the logarithms: a function of z, one learned number per column,
        or fixed, in units of the logarithms' standard deviation in the table.

    Examples
    --------
    >>> from sklearn_vae.likelihoods import LogNormal
    >>> LogNormal()
    LogNormal(scale='per_row')
    """
