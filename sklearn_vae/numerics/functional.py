"""Functions that neither PyTorch nor numpy has, such as bounds and one-hot codes."""

import math
from typing import Any

import numpy as np

from sklearn_vae.numerics.array_api import (
    Array,
    arange,
    as_type,
    flatten,
    logsumexp,
    namespace,
    to_dtype,
)


def bounded(raw: Array, bound: float) -> Array:
    """Map raw numbers into (-bound, bound), by tanh."""
    if isinstance(raw, np.ndarray):
        return bound * np.tanh(raw / bound)
    # tanh(a) = 2 sigmoid(2 a) - 1: torch's tanh takes three times as long
    return 2 * bound * namespace(raw).sigmoid(raw * (2 / bound)) - bound


def bounded_slope(raw: Array, bound: float) -> Array:
    """Compute the derivative of ``bounded``."""
    xp = namespace(raw)
    return 1 - xp.square(xp.tanh(raw / bound))


def unbounded(value: Array, bound: float) -> Array:
    """Invert ``bounded``."""
    return bound * namespace(value).arctanh((value / bound).clip(-0.999, 0.999))


def log_mean_exp(values: Array, dim: int) -> Array:
    """Log of the mean of exp(values) along one dimension."""
    return logsumexp(values, dim) - math.log(values.shape[dim])


def one_hot(chosen: Array, n_classes: int, dtype: Any, *, flat: bool = True) -> Array:
    """One-hot encode classes (..., V): (..., V C), or (..., V, C) if not ``flat``."""
    codes = to_dtype(chosen[..., None] == arange(n_classes, like=chosen), dtype)
    return flatten(codes) if flat else codes


def impute_by_factors(
    x: Array,
    observed: Array,
    conditions: Array | None,
    loc: Array,
    loadings: Array,
    precision: Array,
    slopes: Array | None = None,
) -> Array:
    """Replace values that are not observed by their conditional means in a factor model.

    Rows and their mask are (M, B, d), loadings (M, k, d), means and precisions of the residuals
    (M, 1, d). Slopes (M, n_conditions, d) are those of the means in the conditions.
    """
    xp, n_factors = namespace(x), loadings.shape[1]
    if slopes is not None and conditions is not None:
        loc = loc + conditions @ slopes
    precision = observed * precision  # (M, B, d)
    residual = xp.where(observed, x - loc, 0.0) * precision
    products = loadings[:, :, None] * loadings[:, None]  # (M, k, k, d)
    products = products.reshape(len(loadings), n_factors**2, loadings.shape[2])
    information = precision @ products.swapaxes(1, 2)
    information = information.reshape(*precision.shape[:2], n_factors, n_factors)
    information = information + as_type(xp.eye(n_factors), x)
    score = (residual @ loadings.swapaxes(1, 2))[..., None]  # (M, B, k, 1)
    factors = xp.linalg.solve(information, score)[..., 0]
    return xp.where(observed, x, loc + factors @ loadings)
