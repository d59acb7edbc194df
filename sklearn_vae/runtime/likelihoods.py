"""Likelihoods in numpy: log-density, mean and samples of p(x|z).

Each class is the counterpart of that of :mod:`sklearn_vae.likelihoods` with the same name, where
its formula and its parameters are documented. Shapes are those of that package.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.random import Generator

from sklearn_vae.array_api import logsumexp
from sklearn_vae.columnwise import Columnwise, Limits, Parameters, sample_truncated
from sklearn_vae.model_constants import (
    HALF_LOG_2PI,
    LOG_DF_BOUND,
    LOG_DF_CENTRE,
    LOG_RATE_BOUND,
    LOG_SCALE_BOUND,
    LOG_SHAPE_BOUND,
    MIN_THRESHOLD_GAP,
    ORDINAL_DIFFERENCE,
)
from sklearn_vae.runtime.functions import (
    bounded,
    bounded_slope,
    lgamma,
    log_softmax,
    sigmoid,
    softplus,
)

# Distance of the finite differences of log-densities.
GRADIENT_DIFFERENCE = 1e-5


class Likelihood:
    """Base class: p(x|z) of columns of one kind.

    Attributes
    ----------
    scale_param : int or None
        Index of the parameter that is a log-scale; None without one.
    """

    scale_param: ClassVar[int | None] = None

    @property
    def width(self) -> int:
        """Numbers that encode one value."""
        return 1

    @property
    def depends_on_z(self) -> tuple[bool, ...]:
        """Mask of the parameters that depend on z."""
        return (True,)

    @property
    def param_sizes(self) -> tuple[int, ...]:
        """Numbers of each parameter per column."""
        return (1,) * len(self.depends_on_z)

    def log_prob_per_column(self, params: Parameters, x: np.ndarray) -> np.ndarray:
        """Log-density of each value: (..., n width) -> (..., n)."""
        raise NotImplementedError

    def log_prob(self, params: Parameters, x: np.ndarray) -> np.ndarray:
        """Log-density of the rows, summed over columns: (..., n width) -> (...)."""
        return self.log_prob_per_column(params, x).sum(-1)

    def log_prob_by_component(
        self, params: Parameters, x: np.ndarray, observed: np.ndarray | None = None
    ) -> np.ndarray:
        """Log-density of rows in components: (M, C, n size), (M, B, n width) -> (M, C, B)."""
        per_column = self.log_prob_per_column([part[:, :, None] for part in params], x[:, None])
        return (per_column if observed is None else per_column * observed[:, None]).sum(-1)

    def gradient(self, params: Parameters, x: np.ndarray, number: int) -> np.ndarray:
        """Gradient of the log-densities in one parameter, by finite differences: (..., n size)."""
        size = self.param_sizes[number]
        gradient = np.empty_like(params[number])
        for k in range(size):  # of all columns at once, which are independent
            ahead, behind = (
                [part.copy() if i == number else part for i, part in enumerate(params)]
                for _ in range(2)
            )
            ahead[number][..., k::size] += GRADIENT_DIFFERENCE
            behind[number][..., k::size] -= GRADIENT_DIFFERENCE
            rise = self.log_prob_per_column(ahead, x) - self.log_prob_per_column(behind, x)
            gradient[..., k::size] = rise / (2 * GRADIENT_DIFFERENCE)
        return gradient

    def residual(self, params: Parameters, x: np.ndarray) -> np.ndarray:
        """Deviance residual of each value, sqrt(-2 log p): (..., n width) -> (..., n)."""
        return np.sqrt(np.maximum(-2 * self.log_prob_per_column(params, x), 0))

    def mean(self, params: Parameters) -> np.ndarray:
        """Mean of p(x|z): (..., n width)."""
        raise NotImplementedError

    def average_over_draws(self, params: Parameters, weights: np.ndarray) -> np.ndarray:
        """Mean over weighted draws of z too: (M, K, B, ...), (M, K, B) -> (B, n width)."""
        return (weights[..., None] * self.mean(params)).sum((0, 1))

    def fisher_features(self, params: Parameters, slopes: Parameters) -> np.ndarray:
        """Features whose inner products are the Fisher information about z.

        Parameters (..., n size) and their slopes (l, ..., n size) -> (l, ..., n, n_features).
        """
        raise NotImplementedError

    def sample(self, params: Parameters, generator: Generator, limits: Limits | None) -> np.ndarray:
        """Sample rows from p(x|z), real numbers within limits: (..., n width)."""
        raise NotImplementedError


@dataclass(frozen=True)
class Gaussian(Likelihood):
    """Real columns."""

    scale_param: ClassVar[int] = 1
    scale: str | float = "per_row"

    @property
    def depends_on_z(self) -> tuple[bool, ...]:
        """The mean depends on z, the scale if it is one per row."""
        return True, self.scale == "per_row"

    def log_prob_per_column(self, params: Parameters, x: np.ndarray) -> np.ndarray:
        """Log-density of each value."""
        loc, log_scale = params[0], bounded(params[1], LOG_SCALE_BOUND)
        return -0.5 * np.square((x - loc) * np.exp(-log_scale)) - log_scale - HALF_LOG_2PI

    def gradient(self, params: Parameters, x: np.ndarray, number: int) -> np.ndarray:
        """Gradient of the log-densities in the mean or the log-scale."""
        inverse_scale = np.exp(-bounded(params[1], LOG_SCALE_BOUND))
        residual = (x - params[0]) * inverse_scale
        if number == 0:
            return residual * inverse_scale
        return (np.square(residual) - 1) * bounded_slope(params[1], LOG_SCALE_BOUND)

    def residual(self, params: Parameters, x: np.ndarray) -> np.ndarray:
        """Difference of each value from the mean."""
        return x - params[0]

    def mean(self, params: Parameters) -> np.ndarray:
        """Mean."""
        return params[0]

    def fisher_features(self, params: Parameters, slopes: Parameters) -> np.ndarray:
        """A feature of the mean and one of the standard deviation."""
        (_, raw), (loc_slope, raw_slope) = params, slopes
        loc_slope = loc_slope * np.exp(-bounded(raw, LOG_SCALE_BOUND))
        log_scale_slope = raw_slope * bounded_slope(raw, LOG_SCALE_BOUND)
        return np.stack([loc_slope, math.sqrt(2) * log_scale_slope], axis=-1)

    def sample(self, params: Parameters, generator: Generator, limits: Limits | None) -> np.ndarray:
        """Sample from the truncated normal distribution."""
        loc, scale = params[0], np.exp(bounded(params[1], LOG_SCALE_BOUND))
        return sample_truncated(lambda: loc + scale * generator.standard_normal(loc.shape), limits)


@dataclass(frozen=True)
class LogNormal(Gaussian):
    """Positive columns, of which x are the logarithms."""


@dataclass(frozen=True)
class StudentT(Likelihood):
    """Real columns with heavy tails."""

    scale_param: ClassVar[int] = 1
    scale: str = "per_row"

    @property
    def depends_on_z(self) -> tuple[bool, ...]:
        """The location depends on z, the scale if it is one per row, the tails do not."""
        return True, self.scale == "per_row", False

    def log_prob_per_column(self, params: Parameters, x: np.ndarray) -> np.ndarray:
        """Log-density of each value."""
        loc, log_scale, df = params[0], bounded(params[1], LOG_SCALE_BOUND), self._df(params[2])
        half = 0.5 * (df + 1)
        constant = lgamma(half) - lgamma(0.5 * df) - 0.5 * np.log(math.pi * df)
        distance = np.abs(x - loc) * np.exp(-log_scale) / np.sqrt(df)
        # hypot: the square could overflow
        return constant - log_scale - 2 * half * np.log(np.hypot(1, distance))

    def _df(self, raw: np.ndarray) -> np.ndarray:
        return np.exp(LOG_DF_CENTRE + bounded(raw, LOG_DF_BOUND))

    def mean(self, params: Parameters) -> np.ndarray:
        """Location."""
        return params[0]

    def fisher_features(self, params: Parameters, slopes: Parameters) -> np.ndarray:
        """A feature of the location and one of the scale."""
        df = self._df(params[2])
        number = Gaussian().fisher_features(params[:2], slopes[:2])
        factors = [np.sqrt((df + 1) / (df + 3)), np.sqrt(df / (df + 3))]
        return number * np.stack(factors, axis=-1)

    def sample(self, params: Parameters, generator: Generator, limits: Limits | None) -> np.ndarray:
        """Sample from the truncated t distribution."""
        loc, scale, df = params[0], np.exp(bounded(params[1], LOG_SCALE_BOUND)), self._df(params[2])
        return sample_truncated(lambda: loc + scale * generator.standard_t(df, loc.shape), limits)


@dataclass(frozen=True)
class ZeroInflated(Likelihood):
    """Real columns with point masses."""

    scale_param: ClassVar[int] = 2
    n_spikes: int

    @property
    def width(self) -> int:
        """One number per spike, and one for the density."""
        return self.n_spikes + 1

    @property
    def depends_on_z(self) -> tuple[bool, ...]:
        """Logits, location and scale depend on z."""
        return True, True, True

    @property
    def param_sizes(self) -> tuple[int, ...]:
        """A logit per spike, against zero for the density; a location; a scale."""
        return self.n_spikes, 1, 1

    def _split(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One-hot spikes (..., n, S) and numbers (..., n) of encoded values."""
        cells = _cells(x, self.width)
        return cells[..., :-1], cells[..., -1]

    def _log_weights(self, params: Parameters) -> np.ndarray:
        """Log-probabilities of the spikes and, last, of the density: (..., n, S + 1)."""
        logits = _cells(params[0], self.n_spikes)
        return log_softmax(np.concatenate([logits, np.zeros((*logits.shape[:-1], 1))], axis=-1))

    def log_prob_per_column(self, params: Parameters, x: np.ndarray) -> np.ndarray:
        """Log-density of each value."""
        (spike, number), log_weight = self._split(x), self._log_weights(params)
        density = log_weight[..., -1] + Gaussian().log_prob_per_column(params[1:], number)
        return np.where(spike.sum(-1) > 0.5, (spike * log_weight[..., :-1]).sum(-1), density)

    def gradient(self, params: Parameters, x: np.ndarray, number: int) -> np.ndarray:
        """Gradient of the log-densities in the logits, the location or the scale."""
        spike, value = self._split(x)
        if number == 0:
            return _flat(spike - np.exp(self._log_weights(params))[..., :-1])
        is_number = spike.sum(-1) <= 0.5
        return is_number * Gaussian().gradient(params[1:], value, number - 1)

    def mean(self, params: Parameters) -> np.ndarray:
        """Probabilities of the spikes, and mean of the density."""
        weight = np.exp(self._log_weights(params))[..., :-1]
        return _flat(np.concatenate([weight, params[1][..., None]], axis=-1))

    def average_over_draws(self, params: Parameters, weights: np.ndarray) -> np.ndarray:
        """Mean over draws of z, of the numbers weighted by their probability."""
        joint = weights[..., None, None] * np.exp(self._log_weights(params))
        weight = joint.sum((0, 1))
        number = (joint[..., -1] * params[1]).sum((0, 1)) / np.maximum(weight[..., -1], 1e-30)
        return _flat(np.concatenate([weight[..., :-1], number[..., None]], axis=-1))

    def fisher_features(self, params: Parameters, slopes: Parameters) -> np.ndarray:
        """One feature per spike and for the density, and those of its mean and scale."""
        log_weight, slope = self._log_weights(params), _cells(slopes[0], self.n_spikes)
        slope = np.concatenate([slope, np.zeros((*slope.shape[:-1], 1))], axis=-1)
        number = Gaussian().fisher_features(params[1:], slopes[1:])
        number = np.exp(0.5 * log_weight[..., -1:]) * number
        return np.concatenate([_fisher_features_of_classes(log_weight, slope), number], axis=-1)

    def sample(self, params: Parameters, generator: Generator, limits: Limits | None) -> np.ndarray:
        """Sample a spike, or a number from the truncated normal distribution."""
        classes = np.eye(self.width)[_sample_classes(np.exp(self._log_weights(params)), generator)]
        classes[..., -1] *= Gaussian().sample(params[1:], generator, limits)
        return _flat(classes)


@dataclass(frozen=True)
class Bernoulli(Likelihood):
    """Binary columns."""

    def log_prob_per_column(self, params: Parameters, x: np.ndarray) -> np.ndarray:
        """Log-probability of each value."""
        return x * params[0] - softplus(params[0])

    def gradient(self, params: Parameters, x: np.ndarray, number: int) -> np.ndarray:
        """Gradient of the log-probabilities in the logits."""
        return x - self.mean(params)

    def mean(self, params: Parameters) -> np.ndarray:
        """Probability of a one."""
        return sigmoid(params[0])

    def fisher_features(self, params: Parameters, slopes: Parameters) -> np.ndarray:
        """One feature per column."""
        probability = self.mean(params)
        return (slopes[0] * np.sqrt(probability * (1 - probability)))[..., None]

    def sample(self, params: Parameters, generator: Generator, limits: Limits | None) -> np.ndarray:
        """Sample zeros and ones."""
        probability = self.mean(params)
        return (generator.random(probability.shape) < probability).astype(np.float64)


@dataclass(frozen=True)
class Categorical(Likelihood):
    """Columns of several classes, one-hot encoded."""

    n_classes: int

    @property
    def width(self) -> int:
        """One number per class."""
        return self.n_classes

    @property
    def param_sizes(self) -> tuple[int, ...]:
        """One logit per class."""
        return (self.n_classes,)

    def log_prob_per_column(self, params: Parameters, x: np.ndarray) -> np.ndarray:
        """Log-probability of each value."""
        logit = _cells(params[0], self.n_classes)
        return (_cells(x, self.n_classes) * logit).sum(-1) - logsumexp(logit, -1)

    def gradient(self, params: Parameters, x: np.ndarray, number: int) -> np.ndarray:
        """Gradient of the log-probabilities in the logits."""
        return x - self.mean(params)

    def mean(self, params: Parameters) -> np.ndarray:
        """Probability of each class."""
        return _flat(np.exp(log_softmax(_cells(params[0], self.n_classes))))

    def fisher_features(self, params: Parameters, slopes: Parameters) -> np.ndarray:
        """One feature per class."""
        log_probability = log_softmax(_cells(params[0], self.n_classes))
        return _fisher_features_of_classes(log_probability, _cells(slopes[0], self.n_classes))

    def sample(self, params: Parameters, generator: Generator, limits: Limits | None) -> np.ndarray:
        """Sample classes, one-hot encoded."""
        probability = _cells(self.mean(params), self.n_classes)
        return _flat(np.eye(self.n_classes)[_sample_classes(probability, generator)])


@dataclass(frozen=True)
class Ordinal(Likelihood):
    """Columns of several classes in order, encoded as evenly spaced numbers from 0 to 1."""

    n_classes: int

    @property
    def depends_on_z(self) -> tuple[bool, ...]:
        """The location depends on z, the thresholds do not."""
        return True, False

    @property
    def param_sizes(self) -> tuple[int, ...]:
        """One location, and a threshold between any two classes."""
        return 1, self.n_classes - 1

    def _log_probabilities(self, params: Parameters) -> np.ndarray:
        """Log-probability of each class: (..., n, K)."""
        raw = _cells(params[1], self.n_classes - 1)
        gaps = np.concatenate([raw[..., :1], softplus(raw[..., 1:]) + MIN_THRESHOLD_GAP], axis=-1)
        distance = gaps.cumsum(-1) - params[0][..., None]
        zero = np.zeros((*distance.shape[:-1], 1))
        # s(b) - s(a) = s(b) s(-a) (1 - exp(a - b)), without cancellation
        log_up_to = np.concatenate([-softplus(-distance), zero], axis=-1)
        log_from = np.concatenate([zero, -softplus(distance)], axis=-1)
        gap = np.log(-np.expm1(distance[..., :-1] - distance[..., 1:]))
        return log_up_to + log_from + np.concatenate([zero, gap, zero], axis=-1)

    def log_prob_per_column(self, params: Parameters, x: np.ndarray) -> np.ndarray:
        """Log-probability of each value."""
        one_hot = np.eye(self.n_classes)[np.rint(x * (self.n_classes - 1)).astype(int)]
        return (one_hot * self._log_probabilities(params)).sum(-1)

    def mean(self, params: Parameters) -> np.ndarray:
        """Mean of the evenly spaced numbers."""
        return np.exp(self._log_probabilities(params)) @ np.linspace(0, 1, self.n_classes)

    def average_over_draws(self, params: Parameters, weights: np.ndarray) -> np.ndarray:
        """Most probable class over draws of z."""
        probability = weights[..., None, None] * np.exp(self._log_probabilities(params))
        return probability.sum((0, 1)).argmax(-1) / (self.n_classes - 1)

    def fisher_features(self, params: Parameters, slopes: Parameters) -> np.ndarray:
        """One feature per class, by finite differences of the log-probabilities."""
        log_probability = self._log_probabilities(params)
        ahead = [
            part + ORDINAL_DIFFERENCE * slope for part, slope in zip(params, slopes, strict=True)
        ]
        slope = (self._log_probabilities(ahead) - log_probability) / ORDINAL_DIFFERENCE
        return _fisher_features_of_classes(log_probability, slope)

    def sample(self, params: Parameters, generator: Generator, limits: Limits | None) -> np.ndarray:
        """Sample classes."""
        probability = np.exp(self._log_probabilities(params))
        return _sample_classes(probability, generator) / (self.n_classes - 1)


class Counts(Likelihood):
    """Base class of counts, encoded as their roots divided by ``unit``."""

    unit: float

    def _log_rate(self, params: Parameters) -> np.ndarray:
        return bounded(params[0], LOG_RATE_BOUND) + 2 * math.log(self.unit)

    def _counts(self, x: np.ndarray) -> np.ndarray:
        return np.rint(np.square(x * self.unit))

    def mean(self, params: Parameters) -> np.ndarray:
        """Root of the mean, divided by the unit."""
        return np.exp(0.5 * self._log_rate(params)) / self.unit

    def average_over_draws(self, params: Parameters, weights: np.ndarray) -> np.ndarray:
        """Root of the mean over draws of z too."""
        return np.sqrt((weights[..., None] * np.square(self.mean(params))).sum((0, 1)))


@dataclass(frozen=True)
class Poisson(Counts):
    """Counts."""

    unit: float = 1.0

    def log_prob_per_column(self, params: Parameters, x: np.ndarray) -> np.ndarray:
        """Log-probability of each value."""
        log_rate, counts = self._log_rate(params), self._counts(x)
        return counts * log_rate - np.exp(log_rate) - lgamma(counts + 1)

    def gradient(self, params: Parameters, x: np.ndarray, number: int) -> np.ndarray:
        """Gradient of the log-probabilities in the raw rates."""
        residual = self._counts(x) - np.exp(self._log_rate(params))
        return residual * bounded_slope(params[0], LOG_RATE_BOUND)

    def fisher_features(self, params: Parameters, slopes: Parameters) -> np.ndarray:
        """One feature per column."""
        slope = slopes[0] * bounded_slope(params[0], LOG_RATE_BOUND)
        return (slope * np.exp(0.5 * self._log_rate(params)))[..., None]

    def sample(self, params: Parameters, generator: Generator, limits: Limits | None) -> np.ndarray:
        """Sample counts."""
        return np.sqrt(generator.poisson(np.exp(self._log_rate(params)))) / self.unit


@dataclass(frozen=True)
class NegativeBinomial(Counts):
    """Overdispersed counts."""

    unit: float = 1.0

    @property
    def depends_on_z(self) -> tuple[bool, ...]:
        """The mean depends on z, the shape does not."""
        return True, False

    def log_prob_per_column(self, params: Parameters, x: np.ndarray) -> np.ndarray:
        """Log-probability of each value."""
        log_rate, counts = self._log_rate(params), self._counts(x)
        log_shape = bounded(params[1], LOG_SHAPE_BOUND)
        shape, log_sum = np.exp(log_shape), np.logaddexp(log_rate, log_shape)
        log_coefficient = lgamma(counts + shape) - lgamma(shape) - lgamma(counts + 1)
        return log_coefficient + shape * (log_shape - log_sum) + counts * (log_rate - log_sum)

    def fisher_features(self, params: Parameters, slopes: Parameters) -> np.ndarray:
        """One feature per column, of the mean."""
        log_rate, log_shape = self._log_rate(params), bounded(params[1], LOG_SHAPE_BOUND)
        root = np.exp(0.5 * (log_rate - softplus(log_rate - log_shape)))
        return (slopes[0] * bounded_slope(params[0], LOG_RATE_BOUND) * root)[..., None]

    def sample(self, params: Parameters, generator: Generator, limits: Limits | None) -> np.ndarray:
        """Sample Poisson variables whose rates are gamma distributed."""
        rate, shape = np.exp(self._log_rate(params)), np.exp(bounded(params[1], LOG_SHAPE_BOUND))
        counts = generator.poisson(
            generator.gamma(np.broadcast_to(shape, rate.shape)) * rate / shape
        )
        return np.sqrt(counts) / self.unit


LIKELIHOODS = {
    cls.__name__: cls
    for cls in (
        Bernoulli,
        Categorical,
        Gaussian,
        LogNormal,
        NegativeBinomial,
        Ordinal,
        Poisson,
        StudentT,
        ZeroInflated,
    )
}


def columnwise_gradient(
    columns: Columnwise,
    params: Sequence[Parameters],
    x: np.ndarray,
    observed: np.ndarray | None,
    *,
    decoded: bool = False,
) -> np.ndarray:
    """Gradient of the rows' log-density in the parameters, or in those that depend on z."""
    masks = columns.split_mask(observed)
    blocks = zip(columns.likelihoods, params, columns.split_blocks(x), masks, strict=True)
    slopes = []
    for likelihood, block, values, mask in blocks:
        for number, size in enumerate(likelihood.param_sizes):
            if likelihood.depends_on_z[number] or not decoded:
                slope = likelihood.gradient(block, values, number)
                slopes.append(slope if mask is None else slope * mask.repeat(size, axis=-1))
    return np.concatenate(slopes, axis=-1)


def _cells(x: np.ndarray, width: int) -> np.ndarray:
    """Numbers of each value on an axis of their own: (..., n width) -> (..., n, width)."""
    return (
        x.reshape(*x.shape[:-1], x.shape[-1] // width, width) if width else x.reshape(*x.shape, 0)
    )


def _flat(cells: np.ndarray) -> np.ndarray:
    """Undo ``_cells``: (..., n, width) -> (..., n width)."""
    return cells.reshape(*cells.shape[:-2], cells.shape[-2] * cells.shape[-1])


def _fisher_features_of_classes(log_probability: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Features of log-probabilities (..., K) and of the logits' slopes (l, ..., K)."""
    probability = np.exp(log_probability)
    mean = (probability * slope).sum(-1, keepdims=True)
    return np.sqrt(probability) * (slope - mean)


def _sample_classes(probability: np.ndarray, generator: Generator) -> np.ndarray:
    """Sample classes with the given probabilities: (..., K) -> (...)."""
    uniform = generator.random((*probability.shape[:-1], 1))
    return (uniform >= probability.cumsum(-1)[..., :-1]).sum(-1)
