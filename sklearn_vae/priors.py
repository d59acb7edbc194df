"""Priors p(z): standard normal, a learned mixture, the VampPrior, and uniform categories."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sklearn_vae.numerics import array_api as ops
from sklearn_vae.numerics.array_api import HALF_LOG_2PI, Array, namespace
from sklearn_vae.numerics.random import GOLDEN_RATIO
from sklearn_vae.persistence.validation import (
    Requirement,
    check_integer,
    needs_diagonal_gaussian,
    no_free_bits,
    serializable,
)

if TYPE_CHECKING:
    import torch

NO_FREE_BITS = no_free_bits("from which the KL is not a sum over latent dimensions")

# Encoder: rows (M, B, n_columns) to location and log-scale of q(z|x), both (M, B, l).
Encode = Callable[[Array], tuple[Array, Array]]
# Parameters by name, with a member axis.
Params = Mapping[str, Array]
# Shape of codes: members, rows, latent dimensions.
Shape = tuple[int, int, int]


class Prior:
    """Base class of the priors: frozen dataclasses of hyperparameters.

    A prior states the shapes of its parameters, which the model holds and trains with the
    networks, and makes p(z) from them, with ``log_prob`` and ``sample``. By default there are no
    parameters.
    """

    # Conditions on other parameters of an estimator, checked by ModelParts.
    requirements: ClassVar[Sequence[Requirement]] = ()
    # Whether it has no parameters, and the posteriors have the KL from it in closed form.
    has_closed_form_kl: ClassVar[bool] = False
    n_components: Any = 0  # of a mixture

    @property
    def n_rows(self) -> int:
        """Number of training rows that the parameters are initialized from; 0 without any."""
        return 0

    def for_rows(self, n_rows: float) -> "Prior":
        """Choose what is ``"auto"`` by the number of training rows."""
        return self

    def param_shapes(self, n_components: int, n_columns: int) -> dict[str, tuple[int, int]]:
        """Shapes of one member's parameters, by name."""
        return {}

    def initial_params(self, x: Array, encode: Encode) -> dict[str, Array]:
        """Initial values of the parameters, from rows (M, n_rows, n_columns)."""
        return {}

    def distribution(self, params: Params, encode: Encode) -> Any:
        """Make p(z) of parameters, by default the prior itself."""
        return self


@serializable
@dataclass(frozen=True)
class StandardNormal(Prior):
    r"""Independent latent dimensions, :math:`p(z) = \mathcal{N}(z | 0, I)`.

    Examples
    --------
    >>> from sklearn_vae.priors import StandardNormal
    >>> StandardNormal()
    StandardNormal()
    """

    has_closed_form_kl = True

    def log_prob(self, z: Array) -> Array:
        """Log-density in nats: (..., l) -> (...)."""
        # a sum as a product: both libraries are slow along short axes
        square = namespace(z).square(z) @ (ops.zeros(z.shape[-1:], z) + 1)
        return -0.5 * square - z.shape[-1] * HALF_LOG_2PI

    def sample(self, shape: Shape, generator: "torch.Generator", dtype: "torch.dtype") -> Array:
        """Sample codes of each member, of the shape (M, n_rows, l)."""
        import torch

        return torch.randn(shape, generator=generator, dtype=dtype)


@dataclass(frozen=True)
class UniformCategorical(Prior):
    """Categorical variables of uniform probability: ``prior="normal"`` of classes as codes."""

    has_closed_form_kl = True

    n_variables: int

    def log_prob(self, z: Array) -> Array:
        """Log-probability of one-hot codes: (..., l) -> (...)."""
        n_classes = z.shape[-1] // self.n_variables
        return ops.zeros(z.shape[:-1], z) - self.n_variables * math.log(n_classes)

    def sample(self, shape: Shape, generator: "torch.Generator", dtype: "torch.dtype") -> Array:
        """Sample codes of each member, of the shape (M, n_rows, l)."""
        import torch

        n_members, n_rows, n_components = shape
        n_classes, size = n_components // self.n_variables, (n_members, n_rows, self.n_variables)
        chosen = torch.randint(n_classes, size, generator=generator)
        return ops.flatten(ops.one_hot(chosen, n_classes, dtype))


# Least weight of a component.
MIN_WEIGHT = 1e-6


@serializable
@dataclass(frozen=True)
class MixturePrior(Prior):
    r"""A learned mixture, :math:`p(z) = \sum_c \pi_c \, \mathcal{N}(z | \mu_c, \sigma_c^2)`.

    Weights, locations and scales of its components (with independent dimensions) are
    trained with the networks, from those of a mixture that EM fits to the first codes.

    Parameters
    ----------
    n_components : int or "auto", default="auto"
        Number of components of the mixture, at least 1; the estimator's ``n_components`` is the
        number of latent dimensions. ``"auto"`` is 10, or 40 from 800 rows on.

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

    requirements = (NO_FREE_BITS,)
    n_rows = 1024  # whose codes a mixture is fitted to

    n_components: Any = "auto"

    def __post_init__(self) -> None:
        if self.n_components != "auto":
            check_integer(self, "n_components", self.n_components)

    def for_rows(self, n_rows: float) -> "MixturePrior":
        """Choose the number of components."""
        if self.n_components != "auto":
            return self
        return replace(self, n_components=40 if n_rows >= 800 else 10)

    def param_shapes(self, n_components: int, n_columns: int) -> dict[str, tuple[int, int]]:
        """Shapes of one member's parameters, by name."""
        shape = (self.n_components, n_components)
        return {"logit": (1, self.n_components), "loc": shape, "log_scale": shape}

    def initial_params(self, x: Array, encode: Encode) -> dict[str, Array]:
        """Initialize by EM on the codes of rows (M, n_rows, n_columns)."""
        loc, log_scale = encode(x)  # (M, n_rows, l)
        fits = [self._fit(*codes) for codes in zip(loc, log_scale, strict=True)]
        weight, mean, scale = (
            namespace(loc).as_tensor(np.stack(parts)).to(loc) for parts in zip(*fits, strict=True)
        )
        return {"logit": weight.log().unsqueeze(1), "loc": mean, "log_scale": scale.log()}

    def _fit(self, loc: Array, log_scale: Array) -> tuple[np.ndarray, ...]:
        """Weights (C,), means and standard deviations (C, l) of posteriors (n_rows, l)."""
        from sklearn import config_context
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        codes = loc.detach().double().cpu().numpy()
        n_codes = len(np.unique(codes.round(4), axis=0))  # but for those of equal rows
        mixture = GaussianMixture(
            min(self.n_components, n_codes),
            covariance_type="diag",
            reg_covar=1e-4,
            # not k-means, whose threads wait for each other where other processes are at work
            init_params="k-means++",
            random_state=0,
        )
        with warnings.catch_warnings(), config_context(array_api_dispatch=False):
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(codes)
        weight, mean, variance = mixture.weights_, mixture.means_, mixture.covariances_
        # of fewer codes than components, one is repeated
        more = self.n_components - len(weight)
        weight = np.pad(np.maximum(weight, MIN_WEIGHT), (0, more), constant_values=MIN_WEIGHT)
        mean, variance = (np.pad(part, [(0, more), (0, 0)], "edge") for part in (mean, variance))
        # codes are means of posteriors, whose variance is added
        variance = variance + np.exp(2 * log_scale.detach().double().cpu().numpy()).mean(axis=0)
        return weight, mean, np.sqrt(variance)

    def distribution(self, params: Params, encode: Encode) -> "DiagonalMixture":
        """Make the mixture."""
        return DiagonalMixture(params["logit"].squeeze(1), params["loc"], params["log_scale"])


class DiagonalMixture:
    """Mixture of Gaussians with diagonal covariance, for M members.

    Logits of the weights (M, C), locations and log-scales of the components (M, C, l).
    """

    def __init__(self, logit: Array, loc: Array, log_scale: Array):
        self.log_weight = ops.log_softmax(logit)
        self.loc, self.log_scale = loc, log_scale

    def log_prob(self, z: Array) -> Array:
        """Log-density in nats: (M, K, B, l) -> (M, K, B)."""
        # squared distances from all components as one product of matrices, whose terms are
        # large and cancel for narrow components: hence double precision
        loc, log_scale, xp = ops.in_double(self.loc), ops.in_double(self.log_scale), namespace(z)
        precision = xp.exp(-2 * log_scale)  # (M, C, l)
        n_members, n_draws, n_rows, n_latent = z.shape
        points = ops.in_double(z).reshape(n_members, n_draws * n_rows, n_latent).swapaxes(1, 2)
        powers = ops.concatenate([xp.square(points), points], 1)  # (M, 2 l, K B)
        coefs = ops.concatenate([-0.5 * precision, precision * loc])  # (M, C, 2 l)
        at_zero = -(0.5 * precision * xp.square(loc) + log_scale + HALF_LOG_2PI).sum(-1)
        log_joint = ops.affine((self.log_weight + at_zero)[..., None], coefs, powers)  # (M, C, K B)
        return ops.as_type(ops.logsumexp(log_joint, 1).reshape(n_members, n_draws, n_rows), z)

    def transform(self, noise: Array) -> Array:
        """Codes of standard normal draws, by the weights of components: (K, l) -> (M, K, l)."""
        quantile = GOLDEN_RATIO * ops.in_double(ops.arange(len(noise), self.loc) + 1) % 1
        return self._codes(quantile[None], ops.as_type(noise, self.loc))

    def sample(self, shape: Shape, generator: "torch.Generator", dtype: "torch.dtype") -> Array:
        """Sample codes of each member, of the shape (M, n_rows, l)."""
        torch = namespace(self.loc)
        noise = torch.randn(shape, generator=generator, dtype=dtype)
        uniform = torch.rand(shape[:2], generator=generator, dtype=dtype).to(self.loc)
        return self._codes(uniform, noise.to(self.loc))

    def _codes(self, uniform: Array, noise: Array) -> Array:
        """Codes of uniform numbers (M or 1, K) and standard normal draws (M or 1, K, l)."""
        cumulative = namespace(uniform).exp(ops.as_type(self.log_weight, uniform)).cumsum(-1)
        component = (uniform[..., None] >= cumulative[:, None, :-1]).sum(-1)  # (M, K)
        member = ops.arange(len(self.loc), self.loc)[:, None]
        scale = namespace(noise).exp(self.log_scale[member, component])
        return self.loc[member, component] + scale * noise


@serializable
@dataclass(frozen=True)
class VampPrior(Prior):
    r"""A mixture of the encoder's posteriors, :math:`p(z) = \frac{1}{C} \sum_c q(z | u_c)`.

    The pseudo-inputs u are learned: rows as the encoder sees them, whose posteriors are the
    components of the mixture. They are initialized at random training rows, with repetition
    if the table has fewer rows.

    Parameters
    ----------
    n_components : int, default=50
        Number of pseudo-inputs, at least 1.

    References
    ----------
    .. [1] J. M. Tomczak and M. Welling, "VAE with a VampPrior", AISTATS 2018.

    Examples
    --------
    >>> from sklearn_vae.priors import VampPrior
    >>> VampPrior(n_components=20)
    VampPrior(n_components=20)
    """

    requirements = (
        needs_diagonal_gaussian("which is a mixture of diagonal Gaussian posteriors"),
        NO_FREE_BITS,
    )

    n_components: int = 50

    def __post_init__(self) -> None:
        check_integer(self, "n_components", self.n_components)

    @property
    def n_rows(self) -> int:
        """One row per component."""
        return self.n_components

    def param_shapes(self, n_components: int, n_columns: int) -> dict[str, tuple[int, int]]:
        """Shapes of one member's parameters, by name."""
        return {"pseudo_input": (self.n_components, n_columns)}

    def initial_params(self, x: Array, encode: Encode) -> dict[str, Array]:
        """Initialize at the rows (M, C, n_columns)."""
        return {"pseudo_input": x.nan_to_num()}

    def distribution(self, params: Params, encode: Encode) -> DiagonalMixture:
        """Make the mixture of posteriors."""
        loc, log_scale = encode(params["pseudo_input"])
        return DiagonalMixture(ops.zeros(loc.shape[:2], loc), loc, log_scale)


# Names of the parameter ``prior``.
PRIORS: dict[str, Prior] = {
    "normal": StandardNormal(),
    "mixture": MixturePrior(),
    "vamp": VampPrior(),
}
