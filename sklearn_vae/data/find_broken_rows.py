"""Search for the few rows that break an equation of all others, as by a typing error.

Each number is regressed on the others by least trimmed squares [1]_: again and again without the
rows of the largest errors.

References
----------
.. [1] P. J. Rousseeuw, "Least Median of Squares Regression", Journal of the American Statistical
   Association 79, 1984.
"""

from collections.abc import Iterator

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
# Largest rounding error, in steps: slopes are estimates.
MAX_ROUNDING = 0.6
# Relative width of values that agree and have no steps: sums in single precision are so exact.
RELATIVE_WIDTH = 2.0**-18


@np.errstate(all="ignore")  # of very large numbers, and those without logarithms
def find_broken_rows(X: np.ndarray, columns: list[int]) -> np.ndarray:
    """Find rows that break an equation of numbers, or of their logarithms, that all others keep.

    Rows (n, d), and the indices of the columns that count -> mask (n,).
    """
    is_broken, indices = np.zeros(len(X), dtype=bool), np.array(columns, dtype=int)
    sample = X[spread_out(len(X))][:, indices].astype(np.float64)
    for is_log, counts in ((False, ~np.isnan(sample)), (True, sample > 0)):
        chosen = counts.mean(axis=0) >= MIN_KNOWN
        widths = np.array([_width(column) for column in sample[:, chosen].T])
        for k, slopes, intercept in _equations(sample[:, chosen], widths, is_log):
            sources = indices[chosen][slopes != 0]  # others may be missing
            for rows in small_batches(X):
                x, y = (X[rows][:, at].astype(np.float64) for at in (sources, indices[chosen][k]))
                predicted = _linked(x, is_log) @ slopes[slopes != 0] + intercept
                is_broken[rows] |= _are_apart(y, predicted, widths[k], is_log)
    return is_broken


def _width(values: np.ndarray) -> float:
    """Return the recording step of values, or the rounding error of the largest."""
    column = TrainingColumn.of_numbers(values)
    return recording(column)[1] or RELATIVE_WIDTH * float(np.abs(column.values).max())


def _linked(values: np.ndarray, is_log: bool) -> np.ndarray:
    return np.log(values) if is_log else values


def _are_apart(y: np.ndarray, predicted: np.ndarray, width: float, is_log: bool) -> np.ndarray:
    """Find values (n,) whose error, by the equation, is larger than that of rounding: (n,)."""
    tolerance = MAX_ROUNDING * width / (y if is_log else 1.0)
    return np.abs(_linked(y, is_log) - predicted) > tolerance


def _equations(
    x: np.ndarray, widths: np.ndarray, is_log: bool
) -> Iterator[tuple[int, np.ndarray, float]]:
    """Yield equations that a few rows (n, d) may break: a column, slopes (d,) and an intercept."""
    x = x[np.isfinite(_linked(x, is_log)).all(axis=1)]
    values, (n_rows, n_columns) = _linked(x, is_log), x.shape
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
        sources = Z.copy()
        sources[:, k] = 1  # of the intercept
        kept, needed = _least_trimmed_squares(sources, Z[:, k], first_errors[:, k], max_broken)
        needed[k] = True
        equation = None
        # at first without the worst rows; then with all, of which none is broken by a rare source
        for rows, used in ((kept, needed), (kept | True, needed | True)):
            solution = np.zeros(n_columns)
            solution[used] = np.linalg.lstsq(sources[rows][:, used], Z[rows, k], rcond=None)[0]
            slopes = np.where(np.arange(n_columns) == k, 0, solution) * scale[k] / scale
            intercept = float(median[k] + solution[k] * scale[k] - slopes @ median)
            is_broken = _are_apart(x[:, k], values @ slopes + intercept, widths[k], is_log)
            n_broken = is_broken.sum()
            if n_broken == 0 or (equation is None and n_broken <= max_broken):
                equation = k, slopes, intercept
            if n_broken == 0 or equation is None:
                break
        if equation is not None:
            yield equation


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
