"""Columns of counts: 0, 1, 2 and so on."""

import math
from abc import abstractmethod
from dataclasses import dataclass, field

import numpy as np

from sklearn_vae.likelihoods.base import (
    MAX_SLOPE,
    Generator,
    Likelihood,
    LinearParameters,
    draw_poisson,
    weighted_mean,
)
from sklearn_vae.likelihoods.columnwise import Limits, Parameters
from sklearn_vae.numerics import array_api as ops
from sklearn_vae.numerics.array_api import Array, namespace
from sklearn_vae.persistence.validation import check_number, serializable

# Rates lie between e^-12 and e^12 times the unit's square.
LOG_RATE_BOUND = 12.0
# The shape of a negative binomial lies between e^-7 and e^7.
LOG_SHAPE_BOUND = 7.0


@dataclass(frozen=True)
class Counts(Likelihood):
    """Base class of counts with a rate, which are encoded as their square roots.

    The root of a count has about the same variance whatever its mean. Roots are divided by
    ``unit``, a power of two, from which the counts are decoded exactly.
    """

    unit: float = field(default=1.0, repr=False)

    def __post_init__(self) -> None:
        check_number(self, "unit", self.unit, positive=True)

    def log_prob_per_column(self, params: Parameters, x: Array) -> Array:
        """Log-probability of each value: (..., n) -> (..., n).

        It is a small difference of terms of the size of the count, and computed in double
        precision. Gradients have no such terms: training keeps its precision.
        """
        if isinstance(x, np.ndarray) or any(part.requires_grad for part in params):
            return self._log_prob(params, x)
        params = [ops.in_double(part) for part in params]
        return self._log_prob(params, ops.in_double(x)).to(x.dtype)

    @abstractmethod
    def _log_prob(self, params: Parameters, x: Array) -> Array:
        """Log-probability of each value, in its precision: (..., n) -> (..., n)."""

    def _log_rate(self, params: Parameters) -> Array:
        return ops.bounded(params[0], LOG_RATE_BOUND) + 2 * math.log(self.unit)

    def _rate(self, params: Parameters) -> Array:
        return namespace(params[0]).exp(self._log_rate(params))

    def _counts(self, x: Array) -> Array:
        return namespace(x).square(x * self.unit).round()

    def _roots(self, counts: Array) -> Array:
        return namespace(counts).sqrt(counts) / self.unit

    def mean(self, params: Parameters) -> Array:
        """Root of the mean of p(x|z), divided by the unit: (..., n)."""
        return self._roots(self._rate(params))

    def average_over_draws(self, params: Parameters, weights: Array) -> Array:
        """Root of the mean over draws of z too, with weights (M, K, B): (B, n)."""
        xp = namespace(weights)
        return xp.sqrt((weights[..., None] * xp.square(self.mean(params))).sum((0, 1)))

    def initialize(self, loadings: Array, loc: Array, scale: Array) -> LinearParameters:
        """Rates that are the linear model's mean counts at z = 0, and have their slopes."""
        # the mean of a squared root: the root of a rare count is 0 or 1, and its mean the count's
        rate = (loc.square() + scale.square()).clamp(min=0.01)
        slope = (2 * loc * loadings / rate).clamp(-MAX_SLOPE, MAX_SLOPE)
        return [(slope, ops.unbounded(rate.log(), LOG_RATE_BOUND))]

    def _mean_count(self, x: Array, weights: Array) -> Array:
        """Means of the counts, at least the smallest rate: (n, k), (C, n) -> (C, k)."""
        smallest = self.unit**2 * math.exp(-LOG_RATE_BOUND)
        return weighted_mean(self._counts(x), weights).clamp(min=smallest)

    def _raw_rate(self, rate: Array) -> Array:
        return ops.unbounded((rate / self.unit**2).log(), LOG_RATE_BOUND)


@serializable
@dataclass(frozen=True)
class Poisson(Counts):
    r"""Counts, :math:`p(x | z) = \lambda(z)^x e^{-\lambda(z)} / x!`.

    Given z, a count's variance is its mean. For overdispersed counts use
    :class:`NegativeBinomial`.

    Examples
    --------
    >>> from sklearn_vae.likelihoods import Poisson
    >>> Poisson()
    Poisson()
    """

    def _log_prob(self, params: Parameters, x: Array) -> Array:
        log_rate, counts = self._log_rate(params), self._counts(x)
        return counts * log_rate - namespace(x).exp(log_rate) - ops.lgamma(counts + 1)

    def gradient(self, params: Parameters, x: np.ndarray) -> list[np.ndarray]:
        """Gradient of the log-probabilities in the raw rates: (..., n)."""
        residual = self._counts(x) - self._rate(params)
        return [residual * ops.bounded_slope(params[0], LOG_RATE_BOUND)]

    def sample(self, params: Parameters, generator: Generator, limits: Limits | None) -> Array:
        """Sample rows from p(x|z): (..., n)."""
        return self._roots(draw_poisson(self._rate(params), generator))

    def fisher_features(self, params: Parameters, slopes: Parameters) -> Array:
        """One feature per column."""
        root = namespace(params[0]).exp(0.5 * self._log_rate(params))
        return (slopes[0] * ops.bounded_slope(params[0], LOG_RATE_BOUND) * root)[..., None]

    def maximum_likelihood(self, x: Array, weights: Array) -> list[Array]:
        """The mean counts."""
        return [self._raw_rate(self._mean_count(x, weights))]


@serializable
@dataclass(frozen=True)
class NegativeBinomial(Counts):
    r"""Overdispersed counts with mean :math:`\lambda(z)` and shape s.

    Given z, the variance is :math:`\lambda + \lambda^2 / s`. The shape is one learned number
    per column; the limit of a large shape is :class:`Poisson`.

    .. math:: p(x|z) = \frac{\Gamma(x + s)}{\Gamma(s) \, x!}
        \left(\frac{s}{s + \lambda}\right)^s \left(\frac{\lambda}{s + \lambda}\right)^x

    Examples
    --------
    >>> from sklearn_vae.likelihoods import NegativeBinomial
    >>> NegativeBinomial()
    NegativeBinomial()
    """

    depends_on_z = True, False  # the mean does, the shape does not

    def _log_prob(self, params: Parameters, x: Array) -> Array:
        xp, log_rate, counts = namespace(x), self._log_rate(params), self._counts(x)
        log_shape = ops.bounded(params[1], LOG_SHAPE_BOUND)
        shape, log_sum = xp.exp(log_shape), xp.logaddexp(log_rate, log_shape)
        log_coefficient = ops.lgamma(counts + shape) - ops.lgamma(shape) - ops.lgamma(counts + 1)
        return log_coefficient + shape * (log_shape - log_sum) + counts * (log_rate - log_sum)

    def sample(self, params: Parameters, generator: Generator, limits: Limits | None) -> Array:
        """Sample rows from p(x|z): (..., n)."""
        from sklearn_vae._compat import standard_gamma  # it imports PyTorch

        xp, rate = namespace(params[0]), self._rate(params)
        shape = xp.broadcast_to(xp.exp(ops.bounded(params[1], LOG_SHAPE_BOUND)), rate.shape)
        # a Poisson variable whose rate is gamma distributed
        gamma = standard_gamma(shape.cpu().contiguous(), generator).to(shape.device)
        return self._roots(draw_poisson(gamma * (rate / shape), generator))

    def initialize(self, loadings: Array, loc: Array, scale: Array) -> LinearParameters:
        """Rates as of :class:`Poisson`, and shapes that give the roots their variances given z."""
        ((slopes, offset),) = super().initialize(loadings, loc, scale)
        # a root's variance is about a quarter of 1 + rate / shape
        excess = (4 * scale.square() * self.unit**2 - 1).clamp(min=1e-3)
        log_shape = self._log_rate([offset]) - excess.log()
        # training still gets away from a logarithm of 6
        raw = ops.unbounded(log_shape.clamp(max=6.0), LOG_SHAPE_BOUND)
        return [(slopes, offset), (namespace(loc).zeros_like(loadings), raw)]

    def fisher_features(self, params: Parameters, slopes: Parameters) -> Array:
        """One feature per column, of the mean."""
        log_rate, log_shape = self._log_rate(params), ops.bounded(params[1], LOG_SHAPE_BOUND)
        root = namespace(log_rate).exp(0.5 * (log_rate - ops.softplus(log_rate - log_shape)))
        return (slopes[0] * ops.bounded_slope(params[0], LOG_RATE_BOUND) * root)[..., None]

    def maximum_likelihood(self, x: Array, weights: Array) -> list[Array]:
        """The mean counts, and the best shapes."""
        rate, log_shape = self._mean_count(x, weights), []
        for counts, mean in zip(self._counts(x).T, rate.T, strict=True):  # (n,), (C,)
            is_observed = ~counts.isnan()
            values, index = counts[is_observed].unique(return_inverse=True)
            frequency = weights.new_zeros(len(weights), len(values))
            frequency.index_add_(1, index, weights[:, is_observed])
            log_shape.append(_fit_log_shape(values, frequency, mean))
        raw = ops.unbounded(namespace(x).stack(log_shape, -1), LOG_SHAPE_BOUND)
        return [self._raw_rate(rate), raw]


def _fit_log_shape(values: Array, frequency: Array, mean: Array) -> Array:
    """Fit negative binomial shapes by bisection, as there is no closed form: (C,).

    Distinct counts (U,) have the weights (C, U) and the means (C,). The likelihood's derivative in
    a shape is above 0 up to the best one, and below 0 beyond it.
    """
    high = mean.new_full(mean.shape, LOG_SHAPE_BOUND)
    low = -high
    for _ in range(28):
        middle = 0.5 * (low + high)
        shape = middle.exp().unsqueeze(-1)
        per_value = (values + shape).digamma() - shape.digamma()
        constant = (shape / (shape + mean.unsqueeze(-1))).log()
        is_above = (frequency * (per_value + constant)).sum(-1) < 0
        low, high = low.where(is_above, middle), middle.where(is_above, high)
    return 0.5 * (low + high)
