"""What every kind of column answers to."""

from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

Parameters = Sequence[Tensor]

# To start with, no probability is nearer to 0 or 1, and no latent unit moves a logit or a
# log-rate more.
SMALLEST_PROBABILITY = 1e-3
STEEPEST = 3.0
# A draw beyond its limits is drawn again, so often at the most.
MOST_REDRAWS = 16


class Limits(NamedTuple):
    """Where draws of real columns lie.

    Attributes
    ----------
    low, high : Tensor of shape (n,)
        Bounds.
    taken : Tensor of shape (n, n_taken)
        Common values, which other draws are not; NaN where there are fewer.
    radius : Tensor of shape (n,)
        How near to them a number counts as one of them.
    """

    low: Tensor
    high: Tensor
    taken: Tensor
    radius: Tensor

    def exceeded(self, value: Tensor) -> Tensor:
        """Which values lie beyond: (..., n) -> (..., n)."""
        is_taken = (value.unsqueeze(-1) - self.taken).abs() <= self.radius.unsqueeze(-1)
        return (value < self.low) | (value > self.high) | is_taken.any(-1)


def sample_truncated(draw: Callable[[], Tensor], limits: Limits | None) -> Tensor:
    """Draw values (..., n), and those that lie beyond their limits again: a truncated draw."""
    value = draw()
    if limits is None:
        return value
    for _ in range(MOST_REDRAWS):
        beyond = limits.exceeded(value)
        if not beyond.any():
            return value
        value = torch.where(beyond, draw(), value)
    return value.clamp(limits.low, limits.high)


class Likelihood:
    """p(x|z) of columns of one kind, independent given z.

    Likelihoods are values: they hold no weights. Their parameters come from the decoder
    or, where one does not depend on z, from the model. The last axis of every tensor is the
    columns', each of which takes as many neighbouring places as it has numbers. Every kind
    has the same verbs in the same order; a reader who has read one has read all.

    Attributes
    ----------
    link : {"identity", "log", "root"}
        What is done to values of X before they are scaled.
    scale_param : int or None
        Number of the parameter that is a scale, if one is.
    """

    link: ClassVar[str] = "identity"
    scale_param: ClassVar[int | None] = None

    @property
    def width(self) -> int:
        """Numbers by which the model sees one value."""
        return 1

    @property
    def depends_on_z(self) -> tuple[bool, ...]:
        """For each parameter, whether it is a function of z."""
        raise NotImplementedError

    @property
    def param_sizes(self) -> tuple[int, ...]:
        """For each parameter, how many numbers it has per column."""
        return (1,) * len(self.depends_on_z)

    @property
    def decoded_sizes(self) -> tuple[int, ...]:
        """Sizes of the parameters that depend on z, which the decoder returns."""
        sizes = zip(self.param_sizes, self.depends_on_z, strict=True)
        return tuple(size for size, depends in sizes if depends)

    def log_prob_per_column(self, params: Parameters, x: Tensor) -> Tensor:
        """Log-density of each value: (..., n width) -> (..., n)."""
        raise NotImplementedError

    def log_prob(self, params: Parameters, x: Tensor) -> Tensor:
        """Log-density of the rows, summed over columns: (..., n width) -> (...)."""
        return self.log_prob_per_column(params, x).sum(-1)

    def log_prior(self, params: Parameters, scale: Tensor) -> Tensor:
        """Log-density of one more row whose residual is ``scale``: (..., n), (n) -> (...).

        A probability has no scale that could collapse: no prior.
        """
        return params[0].new_zeros(params[0].shape[:-1])

    def mean(self, params: Parameters) -> Tensor:
        """Mean of p(x|z): (..., n width)."""
        raise NotImplementedError

    def average_over_draws(self, params: Parameters, share: Tensor) -> Tensor:
        """Mean over draws of z as well, with weights (M, K, B): (M, K, B, n width) -> (B, ...)."""
        return (share.unsqueeze(-1) * self.mean(params)).sum((0, 1))

    def cdf(self, params: Parameters, x: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of less than x, and of x itself: (..., n width) -> (..., n), twice."""
        raise NotImplementedError

    def sample(
        self, params: Parameters, generator: torch.Generator, limits: Limits | None = None
    ) -> Tensor:
        """Rows drawn from p(x|z): (..., n width); real numbers within limits."""
        raise NotImplementedError

    def start(self, loadings: Tensor, loc: Tensor, scale: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Slope in z and offset of each parameter that make x about loc + z @ loadings."""
        raise NotImplementedError


def class_cdf(probability: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities of the classes before one's own, and of it: (..., K), (..., K) -> (...)."""
    at = (probability * own).sum(-1)
    return (probability.cumsum(-1) * own).sum(-1) - at, at


def uniform_like(value: Tensor, generator: torch.Generator) -> Tensor:
    """Draw numbers between 0 and 1, where and as ``value`` is."""
    drawn = torch.rand(value.shape, generator=generator, dtype=value.dtype)
    return drawn.to(value.device)


def sample_categorical(probability: Tensor, generator: torch.Generator) -> Tensor:
    """Draw numbers of classes by their probabilities: (..., K) -> (...)."""
    ends = probability.cumsum(-1)[..., :-1].contiguous()
    place = uniform_like(probability[..., 0], generator)
    return torch.searchsorted(ends, place.unsqueeze(-1).contiguous(), right=True).squeeze(-1)
