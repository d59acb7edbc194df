"""The standard normal prior."""

from dataclasses import dataclass
from typing import Any

from sklearn_vae.numerics.array_api import Array, namespace, sum_last
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

    def log_prob(self, z: Array) -> Array:
        """Log-density in nats: (..., l) -> (...)."""
        return -0.5 * sum_last(namespace(z).square(z)) - z.shape[-1] * HALF_LOG_2PI

    def sample(self, shape: Shape, generator: Any, dtype: Any) -> Array:
        """Sample codes of each member, of the shape (M, n_rows, l)."""
        import torch

        return torch.randn(shape, generator=generator, dtype=dtype)
