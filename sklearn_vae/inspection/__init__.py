"""Plots of fitted estimators, as scikit-learn display objects.

``from_estimator`` computes and draws a display. The display keeps its data, so that it can be
drawn again, and its axes, figure and artists, so that they can be changed. Matplotlib is imported
when a display draws, and nowhere else in the package.
"""

from sklearn_vae.inspection.explanation import ExplanationDisplay
from sklearn_vae.inspection.images import ManifoldDisplay, ReconstructionDisplay
from sklearn_vae.inspection.latent_space import LatentSpaceDisplay
from sklearn_vae.inspection.loss_curve import LossCurveDisplay

__all__ = [
    "ExplanationDisplay",
    "LatentSpaceDisplay",
    "LossCurveDisplay",
    "ManifoldDisplay",
    "ReconstructionDisplay",
]
