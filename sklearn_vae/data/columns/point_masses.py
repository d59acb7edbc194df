"""Columns of real numbers with point masses, as 0 among prices."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from sklearn_vae.data.arrays import within
from sklearn_vae.data.columns.base import (
    LEAST_REST,
    cauchy_log_density,
    is_category,
    one_hot,
    take_categories,
)
from sklearn_vae.data.columns.real import RealColumns
from sklearn_vae.data.training_column import TrainingColumn, recording
from sklearn_vae.persistence.validation import check_array, find, serializable

if TYPE_CHECKING:
    from sklearn_vae.likelihoods import Likelihood

# Where point masses are requested, values are ones that have this fraction of the rows, the most
# common ones at most so many; and all, if they are few.
COMMON_FROM = 0.02
MAX_POINT_MASSES = 12
FEW_VALUES = 24
# Distance from the range of the other numbers at which far point masses are read, in standard
# deviations.
BESIDE = 3.0


@serializable
@dataclass(eq=False)
class PointMassColumns(RealColumns):
    """Real numbers of which some values are common, as 0 among prices.

    Values are encoded one-hot for the point masses, followed by the standardized number.
    """

    # (k, S), common values, in order; NaN, at last, is the value of another column, by which
    # ``TableEncoder`` encodes and decodes it
    point_masses: np.ndarray

    likelihoods: ClassVar[tuple[str, ...]] = ("ZeroInflated",)

    @classmethod
    def fit(cls, column: TrainingColumn, likelihood: "Likelihood | None") -> Self:
        """Fit units, bounds and recording step to the values that are not point masses."""
        marginal, unequal = column.marginal, column.unequal
        point_masses = find_common_values(column) if marginal is None else marginal.point_masses
        numbers = unequal.select(~np.isin(unequal.values, point_masses))
        has_scale = len(np.unique(numbers.values)) > 1
        if column.is_equal is not None:  # the encoder reads equal values as numbers, too
            numbers, point_masses = column, np.append(point_masses, np.nan)
        scaled = numbers if has_scale else column
        columns = cls._fit(scaled, numbers, likelihood, point_masses=point_masses[None])
        # a point mass is spread over the step of all values
        columns.steps = np.array([recording(column)[1]])
        return columns

    @classmethod
    def resolve(cls, column: TrainingColumn) -> "Likelihood":
        """Return the likelihood with the column's number of point masses."""
        return find("ZeroInflated")(len(find_common_values(column)))

    def check(self) -> None:
        """Check the attributes, as after reading them from a file."""
        super().check()
        shape = (len(self.indices), self.width - 1)
        check_array("point_masses", self.point_masses, "f", shape, allows_nan=True)

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
        number, ((low, high), _) = super().encode(X), self.normalize(self.bounds.T)
        # a VAE's encoder reads point masses as numbers, far ones next to the others
        beside = np.fmax(np.fmin(number, high + BESIDE), low - BESIDE)
        values[..., -1] = np.where(is_category(X, self.point_masses), beside, number)
        values[np.isnan(X)] = np.nan
        return values.reshape(len(X), X.shape[1] * self.width)

    def decode(self, values: np.ndarray, *, rounds: np.ndarray, is_sample: bool) -> np.ndarray:
        """Return means over point masses and numbers, or samples: (n, k * (S + 1)) -> (n, k)."""
        cells = values.reshape(len(values), len(self.indices), self.width)
        probability, number = cells[..., :-1], self.unnormalize(cells[..., -1])
        if not is_sample:  # where rows have a point mass, nothing restricts the mean of numbers
            number = within(number, *self.standardize(self.bounds.T))
        point_masses = np.nan_to_num(self.standardize(self.point_masses.T).T)
        is_other = np.isnan(self.point_masses)  # another column's value: the mean without it
        rest = 1 - (probability * is_other).sum(axis=-1, keepdims=True)
        probability = np.where(is_other, 0, probability / np.maximum(rest, LEAST_REST))
        is_restricted = self.is_restricted
        if not is_sample and is_restricted.any():
            # nothing has trained the mean of numbers that the column does not have
            total = np.maximum(probability.sum(axis=-1, keepdims=True), LEAST_REST)
            probability = np.where(is_restricted[:, None], probability / total, probability)
            number = np.where(is_restricted, 0, number)
        mean = (probability * point_masses).sum(axis=-1) + (1 - probability.sum(axis=-1)) * number
        X = self.unstandardize(mean, is_sample=is_sample)
        if is_sample and is_restricted.any():
            X[:, is_restricted] = self.nearest(X)[:, is_restricted]
        is_certain = probability.max(axis=-1) == 1
        codes = probability.argmax(axis=-1)
        return np.where(is_certain, take_categories(self.point_masses, codes), X)

    def on_steps(self, X: np.ndarray) -> np.ndarray:
        """Round numbers to the steps of their columns, or to point masses if these are all."""
        is_restricted = self.is_restricted & (self.steps > 0)
        X = np.where(is_category(X, self.point_masses), X, super().on_steps(X))
        if is_restricted.any():
            X = np.where(is_restricted & ~np.isnan(X), self.nearest(X), X)
        return X

    def within_bounds(self, X: np.ndarray) -> np.ndarray:
        """Clip to the range of point masses and numbers in ``fit``: (n, k) -> (n, k)."""
        seen = np.column_stack([self.bounds, self.point_masses])
        return np.clip(X, np.nanmin(seen, axis=1), np.nanmax(seen, axis=1))

    def limits(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return bounds and point masses in the model's units."""
        return *super().limits()[:2], self.normalize(self.point_masses.T)[0].T

    def dequantize(self, X: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Spread numbers that are no point masses over their recording step: (n, k) -> (n, k)."""
        noisy = super().dequantize(X, generator)
        return X if noisy is X else np.where(is_category(X, self.point_masses), X, noisy)

    def log_derivative(self, X: np.ndarray) -> np.ndarray:
        """Log-derivative of the encoding: (n, k) -> (n, k).

        In a column that is recorded in steps, the probability of a point mass is spread over its
        step: all values have densities.
        """
        log_step = np.log(np.where(self.steps > 0, self.steps, 1))
        return np.where(is_category(X, self.point_masses), -log_step, super().log_derivative(X))


def find_common_values(column: TrainingColumn) -> np.ndarray:
    """Find common values, in order: at least the most common one, and all if they are few."""
    unique, inverse = np.unique(column.values, return_inverse=True)
    if len(unique) <= FEW_VALUES:
        return unique
    frequency = np.bincount(inverse, column.weights) / column.n_values
    n_common = min(max(int((frequency >= COMMON_FROM).sum()), 1), MAX_POINT_MASSES)
    return np.sort(unique[np.argsort(-frequency, kind="stable")[:n_common]])
