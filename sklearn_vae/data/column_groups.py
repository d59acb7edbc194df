"""The columns of a table, each by itself, in groups of one likelihood."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

import numpy as np

from sklearn_vae.data.columns.base import Columns, Draws
from sklearn_vae.data.columns.binary import BinaryColumns, ConstantColumns, OneHotColumns
from sklearn_vae.data.columns.categories import CategoricalColumns, OrdinalColumns
from sklearn_vae.data.columns.numbers import PositiveColumns, RealColumns
from sklearn_vae.data.fields import Name
from sklearn_vae.likelihoods import Gaussian, Likelihood
from sklearn_vae.numerics.rows import small_batches
from sklearn_vae.persistence.validation import check_hashes


@dataclass(repr=False, eq=False)
class ColumnGroups:
    """Columns of X, each encoded by itself; those of one likelihood are adjacent when encoded.

    Shapes are those of ``TableEncoder``, which adds what columns have in common.
    """

    names: list[Name]  # or indices if columns have none; tuples of a MultiIndex
    groups: list[Columns]  # of one likelihood each, in the order of the model's input
    log_unseen: float  # log-probability of unseen values in a column, by the rule of succession
    has_missing: bool = False  # whether the model was fitted to rows with missing values
    # whether the model takes missing values: unseen ones are then missing, else the nearest ones
    allows_missing: bool = True

    def check(self) -> None:
        """Check the attributes, as after reading them from a file."""
        indices = np.concatenate([np.zeros(0, int), *(group.indices for group in self.groups)])
        if not np.array_equal(np.sort(indices), np.arange(self.n_features)):
            raise ValueError("the groups must hold each column once")
        check_hashes(self.names)

    @property
    def n_features(self) -> int:
        """Number of columns of X."""
        return len(self.names)

    @property
    def likelihoods(self) -> list[Likelihood | None]:
        """Likelihood of each column of X; None for a constant one."""
        return self._by_column(lambda group: group.likelihood, object).tolist()

    @property
    def blocks(self) -> tuple[tuple[Likelihood, int], ...]:
        """Likelihoods, and the number of adjacent columns of each, in the model's input."""
        groups = groupby(self._varying_groups, attrgetter("encoded_likelihood"))
        blocks = [(each, sum(len(group.indices) for group in same)) for each, same in groups]
        return tuple(blocks) or ((Gaussian(), 0),)

    @property
    def _one_hot(self) -> list[OneHotColumns]:
        """Columns that exclude each other."""
        return [group for group in self.groups if isinstance(group, OneHotColumns)]

    @property
    def _varying_groups(self) -> list[Columns]:
        """Columns that the model has an input of: all but constant ones."""
        return [group for group in self.groups if group.likelihood is not None]

    @property
    def order(self) -> np.ndarray:
        """Indices of the columns of X, in the order of the model's input: (n,)."""
        return np.concatenate([np.zeros(0, int), *(each.indices for each in self._varying_groups)])

    @property
    def n_columns(self) -> int:
        """Number of the model's inputs of X."""
        return sum(group.width * len(group.indices) for group in self.groups)

    @property
    def is_positive(self) -> np.ndarray:
        """Mask of columns of positive numbers: (n_features,)."""
        return self.mask(PositiveColumns)

    @property
    def is_constant(self) -> np.ndarray:
        """Mask of constant columns: (n_features,)."""
        return self.mask(ConstantColumns)

    @property
    def has_discrete_values(self) -> np.ndarray:
        """Mask of columns of one value, of two, or of categories: (n_features,)."""
        return self.mask(
            BinaryColumns, OneHotColumns, ConstantColumns, CategoricalColumns, OrdinalColumns
        )

    @property
    def is_told_by(self) -> np.ndarray:
        """Mask of the one-hot columns of a column's class, and of itself: (d, n_features)."""
        mask = np.eye(self.n_features, dtype=bool)
        for group in self._one_hot:
            columns = group.grouped(group.indices)
            mask[columns[:, :, None], columns[:, None]] = True
        return mask

    @property
    def column_of_input(self) -> np.ndarray:
        """Index in X of the column of each of the model's inputs: (n_columns,)."""
        return self.order[self._position_of_input]

    @property
    def _position_of_input(self) -> np.ndarray:
        """Position in ``order`` of the column of each of the model's inputs: (n_columns,)."""
        widths = [group.width for group in self._varying_groups for _ in group.indices]
        return np.arange(len(widths)).repeat(widths)

    @property
    def inputs_of_numbers(self) -> np.ndarray:
        """Indices of the model's inputs that are a real or positive number each: (m,)."""
        is_number = self.mask(RealColumns, PositiveColumns)
        return np.flatnonzero(is_number[self.column_of_input])

    @property
    def distance_scale(self) -> np.ndarray:
        """Factor of each column in distances between rows, 1 if standardized: (n_features,)."""
        return self._by_column(lambda group: group.distance_scale, float)

    @property
    def is_empty(self) -> np.ndarray:
        """Mask of columns without any value in ``fit``: (n_features,)."""
        return self._by_column(
            lambda group: type(group) is ConstantColumns and np.isnan(group.categories[:, 0]), bool
        )

    def mask(self, *classes: type[Columns]) -> np.ndarray:
        """Mask of the columns of these kinds: (n_features,)."""
        return self._by_column(lambda group: type(group) in classes, bool)

    def _by_column(self, of_group: Callable[[Any], Any], dtype: Any, *n_rows: int) -> np.ndarray:
        """Join what a function returns of each group, in the order of X: ([n_rows], n_features)."""
        values = np.empty((*n_rows, self.n_features), dtype)
        for group in self.groups:
            values[..., group.indices] = of_group(group)
        return values

    # -- encoding --------------------------------------------------------------------

    def _encode(self, filled: np.ndarray) -> list[np.ndarray]:
        """Encode each group of columns: (n, n_features) -> (n, n_inputs of the group)."""
        return [
            group.encode(group.replace_unseen(group.take(filled), self.allows_missing))
            for group in self.groups
        ]

    def _decode(
        self, values: np.ndarray, is_rounded: np.ndarray | bool, generator: Draws
    ) -> np.ndarray:
        """Decode each group of columns: (n, n_columns) -> (n, n_features)."""
        X = np.empty((len(values), self.n_features), values.dtype)
        is_rounded = np.broadcast_to(is_rounded, self.n_features)
        largest = np.finfo(X.dtype).max
        ends = np.cumsum([group.width * len(group.indices) for group in self.groups])
        parts = np.split(values, ends, axis=1)  # the last one is of y
        for group, encoded in zip(self.groups, parts, strict=False):
            low = np.finfo(X.dtype).tiny if isinstance(group, PositiveColumns) else -largest
            rounds = is_rounded[group.indices]
            for rows in small_batches(values):
                with np.errstate(over="ignore"):
                    decoded = group.decode(encoded[rows].astype(np.float64), rounds, generator)
                    # exponentials overflow where a code is far from those of all rows
                    X[rows, group.indices] = np.clip(decoded, low, largest)
        return X

    def _dequantize(self, X: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Spread values over their steps, without a copy if there are none: (n, d) -> (n, d)."""
        noisy = X
        for group in self.groups:
            values = group.take(X)
            dequantized = group.dequantize(values, generator)
            if dequantized is not values:
                noisy = X.copy() if noisy is X else noisy  # a memory map is not copied
                noisy[:, group.indices] = dequantized
        return noisy

    def _on_steps(self, X: np.ndarray) -> np.ndarray:
        """Round numbers as ``on_steps``, but those that are derived: (n, n_features) -> same."""
        return self._by_column(lambda group: group.on_steps(group.take(X)), X.dtype, len(X))

    def within_bounds(self, X: np.ndarray) -> np.ndarray:
        """Clip numbers to the range of their columns in ``fit``: (n, n_features) -> same."""
        return self._by_column(lambda group: group.within_bounds(group.take(X)), X.dtype, len(X))

    def limits(self) -> tuple[np.ndarray, ...]:
        """Return limits as ``Columns.limits`` does, for columns in the model's order.

        Half the recording steps come last (k,): nearer numbers are rounded to the point mass.
        """
        limits = [group.limits() for group in self._varying_groups]
        n_masses = max((masses.shape[1] for _, _, masses in limits), default=0)
        padded = [(np.zeros(0), np.zeros(0), np.zeros((0, n_masses)))]
        for low, high, masses in limits:
            width = [(0, 0), (0, n_masses - masses.shape[1])]
            padded.append((low, high, np.pad(masses, width, constant_values=np.nan)))
        low, high, masses = (np.concatenate(parts) for parts in zip(*padded, strict=True))
        return low, high, masses, 0.5 * self.recording_steps

    @property
    def recording_steps(self) -> np.ndarray:
        """Recording steps in the model's units, 0 where there are none: (n,), in its order."""
        parts = [group.encoded_steps() for group in self._varying_groups]
        return np.concatenate([np.zeros(0), *parts])

    def is_unseen(self, X: np.ndarray) -> np.ndarray:
        """Find values that a column's likelihood gives no probability: (n, n_features)."""
        return self._by_column(lambda group: group.is_unseen(group.take(X)), bool, len(X))
