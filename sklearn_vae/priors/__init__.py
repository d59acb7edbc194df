"""p(z): what the latent space looks like before any row is seen.

Every prior has the same verbs in the same order. They hold no weights: those that have
any say of what shape, and the model holds them. ``density`` makes of them p(z), an
object with ``log_prob`` and ``sample``.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from sklearn_vae.compatibility import Requirement
from sklearn_vae.device import widest_dtype
from sklearn_vae.persistence.validation import check_integer

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)

# Share of the codes' spread that the locations of a mixture start with. Of 0.1, 0.5 and 0.9 it was
# the best or within 0.05 nats of it on each of three tables; 0.9 starts too far from pPCA.
START_SPREAD = 0.5

NO_FREE_BITS = Requirement(
    "free_bits",
    lambda free_bits: not free_bits,
    "0",
    "from which the KL is not a sum over latent dimensions",
)

# Location and log-scale of q(z|x): (M, B, n_columns) -> (M, B, l), (M, B, l).
Recognise = Callable[[Tensor], tuple[Tensor, Tensor]]


class Density(Protocol):
    """What p(z) answers to."""

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density in nats: (M, K, B, l) -> (M, K, B)."""

    def sample(
        self,
        n_members: int,
        n_rows: int,
        n_components: int,
        generator: torch.Generator,
        dtype: torch.dtype,
    ) -> Tensor:
        """Draw latent rows of each member: (M, n_rows, l)."""


@runtime_checkable
class Prior(Protocol):
    """What every prior answers to."""

    requirements: ClassVar[Sequence[Requirement]]
    is_standard_normal: ClassVar[bool]

    @property
    def n_rows(self) -> int:
        """Rows of the table that its weights start from; 0 for a prior without weights."""

    def shapes(self, n_components: int, n_columns: int) -> dict[str, tuple[int, int]]:
        """Shapes of one member's weights, by name."""

    def start(self, x: Tensor, recognise: Recognise) -> dict[str, Tensor]:
        """First values of the weights, from rows (M, n_rows, n_columns)."""

    def density(
        self, weights: Mapping[str, Tensor], recognise: Recognise, mask: Tensor | None
    ) -> Density:
        """Make p(z), for weights with a member axis and the dimensions that members have."""


class Fixed:
    """What priors without weights have in common: they are their own density."""

    requirements: ClassVar[Sequence[Requirement]] = ()
    is_standard_normal: ClassVar[bool] = False

    @property
    def n_rows(self) -> int:
        """It has no weights that could start anywhere."""
        return 0

    def shapes(self, n_components: int, n_columns: int) -> dict[str, tuple[int, int]]:
        """It has no weights."""
        return {}

    def start(self, x: Tensor, recognise: Recognise) -> dict[str, Tensor]:
        """It has no weights."""
        return {}

    def density(
        self, weights: Mapping[str, Tensor], recognise: Recognise, mask: Tensor | None
    ) -> Any:
        """It is its own density."""
        return self


@dataclass(frozen=True)
class StandardNormal(Fixed):
    r"""Independent latent dimensions, :math:`p(z) = \mathcal{N}(z | 0, I)`.

    Examples
    --------
    >>> from sklearn_vae.priors import StandardNormal
    >>> StandardNormal()
    StandardNormal()
    """

    is_standard_normal = True

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density in nats: (..., l) -> (...)."""
        return (-0.5 * z.square() - HALF_LOG_2PI).sum(-1)

    def sample(
        self,
        n_members: int,
        n_rows: int,
        n_components: int,
        generator: torch.Generator,
        dtype: torch.dtype,
    ) -> Tensor:
        """Draw latent rows of each member: (M, n_rows, l)."""
        return torch.randn(n_members, n_rows, n_components, generator=generator, dtype=dtype)


@dataclass(frozen=True)
class MixturePrior:
    r"""A learned mixture, :math:`p(z) = \sum_c \pi_c \, \mathcal{N}(z | \mu_c, \sigma_c^2)`.

    Weights, locations and scales of its normal distributions (with independent
    dimensions) are learned with the decoder. It starts near the standard normal, its
    locations at half the codes that probabilistic PCA gives to some training rows.

    Parameters
    ----------
    n_components : int, default=10
        Number of normal distributions; not the latent dimensions, of which the
        estimator's ``n_components`` is the number.

    Raises
    ------
    ValueError
        If ``n_components`` is not an integer >= 1.

    References
    ----------
    .. [1] N. Dilokthanakul et al., "Deep Unsupervised Clustering with Gaussian Mixture
       Variational Autoencoders", arXiv:1611.02648, 2016.

    Examples
    --------
    >>> from sklearn_vae.priors import MixturePrior
    >>> MixturePrior(n_components=5)
    MixturePrior(n_components=5)
    """

    requirements: ClassVar[Sequence[Requirement]] = (NO_FREE_BITS,)
    is_standard_normal: ClassVar[bool] = False

    n_components: int = 10

    def __post_init__(self) -> None:
        check_integer(self, "n_components", self.n_components)

    @property
    def n_rows(self) -> int:
        """A row per component."""
        return self.n_components

    def shapes(self, n_components: int, n_columns: int) -> dict[str, tuple[int, int]]:
        """Shapes of one member's weights, by name."""
        place = (self.n_components, n_components)
        return {"logit": (1, self.n_components), "loc": place, "log_scale": place}

    def start(self, x: Tensor, recognise: Recognise) -> dict[str, Tensor]:
        """Start with the standard normal's variance, about codes of rows (M, C, n_columns)."""
        loc, log_scale = recognise(x)  # (M, C, l)
        # codes of probabilistic PCA vary by what their posteriors leave of 1
        variance = START_SPREAD**2 * (1 - (2 * log_scale).exp()).clamp(min=0)
        return {
            "logit": loc.new_zeros(len(loc), 1, self.n_components),
            "loc": START_SPREAD * loc,
            "log_scale": 0.5 * torch.log1p(-variance),
        }

    def density(
        self, weights: Mapping[str, Tensor], recognise: Recognise, mask: Tensor | None
    ) -> "DiagonalMixture":
        """Make p(z), for weights with a member axis and the dimensions that members have."""
        loc, log_scale = weights["loc"], weights["log_scale"]
        if mask is not None:  # what a member lacks is standard normal, and not learned
            loc, log_scale = loc * mask.unsqueeze(1), log_scale * mask.unsqueeze(1)
        return DiagonalMixture(weights["logit"].squeeze(1), loc, log_scale)


@dataclass(frozen=True)
class VampPrior:
    r"""A mixture of the encoder's posteriors, :math:`p(z) = \frac{1}{C} \sum_c q(z | u_c)`.

    The pseudo-inputs u are learned: rows as the encoder sees them, of which each adds
    its posterior to the mixture. They start at training rows, drawn by chance; a table
    of fewer rows gives some of them twice.

    Parameters
    ----------
    n_components : int, default=50
        Number of pseudo-inputs.

    Raises
    ------
    ValueError
        If ``n_components`` is not an integer >= 1.

    References
    ----------
    .. [1] J. M. Tomczak and M. Welling, "VAE with a VampPrior", AISTATS 2018.

    Examples
    --------
    >>> from sklearn_vae.priors import VampPrior
    >>> VampPrior(n_components=20)
    VampPrior(n_components=20)
    """

    requirements: ClassVar[Sequence[Requirement]] = (
        Requirement(
            "posterior",
            lambda posterior: posterior.is_diagonal_gaussian,
            "'gaussian'",
            "which is a mixture of diagonal Gaussian posteriors",
        ),
        NO_FREE_BITS,
    )
    is_standard_normal: ClassVar[bool] = False

    n_components: int = 50

    def __post_init__(self) -> None:
        check_integer(self, "n_components", self.n_components)

    @property
    def n_rows(self) -> int:
        """A row per pseudo-input."""
        return self.n_components

    def shapes(self, n_components: int, n_columns: int) -> dict[str, tuple[int, int]]:
        """Shapes of one member's weights, by name."""
        return {"pseudo_input": (self.n_components, n_columns)}

    def start(self, x: Tensor, recognise: Recognise) -> dict[str, Tensor]:
        """Start at the rows (M, C, n_columns) themselves."""
        return {"pseudo_input": x}

    def density(
        self, weights: Mapping[str, Tensor], recognise: Recognise, mask: Tensor | None
    ) -> "DiagonalMixture":
        """Make p(z); the encoder knows which dimensions members have."""
        loc, log_scale = recognise(weights["pseudo_input"])
        return DiagonalMixture(loc.new_zeros(loc.shape[:2]), loc, log_scale)


class DiagonalMixture:
    """A mixture of normal distributions with independent dimensions, for M members.

    Parameters
    ----------
    logit : Tensor of shape (M, C)
        Logarithms of the weights, up to a constant.
    loc, log_scale : Tensor of shape (M, C, l)
        Where each distribution lies, and the logarithm of how wide it is.
    """

    def __init__(self, logit: Tensor, loc: Tensor, log_scale: Tensor):
        self.log_weight = logit.log_softmax(-1)
        self.loc, self.log_scale = loc, log_scale

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density in nats: (M, K, B, l) -> (M, K, B)."""
        # the squared distance from all components as one product of matrices; its parts are
        # large where a component is narrow and cancel, hence the double precision
        exact = widest_dtype(z.device)
        loc, log_scale = self.loc.to(exact), self.log_scale.to(exact)
        precision = (-2 * log_scale).exp()  # (M, C, l)
        points = z.to(exact).flatten(1, 2)  # (M, K B, l)
        powers = torch.cat([points.square(), points], dim=-1)
        slopes = torch.cat([-0.5 * precision, precision * loc], dim=-1)
        at_zero = -(0.5 * precision * loc.square() + log_scale + HALF_LOG_2PI).sum(-1)
        offset = (self.log_weight + at_zero).unsqueeze(1)  # (M, 1, C)
        log_joint = torch.baddbmm(offset, powers, slopes.mT)  # (M, K B, C)
        return torch.logsumexp(log_joint, -1).unflatten(1, z.shape[1:3]).to(z.dtype)

    def sample(
        self,
        n_members: int,
        n_rows: int,
        n_components: int,
        generator: torch.Generator,
        dtype: torch.dtype,
    ) -> Tensor:
        """Draw latent rows of each member: (M, n_rows, l)."""
        shape = (n_members, n_rows)
        noise = torch.randn(*shape, n_components, generator=generator, dtype=dtype)
        place = torch.rand(shape, generator=generator, dtype=dtype).to(self.loc)
        ends = self.log_weight.exp().cumsum(-1)
        chosen = torch.searchsorted(ends, place, right=True).clamp(max=ends.shape[1] - 1)
        chosen = chosen.unsqueeze(-1).expand(-1, -1, n_components)  # (M, n_rows, l)
        loc, log_scale = self.loc.gather(1, chosen), self.log_scale.gather(1, chosen)
        return loc + log_scale.exp() * noise.to(loc)


PRIORS: dict[str, Prior] = {
    "normal": StandardNormal(),
    "mixture": MixturePrior(),
    "vamp": VampPrior(),
}
