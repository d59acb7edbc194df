"""A normal distribution whose dimensions depend on each other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sklearn_vae.compatibility import Requirement
from sklearn_vae.networks import bounded, unbounded
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.posteriors.base import LOG_SCALE_BOUND, NO_FREE_BITS, Continuous
from sklearn_vae.priors import HALF_LOG_2PI


@serializable
@dataclass(frozen=True)
class FullCovarianceGaussian(Continuous):
    r"""A normal distribution with any covariance, :math:`q(z | x) = \mathcal{N}(\mu, L L^T)`.

    The encoder gives the location and a Cholesky factor, :math:`L = \mathrm{diag}(\sigma)
    (I + N)` with N strictly lower triangular; the logarithms of :math:`\sigma` are
    bounded smoothly. Training starts at N = 0, which is the exact posterior of
    probabilistic PCA. The KL from the standard normal is exact,

    .. math::
        \tfrac{1}{2} \left( \|L\|_F^2 + \|\mu\|^2 - l \right) - \sum_i \log \sigma_i,

    but no sum over dimensions, so ``free_bits`` is refused.

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

    requirements: ClassVar[Sequence[Requirement]] = (NO_FREE_BITS,)

    def n_params(self, n_components: int) -> int:
        """A location, a log-scale, and what depends on the dimensions before."""
        return 2 * n_components + n_components * (n_components - 1) // 2

    def build(self, n_members: int, n_components: int) -> "FullLaw":
        """Make the law; it has no weights."""
        return FullLaw(n_components)


class FullLaw(Continuous):
    """Draws and densities of normal distributions with any covariance.

    Parameters
    ----------
    n_components : int
        Latent dimensions l.
    """

    def __init__(self, n_components: int):
        self.n_components = n_components

    def start(self, loc: Tensor, scale: Tensor) -> Tensor:
        """Parameters of independent dimensions: (l), (l) -> (n_params)."""
        n_below = self.n_components * (self.n_components - 1) // 2
        return torch.cat([loc, unbounded(scale.log(), LOG_SCALE_BOUND), loc.new_zeros(n_below)])

    def mean(self, params: Tensor) -> Tensor:
        """Mean of z: (..., n_params) -> (..., l)."""
        return params[..., : self.n_components]

    def split(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """Locations and log-scales of each dimension alone: (..., l), (..., l)."""
        loc, log_scale, unit = self._parts(params)
        return loc, log_scale + 0.5 * unit.square().sum(-1).log()

    def rsample(self, params: Tensor, noise: Tensor, proposal_scale: float = 1.0) -> Tensor:
        """Draws z = loc + L noise: (M, B, n_params), (M or 1, K, B or 1, l) -> (M, K, B, l)."""
        loc, log_scale, unit = self._parts(params)
        mixed = (unit.unsqueeze(1) @ noise.unsqueeze(-1)).squeeze(-1)  # (M, K, B, l)
        return loc.unsqueeze(1) + (proposal_scale * log_scale.exp()).unsqueeze(1) * mixed

    def log_prob(
        self, params: Tensor, z: Tensor, proposal_scale: float = 1.0, *, stop_gradient: bool = False
    ) -> Tensor:
        """Log-density in nats of draws z: (M, B, n_params), (M, K, B, l) -> (M, K, B).

        With ``stop_gradient`` its gradient is that through z alone.
        """
        loc, log_scale, unit = self._parts(params.detach() if stop_gradient else params)
        log_scale = log_scale + math.log(proposal_scale)
        apart = (z - loc.unsqueeze(1)) * (-log_scale).exp().unsqueeze(1)  # (M, K, B, l)
        noise = torch.linalg.solve_triangular(
            unit, apart.permute(0, 2, 3, 1), upper=False, unitriangular=True
        )  # (M, B, l, K)
        log_prob = (-0.5 * noise.square() - log_scale.unsqueeze(-1) - HALF_LOG_2PI).sum(2)
        return log_prob.mT

    def kl(self, params: Tensor) -> Tensor:
        """KL in nats from the standard normal, in one number: (..., n_params) -> (..., 1)."""
        loc, log_scale, unit = self._parts(params)
        variance = (2 * log_scale).exp() * unit.square().sum(-1)
        return (0.5 * (loc.square() + variance - 1) - log_scale).sum(-1, keepdim=True)

    def _parts(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Location (..., l), log-scale (..., l) and the factor with ones on its diagonal."""
        size = self.n_components
        loc, raw, below = params.split([size, size, size * (size - 1) // 2], dim=-1)
        row, column = torch.tril_indices(size, size, -1, device=params.device)
        unit = torch.eye(size, dtype=params.dtype, device=params.device)
        unit = unit.repeat(*params.shape[:-1], 1, 1)  # (..., l, l)
        unit[..., row, column] = below
        return loc, bounded(raw, LOG_SCALE_BOUND), unit
