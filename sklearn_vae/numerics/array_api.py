"""Functions of PyTorch's tensors and of numpy's arrays, for code that computes with either.

Most functions have one name in both libraries. Files of such code do not import PyTorch.
"""

import math
import sys
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
# A tensor of PyTorch, or an array of numpy.
Array = Any


def namespace(x: Array) -> Any:
    """Return the library of an array, without an import."""
    return np if isinstance(x, np.ndarray) else sys.modules["torch"]


def arange(n: int, like: Array) -> Array:
    """Return integers from 0, on the device of another array: (n,)."""
    if isinstance(like, np.ndarray):
        return np.arange(n)
    return namespace(like).arange(n, device=like.device)


def as_type(x: Array, like: Any) -> Array:
    """Convert an array to dtype and device of another one, or to a dtype of its library."""
    if not isinstance(x, np.ndarray):
        return x.to(like)
    return x.astype(like.dtype if isinstance(like, np.ndarray) else like, copy=False)


def take(x: Array, indices: Array, axis: int) -> Array:
    """Index-select along an axis, by indices of the array's library or of numpy."""
    if isinstance(x, np.ndarray):
        return np.take(x, indices, axis)
    indices = namespace(x).as_tensor(indices, device=x.device)
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


def unflatten(x: Array, size: int) -> Array:
    """Split the last axis into two: (..., n * size) -> (..., n, size)."""
    return x.reshape(*x.shape[:-1], x.shape[-1] // size, size)


def flatten(x: Array) -> Array:
    """Join the last two axes: (..., n, size) -> (..., n * size)."""
    # no -1: an array of no rows has no shape that follows from the others
    return x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])


def pad(x: Array, before: int, after: int) -> Array:
    """Add zeros along the last axis: (..., n) -> (..., before + n + after)."""
    if not isinstance(x, np.ndarray):
        return namespace(x).nn.functional.pad(x, (before, after))
    padded = np.zeros((*x.shape[:-1], before + x.shape[-1] + after), x.dtype)
    padded[..., before : before + x.shape[-1]] = x
    return padded


def argsort(x: Array, axis: int) -> Array:
    """Indices in ascending order, of ties the first one first."""
    if isinstance(x, np.ndarray):
        return np.argsort(x, axis, kind="stable")
    return x.argsort(dim=axis, stable=True)


def logsumexp(x: Array, axis: int) -> Array:
    """Log of a sum of exponentials along an axis; -inf where all terms are."""
    if x.shape[axis] == 1:
        return x.squeeze(axis)
    if not isinstance(x, np.ndarray):
        return x.logsumexp(axis)
    axes = [*range(x.ndim)]
    x = np.ascontiguousarray(x.transpose(axes.pop(axis), *axes))  # short last axes are slow
    # not -inf, whose difference from itself is NaN
    highest = np.maximum(np.maximum.reduce(x), np.finfo(x.dtype).min)
    terms = x - highest
    with np.errstate(divide="ignore"):
        value = np.log(np.add.reduce(np.exp(terms, out=terms)))
    value += highest
    return value


def softmax(x: Array, axis: int) -> Array:
    """Exponentials along an axis, divided by their sum."""
    if not isinstance(x, np.ndarray):
        return x.softmax(axis)
    return np.exp(x - np.expand_dims(logsumexp(x, axis), axis))


def log_softmax(x: Array) -> Array:
    """Log-probabilities of logits along the last axis."""
    return x - logsumexp(x, -1)[..., None] if isinstance(x, np.ndarray) else x.log_softmax(-1)


def exp(x: Array) -> Array:
    """Exponential function, which numpy has in single precision: five times as fast."""
    if not isinstance(x, np.ndarray):
        return x.exp()
    return np.exp(x, dtype=np.float32, casting="same_kind")


def sigmoid(x: Array) -> Array:
    """Logistic function."""
    if not isinstance(x, np.ndarray):
        return x.sigmoid()
    with np.errstate(over="ignore"):
        value = np.exp(-x)
    value += 1
    return np.reciprocal(value, out=value)


def softplus(x: Array) -> Array:
    """Compute log(1 + exp(x))."""
    if isinstance(x, np.ndarray):
        return np.logaddexp(0, x)
    return namespace(x).nn.functional.softplus(x)


def silu(x: Array) -> Array:
    """Compute x times its logistic function."""
    if not isinstance(x, np.ndarray):
        return namespace(x).nn.functional.silu(x)
    with np.errstate(over="ignore"):
        value = exp(-x)
    value += 1
    return x / value


def lgamma(x: Array) -> Array:
    """Logarithm of the gamma function."""
    if not isinstance(x, np.ndarray):
        return x.lgamma()
    from scipy.special import gammaln

    return gammaln(x)


def as_array(x: np.ndarray, like: Array) -> Array:
    """Convert an array of numpy to the library, and the device, of another one."""
    return x if isinstance(like, np.ndarray) else namespace(like).as_tensor(x, device=like.device)


def zeros(shape: tuple[int, ...], like: Array) -> Array:
    """Return an array of zeros, with dtype and device of another one."""
    return np.zeros(shape, like.dtype) if isinstance(like, np.ndarray) else like.new_zeros(shape)


def in_double(x: Array) -> Array:
    """Convert to double precision, or to the widest type of the device: Apple's GPUs have none."""
    if isinstance(x, np.ndarray):
        return x.astype(np.float64, copy=False)
    return x.float() if x.device.type == "mps" else x.double()


def affine(bias: Array, weight: Array, x: Array) -> Array:
    """Add products of matrices: (M, n, N or 1), (M, n, m), (M, m, N) -> (M, n, N)."""
    if not isinstance(x, np.ndarray):
        return namespace(x).baddbmm(bias, weight, x)
    out = weight @ x
    out += bias
    return out


def scatter(values: Array, columns: Array, n: int) -> Array:
    """Scatter values to columns of rows of n zeros: (..., M), (..., M) -> (..., n)."""
    if isinstance(values, np.ndarray):
        row = np.zeros((*values.shape[:-1], n), values.dtype)
        np.put_along_axis(row, columns, values, -1)
        return row
    return values.new_zeros(*values.shape[:-1], n).scatter(-1, columns, values)


def diagonal_matrix(diagonal: Array) -> Array:
    """Return matrices with these diagonals: (..., d) -> (..., d, d)."""
    if isinstance(diagonal, np.ndarray):
        return diagonal[..., None] * np.eye(diagonal.shape[-1])
    return namespace(diagonal).diag_embed(diagonal)


def cholesky(matrices: Array) -> Array:
    """Lower triangular roots (..., l, l), NaN where a matrix is not positive definite."""
    if not isinstance(matrices, np.ndarray):
        lower, failed = namespace(matrices).linalg.cholesky_ex(matrices)
        return lower.masked_fill((failed > 0)[..., None, None], math.nan)
    try:
        return np.linalg.cholesky(matrices)
    except np.linalg.LinAlgError:
        if matrices.ndim == 2:
            return np.full_like(matrices, np.nan)
        return np.stack([cholesky(matrix) for matrix in matrices])


def cholesky_solve(lower: Array, x: Array) -> Array:
    """Solve systems of matrices with these roots: (..., d, d), (..., d) -> (..., d)."""
    if isinstance(x, np.ndarray):  # the roots are never singular, as their squares may be
        forward = np.linalg.solve(lower, x[..., None])
        return np.linalg.solve(lower.swapaxes(-1, -2), forward)[..., 0]
    return namespace(x).cholesky_solve(x[..., None], lower)[..., 0]


def solve_lower(root: Array, x: Array) -> Array:
    """Solve lower triangular or diagonal systems: (..., d, d) or (..., d), (..., d) -> (..., d)."""
    if root.ndim == x.ndim:
        return x / root
    if isinstance(x, np.ndarray):
        return np.linalg.solve(root, x[..., None])[..., 0]
    return namespace(x).linalg.solve_triangular(root, x[..., None], upper=False)[..., 0]


def bounded(raw: Array, bound: float) -> Array:
    """Map raw numbers into (-bound, bound), by tanh."""
    # tanh(a) = 2 sigmoid(2 a) - 1: tanh of both libraries takes up to three times as long
    return 2 * bound * sigmoid(raw * (2 / bound)) - bound


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


def one_hot(chosen: Array, n_classes: int, dtype: Any) -> Array:
    """One-hot encode classes: (...) -> (..., C)."""
    return as_type(chosen[..., None] == arange(n_classes, like=chosen), dtype)


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
