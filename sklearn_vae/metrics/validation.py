"""Validation of the estimators that metrics are computed from."""

from typing import Any

from sklearn.utils.validation import check_is_fitted


def check_has_codes(estimator: Any, metric: str) -> None:
    """Raise an error unless the estimator is fitted and encodes rows."""
    check_is_fitted(estimator)
    if not hasattr(estimator, "transform"):
        raise TypeError(
            f"{metric} needs an estimator with codes, such as VAETransformer. "
            f"Got {type(estimator).__name__} instead."
        )
