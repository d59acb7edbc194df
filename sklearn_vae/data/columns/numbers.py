"""Columns of numbers: real ones, also positive ones and ones with point masses, and counts.

Real numbers are standardized, of positive ones the logarithms. Of counts, the input is the root.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Self

import numpy as np

from sklearn_vae.data.arrays import weighted_moments, within
from sklearn_vae.data.columns.base import (
    LEAST_REST,
    Columns,
    Draws,
    cauchy_log_density,
    is_category,
    one_hot,
    take_categories,
    times_power_of_two,
)
from sklearn_vae.data.training_column import (
    LATTICE_TOLERANCE,
    MAX_DECIMALS,
    TrainingColumn,
    interpolate,
    origin_of_counts,
    recording,
)
from sklearn_vae.likelihoods import (
    Gaussian,
    Likelihood,
    LogNormal,
    NegativeBinomial,
    Poisson,
    ZeroInflated,
)
from sklearn_vae.persistence.validation import check_array, serializable

# Standard deviations beyond which values count by the logarithm of their distance: the tails of a
# density are then heavy, and no single cell decides the mean score of many rows.
TAIL = 8.0
# Largest distance, and recording step, in standard deviations: no square overflows.
LARGEST = 1e140
# Largest roots of counts, whose squares are finite, too.
LARGEST_ROOT = {np.dtype(np.float64): LARGEST, np.dtype(np.float32): 1e14}
# Standard deviations from the range of the other numbers at which far point masses are read.
BESIDE = 3.0


@serializable
@dataclass(eq=False)
class RealColumns(Columns):
    """Real numbers, standardized; far ones on a logarithmic scale."""

    exponent: Annotated[np.ndarray, "i", "k"]  # power of two
    shift: Annotated[np.ndarray, "f", "k"]  # mean
    scale: Annotated[np.ndarray, "f+", "k"]  # standard deviation
    # of samples, in X's units; NaN with point masses only
    bounds: Annotated[np.ndarray, "n", "k", 2]
    decimals: Annotated[np.ndarray, "i", "k"]  # of samples; -1 if they are not rounded
    # recording steps, from the lower bound; 0 for columns without
    steps: Annotated[np.ndarray, "f", "k"]
    # standardized values and their normal scores, (n_knots, 2) each; None for columns without
    knots: list[np.ndarray | None]

    likelihoods: ClassVar[tuple[type, ...]] = (Gaussian,)
    # transform before the standardization, and its inverse
    link: ClassVar[np.ufunc] = np.positive
    inverse_link: ClassVar[np.ufunc] = np.positive

    @classmethod
    def fit(cls, column: TrainingColumn, likelihood: Likelihood | None) -> Self:
        """Fit mean and standard deviation, bounds and recording step."""
        return cls._fit(column, column, likelihood)

    @classmethod
    def _fit(
        cls, column: TrainingColumn, numbers: TrainingColumn, likelihood: Any, **masses: np.ndarray
    ) -> Self:
        """Fit the units to the values of a column, and what samples keep to, to its numbers."""
        values = column.values.astype(np.float64)
        is_linear = cls.link is np.positive  # logarithms do not overflow
        exponent = int(np.frexp(np.abs(values).max())[1]) if is_linear else 0
        shift, variance = weighted_moments(np.ldexp(cls.link(values), -exponent), column.weights)
        scale, knots = np.sqrt(variance), None
        bounds, decimals, step = (np.nan, np.nan), -1, 0.0
        if len(numbers.values):
            decimals, step, bounds = recording(numbers)
            if (marginal := column.marginal) is not None and len(marginal.knots):
                knots = marginal.knots
                shift, scale = np.ldexp([marginal.loc, marginal.scale], -exponent)
        return cls(
            indices=np.array([column.index]),
            likelihood=likelihood,
            exponent=np.array([exponent]),
            shift=np.array([shift]),
            scale=np.array([scale]),
            bounds=np.array([bounds]),
            decimals=np.array([decimals]),
            steps=np.array([step]),
            knots=[knots],
            **masses,
        )

    def check(self) -> None:
        """Check the attributes, as after reading them from a file."""
        super().check()
        for _, knots in self._normal_scores():
            check_array("knots", knots, "f", (None, 2))
        has_few = any(len(knots) < 2 for _, knots in self._normal_scores())
        if len(self.knots) != len(self.indices) or has_few:
            raise ValueError("'knots' must be None, or at least 2, of each column")
        if (np.abs(self.decimals) > MAX_DECIMALS).any():
            raise ValueError(f"'decimals' must be at most {MAX_DECIMALS}")

    def _normal_scores(self) -> list[tuple[int, np.ndarray]]:
        """Columns with normal scores, by their index in ``indices``, and their knots."""
        return [(column, knots) for column, knots in enumerate(self.knots) if knots is not None]

    @property
    def is_restricted(self) -> np.ndarray:
        """Mask of columns that had no numbers beside point masses in ``fit``: (k,)."""
        return np.isnan(self.bounds[:, 0])

    @property
    def has_knots(self) -> np.ndarray:
        """Mask of columns with normal scores: (k,)."""
        return np.array([knots is not None for knots in self.knots])

    def standardize(self, X: np.ndarray) -> np.ndarray:
        """Divide by the power of two, subtract the mean, divide by the scale: (n, k) -> (n, k)."""
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            values = X.astype(np.float64)
            self.link(values, out=values)
            values = times_power_of_two(values, -self.exponent)
            values -= self.shift
            values /= self.scale
        return values

    def normalize(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Standardize, take normal scores where there are knots, bend tails: (n, k) -> (n, k).

        Return also the log-derivative by the standardized values: (n, k).
        """
        values, log_slope = self.standardize(X), np.zeros(X.shape)
        for column, knots in self._normal_scores():
            values[:, column], slope = interpolate(values[:, column], *knots.T)
            log_slope[:, column] = np.log(slope)
        return values, log_slope + bend_tails(values)

    def unnormalize(self, values: np.ndarray) -> np.ndarray:
        """Undo ``normalize`` up to the standardization: (n, k) -> (n, k)."""
        values = unbend_tails(values)
        for column, knots in self._normal_scores():
            values[:, column] = interpolate(values[:, column], *knots.T[::-1])[0]
        return values

    def dequantize(self, X: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Spread normal scores and logarithms evenly over their recording step: (n, k) -> (n, k).

        A step is wide among the logarithms of small values, and bounds no scale there.
        """
        step = self.steps * (self.has_knots | (self.link is np.log))
        if not step.any():
            return X
        return (X + step * (generator.random(X.shape) - 0.5)).astype(X.dtype)

    def encode(self, X: np.ndarray) -> np.ndarray:
        """Standardize, take normal scores, bend tails: (n, k) -> (n, k)."""
        return self.normalize(X)[0]

    def decode(self, values: np.ndarray, rounds: np.ndarray, generator: Draws) -> np.ndarray:
        """Undo the encoding; clip and round samples: (n, k) -> (n, k)."""
        return self.unstandardize(self.unnormalize(values), is_sample=generator is not None)

    def unstandardize(self, values: np.ndarray, *, is_sample: bool) -> np.ndarray:
        """Undo the standardization; clip and round samples: (n, k) -> (n, k)."""
        with np.errstate(over="ignore"):
            X = times_power_of_two(values * self.scale + self.shift, self.exponent)
            X = self.inverse_link(X)
        if not is_sample:
            # a mean of scores beyond those of all values would be anywhere
            is_bent = self.has_knots | (self.link is not np.positive)
            return np.where(is_bent, self.within_bounds(X), X)
        return within(self.on_steps(X), *self.bounds.T)

    def within_bounds(self, X: np.ndarray) -> np.ndarray:
        """Clip numbers to the range of the values in ``fit``: (n, k) -> (n, k)."""
        return within(X, *self.bounds.T)

    def on_steps(self, X: np.ndarray) -> np.ndarray:
        """Round numbers to the recording steps of their columns: (n, k) -> (n, k)."""
        X = X.copy()
        has_steps = (self.steps > 0) & ~np.isnan(self.bounds[:, 0])
        # a finer value may be the lower bound of those that decimals round
        has_steps &= (self.decimals < 0) | (self.steps > 1.5 * 10.0**-self.decimals)
        if has_steps.any():
            low, step = self.bounds[has_steps, 0], self.steps[has_steps]
            X[:, has_steps] = low + np.rint((X[:, has_steps] - low) / step) * step
        for decimals in np.unique(self.decimals[self.decimals >= 0]).tolist():
            columns = self.decimals == decimals
            X[:, columns] = np.round(X[:, columns], decimals) + 0.0  # not -0.0
        return X

    def encoded_steps(self) -> np.ndarray:
        """Return the recording steps in the model's units: (k,), 0 with normal scores.

        Of logarithms, whose steps differ, it is the least one, which the largest value has.
        """
        has_steps = (self.steps > 0) & ~self.has_knots & ~np.isnan(self.bounds[:, 1])
        high = np.where(has_steps, self.bounds[:, 1], np.nan)
        step = self.standardize(high[None]) - self.standardize((high - self.steps)[None])
        return np.where(has_steps, np.minimum(step[0], LARGEST), 0.0)

    def limits(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return bounds in the model's units, half a recording step beyond the values."""
        half = 0.5 * self.steps
        (low, high), _ = self.normalize(self.bounds.T + np.stack([-half, half]))
        low, high = np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)
        return low, high, np.empty((len(low), 0))

    def log_derivative(self, X: np.ndarray) -> np.ndarray:
        """Log-derivative of the encoding: (n, k) -> (n, k)."""
        return self.normalize(X)[1] - (np.log(self.scale) + self.exponent * np.log(2))


def bend_tails(values: np.ndarray) -> np.ndarray:
    """Replace what is beyond ``TAIL`` by its logarithm, in place; return the log-derivative."""
    log_slope, far = np.zeros(values.shape), np.abs(values) > TAIL
    distance = np.log1p(np.minimum(np.abs(values[far]), LARGEST) - TAIL)
    values[far] = np.copysign(TAIL + distance, values[far])
    log_slope[far] = -distance
    return log_slope


def unbend_tails(values: np.ndarray) -> np.ndarray:
    """Undo ``bend_tails``, in a copy."""
    values, far = values.copy(), np.abs(values) > TAIL
    distance = np.expm1(np.minimum(np.abs(values[far]) - TAIL, np.log(LARGEST)))
    values[far] = np.copysign(TAIL + distance, values[far])
    return values


@serializable
@dataclass(eq=False)
class PositiveColumns(RealColumns):
    """Positive numbers, the logarithms of which are standardized."""

    likelihoods: ClassVar[tuple[type, ...]] = (LogNormal,)
    possible_values: ClassVar[str] = "above 0"
    link: ClassVar[np.ufunc] = np.log
    inverse_link: ClassVar[np.ufunc] = np.exp
    is_restricted = Columns.is_restricted

    @property
    def encoded_likelihood(self) -> Likelihood:
        """Likelihood of the logarithms."""
        return Gaussian(self.likelihood.scale)

    @classmethod
    def contradiction(cls, column: TrainingColumn) -> tuple[str, str] | None:
        """Return a value that is not above 0; None if all are."""
        low = column.values.min()
        return ("values above 0", repr(low.item())) if low <= 0 else super().contradiction(column)

    def is_unseen(self, X: np.ndarray) -> np.ndarray:
        """Find values of 0 or less: (n, k) -> (n, k)."""
        return X <= 0

    def nearest(self, X: np.ndarray) -> np.ndarray:
        """Return the median: a value near 0 would be far from all seen ones."""
        return np.exp(self.shift)

    def dequantize(self, X: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Spread values evenly over their recording step, but for 0 and below: (n, k) -> (n, k)."""
        noisy = super().dequantize(X, generator)
        return X if noisy is X else np.where(noisy > 0, noisy, X)

    def log_unseen_density(self, X: np.ndarray, log_unseen: float) -> np.ndarray:
        """Log-density of values of 0 or less, one half of a Cauchy density: (n, k) -> (n, k)."""
        return cauchy_log_density(X, log_unseen + np.log(2), 0.0, np.exp(self.shift))

    def log_derivative(self, X: np.ndarray) -> np.ndarray:
        """Log-derivative of the logarithms and of their standardization: (n, k) -> (n, k)."""
        return super().log_derivative(X) - np.log(X.astype(np.float64))


@serializable
@dataclass(eq=False)
class PointMassColumns(RealColumns):
    """Real numbers of which some values are common, as 0 among prices.

    Values are encoded one-hot for the point masses, followed by the standardized number.
    """

    # (k, S), common values, in order; NaN, at last, is the value of another column
    point_masses: np.ndarray

    likelihoods: ClassVar[tuple[type, ...]] = (ZeroInflated,)

    @classmethod
    def fit(cls, column: TrainingColumn, likelihood: Likelihood | None) -> Self:
        """Fit units, bounds and recording step to the values that are not point masses."""
        marginal, unequal = column.marginal, column.unequal
        point_masses = find_common_values(column) if marginal is None else marginal.point_masses
        point_masses = point_masses.astype(column.values.dtype)  # see ``in_coarser_dtype``
        numbers = unequal.select(~np.isin(unequal.values, point_masses))
        has_scale = len(np.unique(numbers.values)) > 1
        if column.is_equal is not None:  # the encoder reads equal values as numbers, too
            numbers, point_masses = column, np.append(point_masses, point_masses.dtype.type(np.nan))
        scaled = numbers if has_scale else column
        columns = cls._fit(scaled, numbers, likelihood, point_masses=point_masses[None])
        # a point mass is spread over the step of all values
        columns.steps = np.array([recording(column)[1]])
        return columns

    @classmethod
    def resolve(cls, column: TrainingColumn) -> Likelihood:
        """Return the likelihood with the column's number of point masses."""
        return ZeroInflated(len(find_common_values(column)))

    def check(self) -> None:
        """Check the attributes, as after reading them from a file."""
        super().check()
        shape = (len(self.indices), self.width - 1)
        check_array("point_masses", self.point_masses, "n", shape)

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

    def decode(self, values: np.ndarray, rounds: np.ndarray, generator: Draws) -> np.ndarray:
        """Return means over point masses and numbers, or samples: (n, k * (S + 1)) -> (n, k)."""
        is_sample = generator is not None
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
    """Find requested point masses, in order: all values if they are few.

    Of others, those of 2 % of the rows, at least the most common one, at most twelve.
    """
    unique, rows = column.counts
    if len(unique) <= 24:
        return unique
    n_common = np.clip((rows >= 0.02 * rows.sum()).sum(), 1, 12)
    return np.sort(unique[np.argsort(-rows, kind="stable")[:n_common]])


@serializable
@dataclass(eq=False)
class CountColumns(Columns):
    """Counts, of which the model's input is the root, divided by a power of two.

    What is counted may be a number of ones, as thousands, and counts may have been standardized.
    """

    bounds: Annotated[np.ndarray, "f", "k", 2]  # smallest and largest value in ``fit``
    steps: Annotated[np.ndarray, "f+", "k"]  # numbers that are counted

    likelihoods: ClassVar[tuple[type, ...]] = (Poisson, NegativeBinomial)
    possible_values: ClassVar[str] = "whole numbers of 0 or more"

    @classmethod
    def fit(cls, column: TrainingColumn, likelihood: Any) -> Self:
        """Fit the unit: the power of two next to the root of the mean."""
        step = 1.0 if column.marginal is None else column.marginal.unit_of_counts
        bounds = np.array([[column.values.min(), column.values.max()]], dtype=np.float64)
        counts = column.values.astype(np.float64) - origin_of_counts(bounds[0, 0], step)
        root = np.sqrt(np.average(counts / step, weights=column.weights))
        unit = float(2.0 ** np.rint(np.log2(root)))
        likelihood = replace(likelihood, unit=unit)
        return cls(np.array([column.index]), likelihood, bounds, np.array([step]))

    @classmethod
    def contradiction(cls, column: TrainingColumn) -> tuple[str, str] | None:
        """Return a value that is no count; None if all are."""
        values = column.values
        unseen = values[(values < 0) | (values != np.rint(values))]
        return (cls.possible_values, repr(unseen[0].item())) if len(unseen) else None

    @property
    def origins(self) -> np.ndarray:
        """Values of the count 0: (k,)."""
        return origin_of_counts(self.bounds[:, 0], self.steps)

    def counts(self, X: np.ndarray) -> np.ndarray:
        """Return the nearest counts of the step: (n, k) -> (n, k)."""
        return np.maximum(np.rint((X.astype(np.float64) - self.origins) / self.steps), 0)

    def is_unseen(self, X: np.ndarray) -> np.ndarray:
        """Find negative numbers and fractions: (n, k) -> (n, k)."""
        is_scaled = (self.origins != 0) | (self.steps % 1 != 0)
        return np.abs(X - self.nearest(X)) > LATTICE_TOLERANCE * self.steps * is_scaled

    def nearest(self, X: np.ndarray) -> np.ndarray:
        """Return the nearest counts: (n, k) -> (n, k)."""
        return self.counts(X) * self.steps + self.origins

    on_steps = nearest

    def log_unseen_density(self, X: np.ndarray, log_unseen: float) -> np.ndarray:
        """Log-density of negative numbers and fractions: (n, k) -> (n, k)."""
        mean = self.likelihood.unit**2 * self.steps
        return cauchy_log_density(X, log_unseen, self.origins + mean, mean)

    def encode(self, X: np.ndarray) -> np.ndarray:
        """Take roots, divided by the unit: (n, k) -> (n, k)."""
        return np.minimum(np.sqrt(self.counts(X)) / self.likelihood.unit, LARGEST_ROOT[X.dtype])

    def decode(self, values: np.ndarray, rounds: np.ndarray, generator: Draws) -> np.ndarray:
        """Square the roots; round counts with mask ``rounds`` (k,): (n, k) -> (n, k)."""
        with np.errstate(over="ignore"):
            counts = np.square(np.maximum(values, 0) * self.likelihood.unit)
        counts = np.where(rounds, np.rint(counts), counts) * self.steps + self.origins
        return counts if generator is None else self.within_bounds(counts)

    def within_bounds(self, X: np.ndarray) -> np.ndarray:
        """Clip counts to their range in ``fit``: (n, k) -> (n, k)."""
        return np.clip(X, *self.bounds.T)

    def log_derivative(self, X: np.ndarray) -> np.ndarray:
        """Return a density, as of all numbers: the probability over the step: (n, k) -> (n, k)."""
        return super().log_derivative(X) - np.log(self.steps)
