"""q(z|x): what the encoder says of a row's place in latent space."""

from sklearn_vae.posteriors.base import LOG_SCALE_BOUND, Codes, Law, Posterior, log_mean_exp
from sklearn_vae.posteriors.categorical import DiscreteLaw, RelaxedCategorical
from sklearn_vae.posteriors.diagonal import DiagonalGaussian
from sklearn_vae.posteriors.flow import NormalizingFlow
from sklearn_vae.posteriors.full import FullCovarianceGaussian
from sklearn_vae.posteriors.joint import GaussianCategorical

POSTERIORS: dict[str, Posterior] = {
    "gaussian": DiagonalGaussian(),
    "full": FullCovarianceGaussian(),
    "flow": NormalizingFlow(),
    "categorical": RelaxedCategorical(),
}

__all__ = [
    "LOG_SCALE_BOUND",
    "POSTERIORS",
    "Codes",
    "DiagonalGaussian",
    "DiscreteLaw",
    "FullCovarianceGaussian",
    "GaussianCategorical",
    "Law",
    "NormalizingFlow",
    "Posterior",
    "RelaxedCategorical",
    "log_mean_exp",
]
