"""What training minimises, in nats per row: sums over columns, means over rows.

One file per idea. A value such as ``IWAE()`` is what a user asks for; it makes the loss
of a fleet when the members are known.
"""

from sklearn_vae.objectives.base import REPORTED, Loss, Objective, Terms
from sklearn_vae.objectives.capacity import CapacityELBO, CapacityELBOLoss
from sklearn_vae.objectives.elbo import ELBO, ELBOLoss, TrimmedELBO, TrimmedELBOLoss
from sklearn_vae.objectives.importance import IWAE, IWAELoss
from sklearn_vae.objectives.mmd import MMD, MMDLoss
from sklearn_vae.objectives.schedule import Checked, Constant, LinearWarmup, Schedule
from sklearn_vae.objectives.total_correlation import TotalCorrelation, TotalCorrelationLoss

__all__ = [
    "ELBO",
    "IWAE",
    "MMD",
    "OBJECTIVES",
    "REPORTED",
    "CapacityELBO",
    "CapacityELBOLoss",
    "Checked",
    "Constant",
    "ELBOLoss",
    "IWAELoss",
    "LinearWarmup",
    "Loss",
    "MMDLoss",
    "Objective",
    "Schedule",
    "Terms",
    "TotalCorrelation",
    "TotalCorrelationLoss",
    "TrimmedELBO",
    "TrimmedELBOLoss",
]

# What the parameter ``objective`` may call them.
OBJECTIVES: dict[str, Objective] = {
    "elbo": ELBO(),
    "iwae": IWAE(),
    "tc": TotalCorrelation(),
    "capacity": CapacityELBO(),
    "mmd": MMD(),
}
