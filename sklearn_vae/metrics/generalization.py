"""Generalization gap: log-likelihood of training rows less that of held-out rows."""

from typing import TYPE_CHECKING, Any

from sklearn.base import is_classifier
from sklearn.utils.validation import check_is_fitted

from sklearn_vae.metrics.validation import check_is_model

if TYPE_CHECKING:
    from sklearn_vae.estimators.density_estimator import DensityEstimator


def generalization_gap(
    estimator: "DensityEstimator", X_train: Any = None, X_valid: Any = None
) -> float:
    """Mean log-likelihood of training rows less that of validation rows.

    Parameters
    ----------
    estimator : VAETransformer or VAEDensity
        A fitted estimator.
    X_train, X_valid : array-like of shape (n_samples, n_features), default=None
        Training rows and held-out rows, whose scores are compared. By default the losses in
        ``history_`` are compared, at the lowest validation loss; there ``loss`` is an average
        over an iteration's steps, and up to 256 validation rows share few draws, so the difference
        may be off by .3 nats. Of VAEDensity's members the one with the largest weight is
        taken.

    Returns
    -------
    float
        Nats per row; near 0 if the model does not overfit.

    Raises
    ------
    TypeError
        With tables, if the estimator does not score rows alone, as VAEOutlierDetector and
        VAEClassifier; without, if it has no ``history_``.
    ValueError
        If only one table is given, or none and ``history_`` has no validation loss.
    """
    check_is_fitted(estimator)
    if (X_train is None) != (X_valid is None):
        raise ValueError("X_train and X_valid must be given both or neither.")
    model = getattr(estimator, "estimator_", estimator) if X_train is None else estimator
    is_refused = X_train is not None and is_classifier(estimator)
    if is_refused or not hasattr(model, "history_" if X_train is None else "score"):
        check_is_model(estimator, "generalization_gap")
    if X_train is not None:
        return estimator.score(X_train) - estimator.score(X_valid)
    records = [r for r in model.history_ if "val_loss" in r and not r.get("member")]
    if not records:
        advice = "Pass X_train and X_valid, or fit with early_stopping=True."
        raise ValueError(
            "The fit had no validation rows, so history_ has no 'val_loss'."
            + f" {advice}" * hasattr(estimator, "score")
        )
    best = min(records, key=lambda record: record["val_loss"])
    return float(best["val_loss"] - best["loss"])
