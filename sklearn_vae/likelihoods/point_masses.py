"""Likelihood of real columns with point masses, as 0 in a column of gains (zero-inflated)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sklearn_vae.columnwise import Limits
from sklearn_vae.functional import bounded, unbounded
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
    weighted_mean,
)
from sklearn_vae.likelihoods.real import Gaussian
from sklearn_vae.model_constants import HALF_LOG_2PI, LOG_SCALE_BOUND
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import check_integer


@serializable
@dataclass(frozen=True)
class ZeroInflated(Likelihood):
    r"""Real columns with point masses, as 0 in a column of gains or 40 in one of hours.

    A mixture of point masses (spikes) and a normal density: :math:`p(x|z) = \pi_k(z)` at the
    k-th spike and :math:`\pi_0(z) \, \mathcal{N}(x | \mu(z), \sigma^2(z))` elsewhere. Values are
    encoded as a one-hot vector of the spikes, zeros elsewhere, and the number, zero at a spike.

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

    n_spikes: int

    def __post_init__(self) -> None:
        check_integer(self, "n_spikes", self.n_spikes)

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

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """One-hot spikes (..., n, S) and numbers (..., n) of encoded values."""
        values = x.unflatten(-1, (-1, self.width))
        return values[..., :-1], values[..., -1]

    def _log_weights(self, params: Parameters) -> Tensor:
        """Log-probabilities of the spikes and, last, of the density: (..., n, S + 1)."""
        logits = params[0].unflatten(-1, (-1, self.n_spikes))
        return F.pad(logits, (0, 1)).log_softmax(-1)

    def log_prob_per_column(self, params: Parameters, x: Tensor) -> Tensor:
        """Log-density of each value: (..., n (S + 1)) -> (..., n)."""
        spike, number = self._split(x)
        logits = params[0].unflatten(-1, (-1, self.n_spikes))
        log_total = torch.logaddexp(logits.logsumexp(-1), logits.new_zeros(()))
        density = Gaussian().log_prob_per_column(params[1:], number)
        mass = (spike * logits).sum(-1)
        return torch.where(spike.sum(-1) > 0.5, mass, density) - log_total

    def log_prior(self, params: Parameters, scale: Tensor) -> Tensor:
        """Log-density of a pseudo-observation at distance ``scale``, of the numbers alone."""
        return Gaussian().log_prior(params[1:], self._split(scale)[1])

    def mean(self, params: Parameters) -> Tensor:
        """Probabilities of the spikes, and mean of the density: (..., n (S + 1))."""
        weight = self._log_weights(params).exp()[..., :-1]
        return torch.cat([weight, params[1].unsqueeze(-1)], dim=-1).flatten(-2)

    def average_over_draws(self, params: Parameters, weights: Tensor) -> Tensor:
        """Mean over draws of z too, with weights (M, K, B): (B, n (S + 1))."""
        joint = weights[..., None, None] * self._log_weights(params).exp()  # (M, K, B, n, S + 1)
        weight = joint.sum((0, 1))
        number = (joint[..., -1] * params[1]).sum((0, 1)) / weight[..., -1].clamp(min=1e-30)
        return torch.cat([weight[..., :-1], number.unsqueeze(-1)], dim=-1).flatten(-2)

    def cdf(self, params: Parameters, x: Tensor) -> tuple[Tensor, Tensor]:
        """P(X < x) and P(X = x) of each value, with the spikes below all other numbers."""
        spike, number = self._split(x)
        weight = self._log_weights(params).exp()
        below, at = class_cdf(weight[..., :-1], spike)
        density = Gaussian().cdf(params[1:], number)[0]
        above = 1 - weight[..., -1] + weight[..., -1] * density
        return torch.where(spike.sum(-1) > 0.5, below, above), at

    def sample(
        self, params: Parameters, generator: torch.Generator, limits: Limits | None = None
    ) -> Tensor:
        """Sample rows from p(x|z): (..., n (S + 1))."""
        index = sample_classes(self._log_weights(params).exp(), generator)
        one_hot = F.one_hot(index, self.width).to(params[1].dtype)
        number = Gaussian().sample(params[1:], generator, limits) * one_hot[..., -1]
        return torch.cat([one_hot[..., :-1], number.unsqueeze(-1)], dim=-1).flatten(-2)

    def initialize(self, loadings: Tensor, loc: Tensor, scale: Tensor) -> LinearParameters:
        """Frequencies of the spikes, and mean and scale of the other numbers."""
        (spike, number), (_, scale) = self._split(loc), self._split(scale)
        slope, number_slope = self._split(loadings)  # (l, n, S), (l, n)
        weight = spike.clamp(MIN_PROBABILITY, 1 - MIN_PROBABILITY)
        rest = (1 - weight.sum(-1)).clamp(min=MIN_PROBABILITY)
        logits = weight.log() - rest.log().unsqueeze(-1)
        slope = slope / weight + slope.sum(-1, keepdim=True) / rest.unsqueeze(-1)
        log_scale = (scale / rest.sqrt()).log()
        return [
            (slope.clamp(-MAX_SLOPE, MAX_SLOPE).flatten(-2), logits.flatten()),
            (number_slope, number / rest),
            (torch.zeros_like(number_slope), unbounded(log_scale, LOG_SCALE_BOUND)),
        ]

    def log_prob_by_component(
        self, params: Parameters, x: Tensor, observed: Tensor | None = None
    ) -> Tensor:
        """Log-density of the rows in each component, as matrix products: (M, C, B)."""
        log_weight = self._log_weights(params)  # (M, C, k, S + 1)
        _, loc, raw = params
        log_scale = bounded(raw, LOG_SCALE_BOUND)
        precision = (-2 * log_scale).exp()
        constant = log_weight[..., -1] - 0.5 * loc.square() * precision - log_scale - HALF_LOG_2PI
        spike, number = self._split(x)  # zeros at missing values, and numbers at spikes
        is_number = 1 - spike.sum(-1)
        if observed is not None:
            is_number = is_number * observed
        log_prob = log_weight[..., :-1].flatten(-2) @ spike.flatten(-2).mT
        log_prob = log_prob + constant @ is_number.mT + (loc * precision) @ number.mT
        return log_prob - 0.5 * precision @ number.square().mT

    def fisher_features(self, params: Parameters, slopes: Parameters) -> Tensor:
        """One feature per spike and for the density, and those of its mean and scale."""
        log_weight = self._log_weights(params)
        slope = slopes[0].unflatten(-1, (-1, self.n_spikes))
        classes = fisher_features_of_classes(log_weight, F.pad(slope, (0, 1)))
        number = Gaussian().fisher_features(params[1:], slopes[1:])
        return torch.cat([classes, (0.5 * log_weight[..., -1:]).exp() * number], dim=-1)

    def maximum_likelihood(
        self, x: Tensor, weights: Tensor, start: Parameters | None = None
    ) -> list[Tensor]:
        """Frequencies of the spikes, and mean and standard deviation of the other numbers."""
        spike, number = self._split(x)
        frequency = weighted_mean(spike.flatten(-2), weights).unflatten(-1, spike.shape[-2:])
        frequency = frequency.clamp(min=SMALLEST_PROBABILITY)  # (C, k, S)
        rest = (1 - frequency.sum(-1, keepdim=True)).clamp(min=SMALLEST_PROBABILITY)
        logits = frequency.log() - rest.log()
        number = torch.where(spike.sum(-1) > 0.5, torch.nan, number)
        return [logits.flatten(-2), *Gaussian().maximum_likelihood(number, weights)]
