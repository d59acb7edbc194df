"""Saved models without PyTorch: scores, codes, reconstructions and imputed values."""

from sklearn_vae.runtime.classifier import ClassifierModel
from sklearn_vae.runtime.density import DensityModel
from sklearn_vae.runtime.files import load
from sklearn_vae.runtime.imputer import ImputerModel
from sklearn_vae.runtime.outlier import OutlierModel
from sklearn_vae.runtime.transformer import TransformerModel

__all__ = [
    "ClassifierModel",
    "DensityModel",
    "ImputerModel",
    "OutlierModel",
    "TransformerModel",
    "load",
]
