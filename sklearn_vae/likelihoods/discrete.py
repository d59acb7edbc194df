"""Likelihoods of discrete columns: binary, categorical and ordinal."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sklearn_vae.columnwise import Limits
from sklearn_vae.likelihoods.base import (
    MAX_SLOPE,
    MIN_PROBABILITY,
    SMALLEST_PROBABILITY,
    Likelihood,
    LinearParameters,
    Parameters,
    class_cdf,
    fisher_features_of_classes,
    sample_classes,
    uniform_like,
    weighted_mean,
)
from sklearn_vae.model_constants import MIN_THRESHOLD_GAP, ORDINAL_DIFFERENCE
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import check_integer

# Scale of the logistic distribution closest to the standard normal.
LOGISTIC = 0.6


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

    def log_prob_per_column(self, params: Parameters, x: Tensor) -> Tensor:
        """Log-probability of each value: (..., n) -> (..., n)."""
        (logit,) = params
        return x * logit - F.softplus(logit)

    def mean(self, params: Parameters) -> Tensor:
        """Probability of a one: (..., n)."""
        return torch.sigmoid(params[0])

    def mode(self, params: Parameters) -> Tensor:
        """Most probable value: (..., n)."""
        return self.mean(params).round()

    def cdf(self, params: Parameters, x: Tensor) -> tuple[Tensor, Tensor]:
        """P(X < x) and P(X = x) of each value: (..., n) -> (..., n), (..., n)."""
        probability = self.mean(params)
        below = x * (1 - probability)
        return below, x * probability + (1 - x) * (1 - probability)

    def sample(
        self, params: Parameters, generator: torch.Generator, limits: Limits | None = None
    ) -> Tensor:
        """Sample rows from p(x|z): (..., n)."""
        probability = self.mean(params)
        return (uniform_like(probability, generator) < probability).to(probability.dtype)

    def initialize(self, loadings: Tensor, loc: Tensor, scale: Tensor) -> LinearParameters:
        """Logits whose probability and its slope at z = 0 are the linear model's."""
        probability = loc.clamp(MIN_PROBABILITY, 1 - MIN_PROBABILITY)
        slope = loadings / (probability * (1 - probability))
        # the slope of a rare value is steep
        return [(slope.clamp(-MAX_SLOPE, MAX_SLOPE), torch.logit(probability))]

    def log_prob_by_component(
        self, params: Parameters, x: Tensor, observed: Tensor | None = None
    ) -> Tensor:
        """Log-probability of the rows in each component, as a matrix product: (M, C, B)."""
        (logit,) = params
        cost = F.softplus(logit)
        if observed is None:
            return logit @ x.mT - cost.sum(-1, keepdim=True)
        return logit @ x.mT - cost @ observed.to(x).mT

    def fisher_features(self, params: Parameters, slopes: Parameters) -> Tensor:
        """One feature per column."""
        probability = self.mean(params)
        return (slopes[0] * (probability * (1 - probability)).sqrt()).unsqueeze(-1)

    def maximum_likelihood(
        self, x: Tensor, weights: Tensor, start: Parameters | None = None
    ) -> list[Tensor]:
        """Logits of the frequencies of ones."""
        return [torch.logit(weighted_mean(x, weights), eps=SMALLEST_PROBABILITY)]


@serializable
@dataclass(frozen=True)
class Categorical(Likelihood):
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

    def _classes(self, value: Tensor) -> Tensor:
        return value.unflatten(-1, (-1, self.n_classes))  # (..., n K) -> (..., n, K)

    def _one_hot(self, classes: Tensor) -> Tensor:
        return F.one_hot(classes, self.n_classes).flatten(-2)  # (..., n) -> (..., n K)

    def log_prob_per_column(self, params: Parameters, x: Tensor) -> Tensor:
        """Log-probability of each value: (..., n K) -> (..., n)."""
        logit = self._classes(params[0])
        return (self._classes(x) * logit).sum(-1) - logit.logsumexp(-1)

    def mean(self, params: Parameters) -> Tensor:
        """Probability of each class: (..., n K)."""
        return self._classes(params[0]).softmax(-1).flatten(-2)

    def mode(self, params: Parameters) -> Tensor:
        """Most probable class, one-hot encoded: (..., n K)."""
        probability = self._classes(params[0]).softmax(-1)
        return self._one_hot(probability.argmax(-1)).to(probability.dtype)

    def cdf(self, params: Parameters, x: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of the classes before x, and of x: (..., n K) -> (..., n), (..., n)."""
        return class_cdf(self._classes(params[0]).softmax(-1), self._classes(x))

    def sample(
        self, params: Parameters, generator: torch.Generator, limits: Limits | None = None
    ) -> Tensor:
        """Sample rows from p(x|z): (..., n K)."""
        probability = self._classes(params[0]).softmax(-1)
        return self._one_hot(sample_classes(probability, generator)).to(probability.dtype)

    def initialize(self, loadings: Tensor, loc: Tensor, scale: Tensor) -> LinearParameters:
        """Logits whose probabilities and their slopes at z = 0 are the linear model's."""
        probability = loc.clamp(MIN_PROBABILITY, 1 - MIN_PROBABILITY)
        return [((loadings / probability).clamp(-MAX_SLOPE, MAX_SLOPE), probability.log())]

    def log_prob_by_component(
        self, params: Parameters, x: Tensor, observed: Tensor | None = None
    ) -> Tensor:
        """Log-probability of the rows in each component, as a matrix product: (M, C, B)."""
        # a missing value has no class, which is a row of zeros
        return self._classes(params[0]).log_softmax(-1).flatten(-2) @ x.mT

    def fisher_features(self, params: Parameters, slopes: Parameters) -> Tensor:
        """One feature per class."""
        log_probability = self._classes(params[0]).log_softmax(-1)
        return fisher_features_of_classes(log_probability, self._classes(slopes[0]))

    def maximum_likelihood(
        self, x: Tensor, weights: Tensor, start: Parameters | None = None
    ) -> list[Tensor]:
        """Logarithms of the classes' frequencies."""
        return [weighted_mean(x, weights).clamp(min=SMALLEST_PROBABILITY).log()]


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

    n_classes: int

    def __post_init__(self) -> None:
        check_integer(self, "n_classes", self.n_classes, 2)

    @property
    def depends_on_z(self) -> tuple[bool, ...]:
        """The location depends on z, the thresholds do not."""
        return True, False

    @property
    def param_sizes(self) -> tuple[int, ...]:
        """One location, and a threshold between any two classes."""
        return 1, self.n_classes - 1

    def _thresholds(self, raw: Tensor) -> Tensor:
        """Thresholds from the first one and raw gaps: (..., n (K-1)) -> (..., n, K-1)."""
        raw = raw.unflatten(-1, (-1, self.n_classes - 1))
        first, gaps = raw.split([1, self.n_classes - 2], dim=-1)
        return torch.cat([first, F.softplus(gaps) + MIN_THRESHOLD_GAP], dim=-1).cumsum(-1)

    def _log_probabilities(self, params: Parameters) -> Tensor:
        """Log-probability of each class: (..., n, K)."""
        loc, raw = params
        distance = self._thresholds(raw) - loc.unsqueeze(-1)  # (..., n, K-1)
        # s(b) - s(a) = s(b) s(-a) (1 - exp(a - b)), without cancellation
        log_up_to = F.pad(F.logsigmoid(distance), (0, 1))
        log_from = F.pad(F.logsigmoid(-distance), (1, 0))
        gap = torch.log(-torch.expm1(distance[..., :-1] - distance[..., 1:]))
        return log_up_to + log_from + F.pad(gap, (1, 1))

    def _class_of(self, x: Tensor) -> Tensor:
        return (x * (self.n_classes - 1)).round().long().clamp(0, self.n_classes - 1)

    def log_prob_per_column(self, params: Parameters, x: Tensor) -> Tensor:
        """Log-probability of each value: (..., n) -> (..., n)."""
        log_probability = self._log_probabilities(params)
        index = self._class_of(x).unsqueeze(-1)
        # torch's function of this name imports its symbolic shapes, which takes half a second
        shape = np.broadcast_shapes(log_probability.shape[:-1], index.shape[:-1])
        index, log_probability = index.expand(*shape, 1), log_probability.expand(*shape, -1)
        return log_probability.gather(-1, index).squeeze(-1)

    def mean(self, params: Parameters) -> Tensor:
        """Mean of the evenly spaced numbers: (..., n)."""
        probability = self._log_probabilities(params).exp()
        return probability @ torch.linspace(0, 1, self.n_classes).to(probability)

    def average_over_draws(self, params: Parameters, weights: Tensor) -> Tensor:
        """Most probable class over draws of z, with weights (M, K, B): (B, n)."""
        probability = self._log_probabilities(params).exp()  # (M, K, B, n, K)
        mode = (weights[..., None, None] * probability).sum((0, 1)).argmax(-1)
        return mode.to(probability) / (self.n_classes - 1)

    def cdf(self, params: Parameters, x: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of the classes before x, and of x: (..., n) -> (..., n), (..., n)."""
        probability = self._log_probabilities(params).exp()
        one_hot = F.one_hot(self._class_of(x), self.n_classes).to(probability.dtype)
        return class_cdf(probability, one_hot)

    def sample(
        self, params: Parameters, generator: torch.Generator, limits: Limits | None = None
    ) -> Tensor:
        """Sample rows from p(x|z): (..., n)."""
        probability = self._log_probabilities(params).exp()
        return sample_classes(probability, generator).to(probability.dtype) / (self.n_classes - 1)

    def initialize(self, loadings: Tensor, loc: Tensor, scale: Tensor) -> LinearParameters:
        """Thresholds at which the linear model of the evenly spaced numbers rounds to classes."""
        logistic = LOGISTIC * scale
        middles = (torch.arange(self.n_classes - 1) + 0.5) / (self.n_classes - 1)
        thresholds = (middles.to(loc) - loc.unsqueeze(-1)) / logistic.unsqueeze(-1)  # (n, K-1)
        gaps = torch.expm1(thresholds.diff(dim=-1).clamp(0.01, 20) - MIN_THRESHOLD_GAP).log()
        raw = torch.cat([thresholds[:, :1], gaps], dim=-1).flatten()
        slopes = (loadings / logistic).clamp(-MAX_SLOPE, MAX_SLOPE)
        return [
            (slopes, torch.zeros_like(loc)),
            (loadings.new_zeros(len(loadings), len(raw)), raw),
        ]

    def log_prob_by_component(
        self, params: Parameters, x: Tensor, observed: Tensor | None = None
    ) -> Tensor:
        """Log-probability of the rows in each component, as a matrix product: (M, C, B)."""
        one_hot = F.one_hot(self._class_of(x), self.n_classes).to(x)
        if observed is not None:
            one_hot = one_hot * observed.unsqueeze(-1)
        return self._log_probabilities(params).flatten(-2) @ one_hot.flatten(-2).mT

    def fisher_features(self, params: Parameters, slopes: Parameters) -> Tensor:
        """One feature per class, by finite differences of the log-probabilities."""
        log_probability = self._log_probabilities(params)
        ahead = [
            part + ORDINAL_DIFFERENCE * slope for part, slope in zip(params, slopes, strict=True)
        ]
        slope = (self._log_probabilities(ahead) - log_probability) / ORDINAL_DIFFERENCE
        return fisher_features_of_classes(log_probability, slope)

    def maximum_likelihood(
        self, x: Tensor, weights: Tensor, start: Parameters | None = None
    ) -> list[Tensor]:
        """Thresholds at the logits of the classes' cumulative frequencies, and a location of 0."""
        one_hot = F.one_hot(self._class_of(x.nan_to_num()), self.n_classes).to(x)
        one_hot[x.isnan()] = torch.nan
        frequency = weighted_mean(one_hot.flatten(-2), weights).unflatten(-1, one_hot.shape[-2:])
        frequency = frequency.clamp(min=SMALLEST_PROBABILITY)  # (C, k, K)
        up_to, above = frequency.cumsum(-1), frequency.flip(-1).cumsum(-1).flip(-1)
        thresholds = (up_to[..., :-1] / above[..., 1:]).log()  # (C, k, K - 1)
        gaps = (thresholds.diff(dim=-1) - MIN_THRESHOLD_GAP).clamp(min=SMALLEST_PROBABILITY)
        raw = torch.cat([thresholds[..., :1], gaps + torch.log(-torch.expm1(-gaps))], dim=-1)
        return [thresholds.new_zeros(thresholds.shape[:-1]), raw.flatten(-2)]
