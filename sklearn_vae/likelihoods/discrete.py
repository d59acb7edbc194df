"""Likelihoods of discrete columns: binary, also of a class, categorical and ordinal."""

import math
from dataclasses import dataclass

import numpy as np

from sklearn_vae.likelihoods.base import (
    MAX_SLOPE,
    MIN_PROBABILITY,
    SMALLEST_PROBABILITY,
    Generator,
    Likelihood,
    LinearParameters,
    draw_classes,
    draw_uniform,
    fisher_features_of_classes,
    linear_logits,
    logits_of,
    weighted_mean,
)
from sklearn_vae.likelihoods.columnwise import Limits, Parameters
from sklearn_vae.numerics import array_api as ops
from sklearn_vae.numerics.array_api import Array, namespace
from sklearn_vae.persistence.validation import check_integer, serializable

# Smallest distance of neighbouring thresholds of an ordinal column.
MIN_THRESHOLD_GAP = 1e-3


@serializable
@dataclass(frozen=True)
class Bernoulli(Likelihood):
    r"""Binary columns, :math:`p(x | z) = \pi(z)^x (1 - \pi(z))^{1-x}` with x in {0, 1}.

    Its negative log is the cross-entropy.

    Examples
    --------
    >>> from sklearn_vae.likelihoods import Bernoulli
    >>> Bernoulli()
    Bernoulli()
    """

    def log_prob_per_column(self, params: Parameters, x: Array) -> Array:
        """Log-probability of each value: (..., n) -> (..., n)."""
        return x * params[0] - ops.softplus(params[0])

    def gradient(self, params: Parameters, x: np.ndarray) -> list[np.ndarray]:
        """Gradient of the log-probabilities in the logits: (..., n)."""
        return [x - self.mean(params)]

    def mean(self, params: Parameters) -> Array:
        """Probability of a one: (..., n)."""
        return ops.sigmoid(params[0])

    def mode(self, params: Parameters) -> Array:
        """Most probable value: (..., n)."""
        return self.mean(params).round()

    def sample(self, params: Parameters, generator: Generator, limits: Limits | None) -> Array:
        """Sample rows from p(x|z): (..., n)."""
        probability = self.mean(params)
        return ops.as_type(draw_uniform(probability, generator) < probability, probability)

    def initialize(self, loadings: Array, loc: Array, scale: Array) -> LinearParameters:
        """Logits whose probability and its slope at z = 0 are the linear model's."""
        probability = loc.clamp(MIN_PROBABILITY, 1 - MIN_PROBABILITY)
        slope = loadings / (probability * (1 - probability))
        # the slope of a rare value is steep
        return [(slope.clamp(-MAX_SLOPE, MAX_SLOPE), probability.logit())]

    def fisher_features(self, params: Parameters, slopes: Parameters) -> Array:
        """One feature per column."""
        probability = self.mean(params)
        scale = namespace(probability).sqrt(probability * (1 - probability))
        return (slopes[0] * scale)[..., None]

    def maximum_likelihood(self, x: Array, weights: Array) -> list[Array]:
        """Logits of the frequencies of ones."""
        return [weighted_mean(x, weights).logit(eps=SMALLEST_PROBABILITY)]


class Softmax(Likelihood):
    """Groups of columns that stand for classes, of which a softmax of logits is the probability."""

    def _classes(self, values: Array) -> Array:
        """Numbers of each class: (..., n) -> (..., groups, classes)."""
        raise NotImplementedError

    def _of_columns(self, of_classes: Array) -> Array:
        """Numbers of the columns: (..., groups, classes) -> (..., n)."""
        return ops.flatten(of_classes)

    def gradient(self, params: Parameters, x: np.ndarray) -> list[np.ndarray]:
        """Gradient of the log-probabilities in the logits: (..., n)."""
        return [x - self.mean(params)]

    def mean(self, params: Parameters) -> Array:
        """Probability of each column's class: (..., n)."""
        return self._of_columns(ops.softmax(self._classes(params[0]), -1))

    def mode(self, params: Parameters) -> Array:
        """Most probable class, one-hot encoded: (..., n)."""
        logit = self._classes(params[0])
        return self._of_columns(_one_hot(logit.argmax(-1), logit))

    def sample(self, params: Parameters, generator: Generator, limits: Limits | None) -> Array:
        """Sample rows from p(x|z): (..., n)."""
        p = ops.softmax(self._classes(params[0]), -1)
        return self._of_columns(_one_hot(draw_classes(p, generator), p))


def _one_hot(codes: Array, like: Array) -> Array:
    return ops.one_hot(codes, like.shape[-1], like.dtype)


@serializable
@dataclass(frozen=True)
class OneHot(Softmax, Bernoulli):
    r"""Binary columns of which at most one is 1, :math:`p(x = e_k | z) = \mathrm{softmax}_k(\eta)`.

    ``fit`` finds them: the columns of a class that was one-hot encoded, or dummy encoded. Groups of
    columns are adjacent.

    Parameters
    ----------
    n_columns : int
        Number of columns of a group.
    has_none : bool
        Whether all columns of a group may be 0. The logit of that is 0.

    Examples
    --------
    >>> from sklearn_vae.likelihoods import OneHot
    >>> OneHot(n_columns=3, has_none=True)
    OneHot(n_columns=3, has_none=True)
    """

    n_columns: int
    has_none: bool

    def __post_init__(self) -> None:
        check_integer(self, "n_columns", self.n_columns, 2)

    def _classes(self, values: Array) -> Array:
        """Numbers of each group, and 0 for no column: (..., n) -> (..., groups, classes)."""
        return ops.pad(ops.unflatten(values, self.n_columns), 0, int(self.has_none))

    def _of_columns(self, of_classes: Array) -> Array:
        """Numbers of the columns, without those of none: (..., groups, classes) -> (..., n)."""
        return ops.flatten(of_classes[..., : self.n_columns])

    def log_prob_per_column(self, params: Parameters, x: Array) -> Array:
        """Log-probability of the group, by its column of 1, or in equal parts: (..., n)."""
        log_p = ops.log_softmax(self._classes(params[0]))
        groups = ops.unflatten(x, self.n_columns)
        log_prob = groups * log_p[..., : self.n_columns]
        if self.has_none:
            is_none = 1 - groups.sum(-1)
            log_prob = log_prob + (is_none * log_p[..., -1] / self.n_columns)[..., None]
        return ops.flatten(log_prob)

    def log_prob(self, params: Parameters, x: Array, observed: Array | None = None) -> Array:
        """Log-probability of the observed values: (..., n) -> (...)."""
        logit = self._classes(params[0])
        if observed is None:
            return (x * params[0]).sum(-1) - ops.logsumexp(logit, -1).sum(-1)
        return ops.logsumexp(ops.log_softmax(logit) + self._log_possible(x, observed), -1).sum(-1)

    def log_prob_by_component(self, params: Parameters, x: Array, observed: Array | None) -> Array:
        """Log-probability of the rows in each component, of complete ones as a product."""
        if observed is not None:
            return super().log_prob_by_component(params, x, observed)
        log_total = ops.logsumexp(self._classes(params[0]), -1).sum(-1)  # (M, C)
        return params[0] @ x.swapaxes(-1, -2) - log_total[..., None]

    def _log_possible(self, x: Array, observed: Array) -> Array:
        """0 for classes that observed values allow, otherwise -inf: (..., groups, classes)."""
        xp, groups = namespace(x), ops.unflatten(x, self.n_columns)
        is_one = groups > 0.5
        has_one = is_one.any(-1)[..., None]
        is_missing = ops.unflatten(observed, self.n_columns) < 0.5
        is_possible = is_one | (is_missing & ~has_one)
        if self.has_none:
            is_possible = ops.concatenate([is_possible, ~has_one])
        return xp.where(is_possible, 0.0, -xp.inf)

    def observed_gradient(
        self, params: Parameters, x: np.ndarray, observed: np.ndarray | None
    ) -> list[np.ndarray]:
        """Gradient of ``log_prob`` of the observed values in the logits: (..., n)."""
        if observed is None:
            return self.gradient(params, x)
        log_p = ops.log_softmax(self._classes(params[0])) + self._log_possible(x, observed)
        return [self._of_columns(ops.softmax(log_p, -1)) - self.mean(params)]

    def initialize(self, loadings: Array, loc: Array, scale: Array) -> LinearParameters:
        """Logits whose probabilities and their slopes at z = 0 are the linear model's."""
        slope, p = (ops.unflatten(part, self.n_columns) for part in (loadings, loc))
        slope, logit = linear_logits(slope, p, has_rest=self.has_none)
        return [(ops.flatten(slope), ops.flatten(logit))]

    def fisher_features(self, params: Parameters, slopes: Parameters) -> Array:
        """One feature per column, and one for none, in equal parts."""
        log_p, slope = (self._classes(part) for part in (params[0], slopes[0]))
        features = fisher_features_of_classes(ops.log_softmax(log_p), slope)
        of_columns = self._of_columns(features)[..., None]
        if not self.has_none:
            return of_columns
        of_none = features[..., -1:] / self.n_columns**0.5
        of_none = namespace(slope).broadcast_to(of_none, (*of_none.shape[:-1], self.n_columns))
        return ops.concatenate([of_columns, ops.flatten(of_none)[..., None]])

    def maximum_likelihood(self, x: Array, weights: Array) -> list[Array]:
        """Logits of the frequencies of ones."""
        frequency = ops.unflatten(weighted_mean(x, weights), self.n_columns)
        return [ops.flatten(logits_of(frequency, has_rest=self.has_none))]


@serializable
@dataclass(frozen=True)
class Categorical(Softmax):
    r"""Columns of several classes, :math:`p(x = k | z) = \mathrm{softmax}_k(\eta(z))`.

    Values are one-hot encoded.

    Parameters
    ----------
    n_classes : int
        Number of classes.

    Examples
    --------
    >>> from sklearn_vae.likelihoods import Categorical
    >>> Categorical(n_classes=3)
    Categorical(n_classes=3)
    """

    n_classes: int

    def __post_init__(self) -> None:
        check_integer(self, "n_classes", self.n_classes)

    @property
    def width(self) -> int:
        """One number per class."""
        return self.n_classes

    @property
    def param_sizes(self) -> tuple[int, ...]:
        """One logit per class."""
        return (self.n_classes,)

    def _classes(self, values: Array) -> Array:
        return ops.unflatten(values, self.n_classes)  # (..., n K) -> (..., n, K)

    def log_prob_per_column(self, params: Parameters, x: Array) -> Array:
        """Log-probability of each value: (..., n K) -> (..., n)."""
        logit = self._classes(params[0])
        return (self._classes(x) * logit).sum(-1) - ops.logsumexp(logit, -1)

    def initialize(self, loadings: Array, loc: Array, scale: Array) -> LinearParameters:
        """Logits whose probabilities and their slopes at z = 0 are the linear model's."""
        return [linear_logits(loadings, loc)]

    def log_prob_by_component(self, params: Parameters, x: Array, observed: Array | None) -> Array:
        """Log-probability of the rows in each component, as a matrix product: (M, C, B)."""
        # a missing value has no class, which is a row of zeros
        return ops.flatten(ops.log_softmax(self._classes(params[0]))) @ x.swapaxes(-1, -2)

    def fisher_features(self, params: Parameters, slopes: Parameters) -> Array:
        """One feature per class."""
        log_probability = ops.log_softmax(self._classes(params[0]))
        return fisher_features_of_classes(log_probability, self._classes(slopes[0]))

    def maximum_likelihood(self, x: Array, weights: Array) -> list[Array]:
        """Logarithms of the classes' frequencies."""
        return [logits_of(weighted_mean(x, weights))]


@serializable
@dataclass(frozen=True)
class Ordinal(Likelihood):
    r"""Columns of several classes in order, :math:`P(x \le k | z) = s(t_k - \mu(z))`.

    s is the logistic function, and the thresholds :math:`t_1 < t_2 < \ldots` are learned
    per column. Classes are encoded as evenly spaced numbers from 0 to 1.

    Parameters
    ----------
    n_classes : int
        Number of classes.

    References
    ----------
    .. [1] P. McCullagh, "Regression Models for Ordinal Data", Journal of the Royal
       Statistical Society B 42, 1980.

    Examples
    --------
    >>> from sklearn_vae.likelihoods import Ordinal
    >>> Ordinal(n_classes=5)
    Ordinal(n_classes=5)
    """

    depends_on_z = True, False  # the location does, the thresholds do not

    n_classes: int

    def __post_init__(self) -> None:
        check_integer(self, "n_classes", self.n_classes, 2)

    @property
    def param_sizes(self) -> tuple[int, ...]:
        """One location, and a threshold between any two classes."""
        return 1, self.n_classes - 1

    def _log_probabilities(self, params: Parameters) -> Array:
        """Log-probability of each class: (..., n, K)."""
        xp, loc, raw = namespace(params[0]), params[0], ops.unflatten(params[1], self.n_classes - 1)
        gaps = ops.softplus(raw[..., 1:]) + MIN_THRESHOLD_GAP
        thresholds = ops.concatenate([raw[..., :1], gaps]).cumsum(-1)  # (..., n, K-1)
        distance = thresholds - loc[..., None]
        # s(b) - s(a) = s(b) s(-a) (1 - exp(a - b)), without cancellation
        log_up_to = ops.pad(-ops.softplus(-distance), 0, 1)
        log_from = ops.pad(-ops.softplus(distance), 1, 0)
        gap = xp.log(-xp.expm1(distance[..., :-1] - distance[..., 1:]))
        return log_up_to + log_from + ops.pad(gap, 1, 1)

    def _probabilities(self, params: Parameters) -> Array:
        return namespace(params[0]).exp(self._log_probabilities(params))

    def _class_of(self, x: Array) -> Array:
        classes = ops.as_type((x * (self.n_classes - 1)).round(), namespace(x).int64)
        return classes.clip(0, self.n_classes - 1)

    def log_prob_per_column(self, params: Parameters, x: Array) -> Array:
        """Log-probability of each value: (..., n) -> (..., n)."""
        log_probability, index = self._log_probabilities(params), self._class_of(x)[..., None]
        index = index[(None,) * (log_probability.ndim - index.ndim)]  # (..., n, 1)
        return ops.take_along(log_probability, index, -1)[..., 0]

    def mean(self, params: Parameters) -> Array:
        """Mean of the evenly spaced numbers: (..., n)."""
        probability = self._probabilities(params)
        values = namespace(probability).linspace(0, 1, self.n_classes)
        return probability @ ops.as_type(values, probability)

    def average_over_draws(self, params: Parameters, weights: Array) -> Array:
        """Median over draws of z, with weights (M, K, B): (B, n)."""
        probability = weights[..., None, None] * self._probabilities(params)  # (M, K, B, n, K)
        up_to = probability.sum((0, 1)).cumsum(-1)
        median = (up_to < 0.5 * up_to[..., -1:]).sum(-1)
        return ops.as_type(median, probability) / (self.n_classes - 1)

    def sample(self, params: Parameters, generator: Generator, limits: Limits | None) -> Array:
        """Sample rows from p(x|z): (..., n)."""
        probability = self._probabilities(params)
        classes = draw_classes(probability, generator)
        return ops.as_type(classes, probability) / (self.n_classes - 1)

    def at_frequencies(
        self, initial: LinearParameters, x: Array, weights: Array
    ) -> LinearParameters:
        """Replace thresholds by those of the frequencies of rows (n_rows, n), averaged over z [1]_.

        References
        ----------
        .. [1] D. MacKay, "The Evidence Framework Applied to Classification Networks", Neural
           Computation 4, 1992.
        """
        location, (slopes, _) = initial
        raw = ops.unflatten(self.maximum_likelihood(x, weights[None])[1][0], self.n_classes - 1)
        spread = (1 + math.pi / 8 * location[0].square().sum(0)).sqrt()  # (n,)
        gaps = ops.softplus(raw[..., 1:]) * spread.unsqueeze(-1)
        raw = ops.concatenate([raw[..., :1] * spread.unsqueeze(-1), _inverse_softplus(gaps)])
        return [location, (slopes, raw.flatten())]

    def initialize(self, loadings: Array, loc: Array, scale: Array) -> LinearParameters:
        """Thresholds at which the linear model of the evenly spaced numbers rounds to classes."""
        logistic = 0.6 * scale  # of the logistic distribution closest to the normal one
        middles = (ops.arange(self.n_classes - 1, like=loc) + 0.5) / (self.n_classes - 1)
        thresholds = (middles.to(loc) - loc.unsqueeze(-1)) / logistic.unsqueeze(-1)  # (n, K-1)
        gaps = thresholds.diff(dim=-1).clamp(0.01, 20) - MIN_THRESHOLD_GAP
        raw = ops.concatenate([thresholds[:, :1], _inverse_softplus(gaps)]).flatten()
        slopes = (loadings / logistic).clamp(-MAX_SLOPE, MAX_SLOPE)
        return [
            (slopes, loc.new_zeros(loc.shape)),
            (loadings.new_zeros(len(loadings), len(raw)), raw),
        ]

    def fisher_features(self, params: Parameters, slopes: Parameters) -> Array:
        """One feature per class, by finite differences of the log-probabilities."""
        log_probability, distance = self._log_probabilities(params), 1e-3
        ahead = [part + distance * slope for part, slope in zip(params, slopes, strict=True)]
        slope = (self._log_probabilities(ahead) - log_probability) / distance
        return fisher_features_of_classes(log_probability, slope)

    def maximum_likelihood(self, x: Array, weights: Array) -> list[Array]:
        """Thresholds at the logits of the classes' cumulative frequencies, and a location of 0."""
        codes = ops.one_hot(self._class_of(x.nan_to_num()), self.n_classes, x.dtype)
        codes[x.isnan()] = math.nan
        frequency = ops.unflatten(weighted_mean(ops.flatten(codes), weights), self.n_classes)
        frequency = frequency.clamp(min=SMALLEST_PROBABILITY)  # (C, k, K)
        up_to, above = frequency.cumsum(-1), frequency.flip(-1).cumsum(-1).flip(-1)
        thresholds = (up_to[..., :-1] / above[..., 1:]).log()  # (C, k, K - 1)
        gaps = (thresholds.diff(dim=-1) - MIN_THRESHOLD_GAP).clamp(min=SMALLEST_PROBABILITY)
        raw = ops.concatenate([thresholds[..., :1], _inverse_softplus(gaps)])
        return [thresholds.new_zeros(thresholds.shape[:-1]), ops.flatten(raw)]


def _inverse_softplus(x: Array) -> Array:
    """Return y with log(1 + exp(y)) = x, of tensors above 0."""
    return x + (-(-x).expm1()).log()
