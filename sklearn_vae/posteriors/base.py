"""Interface of the posteriors q(z|x)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple, cast

from torch import Tensor

from sklearn_vae.priors import Prior
from sklearn_vae.requirements import Requirement


class OneHotBlock(NamedTuple):
    """Categorical variables, one-hot encoded in the first dimensions of z.

    Attributes
    ----------
    n_variables : int
        Number of variables; 0 if z is continuous.
    n_classes : int
        Number of classes of each variable.
    """

    n_variables: int = 0
    n_classes: int = 0

    @property
    def width(self) -> int:
        """Number of dimensions of z, one per class."""
        return self.n_variables * self.n_classes

    @property
    def n_codes(self) -> int:
        """Number of one-hot codes, one per combination of classes."""
        return self.n_classes**self.n_variables


class PosteriorDistribution(ABC):
    """Distribution q(z|x), given the encoder's output: params (M, B, n_params).

    Continuous distributions also have ``split``, which returns location and log-scale,
    ``log_prob`` and ``propose``.
    """

    def begin_iteration(self, iteration: int) -> None:  # noqa: B027
        """Anneal to an iteration of training; by default nothing is annealed."""

    @abstractmethod
    def initial_params(self, loc: Tensor, scale: Tensor) -> Tensor:
        """Parameters with this location and scale: (l), (l) -> (n_params)."""

    @abstractmethod
    def mean(self, params: Tensor) -> Tensor:
        """Mean of z, or another location where it has no closed form: (..., l)."""

    @abstractmethod
    def rsample(self, params: Tensor, noise: Tensor) -> Tensor:
        """Reparameterized draws of z for noise (M or 1, K, B or 1, l): (M, K, B, l)."""

    @abstractmethod
    def kl(self, params: Tensor) -> Tensor:
        """KL in nats from a prior with a closed form, by dimension: (..., n_params) -> (..., l)."""


class Posterior(ABC):
    """Base class of the posteriors: frozen dataclasses of hyperparameters."""

    # Conditions on other parameters of an estimator, checked by sklearn_vae.requirements.
    requirements: Sequence[Requirement] = ()
    is_diagonal_gaussian: ClassVar[bool] = False
    # Whether some dimensions of z are one-hot codes of categorical variables.
    has_categorical: ClassVar[bool] = False
    # Whether the KL is a sum over latent dimensions or categorical variables.
    has_per_dimension_kl: ClassVar[bool] = False

    @abstractmethod
    def n_params(self, n_components: int) -> int:
        """Number of the encoder's outputs; the first ones are the location."""

    def fits(self, n_components: int) -> bool:
        """Return True if z can have so many dimensions."""
        return True

    def default_n_components(self, n_factors: int) -> int:
        """Number of latent dimensions for ``n_components="auto"``, by the table's factors."""
        return n_factors

    def one_hot_block(self, n_components: int) -> OneHotBlock:
        """Categorical variables in the first dimensions of z; none by default."""
        return OneHotBlock()

    def resolve_prior(self, prior: Prior, n_components: int) -> Prior:
        """Prior p(z) of the model, for the parameter ``prior``."""
        return prior

    def distribution(self, n_components: int) -> PosteriorDistribution:
        """Make q(z|x), by default the posterior itself."""
        return cast(PosteriorDistribution, self)
