"""Variational autoencoders that behave as scikit-learn estimators do.

The public names load on first use, so that ``import sklearn_vae`` costs nothing:
torch is imported when the first estimator is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sklearn_vae.classifier import VAEClassifier
    from sklearn_vae.density import VAEDensity
    from sklearn_vae.diagnostics import (
        active_units,
        calibration,
        kl_per_unit,
        score_parts,
        total_correlation,
        train_validation_gap,
        warn_of_collapse,
    )
    from sklearn_vae.disentanglement import disentanglement_scores, mutual_information_gap
    from sklearn_vae.images import FlattenImages
    from sklearn_vae.imputer import VAEImputer
    from sklearn_vae.likelihoods import (
        Bernoulli,
        Categorical,
        Gaussian,
        LogNormal,
        NegativeBinomial,
        Ordinal,
        Poisson,
        Spiked,
        StudentT,
    )
    from sklearn_vae.networks import Convolution, Recurrent, ResidualPerceptron
    from sklearn_vae.objectives import (
        IWAE,
        Capacity,
        Discrepancy,
        TotalCorrelation,
        Trimmed,
        WarmUp,
    )
    from sklearn_vae.onnx import to_onnx
    from sklearn_vae.outlier import VAEOutlierDetector
    from sklearn_vae.persistence import load
    from sklearn_vae.plotting import (
        ExplanationDisplay,
        LatentSpaceDisplay,
        LossCurveDisplay,
        ManifoldDisplay,
        PITDisplay,
        ReconstructionDisplay,
        TraversalDisplay,
    )
    from sklearn_vae.posteriors import Flow, FullGaussian, Mixed, RelaxedCategorical
    from sklearn_vae.priors import MixturePrior, StandardNormal, VampPrior
    from sklearn_vae.search import VAESearchCV
    from sklearn_vae.transformer import VAETransformer

__version__ = "0.1.0"

__all__ = [
    "IWAE",
    "Bernoulli",
    "Capacity",
    "Categorical",
    "Convolution",
    "Discrepancy",
    "ExplanationDisplay",
    "FlattenImages",
    "Flow",
    "FullGaussian",
    "Gaussian",
    "LatentSpaceDisplay",
    "LogNormal",
    "LossCurveDisplay",
    "ManifoldDisplay",
    "Mixed",
    "MixturePrior",
    "NegativeBinomial",
    "Ordinal",
    "PITDisplay",
    "Poisson",
    "ReconstructionDisplay",
    "Recurrent",
    "RelaxedCategorical",
    "ResidualPerceptron",
    "Spiked",
    "StandardNormal",
    "StudentT",
    "TotalCorrelation",
    "TraversalDisplay",
    "Trimmed",
    "VAEClassifier",
    "VAEDensity",
    "VAEImputer",
    "VAEOutlierDetector",
    "VAESearchCV",
    "VAETransformer",
    "VampPrior",
    "WarmUp",
    "active_units",
    "calibration",
    "disentanglement_scores",
    "kl_per_unit",
    "load",
    "mutual_information_gap",
    "score_parts",
    "to_onnx",
    "total_correlation",
    "train_validation_gap",
    "warn_of_collapse",
]

_HOME = {
    "Bernoulli": "sklearn_vae.likelihoods",
    "Gaussian": "sklearn_vae.likelihoods",
    "IWAE": "sklearn_vae.objectives",
    "Capacity": "sklearn_vae.objectives",
    "Categorical": "sklearn_vae.likelihoods",
    "Discrepancy": "sklearn_vae.objectives",
    "Flow": "sklearn_vae.posteriors",
    "FullGaussian": "sklearn_vae.posteriors",
    "Convolution": "sklearn_vae.networks",
    "FlattenImages": "sklearn_vae.images",
    "LogNormal": "sklearn_vae.likelihoods",
    "Mixed": "sklearn_vae.posteriors",
    "RelaxedCategorical": "sklearn_vae.posteriors",
    "NegativeBinomial": "sklearn_vae.likelihoods",
    "Ordinal": "sklearn_vae.likelihoods",
    "Poisson": "sklearn_vae.likelihoods",
    "Recurrent": "sklearn_vae.networks",
    "ResidualPerceptron": "sklearn_vae.networks",
    "Spiked": "sklearn_vae.likelihoods",
    "StudentT": "sklearn_vae.likelihoods",
    "VAEImputer": "sklearn_vae.imputer",
    "MixturePrior": "sklearn_vae.priors",
    "StandardNormal": "sklearn_vae.priors",
    "TotalCorrelation": "sklearn_vae.objectives",
    "Trimmed": "sklearn_vae.objectives",
    "VAEClassifier": "sklearn_vae.classifier",
    "VAEDensity": "sklearn_vae.density",
    "VAEOutlierDetector": "sklearn_vae.outlier",
    "VAESearchCV": "sklearn_vae.search",
    "VAETransformer": "sklearn_vae.transformer",
    "VampPrior": "sklearn_vae.priors",
    "WarmUp": "sklearn_vae.objectives",
    "active_units": "sklearn_vae.diagnostics",
    "calibration": "sklearn_vae.diagnostics",
    "disentanglement_scores": "sklearn_vae.disentanglement",
    "kl_per_unit": "sklearn_vae.diagnostics",
    "load": "sklearn_vae.persistence",
    "ExplanationDisplay": "sklearn_vae.plotting",
    "LatentSpaceDisplay": "sklearn_vae.plotting",
    "LossCurveDisplay": "sklearn_vae.plotting",
    "ManifoldDisplay": "sklearn_vae.plotting",
    "PITDisplay": "sklearn_vae.plotting",
    "ReconstructionDisplay": "sklearn_vae.plotting",
    "TraversalDisplay": "sklearn_vae.plotting",
    "mutual_information_gap": "sklearn_vae.disentanglement",
    "score_parts": "sklearn_vae.diagnostics",
    "to_onnx": "sklearn_vae.onnx",
    "total_correlation": "sklearn_vae.diagnostics",
    "train_validation_gap": "sklearn_vae.diagnostics",
    "warn_of_collapse": "sklearn_vae.diagnostics",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
