"""Metrics of fitted estimators: collapse, calibration, uncertainty, samples, disentanglement.

Importing them does not import PyTorch.
"""

from sklearn_vae.metrics.calibration import pit_calibration
from sklearn_vae.metrics.collapse import active_units, check_posterior_collapse, kl_per_dimension
from sklearn_vae.metrics.disentanglement import disentanglement_scores, mutual_information_gap
from sklearn_vae.metrics.generalization import generalization_gap
from sklearn_vae.metrics.quality import quality_report
from sklearn_vae.metrics.scorers import trimmed_score
from sklearn_vae.metrics.total_correlation import total_correlation
from sklearn_vae.metrics.uncertainty import decompose_uncertainty

__all__ = [
    "active_units",
    "check_posterior_collapse",
    "decompose_uncertainty",
    "disentanglement_scores",
    "generalization_gap",
    "kl_per_dimension",
    "mutual_information_gap",
    "pit_calibration",
    "quality_report",
    "total_correlation",
    "trimmed_score",
]
