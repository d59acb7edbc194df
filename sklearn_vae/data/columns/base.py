"""Base class of columns: fit, check, encode, decode and log-abs-det-Jacobian of one kind of column.

An object holds all columns of one likelihood, which are adjacent in the model's input, and
computes them at once. In shapes, n is the number of rows, k the number of columns, C the number
of categories and S the number of point masses. A missing value is NaN.

A value is *unseen* if the column's likelihood gives it no probability: another category, another
value of a constant, a number below 0 among positive ones. By the rule of succession, 1/(n + 2) is
the probability of unseen values after n rows. A new category has all of it; numbers share it, as
a Cauchy density.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from itertools import chain
from typing import Annotated, Any, ClassVar, Self

import numpy as np

from sklearn_vae.data.training_column import TrainingColumn
from sklearn_vae.likelihoods import Likelihood

# The generator of samples; None of means.
Draws = np.random.Generator | None
# Probability of values other than those that are ruled out, at least: means are divided by it.
LEAST_REST = 1e-6
# Squared distance of rows of different classes, the mean one of two standardized numbers.
CLASS_SQUARED_DISTANCE = 2.0


@dataclass(eq=False)
class Columns(ABC):
    """Columns of X of one likelihood, adjacent in the model's input.

    A subclass is one kind of column. It implements ``fit``, ``encode`` and ``decode``, ``nearest``
    if it has unseen values, and any method whose default does not fit.
    """

    indices: Annotated[np.ndarray, "i", "k"]  # those of the columns in X
    likelihood: Any  # None for constant columns, of which the model has no input

    likelihoods: ClassVar[tuple[type, ...]]  # classes that the likelihood may have
    # description of the values that the columns may have, if they are not few
    possible_values: ClassVar[str] = "real numbers"

    @classmethod
    @abstractmethod
    def fit(cls, column: TrainingColumn, likelihood: Likelihood | None) -> Self:
        """Fit one column with a likelihood."""

    @classmethod
    def contradiction(cls, column: TrainingColumn) -> tuple[str, str] | None:
        """Return the values that a request by the user needs, and other ones of the column.

        It is None if the column can have the requested likelihood.
        """
        return None

    @classmethod
    def resolve(cls, column: TrainingColumn) -> Likelihood | None:
        """Return the requested likelihood, with its sizes for this column."""
        requested = column.requested
        return requested() if isinstance(requested, type) else requested

    @classmethod
    def concatenate(cls, columns: list["Columns"]) -> Self:
        """Join columns of this class and of one likelihood."""
        joined: dict[str, Any] = {"likelihood": columns[0].likelihood}
        for name in [field.name for field in fields(cls) if field.name != "likelihood"]:
            parts = [getattr(part, name) for part in columns]
            is_list = isinstance(parts[0], list)
            joined[name] = list(chain(*parts)) if is_list else np.concatenate(parts)
        return cls(**joined)

    @property
    def encoded_likelihood(self) -> Likelihood:
        """Likelihood of the encoded columns, if they vary."""
        return self.likelihood

    def check(self) -> None:
        """Check the attributes, as after reading them from a file."""
        if not len(self.indices) or type(self.likelihood) not in self.likelihoods:
            raise ValueError(f"{type(self).__name__} cannot have {self.likelihood!r}")

    @property
    def width(self) -> int:
        """Inputs of the model per column."""
        return 0 if self.likelihood is None else self.likelihood.width

    @property
    def distance_scale(self) -> float:
        """Factor of the model's inputs in distances between rows."""
        return 1.0

    def take(self, X: np.ndarray) -> np.ndarray:
        """Take these columns, without a copy if they are adjacent in X: (n, d) -> (n, k)."""
        first, last = int(self.indices[0]), int(self.indices[-1]) + 1
        is_adjacent = np.array_equal(self.indices, np.arange(first, last))
        return X[:, first:last] if is_adjacent else X[:, self.indices]

    # -- unseen values ---------------------------------------------------------------

    @property
    def is_restricted(self) -> np.ndarray:
        """Mask of columns that can have unseen values: (k,)."""
        return np.ones(len(self.indices), dtype=bool)

    def is_unseen(self, X: np.ndarray) -> np.ndarray:
        """Find values that the likelihood gives no probability: (n, k) -> (n, k)."""
        return np.zeros(X.shape, dtype=bool)

    def nearest(self, X: np.ndarray) -> np.ndarray:
        """Return a possible value similar to each unseen one: (n, k) -> (n, k)."""
        raise NotImplementedError

    def replace_unseen(self, X: np.ndarray, allows_missing: bool) -> np.ndarray:
        """Replace unseen values by NaN if the model allows it, or by possible ones: (n, k)."""
        unseen = self.is_unseen(X)
        if not unseen.any():
            return X
        X = X.copy()
        np.copyto(X, np.nan if allows_missing else self.nearest(X), where=unseen)
        return X

    def log_unseen_density(self, X: np.ndarray, log_unseen: float) -> np.ndarray | float:
        """Log-probability or log-density of unseen values: (n, k) -> (n, k)."""
        return log_unseen

    def values(self, column: int) -> np.ndarray | None:
        """Return the values of one column, by its index in ``indices``, if they are few."""
        return None

    # -- encoding --------------------------------------------------------------------

    @abstractmethod
    def encode(self, X: np.ndarray) -> np.ndarray:
        """Encode possible values in the model's units, in float64: (n, k) -> (n, k * width)."""

    @abstractmethod
    def decode(self, values: np.ndarray, rounds: np.ndarray, generator: Draws) -> np.ndarray:
        """Decode means, or with a generator samples, in X's units: (n, k * width) -> (n, k).

        Means of binary columns and counts with mask ``rounds`` (k,) are rounded to possible
        values; those of categorical and ordinal columns always are. Samples are rounded, and keep
        to bounds and recording steps; of values that share a code, one is drawn.
        """

    def dequantize(self, X: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Spread values that are recorded in steps over their step: (n, k) -> (n, k)."""
        return X

    def limits(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return limits of samples in the model's units.

        They are lower and upper bounds (k,), infinite where there are none, and point masses
        (k, S), which other samples must not have.
        """
        infinite = np.full(len(self.indices), np.inf)
        return -infinite, infinite, np.empty((len(infinite), 0))

    def on_steps(self, X: np.ndarray) -> np.ndarray:
        """Round numbers to the recording steps of their columns: (n, k) -> (n, k)."""
        return X

    def within_bounds(self, X: np.ndarray) -> np.ndarray:
        """Clip numbers to the range of the values in ``fit``: (n, k) -> (n, k)."""
        return X

    def encoded_steps(self) -> np.ndarray:
        """Return the recording steps of encoded numbers: (k,), 0 where there are none."""
        return np.zeros(len(self.indices))

    # -- density ---------------------------------------------------------------------

    def log_derivative(self, X: np.ndarray) -> np.ndarray:
        """Log-derivative of the encoding of seen values, NaN for others: (n, k) -> (n, k).

        Of probabilities it is 0, or the log-probability of a value among those of one code.
        """
        return np.zeros(X.shape)

    def log_abs_det_jacobian(
        self, X: np.ndarray, log_unseen: float, *, in_units: bool
    ) -> np.ndarray:
        """Return the difference of log-densities of X and of its encoding: (n, k) -> (n,).

        Restricted columns have the log-probability that a value is seen, or that of unseen ones.
        Log-derivatives, by which a density is in X's units, are left out if not ``in_units``.
        """
        unseen = self.is_unseen(X)
        seen = ~(np.isnan(X) | unseen)
        derivatives = self.log_derivative(np.where(seen, X, np.nan)) if in_units else 0.0
        log_det = np.where(seen, derivatives, 0).sum(axis=1)
        if unseen.any():
            log_det += np.where(unseen, self.log_unseen_density(X, log_unseen), 0).sum(axis=1)
        log_seen = float(np.log1p(-np.exp(log_unseen)))
        return log_det + seen @ (log_seen * self.is_restricted)


def cauchy_log_density(
    X: np.ndarray, log_unseen: float, location: np.ndarray | float, scale: np.ndarray | float
) -> np.ndarray:
    """Log-density of unseen numbers: (n, k) -> (n, k)."""
    with np.errstate(over="ignore"):
        distance = np.abs(X.astype(np.float64) / scale - location / scale)
    distance = np.minimum(distance, 1e300)  # finite
    return log_unseen - np.log(np.pi * scale) - 2 * np.log(np.hypot(1, distance))


def one_hot(X: np.ndarray, categories: np.ndarray, dtype: type = bool) -> np.ndarray:
    """One-hot encode values, compared in the coarser of the two dtypes: (n, k) -> (n, k, C)."""
    X, categories = in_coarser_dtype(X, categories)
    return (X[..., None] == categories).astype(dtype, copy=False)


def is_category(X: np.ndarray, categories: np.ndarray) -> np.ndarray:
    """Find values that are categories: (n, k) -> (n, k)."""
    X, categories = in_coarser_dtype(X, categories)
    if len(X) < categories.shape[1]:
        return (X[..., None] == categories).any(axis=-1)
    mask = np.zeros(X.shape, dtype=bool)
    for category in categories.T:  # a short last axis is slow
        mask |= category == X
    return mask


def take_categories(categories: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Look up categories (k, C) by their codes: (n, k) -> (n, k), in double precision."""
    return categories.astype(np.float64)[np.arange(len(categories)), codes]


def in_coarser_dtype(X: np.ndarray, categories: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Convert values and categories to the dtype of the one that has fewer digits."""
    dtype = min(X.dtype, categories.dtype, key=lambda dtype: dtype.itemsize)
    with np.errstate(over="ignore"):
        return X.astype(dtype, copy=False), categories.astype(dtype, copy=False)


def times_power_of_two(values: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    """Multiply columns by powers of two, as ``np.ldexp`` and faster: (n, k), (k,) -> (n, k)."""
    if (np.abs(exponent) > 1000).any():  # the power itself may overflow
        return np.ldexp(values, exponent)
    return values * np.ldexp(1.0, exponent)


def find_in_order(x: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Indices of x among ordered values, in the coarser of the two dtypes; -1 for others: (n,)."""
    x, values = in_coarser_dtype(x, values)
    index = np.searchsorted(values, x).clip(max=len(values) - 1)
    return np.where(values[index] == x, index, -1)
