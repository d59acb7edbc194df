"""What a display asks of an estimator and of its rows, and what is said if it is not so."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from sklearn_vae.metrics import kl_per_dimension

# Codes that vary more than this, beside a prior of variance 1, vary as much as can be.
LARGEST_VARIANCE = 0.999


def last_step(estimator: Any, X: Any = None) -> tuple[Any, Any]:
    """The estimator at the end of searches and pipelines, and the rows as they come to it."""
    check_is_fitted(estimator)
    while isinstance(estimator, Pipeline) or hasattr(estimator, "best_estimator_"):
        if isinstance(estimator, Pipeline):
            X = None if X is None else estimator[:-1].transform(X) if len(estimator) > 1 else X
            estimator = estimator[-1]
        else:
            estimator = estimator.best_estimator_
    return estimator, X


def check_has_codes(estimator: Any, display: type) -> None:
    """Refuse an estimator that gives no codes, or no rows for them."""
    check_is_fitted(estimator)
    if not (hasattr(estimator, "transform") and hasattr(estimator, "inverse_transform")):
        raise TypeError(
            f"{display.__name__} needs an estimator with transform and inverse_transform, such as "
            f"VAETransformer. Got {type(last_step(estimator)[0]).__name__} instead."
        )


def kl_of(estimator: Any, X: Any, display: type) -> np.ndarray:
    """KL per latent dimension in nats, averaged over the rows: (n_components,).

    Where dimensions have none of their own, it is that of a normal distribution whose mean varies
    as the codes do and which is the prior on average.
    """
    check_has_codes(estimator, display)
    vae, rows = last_step(estimator, X)
    if not hasattr(vae, "history_"):
        raise TypeError(
            f"{display.__name__} needs a variational autoencoder with codes, such as "
            f"VAETransformer. Got {type(vae).__name__} instead."
        )
    posterior = vae.architecture_.posterior
    if posterior.has_codes or not posterior.kl_is_per_unit:
        return -0.5 * np.log1p(-np.minimum(vae.transform(rows).var(axis=0), LARGEST_VARIANCE))
    return kl_per_dimension(vae, rows)


def n_components_of(estimator: Any) -> int:
    """How many latent dimensions the codes have."""
    return len(last_step(estimator)[0].get_feature_names_out())


def check_components(components: Any, n_components: int, n_wanted: int | None = None) -> list[int]:
    """Numbers of latent dimensions, each there and none twice."""
    wanted = "integers" if n_wanted is None else f"{n_wanted} integers"
    is_number = isinstance(components, Integral) and not isinstance(components, bool)
    found = [components] if is_number else list(components)
    fits = n_wanted is None or len(found) == n_wanted
    if not fits or not found or not all(isinstance(c, Integral) for c in found):
        raise ValueError(f"components must be {wanted}, or None. Got {components!r} instead.")
    if unknown := [int(c) for c in found if not 0 <= c < n_components]:
        raise ValueError(
            f"components must be among 0 to {n_components - 1}, as the estimator has "
            f"{n_components}. Got {unknown[0]} in {components!r} instead."
        )
    if len(set(found)) < len(found):
        raise ValueError(f"components must differ. Got {components!r} instead.")
    return [int(c) for c in found]


def most_telling(kl: np.ndarray, n_most: int) -> list[int]:
    """The latent dimensions of the most KL, largest first."""
    return np.argsort(-kl, kind="stable")[:n_most].tolist()


def two_components(
    components: Any, n_components: int, kl: np.ndarray | None, display: type
) -> list[int]:
    """The two latent dimensions that span a plane: those asked for, or those of the most KL."""
    if n_components == 1:
        raise ValueError(
            f"{display.__name__} needs at least two components, and the estimator has 1."
        )
    if components is not None:
        return check_components(components, n_components, 2)
    return [0, 1] if n_components == 2 or kl is None else most_telling(kl, 2)


def as_numbers(name: str, X: Any) -> np.ndarray:
    """Rows as float64, NaN where a cell is missing."""
    X = X.toarray() if issparse(X) else X
    try:
        return check_array(X, dtype=np.float64, ensure_all_finite="allow-nan", input_name=name)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a table of numbers to be drawn: {error}") from error


def check_row_number(row: Any, n_rows: int) -> int:
    """A place among the rows, from the end where it is negative."""
    if row not in range(-n_rows, n_rows) or isinstance(row, bool):
        raise ValueError(
            f"row must be None or an integer from {-n_rows} to {n_rows - 1}. Got {row!r} instead."
        )
    return int(row)


def check_count(name: str, value: Any, least: int = 1) -> int:
    """Check a number of things that are drawn."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} must be an integer >= {least}. Got {value!r} instead.")
    return int(value)


def check_share(name: str, value: Any) -> None:
    """Check a share of rows, between none and all."""
    if not isinstance(value, Real) or not 0 < float(value) < 1:
        raise ValueError(f"{name} must lie between 0 and 1. Got {value!r} instead.")


def column_names(given: Any, n_columns: int, estimator: Any = None) -> list[str]:
    """Names that were given, or that the estimator was fitted with, or numbers."""
    names = getattr(estimator, "feature_names_in_", None) if given is None else given
    if names is None:
        return [str(j) for j in range(n_columns)]
    if len(names) != n_columns:
        raise ValueError(
            f"feature_names must have one name for each of {n_columns} columns. "
            f"Got {len(names)} instead."
        )
    return [str(name) for name in names]
