"""Bounds and recording steps of real columns, to which samples keep."""

import math

import numpy as np

from sklearn_vae.data.arrays import weighted_moments
from sklearn_vae.data.training_column import TrainingColumn

# Values that differ by a smaller fraction of themselves are equal.
ROUNDING = 8 * float(np.finfo(np.float64).eps)
# Columns with fewer levels than this between minimum and maximum are coarsely recorded.
MIN_LEVELS = 256
# Size of the subsample that is tested first: few columns that are not rounded pass.
SUBSAMPLE_SIZE = 1024
# Largest number of decimals tried, and the largest recording step in standard deviations: to
# round to a coarser one would add noise that is visible beside the scale.
MAX_DECIMALS = 6
COARSEST_STEP = 0.1
# Steps between minimum and maximum or from them to a bound, and between any two values that are
# neighbours, at most; distance from a multiple of the step, in steps, up to which it is due to
# rounding.
MAX_STEPS = 1e6
MAX_STEPS_IN_A_GAP = 10
LATTICE_TOLERANCE = 1e-3
# Largest exponent of a power of two that values are multiplied by.
MAX_POWER = 1000
# Larger values have no recording step: sums of values and steps could overflow.
MAX_RECORDED = 1e300
# The minimum is a bound if a normal distribution would put more rows than this below it, or if
# two rows have it; otherwise samples may exceed it by a fraction of its distance from the mean.
ROWS_BEYOND = 5.0
BEYOND = 0.1
# If a normal distribution puts a larger fraction beyond the bound of a coarsely recorded column,
# as of a pixel that is mostly 0, it is no model of the column: truncated, it would be a worse one.
MAX_BEYOND = 0.35


def times_power_of_two(values: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    """Multiply columns by powers of two, as ``np.ldexp`` and faster: (n, k), (k,) -> (n, k)."""
    if (np.abs(exponent) > MAX_POWER).any():  # the power itself may overflow
        return np.ldexp(values, exponent)
    return values * np.ldexp(1.0, exponent)


def equal_up_to_rounding(low: float, high: float) -> bool:
    """Test whether two values, the lower one first, differ by rounding errors only."""
    with np.errstate(over="ignore"):
        return bool(high - low <= ROUNDING * max(abs(low), abs(high)))


def is_finely_recorded(unique: np.ndarray) -> bool:
    """Test whether sorted unique values have many possible values between them."""
    with np.errstate(over="ignore"):
        return len(unique) > 1 and unique[-1] - unique[0] > MIN_LEVELS * np.diff(unique).min()


def sample_bounds(values: np.ndarray, weights: np.ndarray | None) -> tuple[float, float]:
    """Return bounds of samples: the extreme values, or beyond them where they are no bounds."""
    from scipy.special import ndtr

    weights = np.ones(len(values)) if weights is None else weights
    mean, variance = weighted_moments(values, weights)
    std = np.sqrt(variance)
    bounds = []
    for extreme in (values.min(), values.max()):
        beyond = float(ndtr(-abs(extreme - mean) / std if std > 0 else 0.0))
        is_bound = weights.sum() * beyond > ROWS_BEYOND or weights[values == extreme].sum() >= 2
        bound = float(extreme if is_bound else extreme + BEYOND * (extreme - mean))
        if beyond > MAX_BEYOND and not is_finely_recorded(np.unique(values)):
            bound = math.copysign(math.inf, extreme - mean)
        bounds.append(bound)
    return bounds[0], bounds[1]


def lattice_step(column: TrainingColumn) -> float:
    """Return the step of values that are recorded in steps, as 0.01 for cents; otherwise 0.

    All values are multiples of the step, counted from any of them. Values that all differ have
    no step.
    """
    unique = np.unique(column.values.astype(np.float64))
    largest = np.abs(unique).max()
    if len(unique) >= column.n_values or largest > MAX_RECORDED:
        return 0.0
    gaps = np.diff(unique)
    gaps = gaps[gaps > ROUNDING * largest]
    if not len(gaps):
        return 0.0
    for divisor in range(1, MAX_STEPS_IN_A_GAP + 1):
        step = gaps.min() / divisor
        multiples = (unique - unique[0]) / step
        precision = largest * np.finfo(column.values.dtype).eps / step
        if multiples[-1] > MAX_STEPS or precision > 0.25 * LATTICE_TOLERANCE:
            return 0.0
        if (np.abs(multiples - np.rint(multiples)) < LATTICE_TOLERANCE).all():
            return float((unique[-1] - unique[0]) / np.rint(multiples[-1]))
    return 0.0


def recording_decimals(column: TrainingColumn, coarsest: float) -> int:
    """Return the decimals to which values were recorded, as 2 for cents; -1 if there are more.

    Recording steps that exceed ``coarsest`` standard deviations only count in columns of an
    integer dtype.
    """
    if column.field.is_integer:
        return 0
    values = column.values
    for decimals in range(MAX_DECIMALS + 1):
        if _has_decimals(values[:SUBSAMPLE_SIZE], decimals) and _has_decimals(values, decimals):
            step = 10.0**-decimals
            precision = np.abs(values).max() * np.finfo(values.dtype).eps
            is_exact = precision <= COARSEST_STEP * step
            return decimals if is_exact and step <= coarsest * _std(column) else -1
    return -1


def steps_beside_decimals(
    column: TrainingColumn, bounds: tuple[float, float], decimals: int
) -> tuple[tuple[float, float], float]:
    """Return the recording step of values that are not recorded in decimals, otherwise 0.

    The bounds come first, moved inwards to whole steps from the values.
    """
    step = lattice_step(column)
    least = 1.5 * 10.0**-decimals if decimals >= 0 else 0.0
    is_step = least < step <= COARSEST_STEP * _std(column) < np.inf
    if not is_step or not np.isfinite(bounds).all():
        return bounds, 0.0
    extremes = np.array([column.values.min(), column.values.max()], dtype=np.float64)
    with np.errstate(over="ignore"):  # the largest numbers bound columns that have no bounds
        n_steps = np.abs(bounds - extremes) / step + LATTICE_TOLERANCE
    low, high = extremes + np.array([-step, step]) * np.floor(np.minimum(n_steps, MAX_STEPS))
    return (float(low), float(high)), step


@np.errstate(over="ignore", invalid="ignore")
def _has_decimals(values: np.ndarray, decimals: int) -> bool:
    """Test whether all values are rounded to so many decimals."""
    rounded = np.round(values.astype(np.float64), decimals).astype(values.dtype)
    return bool((rounded == values).all())


@np.errstate(over="ignore", invalid="ignore")
def _std(column: TrainingColumn) -> float:
    """Standard deviation of the values, by weight."""
    return float(np.sqrt(np.cov(column.values, ddof=0, aweights=column.weights)))
