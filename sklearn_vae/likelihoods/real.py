"""Likelihoods of real columns: normal, log-normal and heavy-tailed."""

import math
from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

import numpy as np

from sklearn_vae.likelihoods.base import (
    MIN_VARIANCE,
    Likelihood,
    LinearParameters,
    weighted_moments,
)
from sklearn_vae.likelihoods.columnwise import Limits, Parameters, sample_truncated
from sklearn_vae.likelihoods.draws import Generator, draw_gamma, draw_normal
from sklearn_vae.numerics.array_api import Array, detach, lgamma, namespace, rsqrt
from sklearn_vae.numerics.functional import bounded, bounded_slope, unbounded
from sklearn_vae.numerics.model_constants import (
    HALF_LOG_2PI,
    LOG_DF_BOUND,
    LOG_DF_CENTRE,
    LOG_SCALE_BOUND,
)
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import invalid_parameter

# Smallest fixed scale; the largest is its inverse.
MIN_FIXED_SCALE = 1e-3
INITIAL_LOG_DF = math.log(5.0)
# Iterations by which a t distribution is fitted to rows, and those from similar parameters.
ECME_STEPS = 50
ECME_STEPS_FROM_START = 2


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
        return bounded(detach(raw) if self.has_fixed_scale else raw, LOG_SCALE_BOUND)

    def has_density(self, x: Array) -> Array:
        """Mask of the numbers, all of which have a normal density: (..., n) -> (..., n)."""
        return namespace(x).ones_like(x, dtype=bool)

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

    def log_prob(self, params: Parameters, x: Array) -> Array:
        """Log-density of the rows, summed over columns: (..., n) -> (...)."""
        xp, (loc, raw) = namespace(x), params
        log_scale = self._log_scale(raw)
        residual = (x - loc) * xp.exp(-log_scale)
        # a scale per column is summed once, not once per draw
        constant = (log_scale + HALF_LOG_2PI).sum(-1)
        return -0.5 * xp.square(residual).sum(-1) - constant

    def gradient(self, params: Parameters, x: np.ndarray, number: int) -> np.ndarray:
        """Gradient of the log-densities in the mean or the log-scale: (..., n)."""
        inverse_scale = np.exp(-self._log_scale(params[1]))
        residual = (x - params[0]) * inverse_scale
        if number == 0:
            return residual * inverse_scale
        return (np.square(residual) - 1) * bounded_slope(params[1], LOG_SCALE_BOUND)

    def mean(self, params: Parameters) -> Array:
        """Mean of p(x|z): (..., n)."""
        return params[0]

    def residual(self, params: Parameters, x: Array) -> Array:
        """Difference of each value from the mean: (..., n) -> (..., n)."""
        return x - params[0]

    def cdf(self, params: Parameters, x: Array) -> tuple[Array, Array]:
        """P(X < x) and P(X = x) of each value: (..., n) -> (..., n), (..., n)."""
        xp, (loc, raw) = namespace(x), params
        below = xp.special.ndtr((x - loc) * (-self._log_scale(raw)).exp())
        return below, xp.zeros_like(below)

    def sample(
        self, params: Parameters, generator: Generator, limits: Limits | None = None
    ) -> Array:
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
            (xp.zeros_like(loadings), unbounded(scale.log(), LOG_SCALE_BOUND)),
        ]

    def fisher_features(self, params: Parameters, slopes: Parameters) -> Array:
        """A feature of the mean and one of the standard deviation."""
        (_, raw), (mean_slope, raw_slope), xp = params, slopes, namespace(slopes[0])
        log_scale_slope = (
            raw_slope * bounded_slope(raw, LOG_SCALE_BOUND) * (not self.has_fixed_scale)
        )
        mean_slope = mean_slope * xp.exp(-self._log_scale(raw))
        return xp.stack([mean_slope, math.sqrt(2) * log_scale_slope], -1)

    def maximum_likelihood(
        self, x: Array, weights: Array, start: Parameters | None = None
    ) -> list[Array]:
        """Means and standard deviations, unless the scale is fixed."""
        mean, scale = weighted_moments(x, weights)
        if isinstance(self.scale, Real):
            scale = namespace(x).full_like(scale, float(self.scale))
        return [mean, unbounded(scale.log(), LOG_SCALE_BOUND)]


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


@serializable
@dataclass(frozen=True)
class StudentT(Likelihood):
    r"""Real-valued columns with heavy tails, :math:`(x - \mu(z)) / \sigma(z) \sim t_\nu`.

    The degrees of freedom :math:`\nu` are learned, one number per column. The loss of an outlier
    grows with the logarithm of its distance, not with its square, so the fit is robust.

    Parameters
    ----------
    scale : {"per_row", "per_column"}, default="per_row"
        Scale: a function of z, or one learned number per column.

    References
    ----------
    .. [1] K. L. Lange, R. J. A. Little and J. M. G. Taylor, "Robust Statistical Modeling
       Using the t Distribution", Journal of the American Statistical Association 84, 1989.

    Examples
    --------
    >>> from sklearn_vae.likelihoods import StudentT
    >>> StudentT(scale="per_column")
    StudentT(scale='per_column')
    """

    scale_param: ClassVar[int] = 1

    scale: str = "per_row"

    def __post_init__(self) -> None:
        if self.scale not in ("per_row", "per_column"):
            raise invalid_parameter(self, "scale", "be 'per_row' or 'per_column'", self.scale)

    @property
    def depends_on_z(self) -> tuple[bool, ...]:
        """The location depends on z, the scale if it is one per row, the tails do not."""
        return True, self.scale == "per_row", False

    @staticmethod
    def _df(raw: Array) -> Array:
        return namespace(raw).exp(LOG_DF_CENTRE + bounded(raw, LOG_DF_BOUND))

    def log_prob_per_column(self, params: Parameters, x: Array) -> Array:
        """Log-density of each value: (..., n) -> (..., n)."""
        xp, (loc, raw, raw_df) = namespace(x), params
        log_scale, df = bounded(raw, LOG_SCALE_BOUND), self._df(raw_df)
        half = 0.5 * (df + 1)
        constant = lgamma(half) - lgamma(0.5 * df) - 0.5 * xp.log(math.pi * df)
        # |residual| / sqrt(df) is squared in a logarithm, where it cannot overflow
        distance = abs((x - loc) * xp.exp(-log_scale)) * rsqrt(df)
        return constant - log_scale - half * _log_one_plus_square(distance)

    def mean(self, params: Parameters) -> Array:
        """Location of p(x|z), its mean if it has one: (..., n)."""
        return params[0]

    def cdf(self, params: Parameters, x: Array) -> tuple[Array, Array]:
        """P(X < x) and P(X = x) of each value: (..., n) -> (..., n), (..., n)."""
        from scipy import special  # the runtime goes without it

        xp, (loc, raw, raw_df) = namespace(x), params
        residual = (x - loc) * (-bounded(raw, LOG_SCALE_BOUND)).exp()
        df = self._df(raw_df).expand_as(residual)
        arrays = (tensor.detach().cpu().double().numpy() for tensor in (df, residual))
        below = xp.as_tensor(special.stdtr(*arrays)).to(residual)
        return below, xp.zeros_like(below)

    def sample(
        self, params: Parameters, generator: Generator, limits: Limits | None = None
    ) -> Array:
        """Sample rows from p(x|z): (..., n)."""
        xp, (loc, raw, raw_df) = namespace(params[0]), params
        half = 0.5 * xp.broadcast_to(self._df(raw_df), loc.shape)
        scale, smallest = xp.exp(bounded(raw, LOG_SCALE_BOUND)), xp.finfo(loc.dtype).tiny

        def draw() -> Array:
            normal = draw_normal(loc, generator)
            gamma = draw_gamma(half, generator).clip(min=smallest)
            return loc + scale * (normal * xp.sqrt(half / gamma))

        return sample_truncated(draw, limits)

    def initialize(self, loadings: Array, loc: Array, scale: Array) -> LinearParameters:
        """The linear Gaussian model with five degrees of freedom."""
        xp = namespace(loc)
        raw_df = xp.full_like(loc, INITIAL_LOG_DF - LOG_DF_CENTRE)
        return [
            (loadings, loc),
            (xp.zeros_like(loadings), unbounded(scale.log(), LOG_SCALE_BOUND)),
            (xp.zeros_like(loadings), unbounded(raw_df, LOG_DF_BOUND)),
        ]

    def fisher_features(self, params: Parameters, slopes: Parameters) -> Array:
        """A feature of the location and one of the scale (Lange et al., 1989)."""
        (_, raw, raw_df), (loc_slope, raw_slope, _), xp = params, slopes, namespace(slopes[0])
        df, inverse_scale = self._df(raw_df), xp.exp(-bounded(raw, LOG_SCALE_BOUND))
        loc_slope = loc_slope * xp.sqrt((df + 1) / (df + 3)) * inverse_scale
        log_scale_slope = raw_slope * bounded_slope(raw, LOG_SCALE_BOUND)
        return xp.stack([loc_slope, xp.sqrt(2 * df / (df + 3)) * log_scale_slope], -1)

    def maximum_likelihood(
        self, x: Array, weights: Array, start: Parameters | None = None
    ) -> list[Array]:
        """Locations, scales and degrees of freedom by EM (ECME [1]_).

        The degrees of freedom take one step of Fisher scoring in each iteration.

        References
        ----------
        .. [1] C. Liu and D. B. Rubin, "The ECME Algorithm: A Simple Extension of EM and ECM
           with Faster Monotone Convergence", Biometrika 81, 1994.
        """
        if start is None:
            loc, scale = weighted_moments(x, weights)
            log_df, n_steps = namespace(x).full_like(loc, INITIAL_LOG_DF), ECME_STEPS
        else:
            loc, scale = start[0], bounded(start[1], LOG_SCALE_BOUND).exp()
            log_df, n_steps = self._df(start[2]).log(), ECME_STEPS_FROM_START
        loc, scale, log_df = (param.unsqueeze(-1) for param in (loc, scale, log_df))  # (C, k, 1)
        values, weights = x.T.nan_to_num(), weights.unsqueeze(1) * ~x.T.isnan()  # (k, n), (C, k, n)
        weights, limit = weights / weights.sum(-1, keepdim=True), 0.99 * LOG_DF_BOUND
        square = ((values - loc) / scale).square()  # (C, k, n)
        for _ in range(n_steps):
            df = log_df.exp()
            weighted = weights * (df + 1) / (df + square)
            loc = (weighted * values).sum(-1, keepdim=True) / weighted.sum(-1, keepdim=True)
            residual = values - loc
            variance = (weighted * residual.square()).sum(-1, keepdim=True)
            scale = variance.clamp(min=MIN_VARIANCE).sqrt()
            square = (residual / scale).square()
            log_df = log_df + _scoring_step(df, square, weights)
            log_df = log_df.clamp(LOG_DF_CENTRE - limit, LOG_DF_CENTRE + limit)
        raw = unbounded(scale.log(), LOG_SCALE_BOUND)
        raw_df = unbounded(log_df - LOG_DF_CENTRE, LOG_DF_BOUND)
        return [param.squeeze(-1) for param in (loc, raw, raw_df)]


def _scoring_step(df: Array, square: Array, weights: Array) -> Array:
    """Step of Fisher scoring for the logarithms of the degrees of freedom, at most 1.

    Degrees of freedom (C, k, 1), squared residuals and normalized weights (C, k, n) -> (C, k, 1).
    The information is that of Lange et al. (1989).
    """
    xp = namespace(df)
    per_cell = (df + 1) * square / (df * (df + square)) - (square / df).log1p()
    constant = xp.digamma(0.5 * (df + 1)) - xp.digamma(0.5 * df) - 1 / df
    slope = 0.5 * ((weights * per_cell).sum(-1, keepdim=True) + constant)
    trigammas = xp.polygamma(1, 0.5 * df) - xp.polygamma(1, 0.5 * (df + 1))
    information = 0.25 * trigammas - 0.5 * (df + 5) / (df * (df + 1) * (df + 3))
    return (slope / (df * information)).clamp(-1, 1)


def _log_one_plus_square(value: Array) -> Array:
    """Compute log(1 + value²) of a value >= 0 whose square may overflow."""
    xp, small, large = namespace(value), value.clip(max=1.0), value.clip(min=1.0)
    # log(1 + v²) = 2 log v + log(1 + 1 / v²)
    return xp.where(
        value <= 1.0,
        xp.log1p(xp.square(small)),
        2 * xp.log(large) + xp.log1p(xp.square(xp.reciprocal(large))),
    )
