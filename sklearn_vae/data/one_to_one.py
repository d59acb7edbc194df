"""Columns that determine each other, such as a code and its label."""

from dataclasses import dataclass
from itertools import groupby, permutations

import numpy as np

from sklearn_vae.data.columns.base import find_in_order
from sklearn_vae.persistence.registry import serializable
from sklearn_vae.persistence.validation import check_array

# Rows that repeat an earlier value other than the most common one, at least: with fewer, columns
# may agree by chance.
MIN_REPEATS = 10
# Columns with holes and as many values as each other that are compared, at most.
MAX_ALIKE = 32
# Rows that are compared first.
SUBSAMPLE_SIZE = 1024
# Encoding of a value that contradicts the source; that of one that agrees is 0.
CONTRADICTION = 1.0


@serializable
@dataclass(frozen=True, eq=False)
class OneToOne:
    """A column with one value for each value of another column, its source, and the reverse.

    Only the source has a likelihood. The derived column is a constant: its values are replaced
    by 0 where they agree with the source, and by 1 where they contradict it.

    Attributes
    ----------
    source, derived : int
        Indices of the two columns in X.
    source_values, derived_values : ndarray of shape (L,)
        Their pairs of values, those of the source in order.
    """

    source: int
    derived: int
    source_values: np.ndarray
    derived_values: np.ndarray

    def check(self) -> None:
        """Check the attributes, as after reading them from a file."""
        check_array("source_values", self.source_values, "f", (None,))
        check_array("derived_values", self.derived_values, "f", self.source_values.shape)
        if len(self.source_values) < 2 or not (np.diff(self.source_values) > 0).all():
            raise ValueError("'source_values' must be in order, and at least two")

    def fill(self, X: np.ndarray) -> None:
        """Replace missing values of either column by those of the other one, in place."""
        for column, values, other, other_values in (
            (self.source, self.source_values, self.derived, self.derived_values),
            (self.derived, self.derived_values, self.source, self.source_values),
        ):
            code = _look_up(X[:, other], other_values)
            is_filled = np.isnan(X[:, column]) & (code >= 0)
            X[is_filled, column] = values[code[is_filled]]

    def encode(self, X: np.ndarray) -> None:
        """Fill in the source, and replace the derived values by 0 or 1, in place."""
        is_missing = np.isnan(X[:, self.derived])
        self.fill(X)
        code = _look_up(X[:, self.derived], self.derived_values)
        agrees = (code >= 0) & (code == _look_up(X[:, self.source], self.source_values))
        X[:, self.derived] = np.where(agrees, 0, CONTRADICTION)
        X[is_missing, self.derived] = np.nan

    def decode(self, X: np.ndarray) -> None:
        """Derive the column from the source, in place; linearly between two values."""
        X[:, self.derived] = np.interp(X[:, self.source], self.source_values, self.derived_values)


def find_one_to_one(
    X: np.ndarray, sources: np.ndarray, others: np.ndarray, weight: np.ndarray | None = None
) -> list[OneToOne]:
    """Find columns that determine each other in all rows that have both.

    Each value occurs in such a row, so that missing ones are those of the other column. Columns
    with indices ``others`` may be derived from those with indices ``sources``; of several sources,
    from the first one. The weight (n,) is the number of times that each row counts.
    """
    weight = np.ones(len(X)) if weight is None else weight
    columns, few = np.union1d(sources, others).tolist(), X[:SUBSAMPLE_SIZE]
    groups = [group for alike in _group_alike(few, columns) for group in _group_alike(X, alike)]
    groups += _with_holes(X, columns)
    pairs: list[OneToOne] = []
    for source, j in (pair for group in groups for pair in permutations(group, 2)):
        derived = [pair.derived for pair in pairs]
        is_used = {source, j} & {*derived} or j in [pair.source for pair in pairs]
        if is_used or source not in sources or j not in others:
            continue
        if _determine_each_other(few, source, j) and _determine_each_other(X, source, j):
            pairs += _pair(X, source, j, weight)
    return pairs


def _determine_each_other(X: np.ndarray, source: int, j: int) -> bool:
    """Return whether each value of either column has one of the other, in rows with both."""
    x, y = X[~np.isnan(X[:, [source, j]]).any(axis=1)][:, [source, j]].T
    values, first, codes = np.unique(x, return_index=True, return_inverse=True)
    return bool((y == y[first][codes]).all()) and len(np.unique(y)) == len(values)


def _pair(X: np.ndarray, source: int, j: int, weight: np.ndarray) -> list[OneToOne]:
    """Return the pair, or none if a value has no row with both, or if it may be by chance."""
    is_whole = ~np.isnan(X[:, [source, j]]).any(axis=1)
    values, first, codes = np.unique(X[is_whole, source], return_index=True, return_inverse=True)
    has_all = all(len(np.unique(X[~np.isnan(X[:, k]), k])) == len(values) for k in (source, j))
    counts = np.bincount(codes, weight[is_whole], 1)
    if not has_all or counts.sum() - counts.max() - (len(counts) - 1) < MIN_REPEATS:
        return []
    return [OneToOne(source, j, values, X[is_whole, j][first])]


def _with_holes(X: np.ndarray, columns: list[int]) -> list[list[int]]:
    """Group columns of as many values as each other, of which some may be missing.

    Not of two values, nor among many columns of as many values.
    """
    by_number: dict[int, list[int]] = {}
    for j in columns if np.isnan(X).any() else ():
        by_number.setdefault(len(np.unique(X[~np.isnan(X[:, j]), j])), []).append(j)
    return [
        alike
        for n_values, alike in by_number.items()
        if 2 < n_values < len(X) / 2 and len(alike) <= MAX_ALIKE
    ]


def _group_alike(X: np.ndarray, columns: list[int]) -> list[list[int]]:
    """Group columns whose values are equal in the same pairs of rows; groups of at least two."""
    keys = {j: _codes(X[:, j]).tobytes() for j in columns}
    groups = groupby(sorted(keys, key=lambda j: (keys[j], j)), key=keys.__getitem__)
    return [alike for _, group in groups if len(alike := list(group)) > 1]


def _codes(values: np.ndarray) -> np.ndarray:
    """Number values by their first rows; -1 where they are missing: (n,) -> (n,)."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    return np.where(np.isnan(values), -1, np.argsort(np.argsort(first))[inverse])


def _look_up(X: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Indices of X among values; -1 for other X: (n,) -> (n,)."""
    order = np.argsort(values)
    index = find_in_order(X, values[order])
    return np.where(index >= 0, order[index], -1)
