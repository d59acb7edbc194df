"""Search for the few rows that break an equation of all others, as by a typing error.

Each number is regressed on the others by least trimmed squares [1]_: again and again without the
rows of the largest errors.

References
----------
.. [1] P. J. Rousseeuw, "Least Median of Squares Regression", Journal of the American Statistical
   Association 79, 1984.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from sklearn_vae.data.training_column import TrainingColumn, recording
from sklearn_vae.numerics.rows import small_batches, spread_out

# Rows that may break an equation, as a fraction and in short tables as a number; least number of
# rows, and for each column; and least fraction of the rows that have a column's value.
MAX_BROKEN = 0.005
FEW_BROKEN = 3
MIN_ROWS = 100
ROWS_PER_COLUMN = 5
MIN_KNOWN = 0.9
# Regressions of a column, at most, and the median error of the first one from which on it is the
# only one. Others end as errors are no longer halved.
N_REGRESSIONS = 8
MAX_ERROR = 0.125
# Variance of the penalty of slopes: columns may be collinear.
RIDGE = 1e-9
# Distance from the median, in robust standard deviations, of rows that the first one leaves out.
FAR = 8.0
# Further ones are as far as this: squares of larger numbers would hide those of others.
LARGEST = 1e3
# Largest error of values that keep an equation, in steps: slopes are estimates.
MAX_STEPS = 0.6


@np.errstate(all="ignore")  # of very large numbers, and those without logarithms
def find_broken_rows(X: np.ndarray, columns: list[int]) -> np.ndarray:
    """Find rows that break an equation of numbers, or of their logarithms, that all others keep.

    Rows (n, d), and the indices of the columns that count -> mask (n,).
    """
    is_broken, sample = np.zeros(len(X), dtype=bool), X[spread_out(len(X))]
    for is_log in (False, True):
        for equation in _equations(sample, np.array(columns, dtype=int), is_log):
            for rows in small_batches(X):
                is_broken[rows] |= equation.are_broken(X[rows])
    return is_broken


def _linked(values: np.ndarray, is_log: bool) -> np.ndarray:
    values = values.astype(np.float64)
    return np.log(values) if is_log else values


@dataclass
class _Equation:
    """A number, or its logarithm, that follows from others but for a few rows."""

    column: int  # its index in X
    columns: np.ndarray  # (k,), those of all columns
    width: float  # recording step of the column
    is_log: bool
    slopes: np.ndarray  # (k,), 0 on the column itself and on those that it does not need
    intercept: float

    def are_broken(self, X: np.ndarray) -> np.ndarray:
        """Find rows whose error is larger than that of rounding, none with missing values: (n,)."""
        used = self.slopes != 0  # others may be missing
        sources = _linked(X[:, self.columns[used]], self.is_log)
        predicted = sources @ self.slopes[used] + self.intercept
        y = X[:, self.column].astype(np.float64)
        tolerance = MAX_STEPS * self.width / (y if self.is_log else 1.0)
        return np.abs(_linked(y, self.is_log) - predicted) > tolerance


def _equations(X: np.ndarray, columns: np.ndarray, is_log: bool) -> Iterator[_Equation]:
    """Yield equations of columns that a few rows (n, d) may break."""
    is_known = X[:, columns] > 0 if is_log else ~np.isnan(X[:, columns])
    columns = columns[is_known.mean(axis=0) >= MIN_KNOWN]
    values = _linked(X[:, columns], is_log)
    is_complete = np.isfinite(values).all(axis=1)
    values, complete = values[is_complete], X[is_complete]
    n_rows, n_columns = values.shape
    if n_columns < 2 or n_rows < max(MIN_ROWS, ROWS_PER_COLUMN * n_columns):
        return
    max_broken = max(FEW_BROKEN, int(MAX_BROKEN * n_rows))
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75), axis=0)
    # most values may be equal
    scale = np.where(high > low, (high - low) / 1.35, values.std(axis=0))
    scale[~(np.isfinite(scale) & (scale > 0))] = np.inf  # constant, or too far apart
    Z = np.nan_to_num((values - median) / scale).clip(-LARGEST, LARGEST)
    is_near = (np.abs(Z) < FAR).all(axis=1)
    near = Z[is_near if is_near.sum() > ROWS_PER_COLUMN * n_columns else slice(None)]
    precision = np.linalg.inv(np.cov(near.T) + RIDGE * np.eye(n_columns))
    first_errors = np.abs((Z - near.mean(axis=0)) @ (precision / np.diag(precision)))  # of each
    for k in np.flatnonzero(np.median(first_errors, axis=0) < MAX_ERROR).tolist():
        sources, y = Z.copy(), Z[:, k]
        sources[:, k] = 1  # of the intercept
        kept, needed = _least_trimmed_squares(sources, y, first_errors[:, k], max_broken)
        needed[k] = True
        column = TrainingColumn.of_numbers(X[:, columns[k]].astype(np.float64))
        width = recording(column)[1] or column.width
        make = partial(_Equation, columns[k], columns, width, is_log)
        slopes = _least_squares(sources[kept], y[kept], needed)
        equation = make(*_in_units(slopes, k, median, scale))
        n_broken = equation.are_broken(complete).sum()
        if 0 < n_broken <= max_broken:  # a rare source may tell these rows
            slopes = _least_squares(sources, y, np.ones_like(needed))
            of_all = make(*_in_units(slopes, k, median, scale))
            equation = equation if of_all.are_broken(complete).any() else of_all
        if n_broken <= max_broken:
            yield equation


def _least_squares(sources: np.ndarray, y: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Regress on the sources of a mask; the slopes of others are 0: (n, d), (n,), (d,) -> (d,)."""
    slopes = np.zeros(len(used))
    slopes[used] = np.linalg.lstsq(sources[:, used], y, rcond=None)[0]
    return slopes


def _in_units(
    slopes: np.ndarray, k: int, loc: np.ndarray, scale: np.ndarray
) -> tuple[np.ndarray, float]:
    """Slopes and intercept (the k-th slope) in the columns' units, not in standardized ones."""
    in_units = np.where(np.arange(len(slopes)) == k, 0, slopes) * scale[k] / scale
    return in_units, float(loc[k] + slopes[k] * scale[k] - in_units @ loc)


def _least_trimmed_squares(
    sources: np.ndarray, y: np.ndarray, errors: np.ndarray, n_left_out: int
) -> tuple[np.ndarray, np.ndarray]:
    """Regress without the rows of the largest errors (n,): masks of rows and of needed sources."""
    ridge = RIDGE * len(y) * np.eye(sources.shape[1])
    for _ in range(N_REGRESSIONS):
        last = np.median(errors)
        kept = errors <= np.partition(errors, -n_left_out - 1)[-n_left_out - 1]
        x = sources[kept]
        slopes = np.linalg.solve(x.T @ x + ridge, x.T @ y[kept])
        errors = np.abs(y - sources @ slopes)
        if np.median(errors) > 0.5 * last:
            break
    return kept, np.abs(slopes) * x.std(axis=0) > errors[kept].max()
