"""Objectives of training, in nats per row: sums over columns, means over rows.

An objective such as ``IWAE()`` is a frozen dataclass of hyperparameters. It is called with a
model, a batch and the weight of the KL, and returns the terms of the loss.
"""

from sklearn_vae.objectives.base import REPORTED, LossTerms, Minibatch, Objective
from sklearn_vae.objectives.elbo import ELBO, TrimmedELBO
from sklearn_vae.objectives.importance import IWAE
from sklearn_vae.objectives.mmd import MMD
from sklearn_vae.objectives.schedule import Checked, Constant, LinearWarmup, Schedule
from sklearn_vae.objectives.total_correlation import TotalCorrelation

__all__ = [
    "ELBO",
    "IWAE",
    "MMD",
    "OBJECTIVES",
    "REPORTED",
    "Checked",
    "Constant",
    "LinearWarmup",
    "LossTerms",
    "Minibatch",
    "Objective",
    "Schedule",
    "TotalCorrelation",
    "TrimmedELBO",
]

# Names of the parameter ``objective``.
OBJECTIVES: dict[str, Objective] = {
    "elbo": ELBO(),
    "iwae": IWAE(),
    "tc": TotalCorrelation(),
    "mmd": MMD(),
}
