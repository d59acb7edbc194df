"""Likelihoods p(x|z): distributions of the columns of a row, whose parameters the decoder returns.

All have the methods of ``base.Likelihood``; ``Columnwise`` joins those of a row. No
module here imports PyTorch, except in functions that only tensors need.
"""

from sklearn_vae.likelihoods.base import Likelihood
from sklearn_vae.likelihoods.columnwise import Columnwise, Limits, Parameters
from sklearn_vae.likelihoods.counts import Counts, NegativeBinomial, Poisson
from sklearn_vae.likelihoods.discrete import Bernoulli, Categorical, OneHot, Ordinal
from sklearn_vae.likelihoods.real import Gaussian, LogNormal, ZeroInflated

__all__ = [
    "LIKELIHOODS",
    "Bernoulli",
    "Categorical",
    "Columnwise",
    "Counts",
    "Gaussian",
    "Likelihood",
    "Limits",
    "LogNormal",
    "NegativeBinomial",
    "OneHot",
    "Ordinal",
    "Parameters",
    "Poisson",
    "ZeroInflated",
]

# Names for the parameter ``likelihood``. The number of classes is the column's.
LIKELIHOODS: dict[str, type[Likelihood]] = {
    "gaussian": Gaussian,
    "lognormal": LogNormal,
    "zero_inflated": ZeroInflated,
    "bernoulli": Bernoulli,
    "categorical": Categorical,
    "ordinal": Ordinal,
    "poisson": Poisson,
    "negative_binomial": NegativeBinomial,
}
