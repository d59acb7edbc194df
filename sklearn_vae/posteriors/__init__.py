"""Posteriors q(z|x): Gaussians, relaxed categorical variables, and both jointly."""

from sklearn_vae.posteriors.base import OneHotBlock, Posterior, PosteriorDistribution, log_mean_exp
from sklearn_vae.posteriors.categorical import RelaxedCategorical
from sklearn_vae.posteriors.diagonal import DiagonalGaussian
from sklearn_vae.posteriors.full import FullCovarianceGaussian
from sklearn_vae.posteriors.joint import GaussianCategorical

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
    "PosteriorDistribution",
    "RelaxedCategorical",
    "log_mean_exp",
]
