"""Columns of counts: 0, 1, 2 and so on."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from scipy import special
from torch import Tensor

from sklearn_vae.likelihoods.base import STEEPEST, Likelihood, Limits, Parameters
from sklearn_vae.networks import bounded, unbounded
from sklearn_vae.persistence.validation import check_number

# Rates lie between e^-12 and e^12 times the unit's square.
LOG_RATE_BOUND = 12.0
# To start with, roots of rates are no smaller.
SMALLEST_ROOT = 0.1
# The shape of a negative binomial lies between e^-7 and e^7.
LOG_SHAPE_BOUND = 7.0
FIRST_LOG_SHAPE = math.log(10.0)


class Counts(Likelihood):
    """What Poisson and negative binomial columns share: a rate, whose root is seen.

    The root of a count has about the same spread whatever its mean. The model sees roots in
    units of a power of two, from which the counts come back exactly.
    """

    link: ClassVar[str] = "root"

    unit: float

    def __post_init__(self) -> None:
        check_number(self, "unit", self.unit, positive=True)

    def _log_rate(self, params: Parameters) -> Tensor:
        return bounded(params[0], LOG_RATE_BOUND) + 2 * math.log(self.unit)

    def _counts(self, x: Tensor) -> Tensor:
        return (x * self.unit).square().round()

    def _roots(self, counts: Tensor) -> Tensor:
        return counts.sqrt() / self.unit

    def mean(self, params: Parameters) -> Tensor:
        """Root of the mean of p(x|z), in its unit: (..., n)."""
        return self._roots(self._log_rate(params).exp())

    def average_over_draws(self, params: Parameters, share: Tensor) -> Tensor:
        """Root of the mean over draws of z as well, with weights (M, K, B): (B, n)."""
        return (share.unsqueeze(-1) * self.mean(params).square()).sum((0, 1)).sqrt()

    def _start(self, loadings: Tensor, loc: Tensor) -> tuple[Tensor, Tensor]:
        root = loc.clamp(min=SMALLEST_ROOT)
        slope = (2 * loadings / root).clamp(-STEEPEST, STEEPEST)
        return slope, unbounded(2 * root.log(), LOG_RATE_BOUND)


@dataclass(frozen=True)
class Poisson(Counts):
    r"""Counts, :math:`p(x | z) = \lambda(z)^x e^{-\lambda(z)} / x!`.

    Given z, a count's variance is its mean. Where it may be larger,
    :class:`NegativeBinomial` is better.

    Examples
    --------
    >>> from sklearn_vae.likelihoods import Poisson
    >>> Poisson()
    Poisson()
    """

    unit: float = field(default=1.0, repr=False)

    @property
    def depends_on_z(self) -> tuple[bool, ...]:
        """The rate depends on z."""
        return (True,)

    def log_prob_per_column(self, params: Parameters, x: Tensor) -> Tensor:
        """Log-probability of each value: (..., n) -> (..., n)."""
        log_rate, counts = self._log_rate(params), self._counts(x)
        return counts * log_rate - log_rate.exp() - torch.lgamma(counts + 1)

    def cdf(self, params: Parameters, x: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of less than x, and of x itself: (..., n) -> (..., n), (..., n)."""
        rate, at = self._log_rate(params).exp(), self.log_prob_per_column(params, x).exp()
        rate, counts = torch.broadcast_tensors(rate, self._counts(x))
        below = torch.special.gammaincc(counts.clamp(min=1), rate)
        return torch.where(counts > 0, below, 0), at

    def sample(
        self, params: Parameters, generator: torch.Generator, limits: Limits | None = None
    ) -> Tensor:
        """Rows drawn from p(x|z): (..., n)."""
        rate = self._log_rate(params).exp()
        return self._roots(torch.poisson(rate.cpu(), generator=generator).to(rate.device))

    def start(self, loadings: Tensor, loc: Tensor, scale: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Start at rates whose roots and their slopes at z = 0 are the linear model's."""
        return [self._start(loadings, loc)]


@dataclass(frozen=True)
class NegativeBinomial(Counts):
    r"""Counts that vary more than Poisson's, with mean :math:`\lambda(z)` and shape s.

    Given z, the variance is :math:`\lambda + \lambda^2 / s`. The shape is one learned number
    per column; the larger, the nearer to :class:`Poisson`.

    .. math:: p(x|z) = \frac{\Gamma(x + s)}{\Gamma(s) \, x!}
        \left(\frac{s}{s + \lambda}\right)^s \left(\frac{\lambda}{s + \lambda}\right)^x

    Examples
    --------
    >>> from sklearn_vae.likelihoods import NegativeBinomial
    >>> NegativeBinomial()
    NegativeBinomial()
    """

    unit: float = field(default=1.0, repr=False)

    @property
    def depends_on_z(self) -> tuple[bool, ...]:
        """The mean depends on z, the shape does not."""
        return True, False

    @staticmethod
    def _log_shape(raw: Tensor) -> Tensor:
        return bounded(raw, LOG_SHAPE_BOUND)

    def log_prob_per_column(self, params: Parameters, x: Tensor) -> Tensor:
        """Log-probability of each value: (..., n) -> (..., n)."""
        log_rate, counts = self._log_rate(params), self._counts(x)
        log_shape = self._log_shape(params[1])
        shape = log_shape.exp()
        log_sum = torch.logaddexp(log_rate, log_shape)
        ways = torch.lgamma(counts + shape) - torch.lgamma(shape) - torch.lgamma(counts + 1)
        return ways + shape * (log_shape - log_sum) + counts * (log_rate - log_sum)

    def cdf(self, params: Parameters, x: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of less than x, and of x itself: (..., n) -> (..., n), (..., n)."""
        at = self.log_prob_per_column(params, x).exp()
        log_rate, log_shape = self._log_rate(params), self._log_shape(params[1])
        share = torch.sigmoid(log_shape - log_rate)  # s / (s + rate)
        shape, share, counts = (
            part.detach().cpu().double().numpy()
            for part in torch.broadcast_tensors(log_shape.exp(), share, self._counts(x))
        )
        below = np.where(counts > 0, special.betainc(shape, np.maximum(counts, 1), share), 0)
        return torch.as_tensor(below).to(at), at

    def sample(
        self, params: Parameters, generator: torch.Generator, limits: Limits | None = None
    ) -> Tensor:
        """Rows drawn from p(x|z): (..., n)."""
        rate = self._log_rate(params).exp()
        shape = self._log_shape(params[1]).exp().expand_as(rate).cpu().contiguous()
        own_rate = torch._standard_gamma(shape, generator=generator) * (rate.cpu() / shape)
        return self._roots(torch.poisson(own_rate, generator=generator).to(rate.device))

    def start(self, loadings: Tensor, loc: Tensor, scale: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Start at rates whose roots and their slopes are the linear model's, near Poisson."""
        raw = unbounded(torch.full_like(loc, FIRST_LOG_SHAPE), LOG_SHAPE_BOUND)
        return [self._start(loadings, loc), (torch.zeros_like(loadings), raw)]
