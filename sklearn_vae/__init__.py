"""Variational autoencoders that behave as scikit-learn estimators do.

Public names load on first use: ``import sklearn_vae`` imports neither torch nor scikit-learn. A
fit imports torch; fitted models score rows without it.
Parts are in ``sklearn_vae.likelihoods``, ``.priors``, ``.posteriors``, ``.objectives`` and
``.networks``; the search is in ``.model_selection``, diagnostics in ``.metrics``, displays in
``.inspection``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sklearn_vae._version import __version__ as __version__

if TYPE_CHECKING:
    from sklearn_vae.estimators.classifier import VAEClassifier as VAEClassifier
    from sklearn_vae.estimators.density import VAEDensity as VAEDensity
    from sklearn_vae.estimators.imputer import VAEImputer as VAEImputer
    from sklearn_vae.estimators.load import load as load
    from sklearn_vae.estimators.outlier import VAEOutlierDetector as VAEOutlierDetector
    from sklearn_vae.estimators.transformer import VAETransformer as VAETransformer


# public name -> module
_MODULE = {
    "VAEClassifier": "estimators.classifier",
    "VAEDensity": "estimators.density",
    "VAEImputer": "estimators.imputer",
    "VAEOutlierDetector": "estimators.outlier",
    "VAETransformer": "estimators.transformer",
    "load": "estimators.load",
}
_SUBPACKAGES = (
    "inspection", "likelihoods", "metrics", "model_selection", "networks", "objectives",
    "posteriors", "priors",
)  # fmt: skip

__all__ = sorted(_MODULE)


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return import_module(f"{__name__}.{name}")
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, *_SUBPACKAGES, "__version__"])
