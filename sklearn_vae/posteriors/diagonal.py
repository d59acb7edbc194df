"""The Gaussian posterior with diagonal covariance: reparameterisation and closed-form KL."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sklearn_vae.model_constants import HALF_LOG_2PI, POSTERIOR_LOG_SCALE_BOUND
from sklearn_vae.networks import bounded, unbounded
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.posteriors.base import Posterior, PosteriorDistribution


@serializable
@dataclass(frozen=True)
class DiagonalGaussian(Posterior, PosteriorDistribution):
    r"""A diagonal Gaussian, :math:`q(z | x) = \mathcal{N}(z | \mu(x), \sigma^2(x))`.

    The encoder's output holds the locations and the raw log-scales; the log-scales are bounded
    smoothly by tanh, so that no step can make the KL infinite. The reparameterisation is
    :math:`z = \mu + \sigma \epsilon`, and the KL from the standard normal has the closed form

    .. math::
        \sum_i \tfrac{1}{2} (\mu_i^2 + \sigma_i^2 - 1) - \log \sigma_i.

    References
    ----------
    .. [1] D. P. Kingma and M. Welling, "Auto-Encoding Variational Bayes", ICLR 2014.
    """

    is_diagonal_gaussian = True
    supports_padding = True
    has_per_dimension_kl = True

    def n_params(self, n_components: int) -> int:
        """A location and a log-scale per dimension."""
        return 2 * n_components

    def distribution(self, n_components: int) -> "DiagonalGaussian":
        """Return the posterior itself."""
        return self

    def split(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """Location and log-scale: (..., 2 l) -> (..., l), (..., l)."""
        loc, raw = params.chunk(2, dim=-1)
        return loc, bounded(raw, POSTERIOR_LOG_SCALE_BOUND)

    def initial_params(self, loc: Tensor, scale: Tensor) -> Tensor:
        """Parameters with this location and scale: (l), (l) -> (2 l)."""
        return torch.cat([loc, unbounded(scale.log(), POSTERIOR_LOG_SCALE_BOUND)])

    def mean(self, params: Tensor) -> Tensor:
        """Mean of z: (..., 2 l) -> (..., l)."""
        return params.chunk(2, dim=-1)[0]

    def rsample(self, params: Tensor, noise: Tensor, proposal_scale: float = 1.0) -> Tensor:
        """Reparameterised draws z = loc + scale * noise: (M, K, B, l)."""
        loc, log_scale = self.split(params)
        log_scale = log_scale + math.log(proposal_scale)
        return loc.unsqueeze(1) + log_scale.exp().unsqueeze(1) * noise  # (M, K, B, l)

    def log_prob(
        self, params: Tensor, z: Tensor, proposal_scale: float = 1.0, *, stop_gradient: bool = False
    ) -> Tensor:
        """Log-density in nats of draws z: (M, B, 2 l), (M, K, B, l) -> (M, K, B)."""
        loc, log_scale = self.split(params.detach() if stop_gradient else params)
        log_scale = log_scale + math.log(proposal_scale)
        noise = (z - loc.unsqueeze(1)) * (-log_scale).exp().unsqueeze(1)
        return (-0.5 * noise.square() - log_scale.unsqueeze(1) - HALF_LOG_2PI).sum(-1)

    def kl(self, params: Tensor) -> Tensor:
        """KL in nats from the standard normal, per dimension: (..., 2 l) -> (..., l)."""
        loc, log_scale = self.split(params)
        return 0.5 * (loc.square() + (2 * log_scale).exp() - 1) - log_scale
