"""Linear regression of columns on conditions."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from sklearn_vae.numerics.row_subsets import batches

# Ridge penalty on the coefficients, in pseudo-observations: one-hot encoded classes without a
# reference class are collinear, which leaves one coefficient undetermined.
RIDGE = 1e-3
CHUNK_ROWS = 4096


@dataclass(frozen=True)
class ConditionRegression:
    r"""Linear regression :math:`x = (c - \bar{c}) W + \text{residual}` of columns on conditions."""

    mean: np.ndarray  # (n_conditions,): means of the conditions
    coef: np.ndarray  # (n_conditions, d): coefficients W; the residuals include the mean of x

    @classmethod
    def fit(cls, x: np.ndarray, weight: np.ndarray | None, n_columns: int) -> Self:
        """Fit by weighted ridge regression, for each column on the rows that have it.

        Rows x are ``n_columns`` columns, with missing cells as NaN, and then the conditions.
        """
        weight = np.ones(len(x)) if weight is None else weight
        mean, total = np.zeros(x.shape[1] - n_columns), weight.sum()
        for rows in batches(len(x), CHUNK_ROWS):
            mean += weight[rows] @ x[rows][:, n_columns:].astype(np.float64) / total
        n_features = len(mean) + 1  # the conditions, and a one for the intercept
        gram = np.zeros((n_columns, n_features, n_features))
        cross = np.zeros((n_columns, n_features))
        for rows in batches(len(x), CHUNK_ROWS):
            chunk, chunk_weight = x[rows].astype(np.float64), weight[rows, None]
            columns = chunk[:, :n_columns]
            features = np.hstack([chunk[:, n_columns:] - mean, np.ones((len(chunk), 1))])
            observed = ~np.isnan(columns)
            cross += (np.where(observed, columns, 0) * chunk_weight).T @ features
            products = (features[:, :, None] * features[:, None, :]).reshape(len(chunk), -1)
            gram += ((observed * chunk_weight).T @ products).reshape(gram.shape)
        diagonal = np.arange(n_features - 1)
        gram[:, diagonal, diagonal] += RIDGE
        gram[:, -1, -1] += gram[:, -1, -1] == 0  # columns without an observed cell
        coef = np.linalg.solve(gram, cross[..., None])[:, :-1, 0]
        return cls(mean, coef.T)

    def residuals(self, rows: np.ndarray) -> np.ndarray:
        """Return the residuals of rows: (n, d + n_conditions) -> (n, d)."""
        n_columns = self.coef.shape[1]
        explained = (rows[:, n_columns:] - self.mean) @ self.coef
        return rows[:, :n_columns] - explained.astype(rows.dtype)
