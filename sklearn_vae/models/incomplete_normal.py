"""Normal distributions of rows with missing values: marginals and conditional means."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sklearn_vae.device import widest_dtype


class MissingBlock(NamedTuple):
    """The missing values of normal rows given the observed ones, whose precision is a small block.

    Attributes
    ----------
    columns : Tensor of shape (..., M)
        Columns of the missing values; observed ones where a row has fewer than M.
    root : Tensor of shape (..., d, M)
        Columns of the root of the precision, 0 where values are observed.
    lower : Tensor of shape (..., M, M)
        Cholesky factor of the precision, of the identity where values are observed.
    """

    columns: Tensor
    root: Tensor
    lower: Tensor

    @classmethod
    def of(cls, root: Tensor, observed: Tensor, left: Tensor | None) -> "MissingBlock":
        """Make it of roots of precisions (..., d, d) and masks of observed values (..., d).

        A factor ``left`` (..., d, d) multiplies the roots from the left.
        """
        columns, is_padding = missing_columns(observed)
        columns = columns.expand(*root.shape[:-2], -1)
        of_missing = root.gather(-1, columns.unsqueeze(-2).expand(*root.shape[:-1], -1))
        of_missing = of_missing if left is None else left @ of_missing
        of_missing = of_missing.masked_fill(is_padding.unsqueeze(-2), 0)
        of_missing = of_missing.to(widest_dtype(root.device))  # precisions are squares
        precision = of_missing.mT @ of_missing + torch.diag_embed(is_padding.to(of_missing))
        return cls(columns, of_missing, cholesky(precision))

    def solve(self, standard: Tensor) -> Tensor:
        """Least squares of the root's columns: (..., d) -> (..., M)."""
        gradient = self.root.mT @ standard.to(self.root).unsqueeze(-1)
        return torch.cholesky_solve(gradient, self.lower).squeeze(-1)


def missing_columns(observed: Tensor) -> tuple[Tensor, Tensor]:
    """Columns of the missing values of rows with these masks of observed values.

    Masks (..., d) -> indices (..., M), where M is the largest number of missing values, and
    whether each is padding: an observed column of a row with fewer, (..., M).
    """
    n_missing = int((~observed).sum(-1).max()) if len(observed) else 0
    columns = observed.to(torch.uint8).argsort(dim=-1, stable=True)[..., :n_missing]
    return columns, observed.gather(-1, columns)


def conditional_step(root: Tensor, residual: Tensor, observed: Tensor, left: Tensor) -> Tensor:
    """Change of the missing values of normal rows by the residuals of their observed values.

    Root of the precision (..., d, d) and its factor on the left, residuals (..., d), zeros where
    values are missing, and mask of observed values (..., d) -> (..., d), zeros where values are
    observed.
    """
    block = MissingBlock.of(root, observed, left)
    change = block.solve((left @ (root @ residual.unsqueeze(-1))).squeeze(-1))
    return torch.zeros_like(residual).scatter_add(-1, block.columns, -change.to(residual))


def marginal_of_normal(
    root: Tensor, standard: Tensor, observed: Tensor, left: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Standardise the observed values of normal rows, the other values integrated out.

    The density of all values is divided by that of the missing ones given the others. The root of
    the precision (..., d, d) is lower triangular, and so is a factor that multiplies it from the
    left. Rows (..., d) are standardised by it, with any values where some are missing.

    Return residuals (..., d) of the rows from the missing values that fit them best, and
    logarithms of scales (..., d): minus half of the sum of squares and minus the sum are the
    log-density, but for a constant.
    """
    block = MissingBlock.of(root, observed, left)
    residual = standard - (block.root @ block.solve(standard).unsqueeze(-1)).squeeze(-1)
    log_scale = -root.diagonal(dim1=-2, dim2=-1).log()
    if left is not None:
        log_scale = log_scale - left.diagonal(dim1=-2, dim2=-1).log()
    of_missing = block.lower.diagonal(dim1=-2, dim2=-1).log().to(log_scale)
    return residual.to(standard), log_scale.scatter_add(-1, block.columns, of_missing)


def cholesky(covariance: Tensor) -> Tensor:
    """Lower triangular roots (..., d, d), NaN where a matrix is not positive definite."""
    lower, failed = torch.linalg.cholesky_ex(covariance)
    return lower.masked_fill((failed > 0)[..., None, None], math.nan)
