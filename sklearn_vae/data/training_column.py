"""A column of the training rows: its values, their recording step, and rounding errors."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

import numpy as np

from sklearn_vae.data.fields import Field
from sklearn_vae.likelihoods import Likelihood

# Evidence for a relation between columns, at least, in nats: chance would give it with e^-20.
MIN_EVIDENCE = 20.0
# Probability up to which a property of a column is not there by chance.
CHANCE = 0.01
# Standard errors beyond which a difference is not there by chance.
N_ERRORS = 3.0
# Columns that are compared with each other, at most.
MAX_COMPARED = 256
# Values that differ by a smaller fraction of themselves are equal.
ROUNDING = 8 * float(np.finfo(np.float64).eps)
# Relative width of values that agree and have no steps: sums in single precision are so exact.
RELATIVE_WIDTH = 2.0**-18
# Fraction of the values that may be finer than the others.
MAX_EXCEPTIONS = 0.02
# Largest number of decimals tried, and the largest error of rounding, in units of the last decimal.
MAX_DECIMALS = 6
MAX_ROUNDING = 0.1
# Distance from a multiple of the step, in steps, up to which it is due to rounding.
LATTICE_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Marginal:
    """What the encoding of a column follows."""

    # (S,), values with a probability of their own, in order
    point_masses: np.ndarray = field(default_factory=lambda: np.zeros(0))
    is_log: bool = False  # whether the logarithms of the other values are normal
    # (n_knots, 2), the other values, in units of ``loc`` and ``scale``, and their normal scores
    knots: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    # units of the other values: by median and quartiles, where a far value would decide them
    loc: float = 0.0
    scale: float = 1.0
    counts: Likelihood | None = None  # distribution of counts, if the values are ones
    unit_of_counts: float = 1.0  # what is counted, as thousands


@np.errstate(over="ignore")  # the largest numbers
def interpolate(x: np.ndarray, knots: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Interpolate linearly, beyond the ends too; return values and slopes: (n,) -> (n,), (n,).

    From values to normal scores, or back: knots and the numbers at them are the two columns of
    ``fit_knots``.
    """
    segment = np.searchsorted(knots, x, side="right").clip(1, len(knots) - 1) - 1
    slope = (np.diff(at) / np.diff(knots))[segment]
    return at[segment] + slope * (x - knots[segment]), slope


@dataclass(frozen=True)
class TrainingColumn:
    """A column of the training rows."""

    index: int  # of the column in X
    values: np.ndarray  # (n,), observed ones in X's units; codes 0, 1, ... of categories
    weights: np.ndarray | None  # (n,), their sample weights
    n_rows: float  # number of rows of the table, by weight
    field: Field  # schema
    requested: Likelihood | type[Likelihood] | None = None  # by the user; None for "auto"
    groups_levels: bool = True  # whether many categories share classes
    # (n,), mask of values that equal another column's, if these have a point mass of their own
    is_equal: np.ndarray | None = None
    # nats per row that a distribution of counts loses, as other columns tell more of them
    loss_of_counts: float = 0.0
    marginal: Marginal | None = None  # what the encoding follows; None for a plain one

    @classmethod
    def of_numbers(cls, x: np.ndarray, weight: np.ndarray | None = None) -> Self:
        """Make a column of numbers that no one has requested a likelihood for: (n,), (n,)."""
        observed, field = ~np.isnan(x), Field("", "number", None, str(x.dtype))
        return cls(0, x[observed], None if weight is None else weight[observed], len(x), field)

    @cached_property
    def counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Distinct values, in order, and the rows of each, by weight: (U,), (U,)."""
        if self.weights is None:
            return np.unique(self.values, return_counts=True)
        unique, inverse = np.unique(self.values, return_inverse=True)
        return unique, np.bincount(inverse, self.weights)

    def select(self, chosen: np.ndarray | slice) -> "TrainingColumn":
        """Select some of the values, by a mask, indices or a slice."""
        weights = None if self.weights is None else self.weights[chosen]
        is_equal = None if self.is_equal is None else self.is_equal[chosen]
        return replace(self, values=self.values[chosen], weights=weights, is_equal=is_equal)

    @property
    def width(self) -> float:
        """Width of values that agree and have no steps, by the largest one."""
        return RELATIVE_WIDTH * float(np.abs(self.values).max())

    @property
    def unequal(self) -> "TrainingColumn":
        """The column without values that equal another column's."""
        return self if self.is_equal is None else self.select(~self.is_equal)


def recording(column: TrainingColumn) -> tuple[int, float, tuple[float, float]]:
    """Return the decimals of values, as 2 for cents, or -1; their step, as 0.01, or 0; the range.

    Values are multiples of the step, counted from either end of the range, or rounded to decimals.
    It is the largest step if they have few decimals, or if some of them are repeated, as after a
    change of units. Few values may be finer, as samples are not.
    """
    unique, rows = column.counts
    rows = np.minimum(rows, 10)  # what recurs is no mistake, beside many zeros either
    decimals = _decimals(unique, rows)
    step, is_finer = _step(unique, rows, decimals)
    low, high = unique[~is_finer][[0, -1]].tolist()
    return decimals, step, (low, high)


def is_between_steps(values: np.ndarray | float, step: np.ndarray | float) -> np.ndarray:
    """Find values that are no multiples of their step: (k,), (k,) -> (k,)."""
    return np.abs(values / step - np.rint(values / step)) > LATTICE_TOLERANCE


def origin_of_counts(low: np.ndarray | float, step: np.ndarray | float) -> np.ndarray:
    """Values of the count 0, the lowest ones if below 0 or between steps: (k,), (k,) -> (k,)."""
    return np.where((low < 0) | is_between_steps(low, step), low, 0.0)


def _step(values: np.ndarray, rows: np.ndarray, decimals: int) -> tuple[float, np.ndarray]:
    """Return the step of distinct values of so many rows and decimals; mask the finer: (U,)."""
    if decimals >= 0:
        return _decimal_step(values, rows, decimals)
    unique, none = values.astype(np.float64), np.zeros(len(values), dtype=bool)
    largest, is_repeated = np.abs(unique).max(), len(unique) < rows.sum()
    if not is_repeated or largest > 1e300:  # sums of values and steps could overflow
        return 0.0, none
    gaps = np.diff(unique)
    gaps = gaps[gaps > ROUNDING * largest]
    if not len(gaps):
        return 0.0, none
    # a value with more decimals has a smaller gap on either side
    n_smaller = min(int(2 * MAX_EXCEPTIONS * rows.sum()), len(gaps) - 1)
    from_common = unique - unique[rows.argmax()]
    for gap, max_exceptions in ((np.sort(gaps)[n_smaller], MAX_EXCEPTIONS), (gaps.min(), 0.0)):
        for divisor in range(1, 11):  # steps between neighbours
            step = gap / divisor
            multiples = from_common / step
            precision = largest * np.finfo(values.dtype).eps / step
            if np.ptp(multiples) > 1e6 or precision > 0.25 * LATTICE_TOLERANCE:
                break
            is_finer = np.abs(multiples - np.rint(multiples)) >= LATTICE_TOLERANCE
            if rows @ is_finer <= max_exceptions * rows.sum():
                extent = np.ptp(unique[~is_finer])
                return float(extent / max(np.rint(extent / step), 1)), is_finer
    return 0.0, none


def _decimal_step(values: np.ndarray, rows: np.ndarray, decimals: int) -> tuple[float, np.ndarray]:
    """Return the largest step of values, or of repeated ones, unless it may be by chance."""
    unique, power = values.astype(np.float64), 10.0**decimals
    is_finer = _is_finer(values, decimals)
    multiples = np.rint((unique - unique[(rows * ~is_finer).argmax()]) * power).astype(np.int64)
    for chosen in (rows > 1, rows > 0):
        divisor = int(np.gcd.reduce(multiples[chosen & ~is_finer]))
        is_off = is_finer | (multiples % max(divisor, 1) != 0)
        # that n values differ by multiples of it by chance has the probability divisor^-(n - 1)
        is_by_chance = (len(unique) - 1) * np.log(max(divisor, 1)) < -np.log(CHANCE)
        if not is_by_chance and rows @ is_off <= MAX_EXCEPTIONS * rows.sum():
            return divisor / power, is_off
    return 1 / power, np.zeros_like(is_finer)


def _decimals(unique: np.ndarray, rows: np.ndarray) -> int:
    """Return the decimals to which distinct values were recorded; -1 if there are more.

    Few of them may have more: one value does not decide how the others are read.
    """
    for decimals in range(MAX_DECIMALS + 1):
        if rows @ _is_finer(unique, decimals) <= MAX_EXCEPTIONS * rows.sum():
            precision = np.abs(unique).max() * np.finfo(unique.dtype).eps
            return decimals if precision <= MAX_ROUNDING * 10.0**-decimals else -1
    return -1


@np.errstate(over="ignore", invalid="ignore")
def _is_finer(values: np.ndarray, decimals: int) -> np.ndarray:
    """Find values that are not rounded to so many decimals: (n,) -> (n,).

    Sums and products of such values have rounding errors.
    """
    x = values.astype(np.float64)
    rounding = 8 * np.finfo(values.dtype).eps * np.abs(x)
    tolerance = np.minimum(rounding, MAX_ROUNDING * 10.0**-decimals)
    return np.abs(np.round(x, decimals) - x) > tolerance
