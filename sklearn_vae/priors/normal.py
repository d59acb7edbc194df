"""The standard normal prior."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from sklearn_vae.numerics.model_constants import HALF_LOG_2PI
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.priors.base import Prior, Shape


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

    is_standard_normal = True
    has_closed_form_kl = True

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density in nats: (..., l) -> (...)."""
        return (-0.5 * z.square() - HALF_LOG_2PI).sum(-1)

    def sample(self, shape: Shape, generator: Generator, dtype: torch.dtype) -> Tensor:
        """Sample codes of each member, of the shape (M, n_rows, l)."""
        return torch.randn(shape, generator=generator, dtype=dtype)
