"""p(x|z): what the decoder says of a row.

Every likelihood has the same verbs in the same order, on tensors whose last axis is
its columns; a reader who has read one has read all. They hold no weights: their
parameters come from the decoder, or, where one does not depend on z, from the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from sklearn_vae.networks import bounded, unbounded
from sklearn_vae.priors import HALF_LOG_2PI

Parameters = Sequence[Tensor]

# Scales between 0.0009 and 1097, in units of the columns' own.
LOG_SCALE_BOUND = 7.0
# Smallest scale that can be fixed; the largest is its inverse.
SMALLEST_FIXED = 1e-3


class Likelihood(Protocol):
    """What every kind of column answers to."""

    @property
    def of_z(self) -> tuple[bool, ...]:
        """For each parameter, whether it is a function of z."""

    def log_prob(self, params: Parameters, x: Tensor) -> Tensor:
        """Log-density of the rows, summed over columns: (..., d) -> (...)."""

    def log_prior(self, params: Parameters, scale: Tensor) -> Tensor:
        """Log-density of one more row whose residual is ``scale``: (..., d), (d) -> (...)."""

    def mean(self, params: Parameters) -> Tensor:
        """Mean of p(x|z): (..., d)."""

    def cdf(self, params: Parameters, x: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of less than x, and of x itself: (..., d) -> (..., d), (..., d)."""

    def sample(self, params: Parameters, generator: torch.Generator) -> Tensor:
        """Rows drawn from p(x|z): (..., d)."""

    def start(self, loadings: Tensor, loc: Tensor, scale: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Slope in z and offset of each parameter that make x about loc + z @ loadings."""


@dataclass(frozen=True)
class Gaussian:
    r"""Real-valued columns, :math:`p(x | z) = \mathcal{N}(x | \mu(z), \sigma^2)`.

    The scale is learned with the decoder, so that no column's unit decides how much
    it weighs.

    Parameters
    ----------
    scale : {"z", "column"} or float, default="z"
        Whether the standard deviation is a function of z, one learned number per column, or
        fixed: a number between 0.001 and 1000, in units of the column's own standard
        deviation. With a fixed one, training minimises squared errors, and the density is
        seldom a good one.

    Examples
    --------
    >>> from sklearn_vae import Gaussian
    >>> Gaussian(scale="column")
    Gaussian(scale='column')
    """

    scale: str | float = "z"

    def __post_init__(self) -> None:
        is_number = isinstance(self.scale, Real) and not isinstance(self.scale, bool)
        if self.scale not in ("z", "column") and not (
            is_number and SMALLEST_FIXED <= float(self.scale) <= 1 / SMALLEST_FIXED
        ):
            raise ValueError(
                f"The 'scale' parameter of Gaussian must be 'z', 'column' or a number between "
                f"{SMALLEST_FIXED} and {1 / SMALLEST_FIXED:.0f}. Got {self.scale!r} instead."
            )

    @property
    def is_fixed(self) -> bool:
        """Whether the scale is not learned."""
        return not isinstance(self.scale, str)

    def _log_scale(self, raw: Tensor) -> Tensor:
        return bounded(raw.detach() if self.is_fixed else raw, LOG_SCALE_BOUND)

    @property
    def of_z(self) -> tuple[bool, ...]:
        """The mean always depends on z, the scale if asked to."""
        return True, self.scale == "z"

    def log_prob(self, params: Parameters, x: Tensor) -> Tensor:
        """Log-density of the rows, summed over columns: (..., d) -> (...)."""
        loc, raw = params
        log_scale = self._log_scale(raw)
        residual = (x - loc) * (-log_scale).exp()
        # a scale per column sums once, not once per draw
        constant = (log_scale + HALF_LOG_2PI).sum(-1)
        return -0.5 * residual.square().sum(-1) - constant

    def log_prior(self, params: Parameters, scale: Tensor) -> Tensor:
        """Log-density of one more row whose residual is ``scale``: (..., d), (d) -> (...)."""
        log_scale = self._log_scale(params[1])
        residual = scale * (-log_scale).exp()
        return (-0.5 * residual.square() - log_scale - HALF_LOG_2PI).sum(-1)

    def mean(self, params: Parameters) -> Tensor:
        """Mean of p(x|z): (..., d)."""
        return params[0]

    def cdf(self, params: Parameters, x: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of less than x, and of x itself: (..., d) -> (..., d), (..., d)."""
        loc, raw = params
        below = torch.special.ndtr((x - loc) * (-bounded(raw, LOG_SCALE_BOUND)).exp())
        return below, torch.zeros_like(below)

    def sample(self, params: Parameters, generator: torch.Generator) -> Tensor:
        """Rows drawn from p(x|z): (..., d)."""
        loc, raw = params
        noise = torch.randn(loc.shape, generator=generator, dtype=loc.dtype)
        return loc + bounded(raw, LOG_SCALE_BOUND).exp() * noise.to(loc.device)

    def start(self, loadings: Tensor, loc: Tensor, scale: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Start as the linear Gaussian model itself, but for a fixed scale."""
        if isinstance(self.scale, Real):
            scale = torch.full_like(scale, float(self.scale))
        return [
            (loadings, loc),
            (torch.zeros_like(loadings), unbounded(scale.log(), LOG_SCALE_BOUND)),
        ]


@dataclass(frozen=True)
class Bernoulli:
    r"""Binary columns, :math:`p(x | z) = \pi(z)^x (1 - \pi(z))^{1-x}` with x in {0, 1}.

    Its negative log is the cross-entropy.

    Examples
    --------
    >>> from sklearn_vae import Bernoulli
    >>> Bernoulli()
    Bernoulli()
    """

    @property
    def of_z(self) -> tuple[bool, ...]:
        """The logit depends on z."""
        return (True,)

    def log_prob(self, params: Parameters, x: Tensor) -> Tensor:
        """Log-probability of the rows, summed over columns: (..., d) -> (...)."""
        (logit,) = params
        return (x * logit - F.softplus(logit)).sum(-1)

    def log_prior(self, params: Parameters, scale: Tensor) -> Tensor:
        """A probability has no scale that could collapse: no prior."""
        return params[0].new_zeros(params[0].shape[:-1])

    def mean(self, params: Parameters) -> Tensor:
        """Probability of a one: (..., d)."""
        return torch.sigmoid(params[0])

    def cdf(self, params: Parameters, x: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of less than x, and of x itself: (..., d) -> (..., d), (..., d)."""
        probability = self.mean(params)
        below = x * (1 - probability)
        return below, x * probability + (1 - x) * (1 - probability)

    def sample(self, params: Parameters, generator: torch.Generator) -> Tensor:
        """Rows drawn from p(x|z): (..., d)."""
        probability = self.mean(params)
        uniform = torch.rand(probability.shape, generator=generator, dtype=probability.dtype)
        return (uniform.to(probability.device) < probability).to(probability.dtype)

    def start(self, loadings: Tensor, loc: Tensor, scale: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Start at the logit whose value and slope at z = 0 are those of the linear model."""
        probability = loc.clamp(1e-3, 1 - 1e-3)
        slope = loadings / (probability * (1 - probability))
        # a rare bit's slope is steep: three logits per latent unit is enough to start with
        return [(slope.clamp(-3, 3), torch.logit(probability))]


NAMED: dict[str, Likelihood] = {"gaussian": Gaussian(), "bernoulli": Bernoulli()}


class Columnwise:
    """Columns of several kinds side by side; given z they are independent.

    Parameters
    ----------
    blocks : sequence of (likelihood, n_columns)
        Neighbouring columns of one kind each, in the order in which they stand in x.
    """

    def __init__(self, blocks: Sequence[tuple[Likelihood, int]]):
        self.blocks = tuple(blocks)
        self.widths = [n_columns for _, n_columns in self.blocks]
        self.n_columns = sum(self.widths)
        # how many numbers the decoder gives, and how many do not depend on z
        self.n_of_z = sum(n * sum(kind.of_z) for kind, n in self.blocks)
        self.n_free = sum(n * (len(kind.of_z) - sum(kind.of_z)) for kind, n in self.blocks)

    def split(self, of_z: Tensor, free: Tensor) -> list[list[Tensor]]:
        """Cut the decoder's numbers and the free ones into each block's parameters."""
        of_z_parts = iter(of_z.split(self._sizes(of_z=True), dim=-1))
        free_parts = iter(free.split(self._sizes(of_z=False), dim=-1))
        return [
            [next(of_z_parts if depends else free_parts) for depends in kind.of_z]
            for kind, _ in self.blocks
        ]

    def log_prob(self, params: Sequence[Parameters], x: Tensor) -> Tensor:
        """Log-density of the rows, summed over columns: (..., n_columns) -> (...)."""
        parts = [
            kind.log_prob(own, x_own)
            for (kind, _), own, x_own in zip(self.blocks, params, self.cut(x), strict=True)
        ]
        return sum(parts[1:], parts[0])

    def log_prior(self, params: Sequence[Parameters], scale: Tensor) -> Tensor:
        """Log-density of one more row whose residuals are ``scale``: (...)."""
        parts = [
            kind.log_prior(own, own_scale)
            for (kind, _), own, own_scale in zip(self.blocks, params, self.cut(scale), strict=True)
        ]
        return sum(parts[1:], parts[0])

    def mean(self, params: Sequence[Parameters]) -> Tensor:
        """Mean of p(x|z): (..., n_columns)."""
        pairs = zip(self.blocks, params, strict=True)
        return torch.cat([kind.mean(own) for (kind, _), own in pairs], dim=-1)

    def by_column(self, params: Sequence[Parameters], x: Tensor) -> Tensor:
        """Log-density of the rows, column by column: (..., n_columns)."""
        parts = [
            kind.log_prob([param.unsqueeze(-1) for param in own], x_own.unsqueeze(-1))
            for (kind, _), own, x_own in zip(self.blocks, params, self.cut(x), strict=True)
        ]
        return torch.cat(parts, dim=-1)

    def cdf(self, params: Sequence[Parameters], x: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of less than x, and of x itself, column by column: (..., n_columns)."""
        parts = [
            kind.cdf(own, x_own)
            for (kind, _), own, x_own in zip(self.blocks, params, self.cut(x), strict=True)
        ]
        below, at = zip(*parts, strict=True)
        return torch.cat(below, dim=-1), torch.cat(at, dim=-1)

    def sample(self, params: Sequence[Parameters], generator: torch.Generator) -> Tensor:
        """Rows drawn from p(x|z): (..., n_columns)."""
        pairs = zip(self.blocks, params, strict=True)
        return torch.cat([kind.sample(own, generator) for (kind, _), own in pairs], dim=-1)

    def start(self, loadings: Tensor, loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Slopes (l, n_of_z), offsets (n_of_z) and free offsets (n_free) to start with."""
        slopes, offsets, free = [loadings[:, :0]], [loc[:0]], [loc[:0]]
        cuts = zip(self.blocks, self.cut(loadings), self.cut(loc), self.cut(scale), strict=True)
        for (kind, _), *own in cuts:
            for depends, (slope, offset) in zip(kind.of_z, kind.start(*own), strict=True):
                if depends:
                    slopes.append(slope)
                    offsets.append(offset)
                else:
                    free.append(offset)
        return torch.cat(slopes, dim=1), torch.cat(offsets), torch.cat(free)

    def cut(self, x: Tensor) -> tuple[Tensor, ...]:
        """Cut columns into the blocks' own."""
        return x.split(self.widths, dim=-1)

    def _sizes(self, *, of_z: bool) -> list[int]:
        return [n for kind, n in self.blocks for depends in kind.of_z if depends is of_z]
