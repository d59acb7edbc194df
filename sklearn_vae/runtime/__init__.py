"""Saved models without torch: scores, codes, imputed values and samples by numpy alone."""

from sklearn_vae.runtime.model import Model, load

__all__ = ["Model", "load"]
