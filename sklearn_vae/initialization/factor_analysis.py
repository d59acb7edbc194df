"""Rows with missing cells: the linear model that they show, and what it puts in the holes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from sklearn_vae.initialization.ppca import (
    LinearGaussian,
    pseudo_observation_scale,
    recording_steps,
)
from sklearn_vae.initialization.regression import ConditionRegression

# Factors at the most, and rows for each at the least.
MOST_FACTORS = 20
ROWS_PER_FACTOR = 5
N_STEPS = 30
# Imagined rows: so many in which the factors say nothing of a column, and so many whose
# residual is all that the column varies.
SILENT_ROWS = 1.0
LOOSE_ROWS = 0.1
# A residual's variance, as a share of the column's, is at least this.
SMALLEST_SHARE = 1e-4
# Numbers that the steps look at, and rows at the least; rows at a time.
MOST_NUMBERS = 1 << 20
FEWEST_ROWS = 2048
CHUNK_ROWS = 2048


@dataclass(frozen=True)
class FactorModel:
    r"""Factor analysis of a table with holes, by maximum likelihood.

    A row is :math:`loc + z L + \epsilon` with standard normal z and independent residuals;
    what is missing is integrated out, row by row, so nothing has to be filled in first.

    Attributes
    ----------
    loc, residual : ndarray of shape (d,)
        Means, and standard deviations of the residuals.
    loadings : ndarray of shape (k, d)
        What each factor gives to each column.
    steps : ndarray of shape (d,)
        Recording steps of the columns.
    effects : ConditionRegression or None
        What conditions change, where rows have any; the model is of what is left then.

    References
    ----------
    .. [1] Z. Ghahramani and M. I. Jordan, "Supervised Learning from Incomplete Data via an
       EM Approach", NeurIPS 1993.
    .. [2] C. Liu, D. B. Rubin and Y. N. Wu, "Parameter Expansion to Accelerate EM",
       Biometrika 85, 1998.
    """

    loc: np.ndarray
    loadings: np.ndarray
    residual: np.ndarray
    steps: np.ndarray
    effects: ConditionRegression | None = None

    @classmethod
    def of(cls, x: np.ndarray, weight: np.ndarray | None, n_factors: int) -> Self:
        """Fit so many factors to rows (n, d), missing cells of which are NaN."""
        rows = _some_rows(x)
        weight = np.ones(len(x)) if weight is None else weight
        x_seen, counts = x[rows].astype(np.float64), weight[rows]
        loc, variance = _moments(x_seen, counts)
        loadings, noise = _first_factors(x_seen, counts, loc, variance, n_factors)
        for _ in range(N_STEPS):
            loc, loadings, noise = _step(x_seen, counts, loc, loadings, noise, variance)
        return cls(loc, loadings, np.sqrt(noise), recording_steps(x))

    def start(self, n_components: int, prior_rows: float = 0.0) -> LinearGaussian:
        """Give the model of the factors that say most, and its posterior given whole rows."""
        precision = 1 / np.square(self.residual)
        told, turn = np.linalg.eigh((self.loadings * precision) @ self.loadings.T)
        kept = np.argsort(-told)[: min(n_components, len(told))]
        turned = turn.T @ self.loadings  # independent given a whole row
        loadings, told = turned[kept], np.maximum(told[kept], 0)
        dropped = np.square(turned).sum(axis=0) - np.square(loadings).sum(axis=0)
        variance = np.square(self.residual) + np.maximum(dropped, 0)
        start = LinearGaussian(
            loc=self.loc,
            loadings=loadings,
            residual=np.sqrt(variance),
            pseudo_observation_scale=pseudo_observation_scale(variance, self.steps, prior_rows),
            posterior_weights=(loadings * precision).T / (1 + told),
            posterior_scale=1 / np.sqrt(1 + told),
            imputation=(self.loc, self.loadings, precision),
            effects=self.effects,
        )
        if self.effects is not None:
            moved = self.effects.slopes
            loc = self.loc - self.effects.centre @ moved
            start = replace(start, imputation=(loc, self.loadings, precision, moved))
        return start.padded(n_components)


def n_imputation_factors(n_rows: int, n_columns: int) -> int:
    """How many factors to fill holes with; none, where all columns are constant."""
    if n_columns == 0:
        return 0
    return max(min(MOST_FACTORS, n_columns - 1, n_rows // ROWS_PER_FACTOR), 1)


class ImputationLayer(nn.Module):
    """Puts conditional means of a linear model in the holes of rows, with a member axis.

    Parameters
    ----------
    n_members, n_factors, n_columns : int
        Shapes.
    n_conditions : int, default=0
        Numbers that are given with a row, by which the means move.
    """

    loc: Tensor
    loadings: Tensor
    precision: Tensor

    def __init__(self, n_members: int, n_factors: int, n_columns: int, n_conditions: int = 0):
        super().__init__()
        self.register_buffer("loc", torch.zeros(n_members, 1, n_columns))
        self.register_buffer("loadings", torch.zeros(n_members, n_factors, n_columns))
        self.register_buffer("precision", torch.zeros(n_members, 1, n_columns))
        slopes = torch.zeros(n_members, n_conditions, n_columns) if n_conditions else None
        self.slopes: Tensor | None
        self.register_buffer("slopes", slopes)

    def forward(self, x: Tensor, observed: Tensor, given: Tensor | None = None) -> Tensor:
        """Fill rows (M, B, d), of which ``observed`` says what is there, given (M, B, n)."""
        loc = self.loc
        if self.slopes is not None and given is not None:
            loc = loc + given @ self.slopes
        n_factors = self.loadings.shape[1]
        known = observed * self.precision  # (M, B, d)
        residual = torch.where(observed, x - loc, 0) * known
        squares = (self.loadings.unsqueeze(2) * self.loadings.unsqueeze(1)).flatten(1, 2)
        information = (known @ squares.mT).unflatten(-1, (n_factors, n_factors))  # (M, B, k, k)
        information.diagonal(dim1=-2, dim2=-1).add_(1)
        told = (residual @ self.loadings.mT).unsqueeze(-1)  # (M, B, k, 1)
        try:
            z = torch.linalg.solve(information, told).squeeze(-1)
        except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
            # no fit gives such weights, but a forged file may
            raise ValueError("the imputation layer's information matrix is singular") from error
        return torch.where(observed, x, loc + z @ self.loadings)

    @torch.no_grad()
    def start_at(self, member: int, imputation: tuple[np.ndarray, ...]) -> None:
        """Take one member's linear model."""
        parts = [self.loc, self.loadings, self.precision]
        parts += [] if self.slopes is None else [self.slopes]
        for own, value in zip(parts, imputation, strict=True):
            own[member] = torch.as_tensor(value)


def _some_rows(x: np.ndarray) -> np.ndarray:
    """Numbers of rows, evenly spread over the table where it is long."""
    most = max(MOST_NUMBERS // max(x.shape[1], 1), FEWEST_ROWS)
    return np.unique(np.linspace(0, len(x) - 1, min(len(x), most)).astype(int))


def _moments(x: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and variances of the cells that are there; 0 and 1 where there are none."""
    observed = ~np.isnan(x)
    total = np.maximum(weight @ observed, np.finfo(np.float64).tiny)
    loc = weight @ np.where(observed, x, 0) / total
    variance = weight @ np.where(observed, np.square(x - loc), 0) / total
    return loc, np.where(variance > 0, variance, 1.0)


def _first_factors(
    x: np.ndarray, weight: np.ndarray, loc: np.ndarray, variance: np.ndarray, n_factors: int
) -> tuple[np.ndarray, np.ndarray]:
    """Loadings and residual variances by correlations of the pairs of cells that are there."""
    observed = ~np.isnan(x)
    standard = np.where(observed, (x - loc) / np.sqrt(variance), 0)
    root = np.sqrt(weight)[:, None]
    together = np.maximum((observed * root).T @ (observed * root), 1e-9)
    correlation = ((standard * root).T @ (standard * root)) / together
    values, axes = np.linalg.eigh(correlation)
    values, axes = values[::-1][:n_factors], axes[:, ::-1][:, :n_factors]
    left = max(1 - np.maximum(values, 0).sum() / len(loc), 0.05)
    loadings = (axes * np.sqrt(np.maximum(values - left, 0.05))).T * np.sqrt(variance)
    return loadings, left * variance


def _step(
    x: np.ndarray,
    weight: np.ndarray,
    loc: np.ndarray,
    loadings: np.ndarray,
    noise: np.ndarray,
    variance: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Do one step of expectation-maximisation: means, loadings and residual variances."""
    n_factors, n_columns = loadings.shape
    n_known = n_factors + 1  # the factors, and a one for the mean
    gram = np.zeros((n_columns, n_known**2))
    cross = np.zeros((n_columns, n_known))
    squares, counts, code = np.zeros(n_columns), np.zeros(n_columns), np.zeros(n_known**2)
    for z, spread, rows in _codes(x, loc, loadings, noise):
        known = np.hstack([z, np.ones((len(z), 1))])
        products = known[:, :, None] * known[:, None, :]
        products[:, :n_factors, :n_factors] += spread
        products = products.reshape(len(z), -1)
        observed = ~np.isnan(x[rows])
        own = np.where(observed, x[rows], 0) * weight[rows, None]
        gram += (observed * weight[rows, None]).T @ products
        cross += own.T @ known
        squares += (own * np.where(observed, x[rows], 0)).sum(axis=0)
        counts += weight[rows] @ observed
        code += weight[rows] @ products
    gram = gram.reshape(n_columns, n_known, n_known)
    diagonal = np.arange(n_factors)
    gram[:, diagonal, diagonal] += SILENT_ROWS
    gram[:, -1, -1] += np.finfo(np.float64).tiny + (counts == 0)
    slopes = np.linalg.solve(gram, cross[..., None])[..., 0]  # (d, k + 1)
    left = squares - (slopes * cross).sum(axis=1) + LOOSE_ROWS * variance
    noise = np.maximum(left / (counts + LOOSE_ROWS), SMALLEST_SHARE * variance)
    # the factors' own mean and covariance, moved into the loadings: far fewer steps
    code = code.reshape(n_known, n_known) / code[-1]
    mean = code[-1, :-1]
    root = np.linalg.cholesky(code[:-1, :-1] - np.outer(mean, mean))
    loadings = slopes[:, :-1].T
    return slopes[:, -1] + mean @ loadings, root.T @ loadings, noise


def _codes(
    x: np.ndarray, loc: np.ndarray, loadings: np.ndarray, noise: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, slice]]:
    """Yield means (n, k) and covariances (n, k, k) of the factors given some rows."""
    n_factors = len(loadings)
    squares = (loadings[:, None] * loadings[None]).reshape(n_factors**2, -1)
    for first in range(0, len(x), CHUNK_ROWS):
        rows = slice(first, first + CHUNK_ROWS)
        known = ~np.isnan(x[rows]) / noise
        information = (known @ squares.T).reshape(-1, n_factors, n_factors) + np.eye(n_factors)
        spread = np.linalg.inv(information)
        told = np.where(known > 0, x[rows] - loc, 0) * known @ loadings.T
        yield (spread @ told[..., None])[..., 0], spread, rows
