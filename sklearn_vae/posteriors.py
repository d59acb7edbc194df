"""Posteriors q(z|x): Gaussians, and relaxed categorical variables."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import numpy as np

from sklearn_vae.numerics import array_api as ops
from sklearn_vae.numerics.array_api import HALF_LOG_2PI, Array, namespace
from sklearn_vae.persistence.validation import (
    Requirement,
    check_integer,
    check_number,
    needs_elbo,
    needs_normal_prior,
    serializable,
)

# Bound of log-scales of q(z|x), from 6e-6 to 2e5: a thousand columns may determine z to 1e-4.
POSTERIOR_LOG_SCALE_BOUND = 12.0


class Posterior(ABC):
    """Base class of the posteriors q(z|x): frozen dataclasses of hyperparameters.

    Params (M, B, n_params) are the encoder's output. Gaussian posteriors also have ``log_prob``,
    and ``split``, which returns location and log-scale.
    """

    # Conditions on other parameters of an estimator, checked by ModelParts.
    requirements: Sequence[Requirement] = ()
    is_diagonal_gaussian: ClassVar[bool] = False
    n_variables: int = 0  # categorical variables of which z is the one-hot code; 0 of real numbers

    @abstractmethod
    def n_params(self, n_components: int) -> int:
        """Number of the encoder's outputs; the first ones are the location."""

    def fits(self, n_components: int) -> bool:
        """Return True if z can have so many dimensions."""
        return True

    def default_n_components(self, n_factors: int) -> int:
        """Number of latent dimensions for ``n_components="auto"``, by the table's factors."""
        return n_factors

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
        return loc, ops.bounded(raw, POSTERIOR_LOG_SCALE_BOUND)

    def initial_params(self, loc: Array, scale: Array) -> Array:
        """Parameters with this location and scale: (l), (l) -> (2 l)."""
        return ops.concatenate([loc, ops.unbounded(scale.log(), POSTERIOR_LOG_SCALE_BOUND)])

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
        return ops.concatenate(
            [loc, ops.unbounded(scale.log(), POSTERIOR_LOG_SCALE_BOUND), loc.new_zeros(n_below)]
        )

    def mean(self, params: Array) -> Array:
        """Mean of z: (..., n_params) -> (..., l)."""
        return params[..., : self._n_components(params)]

    def split(self, params: Array) -> tuple[Array, Array]:
        """Locations and marginal log-scales: (..., l), (..., l)."""
        loc, log_scale, below = self._parts(params)
        row, _ = np.tril_indices(loc.shape[-1], -1)
        in_row = ops.one_hot(ops.as_array(row, loc), loc.shape[-1], loc.dtype)  # (n, l)
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
        log_prob = (-0.5 * noise.square() - log_scale.unsqueeze(-1) - HALF_LOG_2PI).sum(2)
        return log_prob.mT

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
        loc, raw, below = ops.split(params, [size, size, size * (size - 1) // 2])
        return loc, ops.bounded(raw, POSTERIOR_LOG_SCALE_BOUND), below

    def _factor(self, params: Array) -> tuple[Array, Array, Array]:
        """Location (..., l), log-scale (..., l) and I + N, the unit Cholesky factor (..., l, l)."""
        loc, log_scale, below = self._parts(params)
        torch, size = namespace(params), loc.shape[-1]
        row, column = torch.tril_indices(size, size, -1, device=params.device)
        unit = torch.eye(size, dtype=params.dtype, device=params.device)
        unit = unit.repeat(*params.shape[:-1], 1, 1)  # (..., l, l)
        unit[..., row, column] = below
        return loc, log_scale, unit


# Largest number of codes, over which a score sums, and of binary variables with as many codes.
MAX_CODES = 4096
MAX_VARIABLES = 12
# Number of classes of a variable for ``n_components="auto"``, at most.
DEFAULT_N_CLASSES = 10


@serializable
@dataclass(frozen=True)
class RelaxedCategorical(Posterior):
    r"""Categorical variables, trained by relaxed draws (Gumbel-softmax).

    A code is one-hot: ``n_components`` dimensions, divided equally among the variables, one per
    class. With one variable the model is a mixture of ``n_components`` distributions, with
    responsibilities :math:`q(z | x) = \mathrm{softmax}(a(x))`. In training a draw is

    .. math::
        z = \mathrm{softmax}\left( (\log q(z | x) + g) / \tau \right),
        \qquad g = -\log(-\log \Phi(\epsilon)),

    with standard Gumbel noise g: a reparameterization that tends to one-hot codes as the
    temperature :math:`\tau` goes to 0. Without a gradient, in validation and in scores, a draw
    is a one-hot code, which does not depend on the temperature. The prior is uniform, and the
    KL from it has a closed form. The score sums over all codes, of which there are 4,096 at
    most. ``transform`` returns the probabilities of the classes. The model is initialized by
    k-means of the rows.

    Parameters
    ----------
    n_variables : int, default=1
        Number of categorical variables, at most 12, which divide ``n_components`` equally.
    temperature : float, default=0.3
        Temperature of the draws in training, above 0.

    References
    ----------
    .. [1] E. Jang, S. Gu and B. Poole, "Categorical Reparameterization with
       Gumbel-Softmax", ICLR 2017.
    .. [2] C. J. Maddison, A. Mnih and Y. W. Teh, "The Concrete Distribution: A Continuous
       Relaxation of Discrete Random Variables", ICLR 2017.

    Examples
    --------
    >>> from sklearn_vae.posteriors import RelaxedCategorical
    >>> RelaxedCategorical(n_variables=2)
    RelaxedCategorical(n_variables=2, temperature=0.3)
    """

    n_variables: int = 1
    temperature: float = 0.3

    def __post_init__(self) -> None:
        check_integer(self, "n_variables", self.n_variables, 1, MAX_VARIABLES)
        check_number(self, "temperature", self.temperature, positive=True)

    @property
    def requirements(self) -> Sequence[Requirement]:  # type: ignore[override]
        """Equal prior probabilities, objectives for relaxed draws, and a latent size."""
        n_variables = self.n_variables
        return (
            needs_normal_prior("whose classes have equal prior probabilities"),
            needs_elbo("whose relaxed draws have no importance weights"),
            Requirement(
                "n_components",
                lambda n: n == "auto" or self.fits(int(n)),
                f"a multiple of {n_variables} up to {n_variables * self._max_classes}",
                "which has that many latent dimensions",
            ),
        )

    def n_params(self, n_components: int) -> int:
        """A logit per class."""
        return n_components

    def fits(self, n_components: int) -> bool:
        """Return True if each variable has the same number of classes, and codes are few."""
        n_classes, rest = divmod(n_components, self.n_variables)
        return 0 < n_classes <= self._max_classes and not rest

    def default_n_components(self, n_factors: int) -> int:
        """Ten classes per variable, or fewer of many variables."""
        return self.n_variables * min(DEFAULT_N_CLASSES, self._max_classes)

    def initial_params(self, loc: Array, scale: Array) -> Array:
        """Parameters with these logits: (l), (l) -> (l)."""
        return loc

    def mean(self, params: Array) -> Array:
        """Probabilities of the classes: (..., l) -> (..., l)."""
        return self._log_probs(params).exp().flatten(-2)

    def rsample(self, params: Array, noise: Array) -> Array:
        """Draws of z: (M, B, l), (M or 1, K, B or 1, l) -> (M, K, B, l).

        They are relaxed (Gumbel-softmax) if the parameters need a gradient, else one-hot.
        """
        log_probs, noise, torch = self._log_probs(params), self._by_class(noise), namespace(noise)
        if params.requires_grad:
            # the smallest number that has a finite logarithm and gradient
            tiny = torch.finfo(noise.dtype).tiny
            gumbel = -(-torch.special.log_ndtr(noise)).clamp_min(tiny).log()
            codes = ((log_probs.unsqueeze(1) + gumbel) / self.temperature).softmax(-1)
        else:  # by the inverse CDF, so that Sobol points stay evenly spread
            cdf = log_probs.exp().cumsum(-1).unsqueeze(1)  # (M, 1, B, V, C)
            n_classes = cdf.shape[-1]
            uniform = torch.special.ndtr(noise[..., :1]) * cdf[..., -1:]  # (M, K, B, V, 1)
            classes = (uniform >= cdf).sum(-1).clamp(max=n_classes - 1)
            codes = ops.one_hot(classes, n_classes, log_probs.dtype)
        return codes.flatten(-2)

    def kl(self, params: Array) -> Array:
        """KL in nats from the prior, by variable: (..., l) -> (..., V)."""
        log_probs = self._log_probs(params)
        return (log_probs.exp() * log_probs).sum(-1) + math.log(log_probs.shape[-1])

    def enumerate_codes(self, n_components: int, like: Array) -> Array:
        """All one-hot codes, one per combination of classes: (n_codes, l)."""
        n_classes = n_components // self.n_variables
        classes = np.array([*product(range(n_classes), repeat=self.n_variables)])
        return ops.flatten(ops.one_hot(ops.as_array(classes, like), n_classes, like.dtype))

    @property
    def _max_classes(self) -> int:
        """Largest number of classes per variable."""
        n_classes = round(MAX_CODES ** (1 / self.n_variables))
        return n_classes - (n_classes**self.n_variables > MAX_CODES)

    def _by_class(self, values: Array) -> Array:
        """Numbers of the classes, by variable: (..., l) -> (..., V, C)."""
        return values.unflatten(-1, (self.n_variables, -1))

    def _log_probs(self, params: Array) -> Array:
        """Log-probabilities of the classes: (..., l) -> (..., V, C)."""
        return self._by_class(params).log_softmax(-1)


# Names of the parameter ``posterior``.
POSTERIORS: dict[str, Posterior] = {
    "gaussian": DiagonalGaussian(),
    "full": FullCovarianceGaussian(),
    "categorical": RelaxedCategorical(),
}
