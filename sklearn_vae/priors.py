"""p(z): what the latent space looks like before any row is seen."""

import math

import torch
from torch import Tensor

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class StandardNormal:
    r"""Independent latent dimensions, :math:`p(z) = \mathcal{N}(z | 0, I)`."""

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density in nats: (..., l) -> (...)."""
        return (-0.5 * z.square() - HALF_LOG_2PI).sum(-1)

    def sample(
        self, n_rows: int, n_components: int, generator: torch.Generator, dtype: torch.dtype
    ) -> Tensor:
        """Draw latent rows of shape (n_rows, n_components)."""
        return torch.randn(n_rows, n_components, generator=generator, dtype=dtype)
