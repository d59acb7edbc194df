"""What training minimises, in nats per row: sums over columns, means over rows.

One file per idea. A value such as ``IWAE()`` is what a user asks for; it makes the loss
of a fleet when the members are known.
"""

from sklearn_vae.objectives.capacity import Capacity, CapacityELBO
from sklearn_vae.objectives.discrepancy import Discrepancy, DiscrepancyELBO
from sklearn_vae.objectives.evidence import ELBO, Evidence, Trimmed, TrimmedELBO
from sklearn_vae.objectives.importance import IWAE, ImportanceWeighted
from sklearn_vae.objectives.loss import REPORTED, Loss, Objective, Terms
from sklearn_vae.objectives.schedule import Checked, Constant, Schedule, WarmUp
from sklearn_vae.objectives.total_correlation import TotalCorrelation, TotalCorrelationELBO

__all__ = [
    "ELBO",
    "IWAE",
    "OBJECTIVES",
    "REPORTED",
    "Capacity",
    "CapacityELBO",
    "Checked",
    "Constant",
    "Discrepancy",
    "DiscrepancyELBO",
    "Evidence",
    "ImportanceWeighted",
    "Loss",
    "Objective",
    "Schedule",
    "Terms",
    "TotalCorrelation",
    "TotalCorrelationELBO",
    "Trimmed",
    "TrimmedELBO",
    "WarmUp",
]

# What the parameter ``objective`` may call them.
OBJECTIVES: dict[str, Objective] = {
    "elbo": Evidence(),
    "iwae": IWAE(),
    "tc": TotalCorrelation(),
    "capacity": Capacity(),
    "mmd": Discrepancy(),
}
