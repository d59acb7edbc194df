"""Normal distributions of rows with missing values: marginals and conditional means."""

from typing import NamedTuple

from sklearn_vae.numerics import array_api as ops
from sklearn_vae.numerics.array_api import Array, namespace


class MissingBlock(NamedTuple):
    """Missing values of normal rows given the observed ones, whose precision is a small block."""

    columns: Array  # (..., M), of the missing values; observed ones where a row has fewer than M
    root: Array  # (..., d, M), columns of the root of the precision, 0 where values are observed
    # (..., M, M), Cholesky factor of the precision, of the identity where values are observed
    lower: Array

    @classmethod
    def of(cls, root: Array, observed: Array, left: Array | None) -> "MissingBlock":
        """Make it of roots of precisions (..., d, d) and masks of observed values (..., d).

        A factor ``left`` (..., d, d) multiplies the roots from the left.
        """
        xp, (columns, is_padding) = namespace(root), missing_columns(observed)
        columns = xp.broadcast_to(columns, (*root.shape[:-2], columns.shape[-1]))
        shape = *root.shape[:-1], columns.shape[-1]
        of_missing = ops.take_along(root, xp.broadcast_to(columns[..., None, :], shape), -1)
        of_missing = of_missing if left is None else left @ of_missing
        of_missing = xp.where(is_padding[..., None, :], 0.0, of_missing)
        of_missing = ops.in_double(of_missing)  # precisions are squares
        padding = ops.diagonal_matrix(ops.in_double(is_padding))
        precision = of_missing.swapaxes(-1, -2) @ of_missing + padding
        return cls(columns, of_missing, ops.cholesky(precision))

    def solve(self, standard: Array) -> Array:
        """Least squares of the root's columns: (..., d) -> (..., M)."""
        gradient = self.root.swapaxes(-1, -2) @ ops.in_double(standard)[..., None]
        return ops.cholesky_solve(self.lower, gradient[..., 0])


def missing_columns(observed: Array) -> tuple[Array, Array]:
    """Find missing values of masks (..., d): columns (..., M), for the largest number M of a row.

    Also return whether each is padding: an observed column of a row with fewer, (..., M).
    """
    n_missing = int((~observed).sum(-1).max()) if len(observed) else 0
    columns = ops.argsort(namespace(observed).where(observed, 1, 0), -1)[..., :n_missing]
    return columns, ops.take_along(observed, columns, -1)


def conditional_step(root: Array, residual: Array, observed: Array, left: Array) -> Array:
    """Change of the missing values of normal rows by the residuals of their observed values.

    Root of the precision and its factor on the left (..., d, d), residuals (..., d), zeros where
    values are missing, and mask of observed values (..., d) -> (..., d), zeros where these are.
    """
    block = MissingBlock.of(root, observed, left)
    change = block.solve((left @ (root @ residual[..., None]))[..., 0])
    return ops.as_type(ops.scatter(-change, block.columns, observed.shape[-1]), residual)


def marginal_of_normal(
    root: Array, standard: Array, observed: Array, left: Array | None = None
) -> tuple[Array, Array]:
    """Standardize the observed values of normal rows, the other values integrated out.

    The density of all values is divided by that of the missing ones given the others. The root of
    the precision (..., d, d) and its factor on the left are lower triangular, and have standardized
    the rows (..., d), with any values where some are missing. Return residuals (..., d) from the
    missing values that fit best, and logarithms of scales (..., d): minus half of the sum of
    squares and minus the sum are the log-density, but for a constant.
    """
    xp, block = namespace(root), MissingBlock.of(root, observed, left)
    residual = standard - (block.root @ block.solve(standard)[..., None])[..., 0]
    log_scale = -xp.log(root.diagonal(0, -2, -1))
    if left is not None:
        log_scale = log_scale - xp.log(left.diagonal(0, -2, -1))
    of_missing = ops.scatter(
        xp.log(block.lower.diagonal(0, -2, -1)), block.columns, observed.shape[-1]
    )
    return ops.as_type(residual, standard), log_scale + ops.as_type(of_missing, log_scale)
