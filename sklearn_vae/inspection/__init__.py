"""Pictures of fitted estimators, in the manner of scikit-learn's displays.

A display holds what is drawn, so that it can be drawn again elsewhere. ``from_estimator``
computes it and draws it, and leaves the axes, the figure and the artists behind, to be changed.
Matplotlib is imported when a display draws, and nowhere else in the package.
"""

from sklearn_vae.inspection.calibration import PITCalibrationDisplay
from sklearn_vae.inspection.codes import LatentSpaceDisplay
from sklearn_vae.inspection.explanation import ExplanationDisplay
from sklearn_vae.inspection.losses import LossCurveDisplay
from sklearn_vae.inspection.manifold import ManifoldDisplay
from sklearn_vae.inspection.reconstruction import ReconstructionDisplay
from sklearn_vae.inspection.traversal import TraversalDisplay

__all__ = [
    "ExplanationDisplay",
    "LatentSpaceDisplay",
    "LossCurveDisplay",
    "ManifoldDisplay",
    "PITCalibrationDisplay",
    "ReconstructionDisplay",
    "TraversalDisplay",
]
