"""Posteriors q(z|x): their interface, and Gaussians with diagonal or full covariance."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import ClassVar, NamedTuple, Self

import numpy as np

from sklearn_vae.numerics.array_api import (
    HALF_LOG_2PI,
    Array,
    as_array,
    bounded,
    concatenate,
    namespace,
    one_hot,
    split,
    unbounded,
)
from sklearn_vae.persistence.validation import Requirement, serializable

# Bound of log-scales of q(z|x), from 6e-6 to 2e5: a thousand columns may determine z to 1e-4.
POSTERIOR_LOG_SCALE_BOUND = 12.0


class OneHotBlock(NamedTuple):
    """Categorical variables, one-hot encoded in the first dimensions of z."""

    n_variables: int = 0  # 0 if z is continuous
    n_classes: int = 0  # of each variable

    @property
    def width(self) -> int:
        """Number of dimensions of z, one per class."""
        return self.n_variables * self.n_classes

    @property
    def n_codes(self) -> int:
        """Number of one-hot codes, one per combination of classes."""
        return self.n_classes**self.n_variables

    def enumerate_codes(self, like: Array) -> Array:
        """All one-hot codes: (n_codes, width)."""
        classes = np.array([*product(range(self.n_classes), repeat=self.n_variables)])
        return one_hot(as_array(classes, like), self.n_classes, like.dtype)


class Posterior(ABC):
    """Base class of the posteriors q(z|x): frozen dataclasses of hyperparameters.

    Params (M, B, n_params) are the encoder's output. Gaussian posteriors also have ``log_prob``,
    and ``split``, which returns location and log-scale.
    """

    # Conditions on other parameters of an estimator, checked by ModelParts.
    requirements: Sequence[Requirement] = ()
    is_diagonal_gaussian: ClassVar[bool] = False

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

    def at_iteration(self, iteration: int) -> Self:
        """Anneal to an iteration of training, counted from 0; by default nothing is annealed."""
        return self

    @abstractmethod
    def initial_params(self, loc: Array, scale: Array) -> Array:
        """Parameters with this location and scale: (l), (l) -> (n_params)."""

    @abstractmethod
    def mean(self, params: Array) -> Array:
        """Mean of z: (..., l)."""

    @abstractmethod
    def rsample(self, params: Array, noise: Array) -> Array:
        """Reparameterized draws of z for noise (M or 1, K, B or 1, l): (M, K, B, l)."""

    @abstractmethod
    def kl(self, params: Array) -> Array:
        """KL in nats from a prior with a closed form, by dimension: (..., n_params) -> (..., l)."""


@serializable
@dataclass(frozen=True)
class DiagonalGaussian(Posterior):
    r"""A diagonal Gaussian, :math:`q(z | x) = \mathcal{N}(z | \mu(x), \sigma^2(x))`.

    The encoder's output holds the locations and the raw log-scales; the log-scales are bounded
    smoothly by tanh, so that no step can make the KL infinite. The reparameterization is
    :math:`z = \mu + \sigma \epsilon`, and the KL from the standard normal has the closed form

    .. math::
        \sum_i \tfrac{1}{2} (\mu_i^2 + \sigma_i^2 - 1) - \log \sigma_i.

    References
    ----------
    .. [1] D. P. Kingma and M. Welling, "Auto-Encoding Variational Bayes", ICLR 2014.
    """

    is_diagonal_gaussian = True

    def n_params(self, n_components: int) -> int:
        """A location and a log-scale per dimension."""
        return 2 * n_components

    def split(self, params: Array) -> tuple[Array, Array]:
        """Location and log-scale: (..., 2 l) -> (..., l), (..., l)."""
        n_latent = params.shape[-1] // 2
        loc, raw = params[..., :n_latent], params[..., n_latent:]
        return loc, bounded(raw, POSTERIOR_LOG_SCALE_BOUND)

    def initial_params(self, loc: Array, scale: Array) -> Array:
        """Parameters with this location and scale: (l), (l) -> (2 l)."""
        return concatenate([loc, unbounded(scale.log(), POSTERIOR_LOG_SCALE_BOUND)])

    def mean(self, params: Array) -> Array:
        """Mean of z: (..., 2 l) -> (..., l)."""
        return params[..., : params.shape[-1] // 2]

    def rsample(self, params: Array, noise: Array) -> Array:
        """Reparameterized draws z = loc + scale * noise: (M, K, B, l)."""
        loc, log_scale = self.split(params)
        return loc.unsqueeze(1) + log_scale.exp().unsqueeze(1) * noise  # (M, K, B, l)

    def log_prob(self, params: Array, z: Array) -> Array:
        """Log-density in nats of draws z: (M, B, 2 l), (M, K, B, l) -> (M, K, B)."""
        loc, log_scale = self.split(params)
        noise = (z - loc.unsqueeze(1)) * (-log_scale).exp().unsqueeze(1)
        return (-0.5 * noise.square() - log_scale.unsqueeze(1) - HALF_LOG_2PI).sum(-1)

    def kl(self, params: Array) -> Array:
        """KL in nats from the standard normal, per dimension: (..., 2 l) -> (..., l)."""
        loc, log_scale = self.split(params)
        return 0.5 * (loc.square() + (2 * log_scale).exp() - 1) - log_scale


@serializable
@dataclass(frozen=True)
class FullCovarianceGaussian(Posterior):
    r"""A Gaussian with full covariance, :math:`q(z | x) = \mathcal{N}(\mu, L L^T)`.

    The encoder gives the location and a Cholesky factor, :math:`L = \mathrm{diag}(\sigma)
    (I + N)` with N strictly lower triangular; the logarithms of :math:`\sigma` are
    bounded smoothly by tanh. The initial N is 0, the exact posterior of probabilistic PCA. The
    KL from the standard normal has the closed form

    .. math::
        \sum_i \tfrac{1}{2} \left( \|L_i\|^2 + \mu_i^2 - 1 \right) - \log \sigma_i.

    The term of a dimension holds the information that it shares with those before it.

    References
    ----------
    .. [1] D. P. Kingma and M. Welling, "An Introduction to Variational Autoencoders",
       Foundations and Trends in Machine Learning 12, 2019, section 2.5.1.

    Examples
    --------
    >>> from sklearn_vae.posteriors import FullCovarianceGaussian
    >>> FullCovarianceGaussian()
    FullCovarianceGaussian()
    """

    def n_params(self, n_components: int) -> int:
        """A location and a log-scale per dimension, and the entries below the diagonal."""
        return 2 * n_components + n_components * (n_components - 1) // 2

    def initial_params(self, loc: Array, scale: Array) -> Array:
        """Parameters of independent dimensions: (l), (l) -> (n_params)."""
        n_below = len(loc) * (len(loc) - 1) // 2
        return concatenate(
            [loc, unbounded(scale.log(), POSTERIOR_LOG_SCALE_BOUND), loc.new_zeros(n_below)]
        )

    def mean(self, params: Array) -> Array:
        """Mean of z: (..., n_params) -> (..., l)."""
        return params[..., : self._n_components(params)]

    def split(self, params: Array) -> tuple[Array, Array]:
        """Locations and marginal log-scales: (..., l), (..., l)."""
        loc, log_scale, below = self._parts(params)
        row, _ = np.tril_indices(loc.shape[-1], -1)
        in_row = one_hot(as_array(row, loc), loc.shape[-1], loc.dtype, flat=False)  # (n, l)
        variance = 1 + namespace(below).square(below) @ in_row  # of scales of 1
        return loc, log_scale + 0.5 * namespace(variance).log(variance)

    def rsample(self, params: Array, noise: Array) -> Array:
        """Reparameterized draws z = loc + L noise: (M, K, B, l)."""
        loc, log_scale, unit = self._factor(params)
        correlated = (unit.unsqueeze(1) @ noise.unsqueeze(-1)).squeeze(-1)  # (M, K, B, l)
        return loc.unsqueeze(1) + log_scale.exp().unsqueeze(1) * correlated

    def log_prob(self, params: Array, z: Array) -> Array:
        """Log-density in nats of draws z: (M, B, n_params), (M, K, B, l) -> (M, K, B)."""
        loc, log_scale, unit = self._factor(params)
        standardized = (z - loc.unsqueeze(1)) * (-log_scale).exp().unsqueeze(1)  # (M, K, B, l)
        noise = namespace(z).linalg.solve_triangular(
            unit, standardized.permute(0, 2, 3, 1), upper=False, unitriangular=True
        )  # (M, B, l, K)
        return (-0.5 * noise.square() - log_scale.unsqueeze(-1) - HALF_LOG_2PI).sum(2).mT

    def kl(self, params: Array) -> Array:
        """KL in nats of dimensions given those before them: (..., n_params) -> (..., l)."""
        loc, log_scale, unit = self._factor(params)
        variance = (2 * log_scale).exp() * unit.square().sum(-1)
        return 0.5 * (loc.square() + variance - 1) - log_scale

    @staticmethod
    def _n_components(params: Array) -> int:
        """Latent dimensions l, of which there are l (l + 3) / 2 parameters."""
        return (math.isqrt(9 + 8 * params.shape[-1]) - 3) // 2

    def _parts(self, params: Array) -> Sequence[Array]:
        """Location (..., l), log-scale (..., l) and the entries of N, row by row."""
        size = self._n_components(params)
        loc, raw, below = split(params, [size, size, size * (size - 1) // 2])
        return loc, bounded(raw, POSTERIOR_LOG_SCALE_BOUND), below

    def _factor(self, params: Array) -> tuple[Array, Array, Array]:
        """Location (..., l), log-scale (..., l) and I + N, the unit Cholesky factor (..., l, l)."""
        loc, log_scale, below = self._parts(params)
        torch, size = namespace(params), loc.shape[-1]
        row, column = torch.tril_indices(size, size, -1, device=params.device)
        unit = torch.eye(size, dtype=params.dtype, device=params.device)
        unit = unit.repeat(*params.shape[:-1], 1, 1)  # (..., l, l)
        unit[..., row, column] = below
        return loc, log_scale, unit
