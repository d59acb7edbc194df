"""Saved models without PyTorch: scores, codes, reconstructions and imputed values."""

from sklearn_vae.runtime.files import load
from sklearn_vae.runtime.models import (
    ClassifierModel,
    DensityModel,
    ImputerModel,
    OutlierModel,
    TransformerModel,
)

__all__ = [
    "ClassifierModel",
    "DensityModel",
    "ImputerModel",
    "OutlierModel",
    "TransformerModel",
    "load",
]
