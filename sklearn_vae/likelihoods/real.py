"""Columns of real numbers: normal, heavy-tailed, positive."""

import math
from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

import torch
from scipy import special
from torch import Tensor

from sklearn_vae.likelihoods.kind import Likelihood, Parameters
from sklearn_vae.networks import bounded, unbounded
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
                f"The 'scale' parameter of {type(self).__name__} must be 'z', 'column' or a "
                f"number between {SMALLEST_FIXED} and {1 / SMALLEST_FIXED:.0f}. "
                f"Got {self.scale!r} instead."
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

    def by_column(self, params: Parameters, x: Tensor) -> Tensor:
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

    def sample(self, params: Parameters, generator: torch.Generator) -> Tensor:
        """Rows drawn from p(x|z): (..., n)."""
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
class LogNormal(Gaussian):
    r"""Positive columns, :math:`p(x | z) = \mathcal{N}(\log x | \mu(z), \sigma^2) / x`.

    The model sees logarithms, and what is said above of a :class:`Gaussian` column holds
    of these. What ``inverse_transform`` gives is the median of p(x|z), whose logarithm is
    the mean of the logarithms.

    Parameters
    ----------
    scale : {"z", "column"} or float, default="z"
        Whether the logarithm's standard deviation is a function of z, one learned number
        per column, or fixed, in units of the logarithms' own standard deviation.

    Examples
    --------
    >>> from sklearn_vae import LogNormal
    >>> LogNormal()
    LogNormal(scale='z')
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
    scale : {"z", "column"}, default="z"
        Whether the scale is a function of z or one learned number per column.

    References
    ----------
    .. [1] K. L. Lange, R. J. A. Little and J. M. G. Taylor, "Robust Statistical Modeling
       Using the t Distribution", Journal of the American Statistical Association 84, 1989.

    Examples
    --------
    >>> from sklearn_vae import StudentT
    >>> StudentT(scale="column")
    StudentT(scale='column')
    """

    scale: str = "z"

    def __post_init__(self) -> None:
        if self.scale not in ("z", "column"):
            raise ValueError(
                f"The 'scale' parameter of StudentT must be 'z' or 'column'. "
                f"Got {self.scale!r} instead."
            )

    @property
    def of_z(self) -> tuple[bool, ...]:
        """The location always depends on z, the scale if asked to, the tails never."""
        return True, self.scale == "z", False

    @staticmethod
    def _df(raw: Tensor) -> Tensor:
        return (LOG_DF_CENTRE + bounded(raw, LOG_DF_BOUND)).exp()

    def by_column(self, params: Parameters, x: Tensor) -> Tensor:
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

    def sample(self, params: Parameters, generator: torch.Generator) -> Tensor:
        """Rows drawn from p(x|z): (..., n)."""
        loc, raw, raw_df = params
        half = 0.5 * self._df(raw_df).expand_as(loc).contiguous()
        normal = torch.randn(loc.shape, generator=generator, dtype=loc.dtype)
        gamma = torch._standard_gamma(half.cpu(), generator=generator)
        t = normal * (half.cpu() / gamma.clamp(min=torch.finfo(loc.dtype).tiny)).sqrt()
        return loc + bounded(raw, LOG_SCALE_BOUND).exp() * t.to(loc.device)

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
