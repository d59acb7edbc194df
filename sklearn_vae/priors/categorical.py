"""The uniform prior of categorical codes, with standard normal dimensions behind them."""

import math
from dataclasses import dataclass
from typing import Any

from sklearn_vae.numerics.array_api import Array
from sklearn_vae.numerics.functional import one_hot
from sklearn_vae.priors.base import Prior, Shape
from sklearn_vae.priors.normal import StandardNormal


@dataclass(frozen=True)
class UniformCategorical(Prior):
    """Categorical variables of uniform probability, and independent standard normal dimensions.

    It is the meaning of ``prior="normal"`` for posteriors with categorical variables.

    Parameters
    ----------
    n_variables, n_classes : int
        Number of categorical variables, and of classes of each.
    """

    has_closed_form_kl = True

    n_variables: int
    n_classes: int

    def log_prob(self, z: Array) -> Array:
        """Log-probability of the one-hot codes plus log-density of the rest: (..., l) -> (...)."""
        rest = z[..., self.n_variables * self.n_classes :]
        return StandardNormal().log_prob(rest) - self.n_variables * math.log(self.n_classes)

    def sample(self, shape: Shape, generator: Any, dtype: Any) -> Array:
        """Sample codes of each member, of the shape (M, n_rows, l)."""
        import torch

        n_members, n_rows, n_components = shape
        chosen = torch.randint(
            self.n_classes, (n_members, n_rows, self.n_variables), generator=generator
        )
        codes = one_hot(chosen, self.n_classes, dtype)
        rest = n_components - codes.shape[-1]
        normal = torch.randn(n_members, n_rows, rest, generator=generator, dtype=dtype)
        return torch.cat([codes, normal], dim=-1)
