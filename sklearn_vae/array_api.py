"""Functions of PyTorch's tensors and of numpy's arrays, for code that the numpy runtime shares.

Most functions that these need have the same name and arguments in both libraries.
"""

import sys
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

# A tensor of PyTorch, or an array of numpy.
Array = Any

# In place of -inf, whose difference from itself is NaN.
LOWEST = np.finfo(np.float64).min


def namespace(x: Array) -> Any:
    """Return the library of an array; the numpy runtime does not import PyTorch."""
    return np if isinstance(x, np.ndarray) else sys.modules["torch"]


def arange(n: int, like: Array) -> Array:
    """Return integers from 0, on the device of another array: (n,)."""
    if isinstance(like, np.ndarray):
        return np.arange(n)
    return namespace(like).arange(n, device=like.device)


def as_type(x: Array, like: Array) -> Array:
    """Convert an array to dtype and device of another one."""
    return x.astype(like.dtype, copy=False) if isinstance(x, np.ndarray) else x.to(like)


def take(x: Array, indices: Array, axis: int) -> Array:
    """Index-select along an axis."""
    if isinstance(x, np.ndarray):
        return np.take(x, indices, axis)
    return x.index_select(axis, indices)  # faster than indexing


def take_along(x: Array, indices: Array, axis: int) -> Array:
    """Index-select along an axis, by indices for each place on the other axes."""
    if isinstance(x, np.ndarray):
        return np.take_along_axis(x, indices, axis)
    return x.take_along_dim(indices, axis)


def concatenate(parts: Iterable[Array], axis: int = -1) -> Array:
    """Join arrays along an axis."""
    parts = list(parts)
    return namespace(parts[0]).concatenate(parts, axis)


def split(x: Array, sizes: Sequence[int]) -> Sequence[Array]:
    """Split along the last axis into parts of these sizes."""
    if not isinstance(x, np.ndarray):
        return x.split(sizes, dim=-1)
    return [x[..., first:last] for first, last in pairwise(accumulate(sizes, initial=0))]


def argsort(x: Array, axis: int) -> Array:
    """Indices in ascending order, of ties the first one first."""
    if isinstance(x, np.ndarray):
        return np.argsort(x, axis, kind="stable")
    return x.argsort(dim=axis, stable=True)


def logsumexp(x: Array, axis: int) -> Array:
    """Log of a sum of exponentials along an axis; -inf where all terms are."""
    if not isinstance(x, np.ndarray):
        return x.logsumexp(axis)
    axes = [*range(x.ndim)]
    x = np.ascontiguousarray(x.transpose(axes.pop(axis), *axes))  # short last axes are slow
    highest = np.maximum(np.maximum.reduce(x), LOWEST)
    with np.errstate(divide="ignore"):
        value = np.log(np.add.reduce(np.exp(x - highest)))
    value += highest
    return value


def softmax(x: Array, axis: int) -> Array:
    """Exponentials along an axis, divided by their sum."""
    if not isinstance(x, np.ndarray):
        return x.softmax(axis)
    return np.exp(x - np.expand_dims(logsumexp(x, axis), axis))
