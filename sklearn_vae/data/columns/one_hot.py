"""One-hot encoding: values compared with the categories or point masses of their columns."""

import numpy as np


def one_hot(X: np.ndarray, categories: np.ndarray, dtype: type = bool) -> np.ndarray:
    """One-hot encode values, compared in the coarser of the two dtypes: (n, k) -> (n, k, C)."""
    X, categories = in_coarser_dtype(X, categories)
    encoded = np.empty((*X.shape, categories.shape[1]), dtype)
    if len(X) < categories.shape[1]:
        return np.equal(X[..., None], categories, out=encoded)
    for c, category in enumerate(categories.T):  # a short last axis is slow
        encoded[..., c] = category == X
    return encoded


def is_category(X: np.ndarray, categories: np.ndarray) -> np.ndarray:
    """Find values that are categories: (n, k) -> (n, k)."""
    X, categories = in_coarser_dtype(X, categories)
    if len(X) < categories.shape[1]:
        return (X[..., None] == categories).any(axis=-1)
    mask = np.zeros(X.shape, dtype=bool)
    for category in categories.T:
        mask |= category == X
    return mask


def take_categories(categories: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Look up categories (k, C) by their codes: (n, k) -> (n, k), in double precision."""
    return categories.astype(np.float64)[np.arange(len(categories)), codes]


def check_order(name: str, values: np.ndarray) -> None:
    """Refuse categories or point masses (k, C) that are not in order."""
    if not (np.diff(values) > 0).all():
        raise ValueError(f"{name!r} must be in order")


def join(values: np.ndarray) -> str:
    """Join values with commas."""
    return ", ".join(map(str, values.tolist()))


def in_coarser_dtype(X: np.ndarray, categories: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Convert values and categories to the dtype of the one that has fewer digits."""
    dtype = min(X.dtype, categories.dtype, key=lambda dtype: dtype.itemsize)
    return X.astype(dtype, copy=False), categories.astype(dtype, copy=False)
