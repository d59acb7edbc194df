"""Base class of likelihoods, and what they share: draws, means and logits of columns.

``training/gradients/columns.py`` has some of their gradients. Random numbers of PyTorch are drawn
on the CPU, so that they are the same on every device.
"""

from abc import ABC, abstractmethod
from itertools import compress
from typing import Any, ClassVar

import numpy as np

from sklearn_vae.likelihoods.columnwise import Limits, Parameters
from sklearn_vae.numerics.array_api import Array, namespace

# A torch.Generator for tensors, a numpy.random.Generator for arrays of numpy.
Generator = Any
# Of each parameter: its slope in z, and its value at z = 0.
LinearParameters = list[tuple[Array, Array]]

# At initialization, probabilities are at least this far from 0 and 1, and slopes of logits and
# log-rates in a latent dimension at most this steep.
MIN_PROBABILITY = 1e-3
MAX_SLOPE = 3.0
# A probability that is fitted to rows is at least so far from 0 and 1, and a variance so large.
SMALLEST_PROBABILITY = 1e-6
MIN_VARIANCE = 1e-5


class Likelihood(ABC):
    """p(x|z) of columns of one kind, independent given z.

    A likelihood is a value without weights. Its parameters come from the decoder or, if they do
    not depend on z, from the model. The last axis of every tensor is the columns', each with as
    many neighbouring numbers as its encoding or its parameter has.

    Arrays are PyTorch's tensors or numpy's. ``sample``, ``initialize``,
    ``maximum_likelihood`` and ``mode`` are of tensors alone, ``gradient`` of numpy's arrays:
    tensors have autograd.
    """

    scale_param: ClassVar[int | None] = None  # index of the parameter that is a scale, if one is

    @property
    def has_fixed_scale(self) -> bool:
        """True if the scale is no parameter that is learned."""
        return False

    @property
    def width(self) -> int:
        """Numbers that encode one value."""
        return 1

    @property
    def input_width(self) -> int:
        """How many of them, the last ones, the encoder of a VAE reads."""
        return self.width

    @property
    def depends_on_z(self) -> tuple[bool, ...]:
        """Mask of the parameters that depend on z: by default one, which does."""
        return (True,)

    @property
    def param_sizes(self) -> tuple[int, ...]:
        """Numbers of each parameter per column."""
        return (1,) * len(self.depends_on_z)

    @property
    def decoded_sizes(self) -> tuple[int, ...]:
        """Sizes of the parameters that depend on z, which the decoder returns."""
        return tuple(compress(self.param_sizes, self.depends_on_z))

    @abstractmethod
    def log_prob_per_column(self, params: Parameters, x: Array) -> Array:
        """Log-density of each value: (..., n width) -> (..., n)."""

    def log_prob(self, params: Parameters, x: Array, observed: Array | None = None) -> Array:
        """Log-density of the rows, summed over columns: (..., n width) -> (...).

        With a mask ``observed`` (..., n) it is that of the observed values; others are 0 in x.
        """
        per_column = self.log_prob_per_column(params, x)
        return (per_column if observed is None else per_column * observed).sum(-1)

    def log_prob_by_component(self, params: Parameters, x: Array, observed: Array | None) -> Array:
        """Log-density of rows in components: (M, C, n size), (M, B, n width) -> (M, C, B).

        Rows have zeros where values are missing, ``observed`` (M, B, n) is the mask of the others.
        """
        observed = None if observed is None else observed[:, None]
        return self.log_prob([part[:, :, None] for part in params], x[:, None], observed)

    def gradient(self, params: Parameters, x: np.ndarray) -> list[np.ndarray]:
        """Gradients of log-densities in the parameters, by finite differences: (..., n size)."""
        gradients, distance = [np.empty_like(part) for part in params], 1e-5
        for number, size in enumerate(self.param_sizes):
            for k in range(size):  # of all columns at once, which are independent
                ahead, behind = ([part.copy() for part in params] for _ in range(2))
                ahead[number][..., k::size] += distance
                behind[number][..., k::size] -= distance
                rise = self.log_prob_per_column(ahead, x) - self.log_prob_per_column(behind, x)
                gradients[number][..., k::size] = rise / (2 * distance)
        return gradients

    def observed_gradient(
        self, params: Parameters, x: np.ndarray, observed: np.ndarray | None
    ) -> list[np.ndarray]:
        """Gradients of the log-density of observed values, as ``gradient``: (..., n size)."""
        gradients = self.gradient(params, x)
        if observed is None:
            return gradients
        pairs = zip(gradients, self.param_sizes, strict=True)
        return [part * observed.repeat(size, axis=-1) for part, size in pairs]

    @abstractmethod
    def mean(self, params: Parameters) -> Array:
        """Mean of p(x|z): (..., n width)."""

    def residual(self, params: Parameters, x: Array) -> Array:
        """Deviance residual of each value, sqrt(-2 log p): (..., n width) -> (..., n)."""
        return namespace(x).sqrt((-2 * self.log_prob_per_column(params, x)).clip(min=0))

    def mode(self, params: Parameters) -> Array:
        """Mean of numbers, most probable class of classes, as encoded rows: (..., n width)."""
        return self.mean(params)

    def average_over_draws(self, params: Parameters, weights: Array) -> Array:
        """Mean over weighted draws of z too: parameters (M, K, B, ...), weights (M, K, B)."""
        return (weights[..., None] * self.mean(params)).sum((0, 1))  # (B, n width)

    @abstractmethod
    def sample(self, params: Parameters, generator: Generator, limits: Limits | None) -> Array:
        """Sample rows from p(x|z), real numbers within limits: (..., n width)."""

    @abstractmethod
    def initialize(self, loadings: Array, loc: Array, scale: Array) -> LinearParameters:
        """Slope in z and offset of each parameter, from the linear model x = loc + z @ loadings."""

    @abstractmethod
    def fisher_features(self, params: Parameters, slopes: Parameters) -> Array:
        """Features whose inner products are the Fisher information about z.

        Of parameters (..., n size) and their derivatives ``slopes`` (l, ..., n size), features are
        (l, ..., n, n_features). Degrees of freedom and the shape of counts add nothing.
        """

    @abstractmethod
    def maximum_likelihood(self, x: Array, weights: Array) -> list[Array]:
        """Fit the parameters (C, n size) to rows (n_rows, n width) with weights (C, n_rows).

        Missing values are NaN. Weights are above 0 for some observed value of each column.
        """


def fisher_features_of_classes(log_probability: Array, slope: Array) -> Array:
    """Features of log-probabilities (..., K) and of the logits' slopes (l, ..., K)."""
    xp = namespace(log_probability)
    probability = xp.exp(log_probability)
    return xp.sqrt(probability) * (slope - (probability * slope).sum(-1, keepdims=True))


def weighted_mean(values: Array, weights: Array) -> Array:
    """Means of the values that are not NaN: (n, k), (C, n) -> (C, k)."""
    is_missing, smallest = values.isnan(), namespace(weights).finfo(weights.dtype).tiny
    if not is_missing.any():
        return weights @ values / weights.sum(1, keepdim=True).clamp(min=smallest)
    total = (weights @ (~is_missing).to(weights)).clamp(min=smallest)
    return weights @ values.nan_to_num() / total


def weighted_moments(values: Array, weights: Array) -> tuple[Array, Array]:
    """Means and standard deviations of the values that are not NaN: (C, k), (C, k)."""
    centre = weighted_mean(values, weights.new_ones(1, weights.shape[1]))  # no cancellation
    mean = weighted_mean(values - centre, weights)
    variance = weighted_mean((values - centre).square(), weights) - mean.square()
    return mean + centre, variance.clamp(min=MIN_VARIANCE).sqrt()


def linear_logits(
    slope: Array, probability: Array, *, has_rest: bool = False
) -> tuple[Array, Array]:
    """Slopes and values at z = 0 of logits, from those of the classes' probabilities.

    Slopes are (l, ..., K), probabilities (..., K). With ``has_rest``, what is left of 1 is one more
    class, whose logit is 0.
    """
    probability = probability.clamp(MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    logit, of_logit = probability.log(), slope / probability
    if has_rest:
        rest = (1 - probability.sum(-1, keepdim=True)).clamp(min=MIN_PROBABILITY)
        logit, of_logit = logit - rest.log(), of_logit + slope.sum(-1, keepdim=True) / rest
    return of_logit.clamp(-MAX_SLOPE, MAX_SLOPE), logit


def logits_of(frequency: Array, *, has_rest: bool = False) -> Array:
    """Logits of the classes' frequencies (..., K), against the rest's as in ``linear_logits``."""
    frequency = frequency.clamp(min=SMALLEST_PROBABILITY)
    if not has_rest:
        return frequency.log()
    rest = (1 - frequency.sum(-1, keepdim=True)).clamp(min=SMALLEST_PROBABILITY)
    return frequency.log() - rest.log()


def draw_uniform(like: Array, generator: Generator) -> Array:
    """Draw uniform numbers with the shape, dtype and device of an array."""
    if isinstance(like, np.ndarray):
        return generator.random(like.shape)
    return namespace(like).rand(like.shape, generator=generator, dtype=like.dtype).to(like.device)


def draw_normal(like: Array, generator: Generator) -> Array:
    """Draw standard normal numbers with the shape, dtype and device of an array."""
    return namespace(like).randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)


def draw_poisson(rate: Array, generator: Generator) -> Array:
    """Draw from Poisson distributions."""
    return namespace(rate).poisson(rate.cpu(), generator=generator).to(rate.device)


def draw_classes(probability: Array, generator: Generator) -> Array:
    """Draw classes with the given probabilities: (..., K) -> (...)."""
    uniform = draw_uniform(probability[..., :1], generator)
    return (uniform >= probability.cumsum(-1)[..., :-1]).sum(-1)
