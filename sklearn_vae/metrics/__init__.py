"""Metrics of fitted estimators: collapse, calibration, samples.

Importing them does not import PyTorch.
"""

from sklearn_vae.metrics.models import (
    active_units,
    kl_per_dimension,
    pit_calibration,
)
from sklearn_vae.metrics.quality import quality_report

__all__ = ["active_units", "kl_per_dimension", "pit_calibration", "quality_report"]
