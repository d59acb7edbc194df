"""Columns of two values, of one, and binary ones that exclude each other: of an encoded class."""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Self

import numpy as np

from sklearn_vae.data.columns.base import (
    CLASS_SQUARED_DISTANCE,
    LEAST_REST,
    Columns,
    Draws,
    in_coarser_dtype,
    is_category,
    times_power_of_two,
)
from sklearn_vae.data.fields import UNKNOWN
from sklearn_vae.data.training_column import MAX_COMPARED, MIN_EVIDENCE, ROUNDING, TrainingColumn
from sklearn_vae.likelihoods import Bernoulli, Likelihood, OneHot
from sklearn_vae.likelihoods.base import draw_classes
from sklearn_vae.numerics.array_api import unflatten
from sklearn_vae.numerics.rows import small_batches
from sklearn_vae.persistence.validation import serializable

# Evidence of a column for a group of which not all are known yet, or where every row has a one.
LIKELY = 5.0


@serializable
@dataclass(eq=False)
class BinaryColumns(Columns):
    """Two values, encoded as 0 and 1."""

    # lower and higher value, in the dtype of the rows in ``fit``
    categories: Annotated[np.ndarray, "f", "k", 2]

    likelihoods: ClassVar[tuple[type, ...]] = (Bernoulli,)
    distance_scale = math.sqrt(CLASS_SQUARED_DISTANCE)  # distance of the two values

    @classmethod
    def fit(cls, column: TrainingColumn, likelihood: Likelihood | None) -> Self:
        """Keep the two values."""
        values = column.values
        return cls(np.array([column.index]), likelihood, np.array([[values.min(), values.max()]]))

    @classmethod
    def contradiction(cls, column: TrainingColumn) -> tuple[str, str] | None:
        """Return three values; None if there are two."""
        values = column.values
        low, high = values.min(), values.max()
        between = values[(values != low) & (values != high)]
        if not len(between):
            return None
        if column.field.categories is not None:  # the values are codes
            return "two values", f"{len(np.unique(values))} categories"
        text = f"{low.item()!r}, {between[0].item()!r} and {high.item()!r}"
        if low >= 0 and high <= 1:
            text += " (a share or a grey value: X > 0.5 has two values)"
        return "two values", text

    def is_unseen(self, X: np.ndarray) -> np.ndarray:
        """Find values that are neither of the two: (n, k) -> (n, k)."""
        return ~(np.isnan(X) | is_category(X, self.categories))

    def replace_unseen(self, X: np.ndarray, allows_missing: bool) -> np.ndarray:
        """Replace unknown categories by NaN if the model allows it, not numbers: (n, k)."""
        unknown = (X == UNKNOWN) & self.is_unseen(X) & allows_missing
        return np.where(unknown, X.dtype.type(np.nan), X) if unknown.any() else X

    def values(self, column: int) -> np.ndarray:
        """Return the values of one column, by its index in ``indices``."""
        return self.categories[column]

    def _middle(self) -> np.ndarray:
        low, high = self.categories.T.astype(np.float64)
        return low / 2 + high / 2

    def encode(self, X: np.ndarray) -> np.ndarray:
        """Encode the nearer value as 0 or 1: (n, k) -> (n, k)."""
        return np.where(np.isnan(X), np.nan, X.astype(np.float64) > self._middle())

    def on_steps(self, X: np.ndarray) -> np.ndarray:
        """Return the nearer of the two values: (n, k) -> (n, k)."""
        return np.where(np.isnan(X), X, np.where(self._middle() < X, *self.categories.T[::-1]))

    def decode(self, values: np.ndarray, rounds: np.ndarray, generator: Draws) -> np.ndarray:
        """Return means of the two values, or the nearer one: (n, k) -> (n, k)."""
        low, high = self.categories.T.astype(np.float64)
        X = low * (1 - values) + high * values  # each value without a rounding error
        return np.where(rounds, self.on_steps(X), X)


@serializable
@dataclass(eq=False)
class ConstantColumns(BinaryColumns):
    """One value, or none at all; the model has no input of it."""

    categories: Annotated[np.ndarray, "n", "k", 1]  # NaN if there is none

    likelihoods: ClassVar[tuple[type, ...]] = (type(None),)
    on_steps = Columns.on_steps

    @classmethod
    def fit(cls, column: TrainingColumn, likelihood: Likelihood | None) -> Self:
        """Keep the value; NaN if there is none."""
        values = column.values
        value = values[:1] if len(values) else np.full(1, np.nan, values.dtype)
        return cls(np.array([column.index]), likelihood, value[None])

    def is_unseen(self, X: np.ndarray) -> np.ndarray:
        """Find values that differ by more than rounding errors: (n, k) -> (n, k)."""
        X, categories = in_coarser_dtype(X, self.categories)
        with np.errstate(over="ignore"):
            is_seen = np.abs(X - categories.T) <= ROUNDING * np.abs(categories.T)
        return ~(np.isnan(X) | is_seen)

    def encode(self, X: np.ndarray) -> np.ndarray:
        """Encode nothing: (n, k) -> (n, 0)."""
        return np.empty((len(X), 0))

    def decode(self, values: np.ndarray, rounds: np.ndarray, generator: Draws) -> np.ndarray:
        """Return the constants: (n, 0) -> (n, k)."""
        return np.repeat(self.categories.T, len(values), axis=0)


@serializable
@dataclass(eq=False)
class OneHotColumns(BinaryColumns):
    """Groups of binary columns, encoded as 0 and 1; at most one of a group is 1.

    Of several ones, the first counts, and the others are unseen values. Columns of a group are in
    the order of their frequencies.
    """

    frequency: Annotated[np.ndarray, "f", "k"]  # of the higher values

    likelihoods: ClassVar[tuple[type, ...]] = (OneHot,)

    def check(self) -> None:
        """Check the attributes, as after reading them from a file."""
        super().check()
        if len(self.indices) % self.likelihood.n_columns:
            raise ValueError("groups of one-hot columns must be complete")

    def grouped(self, x: np.ndarray) -> np.ndarray:
        """Split columns into groups: (..., k) -> (..., groups, size)."""
        return unflatten(x, self.likelihood.n_columns)

    def _is_one(self, X: np.ndarray) -> np.ndarray:
        """Find higher values: (n, k) -> (n, groups, size)."""
        return self.grouped(np.equal(*in_coarser_dtype(X, self.categories[:, 1])))

    def _is_empty(self, X: np.ndarray) -> np.ndarray:
        """Find groups without a one, if each has one, and without a hole: (n, k) -> (n, groups)."""
        is_filled = (self._is_one(X) | np.isnan(self.grouped(X))).any(axis=-1)
        return ~(is_filled | self.likelihood.has_none)

    def is_unseen(self, X: np.ndarray) -> np.ndarray:
        """Find other values, ones after the first one, and groups without any: (n, k) -> (n, k)."""
        is_one = self._is_one(X)
        excluded = is_one & (is_one.cumsum(axis=-1) > 1)
        excluded[..., 0] |= self._is_empty(X)
        return super().is_unseen(X) | excluded.reshape(X.shape)

    def encode(self, X: np.ndarray) -> np.ndarray:
        """Encode as 0 and 1, also holes that follow from the other cells: (n, k) -> (n, k)."""
        is_one, missing = self._is_one(X), np.isnan(self.grouped(X))
        is_one &= is_one.cumsum(axis=-1) == 1
        if not self.likelihood.has_none:
            is_last = missing & (missing.sum(axis=-1, keepdims=True) == 1)
            is_one |= is_last & ~is_one.any(axis=-1, keepdims=True)
            is_one[..., 0] |= self._is_empty(X)
        is_open = missing & ~is_one.any(axis=-1, keepdims=True)
        return np.where(is_open, np.nan, is_one).reshape(X.shape)

    def fill(self, X: np.ndarray) -> np.ndarray:
        """Fill holes that follow from the other cells: (n, k) -> (n, k)."""
        if not np.isnan(X).any():
            return X
        low, high = self.categories.T
        values = self.encode(X)
        return np.where(np.isnan(X) & ~np.isnan(values), np.where(values == 1, high, low), X)

    def _probability(self, X: np.ndarray) -> np.ndarray:
        """Undo ``decode`` of means: (..., k) -> (..., groups, size)."""
        categories = self.categories.astype(np.float64)
        exponent = np.frexp(np.abs(categories).max(axis=1))[1]  # a difference could overflow
        low, high = np.ldexp(categories.T, -exponent)
        scale = np.where(high > low, high - low, 1.0)
        return self.grouped((times_power_of_two(X, -exponent) - low) / scale).clip(0, 1)

    def on_steps(self, X: np.ndarray) -> np.ndarray:
        """Return the most probable groups, by means of the two values: (n, k) -> (n, k)."""
        p = self._probability(X)
        is_one = p == np.nan_to_num(p).max(axis=-1, keepdims=True)
        is_one &= is_one.cumsum(axis=-1) == 1
        if self.likelihood.has_none:
            is_one &= p > 1 - p.sum(axis=-1, keepdims=True)
        low, high = self.categories.T
        return np.where(np.isnan(X), X, np.where(is_one.reshape(X.shape), high, low))

    def complete(self, X: np.ndarray, values: np.ndarray, generator: Draws) -> np.ndarray:
        """Replace holes of filled rows by values, given the zeros of the group: (n, k).

        Where the values have a one at a known zero, it is drawn by the frequencies; without a
        generator, the most frequent possible one is taken.
        """
        missing = self.grouped(np.isnan(X))
        p = self._probability(values)
        rest = 1 - (p * ~missing).sum(axis=-1, keepdims=True)
        p = p * missing / np.maximum(rest, LEAST_REST)
        p /= np.maximum(p.sum(axis=-1, keepdims=True), 1)
        is_lost = missing.any(axis=-1) & (rest[..., 0] < LEAST_REST)
        if is_lost.any():
            frequency = self.grouped(self.frequency)
            of_group = np.broadcast_to(frequency, p.shape)[is_lost] * missing[is_lost]  # (m, size)
            none = np.broadcast_to(1 - frequency.sum(axis=-1), is_lost.shape)[is_lost]
            of_classes = np.column_stack([of_group, none.clip(0) * self.likelihood.has_none])
            of_classes /= of_classes.sum(axis=-1, keepdims=True)
            chosen = of_classes.argmax(axis=-1)
            if generator is not None:
                chosen = draw_classes(of_classes, generator)
            p[is_lost] = chosen[:, None] == np.arange(p.shape[-1])
        means = self.decode(p.reshape(values.shape), np.array(False), None)
        return np.where(np.isnan(X), means, X)


def find_one_hot(
    X: np.ndarray, columns: list[BinaryColumns], weight: np.ndarray
) -> list[OneHotColumns]:
    """Find groups of binary columns that exclude each other in all rows, and not by chance."""
    if not 1 < len(columns) <= MAX_COMPARED:
        return []
    joined = BinaryColumns.concatenate([*columns])
    cells = _Cells(X, joined, weight)
    groups, free = [], np.argsort(-cells.frequency, kind="stable").tolist()
    while free:
        group = cells.group_of(free)
        free = [k for k in free if k not in group]
        if len(group) > 1:
            likelihood = OneHot(len(group), cells.known_rows(group)[1])
            values = joined.categories[group], cells.frequency[group]
            groups.append(OneHotColumns(joined.indices[group], likelihood, *values))
    return groups


class _Cells:
    """Higher values of binary columns, which are known by their position."""

    def __init__(self, X: np.ndarray, columns: BinaryColumns, weight: np.ndarray):
        self.X, self.columns, self.weight = X, columns, weight
        n_columns = len(columns.indices)
        self.n_rows = np.zeros(n_columns)
        # rows with ones of both columns, and of the first one where the second is known
        self.n_both, self.n_beside = np.zeros((2, n_columns, n_columns))
        for rows in small_batches(X):
            is_one, is_known = self.cells([*range(n_columns)], rows)
            weighted = weight[rows, None] * is_one
            self.n_rows += weight[rows] @ is_known
            self.n_both += weighted.T @ is_one
            self.n_beside += weighted.T @ is_known
        np.fill_diagonal(self.n_beside, 0)
        self.frequency = self.n_both.diagonal() / self.n_rows

    def cells(self, group: list[int], rows: slice) -> tuple[np.ndarray, np.ndarray]:
        """Masks of higher values and of known ones of columns: (n, k) each, as numbers."""
        values, high = self.X[rows, self.columns.indices[group]], self.columns.categories[group, 1]
        return (values == high).astype(np.float64), (~np.isnan(values)).astype(np.float64)

    def evidence(self, columns: list[int], group: list[int]) -> np.ndarray:
        """Evidence in nats that each column excludes the others of a group: (k,)."""
        n_rows = self.n_rows[columns]
        by_chance = self.frequency[columns] * self.n_beside[np.ix_(group, columns)].sum(axis=0)
        return -n_rows * np.log1p(-by_chance / n_rows)

    def group_of(self, free: list[int]) -> list[int]:
        """Return the first column, and others that exclude it and each other."""
        from scipy.special import entr

        group = self._grow(free, 0.0)
        if len(group) > 1:  # every row may have a one, and not by chance
            n_known, has_none = self.known_rows(group)
            p = self.frequency[group]
            by_column = n_known * (entr(p) + entr(1 - p))  # each follows from the others
            all_together = n_known * entr(1 - p).sum()  # less the entropy of the class
            if by_column.min() >= LIKELY and all_together >= MIN_EVIDENCE and not has_none:
                return group
        group = self._grow(free, LIKELY)
        while len(group) > 1 and (evidence := self.evidence(group, group)).min() < MIN_EVIDENCE:
            group.pop(int(evidence.argmin()))
        return group if len(group) > 1 else free[:1]

    def _grow(self, free: list[int], least_evidence: float) -> list[int]:
        """Return the first column, and others that have no one where it or another one has."""
        group = free[:1]
        for k in free[1:]:
            if not self.n_both[k, group].any() and self.evidence([k], group)[0] >= least_evidence:
                group.append(k)
        return group

    def known_rows(self, group: list[int]) -> tuple[float, bool]:
        """Number of rows whose columns of a group are known, and whether some have no one."""
        n_known, has_none = 0.0, False
        for rows in small_batches(self.X):
            is_one, is_known = self.cells(group, rows)
            is_whole = is_known.all(axis=1)
            n_known += float(self.weight[rows] @ is_whole)
            has_none |= bool((is_whole & ~is_one.any(axis=1)).any())
        return n_known, has_none
