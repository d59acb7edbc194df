"""p(x|z): what the decoder says of a row, column by column.

One file per family of kinds, all with the verbs of ``kind.Likelihood``.
"""

from sklearn_vae.likelihoods.base import MOST_REDRAWS, Likelihood, Limits, Parameters
from sklearn_vae.likelihoods.columnwise import Columnwise
from sklearn_vae.likelihoods.counts import Counts, NegativeBinomial, Poisson
from sklearn_vae.likelihoods.discrete import Bernoulli, Categorical, Ordinal
from sklearn_vae.likelihoods.real import (
    LOG_SCALE_BOUND,
    Gaussian,
    LogNormal,
    StudentT,
    ZeroInflated,
)

__all__ = [
    "LOG_SCALE_BOUND",
    "MOST_REDRAWS",
    "NAMED",
    "Bernoulli",
    "Categorical",
    "Columnwise",
    "Counts",
    "Gaussian",
    "Likelihood",
    "Limits",
    "LogNormal",
    "NegativeBinomial",
    "Ordinal",
    "Parameters",
    "Poisson",
    "StudentT",
    "ZeroInflated",
]

# What the parameter ``likelihood`` may call them. The number of classes is the column's.
NAMED: dict[str, type[Likelihood]] = {
    "gaussian": Gaussian,
    "student_t": StudentT,
    "lognormal": LogNormal,
    "zero_inflated": ZeroInflated,
    "bernoulli": Bernoulli,
    "categorical": Categorical,
    "ordinal": Ordinal,
    "poisson": Poisson,
    "negative_binomial": NegativeBinomial,
}
