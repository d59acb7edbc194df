"""Validation of the estimators that metrics are computed from."""

from typing import Any

from sklearn.utils.validation import check_is_fitted


def check_is_model(
    estimator: Any,
    metric: str,
    kind: str = "estimator of densities",
    methods: tuple[str, ...] = ("_predictor", "score"),
) -> None:
    """Raise an error unless the estimator is fitted, and a model rather than one that holds one."""
    check_is_fitted(estimator)
    if not all(hasattr(estimator, method) for method in methods):
        raise TypeError(
            f"{metric} needs an {kind}, such as VAETransformer. Got {type(estimator).__name__} "
            f"instead. Of a search or Pipeline, give best_estimator_ or the last step."
        )


def check_has_codes(estimator: Any, metric: str) -> None:
    """Raise an error unless the estimator is fitted and encodes rows."""
    check_is_model(estimator, metric, "estimator with codes", ("_predictor", "transform"))
