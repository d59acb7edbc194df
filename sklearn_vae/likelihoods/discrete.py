"""Columns of few values: two, several without order, several in order."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sklearn_vae.likelihoods.base import (
    SMALLEST_PROBABILITY,
    STEEPEST,
    Likelihood,
    Limits,
    Parameters,
    class_cdf,
    sample_categorical,
    uniform_like,
)
from sklearn_vae.persistence.validation import check_integer

# A normal distribution's scale is about so many times that of the logistic one beside it.
LOGISTIC = 0.6
# Thresholds are at least so far apart.
SMALLEST_GAP = 1e-3


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

    @property
    def depends_on_z(self) -> tuple[bool, ...]:
        """The logit depends on z."""
        return (True,)

    def log_prob_per_column(self, params: Parameters, x: Tensor) -> Tensor:
        """Log-probability of each value: (..., n) -> (..., n)."""
        (logit,) = params
        return x * logit - F.softplus(logit)

    def mean(self, params: Parameters) -> Tensor:
        """Probability of a one: (..., n)."""
        return torch.sigmoid(params[0])

    def cdf(self, params: Parameters, x: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of less than x, and of x itself: (..., n) -> (..., n), (..., n)."""
        probability = self.mean(params)
        below = x * (1 - probability)
        return below, x * probability + (1 - x) * (1 - probability)

    def sample(
        self, params: Parameters, generator: torch.Generator, limits: Limits | None = None
    ) -> Tensor:
        """Rows drawn from p(x|z): (..., n)."""
        probability = self.mean(params)
        return (uniform_like(probability, generator) < probability).to(probability.dtype)

    def start(self, loadings: Tensor, loc: Tensor, scale: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Start at the logit whose value and slope at z = 0 are those of the linear model."""
        probability = loc.clamp(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
        slope = loadings / (probability * (1 - probability))
        # a rare bit's slope is steep
        return [(slope.clamp(-STEEPEST, STEEPEST), torch.logit(probability))]


@dataclass(frozen=True)
class Categorical(Likelihood):
    r"""Columns of several classes, :math:`p(x = k | z) = \mathrm{softmax}_k(\eta(z))`.

    The model sees a value as a row of zeros with a one at its class.

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
    def depends_on_z(self) -> tuple[bool, ...]:
        """The logits depend on z."""
        return (True,)

    @property
    def param_sizes(self) -> tuple[int, ...]:
        """One logit per class."""
        return (self.n_classes,)

    def _classes(self, value: Tensor) -> Tensor:
        return value.unflatten(-1, (-1, self.n_classes))  # (..., n K) -> (..., n, K)

    def log_prob_per_column(self, params: Parameters, x: Tensor) -> Tensor:
        """Log-probability of each value: (..., n K) -> (..., n)."""
        logit = self._classes(params[0])
        return (self._classes(x) * logit).sum(-1) - logit.logsumexp(-1)

    def mean(self, params: Parameters) -> Tensor:
        """Probability of each class: (..., n K)."""
        return self._classes(params[0]).softmax(-1).flatten(-2)

    def cdf(self, params: Parameters, x: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of the classes before x, and of x itself: (..., n K) -> (..., n), twice."""
        return class_cdf(self._classes(params[0]).softmax(-1), self._classes(x))

    def sample(
        self, params: Parameters, generator: torch.Generator, limits: Limits | None = None
    ) -> Tensor:
        """Rows drawn from p(x|z): (..., n K)."""
        probability = self._classes(params[0]).softmax(-1)
        drawn = F.one_hot(sample_categorical(probability, generator), self.n_classes)
        return drawn.flatten(-2).to(probability.dtype)

    def start(self, loadings: Tensor, loc: Tensor, scale: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Start at logits whose probabilities and slopes at z = 0 are the linear model's."""
        probability = loc.clamp(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
        return [((loadings / probability).clamp(-STEEPEST, STEEPEST), probability.log())]


@dataclass(frozen=True)
class Ordinal(Likelihood):
    r"""Columns of several classes in order, :math:`P(x \le k | z) = s(t_k - \mu(z))`.

    s is the logistic function, and the thresholds :math:`t_1 < t_2 < \ldots` are learned
    per column. The model sees the classes as evenly spaced numbers from 0 to 1.

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
        """The first one, and then the logarithms of the gaps: (..., n (K-1)) -> same."""
        steps = raw.unflatten(-1, (-1, self.n_classes - 1))
        first, gaps = steps.split([1, self.n_classes - 2], dim=-1)
        return torch.cat([first, F.softplus(gaps) + SMALLEST_GAP], dim=-1).cumsum(-1)

    def _log_probabilities(self, params: Parameters) -> Tensor:
        """Of every class: (..., n, K)."""
        loc, raw = params
        place = self._thresholds(raw) - loc.unsqueeze(-1)  # (..., n, K-1)
        # s(b) - s(a) = s(b) s(-a) (1 - exp(a - b)), none of which cancels
        log_up_to = F.pad(F.logsigmoid(place), (0, 1))
        log_from = F.pad(F.logsigmoid(-place), (1, 0))
        gap = torch.log(-torch.expm1(place[..., :-1] - place[..., 1:]))
        return log_up_to + log_from + F.pad(gap, (1, 1))

    def _class_of(self, x: Tensor) -> Tensor:
        return (x * (self.n_classes - 1)).round().long().clamp(0, self.n_classes - 1)

    def log_prob_per_column(self, params: Parameters, x: Tensor) -> Tensor:
        """Log-probability of each value: (..., n) -> (..., n)."""
        log_probability = self._log_probabilities(params)
        own = self._class_of(x).unsqueeze(-1)
        shape = torch.broadcast_shapes(log_probability.shape[:-1], own.shape[:-1])
        own, log_probability = own.expand(*shape, 1), log_probability.expand(*shape, -1)
        return log_probability.gather(-1, own).squeeze(-1)

    def mean(self, params: Parameters) -> Tensor:
        """Mean of the evenly spaced numbers: (..., n)."""
        probability = self._log_probabilities(params).exp()
        places = torch.linspace(0, 1, self.n_classes).to(probability)
        return probability @ places

    def average_over_draws(self, params: Parameters, share: Tensor) -> Tensor:
        """Likeliest class over draws of z, as its number: (M, K, B) weights -> (B, n)."""
        probability = self._log_probabilities(params).exp()  # (M, K, B, n, K)
        weight = share.unsqueeze(-1).unsqueeze(-1)
        mode = (weight * probability).sum((0, 1)).argmax(-1)
        return mode.to(probability) / (self.n_classes - 1)

    def cdf(self, params: Parameters, x: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of the classes before x, and of x itself: (..., n) -> (..., n), twice."""
        probability = self._log_probabilities(params).exp()
        own = F.one_hot(self._class_of(x), self.n_classes).to(probability.dtype)
        return class_cdf(probability, own)

    def sample(
        self, params: Parameters, generator: torch.Generator, limits: Limits | None = None
    ) -> Tensor:
        """Rows drawn from p(x|z): (..., n)."""
        probability = self._log_probabilities(params).exp()
        return sample_categorical(probability, generator).to(probability.dtype) / (
            self.n_classes - 1
        )

    def start(self, loadings: Tensor, loc: Tensor, scale: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Start as a linear model of the evenly spaced numbers, rounded to classes."""
        logistic = LOGISTIC * scale
        middles = (torch.arange(self.n_classes - 1) + 0.5) / (self.n_classes - 1)
        thresholds = (middles.to(loc) - loc.unsqueeze(-1)) / logistic.unsqueeze(-1)  # (n, K-1)
        gaps = torch.expm1(thresholds.diff(dim=-1).clamp(0.01, 20) - SMALLEST_GAP).log()
        raw = torch.cat([thresholds[:, :1], gaps], dim=-1).flatten()
        slopes = (loadings / logistic).clamp(-STEEPEST, STEEPEST)
        return [
            (slopes, torch.zeros_like(loc)),
            (loadings.new_zeros(len(loadings), len(raw)), raw),
        ]
