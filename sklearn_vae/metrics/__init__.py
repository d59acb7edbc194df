"""Diagnostics of fitted estimators, and disentanglement scores of codes."""

from sklearn_vae.metrics.diagnostics import (
    active_units,
    calibration,
    kl_per_unit,
    score_parts,
    total_correlation,
    train_validation_gap,
    warn_of_collapse,
)
from sklearn_vae.metrics.disentanglement import disentanglement_scores, mutual_information_gap

__all__ = [
    "active_units",
    "calibration",
    "disentanglement_scores",
    "kl_per_unit",
    "mutual_information_gap",
    "score_parts",
    "total_correlation",
    "train_validation_gap",
    "warn_of_collapse",
]
