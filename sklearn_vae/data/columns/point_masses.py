"""Columns of real numbers with point masses, as 0 among prices."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from sklearn_vae.data.bounds import MAX_RECORDED, is_finely_recorded, lattice_step
from sklearn_vae.data.columns.base import (
    cauchy_log_density,
    check_order,
    is_category,
    one_hot,
    take_categories,
)
from sklearn_vae.data.columns.real import RealColumns
from sklearn_vae.data.training_column import TrainingColumn
from sklearn_vae.numerics.row_subsets import spread_out
from sklearn_vae.persistence.registry import find, serializable
from sklearn_vae.persistence.validation import check_array

if TYPE_CHECKING:
    from sklearn_vae.likelihoods import Likelihood

# Fraction of the rows from which on a value of an integer column is a point mass, and the largest
# number of point masses.
POINT_MASS_FROM = 0.02
# A value of one row is not common, however few rows there are; 2, but for rounding errors.
MIN_COUNT = 1.99
MAX_POINT_MASSES = 12
# If integers have no more unique values than these, all are point masses.
MIN_UNIQUE = 24
# Among real numbers, the minimum and maximum are point masses from a larger fraction on (nothing
# was paid, or the scale ended), other values from a third on, since they may be rounded; all from
# a number of rows on. The column has to be finely recorded, or any value would be common.
EXTREME_POINT_MASS_FROM = 0.1
REAL_POINT_MASS_FROM = 1 / 3
MIN_ROWS_OF_POINT_MASS = 10
# For an exact marginal distribution, all values are point masses if there are at most MAX_VALUES
# of them, each with MIN_ROWS_PER_VALUE rows on average.
MAX_VALUES = 50
MIN_ROWS_PER_VALUE = 20
# Otherwise those are that have this fraction of the rows, and this multiple of the mean fraction.
COMMON_FROM = 0.002
COMMON_TIMES_MEAN = 10
# Up to so many others are point masses, too, if they increase the log-density by so many nats per
# row over a histogram of the recording steps, smoothed over so many neighbouring values.
MAX_UNEVEN_VALUES = 128
GAIN_OF_UNEVEN_VALUES = 0.1
SMOOTHED_VALUES = 5
# Size of the subsample in which point masses of real numbers are searched for first.
SUBSAMPLE_SIZE = 1024


@serializable
@dataclass(eq=False)
class PointMassColumns(RealColumns):
    """Real numbers of which some values are common, as 0 among prices.

    The model's input is one-hot for the point masses, followed by the standardized number,
    which is 0 at a point mass.

    Attributes
    ----------
    point_masses : ndarray of shape (k, S)
        Common values, in order.
    """

    point_masses: np.ndarray

    likelihoods: ClassVar[tuple[str, ...]] = ("ZeroInflated",)
    has_unseen: ClassVar[bool] = True

    @classmethod
    def fit(cls, column: TrainingColumn, likelihood: "Likelihood | None") -> Self:
        """Fit the scale to all values; bounds and recording step to those that are not common.

        With an exact marginal distribution, the scale is that of those that are not common.
        """
        point_masses = find_point_masses(column)
        numbers = column.select(~np.isin(column.values, point_masses))
        has_scale = column.exact_marginal and len(np.unique(numbers.values)) > 1
        columns = cls._with_units_of(
            numbers if has_scale else column, likelihood, point_masses=point_masses[None]
        )
        if len(numbers.values):
            columns._fit_samples(numbers)
        elif column.exact_marginal and np.abs(point_masses).max() <= MAX_RECORDED:
            columns.steps = np.array([np.diff(point_masses).min()])
        return columns

    @classmethod
    def resolve(cls, column: TrainingColumn) -> "Likelihood":
        """Return the likelihood with the column's number of point masses."""
        return find("ZeroInflated")(len(find_point_masses(column)))

    def check(self) -> None:
        """Check the attributes, as after reading them from a file."""
        super().check()
        shape = (len(self.indices), self.width - 1)
        check_array("point_masses", self.point_masses, "f", shape)
        check_order("point_masses", self.point_masses)

    @property
    def is_restricted(self) -> np.ndarray:
        """Mask of columns that had no values beside their point masses in ``fit``: (k,)."""
        return np.isnan(self.bounds[:, 0])

    def is_unseen(self, X: np.ndarray) -> np.ndarray:
        """Find numbers in columns that had point masses only: (n, k) -> (n, k)."""
        is_restricted = self.is_restricted
        if not is_restricted.any():
            return super().is_unseen(X)
        return ~(np.isnan(X) | is_category(X, self.point_masses)) & is_restricted

    def nearest(self, X: np.ndarray) -> np.ndarray:
        """Return the nearest point masses: (n, k) -> (n, k)."""
        codes = np.abs(X[..., None] - self.point_masses).argmin(axis=-1)
        return take_categories(self.point_masses, codes)

    def log_unseen_density(self, X: np.ndarray, log_unseen: float) -> np.ndarray:
        """Log-density of numbers in columns that had point masses only: (n, k) -> (n, k)."""
        location, scale = np.ldexp([self.shift, self.scale], self.exponent)
        return cauchy_log_density(X, log_unseen, location, scale)

    def values(self, column: int) -> np.ndarray:
        """Return the point masses of one column, by its index in ``indices``."""
        return self.point_masses[column]

    def encode(self, X: np.ndarray) -> np.ndarray:
        """One-hot encode point masses, standardize numbers: (n, k) -> (n, k * (S + 1))."""
        values = np.empty((*X.shape, self.width))
        values[..., :-1] = one_hot(X, self.point_masses)
        numbers = super().encode(X)
        values[..., -1] = np.where(is_category(X, self.point_masses), 0, numbers)
        values[np.isnan(X)] = np.nan
        return values.reshape(len(X), X.shape[1] * self.width)

    def decode(self, values: np.ndarray, *, rounds: bool, is_sample: bool) -> np.ndarray:
        """Return means over point masses and numbers, or samples: (n, k * (S + 1)) -> (n, k)."""
        cells = values.reshape(len(values), len(self.indices), self.width)
        probability, number = cells[..., :-1], self.unnormalize(cells[..., -1])
        point_masses = self.standardize(self.point_masses.T).T
        mean = (probability * point_masses).sum(axis=-1) + (1 - probability.sum(axis=-1)) * number
        X = self.unstandardize(mean, is_sample=is_sample)
        if is_sample and (is_restricted := self.is_restricted).any():
            X[:, is_restricted] = self.nearest(X)[:, is_restricted]
        is_certain = probability.max(axis=-1) == 1
        codes = probability.argmax(axis=-1)
        return np.where(is_certain, take_categories(self.point_masses, codes), X)

    def limits(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return bounds, point masses and half the recording step in the model's units."""
        low, high, _, radius = super().limits()
        return low, high, self.normalize(self.point_masses.T).T, radius

    def dequantize(self, X: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Spread numbers that are no point masses over their recording step: (n, k) -> (n, k)."""
        noisy = super().dequantize(X, generator)
        return X if noisy is X else np.where(is_category(X, self.point_masses), X, noisy)

    def log_abs_det_jacobian(self, X: np.ndarray, log_unseen: float) -> np.ndarray:
        """Log-determinant of the encoding, over numbers that are seen: (n, k) -> (n,).

        Where an exact marginal distribution is one of point masses only, the probability of a
        value is spread over its recording step, as in other columns that are recorded in steps.
        """
        is_mass = is_category(X, self.point_masses)
        is_number = ~(is_mass | np.isnan(X) | self.is_unseen(X))
        log_scale = np.log(self.scale) + self.exponent * np.log(2)
        log_det = self.log_prob_of_range(X, log_unseen)
        log_det += ((self.log_slope(X) - log_scale) * is_number).sum(axis=1)
        is_spread = self.is_restricted & (self.steps > 0)
        if is_spread.any():
            log_det -= is_mass[:, is_spread] @ np.log(self.steps[is_spread])
        return log_det


def find_point_masses(column: TrainingColumn) -> np.ndarray:
    """Find common values, in order: (S,)."""
    if column.exact_marginal:
        return _find_values_of_marginal(column)
    if column.requested is None and not column.field.is_integer:
        return _find_common_reals(column)
    return find_common_integers(column)


def find_common_integers(column: TrainingColumn) -> np.ndarray:
    """Find common integers, in order: at least the most common one, and all if they are few."""
    unique, frequency = _frequencies(column)
    if len(unique) <= MIN_UNIQUE:
        return unique
    least = max(POINT_MASS_FROM, MIN_COUNT / column.n_values)
    n_common = min(max(int((frequency >= least).sum()), 1), MAX_POINT_MASSES)
    return np.sort(unique[np.argsort(-frequency, kind="stable")[:n_common]])


def _find_common_reals(column: TrainingColumn) -> np.ndarray:
    """Find common real numbers, in order, as 0 among prices; perhaps none.

    A coarsely recorded column, as a pixel, has none: any of its values is common.
    """
    least = max(EXTREME_POINT_MASS_FROM, MIN_ROWS_OF_POINT_MASS / column.n_values)
    sample = column.select(spread_out(len(column.values), SUBSAMPLE_SIZE))
    if column.weights is None and _frequencies(sample)[1].max() < least / 2:
        return column.values[:0]
    unique, frequency = _frequencies(column)
    threshold = np.full(len(unique), max(REAL_POINT_MASS_FROM, least))
    threshold[[0, -1]] = least
    return unique[frequency >= threshold] if is_finely_recorded(unique) else unique[:0]


def _find_values_of_marginal(column: TrainingColumn) -> np.ndarray:
    """Find values that an exact marginal distribution has as point masses, in order.

    All values are, if they are few, or not so few and uneven. Otherwise the common ones are;
    perhaps none.
    """
    unique, frequency = _frequencies(column)
    most_values = column.n_values // MIN_ROWS_PER_VALUE
    if len(unique) <= min(MAX_VALUES, most_values):
        return unique
    rare = MIN_ROWS_OF_POINT_MASS / column.n_values
    is_common = frequency >= max(COMMON_FROM, COMMON_TIMES_MEAN / len(unique), rare)
    if len(unique) <= min(MAX_UNEVEN_VALUES, most_values):
        step = lattice_step(column)
        numbers = unique[~is_common], frequency[~is_common]
        if step and _gain_over_smooth(*numbers, step) > GAIN_OF_UNEVEN_VALUES:
            return unique
    return unique[is_common]


def _gain_over_smooth(values: np.ndarray, frequency: np.ndarray, step: float) -> float:
    """Nats per row by which the frequencies of values exceed a smooth histogram.

    The density at a value is that of its neighbourhood, in which values without rows are counted.
    """
    window = np.ones(SMOOTHED_VALUES)
    n_steps = np.convolve(np.gradient(values.astype(np.float64)) / step, window, mode="same")
    smooth = np.convolve(frequency, window, mode="same") / n_steps
    return float(frequency @ np.log(frequency / smooth))


def _frequencies(column: TrainingColumn) -> tuple[np.ndarray, np.ndarray]:
    """Unique values, in order, and the relative frequency of each."""
    unique, inverse = np.unique(column.values, return_inverse=True)
    return unique, np.bincount(inverse, column.weights) / column.n_values
