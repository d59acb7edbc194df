"""q(z|x): what the encoder says of a row's place in latent space."""

from sklearn_vae.posteriors.categorical import DiscreteLaw, RelaxedCategorical, UniformCodes
from sklearn_vae.posteriors.diagonal import DiagonalGaussian
from sklearn_vae.posteriors.flow import Flow
from sklearn_vae.posteriors.full import FullGaussian
from sklearn_vae.posteriors.kind import LOG_SCALE_BOUND, Codes, Law, Posterior, log_mean_exp
from sklearn_vae.posteriors.mixed import Mixed

POSTERIORS: dict[str, Posterior] = {
    "gaussian": DiagonalGaussian(),
    "full": FullGaussian(),
    "flow": Flow(),
    "categorical": RelaxedCategorical(),
}

__all__ = [
    "LOG_SCALE_BOUND",
    "POSTERIORS",
    "Codes",
    "DiagonalGaussian",
    "DiscreteLaw",
    "Flow",
    "FullGaussian",
    "Law",
    "Mixed",
    "Posterior",
    "RelaxedCategorical",
    "UniformCodes",
    "log_mean_exp",
]
