"""Columns of a table, one class per kind: fit, check, encode, decode and change of variables.

An object holds all columns of one likelihood, which are adjacent in the model's input, and
computes them at once. In shapes, n is the number of rows, k the number of columns, C the number
of categories and S the number of point masses. A missing value is NaN.

A value is *unseen* if the column's likelihood gives it no probability: another category, another
value of a constant, a number below 0 among positive ones. By the rule of succession, 1/(n + 2) is
the probability of unseen values after n rows. A new category has all of it; numbers share it, as
a Cauchy density.
"""

from dataclasses import dataclass, fields, replace
from types import NoneType
from typing import ClassVar, Self, cast

import numpy as np

from sklearn_vae.data.arrays import has_missing_values
from sklearn_vae.data.bounds import (
    MOST_DECIMALS,
    ROUNDING,
    equal_up_to_rounding,
    recording_decimals,
    sample_bounds,
)
from sklearn_vae.data.fields import UNKNOWN
from sklearn_vae.likelihoods import (
    Bernoulli,
    Categorical,
    Counts,
    Gaussian,
    Likelihood,
    LogNormal,
    NegativeBinomial,
    Ordinal,
    Poisson,
    StudentT,
    ZeroInflated,
)
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import check_array

# Standardised values are clipped here, so that their squares stay finite.
INPUT_CLIP = {np.dtype(np.float64): 1e140, np.dtype(np.float32): 1e14}
# Largest distance in the Cauchy density of unseen values, the square of which is finite.
LARGEST_DISTANCE = 1e300
# Exponents of the largest and smallest numbers are smaller in absolute value.
LARGEST_EXPONENT = 1100


@dataclass(eq=False)
class Columns:
    """Columns of X of one likelihood, adjacent in the model's input.

    Attributes
    ----------
    indices : ndarray of shape (k,)
        Indices of the columns in X.
    likelihood : Likelihood or None
        Their likelihood; None for constant columns, of which the model has no input.
    """

    indices: np.ndarray
    likelihood: Likelihood | None

    @classmethod
    def fit(
        cls,
        index: int,
        values: np.ndarray,
        weights: np.ndarray | None,
        likelihood: Likelihood | None,
        categories: np.ndarray,
        *,
        is_integer: bool,
    ) -> Self:
        """Fit one column.

        Parameters
        ----------
        index : int
            Index of the column in X.
        values : ndarray of shape (n,)
            Its observed values.
        weights : ndarray of shape (n,) or None
            Sample weights.
        likelihood : Likelihood or None
            Its likelihood.
        categories : ndarray of shape (C,) or (S,)
            Its categories or point masses, in order.
        is_integer : bool
            Whether its dtype is one of integers.
        """
        raise NotImplementedError

    @classmethod
    def concatenate(cls, columns: list["Columns"]) -> Self:
        """Join columns of this class and of one likelihood."""
        arrays = {
            field.name: np.concatenate([getattr(part, field.name) for part in columns])
            for field in fields(cls)
            if field.name != "likelihood"
        }
        return cls(likelihood=columns[0].likelihood, **arrays)

    def check(self) -> None:
        """Check the attributes, as after reading them from a file.

        Raises
        ------
        ValueError
            If arrays have wrong shapes, dtypes or values.
        """
        check_array("indices", self.indices, "i", (None,))
        if not len(self.indices) or COLUMNS.get(type(self.likelihood)) is not type(self):
            raise ValueError(f"{type(self).__name__} cannot have {self.likelihood!r}")

    # -- units -----------------------------------------------------------------------

    @property
    def width(self) -> int:
        """Inputs of the model per column."""
        return 0 if self.likelihood is None else self.likelihood.width

    def units(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the power of two, the shift and the scale of the encoding: (k,) each.

        Columns are divided by the power of two first, so that no square overflows.
        """
        k = len(self.indices)
        return np.zeros(k, dtype=int), np.zeros(k), np.ones(k)

    # -- unseen values ---------------------------------------------------------------

    @property
    def is_restricted(self) -> np.ndarray:
        """Whether columns have unseen values at all: (k,)."""
        return np.ones(len(self.indices), dtype=bool)

    def is_unseen(self, X: np.ndarray) -> np.ndarray:
        """Find values that the likelihood gives no probability: (n, k) -> (n, k)."""
        raise NotImplementedError

    def substitute(self, X: np.ndarray, *, allows_missing: bool) -> np.ndarray | float:
        """Return the model's input in place of unseen values, in X's units: (n, k) -> (n, k).

        It is NaN if the model allows missing values, otherwise a similar possible value.
        """
        return np.nan if allows_missing else self._nearest(X)

    def _nearest(self, X: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def _log_unseen(self, X: np.ndarray, log_unseen: float) -> np.ndarray | float:
        """Log-probability or log-density of unseen values: (n, k) -> (n, k)."""
        return log_unseen

    def describe_values(self, column: int) -> str:
        """Describe the possible values of one of the columns, by its place in ``indices``."""
        raise NotImplementedError

    # -- encoding --------------------------------------------------------------------

    def encode(self, X: np.ndarray, *, allows_missing: bool) -> np.ndarray:
        """Encode values in the model's units, in double precision: (n, k) -> (n, k * width)."""
        unseen = self.is_unseen(X)
        if unseen.any():
            X = X.copy()
            np.copyto(X, self.substitute(X, allows_missing=allows_missing), where=unseen)
        return self._encode(X)

    def _encode(self, X: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def decode(
        self, values: np.ndarray, *, rounds: bool = False, is_sample: bool = False
    ) -> np.ndarray:
        """Decode means or samples in X's units: (n, k * width) -> (n, k).

        Parameters
        ----------
        values : ndarray of shape (n, k * width)
            Model outputs, in double precision.
        rounds : bool, default=False
            Whether means of binary columns and counts are rounded to possible values. Those of
            categorical and ordinal columns always are.
        is_sample : bool, default=False
            Whether the values are samples: they are rounded, and keep to the bounds and
            recording steps of real columns.
        """
        raise NotImplementedError

    def limits(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return limits of samples in the model's units.

        Returns
        -------
        low, high : ndarray of shape (k,)
            Bounds; infinite where there are none.
        point_masses : ndarray of shape (k, S)
            Values that other samples must not have.
        radius : ndarray of shape (k,)
            Half the recording step: nearer numbers are rounded to the point mass.
        """
        infinite = np.full(len(self.indices), np.inf)
        return -infinite, infinite, np.empty((len(infinite), 0)), np.zeros(len(infinite))

    # -- density ---------------------------------------------------------------------

    def log_abs_det_jacobian(self, X: np.ndarray, log_unseen: float) -> np.ndarray:
        """Return what turns a log-density of encoded values into one of X: (n, k) -> (n,).

        It is the log-determinant of the encoding's derivative for densities, and for restricted
        columns the log-probability that a value is seen, or the log-density of an unseen one.
        Missing values contribute 0.
        """
        log_prob = np.zeros(len(X))
        unseen = self.is_unseen(X)
        if unseen.any():
            rows = unseen.any(axis=1)
            log_unseen_cells = np.where(unseen[rows], self._log_unseen(X[rows], log_unseen), 0)
            log_prob[rows] = log_unseen_cells.sum(axis=1)
            X = np.where(unseen, np.nan, X)
        is_restricted = self.is_restricted
        if is_restricted.any():
            log_seen = float(np.log1p(-np.exp(log_unseen)))
            log_prob += ~np.isnan(X) @ (log_seen * is_restricted)
        return log_prob + self._log_det(X)

    def _log_det(self, X: np.ndarray) -> np.ndarray | float:
        """Log-determinant of the encoding's derivative; 0 for probabilities: (n, k) -> (n,)."""
        return 0.0


# -- numbers -----------------------------------------------------------------------------


@serializable
@dataclass(eq=False)
class RealColumns(Columns):
    """Real numbers, standardised.

    Attributes
    ----------
    exponent, shift, scale : ndarray of shape (k,)
        Power of two, mean and standard deviation.
    bounds : ndarray of shape (k, 2)
        Bounds of samples, in X's units; NaN for columns of point masses only.
    decimals : ndarray of shape (k,)
        Decimals of samples; -1 if they are not rounded.
    """

    exponent: np.ndarray
    shift: np.ndarray
    scale: np.ndarray
    bounds: np.ndarray
    decimals: np.ndarray

    # whether columns of a sequence or an image have one scale for all of them
    shares_scale: ClassVar[bool] = True

    @classmethod
    def fit(
        cls,
        index: int,
        values: np.ndarray,
        weights: np.ndarray | None,
        likelihood: Likelihood | None,
        categories: np.ndarray,
        *,
        is_integer: bool,
    ) -> Self:
        """Fit mean and standard deviation, bounds and recording step."""
        exponent, mean, scale = cls._fit_units(values, weights)
        bounds, decimals = cls._fit_bounds(values, weights, exponent, is_integer=is_integer)
        return cls(
            np.array([index]),
            likelihood,
            np.array([exponent]),
            np.array([mean]),
            np.array([scale]),
            np.array([bounds]),
            np.array([decimals]),
        )

    @classmethod
    def _fit_units(
        cls, values: np.ndarray, weights: np.ndarray | None
    ) -> tuple[int, np.floating, np.floating]:
        """Fit the power of two, and mean and standard deviation after the link and the division."""
        exponent = cls._fit_exponent(values)
        linked = np.ldexp(cls._link(values.astype(np.float64)), -exponent)
        mean = np.average(linked, weights=weights)
        return exponent, mean, np.sqrt(np.average(np.square(linked - mean), weights=weights))

    @staticmethod
    def _fit_exponent(values: np.ndarray) -> int:
        return int(np.frexp(np.float64(max(values.max(), -values.min())))[1])

    @staticmethod
    def _link(X: np.ndarray) -> np.ndarray:
        return X

    @staticmethod
    def _inverse_link(X: np.ndarray) -> np.ndarray:
        return X

    @classmethod
    def _fit_bounds(
        cls, values: np.ndarray, weights: np.ndarray | None, exponent: int, *, is_integer: bool
    ) -> tuple[tuple[float, float], int]:
        """Bounds of samples in X's units, and their decimals."""
        exact = values.astype(np.float64)
        minimum, maximum = exact.min(), exact.max()
        with np.errstate(over="ignore"):
            linked = np.ldexp(cls._link(exact), -exponent)
            low, high = cls._inverse_link(np.ldexp(sample_bounds(linked, weights), exponent))
        # they do not cross 0 if no value does
        low = 0.0 if minimum >= 0 > low > -np.inf else low
        high = 0.0 if maximum <= 0 < high < np.inf else high
        largest = np.finfo(np.float64).max
        low, high = np.clip([low, high], -largest, largest).tolist()
        # exactly the extreme value, where they differ from it by rounding
        low = minimum if equal_up_to_rounding(low, minimum) else low
        high = maximum if equal_up_to_rounding(maximum, high) else high
        return (low, high), recording_decimals(values, is_integer=is_integer)

    def check(self) -> None:
        """Check the attributes, as after reading them from a file."""
        super().check()
        k = len(self.indices)
        check_array("exponent", self.exponent, "i", (k,))
        check_array("shift", self.shift, "f", (k,))
        check_array("scale", self.scale, "f", (k,))
        check_array("bounds", self.bounds, "f", (k, 2), allows_nan=True)
        check_array("decimals", self.decimals, "i", (k,))
        if not (self.scale > 0).all() or (np.abs(self.exponent) > LARGEST_EXPONENT).any():
            raise ValueError("'scale' must be above 0, and 'exponent' that of a number")
        if (self.bounds[:, 0] > self.bounds[:, 1]).any():
            raise ValueError("'bounds' must be in order")
        if (np.abs(self.decimals) > MOST_DECIMALS).any():
            raise ValueError(f"'decimals' must be at most {MOST_DECIMALS}")

    @property
    def is_restricted(self) -> np.ndarray:
        """Whether columns have unseen values: no real column has any."""
        return np.zeros(len(self.indices), dtype=bool)

    def is_unseen(self, X: np.ndarray) -> np.ndarray:
        """Find values that the likelihood gives no probability: there is none."""
        return np.zeros(X.shape, dtype=bool)

    def units(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the power of two, the mean and the standard deviation: (k,) each."""
        return self.exponent, self.shift, self.scale

    def _standardize(self, X: np.ndarray) -> np.ndarray:
        """Divide by the power of two, subtract the mean, divide by the scale: (n, k) -> (n, k)."""
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            values = np.ldexp(self._link(X.astype(np.float64)), -self.exponent)
            values -= self.shift
            values /= self.scale
        return values

    def _unstandardize(self, values: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return self._inverse_link(np.ldexp(values * self.scale + self.shift, self.exponent))

    def _encode(self, X: np.ndarray) -> np.ndarray:
        return _clip(self._standardize(X), X.dtype)

    def decode(
        self, values: np.ndarray, *, rounds: bool = False, is_sample: bool = False
    ) -> np.ndarray:
        """Undo the standardisation: (n, k) -> (n, k)."""
        X = self._unstandardize(values)
        return self._as_recorded(X) if is_sample else X

    def _as_recorded(self, X: np.ndarray) -> np.ndarray:
        """Clip samples to their bounds, and round them to their decimals: (n, k) -> (n, k)."""
        X = np.fmin(np.fmax(X, self.bounds[:, 0]), self.bounds[:, 1])
        for decimals in np.unique(self.decimals[self.decimals >= 0]).tolist():
            columns = self.decimals == decimals
            X[:, columns] = np.round(X[:, columns], decimals)
        return X

    def limits(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return bounds and half the recording step in the model's units."""
        low, high = self._standardize(self.bounds.T)
        with np.errstate(over="ignore"):
            step = np.where(self.decimals >= 0, 0.5 * 10.0 ** -np.maximum(self.decimals, 0), 0)
            radius = np.ldexp(step, -self.exponent) / self.scale
        low, high = np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)
        return low, high, np.empty((len(low), 0)), radius

    @property
    def _log_scale(self) -> np.ndarray:
        return np.log(self.scale) + self.exponent * np.log(2)

    def _log_det(self, X: np.ndarray) -> np.ndarray:
        if has_missing_values(X).any():
            return -(self._log_scale * ~np.isnan(X)).sum(axis=1)
        return np.full(len(X), -self._log_scale.sum())


@serializable
@dataclass(eq=False)
class PositiveColumns(RealColumns):
    """Positive numbers, the logarithms of which are standardised."""

    @staticmethod
    def _fit_exponent(values: np.ndarray) -> int:
        return 0

    @staticmethod
    def _link(X: np.ndarray) -> np.ndarray:
        return np.log(np.maximum(X, 0))

    @staticmethod
    def _inverse_link(X: np.ndarray) -> np.ndarray:
        return np.exp(X)

    @property
    def is_restricted(self) -> np.ndarray:
        """Whether columns have unseen values: all of them."""
        return np.ones(len(self.indices), dtype=bool)

    def is_unseen(self, X: np.ndarray) -> np.ndarray:
        """Find values of 0 or less: (n, k) -> (n, k)."""
        return X <= 0

    def _nearest(self, X: np.ndarray) -> np.ndarray:
        return np.exp(self.shift)  # the median: a value near 0 would be far from all others

    def _log_unseen(self, X: np.ndarray, log_unseen: float) -> np.ndarray:
        median = np.exp(self.shift)
        return _cauchy(X, log_unseen, median, median)

    def describe_values(self, column: int) -> str:
        """Describe the possible values."""
        return "above 0"

    def _log_det(self, X: np.ndarray) -> np.ndarray:
        return super()._log_det(X) - np.nan_to_num(np.log(X.astype(np.float64))).sum(axis=1)


@serializable
@dataclass(eq=False)
class PointMassColumns(RealColumns):
    """Real numbers of which some values are common, as 0 among prices.

    The model's input is one-hot for the point masses, followed by the standardised number,
    which is 0 at a point mass.

    Attributes
    ----------
    point_masses : ndarray of shape (k, S)
        Common values, in order.
    """

    point_masses: np.ndarray

    shares_scale: ClassVar[bool] = False

    @classmethod
    def fit(
        cls,
        index: int,
        values: np.ndarray,
        weights: np.ndarray | None,
        likelihood: Likelihood | None,
        categories: np.ndarray,
        *,
        is_integer: bool,
    ) -> Self:
        """Fit the scale to all values; bounds and recording step to those that are not common."""
        exponent, mean, scale = cls._fit_units(values, weights)
        is_number = ~np.isin(values, categories)
        bounds, decimals = (np.nan, np.nan), -1
        if is_number.any():
            weights = None if weights is None else weights[is_number]
            bounds, decimals = cls._fit_bounds(
                values[is_number], weights, exponent, is_integer=is_integer
            )
        return cls(
            np.array([index]),
            likelihood,
            np.array([exponent]),
            np.array([mean]),
            np.array([scale]),
            np.array([bounds]),
            np.array([decimals]),
            categories[None],
        )

    def check(self) -> None:
        """Check the attributes, as after reading them from a file."""
        super().check()
        shape = (len(self.indices), self.width - 1)
        check_array("point_masses", self.point_masses, "f", shape)
        _check_order("point_masses", self.point_masses)

    @property
    def is_restricted(self) -> np.ndarray:
        """Whether columns had no other values than their point masses in ``fit``: (k,)."""
        return np.isnan(self.bounds[:, 0])

    def is_unseen(self, X: np.ndarray) -> np.ndarray:
        """Find numbers in columns that had point masses only: (n, k) -> (n, k)."""
        is_restricted = self.is_restricted
        if not is_restricted.any():
            return np.zeros(X.shape, dtype=bool)
        return ~(np.isnan(X) | _is_category(X, self.point_masses)) & is_restricted

    def _nearest(self, X: np.ndarray) -> np.ndarray:
        nearest = np.abs(X[..., None] - self.point_masses).argmin(axis=-1)
        return _take(self.point_masses, nearest)

    def _log_unseen(self, X: np.ndarray, log_unseen: float) -> np.ndarray:
        location, scale = np.ldexp([self.shift, self.scale], self.exponent)
        return _cauchy(X, log_unseen, location, scale)

    def describe_values(self, column: int) -> str:
        """Describe the possible values."""
        return _join(self.point_masses[column])

    def _encode(self, X: np.ndarray) -> np.ndarray:
        values = np.empty((*X.shape, self.width))
        values[..., :-1] = _one_hot(X, self.point_masses)
        values[..., -1] = np.where(_is_category(X, self.point_masses), 0, super()._encode(X))
        values[np.isnan(X)] = np.nan
        return values.reshape(len(X), -1)

    def decode(
        self, values: np.ndarray, *, rounds: bool = False, is_sample: bool = False
    ) -> np.ndarray:
        """Return means over point masses and numbers, or samples: (n, k * (S + 1)) -> (n, k)."""
        cells = values.reshape(len(values), len(self.indices), self.width)
        probability, number = cells[..., :-1], cells[..., -1]
        point_masses = self._standardize(self.point_masses.T).T
        mean = (probability * point_masses).sum(axis=-1) + (1 - probability.sum(axis=-1)) * number
        X = super().decode(mean, is_sample=is_sample)
        if is_sample and (closed := self.is_restricted).any():
            X[:, closed] = self._nearest(X)[:, closed]
        is_certain = probability.max(axis=-1) == 1
        return np.where(is_certain, _take(self.point_masses, probability.argmax(axis=-1)), X)

    def limits(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return bounds, point masses and half the recording step in the model's units."""
        low, high, _, radius = super().limits()
        return low, high, self._standardize(self.point_masses.T).T, radius

    def _log_det(self, X: np.ndarray) -> np.ndarray:
        is_number = ~(_is_category(X, self.point_masses) | np.isnan(X))
        return -(self._log_scale * is_number).sum(axis=1)


@serializable
@dataclass(eq=False)
class CountColumns(Columns):
    """Counts, of which the model's input is the root, divided by a power of two."""

    @classmethod
    def fit(
        cls,
        index: int,
        values: np.ndarray,
        weights: np.ndarray | None,
        likelihood: Likelihood | None,
        categories: np.ndarray,
        *,
        is_integer: bool,
    ) -> Self:
        """Fit the unit: the power of two next to the root of the mean."""
        root = np.sqrt(np.average(values.astype(np.float64), weights=weights))
        unit = float(2.0 ** np.rint(np.log2(root)))
        return cls(np.array([index]), replace(cast(Poisson, likelihood), unit=unit))

    @property
    def _unit(self) -> float:
        return cast(Counts, self.likelihood).unit

    def is_unseen(self, X: np.ndarray) -> np.ndarray:
        """Find negative numbers and fractions: (n, k) -> (n, k)."""
        return (X < 0) | ((np.rint(X) != X) & ~np.isnan(X))

    def _nearest(self, X: np.ndarray) -> np.ndarray:
        return np.maximum(np.rint(X), 0)

    def _log_unseen(self, X: np.ndarray, log_unseen: float) -> np.ndarray:
        return _cauchy(X, log_unseen, self._unit**2, self._unit**2)

    def describe_values(self, column: int) -> str:
        """Describe the possible values."""
        return "whole numbers of 0 or more"

    def _encode(self, X: np.ndarray) -> np.ndarray:
        return _clip(np.sqrt(np.maximum(X.astype(np.float64), 0)) / self._unit, X.dtype)

    def decode(
        self, values: np.ndarray, *, rounds: bool = False, is_sample: bool = False
    ) -> np.ndarray:
        """Square the roots, and round them if asked to: (n, k) -> (n, k)."""
        with np.errstate(over="ignore"):
            counts = np.square(values * self._unit)
        return np.rint(counts) if rounds or is_sample else counts


# -- categories --------------------------------------------------------------------------


@serializable
@dataclass(eq=False)
class CategoricalColumns(Columns):
    """Categories without an order, one-hot encoded.

    Attributes
    ----------
    categories : ndarray of shape (k, C)
        Categories of each column, in order, in the dtype of the rows in ``fit``.
    """

    categories: np.ndarray

    @classmethod
    def fit(
        cls,
        index: int,
        values: np.ndarray,
        weights: np.ndarray | None,
        likelihood: Likelihood | None,
        categories: np.ndarray,
        *,
        is_integer: bool,
    ) -> Self:
        """Keep the categories."""
        return cls(np.array([index]), likelihood, categories[None])

    @property
    def n_categories(self) -> int:
        """Number of categories."""
        return cast(Categorical, self.likelihood).n_classes

    def check(self) -> None:
        """Check the attributes, as after reading them from a file."""
        super().check()
        check_array("categories", self.categories, "f", (len(self.indices), self.n_categories))
        _check_order("categories", self.categories)

    def is_unseen(self, X: np.ndarray) -> np.ndarray:
        """Find values that are no categories: (n, k) -> (n, k)."""
        return ~(np.isnan(X) | _is_category(X, self.categories))

    def _nearest(self, X: np.ndarray) -> np.ndarray:
        return self.categories[:, 0]

    def describe_values(self, column: int) -> str:
        """Describe the categories of a column."""
        return _join(self.categories[column])

    def _encode(self, X: np.ndarray) -> np.ndarray:
        one_hot = _one_hot(X, self.categories, np.float64)
        one_hot[np.isnan(X)] = np.nan
        return one_hot.reshape(len(X), -1)

    def decode(
        self, values: np.ndarray, *, rounds: bool = False, is_sample: bool = False
    ) -> np.ndarray:
        """Return the most probable categories: (n, k * C) -> (n, k)."""
        probability = values.reshape(len(values), len(self.indices), self.n_categories)
        missing = np.isnan(probability)
        if not missing.any():
            return _take(self.categories, probability.argmax(axis=-1))
        X = _take(self.categories, np.where(missing, 0, probability).argmax(axis=-1))
        return np.where(missing.any(axis=-1), np.nan, X)


@serializable
@dataclass(eq=False)
class OrdinalColumns(CategoricalColumns):
    """Categories with an order, encoded as evenly spaced numbers from 0 to 1."""

    def _encode(self, X: np.ndarray) -> np.ndarray:
        values = _one_hot(X, self.categories).argmax(axis=-1) / (self.n_categories - 1)
        return np.where(np.isnan(X), np.nan, values)

    def decode(
        self, values: np.ndarray, *, rounds: bool = False, is_sample: bool = False
    ) -> np.ndarray:
        """Return the nearest categories: (n, k) -> (n, k)."""
        is_missing = np.isnan(values)
        indices = np.rint(
            np.where(is_missing, 0, values).clip(0, 1) * (self.n_categories - 1)
        ).astype(int)
        return np.where(is_missing, np.nan, _take(self.categories, indices))


@serializable
@dataclass(eq=False)
class BinaryColumns(CategoricalColumns):
    """Two values, encoded as 0 and 1."""

    @property
    def n_categories(self) -> int:
        """Number of categories."""
        return 2

    def units(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the power of two, the lower value and the distance to the upper: (k,) each."""
        categories = self.categories.astype(np.float64)
        exponent = np.frexp(np.abs(np.nan_to_num(categories)).max(axis=1))[1]
        low, high = np.ldexp(categories[:, [0, -1]].T, -exponent)
        return exponent, low, np.where(high > low, high - low, 1.0)

    def is_unseen(self, X: np.ndarray) -> np.ndarray:
        """Find values that are neither of the two, up to rounding: (n, k) -> (n, k)."""
        seen = np.isnan(X)
        with np.errstate(over="ignore"):
            for category in self.categories.T.astype(X.dtype):
                seen |= category == X
        if seen.all():
            return ~seen
        # X may be a copy of the training rows in single precision, or the other way round
        rounding = max(ROUNDING, np.finfo(X.dtype).eps, np.finfo(self.categories.dtype).eps)
        exponent, _, scale = self.units()
        values = np.ldexp(X.astype(np.float64), -exponent)
        for category in np.ldexp(self.categories.T.astype(np.float64), -exponent):
            tolerance = np.minimum(rounding * np.abs(category), scale / 4)
            seen |= np.abs(values - category) <= tolerance
        return ~seen

    def substitute(self, X: np.ndarray, *, allows_missing: bool) -> np.ndarray:
        """Return NaN for an unknown category, and numbers as they are: (n, k) -> (n, k)."""
        return np.where((X == UNKNOWN) & allows_missing, np.nan, X)

    def _middle(self) -> np.ndarray:
        low, high = self.categories.T.astype(np.float64)
        return low / 2 + high / 2

    def _encode(self, X: np.ndarray) -> np.ndarray:
        return np.where(np.isnan(X), np.nan, X.astype(np.float64) > self._middle())

    def decode(
        self, values: np.ndarray, *, rounds: bool = False, is_sample: bool = False
    ) -> np.ndarray:
        """Return means of the two values, or the nearer one: (n, k) -> (n, k)."""
        exponent, shift, scale = self.units()
        with np.errstate(over="ignore"):
            X = np.ldexp(values * scale + shift, exponent)
        if not (rounds or is_sample):
            return X
        low, high = self.categories.T.astype(np.float64)
        return np.where(np.isnan(X), X, np.where(self._middle() < X, high, low))


@serializable
@dataclass(eq=False)
class ConstantColumns(BinaryColumns):
    """One value, or none at all; the model has no input of it."""

    @property
    def n_categories(self) -> int:
        """Number of categories."""
        return 1

    def check(self) -> None:
        """Check the attributes, as after reading them from a file."""
        Columns.check(self)
        shape = (len(self.indices), 1)
        check_array("categories", self.categories, "f", shape, allows_nan=True)

    def _encode(self, X: np.ndarray) -> np.ndarray:
        return np.empty((len(X), 0))

    def decode(
        self, values: np.ndarray, *, rounds: bool = False, is_sample: bool = False
    ) -> np.ndarray:
        """Return the constants: (n, 0) -> (n, k)."""
        return np.repeat(self.categories.T, len(values), axis=0)


COLUMNS: dict[type, type[Columns]] = {
    NoneType: ConstantColumns,
    Gaussian: RealColumns,
    StudentT: RealColumns,
    LogNormal: PositiveColumns,
    ZeroInflated: PointMassColumns,
    Bernoulli: BinaryColumns,
    Categorical: CategoricalColumns,
    Ordinal: OrdinalColumns,
    Poisson: CountColumns,
    NegativeBinomial: CountColumns,
}


# -- several columns ---------------------------------------------------------------------


def share_scale(columns: list[Columns]) -> None:
    """Give real columns their common mean and scale, in place.

    All their values together have mean 0 and variance 1.
    """
    real = [one for one in columns if isinstance(one, RealColumns) and one.shares_scale]
    if not real:
        return
    exponent = np.max([one.exponent for one in real])
    means = np.concatenate([np.ldexp(one.shift, one.exponent - exponent) for one in real])
    scales = np.concatenate([np.ldexp(one.scale, one.exponent - exponent) for one in real])
    scale = np.sqrt(np.mean(np.square(scales) + np.square(means - means.mean())))
    for one in real:
        one.exponent, one.shift = np.array([exponent]), np.array([means.mean()])
        one.scale = np.array([scale])


def share_categories(columns: list[Columns], is_coded: list[bool]) -> list[Columns]:
    """Give categorical columns, and binary ones beside them, the categories of all.

    Columns whose categories a schema has coded have one list already.
    """
    categorical = [
        one
        for one, coded in zip(columns, is_coded, strict=True)
        if type(one) is CategoricalColumns and not coded
    ]
    if not categorical:
        return columns
    joined = [*categorical, *(one for one in columns if type(one) is BinaryColumns)]
    categories = np.unique(np.concatenate([one.categories.ravel() for one in joined]))
    return [
        CategoricalColumns(one.indices, Categorical(len(categories)), categories[None])
        if one in joined
        else one
        for one in columns
    ]


# -- arrays ------------------------------------------------------------------------------


def _clip(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    limit = INPUT_CLIP[dtype]
    return np.clip(values, -limit, limit, out=values)


def _one_hot(X: np.ndarray, categories: np.ndarray, dtype: type = bool) -> np.ndarray:
    """Compare values with categories, in the coarser of the two dtypes: (n, k) -> (n, k, C)."""
    X, categories = _in_coarser_dtype(X, categories)
    one_hot = np.empty((*X.shape, categories.shape[1]), dtype)
    if len(X) < categories.shape[1]:
        return np.equal(X[..., None], categories, out=one_hot)
    for c, category in enumerate(categories.T):  # a short last axis is slow
        one_hot[..., c] = category == X
    return one_hot


def _is_category(X: np.ndarray, categories: np.ndarray) -> np.ndarray:
    """Find values that are categories: (n, k) -> (n, k)."""
    X, categories = _in_coarser_dtype(X, categories)
    if len(X) < categories.shape[1]:
        return (X[..., None] == categories).any(axis=-1)
    is_category = np.zeros(X.shape, dtype=bool)
    for category in categories.T:
        is_category |= category == X
    return is_category


def _in_coarser_dtype(X: np.ndarray, categories: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    dtype = min(X.dtype, categories.dtype, key=lambda dtype: dtype.itemsize)
    return X.astype(dtype, copy=False), categories.astype(dtype, copy=False)


def _take(categories: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Look up categories (k, C) by their indices: (n, k) -> (n, k), in double precision."""
    return categories.astype(np.float64)[np.arange(len(categories)), indices]


def _join(values: np.ndarray) -> str:
    return ", ".join(map(str, values.tolist()))


def _cauchy(
    X: np.ndarray, log_unseen: float, location: np.ndarray | float, scale: np.ndarray | float
) -> np.ndarray:
    """Log-density of unseen numbers: (n, k) -> (n, k)."""
    with np.errstate(over="ignore"):
        distance = np.abs(X.astype(np.float64) / scale - location / scale)
    distance = np.minimum(distance, LARGEST_DISTANCE)
    return log_unseen - np.log(np.pi * scale) - 2 * np.log(np.hypot(1, distance))


def _check_order(name: str, values: np.ndarray) -> None:
    if not (np.diff(values) > 0).all():
        raise ValueError(f"{name!r} must be in order")
