"""What every kind of posterior answers to.

A *kind* is a value without weights, which an architecture holds. For a number of members it
builds a *law*, of which draws and densities are asked; a law with weights is a torch module,
and the model takes its weights along.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from sklearn_vae.compatibility import Requirement
from sklearn_vae.priors import Prior, StandardNormal

# Scales between 6e-6 and 2e5: a thousand columns that say the same fix z to 1e-4.
LOG_SCALE_BOUND = 12.0


NO_FREE_BITS = Requirement(
    "free_bits",
    lambda free_bits: not free_bits,
    "0",
    "whose KL is not a sum over latent dimensions",
)


class Codes(NamedTuple):
    """Categorical variables in front of a code z.

    Attributes
    ----------
    n_variables : int
        How many; 0 where z is all real numbers.
    n_classes : int
        Classes of each.
    """

    n_variables: int = 0
    n_classes: int = 0

    @property
    def width(self) -> int:
        """Numbers of z that they take, one per class."""
        return self.n_variables * self.n_classes


class Law(Protocol):
    """What is asked of q(z|x), given what the encoder says: params (M, B, n_params)."""

    def begin_iteration(self, iteration: int) -> None:
        """Take note of how far training is."""

    def start(self, loc: Tensor, scale: Tensor) -> Tensor:
        """Parameters that have this location and scale: (l), (l) -> (n_params)."""

    def mean(self, params: Tensor) -> Tensor:
        """The code that stands for a row: (..., n_params) -> (..., l)."""

    def split(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """Locations and log-scales of the dimensions: (..., n_params) -> (..., l), (..., l)."""

    def rsample(self, params: Tensor, noise: Tensor, proposal_scale: float = 1.0) -> Tensor:
        """Draws of z for noise (M or 1, K, B or 1, n_noise), with a gradient: (M, K, B, l)."""

    def log_prob(
        self, params: Tensor, z: Tensor, proposal_scale: float = 1.0, *, stop_gradient: bool = False
    ) -> Tensor:
        """Log-density in nats of z (M, K, B, l), with ``stop_gradient`` as if q had no weights."""

    def propose(
        self,
        params: Tensor,
        noise: Tensor,
        proposal_scale: float = 1.0,
        *,
        stop_gradient: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Draws (M, K, B, l) for weighting by importance, and their log-density (M, K, B)."""

    def kl(self, params: Tensor) -> Tensor:
        """KL in nats from a prior of ``exact_for``, by unit: (..., n_units)."""


class Continuous:
    """What posteriors of real numbers have in common, kinds and laws alike."""

    requirements: ClassVar[Sequence[Requirement]] = ()
    is_diagonal_gaussian: ClassVar[bool] = False
    has_codes = False
    supports_padding = False
    # whether the KL is a sum over latent dimensions
    kl_is_per_unit = False
    # kinds of priors from which the KL has a closed form
    exact_for: tuple[type[Any], ...] = (StandardNormal,)

    def n_noise(self, n_components: int) -> int:
        """One normal number per dimension."""
        return n_components

    def codes(self, n_components: int) -> Codes:
        """It has no categorical variables."""
        return Codes()

    def width(self, n_factors: int) -> int:
        """Latent dimensions where the table shows so many factors."""
        return n_factors

    def n_codes(self, n_components: int) -> int | None:
        """There is no end of codes."""
        return None

    def prior(self, asked: Prior, n_components: int) -> Prior:
        """The prior is what was asked for."""
        return asked

    def begin_iteration(self, iteration: int) -> None:
        """Nothing depends on how far training is."""

    def propose(
        self: Any,
        params: Tensor,
        noise: Tensor,
        proposal_scale: float = 1.0,
        *,
        stop_gradient: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Draws (M, K, B, l) for weighting by importance, and their log-density (M, K, B)."""
        z = self.rsample(params, noise, proposal_scale)
        return z, self.log_prob(params, z, proposal_scale, stop_gradient=stop_gradient)


@runtime_checkable
class Posterior(Protocol):
    """What an architecture asks of a kind of posterior, a value that holds no weights."""

    @property
    def requirements(self) -> Sequence[Requirement]:
        """Conditions on other parameters of an estimator."""

    @property
    def is_diagonal_gaussian(self) -> bool:
        """Whether q(z|x) is a normal distribution with independent dimensions."""

    @property
    def supports_padding(self) -> bool:
        """Whether members with fewer latent dimensions can ride along with others."""

    @property
    def has_codes(self) -> bool:
        """Whether a part of z is categorical."""

    @property
    def kl_is_per_unit(self) -> bool:
        """Whether the KL is a sum over units of z."""

    @property
    def exact_for(self) -> tuple[type[Any], ...]:
        """Kinds of priors from which the KL has a closed form."""

    def n_params(self, n_components: int) -> int:
        """Numbers that the encoder gives of a row; the first ones are the location."""

    def n_noise(self, n_components: int) -> int:
        """Normal numbers that a draw of z takes."""

    def n_codes(self, n_components: int) -> int | None:
        """How many codes there are, where they are so few that a score sums over all."""

    def width(self, n_factors: int) -> int:
        """Latent dimensions where nobody has asked for a number, by what the table shows."""

    def codes(self, n_components: int) -> Codes:
        """Categorical variables in front of z."""

    def prior(self, asked: Prior, n_components: int) -> Prior:
        """What p(z) is, for a prior that was asked for."""

    def build(self, n_members: int, n_components: int) -> Any:
        """Make the law that draws and densities are asked of; a module, if it has weights."""


def log_mean_exp(values: Tensor, dim: int) -> Tensor:
    """Log of the mean of exp(values) along one dimension."""
    return torch.logsumexp(values, dim) - math.log(values.shape[dim])
