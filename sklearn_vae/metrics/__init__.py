"""Metrics of fitted estimators: collapse, calibration, samples.

Importing them does not import PyTorch.
"""

from sklearn_vae.metrics.calibration import pit_calibration
from sklearn_vae.metrics.collapse import active_units, kl_per_dimension
from sklearn_vae.metrics.quality import quality_report
from sklearn_vae.metrics.scorers import trimmed_score

__all__ = [
    "active_units",
    "kl_per_dimension",
    "pit_calibration",
    "quality_report",
    "trimmed_score",
]
