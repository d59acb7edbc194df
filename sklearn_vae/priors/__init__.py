"""Priors p(z): standard normal, a learned mixture, the VampPrior, and uniform categories."""

from sklearn_vae.priors.base import Encode, Prior, PriorDistribution
from sklearn_vae.priors.categorical import UniformCategorical
from sklearn_vae.priors.mixture import DiagonalMixture, MixturePrior, VampPrior
from sklearn_vae.priors.normal import StandardNormal

__all__ = [
    "PRIORS",
    "DiagonalMixture",
    "Encode",
    "MixturePrior",
    "Prior",
    "PriorDistribution",
    "StandardNormal",
    "UniformCategorical",
    "VampPrior",
]

# Names of the parameter ``prior``.
PRIORS: dict[str, Prior] = {
    "normal": StandardNormal(),
    "mixture": MixturePrior(),
    "vamp": VampPrior(),
}
