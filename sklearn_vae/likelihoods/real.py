"""Columns of real numbers: normal, heavy-tailed, positive, with values that are common."""

import math
from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

import torch
from scipy import special
from torch import Tensor

from sklearn_vae.likelihoods.base import (
    SMALLEST_PROBABILITY,
    STEEPEST,
    Likelihood,
    Limits,
    Parameters,
    class_cdf,
    sample_categorical,
    sample_truncated,
)
from sklearn_vae.networks import bounded, unbounded
from sklearn_vae.persistence.validation import check_integer
from sklearn_vae.priors import HALF_LOG_2PI

# Scales between 0.0009 and 1097, in units of the columns' own.
LOG_SCALE_BOUND = 7.0
# Smallest scale that can be fixed; the largest is its inverse.
SMALLEST_FIXED = 1e-3
# Degrees of freedom between 0.05 and 403: from wilder than Cauchy's to as good as normal.
LOG_DF_CENTRE, LOG_DF_BOUND = 1.5, 4.5
# Their logarithm to begin with.
FIRST_LOG_DF = math.log(5.0)


@dataclass(frozen=True)
class Gaussian(Likelihood):
    r"""Real-valued columns, :math:`p(x | z) = \mathcal{N}(x | \mu(z), \sigma^2)`.

    The scale is learned with the decoder, so that no column's unit decides how much
    it weighs.

    Parameters
    ----------
    scale : {"per_row", "per_column"} or float, default="per_row"
        Standard deviation: a function of z, one learned number per column, or
        fixed: a number between 0.001 and 1000, in units of the column's own standard
        deviation. With a fixed one, training minimises squared errors, and the density is
        seldom a good one.

    Examples
    --------
    >>> from sklearn_vae.likelihoods import Gaussian
    >>> Gaussian(scale="per_column")
    Gaussian(scale='per_column')
    """

    scale_param: ClassVar[int] = 1

    scale: str | float = "per_row"

    def __post_init__(self) -> None:
        is_number = isinstance(self.scale, Real) and not isinstance(self.scale, bool)
        if self.scale not in ("per_row", "per_column") and not (
            is_number and SMALLEST_FIXED <= float(self.scale) <= 1 / SMALLEST_FIXED
        ):
            raise ValueError(
                f"The 'scale' parameter of {type(self).__name__} must be 'per_row', 'per_column' "
                f"or a number between {SMALLEST_FIXED} and {1 / SMALLEST_FIXED:.0f}. "
                f"Got {self.scale!r} instead."
            )

    @property
    def is_fixed(self) -> bool:
        """Whether the scale is not learned."""
        return not isinstance(self.scale, str)

    def _log_scale(self, raw: Tensor) -> Tensor:
        return bounded(raw.detach() if self.is_fixed else raw, LOG_SCALE_BOUND)

    @property
    def depends_on_z(self) -> tuple[bool, ...]:
        """The mean always depends on z, the scale if asked to."""
        return True, self.scale == "per_row"

    def log_prob_per_column(self, params: Parameters, x: Tensor) -> Tensor:
        """Log-density of each value: (..., n) -> (..., n)."""
        loc, raw = params
        log_scale = self._log_scale(raw)
        residual = (x - loc) * (-log_scale).exp()
        return -0.5 * residual.square() - log_scale - HALF_LOG_2PI

    def log_prob(self, params: Parameters, x: Tensor) -> Tensor:
        """Log-density of the rows, summed over columns: (..., n) -> (...)."""
        loc, raw = params
        log_scale = self._log_scale(raw)
        residual = (x - loc) * (-log_scale).exp()
        # a scale per column sums once, not once per draw
        constant = (log_scale + HALF_LOG_2PI).sum(-1)
        return -0.5 * residual.square().sum(-1) - constant

    def log_prior(self, params: Parameters, scale: Tensor) -> Tensor:
        """Log-density of one more row whose residual is ``scale``: (..., n), (n) -> (...)."""
        return self.log_prob([torch.zeros_like(params[0]), params[1]], scale)

    def mean(self, params: Parameters) -> Tensor:
        """Mean of p(x|z): (..., n)."""
        return params[0]

    def cdf(self, params: Parameters, x: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of less than x, and of x itself: (..., n) -> (..., n), (..., n)."""
        loc, raw = params
        below = torch.special.ndtr((x - loc) * (-bounded(raw, LOG_SCALE_BOUND)).exp())
        return below, torch.zeros_like(below)

    def sample(
        self, params: Parameters, generator: torch.Generator, limits: Limits | None = None
    ) -> Tensor:
        """Rows drawn from p(x|z): (..., n)."""
        loc, raw = params
        scale = bounded(raw, LOG_SCALE_BOUND).exp()

        def draw() -> Tensor:
            noise = torch.randn(loc.shape, generator=generator, dtype=loc.dtype)
            return loc + scale * noise.to(loc.device)

        return sample_truncated(draw, limits)

    def start(self, loadings: Tensor, loc: Tensor, scale: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Start as the linear Gaussian model itself, but for a fixed scale."""
        if isinstance(self.scale, Real):
            scale = torch.full_like(scale, float(self.scale))
        return [
            (loadings, loc),
            (torch.zeros_like(loadings), unbounded(scale.log(), LOG_SCALE_BOUND)),
        ]


@dataclass(frozen=True)
class LogNormal(Gaussian):
    r"""Positive columns, :math:`p(x | z) = \mathcal{N}(\log x | \mu(z), \sigma^2) / x`.

    The model sees logarithms, and what is said above of a :class:`Gaussian` column holds
    of these. What ``inverse_transform`` gives is the median of p(x|z), whose logarithm is
    the mean of the logarithms.

    Parameters
    ----------
    scale : {"per_row", "per_column"} or float, default="per_row"
        Whether the logarithm's standard deviation is a function of z, one learned number
        per column, or fixed, in units of the logarithms' own standard deviation.

    Examples
    --------
    >>> from sklearn_vae.likelihoods import LogNormal
    >>> LogNormal()
    LogNormal(scale='per_row')
    """

    link: ClassVar[str] = "log"


@dataclass(frozen=True)
class StudentT(Likelihood):
    r"""Real-valued columns with heavy tails, :math:`(x - \mu(z)) / \sigma(z) \sim t_\nu`.

    The degrees of freedom :math:`\nu` are learned, one number per column. A value far out
    costs a logarithm of its distance and not its square, so a few gross errors do not bend
    the model.

    Parameters
    ----------
    scale : {"per_row", "per_column"}, default="per_row"
        Whether the scale is a function of z or one learned number per column.

    References
    ----------
    .. [1] K. L. Lange, R. J. A. Little and J. M. G. Taylor, "Robust Statistical Modeling
       Using the t Distribution", Journal of the American Statistical Association 84, 1989.

    Examples
    --------
    >>> from sklearn_vae.likelihoods import StudentT
    >>> StudentT(scale="per_column")
    StudentT(scale='per_column')
    """

    scale_param: ClassVar[int] = 1

    scale: str = "per_row"

    def __post_init__(self) -> None:
        if self.scale not in ("per_row", "per_column"):
            raise ValueError(
                f"The 'scale' parameter of StudentT must be 'per_row' or 'per_column'. "
                f"Got {self.scale!r} instead."
            )

    @property
    def depends_on_z(self) -> tuple[bool, ...]:
        """The location always depends on z, the scale if asked to, the tails never."""
        return True, self.scale == "per_row", False

    @staticmethod
    def _df(raw: Tensor) -> Tensor:
        return (LOG_DF_CENTRE + bounded(raw, LOG_DF_BOUND)).exp()

    def log_prob_per_column(self, params: Parameters, x: Tensor) -> Tensor:
        """Log-density of each value: (..., n) -> (..., n)."""
        loc, raw, raw_df = params
        log_scale, df = bounded(raw, LOG_SCALE_BOUND), self._df(raw_df)
        half = 0.5 * (df + 1)
        constant = torch.lgamma(half) - torch.lgamma(0.5 * df) - 0.5 * (math.pi * df).log()
        # |residual| / sqrt(df) is squared in a logarithm, where it cannot overflow
        distance = ((x - loc) * (-log_scale).exp()).abs() * df.rsqrt()
        return constant - log_scale - half * _log_one_plus_square(distance)

    def log_prior(self, params: Parameters, scale: Tensor) -> Tensor:
        """Log-density of one more row whose residual is ``scale``: (..., n), (n) -> (...)."""
        return self.log_prob([torch.zeros_like(params[0]), *params[1:]], scale)

    def mean(self, params: Parameters) -> Tensor:
        """Centre of p(x|z), which is its mean where it has one: (..., n)."""
        return params[0]

    def cdf(self, params: Parameters, x: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of less than x, and of x itself: (..., n) -> (..., n), (..., n)."""
        loc, raw, raw_df = params
        residual = (x - loc) * (-bounded(raw, LOG_SCALE_BOUND)).exp()
        df = self._df(raw_df).expand_as(residual)
        arrays = (part.detach().cpu().double().numpy() for part in (df, residual))
        below = torch.as_tensor(special.stdtr(*arrays)).to(residual)
        return below, torch.zeros_like(below)

    def sample(
        self, params: Parameters, generator: torch.Generator, limits: Limits | None = None
    ) -> Tensor:
        """Rows drawn from p(x|z): (..., n)."""
        loc, raw, raw_df = params
        half = 0.5 * self._df(raw_df).expand_as(loc).contiguous()
        scale = bounded(raw, LOG_SCALE_BOUND).exp()

        def draw() -> Tensor:
            normal = torch.randn(loc.shape, generator=generator, dtype=loc.dtype)
            gamma = torch._standard_gamma(half.cpu(), generator=generator)
            t = normal * (half.cpu() / gamma.clamp(min=torch.finfo(loc.dtype).tiny)).sqrt()
            return loc + scale * t.to(loc.device)

        return sample_truncated(draw, limits)

    def start(self, loadings: Tensor, loc: Tensor, scale: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Start near the linear Gaussian model, with five degrees of freedom."""
        raw_df = torch.full_like(loc, FIRST_LOG_DF - LOG_DF_CENTRE)
        return [
            (loadings, loc),
            (torch.zeros_like(loadings), unbounded(scale.log(), LOG_SCALE_BOUND)),
            (torch.zeros_like(loadings), unbounded(raw_df, LOG_DF_BOUND)),
        ]


def _log_one_plus_square(value: Tensor) -> Tensor:
    """Compute log(1 + value²) of a value >= 0 whose square may overflow."""
    small = value.clamp(max=1.0)
    large = value.clamp(min=1.0)
    # log(1 + v²) = 2 log v + log(1 + 1 / v²)
    return torch.where(
        value <= 1.0,
        torch.log1p(small.square()),
        2 * large.log() + torch.log1p(large.reciprocal().square()),
    )


@dataclass(frozen=True)
class ZeroInflated(Likelihood):
    r"""Numbers of which some values are common, as 0 in a column of gains or 40 in one of hours.

    A value is one of the common ones, each with a probability of its own, or any other
    number, with a normal density: :math:`p(x|z) = \pi_k(z)` at the k-th common value and
    :math:`\pi_0(z) \, \mathcal{N}(x | \mu(z), \sigma^2(z))` elsewhere. The model sees zeros
    with a one at the common value, and beside them the number, or 0 in its place.

    Parameters
    ----------
    n_spikes : int
        Number of common values.

    References
    ----------
    .. [1] D. Lambert, "Zero-Inflated Poisson Regression", Technometrics 34, 1992, for one
       common value.

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
        """One number per common value, and one for the others."""
        return self.n_spikes + 1

    @property
    def depends_on_z(self) -> tuple[bool, ...]:
        """Logits, location and scale depend on z."""
        return True, True, True

    @property
    def param_sizes(self) -> tuple[int, ...]:
        """A logit per common value, against a zero for the others; a location; a scale."""
        return self.n_spikes, 1, 1

    def _seen(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Which common value (..., n, S), and which number (..., n)."""
        cells = x.unflatten(-1, (-1, self.width))
        return cells[..., :-1], cells[..., -1]

    def _log_shares(self, params: Parameters) -> Tensor:
        """Log-probabilities of the common values and, last, of any other: (..., n, S + 1)."""
        logits = params[0].unflatten(-1, (-1, self.n_spikes))
        return torch.nn.functional.pad(logits, (0, 1)).log_softmax(-1)

    def log_prob_per_column(self, params: Parameters, x: Tensor) -> Tensor:
        """Log-density of each value: (..., n (S + 1)) -> (..., n)."""
        spike, number = self._seen(x)
        log_share = self._log_shares(params)
        elsewhere = log_share[..., -1] + Gaussian().log_prob_per_column(params[1:], number)
        common = (spike * log_share[..., :-1]).sum(-1)
        return torch.where(spike.sum(-1) > 0.5, common, elsewhere)

    def log_prior(self, params: Parameters, scale: Tensor) -> Tensor:
        """Log-density of one more row whose residual is ``scale``, of the numbers alone."""
        return Gaussian().log_prior(params[1:], self._seen(scale)[1])

    def mean(self, params: Parameters) -> Tensor:
        """Probabilities of the common values, and mean of the others: (..., n (S + 1))."""
        share = self._log_shares(params).exp()[..., :-1]
        return torch.cat([share, params[1].unsqueeze(-1)], dim=-1).flatten(-2)

    def average_over_draws(self, params: Parameters, share: Tensor) -> Tensor:
        """Mean over draws of z as well, with weights (M, K, B): (B, n (S + 1))."""
        own = self._log_shares(params).exp()  # (M, K, B, n, S + 1)
        weight = share.unsqueeze(-1).unsqueeze(-1) * own
        shares = weight.sum((0, 1))
        number = (weight[..., -1] * params[1]).sum((0, 1)) / shares[..., -1].clamp(min=1e-30)
        return torch.cat([shares[..., :-1], number.unsqueeze(-1)], dim=-1).flatten(-2)

    def cdf(self, params: Parameters, x: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of less than x, and of x itself, common values being least."""
        spike, number = self._seen(x)
        share = self._log_shares(params).exp()
        is_common = spike.sum(-1) > 0.5
        below, at = class_cdf(share[..., :-1], spike)
        beyond = 1 - share[..., -1] + share[..., -1] * Gaussian().cdf(params[1:], number)[0]
        return torch.where(is_common, below, beyond), at

    def sample(
        self, params: Parameters, generator: torch.Generator, limits: Limits | None = None
    ) -> Tensor:
        """Rows drawn from p(x|z): (..., n (S + 1))."""
        chosen = sample_categorical(self._log_shares(params).exp(), generator)
        spike = torch.nn.functional.one_hot(chosen, self.width).to(params[1].dtype)
        number = Gaussian().sample(params[1:], generator, limits) * spike[..., -1]
        return torch.cat([spike[..., :-1], number.unsqueeze(-1)], dim=-1).flatten(-2)

    def start(self, loadings: Tensor, loc: Tensor, scale: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Start at the linear model's frequencies, and at the other numbers' mean and spread."""
        (spike, number), (_, spread) = self._seen(loc), self._seen(scale)
        slope, slope_of_number = self._seen(loadings)  # (l, n, S), (l, n)
        share = spike.clamp(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
        rest = (1 - share.sum(-1)).clamp(min=SMALLEST_PROBABILITY)
        logits = share.log() - rest.log().unsqueeze(-1)
        steep = slope / share + slope.sum(-1, keepdim=True) / rest.unsqueeze(-1)
        return [
            (steep.clamp(-STEEPEST, STEEPEST).flatten(-2), logits.flatten()),
            (slope_of_number, number / rest),
            (
                torch.zeros_like(slope_of_number),
                unbounded((spread / rest.sqrt()).log(), LOG_SCALE_BOUND),
            ),
        ]
