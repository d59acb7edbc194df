"""Mixture priors: of Gaussians, or of the encoder's posteriors at pseudo-inputs (VampPrior)."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from sklearn_vae.numerics.array_api import in_double
from sklearn_vae.numerics.model_constants import HALF_LOG_2PI
from sklearn_vae.numerics.random import sample_categorical
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import check_integer
from sklearn_vae.priors.base import NO_FREE_BITS, Encode, Params, Prior, Shape
from sklearn_vae.requirements import Requirement

# Spread of the initial locations, relative to the codes. Of 0.1, 0.5 and 0.9 it was the best or
# within 0.05 nats of it on each of three tables; 0.9 starts too far from probabilistic PCA.
INITIAL_SPREAD = 0.5


@dataclass(frozen=True)
class _Mixture(Prior):
    """Prior of several components, each initialized at one row."""

    n_components: int

    def __post_init__(self) -> None:
        check_integer(self, "n_components", self.n_components)

    @property
    def n_rows(self) -> int:
        """One row per component."""
        return self.n_components


@serializable
@dataclass(frozen=True)
class MixturePrior(_Mixture):
    r"""A learned mixture, :math:`p(z) = \sum_c \pi_c \, \mathcal{N}(z | \mu_c, \sigma_c^2)`.

    Weights, locations and scales of its components (with independent dimensions) are
    trained with the networks. It is initialized near the standard normal, with locations at
    half the codes that probabilistic PCA gives to some training rows.

    Parameters
    ----------
    n_components : int, default=10
        Number of components of the mixture; the estimator's ``n_components`` is the number
        of latent dimensions.

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

    requirements = (NO_FREE_BITS,)

    n_components: int = 10

    def param_shapes(self, n_components: int, n_columns: int) -> dict[str, tuple[int, int]]:
        """Shapes of one member's parameters, by name."""
        shape = (self.n_components, n_components)
        return {"logit": (1, self.n_components), "loc": shape, "log_scale": shape}

    def initial_params(self, x: Tensor, encode: Encode) -> dict[str, Tensor]:
        """Initialize with the standard normal's variance, from rows (M, C, n_columns)."""
        loc, log_scale = encode(x)  # (M, C, l)
        # the variance of probabilistic PCA's codes is 1 minus that of their posteriors
        variance = INITIAL_SPREAD**2 * (1 - (2 * log_scale).exp()).clamp(min=0)
        return {
            "logit": loc.new_zeros(len(loc), 1, self.n_components),
            "loc": INITIAL_SPREAD * loc,
            "log_scale": 0.5 * torch.log1p(-variance),
        }

    def distribution(
        self, params: Params, encode: Encode, mask: Tensor | None
    ) -> "DiagonalMixture":
        """Make the mixture; padding dimensions are standard normal and have no gradient."""
        loc, log_scale = params["loc"], params["log_scale"]
        if mask is not None:
            loc, log_scale = loc * mask.unsqueeze(1), log_scale * mask.unsqueeze(1)
        return DiagonalMixture(params["logit"].squeeze(1), loc, log_scale)


class DiagonalMixture:
    """Mixture of Gaussians with diagonal covariance, for M members.

    Parameters
    ----------
    logit : Tensor of shape (M, C)
        Logits of the mixture weights.
    loc, log_scale : Tensor of shape (M, C, l)
        Location and log-scale of each component.
    """

    def __init__(self, logit: Tensor, loc: Tensor, log_scale: Tensor):
        self.log_weight = logit.log_softmax(-1)
        self.loc, self.log_scale = loc, log_scale

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density in nats: (M, K, B, l) -> (M, K, B)."""
        # squared distances from all components as one product of matrices, whose terms are
        # large and cancel for narrow components: hence double precision
        loc, log_scale = in_double(self.loc), in_double(self.log_scale)
        precision = (-2 * log_scale).exp()  # (M, C, l)
        points = in_double(z).flatten(1, 2)  # (M, K B, l)
        powers = torch.cat([points.square(), points], dim=-1)
        coefs = torch.cat([-0.5 * precision, precision * loc], dim=-1)
        at_zero = -(0.5 * precision * loc.square() + log_scale + HALF_LOG_2PI).sum(-1)
        offset = (self.log_weight + at_zero).unsqueeze(1)  # (M, 1, C)
        log_joint = torch.baddbmm(offset, powers, coefs.mT)  # (M, K B, C)
        return torch.logsumexp(log_joint, -1).unflatten(1, z.shape[1:3]).to(z.dtype)

    def sample(self, shape: Shape, generator: Generator, dtype: torch.dtype) -> Tensor:
        """Sample codes of each member, of the shape (M, n_rows, l)."""
        noise = torch.randn(shape, generator=generator, dtype=dtype)
        uniform = torch.rand(shape[:2], generator=generator, dtype=dtype).to(self.loc)
        cumulative = self.log_weight.exp().cumsum(-1)
        component = sample_categorical(cumulative, uniform).unsqueeze(-1).expand(shape)
        loc, log_scale = self.loc.gather(1, component), self.log_scale.gather(1, component)
        return loc + log_scale.exp() * noise.to(loc)


@serializable
@dataclass(frozen=True)
class VampPrior(_Mixture):
    r"""A mixture of the encoder's posteriors, :math:`p(z) = \frac{1}{C} \sum_c q(z | u_c)`.

    The pseudo-inputs u are learned: rows as the encoder sees them, whose posteriors are the
    components of the mixture. They are initialized at random training rows, with repetition
    if the table has fewer rows.

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

    requirements = (
        Requirement(
            "posterior",
            lambda posterior: posterior.is_diagonal_gaussian,
            "'gaussian'",
            "which is a mixture of diagonal Gaussian posteriors",
        ),
        NO_FREE_BITS,
    )

    n_components: int = 50

    def param_shapes(self, n_components: int, n_columns: int) -> dict[str, tuple[int, int]]:
        """Shapes of one member's parameters, by name."""
        return {"pseudo_input": (self.n_components, n_columns)}

    def initial_params(self, x: Tensor, encode: Encode) -> dict[str, Tensor]:
        """Initialize at the rows (M, C, n_columns)."""
        return {"pseudo_input": x}

    def distribution(self, params: Params, encode: Encode, mask: Tensor | None) -> DiagonalMixture:
        """Make the mixture of posteriors; the encoder applies the mask."""
        loc, log_scale = encode(params["pseudo_input"])
        return DiagonalMixture(loc.new_zeros(loc.shape[:2]), loc, log_scale)
