"""What the conditions of rows change in their columns, by least squares."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

# Imagined rows in which a condition changes nothing: classes as numbers, one per class, leave
# one of their slopes open, which these close, and move nothing that a table shows.
SILENT_ROWS = 1e-3
CHUNK_ROWS = 4096


@dataclass(frozen=True)
class ConditionRegression:
    r"""A linear regression of columns on conditions, :math:`x = (c - centre) W + rest`.

    Attributes
    ----------
    centre : ndarray of shape (n_conditions,)
        Means of the conditions.
    slopes : ndarray of shape (n_conditions, d)
        W, what each condition adds to each column. The mean of x is in the rest.
    """

    centre: np.ndarray
    slopes: np.ndarray

    @classmethod
    def of(cls, x: Any, weight: np.ndarray | None, n_columns: int) -> Self:
        """Find them in rows (n, n_columns + n_conditions), missing cells of which are NaN.

        Weighted least squares; a column is asked where it is there.
        """
        if x.shape[1] == n_columns:
            return cls(np.zeros(0), np.zeros((0, n_columns)))
        weight = np.ones(len(x)) if weight is None else weight
        centre, total = np.zeros(x.shape[1] - n_columns), weight.sum()
        for rows in _chunks(len(x)):
            centre += weight[rows] @ x[rows][:, n_columns:].astype(np.float64) / total
        n_known = len(centre) + 1  # the conditions, and a one for the mean
        gram = np.zeros((n_columns, n_known, n_known))
        cross = np.zeros((n_columns, n_known))
        for rows in _chunks(len(x)):
            values = x[rows].astype(np.float64)
            known = np.hstack([values[:, n_columns:] - centre, np.ones((len(values), 1))])
            own, counts = values[:, :n_columns], weight[rows, None]
            observed = ~np.isnan(own)
            cross += (np.where(observed, own, 0) * counts).T @ known
            if observed.all():
                gram += (known * counts).T @ known
            else:
                products = (known[:, :, None] * known[:, None, :]).reshape(len(known), -1)
                gram += ((observed * counts).T @ products).reshape(gram.shape)
        diagonal = np.arange(n_known - 1)
        gram[:, diagonal, diagonal] += SILENT_ROWS
        gram[:, -1, -1] += gram[:, -1, -1] == 0  # of a column without a cell
        slopes = np.linalg.solve(gram, cross[..., None])[:, :-1, 0]
        return cls(centre, slopes.T)

    def rest(self, rows: np.ndarray) -> np.ndarray:
        """What they leave of rows: (n, d + n_conditions) -> (n, d)."""
        n_columns = self.slopes.shape[1]
        if len(self.centre) == 0:
            return rows
        explained = (rows[:, n_columns:] - self.centre) @ self.slopes
        return rows[:, :n_columns] - explained.astype(rows.dtype)


class Residuals:
    """What conditions leave of the rows of a table, an array that is read a chunk at a time.

    Parameters
    ----------
    rows : array of shape (n, d + n_conditions)
        The rows, or what can be read as they can.
    effects : ConditionRegression
        What the conditions change.
    """

    def __init__(self, rows: Any, effects: ConditionRegression):
        self.rows, self.effects = rows, effects
        self.shape = (len(rows), effects.slopes.shape[1])
        self.dtype = rows.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, own: Any) -> np.ndarray:
        return self.effects.rest(self.rows[own])


def _chunks(n_rows: int) -> list[slice]:
    return [slice(first, first + CHUNK_ROWS) for first in range(0, n_rows, CHUNK_ROWS)]
