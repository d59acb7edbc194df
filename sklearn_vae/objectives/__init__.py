"""Objectives of training, in nats per row: sums over columns, means over rows.

An objective such as ``IWAE()`` is a frozen dataclass of hyperparameters. It is called with a
model, a batch and the weight of the KL, and returns the terms of the loss.
"""

from sklearn_vae.objectives.aggregated_posterior import MMD, TotalCorrelation
from sklearn_vae.objectives.bounds import (
    ELBO,
    IWAE,
    Checked,
    Constant,
    LinearWarmup,
    LossTerms,
    Minibatch,
    Objective,
    Schedule,
)

__all__ = [
    "ELBO",
    "IWAE",
    "MMD",
    "OBJECTIVES",
    "Checked",
    "Constant",
    "LinearWarmup",
    "LossTerms",
    "Minibatch",
    "Objective",
    "Schedule",
    "TotalCorrelation",
]

# Names of the parameter ``objective``.
OBJECTIVES: dict[str, Objective] = {
    "elbo": ELBO(),
    "iwae": IWAE(),
    "tc": TotalCorrelation(),
    "mmd": MMD(),
}
