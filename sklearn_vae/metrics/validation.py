"""Validation of the estimators that metrics are computed from."""

from typing import Any

from sklearn.utils.validation import check_is_fitted


def check_is_model(estimator: Any, metric: str, *, has_codes: bool = False) -> None:
    """Raise an error unless the estimator is fitted, and a model rather than one that holds one."""
    check_is_fitted(estimator)
    method = "transform" if has_codes else "score"
    if not (hasattr(estimator, "_predictor") and hasattr(estimator, method)):
        kind = "with codes" if has_codes else "of densities"
        raise TypeError(
            f"{metric} needs an estimator {kind}, such as VAETransformer. Got "
            f"{type(estimator).__name__} instead. Of a search or Pipeline, give best_estimator_ or "
            f"the last step."
        )
