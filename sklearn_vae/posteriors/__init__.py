"""Posteriors q(z|x): Gaussians, relaxed categorical variables, and both jointly."""

from sklearn_vae.posteriors.categorical import GaussianCategorical, RelaxedCategorical
from sklearn_vae.posteriors.gaussian import (
    DiagonalGaussian,
    FullCovarianceGaussian,
    OneHotBlock,
    Posterior,
)

# Names of the parameter ``posterior``.
POSTERIORS: dict[str, Posterior] = {
    "gaussian": DiagonalGaussian(),
    "full": FullCovarianceGaussian(),
    "categorical": RelaxedCategorical(),
}

__all__ = [
    "POSTERIORS",
    "DiagonalGaussian",
    "FullCovarianceGaussian",
    "GaussianCategorical",
    "OneHotBlock",
    "Posterior",
    "RelaxedCategorical",
]
