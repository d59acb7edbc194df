"""Posteriors with categorical variables, alone or beside Gaussian dimensions."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, cast

from sklearn_vae.numerics.array_api import Array, concatenate, namespace, one_hot
from sklearn_vae.persistence.validation import (
    Requirement,
    check_integer,
    check_number,
    needs_elbo,
    needs_normal_prior,
    serializable,
)
from sklearn_vae.posteriors.gaussian import DiagonalGaussian, OneHotBlock, Posterior

# Largest number of codes, over which a score sums, and of binary variables with as many codes.
MAX_CODES = 4096
MAX_VARIABLES = 12
# Largest number of classes beside real numbers, which a score samples for each class.
MAX_CLASSES = 64
# Number of classes of a variable for ``n_components="auto"``, at most.
DEFAULT_N_CLASSES = 10
# Iterations in which the temperature falls.
N_ANNEALED = 30
# Of the dimensions behind the codes.
GAUSSIAN = DiagonalGaussian()


class CategoricalPosterior(Posterior):
    """Posterior of one-hot codes, and of independent Gaussian dimensions behind them.

    The encoder's outputs are logits, then locations, then raw log-scales.
    """

    temperature: float

    @property
    def requirements(self) -> Sequence[Requirement]:  # type: ignore[override]
        """Equal prior probabilities, objectives for relaxed draws, and a latent size."""
        return (
            needs_normal_prior("whose classes have equal prior probabilities"),
            needs_elbo("whose relaxed draws have no importance weights"),
            Requirement(
                "n_components",
                lambda n: n == "auto" or self.fits(int(n)),
                self.allowed_n_components,
                "which has that many latent dimensions",
            ),
        )

    @property
    @abstractmethod
    def allowed_n_components(self) -> str:
        """Description of the numbers of latent dimensions that are allowed."""

    def n_params(self, n_components: int) -> int:
        """A logit per class, a location and a log-scale per continuous dimension."""
        return 2 * n_components - self.one_hot_block(n_components).width

    def at_iteration(self, iteration: int) -> Self:
        """Anneal the temperature from 1, by the same factor in each iteration."""
        temperature = float(self.temperature) ** min(iteration / N_ANNEALED, 1.0)
        return replace(cast(Any, self), temperature=temperature)

    def initial_params(self, loc: Array, scale: Array) -> Array:
        """Parameters with these logits and locations, and scales: (l), (l) -> (n_params)."""
        width = self.one_hot_block(len(loc)).width
        return concatenate([loc[:width], GAUSSIAN.initial_params(loc[width:], scale[width:])])

    def mean(self, params: Array) -> Array:
        """Probabilities of the classes, and locations: (..., n_params) -> (..., l)."""
        log_probs, rest = self._split_params(params)
        return concatenate([log_probs.exp().flatten(-2), GAUSSIAN.mean(rest)])

    def rsample(self, params: Array, noise: Array) -> Array:
        """Draws of z: (M, B, n_params), (M or 1, K, B or 1, l) -> (M, K, B, l).

        They are relaxed (Gumbel-softmax) if the parameters need a gradient, else one-hot.
        """
        log_probs, rest = self._split_params(params)
        for_classes, for_rest = self._split(noise)
        torch = namespace(noise)
        if params.requires_grad:
            # the smallest number that has a finite logarithm and gradient
            tiny = torch.finfo(noise.dtype).tiny
            gumbel = -(-torch.special.log_ndtr(for_classes)).clamp_min(tiny).log()
            codes = ((log_probs.unsqueeze(1) + gumbel) / self.temperature).softmax(-1)
        else:  # by the inverse CDF, so that Sobol points stay evenly spread
            cdf = log_probs.exp().cumsum(-1).unsqueeze(1)  # (M, 1, B, V, C)
            n_classes = cdf.shape[-1]
            uniform = torch.special.ndtr(for_classes[..., :1]) * cdf[..., -1:]  # (M, K, B, V, 1)
            classes = (uniform >= cdf).sum(-1).clamp(max=n_classes - 1)
            codes = one_hot(classes, n_classes, log_probs.dtype, flat=False)
        return concatenate([codes.flatten(-2), GAUSSIAN.rsample(rest, for_rest)])

    def kl(self, params: Array) -> Array:
        """KL in nats from the prior, by variable and then by dimension: (..., V + l')."""
        log_probs, rest = self._split_params(params)
        categorical = (log_probs.exp() * log_probs).sum(-1) + math.log(log_probs.shape[-1])
        return concatenate([categorical, GAUSSIAN.kl(rest)])

    def _split(self, values: Array) -> tuple[Array, Array]:
        """Numbers of the classes (..., V, C), and those of the other dimensions."""
        block = self.one_hot_block(values.shape[-1])
        classes, rest = values[..., : block.width], values[..., block.width :]
        return classes.unflatten(-1, tuple(block)), rest

    def _split_params(self, params: Array) -> tuple[Array, Array]:
        """Log-probabilities of the classes (..., V, C), and parameters of the other dimensions."""
        logits, rest = self._split(params)
        return logits.log_softmax(-1), rest


@serializable
@dataclass(frozen=True)
class RelaxedCategorical(CategoricalPosterior):
    r"""Categorical variables, trained by relaxed draws (Gumbel-softmax).

    A code is one-hot: ``n_components`` dimensions, divided equally among the variables, one per
    class. With one variable the model is a mixture of ``n_components`` distributions, with
    responsibilities :math:`q(z | x) = \mathrm{softmax}(a(x))`. In training a draw is

    .. math::
        z = \mathrm{softmax}\left( (\log q(z | x) + g) / \tau \right),
        \qquad g = -\log(-\log \Phi(\epsilon)),

    with standard Gumbel noise g: a reparameterization that tends to one-hot codes as the
    temperature :math:`\tau` goes to 0. It falls from 1 to ``temperature`` in 30 iterations, by the
    same factor in each. Without a gradient, in validation and in scores, a draw
    is a one-hot code, which does not depend on the temperature. The prior is uniform, and the
    KL from it has a closed form. The score sums over all codes, of which there are 4,096 at
    most. ``transform`` returns the probabilities of the classes. The model is initialized by
    k-means of the rows.

    Parameters
    ----------
    n_variables : int, default=1
        Number of categorical variables, at most 12, which divide ``n_components`` equally.
    temperature : float, default=0.3
        Final temperature, above 0.

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

    def one_hot_block(self, n_components: int) -> OneHotBlock:
        """Variables with as many classes as fit."""
        return OneHotBlock(self.n_variables, n_components // self.n_variables)

    def fits(self, n_components: int) -> bool:
        """Return True if each variable has the same number of classes, and codes are few."""
        block = self.one_hot_block(n_components)
        return 0 < block.width == n_components and block.n_codes <= MAX_CODES

    @property
    def allowed_n_components(self) -> str:
        """Multiples of the number of variables, up to the largest number of codes."""
        return f"a multiple of {self.n_variables} up to {self.n_variables * self._max_classes}"

    def default_n_components(self, n_factors: int) -> int:
        """Ten classes per variable, or fewer of many variables."""
        return self.n_variables * min(DEFAULT_N_CLASSES, self._max_classes)

    @property
    def _max_classes(self) -> int:
        """Largest number of classes per variable."""
        n_classes = round(MAX_CODES ** (1 / self.n_variables))
        return n_classes - (n_classes**self.n_variables > MAX_CODES)


@serializable
@dataclass(frozen=True)
class GaussianCategorical(CategoricalPosterior):
    r"""A categorical variable and a Gaussian with diagonal covariance.

    The first ``n_classes`` dimensions of z are the one-hot class, the others are continuous:

    .. math::
        p(x) = \sum_{c=1}^{C} \frac{1}{C} \int p(x | c, u) \, \mathcal{N}(u | 0, I) \, du,
        \qquad q(c, u | x) = q(c | x) \, q(u | x).

    The class is the cluster of a row, the continuous dimensions its variation within the
    cluster. The class is trained by relaxed draws, as in :class:`RelaxedCategorical`; scores
    sum over the classes, and sample the dimensions of each. The estimator's ``n_components``
    counts both together, and has to be larger than ``n_classes``.

    Parameters
    ----------
    n_classes : int, default=10
        Number of classes, from 2 to 64.
    temperature : float, default=0.3
        Final temperature of the relaxed draws, which falls from 1.

    References
    ----------
    .. [1] E. Dupont, "Learning Disentangled Joint Continuous and Discrete
       Representations", NeurIPS 2018.

    Examples
    --------
    >>> from sklearn_vae.posteriors import GaussianCategorical
    >>> GaussianCategorical(n_classes=5)
    GaussianCategorical(n_classes=5, temperature=0.3)
    """

    n_classes: int = 10
    temperature: float = 0.3

    def __post_init__(self) -> None:
        check_integer(self, "n_classes", self.n_classes, 2, MAX_CLASSES)
        check_number(self, "temperature", self.temperature, positive=True)

    def one_hot_block(self, n_components: int) -> OneHotBlock:
        """One variable."""
        return OneHotBlock(1, self.n_classes)

    def fits(self, n_components: int) -> bool:
        """Return True if there are continuous dimensions behind the classes."""
        return n_components > self.n_classes

    @property
    def allowed_n_components(self) -> str:
        """More than the number of classes."""
        return f"larger than {self.n_classes}"

    def default_n_components(self, n_factors: int) -> int:
        """The classes, and the table's factors."""
        return self.n_classes + n_factors
