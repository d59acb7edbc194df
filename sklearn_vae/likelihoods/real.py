"""Likelihoods of real columns: normal, log-normal, and with point masses (zero-inflated)."""

import math
from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

import numpy as np

from sklearn_vae.likelihoods.base import (
    Generator,
    Likelihood,
    LinearParameters,
    draw_classes,
    draw_normal,
    fisher_features_of_classes,
    linear_logits,
    logits_of,
    weighted_mean,
    weighted_moments,
)
from sklearn_vae.likelihoods.columnwise import LOG_SCALE_BOUND, MAX_REDRAWS, Limits, Parameters
from sklearn_vae.numerics import array_api as ops
from sklearn_vae.numerics.array_api import HALF_LOG_2PI, Array, namespace
from sklearn_vae.persistence.validation import check_integer, invalid_parameter, serializable


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
            is_number and 0.001 <= float(self.scale) <= 1000
        ):
            expected = "be 'per_row', 'per_column' or a number between 0.001 and 1000"
            raise invalid_parameter(self, "scale", expected, self.scale)

    @property
    def has_fixed_scale(self) -> bool:
        """True if the scale is fixed."""
        return not isinstance(self.scale, str)

    def _log_scale(self, raw: Array) -> Array:
        if self.has_fixed_scale and not isinstance(raw, np.ndarray):
            raw = raw.detach()
        return ops.bounded(raw, LOG_SCALE_BOUND)

    def _raw_scale(self, scale: Array) -> Array:
        if isinstance(self.scale, Real):
            scale = namespace(scale).full_like(scale, float(self.scale))
        return ops.unbounded(scale.log(), LOG_SCALE_BOUND)

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
        """Sample rows from p(x|z), by rejection of values beyond the limits: (..., n)."""
        loc, raw = params
        scale = namespace(raw).exp(self._log_scale(raw))
        value = loc + scale * draw_normal(loc, generator)
        if limits is None:
            return value
        for _ in range(MAX_REDRAWS):
            is_beyond = limits.exceeded(value)
            if not is_beyond.any():
                return value
            drawn = loc + scale * draw_normal(loc, generator)
            value = namespace(value).where(is_beyond, drawn, value)
        return value.clip(limits.low, limits.high)

    def initialize(self, loadings: Array, loc: Array, scale: Array) -> LinearParameters:
        """The linear Gaussian model itself, but for a fixed scale."""
        return [(loadings, loc), (loadings.new_zeros(loadings.shape), self._raw_scale(scale))]

    def fisher_features(self, params: Parameters, slopes: Parameters) -> Array:
        """A feature of the mean and one of the standard deviation."""
        (_, raw), (mean_slope, raw_slope), xp = params, slopes, namespace(slopes[0])
        of_scale = ops.bounded_slope(raw, LOG_SCALE_BOUND) * (not self.has_fixed_scale)
        mean_slope = mean_slope * xp.exp(-self._log_scale(raw))
        return xp.stack([mean_slope, math.sqrt(2) * (raw_slope * of_scale)], -1)

    def maximum_likelihood(self, x: Array, weights: Array) -> list[Array]:
        """Means and standard deviations, unless the scale is fixed."""
        mean, scale = weighted_moments(x, weights)
        return [mean, self._raw_scale(scale)]


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


# Of the numbers that are not at a spike.
DENSITY = Gaussian()


@serializable
@dataclass(frozen=True)
class ZeroInflated(Likelihood):
    r"""Real columns with point masses, as 0 in a column of gains or 40 in one of hours.

    A mixture of point masses (spikes) and a normal density: :math:`p(x|z) = \pi_k(z)` at the
    k-th spike and :math:`\pi_0(z) \, \mathcal{N}(x | \mu(z), \sigma^2(z))` elsewhere. Values are
    encoded as a one-hot vector of the spikes, zeros elsewhere, and the number.

    Parameters
    ----------
    n_spikes : int
        Number of point masses.

    References
    ----------
    .. [1] D. Lambert, "Zero-Inflated Poisson Regression", Technometrics 34, 1992, for one
       point mass.

    Examples
    --------
    >>> from sklearn_vae.likelihoods import ZeroInflated
    >>> ZeroInflated(n_spikes=2)
    ZeroInflated(n_spikes=2)
    """

    scale_param: ClassVar[int] = 2
    input_width = 1  # the number, which says which spike it is
    depends_on_z = True, True, True  # logits, location and scale

    n_spikes: int

    def __post_init__(self) -> None:
        check_integer(self, "n_spikes", self.n_spikes)

    @property
    def width(self) -> int:
        """One number per spike, and one for the density."""
        return self.n_spikes + 1

    @property
    def param_sizes(self) -> tuple[int, ...]:
        """A logit per spike, against zero for the density; a location; a scale."""
        return self.n_spikes, 1, 1

    def _split(self, x: Array) -> tuple[Array, Array]:
        """One-hot spikes (..., n, S) and numbers (..., n) of encoded values."""
        values = ops.unflatten(x, self.width)
        return values[..., :-1], values[..., -1]

    def _log_weights(self, params: Parameters) -> Array:
        """Log-probabilities of the spikes and, last, of the density: (..., n, S + 1)."""
        return ops.log_softmax(ops.pad(ops.unflatten(params[0], self.n_spikes), 0, 1))

    def _weights(self, params: Parameters) -> Array:
        return namespace(params[0]).exp(self._log_weights(params))

    def log_prob_per_column(self, params: Parameters, x: Array) -> Array:
        """Log-density of each value: (..., n (S + 1)) -> (..., n)."""
        xp, (spike, number) = namespace(x), self._split(x)
        logits = ops.unflatten(params[0], self.n_spikes)
        log_odds = ops.logsumexp(logits, -1)
        log_total = xp.logaddexp(log_odds, xp.zeros_like(log_odds))
        density = DENSITY.log_prob_per_column(params[1:], number)
        mass = (spike * logits).sum(-1)
        return xp.where(spike.sum(-1) > 0.5, mass, density) - log_total

    def gradient(self, params: Parameters, x: np.ndarray) -> list[np.ndarray]:
        """Gradients of the log-densities in the logits, the location and the scale."""
        spike, number = self._split(x)
        is_number = spike.sum(-1) <= 0.5
        of_density = [is_number * part for part in DENSITY.gradient(params[1:], number)]
        return [ops.flatten(spike - self._weights(params)[..., :-1]), *of_density]

    def mean(self, params: Parameters) -> Array:
        """Probabilities of the spikes, and mean of the density: (..., n (S + 1))."""
        weight = self._weights(params)[..., :-1]
        return ops.flatten(ops.concatenate([weight, params[1][..., None]]))

    def average_over_draws(self, params: Parameters, weights: Array) -> Array:
        """Mean over draws of z too, with weights (M, K, B): (B, n (S + 1))."""
        joint = weights[..., None, None] * self._weights(params)  # (M, K, B, n, S + 1)
        weight = joint.sum((0, 1))
        number = (joint[..., -1] * params[1]).sum((0, 1)) / weight[..., -1].clip(min=1e-30)
        return ops.flatten(ops.concatenate([weight[..., :-1], number[..., None]]))

    def sample(self, params: Parameters, generator: Generator, limits: Limits | None) -> Array:
        """Sample rows from p(x|z): (..., n (S + 1))."""
        index = draw_classes(self._weights(params), generator)
        codes = ops.one_hot(index, self.width, params[1].dtype)
        codes[..., -1] *= DENSITY.sample(params[1:], generator, limits)
        return ops.flatten(codes)

    def initialize(self, loadings: Array, loc: Array, scale: Array) -> LinearParameters:
        """Frequencies of the spikes, and mean and scale of the other numbers."""
        (spike, number), (_, scale) = self._split(loc), self._split(scale)
        slope, number_slope = self._split(loadings)  # (l, n, S), (l, n)
        slope, logits = linear_logits(slope, spike, has_rest=True)
        return [
            (slope.flatten(-2), logits.flatten()),
            *DENSITY.initialize(number_slope, number, scale),
        ]

    def log_prob_by_component(self, params: Parameters, x: Array, observed: Array | None) -> Array:
        """Log-density of the rows in each component, as matrix products: (M, C, B)."""
        xp, (_, loc, raw) = namespace(x), params
        log_weight = self._log_weights(params)  # (M, C, k, S + 1)
        log_scale = ops.bounded(raw, LOG_SCALE_BOUND)
        precision = xp.exp(-2 * log_scale)
        constant = log_weight[..., -1] - 0.5 * xp.square(loc) * precision - log_scale - HALF_LOG_2PI
        spike, number = self._split(x)  # zeros at missing values
        is_number = 1 - spike.sum(-1)
        if observed is not None:
            is_number = is_number * observed
        number = number * is_number
        spike, is_number, number = (
            part.swapaxes(-1, -2) for part in (ops.flatten(spike), is_number, number)
        )
        log_prob = ops.flatten(log_weight[..., :-1]) @ spike
        log_prob = log_prob + constant @ is_number + (loc * precision) @ number
        return log_prob - 0.5 * precision @ xp.square(number)

    def fisher_features(self, params: Parameters, slopes: Parameters) -> Array:
        """One feature per spike and for the density, and those of its mean and scale."""
        log_weight, slope = self._log_weights(params), ops.unflatten(slopes[0], self.n_spikes)
        classes = fisher_features_of_classes(log_weight, ops.pad(slope, 0, 1))
        number = DENSITY.fisher_features(params[1:], slopes[1:])
        root = namespace(log_weight).exp(0.5 * log_weight[..., -1:])
        return ops.concatenate([classes, root * number])

    def maximum_likelihood(self, x: Array, weights: Array) -> list[Array]:
        """Frequencies of the spikes, and mean and standard deviation of the other numbers."""
        spike, number = self._split(x)
        frequency = ops.unflatten(weighted_mean(ops.flatten(spike), weights), self.n_spikes)
        logits = logits_of(frequency, has_rest=True)  # (C, k, S)
        number = namespace(x).where(spike.sum(-1) > 0.5, math.nan, number)
        return [ops.flatten(logits), *DENSITY.maximum_likelihood(number, weights)]
